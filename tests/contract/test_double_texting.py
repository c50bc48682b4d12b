"""Messages come while another is answered: each policy, at each moment, on each tier."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.bot_config import BotConfigService
from message_handler.domain.double_texting import POLICIES, DoubleTexting
from message_handler.domain.errors import Rejected, Unavailable
from message_handler.domain.jobs import Job, JobStatus, Progress
from message_handler.domain.messages import Message, Request
from message_handler.protocol.results import Claim, ClaimRefused
from message_handler.queue.timing import MAX_RECEIVE_COUNT
from message_handler.settings import Settings
from message_handler.worker.asking import COMMIT_SECONDS
from message_handler.worker.worker import PATIENT_FROM
from tests.contract.chat import Chat, named
from tests.contract.stories import on, told
from tests.contract.world import AI_SECONDS, World

#: The moments at which the message is posted: before or after a step.
MOMENTS = {
    "before the claim": ("before", "tier.claim"),
    "before the first byte": ("before", "ai.complete"),
    "in the middle of the stream": ("after", "tier.heartbeat"),
    "between the last look and the commit": ("after", "tier.seal"),
    "after the commit, before the lock is free": ("after", "archive.commit"),
    "after the commit": ("after", "tier.finish"),
}
RUNNING = ("before the first byte", "in the middle of the stream")
SEALED = ("between the last look and the commit", "after the commit, before the lock is free")


@dataclass
class Expected:
    """What becomes of m0 and of the later messages m1, m2 and so on."""

    replies: list[list[str]]
    action: str
    closed: int = 0
    rejected: int = 0


def expected(policy: str, moment: str, later: list[str]) -> Expected:
    together, apart = [["m0", *later]], [["m0"], later]
    if moment == "after the commit":
        if policy == "reject":
            # The first of them is answered, and the others are rejected meanwhile.
            return Expected([["m0"], later[:1]], "lock_acquired", rejected=len(later) - 1)
        return Expected(apart, "lock_acquired")
    if policy == "reject":
        return Expected([["m0"]], "rejected", rejected=len(later))
    if moment in SEALED:
        return Expected(apart, "lock_exists")
    if moment in RUNNING and policy == "enqueue":
        return Expected(apart, "lock_exists")
    if moment in RUNNING:
        return Expected(together, "interrupted" if policy == "interrupt" else "lock_exists", closed=1)
    return Expected(together, "lock_exists")


@pytest.mark.parametrize("number", [1, 2, 10])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_at_each_moment(world: World, policy: DoubleTexting, moment: str, number: int) -> None:
    later, answers = [f"m{n}" for n in range(1, number + 1)], []

    def come() -> None:
        answers.extend(world.posts(message_id, double_texting=policy) for message_id in later)

    side, step = MOMENTS[moment]
    on(world, side, step, come)  # type: ignore[arg-type]
    world.posts("m0", double_texting=policy)
    first = told(world, "m0")
    world.settles()
    wanted = expected(policy, moment, later)
    assert world.answered(*(" ".join(reply) for reply in wanted.replies))
    assert answers[0]["action"] == wanted.action
    assert sum(answer["action"] == "rejected" for answer in answers) == wanted.rejected
    assert len(world.ai.closed) == wanted.closed
    assert len(world.ai.prompts) == len(wanted.replies) + wanted.closed
    job = world.job(first)
    if wanted.action == "interrupted":
        successor = world.job(str(answers[0]["ai_job_id"]))
        assert (job.status, job.superseded_by, job.reply) == (JobStatus.CANCELLED, successor.job_id, None)
        assert (successor.status, successor.restarts) == (JobStatus.COMPLETED, 1)
        assert {answer["ai_job_id"] for answer in answers} == {successor.job_id}
        assert answers[0]["lock_id"]
        assert all("lock_id" not in answer for answer in answers[1:])
    else:
        assert (job.status, job.restarts, job.superseded_by) == (JobStatus.COMPLETED, wanted.closed, None)
    world.checked()


class TestRejected:
    def test_the_sender_is_told_what_is_in_the_way_and_nothing_is_stored(self, world: World) -> None:
        world.posts("m0")
        sent = len(world.queue.sent)
        assert world.posts("m1", double_texting="reject") == {
            "success": False,
            "status": "locked",
            "action": "rejected",
            "message": "Another message is being answered; send this one again after the reply",
            "ai_job_id": told(world, "m0"),
        }
        assert len(world.queue.sent) == sent
        assert world.settles().answered("m0")
        assert world.archive.settled_by(world.key, "m1") is None

    def test_a_duplicate_is_no_message_that_comes_meanwhile(self, world: World) -> None:
        world.posts("m0", double_texting="reject")
        again = world.posts("m0", double_texting="reject")
        assert again is not None
        assert (again["duplicate"], again["ai_job_id"]) == (True, told(world, "m0"))
        assert world.settles().checked().answered("m0")

    def test_sent_again_after_the_reply_it_is_answered(self, world: World) -> None:
        world.posts("m0")
        world.posts("m1", double_texting="reject")
        world.settles()
        world.posts("m1", double_texting="reject")
        assert world.settles().checked().answered("m0", "m1")


class TestInterrupted:
    def test_a_worker_that_slept_through_it_commits_nothing(self, world: World) -> None:
        """The run is interrupted after its last look at the tier, before its commit. The archive ended the job."""
        world.posts("m0")
        first = told(world, "m0")
        claim = world.tier.claim(world.key, "sleeper")
        assert isinstance(claim, Claim)
        fence = world.archive.fence(claim.job, successor_id=world.key.new_job_id(), turns=0)
        world.posts("m1", double_texting="interrupt")
        assert fence.number is not None
        done = {"status": JobStatus.COMPLETED, "reply": '["text of m0"]', "finished_at": world.clock()}
        assert not world.archive.commit(replace(claim.job, **done), fence.number)
        assert world.settles().checked().answered("m0 m1")
        assert world.job(first).status is JobStatus.CANCELLED

    def test_a_worker_that_slept_before_its_fence_leads_no_client_astray(self, world: World) -> None:
        """worker A: claim J0 ── sleeps     m1 interrupts: J0 ⇒ J1     B: fence J1     A: fence J0, is not the owner"""
        world.posts("m0")
        first = told(world, "m0")
        claim = world.tier.claim(world.key, "sleeper")
        assert isinstance(claim, Claim)
        world.posts("m1", double_texting="interrupt")

        def wakes() -> None:
            fence = world.archive.fence(claim.job, successor_id=world.key.new_job_id(), turns=0)
            assert (fence.number, fence.successor_id) == (None, told(world, "m1"))
            ended = replace(claim.job, superseded_by=fence.successor_id)
            assert world.tier.adopt(world.key, "sleeper", fence.settled, ended) is None

        on(world, "after", "tier.heartbeat", wakes)
        assert world.settles().checked().answered("m0 m1")
        chain = [(job.status, job.job_id) for job in world.chain(first)]
        assert chain == [(JobStatus.CANCELLED, first), (JobStatus.COMPLETED, told(world, "m1"))]

    def test_it_is_found_from_its_first_moment_on(self, chat: Chat) -> None:
        """The save that interrupts the job keeps its end."""
        first = chat.says("one")
        chat.claimed()
        second = chat.accept(replace(chat.request("two"), double_texting="interrupt"))
        found = chat.tier.job(first.job_id)
        assert found is not None
        assert (found.status, found.superseded_by) == (JobStatus.CANCELLED, second.job_id)
        assert [message.content for message in found.messages] == [""]

    def test_its_verdict_stands_though_the_tier_forgets_it(self, world: World) -> None:
        """m0's own record comes back to an empty tier. The job that took m0 over answers it."""
        on(world, "before", "ai.complete", lambda: world.posts("m1", double_texting="interrupt"), world.tier_lost)
        world.posts("m0")
        world.settles().checked()
        first, second = world.told["m0"][0], world.told["m1"][0]
        assert (world.job(first).status, world.job(first).superseded_by) == (JobStatus.CANCELLED, second)
        assert world.end_of("m0").job_id == second

    def test_a_refused_send_leaves_the_first_message_to_the_new_job(self, world: World) -> None:
        def refused() -> None:
            on(world, "before", "queue.send", _refuse)
            assert world.posts("m1", double_texting="interrupt", tries=1) is None

        on(world, "before", "ai.complete", refused)
        world.posts("m0")
        assert world.settles().answered("m0")
        assert world.job(world.told["m0"][0]).status is JobStatus.CANCELLED
        world.told.pop("m1", None)
        world.checked()

    def test_no_more_often_than_a_job_may_be_restarted(self, world: World) -> None:
        world.ai.meanwhile = _types(world, "interrupt", until=world.clock() + AI_SECONDS)
        world.posts("m0")
        world.settles()
        assert len(world.ai.closed) == world.settings.max_restarts
        world.checked()

    def test_postgres_away_it_is_interrupted_by_the_tier_alone(self, world: World) -> None:
        if world.tier.name == "postgres":
            pytest.skip("this tier is away with Postgres")

        def come() -> None:
            world.postgres(away=True)
            world.posts("m1", double_texting="interrupt")
            world.postgres(away=False)

        on(world, "before", "ai.complete", come)
        world.posts("m0")
        assert world.settles().checked().answered("m0 m1")


@pytest.mark.parametrize("policy", POLICIES)
def test_typing_without_end_gets_answers(world: World, policy: DoubleTexting) -> None:
    """A message comes every 400 ms for a minute."""
    began = world.clock()
    world.ai.tick = 0.4
    world.ai.meanwhile = _types(world, policy, until=began + 60)
    world.posts("m0", double_texting=policy)
    first = None
    while world.clock() < began + 60:
        world.delivers()
        found = world.archive.conversation(world.key)
        if first is None and found:
            first = next((at for turn, at, *_ in found.turns if turn.role == "assistant"), None)
        world.ai.meanwhile()
    during = len(world.replies())
    world.settles().checked()
    assert first is not None
    assert first - began < 30
    assert during >= 3


def _types(world: World, policy: DoubleTexting, *, until: float) -> Callable[[], None]:
    """Each call posts another message from another process, without waiting."""

    def type_on() -> None:
        if world.clock() < until:
            world.posts(f"m{len(world.contents)}", double_texting=policy)

    return type_on


def _refuse() -> None:
    raise Unavailable("the queue")


class TestNews:
    @pytest.mark.parametrize("what", ["a message", "an interruption", "a cancel", "a release"])
    def test_newer_messages_are_noticed_within_half_a_second_while_the_ai_speaks(self, world: World, what: str) -> None:
        came: list[float] = []

        def come() -> None:
            if not came and world.clock() > began + 2.1:
                came.append(world.clock())
                if what == "a cancel":
                    world.cancels(told(world, "m0"))
                elif what == "a release":
                    world.releases()
                else:
                    world.posts("m1", double_texting="interrupt" if "interrupt" in what else "consolidate")

        world.posts("m0")
        began = world.clock()
        # An AI calls `watch` at least every quarter of a second.
        world.ai.tick, world.ai.meanwhile = 0.25, come
        world.settles().checked()
        assert world.ai.closed[0] - came[0] <= 0.5

    def test_a_message_that_comes_too_late_for_a_restart_waits_for_the_next_job(self, world: World) -> None:
        on(world, "before", "ai.complete", lambda: world.posts("m1"))
        world.posts("m0")
        world.delivers(seconds=world.settings.ai_timeout)
        assert world.ai.closed == []
        assert world.settles().checked().answered("m0", "m1")

    def test_a_slow_provider_keeps_no_message_from_joining(self, world: World) -> None:
        """The AI's timeout is as long as a run, but the worker has no reply yet."""

        class Slow(BotConfigService):
            def config_of_job(self, job: Job) -> dict[str, Any]:
                config = super().config_of_job(job)
                slow = config["core_ai"] | {"timeout_seconds": 60}
                return config | {"core_ai": slow | {"fallback": slow}}

        world.worker = replace(world.worker, bots=Slow(world.tiers, world.archive, world.settings, world.clock))
        on(world, "before", "ai.complete", lambda: world.posts("m1"))
        world.posts("m0")
        assert world.settles().checked().answered("m0 m1")
        assert len(world.ai.closed) == 1

    def test_a_message_that_is_undone_again_leaves_the_run_unsealed(self, world: World) -> None:
        """The worker saw m1, whose send was then refused. The run that stopped for m1 has no reply to seal."""

        def come_and_go() -> None:
            accepted = world.tier.accept(
                Request(world.key, (Message("m1", "text of m1", given=True),), (), "default"),
                job_id=world.key.new_job_id(),
                lock_id="lock",
            )
            on(world, "before", "tier.seal", lambda: world.tier.undo(world.key, accepted.posted))

        on(world, "before", "ai.complete", come_and_go)
        world.contents["m1"] = "text of m1"
        world.posts("m0")
        assert world.settles().checked().answered("m0")
        assert (len(world.ai.closed), len(world.ai.prompts)) == (1, 2)
        assert world.job(told(world, "m0")).restarts == 0


class TestProgress:
    def test_it_is_shown_while_the_ai_speaks(self, world: World) -> None:
        seen: list[Job] = []
        on(world, "after", "tier.heartbeat", lambda: seen.append(world.job(told(world, "m0"))))
        world.posts("m0")
        world.settles()
        assert seen[0].progress is not None
        assert 0 < seen[0].progress.characters < len(json.dumps(["text of m0"]))
        assert seen[0].progress.text is None
        assert world.job(told(world, "m0")).progress is None

    def test_a_partial_text_that_no_store_can_hold_stops_no_run(self, world: World) -> None:
        class Rude:
            def complete(self, prompt: Prompt, watch: Watch) -> Completion:
                world.clock.advance(1)
                watch("Rest\x00 \ud83d")
                shown = world.job(told(world, "m0")).progress
                assert shown is not None
                return Completion(json.dumps([shown.text]))

        _configured(world, show_partial_reply=True)
        world.worker = replace(world.worker, ai=lambda _: Rude(), bots=world.intake.bots)
        world.posts("m0")
        world.delivers()
        assert world.job(told(world, "m0")).reply == '["Rest ?"]'

    def test_a_new_run_begins_with_none(self, chat: Chat) -> None:
        chat.says("one")
        job = chat.claimed()
        chat.tier.heartbeat(chat.key, "worker", Progress(7, "Drink m"))
        assert _progress(chat, job) == Progress(7, "Drink m")
        chat.says("two")
        assert chat.seal([message.message_id for message in job.messages]).verdict == "again"
        assert _progress(chat, job) is None
        chat.tier.heartbeat(chat.key, "worker", Progress(9))
        chat.tier.force_release(chat.key)
        assert _progress(chat, job) is None


def _progress(chat: Chat, job: Job) -> Progress | None:
    found = chat.tier.job(job.job_id)
    assert found is not None
    return found.progress


class TestDebounce:
    def test_the_first_run_waits_until_the_patient_is_quiet(self, world: World) -> None:
        on(world, "after", "tier.claim", lambda: world.posts("m1", debounce_ms=900))
        world.posts("m0", debounce_ms=900)
        world.clock.advance(0.5)
        began = world.clock()
        world.settles().checked()
        assert world.answered("m0 m1")
        assert world.ai.closed == []
        assert world.job(told(world, "m0")).started_at == pytest.approx(began + 0.9, abs=0.01)

    def test_typing_without_end_is_waited_for_no_longer_than_the_bot_says(self, world: World) -> None:
        began = world.clock()
        world.worker = _with_sleep(world, lambda: world.posts(f"m{len(world.contents)}", debounce_ms=1900))
        world.posts("m0", debounce_ms=1900)
        world.delivers()
        started_at = world.job(told(world, "m0")).started_at
        assert started_at is not None
        assert 9 < started_at - began <= 10.001
        world.settles().checked()

    @pytest.mark.parametrize(("debounce_ms", "seconds"), [(500, 0), (999, 0), (1000, 1), (2500, 2), (6500, 6)])
    def test_whole_seconds_of_it_are_waited_for_by_the_queue(
        self, world: World, debounce_ms: int, seconds: int
    ) -> None:
        began = world.clock()
        world.posts("m0", debounce_ms=debounce_ms)
        world.posts("m1", debounce_ms=debounce_ms)
        assert [delay for _, delay in world.queue.sent] == [seconds, world.settings.join_delay]
        world.settles().checked()
        assert world.most_receives == 1
        assert world.job(told(world, "m0")).started_at == pytest.approx(began + debounce_ms / 1000, abs=0.01)

    def test_it_uses_up_no_deliveries(self, world: World) -> None:
        """The patient types for half a minute, each time just before the pause would have been long enough."""

        def type_on() -> None:
            if world.clock() < began + 29:
                world.posts(f"m{len(world.contents)}")
                on(world, "before", "tier.claim", type_on)

        began = world.clock()
        _configured(world, debounce_ms=6_000, debounce_max_ms=30_000)
        world.posts("m0")
        on(world, "before", "tier.claim", type_on)
        world.settles().checked()
        job = world.job(told(world, "m0"))
        assert job.started_at == pytest.approx(began + 30, abs=0.01)
        assert world.most_receives == PATIENT_FROM < MAX_RECEIVE_COUNT

    def test_what_waited_for_the_reply_is_answered_when_the_patient_is_quiet(self, world: World) -> None:
        _configured(world, debounce_ms=6_000)
        world.posts("m0")
        on(world, "after", "tier.seal", lambda: world.posts("m1"))
        world.settles().checked()
        assert world.answered("m0", "m1")
        first, second = world.job(told(world, "m0")), world.job(told(world, "m1"))
        assert first.finished_at is not None
        assert second.started_at is not None
        assert 6 <= second.started_at - first.finished_at < 8

    def test_it_is_half_a_second_unless_the_service_its_bot_or_the_request_says_otherwise(self, world: World) -> None:
        def waited(message_id: str, **options: Any) -> float:
            came = world.clock()
            world.posts(message_id, **options)
            world.settles().checked()
            started_at = world.end_of(message_id).started_at
            assert started_at is not None
            return round(started_at - came, 2)

        assert waited("m0") == 0, "these tests set debounce_ms=0"
        world.intake = replace(world.intake, settings=Settings())
        assert waited("m1") == 0.5
        assert waited("m2", debounce_ms=0) == 0
        assert waited("m3", double_texting="enqueue") == 0.5
        assert waited("m4", double_texting="interrupt") == 0.5
        assert waited("m5", double_texting="reject") == 0
        assert waited("m6", double_texting="reject", debounce_ms=900) == 0
        _configured(world, debounce_ms=800)
        assert waited("m7") == 0.8
        assert waited("m8", debounce_ms=100) == 0.1
        _configured(world, debounce_max_ms=300)
        assert waited("m9") == 0.3
        assert waited("m10", debounce_ms=9_000) == 0.3
        _configured(world, debounce_ms=0)
        assert waited("m11") == 0

    def test_a_record_that_is_accepted_again_does_not_wait(self, world: World) -> None:
        world.posts("m0", debounce_ms=5000)
        world.tier_lost()
        due = world.clock() + 5
        world.delivers()
        assert world.answered("m0")
        assert world.job(told(world, "m0")).started_at == pytest.approx(due, abs=0.01)

    @pytest.mark.parametrize("policy", ["enqueue", "interrupt"])
    def test_messages_of_one_burst_get_one_answer(self, world: World, policy: DoubleTexting) -> None:
        """So it is under every policy that accepts the message: no run can be interrupted or waited for yet."""
        for number in range(3):
            world.posts(f"m{number}", debounce_ms=800, double_texting=policy)
            world.clock.advance(0.5)
        world.settles().checked()
        assert world.answered("m0 m1 m2")
        assert len(world.ai.prompts) == 1

    def test_a_burst_that_interrupts_does_so_once(self, world: World) -> None:
        def type_on() -> None:
            for number in range(1, 5):
                world.posts(f"m{number}", debounce_ms=800, double_texting="interrupt")
                world.clock.advance(0.5)

        on(world, "after", "tier.heartbeat", type_on)
        world.posts("m0", double_texting="interrupt")
        world.settles().checked()
        assert world.answered("m0 m1 m2 m3 m4")
        assert len(world.ai.prompts) == 2

    def test_a_burst_that_waits_for_a_reply_is_one_answer(self, world: World) -> None:
        """Its first message came long before. The time that it had to wait anyway does not shorten the debounce."""
        began = world.clock()

        def type_on() -> None:
            if world.clock() - began in (2, 6):
                world.posts(f"m{len(world.contents)}")

        _configured(world, debounce_ms=900, debounce_max_ms=1_500, double_texting="enqueue")
        world.ai.meanwhile = type_on
        world.posts("m0", debounce_ms=0)
        world.worker = _with_sleep(world, lambda: len(world.contents) < 4 and world.posts("m3"))
        world.settles().checked()
        assert world.answered("m0", "m1 m2 m3")
        assert len(world.ai.prompts) == 2

    def test_while_postgres_is_away_it_is_waited_for_as_well(self, world: World) -> None:
        world.postgres(away=True)
        began = world.clock()
        world.posts("m0", debounce_ms=900)
        world.posts("m1", debounce_ms=900)
        world.delivers()
        assert world.ai.asked == [pytest.approx(began + 0.9, abs=0.01)]
        world.postgres(away=False)
        world.settles().checked()
        assert world.answered("m0 m1")

    def test_it_can_be_cancelled_meanwhile(self, world: World) -> None:
        world.posts("m0", debounce_ms=5000)
        assert world.cancels(told(world, "m0")) is not None
        world.settles().checked()
        assert world.end_of("m0").status is JobStatus.CANCELLED

    def test_no_worker_holds_a_job_that_waits_for_its_patient(self, chat: Chat) -> None:
        request = chat.request("one")
        chat.accept(replace(request, debounce=3.0, debounce_max=5.0))
        assert chat.claim() == ClaimRefused(pytest.approx(3.0), leased=False)
        chat.clock.advance(2)
        chat.accept(replace(chat.request("two"), debounce=3.0, debounce_max=5.0))
        assert chat.claim() == ClaimRefused(pytest.approx(3.0), leased=False)
        chat.clock.advance(2)
        chat.accept(replace(chat.request("three"), debounce=3.0, debounce_max=5.0))
        assert chat.claim() == ClaimRefused(pytest.approx(1.0), leased=False)
        chat.clock.advance(1.01)
        assert chat.words(chat.claimed()) == ["one", "two", "three"]

    def test_a_run_that_was_begun_before_does_not_wait(self, chat: Chat) -> None:
        chat.says("one")
        chat.claimed("dead worker")
        chat.tier.force_release(chat.key)
        chat.accept(replace(chat.request("two"), debounce=3.0))
        claim = chat.claim()
        assert isinstance(claim, Claim), "a job that was claimed before waits for its patient again"
        assert chat.words(claim.job) == ["one", "two"]


class TestQuiet:
    """A run that newer messages stopped waits for the same pause before it asks the AI again."""

    def test_it_asks_again_when_the_patient_is_quiet(self, world: World) -> None:
        world.worker = _with_sleep(world, lambda: len(world.contents) < 6 and world.posts(f"m{len(world.contents)}"))
        _typed_while_it_is_asked(world, debounce_ms=1_000)
        world.settles().checked()
        assert world.answered("m0 m1 m2 m3 m4 m5")
        assert len(world.ai.prompts) == 2
        assert world.end_of("m0").restarts == 1
        last = max(message.accepted_at for message in world.ai.prompts[1].messages)
        assert world.ai.asked[1] - last == pytest.approx(1.0, abs=0.01)

    def test_a_burst_long_after_the_first_is_waited_for_as_long(self, world: World) -> None:
        """Messages from before the run began do not shorten the debounce of those that come now."""
        _configured(world, debounce_ms=900, debounce_max_ms=2_000)
        world.posts("m0")
        began = world.clock()

        def late() -> None:
            if world.clock() > began + 4 and len(world.contents) == 1:
                world.posts("m1")

        world.ai.meanwhile = late
        world.settles().checked()
        assert world.answered("m0 m1")
        assert world.ai.asked[1] - world.ai.prompts[1].messages[-1].accepted_at == pytest.approx(0.9, abs=0.01)

    def test_a_finished_reply_waits_for_the_patient_too(self, world: World) -> None:
        _configured(world, debounce_ms=900)
        on(world, "before", "tier.seal", lambda: world.posts("m1"))
        world.posts("m0", debounce_ms=0)
        world.settles().checked()
        assert world.answered("m0 m1")
        assert world.ai.asked[1] - world.ai.prompts[1].messages[-1].accepted_at == pytest.approx(0.9, abs=0.01)

    def test_without_a_debounce_it_asks_at_once(self, world: World) -> None:
        _typed_while_it_is_asked(world, debounce_ms=0)
        world.settles().checked()
        assert world.answered("m0 m1")
        assert world.ai.asked[1] == world.ai.closed[0]

    @pytest.mark.parametrize("share", [0.5, 1.0], ids=["in between", "at its end"])
    def test_typing_without_end_is_waited_for_no_longer_than_the_bot_says(self, world: World, share: float) -> None:
        """So it is also if a message comes at the very moment at which the wait would end."""

        def sleep(seconds: float) -> None:
            world.clock.advance(seconds * share)
            world.posts(f"m{len(world.contents)}")
            world.clock.advance(seconds * (1 - share))

        world.worker = replace(world.worker, sleep=sleep)
        _typed_while_it_is_asked(world, debounce_ms=1_000, debounce_max_ms=4_000)
        world.settles().checked()
        first = world.ai.prompts[1].messages[1].accepted_at
        assert 3.5 < world.ai.asked[1] - first <= 4.001
        assert len(world.ai.prompts) == 2

    def test_it_leaves_the_time_for_an_answer(self, world: World) -> None:
        """The pause would end in 30 s, but then too little time would be left of the run."""
        _typed_while_it_is_asked(world, debounce_ms=10_000, debounce_max_ms=30_000)
        world.worker = _with_sleep(world, lambda: world.posts(f"m{len(world.contents)}"))
        began = world.clock()
        world.delivers(seconds=60.0)
        needs = 30.0 + COMMIT_SECONDS
        assert world.ai.asked[1] - began == pytest.approx(60.0 - needs, abs=0.01)
        assert world.replies()

    def test_its_worker_lives_while_it_waits(self, world: World) -> None:
        """Meanwhile the sweep takes no worker for dead, and another record claims nothing."""
        _typed_while_it_is_asked(world, debounce_ms=10_000, debounce_max_ms=30_000)
        began, swept = world.clock(), list[int]()

        def sleep(seconds: float) -> None:
            world.clock.advance(seconds)
            if len(world.contents) < 4 and world.clock() > began + 9 * (len(world.contents) - 1):
                world.posts(f"m{len(world.contents)}")
            swept.append(world.sweeps())

        world.worker = replace(world.worker, sleep=sleep)
        world.delivers()
        assert world.answered("m0 m1 m2 m3")
        assert world.ai.asked[1] - world.ai.closed[0] > world.settings.heartbeat_stale
        assert set(swept) == {0}
        world.settles().checked()

    def test_it_can_be_cancelled_meanwhile(self, world: World) -> None:
        _typed_while_it_is_asked(world, debounce_ms=1_000)
        world.worker = _with_sleep(world, lambda: world.cancels(told(world, "m0")))
        world.settles().checked()
        assert world.end_of("m0").status is JobStatus.CANCELLED
        assert len(world.ai.prompts) == 1

    def test_it_stops_if_its_lock_is_taken_away(self, world: World) -> None:
        _typed_while_it_is_asked(world, debounce_ms=5_000)
        released: list[float] = []
        world.worker = _with_sleep(world, lambda: released.append(world.clock()) if world.releases() else None)
        world.delivers()
        assert len(world.ai.prompts) == 1
        assert world.clock() - released[0] < 1, "the wait did not end at once"
        world.settles().checked()
        assert world.answered("m0 m1")

    def test_a_tier_that_is_away_meanwhile_costs_no_answer(self, world: World) -> None:
        _typed_while_it_is_asked(world, debounce_ms=1_000)

        def sleep(seconds: float) -> None:
            world.clock.advance(seconds / 2)
            world.redis(away=True)
            world.clock.advance(seconds / 2)

        world.worker = replace(world.worker, sleep=sleep)
        # (The first fence belongs to the run that m1 stopped.)
        back = partial(world.redis, away=False)
        on(world, "before", "archive.fence", lambda: on(world, "before", "archive.fence", back))
        world.delivers()
        assert world.answered("m0 m1")


class TestMetrics:
    def test_each_answered_message_without_an_ai_call_of_its_own_is_one_saved(self, world: World) -> None:
        def counted(name: str) -> list[float]:
            found: list[float] = []
            world.worker.meter.publish(lambda metric, _, value: metric == name and found.append(value))
            return found

        world.posts("m0")
        world.settles()
        assert counted("AICallsSaved") == []
        for message_id in ("m1", "m2", "m3"):
            world.posts(message_id, debounce_ms=500)
        world.settles()
        assert counted("AICallsSaved") == [2]
        on(world, "before", "tier.seal", lambda: [world.posts(message_id) for message_id in ("m5", "m6")])
        world.posts("m4")
        world.settles()
        assert counted("AICallsSaved") == [1], "three messages took two AI calls"
        world.contents |= {"m7": "[fail] one", "m8": "two"}
        world.posts("m7", "m8")
        world.settles()
        assert counted("AICallsSaved") == [], "a failed job answered no message"

    def test_waiting_for_the_patient_is_no_waiting_in_the_queue(self, world: World) -> None:
        waits: list[float] = []
        world.posts("m0", debounce_ms=700)
        world.settles()
        world.worker.meter.publish(lambda metric, _, value: metric == "QueueWait" and waits.append(value))
        assert waits == [pytest.approx(0, abs=1)]


def _typed_while_it_is_asked(world: World, **meta_data: Any) -> None:
    """m1 comes a second after the AI was asked about m0."""
    _configured(world, **meta_data)
    world.posts("m0", debounce_ms=0)

    def once() -> None:
        world.ai.meanwhile = lambda: None
        world.posts("m1")

    world.ai.meanwhile = once


def _configured(world: World, **meta_data: Any) -> None:
    """The conversation's bot sets the debounce."""

    class Patient(BotConfigService):
        def get_bot_config(self, conversation_id: str, **options: Any) -> dict[str, Any]:
            return super().get_bot_config(conversation_id, **options) | {"meta_data": meta_data}

        def config_of_job(self, job: Job) -> dict[str, Any]:
            return super().config_of_job(job) | {"meta_data": meta_data}

    bots = Patient(world.tiers, world.archive, world.settings, world.clock)
    world.intake = replace(world.intake, bots=bots)


def _with_sleep(world: World, meanwhile: Callable[[], Any]) -> Any:
    def sleep(seconds: float) -> None:
        end = world.clock() + seconds
        world.clock.advance(seconds / 2)
        meanwhile()
        world.clock.advance(end - world.clock())

    return replace(world.worker, sleep=sleep)


class TestTheTier:
    def test_without_a_reply_nothing_is_sealed(self, chat: Chat) -> None:
        chat.says("one")
        job = chat.claimed()
        seen = [message.message_id for message in job.messages]
        sealed = chat.tier.seal(chat.key, "worker", seen, next_id=chat.job_id(800), fenced=True, may_seal=False)
        assert (sealed.verdict, chat.words(sealed.job)) == ("again", ["one"])
        assert chat.head is not None
        assert (chat.head.sealed, chat.head.restarts) == (False, 0)

    def test_an_interrupted_job_may_have_been_committed_by_an_earlier_worker(self, chat: Chat) -> None:
        """The fence will tell its messages apart, so the new message joins it and interrupts nothing."""
        first = chat.says("one")
        chat.claimed("dead worker")
        chat.seal([first.message_id], "dead worker", fenced=True)
        chat.tier.force_release(chat.key)
        chat.claimed()
        accepted = chat.accept(replace(chat.request("two"), double_texting="interrupt"))
        assert (accepted.interrupted, accepted.job_id) == (None, first.job_id)

    def test_a_worker_accepts_again_what_would_be_rejected_or_would_interrupt(self, chat: Chat) -> None:
        first = chat.says(named("m0"))
        chat.claimed()
        for number, policy in enumerate(("reject", "interrupt"), 1):
            request = replace(chat.request(named(f"m{number}")), double_texting=policy)
            try:
                chat.tier.accept_again(request, job_id=chat.job_id(700 + number), spare_id=chat.job_id(710 + number))
            except Rejected:
                pytest.fail("what was accepted once is rejected")
        head = chat.head
        assert head is not None
        assert (head.job_id, head.status) == (first.job_id, JobStatus.PROCESSING)
        assert [message.message_id for message in head.messages] == ["m0", "m1", "m2"]

    def test_a_rejected_request_with_a_known_last_message_takes_nothing_else_in(self, chat: Chat) -> None:
        chat.says(named("m0"))
        accepted = chat.accept(replace(chat.request(named("m1"), named("m0")), double_texting="reject"))
        assert accepted.duplicate
        assert chat.words(chat.head) == ["text of m0"]
        with pytest.raises(Rejected):
            chat.accept(replace(chat.request(named("m0"), named("m1")), double_texting="reject"))
