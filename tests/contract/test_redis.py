"""Promises of the Redis tier alone: keys that fit a cluster and expire, scripts that survive, errors."""

from __future__ import annotations

import re
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from redis.crc import key_slot

from local.stores import Server, start_valkey
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import ReadOnly, SettingsError, Unavailable
from message_handler.domain.jobs import JobStatus
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.redis import connect
from message_handler.locks import MessageLockManager
from message_handler.ports.line_store import MOST_REMEMBERED
from message_handler.protocol.line import LIVE_TTL_SECONDS
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.redis import RedisTier
from tests.chaos.proxy import Proxy
from tests.contract.chat import Chat, Clock, named
from tests.contract.conftest import SHARDS, lenient_breaker
from tests.servers import SecuredRedis, port_of

DAY = 24 * 3600.0
THREADS = 16


@pytest.fixture
def chat(redis_tier: RedisTier, clock: Clock) -> Chat:
    return Chat(redis_tier, clock)


def live_through_everything(chat: Chat) -> None:
    """Leave every kind of key behind: a live line with a next job, ended jobs, a successor and a cancelled job."""
    chat.says(named("m1"))
    chat.answered()
    chat.says(named("m2"), named("m3"))
    ended = chat.end(chat.claimed(), superseded_by=chat.job_id(50))
    chat.adopt("worker", ["m2"], ended)
    chat.seal(["m3"])
    second = chat.says(named("m4"))
    cancelled = chat.cancel(second.job_id)
    assert cancelled is not None
    chat.finish(None, chat.end(cancelled, JobStatus.CANCELLED))
    chat.says(named("m5"))
    chat.record_arrives(chat.job_id(60), named("m6"))


class TestKeys:
    def test_all_keys_of_a_conversation_share_one_slot(
        self, redis_client: redis.Redis, redis_tier: RedisTier, clock: Clock
    ) -> None:
        slots = set()
        for number in range(8):
            redis_client.flushall()
            chat = Chat(redis_tier, clock, ConversationKey("clinic", f"patient-{number}"))
            live_through_everything(chat)
            keys = list(redis_client.scan_iter(count=1000))
            kinds = {re.sub(r"^mh:\{\d+\}:(\w+).*", r"\1", key) for key in keys}
            assert kinds == {"state", "ended", "sweep", "job"}
            assert all(key.startswith(f"mh:{{{chat.key.shard}}}:") for key in keys), keys
            slot = {key_slot(key.encode()) for key in keys}
            assert len(slot) == 1
            slots |= slot
        assert len(slots) > 1

    def test_every_key_expires_or_is_in_the_sweeps_index(
        self, redis_client: redis.Redis, chat: Chat, settings: Settings
    ) -> None:
        live_through_everything(chat)
        for key in redis_client.scan_iter(count=1000):
            left = redis_client.ttl(key)
            if ":sweep" in key:
                assert left == -1
                assert redis_client.zcard(key) == 1
            elif ":state:" in key or (redis_client.type(key) == "string" and str(redis_client.get(key))[0] == ">"):
                assert LIVE_TTL_SECONDS - 60 < left <= LIVE_TTL_SECONDS
            else:
                assert settings.job_ttl - 60 < left <= settings.job_ttl

    def test_nothing_is_left_of_a_conversation_after_an_hour(
        self, redis_client: redis.Redis, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.answered()
        chat.undo(chat.says("b"))
        clock.advance(settings.job_ttl)
        # The pointer of the undone job, which holds no text, stays as long as its record may come.
        assert [redis_client.get(key) for key in redis_client.scan_iter()] == [">clinic/patient-1"]

    def test_text_is_only_where_it_is_needed(self, redis_client: redis.Redis, chat: Chat) -> None:
        chat.says("secret", context=[])
        chat.answered()
        for key in redis_client.scan_iter():
            assert "secret" not in str(redis_client.dump(key))
            assert "secret" not in key

    def test_a_line_that_was_lost_leaves_the_index_at_the_next_sweep(
        self, redis_client: redis.Redis, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        redis_client.delete(*redis_client.scan_iter(match="*:state:*"))
        assert chat.tier.locks("clinic") == []
        clock.advance(settings.wake_after)
        assert chat.tier.sweep(older_than=DAY) == []
        assert list(redis_client.scan_iter(match="*:sweep*")) == []

    def test_a_tenants_lists_and_sweep_read_no_other_tenants_index(
        self, redis_client: redis.Redis, chat: Chat, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        for shard in range(SHARDS):
            redis_client.set(f"mh:{{{shard}}}:sweep", "not an index")
            redis_client.set(f"mh:{{{shard}}}:sweep:lab", "not an index")
        assert [lock.key for lock in chat.tier.locks("clinic")] == [chat.key]
        clock.advance(settings.wake_after)
        with pytest.raises(redis.ResponseError):
            chat.tier.store.due(DAY)
        assert chat.tier.store.due(DAY, "clinic") == [chat.key]

    def test_what_is_remembered_of_one_conversation_is_bounded(self, redis_client: redis.Redis, chat: Chat) -> None:
        size = MOST_REMEMBERED // 2 + 1
        for round_ in range(3):
            chat.says(*(named(f"m{round_}-{n}", "x") for n in range(size)))
            chat.answered()
            assert redis_client.hlen(next(redis_client.scan_iter(match="*:ended:*"))) <= MOST_REMEMBERED
        assert chat.says(named(f"m2-{size - 1}", "x")).duplicate


class TestRoundTrips:
    def test_a_lock_costs_one_round_trip_to_take_and_one_to_release(
        self, redis_client: redis.Redis, redis_tier: RedisTier
    ) -> None:
        locks = MessageLockManager(Failover(redis_tier))
        for conversation_id in ("c-1", "c-2"):  # the first call loads the scripts
            redis_client.config_resetstat()
            taken = locks.check_and_acquire_lock(conversation_id, ["Hello"])
            assert locks.release_lock(conversation_id, taken["lock_id"])
        calls = redis_client.info("commandstats")
        assert calls["cmdstat_evalsha"]["calls"] == 2
        assert not {"cmdstat_eval", "cmdstat_get"} & set(calls)
        ended = redis_tier.job(taken["ai_job_id"])
        assert ended
        assert ended.status is JobStatus.CANCELLED

    def test_a_message_costs_two_where_another_process_saw_the_conversation_last(
        self, redis_client: redis.Redis, redis_tier: RedisTier, settings: Settings, clock: Clock
    ) -> None:
        Chat(redis_tier, clock).says("a")
        another = Chat(RedisTier(redis_client, settings, clock), clock, accepts=1, minted=iter([9]))
        redis_client.config_resetstat()
        assert another.says("b").consolidated_messages == 2
        assert redis_client.info("commandstats")["cmdstat_evalsha"]["calls"] == 2


class TestScripts:
    def test_they_survive_a_script_flush(self, redis_client: redis.Redis, chat: Chat) -> None:
        chat.says("a")
        redis_client.script_flush()
        chat.claimed()
        redis_client.script_flush()
        assert chat.heartbeat() == "valid"

    def test_the_tier_survives_a_restart_of_its_server(self, valkey: Server, tmp_path: Path, clock: Clock) -> None:
        server = start_valkey(tmp_path)
        settings = Settings(redis_url=SecretStr(server.url), redis_timeout_ms=10_000)
        tier = RedisTier(connect(settings), settings, clock, lenient_breaker())
        chat = Chat(tier, clock)
        try:
            first = chat.says("a")
            server.stop()
            with pytest.raises(Unavailable):
                chat.claim()
            server = start_valkey(tmp_path, port=int(server.url.rsplit(":", 1)[1].split("/")[0]))
            # The server has forgotten all. The record mends that.
            assert chat.claim() is None
            chat.record_arrives(first.job_id, *first.pending)
            assert chat.claimed().job_id == first.job_id
        finally:
            tier.close()
            server.stop()

    def test_without_a_clock_of_the_tests_the_servers_own_is_read(
        self, redis_client: redis.Redis, settings: Settings
    ) -> None:
        redis_client.flushall()
        chat = Chat(RedisTier(redis_client, settings), Clock())
        before = time.time()
        chat.says("a")
        job = chat.claimed()
        assert chat.heartbeat() == "valid"
        lock = chat.lock
        assert lock is not None
        assert lock.heartbeat_at is not None
        assert job.started_at is not None
        assert before - 1 < job.created_at <= job.started_at <= lock.heartbeat_at + 0.001 < time.time() + 1
        assert chat.tier.sweep(older_than=DAY) == []
        assert [job.job_id for job in chat.tier.sweep(older_than=0)] == [job.job_id]

    def test_a_time_to_live_below_a_second_is_still_one(self, redis_client: redis.Redis, clock: Clock) -> None:
        redis_client.flushall()
        chat = Chat(RedisTier(redis_client, Settings(job_ttl=0.2), clock), clock)
        accepted = chat.says("a")
        chat.answered()
        assert chat.tier.job(accepted.job_id)


@contextmanager
def configured(client: redis.Redis, **values: str) -> Iterator[None]:
    """Gives the server another configuration inside, and restores the old one."""
    names = {name: name.replace("_", "-") for name in values}
    before = {name: str(client.config_get(name)[name]) for name in names.values()}
    for name, value in values.items():
        client.config_set(names[name], value)
    try:
        yield
    finally:
        for name, value in before.items():
            client.config_set(name, value)


@contextmanager
def demoted(client: redis.Redis) -> Iterator[None]:
    """Makes the server a replica of a primary that is gone, as a failover may leave it."""
    client.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


def called(step: Callable[[], object]) -> Unavailable | None:
    """The error of a step, if any."""
    try:
        step()
    except Unavailable as error:
        return error
    return None


class TestAway:
    @pytest.mark.parametrize(
        "trouble",
        [demoted, lambda client: configured(client, maxmemory="1", maxmemory_policy="noeviction")],
        ids=["demoted to a replica", "out of memory"],
    )
    def test_a_server_that_can_not_write_is_away_and_nothing_has_changed(
        self, redis_client: redis.Redis, chat: Chat, trouble: Callable[[redis.Redis], AbstractContextManager[None]]
    ) -> None:
        chat.says("a")
        job = chat.claimed()
        lock = chat.lock
        with trouble(redis_client):
            for step in (
                lambda: chat.says("b"),
                lambda: chat.record_arrives(job.job_id, "b"),
                lambda: chat.heartbeat(),
                lambda: chat.seal(["minted-0"]),
                lambda: chat.finish("worker", chat.end(job)),
                lambda: chat.cancel(job.job_id),
                lambda: chat.tier.force_release(chat.key),
                chat.tier.ping,
                # The server would answer. But a server that can't write is not back.
                lambda: chat.head,
            ):
                with pytest.raises(Unavailable):
                    step()
        assert chat.head == job
        assert chat.lock == lock

    def test_a_connection_that_was_idle_for_long_is_made_anew(
        self, redis_tier: RedisTier, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A firewall in between may have dropped the connection silently."""
        redis_tier.ping()
        before = redis_client.client_id()
        redis_tier.ping()
        assert redis_client.client_id() == before
        monkeypatch.setattr("message_handler.tiers.redis.IDLE_SECONDS", -1)
        redis_tier.ping()
        assert redis_client.client_id() != before

    def test_a_frozen_server_costs_one_timeout(self, valkey: Server, tmp_path: Path) -> None:
        server = start_valkey(tmp_path)
        settings = Settings(redis_url=SecretStr(server.url), redis_timeout_ms=100)
        chat = Chat(tier := RedisTier(connect(settings), settings, breaker=lenient_breaker()), Clock())
        try:
            tier.ping()
            server.process.send_signal(signal.SIGSTOP)
            for step in (tier.ping, lambda: chat.says("a"), lambda: chat.head):
                began = time.monotonic()
                with pytest.raises(Unavailable):
                    step()
                assert time.monotonic() - began < 1
            server.process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
            # A late answer must not be taken for the answer to the next command.
            assert chat.cancel(chat.job_id(99)) is None
            # The client could not know whether the step was done. Repeated, it is done once.
            chat.says("a")
            assert chat.words(chat.head) == ["a"]
        finally:
            tier.close()
            server.stop()

    def test_a_command_that_takes_too_long_opens_no_breaker_where_the_server_is_alive(self, valkey: Server) -> None:
        proxy = Proxy(port_of(valkey.url))
        settings = Settings(redis_url=SecretStr(proxy.url(valkey.url)), redis_timeout_ms=500)
        breaker = CircuitBreaker("Redis", retry_after=60)
        tier = RedisTier(connect(settings), settings, breaker=breaker)
        over = threading.Event()
        try:
            tier.ping()
            proxy.when("up", lambda chunk: b"EVALSHA" in chunk, lambda: over.wait(30))
            with pytest.raises(Unavailable, match="takes too long"):
                Chat(tier, Clock()).says("a")
            assert not breaker.is_open
            tier.ping()
        finally:
            over.set()
            tier.close()
            proxy.close()

    def test_a_probe_goes_to_the_server_that_the_name_leads_to_then(self, valkey: Server, tmp_path: Path) -> None:
        """A read was under way when the old primary refused a write. Its connection returns to the pool later."""
        new = start_valkey(tmp_path)
        proxy = Proxy(port_of(valkey.url))
        settings = Settings(redis_url=SecretStr(proxy.url(valkey.url)), redis_timeout_ms=10_000)
        now = [100.0]
        tier = RedisTier(connect(settings), settings, breaker=CircuitBreaker("Redis", 5, lambda: now[0]))
        try:
            pool = tier.store.client.connection_pool
            under_way = pool.get_connection()
            with redis.Redis.from_url(valkey.url) as client, demoted(client):
                with pytest.raises(ReadOnly):
                    tier.ping()
                pool.release(under_way)
                proxy.aim(port_of(new.url), cut=False)
                now[0] += 5
                assert called(tier.ping) is None
        finally:
            tier.close()
            proxy.close()
            new.stop()

    @pytest.mark.parametrize(
        ("word", "kind"),
        [
            ("READONLY You can't write against a read only replica.", ReadOnly),
            ("OOM command not allowed when used memory > 'maxmemory'.", ReadOnly),
            ("MISCONF Redis is configured to save RDB snapshots, but is unable to persist on disk.", ReadOnly),
            ("NOREPLICAS Not enough good replicas to write.", ReadOnly),
            ("LOADING Redis is loading the dataset in memory", Unavailable),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Unavailable),
            ("BUSY Redis is busy running a script.", Unavailable),
        ],
    )
    @pytest.mark.parametrize(
        "wrapped", ["{}", "ERR Error running script (call to f_c0ffee): @user_script:7: @user_script: 7: -{}"]
    )
    def test_an_error_inside_of_a_script_is_read_also_as_old_servers_wrap_it(
        self,
        redis_client: redis.Redis,
        monkeypatch: pytest.MonkeyPatch,
        word: str,
        kind: type[Unavailable],
        wrapped: str,
    ) -> None:
        breaker, execute = CircuitBreaker("Redis", retry_after=60), redis_client.execute_command

        def refuses(*_: Any) -> Any:
            return execute("EVAL", "return redis.error_reply(ARGV[1])", 0, wrapped.format(word))

        monkeypatch.setattr(redis_client, "execute_command", refuses)
        with pytest.raises((Unavailable, redis.ResponseError)) as refused:
            Chat(RedisTier(redis_client, Settings(), breaker=breaker), Clock()).says("a")
        assert type(refused.value) is kind
        assert breaker.is_open

    @pytest.mark.parametrize("client", ["redis_client", "redis_tls_client"])
    def test_a_late_answer_is_never_taken_for_another_commands(
        self, client: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A thread is interrupted between a command and its answer, which comes later."""
        redis_: redis.Redis = request.getfixturevalue(client)
        redis_.set("mine", "my own")

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(redis_, "parse_response", interrupted)
            with pytest.raises(KeyboardInterrupt):
                redis_.execute_command("EVAL", "for i = 1, 2000000 do end return 'another patient'", "0")  # type: ignore[no-untyped-call]
        assert [redis_.get("mine") for _ in range(3)] == ["my own"] * 3

    @pytest.mark.parametrize("rest", ["parser", "TLS"])
    def test_a_connection_with_something_unread_is_made_anew(
        self, redis_tls_client: redis.Redis, rest: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So are answers that the socket no longer holds: the parser has them, or TLS has decrypted them."""
        pool = redis_tls_client.connection_pool
        if rest == "TLS":
            monkeypatch.setitem(pool.connection_kwargs, "socket_read_size", len("+PONG\r\n"))
            pool.reset()
        connection = pool.get_connection()
        connection.send_packed_command([b"PING\r\n" * 2])
        time.sleep(0.1)
        assert connection.read_response() == "PONG"
        pool.release(connection)
        assert redis_tls_client.echo("mine") == "mine"
        pool.reset()

    def test_a_refusal_costs_no_connection(self, redis_client: redis.Redis) -> None:
        number = redis_client.execute_command("CLIENT", "ID")  # type: ignore[no-untyped-call]
        with pytest.raises(redis.ResponseError):
            redis_client.execute_command("EVAL", "return redis.error_reply('no')", "0")  # type: ignore[no-untyped-call]
        assert redis_client.execute_command("CLIENT", "ID") == number  # type: ignore[no-untyped-call]

    def test_a_server_that_is_not_there_is_away(self) -> None:
        settings = Settings(redis_url=SecretStr("redis://127.0.0.1:1/0"))
        tier = RedisTier(connect(settings), settings)
        with pytest.raises(Unavailable):
            tier.ping()
        tier.close()

    def test_a_mistake_of_ours_is_not_an_outage(self, redis_client: redis.Redis, chat: Chat) -> None:
        accepted = chat.says("a")
        key = next(redis_client.scan_iter(match="*:state:*"))
        redis_client.delete(key)
        redis_client.set(key, "not a hash")
        with pytest.raises(redis.ResponseError):
            chat.tier.claim(chat.key, accepted.lock_id or "")


class TestSecured:
    """TLS and a password, as in ElastiCache. Errors name what is wrong, never the password."""

    def refused(self, url: str, password: str = "", **settings: bool) -> str:
        """What a log shows of the error, with its whole chain."""
        chosen = Settings(
            redis_url=SecretStr(url), redis_password=SecretStr(password), redis_timeout_ms=10_000, **settings
        )
        tier = RedisTier(connect(chosen), chosen)
        with pytest.raises(Unavailable) as refusal:
            Chat(tier, Clock()).says("a")
        tier.close()
        written = "".join(traceback.format_exception(refusal.value))
        assert not password or password not in written
        return str(refusal.value)

    @pytest.mark.parametrize("password", ["wrong-and-secret", ""], ids=["wrong", "missing"])
    @pytest.mark.parametrize("cluster", [False, True], ids=["single", "cluster"])
    def test_a_refused_password_names_its_variable(
        self, secured_redis: SecuredRedis, password: str, cluster: bool
    ) -> None:
        assert "REDIS_PASSWORD" in self.refused(secured_redis.url, password, redis_cluster=cluster)

    def test_a_refused_password_in_the_url_is_not_told_either(self, secured_redis: SecuredRedis) -> None:
        url = secured_redis.url.replace("//", "//default:wrong-and-secret@")
        assert "REDIS_PASSWORD" in self.refused(url)

    @pytest.mark.parametrize("cluster", [False, True], ids=["single", "cluster"])
    def test_an_authority_that_is_not_known_is_asked_for(self, secured_redis: SecuredRedis, cluster: bool) -> None:
        url = secured_redis.url.partition("?")[0]
        assert "?ssl_ca_certs=<file>" in self.refused(url, secured_redis.password, redis_cluster=cluster)

    @pytest.mark.usefixtures("redis_tls_tier")
    def test_a_user_who_may_not_do_what_is_needed_is_told(
        self, redis_tls_client: redis.Redis, secured_redis: SecuredRedis
    ) -> None:
        redis_tls_client.acl_setuser("reader", enabled=True, passwords=["+its-secret"], keys=["*"], commands=["+get"])
        url = secured_redis.url.replace("//", "//reader:its-secret@")
        assert "denies its user" in self.refused(url)

    @pytest.mark.parametrize(
        ("option", "reason"),
        [
            ("ssl_ca_certs=/nowhere/authority.pem", "ssl_ca_certs is not a readable file"),
            ("ssl_ca_cert=/etc/ssl/cert.pem", "unknown or wrong"),
            ("ssl_cert_reqs=perhaps", "unknown or wrong"),
            ("socket_timeout=soon", "unknown or wrong"),
        ],
    )
    @pytest.mark.parametrize("cluster", [False, True], ids=["single", "cluster"])
    def test_an_option_that_can_not_work_stops_the_start(self, option: str, reason: str, cluster: bool) -> None:
        url = f"rediss://:its-secret@127.0.0.1:1/0?{option}"
        with pytest.raises(SettingsError, match=f"REDIS_URL: .*{reason}") as error:
            connect(Settings(redis_url=SecretStr(url), redis_cluster=cluster))
        assert "its-secret" not in "".join(traceback.format_exception(error.value))


class TestCache:
    def test_a_text_is_kept_for_others_and_not_for_long(self, redis_tier: RedisTier, clock: Clock) -> None:
        assert redis_tier.cached("bots/nurse") is None
        redis_tier.cache("bots/nurse", '{"name": "Y tá"}', 5)
        assert redis_tier.cached("bots/nurse") == '{"name": "Y tá"}'
        clock.advance(5)
        assert redis_tier.cached("bots/nurse") is None
