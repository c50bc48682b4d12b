"""The copies in the benchmarks' full stores must equal what the product leaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from pydantic import SecretStr

from benchmarks import scale
from benchmarks.filling import QUESTION, REPLY, accept, fill_lines, fill_rows
from benchmarks.queue_check import really, rows
from benchmarks.queueing import steady
from benchmarks.stores import Stores
from local.stores import Server
from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.postgres_errors import StatementRefused
from message_handler.settings import Settings
from message_handler.tiers.redis import RedisTier


@pytest.fixture
def redis_client(valkey: Server) -> Iterator[redis.Redis]:
    with scale.redis_tier(valkey.url) as (client, _):
        client.flushall()
        yield client


@pytest.fixture
def stores(valkey: Server, postgres: Server) -> Iterator[Stores]:
    """The benchmarks' stores over the running servers."""
    stores = Stores(quick=True)
    stores.__dict__ |= {"redis_url": valkey.url, "database_url": postgres.url}
    database = Database(connector(stores.settings()))
    database.migrate()
    database.close()
    with stores:
        yield stores


def _shape(client: redis.Redis, tier: RedisTier, key: ConversationKey) -> dict[str, object]:
    """The type, fields and remaining life of each key of a conversation."""
    (job,) = tier.jobs(key)
    line, pointer = (
        f"mh:{{{key.shard}}}:{name}" for name in (f"state:default/{key.conversation_id}", f"job:{job.job_id}")
    )
    fields = client.hgetall(line)
    assert isinstance(fields, dict)
    member = f"default/{key.conversation_id}"
    return {
        "fields": fields.keys(),
        "bytes": round(len(fields["line"]), -2),
        "lives": [client.ttl(line), client.ttl(pointer)],
        "points": client.get(pointer) == f">{member}",
        "due": client.zscore(f"mh:{{{key.shard}}}:sweep", member) is not None,
        "due of its tenant": client.zscore(f"mh:{{{key.shard}}}:sweep:default", member) is not None,
    }


def test_a_copied_line_is_the_one_that_accept_leaves(redis_client: redis.Redis) -> None:
    tier = RedisTier(redis_client, Settings())
    fill_lines(redis_client, tier, 40)
    own = _shape(redis_client, tier, accept(tier, "filled-by-hand"))
    assert _shape(redis_client, tier, ConversationKey("default", "filled-0000007")) == own
    # One of the copies has been answered, and another accepted in its place.
    assert len(tier.locks("default")) == 41
    assert {lock.job_id for lock in tier.locks("default")} == {
        job.job_id for lock in tier.locks("default") for job in tier.jobs(lock.key)
    }


def test_a_copied_row_is_the_one_that_commit_leaves(stores: Stores) -> None:
    with scale.full_postgres(stores, (30,)) as archives:
        archive = archives[30]
        copy, model = (archive.conversation(ConversationKey("default", f"filled-{name}")) for name in ("17", "model"))
        assert copy
        assert model
        assert [turn.content for turn, *_ in copy.turns] == [QUESTION, REPLY]
        assert archive.settled_by(copy.key, "m-filled-model-17") == copy.turns[0][2]
        job, its_model = (archive.job("default", str(found.turns[0][2])) for found in (copy, model))
        assert job
        assert its_model
        assert (job.status, job.reply, job.usage) == (its_model.status, its_model.reply, its_model.usage)
        assert len(archive.jobs("default", status=None, conversation_id=None, behind=None, most=100)) == 30
    with pytest.raises(StatementRefused, match="3D000"):  # dropped afterwards
        archive.conversation(ConversationKey("default", "filled-17"))


def test_filling_notices_that_the_tables_have_changed(stores: Stores) -> None:
    settings = Settings(database_url=SecretStr(stores.database_url))
    database = Database(connector(settings))
    with pytest.raises(AssertionError):
        fill_rows(database, _Forgetful(database), 3)
    database.close()


class _Forgetful(PostgresArchive):
    """An archive that finds no conversation again."""

    def conversation(self, key: ConversationKey) -> None:
        return None


@pytest.mark.parametrize("name", ["memory-live", "memory-ended", "memory-expired"])
def test_memory_is_counted_by_conversation(stores: Stores, name: str) -> None:
    (figure,) = (figure for figure in scale.FIGURES if figure.name == name)
    measured = next(iter(figure.measure(stores)))
    # The server's own memory is included: with so few conversations it is hundreds of bytes for each.
    low, high = {"memory-live": (1_500, 5_000), "memory-ended": (1_000, 5_000), "memory-expired": (-900, 900)}[name]
    assert low < measured.ours < high


def test_steps_take_turns_over_all_sizes() -> None:
    order: list[int] = []
    taken = scale.in_turns({size: lambda size=size: order.append(size) for size in (1, 2)}, 3)  # type: ignore[misc]
    assert order == [2, 1, 1, 2, 2, 1]
    assert {size: len(times) for size, times in taken.items()} == {1: 3, 2: 3}


def test_the_product_and_the_simulation_see_the_same_things(stores: Stores) -> None:
    world = steady(10.0, concurrency=10, batch=1, ai=lambda _: 0.2, error_rate=0.0)
    seen = really(stores, world, 3.0, 1)
    assert seen.messages == len(seen.answered) > 5
    assert 0 < seen.jobs <= seen.messages
    assert seen.calls >= seen.jobs
    assert min(seen.answered) >= 0.2
    assert len(list(rows(seen, [seen, seen]))) == 6
