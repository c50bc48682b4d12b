"""Behaviour of a cluster alone: nodes die, slots move, and what each costs.

A node without a replica takes its slots along when it dies. The other nodes serve their slots until they notice, after
`cluster-node-timeout`. Then, by default (`cluster-require-full-coverage`), the whole cluster is down.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis.connection import ConnectionPool

from local.stores import Server
from message_handler.domain.errors import SettingsError, Unavailable
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.redis import connect
from message_handler.drivers.redis_client import Client
from message_handler.settings import Settings
from message_handler.tiers.redis import RedisTier
from tests.certificates import Certificates
from tests.conftest import started
from tests.contract.chat import Clock, named
from tests.contract.cluster import chat_on, slot_of
from tests.contract.conftest import lenient_breaker
from tests.local.conftest import eventually
from tests.servers import (
    Cluster,
    SecuredRedis,
    introduce,
    port_of,
    sees_its_cluster,
    start_cluster,
    start_node,
    start_redis_with_tls,
)

DAY = 24 * 3600.0


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of the test's own."""
    cluster = started(start_cluster, tmp_path)
    yield cluster
    cluster.stop()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ports of the servers that the service's clients sent a command to, in order."""
    ports: list[int] = []
    get_connection = ConnectionPool.get_connection

    def note(pool: ConnectionPool, *args: Any, **options: Any) -> Any:
        if pool.connection_kwargs.get("socket_keepalive"):  # not the test's own clients
            ports.append(pool.connection_kwargs["port"])
        return get_connection(pool, *args, **options)

    monkeypatch.setattr(ConnectionPool, "get_connection", note)
    return ports


@contextmanager
def opened(
    url: str, clock: Clock | None = None, *, breaker: CircuitBreaker | None = None, **settings: object
) -> Iterator[RedisTier]:
    """A tier as in a process of its own. Its timeout is long: a busy machine must not look like a dead server."""
    chosen = Settings(redis_url=SecretStr(url), **({"redis_cluster": True, "redis_timeout_ms": 10_000} | settings))
    tier = RedisTier(connect(chosen), chosen, clock, breaker or lenient_breaker())
    yield tier
    tier.close()


@contextmanager
def speaking(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


def is_to(server: Server, state: str) -> bool:
    with speaking(server) as client:
        return sees_its_cluster(client, state, size=3)


@contextmanager
def frozen(*nodes: Server) -> Iterator[None]:
    """The pause is too short for the nodes to take each other for dead."""
    for node in nodes:
        node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            node.process.send_signal(signal.SIGCONT)


class TestRouting:
    def test_a_step_asks_one_node_once_it_is_known_who_has_the_slots(self, cluster: Cluster, asked: list[int]) -> None:
        ports = [port_of(node.url) for node in cluster.nodes]
        with opened(cluster.url) as tier:
            chat_on(tier, 2).says("a")
            assert asked[0] == ports[0]
            asked.clear()
            for number in (0, 1, 2):
                assert chat_on(tier, number).heartbeat("nobody") == "lost"
        assert [port for port, last in zip(asked, [None, *asked], strict=False) if port != last] == ports

    def test_a_look_at_all_conversations_asks_each_node_once(
        self, redis_cluster_tier: RedisTier, asked: list[int]
    ) -> None:
        for number in (0, 1, 2):
            chat_on(redis_cluster_tier, number).says("a")
        asked.clear()
        assert len(redis_cluster_tier.locks("clinic")) == 3
        # First the index, then the lines that it lists.
        assert sorted(asked) == sorted(2 * list(set(asked)))
        assert len(set(asked)) == 3

    def test_one_node_under_the_urls_own_name_needs_one_client(self, serverless: SecuredRedis) -> None:
        with opened(serverless.url, redis_password=SecretStr(serverless.password)) as tier:
            chat = chat_on(tier, 1)
            chat.says("a")
            assert chat.words(chat.claimed()) == ["a"]
            assert [lock.key for lock in tier.locks("clinic")] == [chat.key]
            client = tier.store.client
            assert client.pools == [client.connection_pool]

    def test_a_mistake_of_ours_in_a_look_at_all_conversations_is_not_an_outage(
        self, redis_cluster_tier: RedisTier
    ) -> None:
        redis_cluster_tier.store.client.set("mh:{1}:sweep:clinic", "not an index")
        with pytest.raises(redis.ResponseError, match=r"^WRONGTYPE"):
            redis_cluster_tier.locks("clinic")
        redis_cluster_tier.store.client.delete("mh:{1}:sweep:clinic")

    def test_nothing_connects_before_it_is_used(self, asked: list[int]) -> None:
        with opened("redis://127.0.0.1:1/0") as tier:
            assert asked == []
            for step in (tier.ping, lambda: chat_on(tier, 0).says("a"), lambda: tier.locks("clinic")):
                with pytest.raises(Unavailable):
                    step()


def await_one_epoch(cluster: Cluster) -> None:
    """A node that takes a slot also takes the next epoch. Two nodes with one epoch would redirect to each other."""
    deadline = time.monotonic() + 30
    with ExitStack() as opened:
        clients = [opened.enter_context(speaking(node)) for node in cluster.nodes]
        while len({str(client.execute_command("CLUSTER INFO")["cluster_current_epoch"]) for client in clients}) > 1:
            assert time.monotonic() < deadline, "the nodes never heard of the newest epoch"
            time.sleep(0.01)


@contextmanager
def moving(cluster: Cluster, slot: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A slot that is being moved from the first node to the second. Gives two functions: to move its keys, and to end
    the move. Afterwards the slot is empty and on the first node again.
    """
    with speaking(cluster.nodes[0]) as old, speaking(cluster.nodes[1]) as new:
        ids = [client.execute_command("CLUSTER MYID") for client in (old, new)]

        def start(source: redis.Redis, target: redis.Redis, source_id: str, target_id: str) -> None:
            target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
            source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)

        def end(source: redis.Redis, target: redis.Redis, target_id: str) -> None:
            for client in (target, source):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)
            await_one_epoch(cluster)

        def move_keys() -> None:
            keys = old.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000)
            old.execute_command("MIGRATE", "127.0.0.1", port_of(cluster.nodes[1].url), "", 0, 5000, "KEYS", *keys)

        start(old, new, *ids)
        yield move_keys, partial(end, old, new, ids[1])
        for client in (old, new):
            client.flushall()
        start(new, old, ids[1], ids[0])
        end(new, old, ids[0])


class TestSlots:
    def test_a_slot_that_moved_is_followed(
        self, cluster: Cluster, redis_cluster_tier: RedisTier, asked: list[int]
    ) -> None:
        ports = [port_of(node.url) for node in cluster.nodes]
        chat, neighbour = chat_on(redis_cluster_tier, 0), chat_on(redis_cluster_tier, 2)
        neighbour.says("b")
        with moving(cluster, slot_of(chat.key)) as (_, end):
            end()
            asked.clear()
            assert chat.heartbeat("nobody") == "lost"
            assert asked[:2] == ports[:2]
            chat.says("a")
            asked.clear()
            assert chat.heartbeat("nobody") == "lost"
            assert asked == [ports[1]]
            assert chat.words(chat.claimed()) == ["a"]
            assert {lock.key for lock in redis_cluster_tier.locks("clinic")} == {chat.key, neighbour.key}

    def test_a_slot_that_moved_is_followed_by_a_look_at_all_conversations(
        self, cluster: Cluster, redis_cluster_tier: RedisTier
    ) -> None:
        chat, neighbour = chat_on(redis_cluster_tier, 0), chat_on(redis_cluster_tier, 2)
        chat.says("a")
        neighbour.says("b")
        with moving(cluster, slot_of(chat.key)) as (move_keys, end):
            move_keys()
            end()
            assert {lock.key for lock in redis_cluster_tier.locks("clinic")} == {chat.key, neighbour.key}

    def test_on_its_way_a_slot_can_be_read_but_a_step_waits(
        self, cluster: Cluster, redis_cluster_tier: RedisTier
    ) -> None:
        """A step needs all its keys on one node. Keys that do not exist yet are on neither."""
        chat = chat_on(redis_cluster_tier, 0)
        chat.says("a")
        with moving(cluster, slot_of(chat.key)) as (move_keys, end):
            move_keys()
            assert chat.words(chat.head) == ["a"]
            assert [lock.key for lock in redis_cluster_tier.locks("clinic")] == [chat.key]
            with pytest.raises(Unavailable):
                chat.claim()
            end()
            assert chat.words(chat.claimed()) == ["a"]

    def test_nodes_that_send_a_command_in_circles_are_away(
        self, cluster: Cluster, redis_cluster_tier: RedisTier, asked: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chat = chat_on(redis_cluster_tier, 0)
        address = f"127.0.0.1:{port_of(cluster.nodes[1].url)}"

        def moved(client: Client, *args: object, **options: object) -> object:
            if args[0] != "EVALSHA":
                return execute(client, *args, **options)
            asked.append(0)
            raise redis.exceptions.MovedError(f"{slot_of(chat.key)} {address}")

        execute = Client.execute_command
        monkeypatch.setattr(Client, "execute_command", moved)
        with pytest.raises(Unavailable):
            chat.claim()
        assert asked.count(0) == 3


class TestAway:
    def test_a_killed_node_takes_only_its_own_slots_along_until_the_others_find_out(
        self, fragile: Cluster, tmp_path: Path, asked: list[int]
    ) -> None:
        with opened(fragile.url, clock := Clock()) as tier, opened(fragile.url, clock) as another:
            chats = [chat_on(tier, number, clock) for number in (0, 1, 2)]
            jobs = [chat.says(named("a")).job_id for chat in chats]
            victim = fragile.nodes[1]
            victim.process.kill()
            victim.process.wait()
            asked.clear()
            with pytest.raises(Unavailable):
                chats[1].claim()
            assert len(asked) == 1
            for chat, job_id in ((chats[0], jobs[0]), (chats[2], jobs[2])):
                assert chat.claimed().job_id == job_id

            survivors = (fragile.nodes[0], fragile.nodes[2])
            for survivor in survivors:
                with speaking(survivor) as client:
                    client.config_set("cluster-node-timeout", 500)
            for survivor in survivors:
                eventually(partial(is_to, survivor, "fail"))
            for chat in chats:
                asked.clear()
                with pytest.raises(Unavailable):
                    chat.claim("another worker")
                assert len(asked) <= 2
            with pytest.raises(Unavailable):
                tier.locks("clinic")

            again = start_node(tmp_path / "1", port_of(victim.url))
            try:
                for node in (*survivors, again):
                    eventually(partial(is_to, node, "ok"))
                # This node has forgotten its conversations and all scripts. The others have not.
                for ours in (tier, another):
                    assert ours.waiting(chats[1].key) is None
                    assert [ours.job(job_id) is None for job_id in jobs] == [False, True, False]
                chats[1].record_arrives(jobs[1], named("a"))
                assert chats[1].claimed().job_id == jobs[1]
            finally:
                again.stop()

    def test_a_replica_that_takes_a_dead_nodes_place_is_found(self, fragile: Cluster, tmp_path: Path) -> None:
        victim = fragile.nodes[1]
        replica = start_node(tmp_path / "replica")
        with opened(fragile.url, clock := Clock()) as tier, speaking(replica) as client:
            try:
                with speaking(victim) as known:
                    introduce(replica, known)
                    victim_id = known.execute_command("CLUSTER MYID")
                eventually(partial(is_to, replica, "ok"))
                client.execute_command("CLUSTER REPLICATE", victim_id)
                eventually(lambda: client.info("replication")["master_link_status"] == "up")
                chat = chat_on(tier, 1, clock)
                job_id = chat.says("a").job_id
                with speaking(victim) as known:
                    assert known.wait(1, 10_000) == 1
                victim.process.kill()
                client.execute_command("CLUSTER FAILOVER", "TAKEOVER")
                with pytest.raises(Unavailable):
                    chat.claim()
                with speaking(fragile.nodes[0]) as guide:
                    eventually(lambda: str(port_of(replica.url)) in str(guide.execute_command("CLUSTER SLOTS")))
                # The replica has the dead node's keys, but none of its scripts.
                assert chat.claimed().job_id == job_id
            finally:
                replica.stop()

    def test_frozen_nodes_cost_one_question_and_an_open_breaker_none(self, cluster: Cluster, asked: list[int]) -> None:
        breaker = CircuitBreaker("Redis", retry_after=60)
        with opened(cluster.url, redis_timeout_ms=500, breaker=breaker) as tier:
            chat = chat_on(tier, 1)
            chat.heartbeat()
            with frozen(*cluster.nodes):
                asked.clear()
                with pytest.raises(Unavailable):
                    chat.claim()
                assert len(asked) == 1
                for step in (chat.claim, partial(tier.locks, "clinic"), tier.ping):
                    with pytest.raises(Unavailable):
                        step()
                assert len(asked) == 1

    def test_a_frozen_node_costs_a_look_at_all_conversations_one_timeout(
        self, cluster: Cluster, asked: list[int]
    ) -> None:
        victim = cluster.nodes[1]
        with opened(cluster.url, redis_timeout_ms=500) as tier:
            tier.locks("clinic")
            with frozen(victim):
                asked.clear()
                with pytest.raises(Unavailable):
                    tier.locks("clinic")
                assert asked.count(port_of(victim.url)) == 1
                assert len(asked) <= len(cluster.nodes)


class TestSettings:
    def test_a_cluster_without_its_setting_is_named(self, cluster: Cluster) -> None:
        with (
            opened(cluster.url, redis_cluster=False) as tier,
            pytest.raises(Unavailable, match="set REDIS_CLUSTER"),
        ):
            chat_on(tier, 1).says("a")

    def test_a_single_server_with_the_clusters_setting_is_named(self, valkey: Server) -> None:
        with opened(valkey.url) as tier, pytest.raises(Unavailable, match="unset REDIS_CLUSTER"):
            chat_on(tier, 1).says("a")

    def test_a_cluster_has_no_other_database(self) -> None:
        with pytest.raises(SettingsError, match="REDIS_URL"), opened("redis://127.0.0.1:1/1"):
            pass


@pytest.fixture(scope="module")
def serverless(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[SecuredRedis]:
    """One node has all slots, with TLS and a password, as in ElastiCache Serverless."""
    start = partial(start_redis_with_tls, certificates=certificates, cluster=True)
    server = started(start, tmp_path_factory.mktemp("serverless"))
    yield server
    server.stop()
