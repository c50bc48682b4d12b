"""Promises of the Postgres tier alone: steps that meet, connections that die in a step, and what it forgets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from pg8000.exceptions import InterfaceError
from pg8000.native import Connection

from message_handler.archive.postgres import PostgresArchive
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import Unavailable
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message
from message_handler.drivers import postgres
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from message_handler.tiers.postgres import PostgresTier
from tests.contract.chat import Chat, Clock, named
from tests.contract.conftest import database_of
from tests.contract.conversation import Conversation
from tests.contract.threads import until

KEY = ConversationKey("clinic", "patient-1")
DAY = 24 * 3600.0


@pytest.fixture
def chat(postgres_tier: PostgresTier, clock: Clock) -> Chat:
    return Chat(postgres_tier, clock)


@pytest.fixture
def talk(postgres_archive: PostgresArchive) -> Conversation:
    return Conversation(postgres_archive)


@pytest.fixture
def other_process(migrated: Settings, settings: Settings, clock: Clock, chat: Chat) -> Iterator[Chat]:
    """The same conversation, as another process sees it."""
    tier = PostgresTier(database_of(migrated), settings, clock)
    yield Chat(tier, clock, accepts=100, minted=iter(range(100, 200)))
    tier.close()


def rows(sql: Connection, table: str) -> int:
    return int(sql.run(f"select count(*) from {table}")[0][0])


def attempts(chat: Chat) -> int:
    assert chat.head is not None
    return chat.head.attempts


@pytest.mark.parametrize("statement", ["take_fences", "end_jobs"])
def test_a_process_that_was_stopped_while_the_archive_answered_has_stopped_no_other(
    talk: Conversation, migrated: Settings, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fence keeps no row locked for a client that may never return."""
    other = Conversation(PostgresArchive(database_of(migrated)))
    happens(monkeypatch, "after", statement, lambda: other.answer(2, "m1"))
    job = talk.job(1, "m0")
    if statement == "take_fences":
        number = talk.number(job)
        assert not talk.archive.commit(talk.completed(job), number)
    else:
        assert talk.archive.cancel(job).cancelled
    assert talk.settled("m1") == [talk.id(2)]
    other.archive.close()


def happens(monkeypatch: pytest.MonkeyPatch, side: str, statement: str, action: Callable[[], Any]) -> None:
    """Lets an action happen once, `before` or `after` the next run of a statement."""
    execute, pending = postgres.execute, [action]

    def watched(connection: Connection, values: dict[str, Any], *statements: str) -> list[Any]:
        if side == "before" and statement in statements and pending:
            pending.pop()()
        result = execute(connection, values, *statements)
        if side == "after" and statement in statements and pending:
            pending.pop()()
        return result

    monkeypatch.setattr(postgres, "execute", watched)
    monkeypatch.setattr("message_handler.archive.postgres_steps.execute", watched)


def backends(sql: Connection) -> list[int]:
    """The tier's connections, and the archive's."""
    found = sql.run(
        "select pid from pg_stat_activity where application_name = 'message_handler'"
        " and pid <> pg_backend_pid() and datname = current_database() and state is not null"
    )
    return [pid for (pid,) in found or ()]


def cut(sql: Connection) -> None:
    for pid in backends(sql):
        sql.run("select pg_terminate_backend(:pid, 5000)", pid=pid)


def lost() -> None:
    raise InterfaceError("network error")


class TestConnectionsThatDie:
    """Each step is done whole or not at all. A step that is repeated for a dead connection is taken once."""

    def test_a_connection_dies_between_the_read_and_the_write_of_a_step(
        self, chat: Chat, sql: Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chat.says(named("m1"))
        happens(monkeypatch, "before", "save_lines", lambda: cut(sql))
        assert chat.claimed("worker").attempts == 1
        assert chat.heartbeat() == "valid"

    @pytest.fixture
    def holder(self, migrated: Settings) -> Iterator[Connection]:
        """Another process, whose connection is not cut."""
        connection = connector(migrated)()
        connection.run("set application_name = 'holder'")
        yield connection
        connection.close()

    def test_a_connection_dies_while_a_step_writes(self, chat: Chat, sql: Connection, holder: Connection) -> None:
        """Both connections are cut: the old one and the one that replaces it."""
        chat.says(named("m1"))
        before = chat.head
        holder.run("begin")
        holder.run("select from line_states for update")
        with ThreadPoolExecutor(1) as threads:
            claim = threads.submit(chat.claim)
            for _ in range(2):
                until(lambda: blocked(sql))
                cut(sql)
            with pytest.raises(Unavailable):
                claim.result(10)
        holder.run("rollback")
        assert chat.head == before

    def test_a_connection_dies_right_before_the_commit(self, chat: Chat, sql: Connection) -> None:
        """A deferred trigger holds the transaction at its commit, when all rows are written."""
        chat.says(named("m1"))
        chat.claimed()
        ended = chat.end(chat.head, reply="Rest.") if chat.head else None
        assert ended is not None
        before = chat.head
        sql.run("select pg_advisory_lock(1)")
        sql.run(
            "create function hold() returns trigger language plpgsql as"
            " $$ begin perform pg_advisory_xact_lock(1); return null; end $$"
        )
        sql.run(
            "create constraint trigger hold after insert on ended_jobs deferrable initially deferred"
            " for each row execute function hold()"
        )
        try:
            with ThreadPoolExecutor(1) as threads:
                finished = threads.submit(lambda: chat.finish("worker", ended))
                for _ in range(2):
                    until(lambda: blocked(sql))
                    cut(sql)
                with pytest.raises(Unavailable):
                    finished.result(10)
        finally:
            sql.run("drop function hold cascade")
            sql.run("select pg_advisory_unlock(1)")
        assert chat.head == before
        assert chat.tier.job(ended.job_id) == before
        assert chat.finish("worker", ended).done

    def test_a_connection_dies_after_the_commit_with_the_answer_lost(
        self, chat: Chat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection is replaced and the save repeated. The save's own version shows that it was done."""
        chat.tier.ping()
        happens(monkeypatch, "after", "save_lines", lost)
        accepted = chat.says(named("m1"))
        assert (accepted.lock_id, accepted.duplicate) == ("lock-1", False)
        happens(monkeypatch, "after", "save_lines", lost)
        assert chat.claimed("worker").attempts == 1
        assert chat.heartbeat("worker") == "valid"

    def test_an_answer_that_is_lost_twice_is_told_and_the_step_is_whole(
        self, chat: Chat, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chat.says(named("m1"))
        for _ in range(2):
            happens(monkeypatch, "after", "save_lines", lost)
        with pytest.raises(Unavailable):
            chat.claim("worker")
        assert attempts(chat) == 1
        assert chat.heartbeat("worker") == "valid"


def blocked(sql: Connection) -> bool:
    found = sql.run(
        "select exists (select from pg_locks join pg_stat_activity using (pid)"
        " where not granted and datname = current_database())"
    )
    return bool(found[0][0])


class TestRoundTrips:
    """Each round trip makes the patient wait longer."""

    @pytest.fixture
    def trips(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Counts the round trips."""
        counted, wait = [0], Connection.handle_messages

        def count(connection: Connection, context: Any) -> None:
            counted[0] += 1
            wait(connection, context)

        monkeypatch.setattr(Connection, "handle_messages", count)
        return counted

    def test_a_step_on_a_line_that_was_seen_costs_one_as_a_fence_and_a_commit_do(
        self, chat: Chat, other_process: Chat, talk: Conversation, trips: list[int]
    ) -> None:
        def cost[T](step: Callable[[], T]) -> T:
            before = trips[0]
            result = step()
            costs.append(trips[0] - before)
            return result

        costs: list[int] = []
        chat.says(named("m0"))
        talk.archive.ping()
        other_process.tier.ping()
        cost(lambda: other_process.says(named("m1")))
        cost(lambda: other_process.says(named("m2")))
        job = cost(chat.claimed)
        fence = cost(lambda: talk.archive.fence(job, successor_id=talk.id(50), turns=10, drain=True))
        assert fence.number is not None
        number = fence.number
        chat.clock.advance(1)
        cost(chat.heartbeat)
        sealed = cost(lambda: chat.seal(["m0", "m1", "m2"]))
        assert sealed.job is not None
        ended = chat.end(sealed.job, reply="Rest.")
        assert cost(lambda: talk.archive.commit(ended, number))
        assert cost(lambda: chat.finish("worker", ended)).done
        assert costs == [2, 1, 2, 1, 1, 1, 1, 1]


class TestSweep:
    """Lines that were answered on another tier are forgotten, and so are lines that are long idle."""

    def test_a_line_that_was_answered_on_another_tier_wakes_no_worker(
        self, chat: Chat, talk: Conversation, sql: Connection, clock: Clock, settings: Settings
    ) -> None:
        chat.says(named("m0"), named("m1"))
        talk.answer(900, "m0")
        clock.advance(settings.wake_after)
        assert [job.job_id for job in chat.tier.sweep(older_than=DAY)] == [chat.job_id(1)]
        talk.answer(901, "m1")
        clock.advance(DAY)
        assert chat.tier.sweep(older_than=DAY) == []
        assert (chat.head, chat.lock, chat.tier.job(chat.job_id(1))) == (None, None, None)
        assert rows(sql, "line_states") == 0

    def test_what_waits_for_the_next_job_counts_too(
        self, chat: Chat, talk: Conversation, clock: Clock, settings: Settings
    ) -> None:
        chat.says(named("m0"))
        chat.claimed()
        chat.seal(["m0"])
        chat.says(named("m1"))
        talk.answer(900, "m0")
        clock.advance(settings.heartbeat_stale)
        assert chat.tier.sweep(older_than=DAY) == [chat.head]
        assert chat.head is not None

    def test_a_line_that_a_live_worker_holds_is_left_to_it(
        self, chat: Chat, talk: Conversation, clock: Clock, settings: Settings
    ) -> None:
        chat.says(named("m0"))
        chat.claimed()
        talk.answer(900, "m0")
        chat.tier.sweep(older_than=DAY)
        assert chat.heartbeat() == "valid"
        clock.advance(settings.heartbeat_stale)
        assert chat.tier.sweep(older_than=DAY) == []
        assert chat.heartbeat() == "lost"

    def test_another_tenants_answer_settles_nothing(
        self, chat: Chat, postgres_archive: PostgresArchive, clock: Clock, settings: Settings
    ) -> None:
        chat.says(named("m0"))
        for key in (ConversationKey("other", KEY.conversation_id), ConversationKey(KEY.platform_id, "other")):
            Conversation(postgres_archive, key).answer(900, "m0")
        clock.advance(settings.wake_after)
        assert chat.tier.sweep(older_than=DAY) == [chat.head]
        assert chat.head is not None

    def test_an_answered_line_and_its_job_are_deleted_after_an_hour(
        self, chat: Chat, sql: Connection, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.answered()
        clock.advance(settings.job_ttl - 1)
        chat.tier.sweep(older_than=DAY)
        assert (rows(sql, "line_states"), rows(sql, "ended_jobs")) == (1, 1)
        clock.advance(1)
        chat.tier.sweep(older_than=DAY)
        assert (rows(sql, "line_states"), rows(sql, "ended_jobs")) == (0, 0)

    def test_a_tenants_own_sweep_deletes_nothing_of_another(
        self, chat: Chat, sql: Connection, clock: Clock, settings: Settings
    ) -> None:
        chat.says("a")
        chat.answered()
        clock.advance(settings.job_ttl)
        chat.tier.sweep(older_than=DAY, platform_id="other")
        assert (rows(sql, "line_states"), rows(sql, "ended_jobs")) == (1, 1)
        chat.tier.sweep(older_than=DAY, platform_id=KEY.platform_id)
        assert (rows(sql, "line_states"), rows(sql, "ended_jobs")) == (0, 0)

    def test_late_duplicates_do_not_lengthen_an_answered_lines_hour(
        self, chat: Chat, sql: Connection, clock: Clock, settings: Settings
    ) -> None:
        chat.says(named("m1"))
        chat.answered()
        clock.advance(settings.job_ttl - 1)
        chat.tier.forget(KEY, ["m1"])
        clock.advance(1)
        chat.tier.sweep(older_than=DAY)
        assert rows(sql, "line_states") == 0

    def test_a_line_that_waits_is_kept_for_ever(self, chat: Chat, clock: Clock) -> None:
        chat.says("a")
        clock.advance(100 * DAY)
        assert chat.tier.sweep(older_than=DAY) == [chat.head]
        assert chat.head is not None

    def test_an_end_that_the_archive_lacks_is_kept_until_it_has_it(
        self, chat: Chat, sql: Connection, clock: Clock, settings: Settings
    ) -> None:
        chat.says(named("m1", "it hurts"))
        ended = chat.end(chat.claimed(), reply="Rest.", unarchived=True)
        assert chat.finish("worker", ended).done
        clock.advance(13 * DAY)
        chat.tier.sweep(older_than=DAY)
        assert chat.words(ended.job_id) == ["it hurts"]
        chat.tier.archived(chat.key, ended.job_id)
        job = chat.tier.job(ended.job_id)
        assert job is not None
        assert (job.unarchived, job.reply, chat.words(job)) == (False, "Rest.", [""])
        clock.advance(settings.job_ttl)
        chat.tier.sweep(older_than=DAY)
        assert (chat.tier.job(ended.job_id), rows(sql, "ended_jobs")) == (None, 0)

    def test_a_line_that_changed_since_it_was_found_due_is_left_alone(
        self, chat: Chat, other_process: Chat, clock: Clock, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chat.says("a")
        clock.advance(settings.wake_after)
        happens(monkeypatch, "after", "due_lines", lambda: other_process.claimed("worker"))
        assert chat.tier.sweep(older_than=DAY) == []
        assert chat.heartbeat("worker") == "valid"


class TestDrain:
    """The service is back on Redis. The fence brings along the messages that wait here (counterexample 8)."""

    def waiting(self, talk: Conversation, job: Job, *, drain: bool = True) -> tuple[Message, ...]:
        fence = talk.archive.fence(job, successor_id=talk.id(50), turns=0, drain=drain)
        return fence.waiting

    def test_what_waits_comes_oldest_first_with_its_ids(self, chat: Chat, talk: Conversation) -> None:
        chat.says("a")
        chat.says(named("m0", "a"))
        chat.claimed()
        chat.seal(["minted-0"])
        chat.says(named("m1", "b"))
        first = Message("minted-0", "a", given=True, aliases=("m0",))
        assert self.waiting(talk, talk.job(1, "m2")) == (first, named("m1", "b"))
        assert self.waiting(talk, talk.job(1, "m2"), drain=False) == ()

    def test_waiting_messages_come_too_where_a_part_of_the_job_is_settled(self, chat: Chat, talk: Conversation) -> None:
        chat.says(named("m0"))
        talk.answer(1, "m1")
        job = talk.job(2, "m1", "m2")
        assert talk.archive.fence(job, successor_id=talk.id(50), turns=0, drain=True).number is None
        assert self.waiting(talk, job) == (named("m0"),)

    def test_a_settled_message_stays_where_it_is(self, chat: Chat, talk: Conversation) -> None:
        chat.says(named("m0"), named("m1"))
        talk.answer(1, "m0")
        assert self.waiting(talk, talk.job(2, "m2")) == (named("m1"),)

    def test_the_jobs_own_messages_do_not_come_again(self, chat: Chat, talk: Conversation) -> None:
        chat.says("a", "b", "c")
        chat.says(named("m0", "a"))
        by_alias = Message("other", "a", aliases=("m0",))
        by_name, by_its_alias = Message("minted-1", "b"), Message("another", "c", aliases=("minted-2",))
        assert self.waiting(talk, talk.job(1, by_alias, by_name, by_its_alias)) == ()
        assert [m.content for m in self.waiting(talk, talk.job(1, by_alias))] == ["b", "c"]

    def test_nothing_of_other_conversations_comes(self, chat: Chat, postgres_archive: PostgresArchive) -> None:
        chat.says(named("m0"))
        for key in (ConversationKey("other", KEY.conversation_id), ConversationKey(KEY.platform_id, "other")):
            talk = Conversation(postgres_archive, key)
            assert self.waiting(talk, talk.job(1, "m1")) == ()

    def test_nothing_comes_of_an_idle_conversation(self, chat: Chat, talk: Conversation) -> None:
        assert self.waiting(talk, talk.job(1, "m1")) == ()
        chat.says(named("m0"))
        chat.answered()
        assert self.waiting(talk, talk.job(1, "m1")) == ()


def test_times_are_the_servers_where_no_test_sets_them(migrated: Settings, sql: Connection, chat: Chat) -> None:
    tier = PostgresTier(database_of(migrated), Settings())
    tier.accept(replace(chat.request("a"), key=KEY), job_id=chat.job_id(1), lock_id="lock")
    before, after = (float(sql.run("select extract(epoch from clock_timestamp())")[0][0]) for _ in range(2))
    lock = tier.lock(KEY)
    assert lock is not None
    assert before - 60 < lock.acquired_at <= after
    assert tier.sweep(older_than=DAY) == []
    tier.close()
