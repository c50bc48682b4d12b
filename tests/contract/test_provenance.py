"""A job tells which bot and AI answered it. That is fixed when the AI is asked, and shown wherever the job is."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pg8000.native import Connection

from message_handler.ai.answering import AICore, Answering
from message_handler.ai.failures import ProviderFailure
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.providers import provider_of
from message_handler.ai.watched import Limits
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_retention import PostgresRetention
from message_handler.delivery import webhooks
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.events import JobEnded
from message_handler.domain.jobs import Job, Provenance
from message_handler.drivers.postgres import Database
from message_handler.operations.export import export
from message_handler.ports.archive import Archive
from message_handler.ports.retention import Retention
from message_handler.safety.rules import shipped
from message_handler.settings import Settings
from message_handler.tiers.memory import MemoryTier
from tests.contract.chat import Clock
from tests.contract.conversation import Conversation
from tests.contract.stories import on
from tests.contract.world import World
from tests.servers import emptied

KEY = ConversationKey("clinic", "asked-1")
ASKED = Provenance("nurse", 3, "gpt", 5, "gpt-4o", simulated=False, rules_version=shipped().version)
DEFAULT = Provenance("default", None, None, None, None, simulated=True, rules_version=shipped().version)
CONFIGURED = [
    "insert into platforms (platform_id, name) values ('clinic', 'Clinic') on conflict do nothing",
    "insert into core_ai (platform_id, core_ai_id, name, api_endpoint, meta_data, revision) values"
    " ('clinic', 'gpt', 'GPT', 'https://ai.example/v1',"
    ' \'{"model": "gpt-4o", "fallback_core_ai_id": "spare"}\', 5),'
    " ('clinic', 'spare', 'Spare', 'SIMULATED://', '{}', 7)",
    "insert into bots (platform_id, bot_id, name, core_ai_id, revision) values ('clinic', 'nurse', 'Nurse', 'gpt', 3)",
]


@pytest.fixture
def world(postgres_archive: PostgresArchive, sql: Connection, settings: Settings, clock: Clock) -> World:
    sql.execute_simple(
        emptied("conversations", "turns", "outbox", "jobs", "settled", "held", "erasures", "bots", "core_ai")
    )
    for statement in CONFIGURED:
        sql.run(statement)
    return World(MemoryTier(settings, clock), postgres_archive, lambda _: None, clock, settings, KEY)


def answered(world: World, **options: Any) -> Job:
    """A message's job, after a worker processed the record."""
    world.posts("m0", bot_id="nurse", **options)
    world.delivers()
    return world.job(world.told["m0"][0])


class TestWhatIsPinned:
    def test_the_bot_and_its_core_ai_in_their_revisions(self, world: World) -> None:
        assert answered(world).provenance == ASKED

    def test_where_nothing_is_configured_the_simulated_default(self, world: World) -> None:
        world.posts("m0")
        world.delivers()
        assert world.job(world.told["m0"][0]).provenance == DEFAULT

    def test_what_is_changed_while_the_ai_answers_does_not_count(self, world: World, sql: Connection) -> None:
        world.ai.meanwhile = lambda: sql.run('update core_ai set meta_data = \'{"model": "gpt-5"}\'')
        assert answered(world).provenance == ASKED
        world.clock.advance(world.settings.configuration_ttl)
        world.posts("m1")
        world.settles()
        later = world.end_of("m1").provenance
        assert later is not None
        assert (later.model, later.bot_revision) == ("gpt-5", 3)
        assert later.core_ai_revision is not None
        assert later.core_ai_revision > 5

    def test_a_run_that_starts_again_names_the_ai_that_was_asked_last(self, world: World, sql: Connection) -> None:
        def changes() -> None:
            world.posts("m1")
            sql.run("update core_ai set meta_data = '{\"model\": \"gpt-5\"}' where core_ai_id = 'gpt'")
            world.clock.advance(world.settings.configuration_ttl)
            world.ai.meanwhile = lambda: None

        world.ai.meanwhile = changes
        job = answered(world)
        assert (job.restarts, job.provenance and job.provenance.model) == (1, "gpt-5")

    def test_the_fallback_where_that_has_answered(self, world: World) -> None:
        def fails(prompt: Prompt, watch: Watch, limits: Limits) -> Completion:
            raise ProviderFailure("ai_failed")

        def answers(prompt: Prompt, watch: Watch, limits: Limits) -> Completion:
            return Completion("Rest.")

        ai = Answering([AICore("gpt", 30.0, fails), AICore("spare", 30.0, answers)])
        world.worker = replace(world.worker, ai=lambda _: ai)
        assert answered(world).provenance == Provenance(
            "nurse", 3, "spare", 7, None, simulated=True, rules_version=shipped().version
        )

    def test_an_ai_that_was_asked_in_vain_is_named(self, world: World) -> None:
        job = answered(world, text="[fail]")
        assert job.error is not None
        assert job.provenance == ASKED

    def test_no_ai_where_none_was_asked(self, world: World, sql: Connection) -> None:
        world.posts("m0", bot_id="nurse")
        sql.run("update bots set is_active = false")
        world.clock.advance(world.settings.configuration_ttl)
        world.delivers()
        job = world.job(world.told["m0"][0])
        assert job.error is not None
        assert (job.error.code, job.provenance) == ("bot_unavailable", None)

    def test_an_end_that_is_archived_late_keeps_it(self, world: World) -> None:
        world.posts("m0", bot_id="nurse")
        world.ai.meanwhile = lambda: world.postgres(away=True)
        world.delivers()
        world.postgres(away=False)
        assert world.job(world.told["m0"][0]).provenance == ASKED
        world.settles()
        assert world.checked().job(world.told["m0"][0]).provenance == ASKED

    def test_none_of_a_run_that_lost_its_lock(self, world: World, sql: Connection) -> None:
        """Postgres comes back before the seal. The lost run takes a fence late, and answers nothing."""
        world.posts("m0", bot_id="nurse")
        world.postgres(away=True)
        on(world, "before", "tier.seal", lambda: world.postgres(away=False))
        on(world, "after", "archive.fence", world.releases)
        world.delivers()
        sql.run("update bots set is_active = false")
        world.clock.advance(world.settings.configuration_ttl)
        world.settles()
        job = world.job(world.told["m0"][0])
        assert job.error is not None
        assert (job.error.code, job.provenance) == ("bot_unavailable", None)


@pytest.mark.parametrize(
    ("endpoint", "named", "model"),
    [
        ("https://ai.example/v1", "gpt-4o", "gpt-4o"),
        ("https://ai.example/openai/deployments/nurse-4/chat?api-version=1", None, "nurse-4"),
        ("https://ai.example/openai/deployments/nurse-4", None, "nurse-4"),
        ("https://ai.example/v1", None, None),
        ("bedrock://anthropic.claude-3-haiku-v1:0", "gpt-4o", "anthropic.claude-3-haiku-v1:0"),
        ("BEDROCK://arn:aws:bedrock:eu:1:inference-profile/a", None, "arn:aws:bedrock:eu:1:inference-profile/a"),
        ("simulated://", "gpt-4o", None),
    ],
)
def test_the_model_is_that_which_the_endpoint_is_asked_for(endpoint: str, named: str | None, model: str | None) -> None:
    meta_data = {"model": named} if named else {}
    core_ai = {"api_endpoint": endpoint, "meta_data": meta_data}
    assert provider_of(core_ai).model(core_ai) == model


class TestWhereItIsShown:
    @pytest.fixture
    def shown(self) -> dict[str, Any]:
        return {
            "bot_id": "nurse",
            "bot_revision": 3,
            "core_ai_id": "gpt",
            "core_ai_revision": 5,
            "model": "gpt-4o",
            "simulated": False,
            "rules_version": shipped().version,
        }

    def test_every_archive_keeps_it(self, archive: Archive) -> None:
        talk = Conversation(archive)
        job = replace(talk.job(1, "m0"), provenance=ASKED)
        assert archive.commit(talk.completed(job), talk.number(talk.job(1, "m0")))
        assert talk.archived(1).provenance == ASKED

    def test_a_client_that_asks_for_the_job(self, world: World, shown: dict[str, Any]) -> None:
        job = answered(world)
        view = world.jobs.get_job_status(job.job_id)
        assert view is not None
        assert view["provenance"] == shown

    def test_the_export(self, world: World, shown: dict[str, Any], migrated_retention: Retention) -> None:
        answered(world)
        world.posts("m1", bot_id="nurse")
        world.clock.advance(1)
        records = export(migrated_retention, world.tiers, KEY)["records"]
        (job,) = (record for record in records if record["kind"] == "job")
        assert job["provenance"] == shown

    def test_the_platform(self, world: World, shown: dict[str, Any]) -> None:
        event = json.loads(webhooks.body_of(JobEnded(answered(world), ("m0",))))
        assert event["data"]["provenance"] == shown


@pytest.fixture
def migrated_retention(postgres_archive: PostgresArchive, postgres_database: Database) -> Retention:
    return PostgresRetention(postgres_database)
