"""The records of a batch share one transaction or script of a store, and each gets the answer as if it were alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
import redis
from pg8000.exceptions import InterfaceError
from pg8000.native import Connection
from pydantic import SecretStr

from local.stores import Server
from message_handler.archive.postgres import PostgresArchive
from message_handler.archive.postgres_jobs import end_values
from message_handler.archive.postgres_steps import commit_jobs
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import OtherBot, Unavailable
from message_handler.domain.jobs import Job, JobStatus
from message_handler.domain.messages import Request, new_message
from message_handler.domain.records import AnyRecord, ArchiveRecord, Outcome
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.postgres import Database
from message_handler.drivers.postgres_connection import connector
from message_handler.drivers.postgres_errors import StatementRefused
from message_handler.drivers.redis import connect
from message_handler.drivers.redis_cluster import ClusterClient
from message_handler.ports.archive import Committed
from message_handler.ports.line_store import Save
from message_handler.ports.tier import Tier
from message_handler.protocol.results import AcceptAgain, Accepted
from message_handler.settings import Settings
from message_handler.tiers.line_tier import LineTier
from message_handler.tiers.postgres import PostgresTier
from message_handler.tiers.redis import RedisTier
from message_handler.wiring import build
from tests.contract.chat import BOT, Chat, Clock, named
from tests.contract.cluster import chat_on
from tests.contract.conversation import Conversation
from tests.contract.gate import Gate
from tests.contract.threads import until
from tests.servers import Cluster, port_of

MOST = 10


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MOST + 1) as threads:
        yield threads


@pytest.fixture
def talks(postgres_archive: PostgresArchive, postgres_database: Database, gate: Gate) -> list[Conversation]:
    archive = PostgresArchive(postgres_database)
    return [Conversation(archive, ConversationKey("clinic", f"patient-{number}")) for number in range(MOST)]


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statement of each round trip, in order."""
    made: list[str] = []
    wait = Connection.handle_messages

    def count(connection: Connection, context: Any) -> None:
        made.append(context.statement)
        wait(connection, context)

    monkeypatch.setattr(Connection, "handle_messages", count)
    return made


class TestPostgres:
    @pytest.fixture
    def jobs(self, talks: list[Conversation]) -> list[Job]:
        return [talk.job(1, "m0") for talk in talks]

    def fences(self, talks: list[Conversation], jobs: list[Job], threads: ThreadPoolExecutor, gate: Gate) -> list[Any]:
        return gate.together(
            threads, *(lambda talk=talk, job=job: talk.fence(job) for talk, job in zip(talks, jobs, strict=True))
        )

    def commits(
        self,
        talks: list[Conversation],
        ends: list[Job],
        threads: ThreadPoolExecutor,
        gate: Gate,
        numbers: Iterable[int] = (1,) * MOST,
    ) -> list[Any]:
        commit, pairs = talks[0].archive.commit, zip(ends, numbers, strict=True)
        return gate.together(threads, *(lambda end=end, fence=fence: commit(end, fence) for end, fence in pairs))

    def test_a_batch_is_fenced_and_committed_in_a_few_round_trips(
        self,
        talks: list[Conversation],
        jobs: list[Job],
        trips: list[str],
        threads: ThreadPoolExecutor,
        gate: Gate,
    ) -> None:
        fences = self.fences(talks, jobs, threads, gate)
        assert [fence.number for fence in fences] == [1] * MOST
        ends = [talk.completed(job, f"to {talk.key}") for talk, job in zip(talks, jobs, strict=True)]
        assert self.commits(talks, ends, threads, gate) == [Committed(delivers=False)] * MOST
        assert len(trips) == 4
        for talk in talks:
            assert talk.turns() == [("user", "text of m0"), ("assistant", f"to {talk.key}")]

    def test_a_job_that_may_not_run_keeps_no_other_from_running(
        self, talks: list[Conversation], jobs: list[Job], threads: ThreadPoolExecutor, gate: Gate
    ) -> None:
        talks[4].answer(7, "m0")
        fences = self.fences(talks, jobs, threads, gate)
        assert [fence.number for fence in fences] == [1] * 4 + [None] + [1] * 5
        assert fences[4].settled == {"m0": talks[4].id(7)}
        assert fences[4].ended.status is JobStatus.CANCELLED

    def test_each_fence_returns_its_own_turns_alone(
        self, talks: list[Conversation], threads: ThreadPoolExecutor, gate: Gate
    ) -> None:
        for number, talk in enumerate(talks):
            talk.answer(1, "m0", reply=f"reply {number}")
        fences = self.fences(talks, [talk.job(2, "m1") for talk in talks], threads, gate)
        replies = [[turn.content for turn in fence.turns if turn.role == "assistant"] for fence in fences]
        assert replies == [[f"reply {number}"] for number in range(MOST)]

    def test_a_message_that_another_settled_keeps_no_other_job_from_its_commit(
        self, talks: list[Conversation], jobs: list[Job], threads: ThreadPoolExecutor, gate: Gate
    ) -> None:
        """Its commit violates a unique key, which rolls the whole transaction back."""
        talks[4].answer(9, "other")
        numbers = [talk.number(job) for talk, job in zip(talks, jobs, strict=True)]
        ends = [talk.completed(job) for talk, job in zip(talks, jobs, strict=True)]
        ends[4] = replace(ends[4], messages=(*ends[4].messages, named("other")))
        committed = self.commits(talks, ends, threads, gate, numbers)
        assert [bool(each) for each in committed] == [True] * 4 + [False] + [True] * 5
        assert talks[4].settled("m0", "other") == [None, talks[4].id(9)]
        assert all(talk.settled("m0") == [talk.id(1)] for talk in talks if talk is not talks[4])

    def test_what_postgres_refuses_of_one_is_raised_for_that_one(
        self, talks: list[Conversation], jobs: list[Job], threads: ThreadPoolExecutor, gate: Gate
    ) -> None:
        jobs[4] = replace(jobs[4], attempts=2**40)
        fences = self.fences(talks, jobs, threads, gate)
        assert [number for number, fence in enumerate(fences) if isinstance(fence, Exception)] == [4]
        assert str(fences[4]) == "Postgres refused a statement (SQLSTATE 22003)"
        assert [fence.number for fence in (*fences[:4], *fences[5:])] == [1] * 9

    @pytest.mark.parametrize(
        ("step", "made", "asked"),
        # The first one, then nine together, then those without an answer: one alone, or all nine if the row is new.
        [("take_fences", True, 1 + 1 + 1), ("take_fences", False, 1 + 1 + 9), ("commit_jobs", True, 1 + 1 + 1)],
        ids=["fence", "new", "commit"],
    )
    def test_a_locked_conversation_keeps_no_other_waiting(
        self,
        talks: list[Conversation],
        jobs: list[Job],
        migrated: Settings,
        threads: ThreadPoolExecutor,
        gate: Gate,
        trips: list[str],
        step: str,
        made: bool,
        asked: int,
    ) -> None:
        """While the one waits, the others are answered and their rows are free."""
        if made:
            for talk, job in zip(talks, jobs, strict=True):
                talk.number(job)
        archive: Any = talks[0].archive
        held, others = talks[4].key.conversation_id, [*talks[:4], *talks[5:]]
        with closing(connector(migrated)()) as other, closing(connector(migrated)()) as third:
            other.run("begin")
            if made:
                other.run("select 1 from conversations where conversation_id = :id for update", id=held)
            else:
                add = "insert into conversations (platform_id, conversation_id, bot_id) values ('clinic', :id, 'nurse')"
                other.run(add, id=held)
            pairs = list(zip(talks, jobs, strict=True))
            trips.clear()
            if step == "take_fences":
                calls: list[Callable[[], Any]] = [lambda talk=t, job=j: talk.fence(job) for t, j in pairs]
            else:
                calls = [lambda talk=t, job=j: archive.commit(talk.completed(job), 1) for t, j in pairs]
            answered: list[int] = []

            def noted(number: int, call: Callable[[], Any]) -> Any:
                try:
                    return call()
                finally:
                    answered.append(number)

            noting = [lambda number=n, call=call: noted(number, call) for n, call in enumerate(calls)]
            with ThreadPoolExecutor(1) as group:
                asking = group.submit(gate.together, threads, *noting)  # type: ignore[arg-type]
                until(lambda: len(answered) == MOST - 1)
                assert 4 not in answered
                free = third.run("select conversation_id from conversations for update skip locked")
                assert {talk.key.conversation_id for talk in others} <= {name for (name,) in free}
                other.run("rollback")
                answers = asking.result(30)
        assert not [answer for answer in answers if isinstance(answer, Exception) or not answer]
        assert sorted(answered) == [*range(MOST)]
        assert trips.count(step) == asked

    def test_an_error_of_one_call_is_no_others_concern(
        self, talks: list[Conversation], jobs: list[Job], threads: ThreadPoolExecutor, gate: Gate
    ) -> None:
        """One text can't be encoded, and so the whole transaction can't be sent."""
        numbers = [talk.number(job) for talk, job in zip(talks, jobs, strict=True)]
        ends = [talk.completed(job) for talk, job in zip(talks, jobs, strict=True)]
        ends[4] = replace(ends[4], reply="half a letter: \ud800")
        committed = self.commits(talks, ends, threads, gate, numbers)
        assert [number for number, each in enumerate(committed) if isinstance(each, ValueError)] == [4]
        assert [each for each in committed if each == Committed(delivers=False)] == [Committed(delivers=False)] * 9

    def test_a_thread_that_is_refused_with_the_others_goes_alone_at_the_same_time(
        self,
        talks: list[Conversation],
        jobs: list[Job],
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
        gate: Gate,
    ) -> None:
        """Each goes alone in its own thread. So ten commits, of which one is refused, wait for two round trips."""
        talks[4].answer(9, "other")
        numbers = [talk.number(job) for talk, job in zip(talks, jobs, strict=True)]
        ends = [talk.completed(job) for talk, job in zip(talks, jobs, strict=True)]
        ends[4] = replace(ends[4], messages=(*ends[4].messages, named("other")))
        going, alone, wait = list[int](), threading.Barrier(MOST - 1), Connection.handle_messages

        def meets(connection: Connection, context: Any) -> None:
            """The first trip and the group's return at once. The others wait until all of them are under way."""
            going.append(threading.get_ident())
            if len(going) > 2:
                alone.wait(10)
            wait(connection, context)

        with monkeypatch.context() as patch:
            patch.setattr(Connection, "handle_messages", meets)
            committed = self.commits(talks, ends, threads, gate, numbers)
        done = Committed(delivers=False)
        assert committed == [*[done] * 4, None, *[done] * 5]
        assert len(going) == 1 + 1 + 9
        assert len(set(going[2:])) == 9

    @pytest.mark.parametrize("lost", [2, 5])
    def test_a_commit_is_reported_whatever_becomes_of_the_others(
        self,
        talks: list[Conversation],
        jobs: list[Job],
        threads: ThreadPoolExecutor,
        gate: Gate,
        lost: int,
    ) -> None:
        """The group is refused. Each goes alone at the same time, and one loses its connection."""
        talks[4].answer(9, "other")
        numbers = [talk.number(job) for talk, job in zip(talks, jobs, strict=True)]
        ends = [talk.completed(job) for talk, job in zip(talks, jobs, strict=True)]
        ends[4] = replace(ends[4], messages=(*ends[4].messages, named("other")))
        alone = threading.Barrier(MOST - 1)

        def meet(items: list[Any]) -> None:
            if len(items) == 1 and items[0]["conversation_id"] != talks[0].key.conversation_id:
                alone.wait(10)  # all at the same time, each in its own thread
                if items[0]["conversation_id"] == talks[lost].key.conversation_id:
                    raise Unavailable("Postgres")

        gate.meanwhile = meet
        committed = self.commits(talks, ends, threads, gate, numbers)
        assert [n for n, each in enumerate(committed) if isinstance(each, Unavailable)] == [lost]
        assert committed[4] is None
        assert sum(each == Committed(delivers=False) for each in committed) == 8

    def test_a_stale_fence_is_refused_and_the_others_commit(
        self, talks: list[Conversation], jobs: list[Job], threads: ThreadPoolExecutor, gate: Gate
    ) -> None:
        for talk, job in zip(talks, jobs, strict=True):
            talk.number(job)
        talks[4].number(jobs[4])
        ends = [talk.completed(job) for talk, job in zip(talks, jobs, strict=True)]
        committed = self.commits(talks, ends, threads, gate)
        assert [bool(each) for each in committed] == [True] * 4 + [False] + [True] * 5

    def test_jobs_of_one_conversation_go_one_after_the_other(
        self, talks: list[Conversation], threads: ThreadPoolExecutor, gate: Gate
    ) -> None:
        talk = talks[0]
        jobs = [talk.job(number, f"m{number}") for number in range(1, 5)]
        fences = self.fences([talk] * 4, jobs, threads, gate)
        assert [fence.number for fence in fences] == [1, 2, 3, 4]

    def test_a_commit_whose_answer_was_lost_is_one_when_it_is_repeated(
        self,
        talks: list[Conversation],
        jobs: list[Job],
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
        gate: Gate,
    ) -> None:
        """The thread that goes for all loses its connection between the commit and the answer."""
        for talk, job in zip(talks, jobs, strict=True):
            talk.number(job)
        ends = [talk.completed(job) for talk, job in zip(talks, jobs, strict=True)]
        wait = Connection.handle_messages

        def is_cut(connection: Connection, context: Any) -> None:
            wait(connection, context)
            raise InterfaceError("network error")

        with monkeypatch.context() as patch:
            patch.setattr(Connection, "handle_messages", is_cut)
            committed = self.commits(talks, ends, threads, gate)
        assert all(isinstance(each, Unavailable) for each in committed)
        assert all(talk.settled("m0") == [talk.id(1)] for talk in talks)
        assert all(talks[0].archive.commit(end, 1) for end in ends)
        for talk in talks:
            assert talk.turns() == [("user", "text of m0"), ("assistant", "Rest.")]

    def test_a_thread_that_is_cut_off_with_the_others_does_not_ask_again(
        self,
        talks: list[Conversation],
        jobs: list[Job],
        migrated: Settings,
        threads: ThreadPoolExecutor,
        monkeypatch: pytest.MonkeyPatch,
        gate: Gate,
    ) -> None:
        """Postgres is away, and the breaker tells each thread so. No thread waits for Postgres a second time."""
        ends = [talk.completed(job) for talk, job in zip(talks, jobs, strict=True)]
        numbers = [talk.number(job) for talk, job in zip(talks, jobs, strict=True)]
        made, wait = list[str](), Connection.handle_messages

        def is_cut(connection: Connection, context: Any) -> None:
            made.append(context.statement)
            wait(connection, context)
            if len(made) > 1:
                raise InterfaceError("network error")

        with closing(Database(connector(migrated), CircuitBreaker("Postgres", retry_after=60))) as database:
            archive = PostgresArchive(database)
            monkeypatch.setattr(Connection, "handle_messages", is_cut)
            pairs = zip(ends, numbers, strict=True)
            first, *others = gate.together(threads, *(lambda e=e, n=n: archive.commit(e, n) for e, n in pairs))
        assert first == Committed(delivers=False)
        assert all(isinstance(each, Unavailable) for each in others)
        # First one alone, then all others: on an old connection, and once more on a new one.
        assert made == ["commit_jobs"] * 3

    @pytest.mark.parametrize("step", ["fence", "commit"])
    def test_two_groups_never_wait_for_each_other(
        self,
        talks: list[Conversation],
        jobs: list[Job],
        migrated: Settings,
        threads: ThreadPoolExecutor,
        gate: Gate,
        step: str,
    ) -> None:
        """Each group takes the rows in the same order. While it waits for the first row, it has none of the others.

        group 1: m0 … m9     group 2: m9 … m0     With m9 locked, group 2 would wait for m0, and group 1 for m9.
        """
        archive, (first, *_, last) = talks[0].archive, talks
        for talk, job in reversed(list(zip(talks, jobs, strict=True))):  # the rows are not stored in that order either
            talk.number(job)
        ends = [talk.completed(job) for talk, job in zip(talks, jobs, strict=True)]
        with closing(connector(migrated)()) as other, closing(connector(migrated)()) as third:
            lock = "select 1 from conversations where conversation_id = :id for update skip locked"
            other.run("begin")
            other.run(lock, id=first.key.conversation_id)
            backwards = [*range(MOST - 1, -1, -1)]
            spare = Conversation(archive, ConversationKey("clinic", "spare"))
            if step == "fence":
                calls: list[Callable[[], Any]] = [lambda n=n: talks[n].fence(jobs[n]) for n in backwards]
                ahead: Callable[[], Any] = lambda: spare.fence(spare.job(1, "m0"))  # noqa: E731
            else:
                calls = [lambda n=n: archive.commit(ends[n], 1) for n in backwards]
                ahead = lambda: archive.commit(spare.completed(spare.job(1, "m0")), 1)  # noqa: E731
            group = ThreadPoolExecutor(1).submit(gate.together, threads, ahead, *calls)
            until(lambda: is_blocked(third))
            third.run("begin")
            free = third.run(lock, id=last.key.conversation_id)
            third.run("rollback")
            other.run("rollback")
            assert all(group.result(30)[1:])
            assert free

    def test_a_fence_sees_what_was_settled_while_it_waited(self, talks: list[Conversation], migrated: Settings) -> None:
        # another run: commits its reply ─────────────────────┐ in the end
        # fence: began before, waits for the conversation's row ┴ must see that the message is settled
        talk = talks[0]
        number, end = talk.number(talk.job(1, "m0")), talk.completed(talk.job(1, "m0"))
        with closing(connector(migrated)()) as other, closing(connector(migrated)()) as third:
            other.run("begin")
            assert commit_jobs(other, [end_values(end) | {"fence": number}]) == [Committed(delivers=False)]
            fencing = ThreadPoolExecutor(1).submit(talk.fence, talk.job(2, "m0"))
            until(lambda: is_blocked(third))
            other.run("commit")
        assert fencing.result(30).number is None
        assert fencing.result().settled == {"m0": talk.id(1)}


def is_blocked(connection: Connection) -> bool:
    found = connection.run(
        "select exists (select from pg_locks join pg_stat_activity using (pid)"
        " where not granted and datname = current_database())"
    )
    return bool(found[0][0])


class TestTier:
    """The workers of a batch take steps at the same moment, over every store."""

    @pytest.fixture
    def together(self, tier: LineTier, settings: Settings, clock: Clock, gate: Gate) -> LineTier:
        return LineTier(tier.store, settings, clock, together=True)

    @pytest.fixture
    def chats(self, together: LineTier, clock: Clock) -> list[Chat]:
        tier = cast(Tier, together)
        return [Chat(tier, clock, ConversationKey("clinic", f"patient-{number}")) for number in range(MOST)]

    @pytest.fixture
    def trips(self, together: LineTier, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """How many lines each save was for."""
        sizes: list[int] = []
        save = together.store.save

        def counted(saves: list[Save]) -> Any:
            sizes.append(len(saves))
            return save(saves)

        monkeypatch.setattr(together.store, "save", counted)
        return sizes

    def at_once(self, chats: list[Chat], call: Callable[[Chat], Any], gate: Gate) -> list[Any]:
        with ThreadPoolExecutor(len(chats)) as threads:
            return gate.together(threads, *(lambda chat=chat: call(chat) for chat in chats))

    def claim(self, chat: Chat) -> Any:
        request = chat.request("Hello.")
        return chat.tier.claim(chat.key, "worker", AcceptAgain(request, chat.job_id(1), chat.job_id(2)))

    def test_each_gets_its_own_answer(self, chats: list[Chat], trips: list[int], gate: Gate) -> None:
        claims = self.at_once(chats, self.claim, gate)
        assert [claim.job.key for claim in claims] == [chat.key for chat in chats]
        assert trips == [1, MOST - 1]
        chats[4].tier.force_release(chats[4].key)
        chats[5].says("More.")
        answered = [[message.message_id for message in claim.job.messages] for claim in claims]

        verdicts = [chat.seal(seen).verdict for chat, seen in zip(chats, answered, strict=True)]
        assert verdicts == ["sealed"] * 4 + ["lost", "again"] + ["sealed"] * 4

    def test_steps_on_one_conversation_are_one_save(
        self, chats: list[Chat], clock: Clock, trips: list[int], gate: Gate
    ) -> None:
        first, *_ = chats
        others = [Chat(first.tier, clock, first.key, accepts=number) for number in range(MOST)]
        accepted = self.at_once(others, lambda chat: chat.says(named(f"m{chat.accepts}")), gate)
        assert trips == [1, 1]
        assert [answer.lock_id for answer in accepted] == ["lock-1"] + [None] * (MOST - 1)
        assert sorted(answer.consolidated_messages for answer in accepted) == list(range(1, MOST + 1))
        assert len(first.words(first.head)) == MOST

    def test_a_refused_step_changes_nothing_for_the_others(self, chats: list[Chat], clock: Clock, gate: Gate) -> None:
        first, *_ = chats
        others = [Chat(first.tier, clock, first.key, accepts=number) for number in range(4)]

        def says(chat: Chat) -> Any:
            return chat.says(named(f"m{chat.accepts}"), bot="another" if chat.accepts == 2 else BOT)

        answers = self.at_once(others, says, gate)
        assert [type(answer) for answer in answers] == [Accepted, Accepted, OtherBot, Accepted]
        assert first.words(first.head) == ["text of m0", "text of m1", "text of m3"]

    def test_a_conflict_on_one_costs_the_others_nothing(
        self, chats: list[Chat], settings: Settings, clock: Clock, trips: list[int], gate: Gate
    ) -> None:
        claims = [self.claim(chat) for chat in chats]
        another = LineTier(cast(LineTier, chats[4].tier).store, settings, clock)
        Chat(cast(Tier, another), clock, chats[4].key, minted=iter([99])).says("More.")
        trips.clear()

        def seals(chat: Chat) -> str:
            seen = [message.message_id for message in claims[chats.index(chat)].job.messages]
            return chat.tier.seal(chat.key, "worker", seen, next_id=chat.job_id(9), fenced=True).verdict

        assert self.at_once(chats, seals, gate) == ["sealed"] * 4 + ["again"] + ["sealed"] * 5
        assert trips == [1, MOST - 1, 1]

    @pytest.mark.parametrize("forgotten", [False, True])
    def test_a_failed_step_is_no_others_concern(
        self,
        redis_client: redis.Redis,
        settings: Settings,
        clock: Clock,
        gate: Gate,
        forgotten: bool,
    ) -> None:
        redis_client.flushall()
        tier = cast(Tier, RedisTier(redis_client, settings, clock, together=True))
        chats = [Chat(tier, clock, ConversationKey("clinic", f"patient-{number}")) for number in range(MOST)]
        broken = chats[4].key
        redis_client.set(f"mh:{{{broken.shard}}}:state:{broken.platform_id}/{broken.conversation_id}", "no hash")
        if forgotten:
            redis_client.script_flush()
        claims = self.at_once(chats, self.claim, gate)
        assert [number for number, claim in enumerate(claims) if isinstance(claim, Exception)] == [4]
        assert isinstance(claims[4], redis.ResponseError)
        assert str(claims[4]).startswith("WRONGTYPE")
        assert [claim.job.key for claim in (*claims[:4], *claims[5:])] == [
            chat.key for chat in chats if chat.key != broken
        ]

    def test_what_postgres_refuses_of_one_is_no_others_concern(
        self, postgres_tier: PostgresTier, settings: Settings, clock: Clock, gate: Gate
    ) -> None:
        tier = cast(Tier, LineTier(postgres_tier.store, settings, clock, together=True))
        chats = [Chat(tier, clock, ConversationKey("clinic", f"patient-{number}")) for number in range(4)]
        said = [
            chat.request(named("m0", "no text of Postgres': \x00" if n == 2 else "Hello."))
            for n, chat in enumerate(chats)
        ]
        answers = self.at_once(chats, lambda chat: chat.accept(said[chats.index(chat)]), gate)
        assert [type(answer) for answer in answers] == [Accepted, Accepted, StatementRefused, Accepted]

    def test_a_server_that_goes_away_is_away_for_each(
        self, redis_client: redis.Redis, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch, gate: Gate
    ) -> None:
        def gone(*_: Any, **__: Any) -> None:
            raise redis.ConnectionError("gone")

        tier = cast(Tier, RedisTier(redis_client, settings, clock, together=True))
        chats = [Chat(tier, clock, ConversationKey("clinic", f"patient-{number}")) for number in range(MOST)]
        monkeypatch.setattr(redis_client.connection_pool, "get_connection", gone)
        claims = self.at_once(chats, self.claim, gate)
        assert all(isinstance(claim, Unavailable) for claim in claims)

    def test_a_cluster_without_its_setting_is_away_and_says_what_to_set(
        self, cluster: Cluster, clock: Clock, gate: Gate
    ) -> None:
        """So each record does not crash as soon as several come at once."""
        settings = Settings(redis_url=SecretStr(cluster.url), redis_timeout_ms=10_000)
        tier = RedisTier(connect(settings), settings, together=True)
        chats = [Chat(cast(Tier, tier), clock, ConversationKey("clinic", f"patient-{n}")) for n in range(MOST)]
        mended, *claims = self.at_once(chats, self.claim, gate)
        tier.close()
        assert str(mended) == "Redis (it is a cluster: set REDIS_CLUSTER=true) is not available"
        assert {type(claim) for claim in claims} == {Unavailable}

    def test_a_node_of_a_cluster_that_is_away_is_no_other_nodes_concern(
        self,
        redis_cluster_tier: RedisTier,
        cluster: Cluster,
        settings: Settings,
        clock: Clock,
        monkeypatch: pytest.MonkeyPatch,
        gate: Gate,
    ) -> None:
        tier = LineTier(redis_cluster_tier.store, settings, clock, together=True)
        chats = [chat_on(cast(Any, tier), number % 3, clock) for number in range(3)]
        for chat in chats:
            chat.says("a")  # now the client knows which node serves which slots
        client: ClusterClient = cast(Any, redis_cluster_tier.store).client
        port = port_of(cluster.nodes[1].url)
        (gone,) = (pool for pool in client.pools if pool.connection_kwargs["port"] == port)

        def lost(*_: Any, **__: Any) -> None:
            raise redis.ConnectionError("gone")

        monkeypatch.setattr(gone, "get_connection", lost)
        claims = self.at_once([chats[0], *chats], lambda chat: chat.claim(f"worker of {chats.index(chat)}"), gate)
        assert [isinstance(claim, Unavailable) for claim in claims[1:]] == [False, True, False]


@dataclass
class Posted:
    """A queue that keeps all records that it is sent."""

    records: list[AnyRecord] = field(default_factory=list)
    name: str = "posted"
    in_process: bool = False

    def send(self, record: AnyRecord, *, delay: int = 0) -> None:
        self.records.append(record)

    def close(self) -> None: ...


@pytest.mark.usefixtures("postgres_archive")  # emptied
def test_only_the_record_of_a_locked_conversation_runs_without_a_fence(
    migrated: Settings,
    valkey: Server,
    redis_client: redis.Redis,
    threads: ThreadPoolExecutor,
    gate: Gate,
) -> None:
    """Another transaction locks the row of one of ten records for longer than its worker can wait."""
    redis_client.flushall()
    changes = {"redis_url": SecretStr(valkey.url), "redis_timeout_ms": 10_000, "database_timeout": 30.0}
    parts = build(migrated.model_copy(update=changes | {"simulated_ai_delay_ms": "0"}), deployed=True)
    queue = Posted()
    intake, worker = (replace(part, queue=cast(Any, queue)) for part in (parts.intake, parts.worker))
    keys = [ConversationKey("default", f"patient-{number}") for number in range(MOST)]
    outcomes: dict[int, Outcome] = {}

    def working(message_id: str) -> list[Callable[[], None]]:
        """The work of a batch's threads, each on one message of its own conversation."""
        for key in keys:
            intake.accept(Request(key, (new_message("Hello.", message_id, time.time()),), (), "default"))
        records, queue.records = queue.records, []

        def work(number: int) -> None:
            outcomes[number] = worker.process(records[number], time.time() + 100)

        return [lambda number=number: work(number) for number in range(MOST)]  # type: ignore[misc]

    assert not any(threads.map(lambda work: work(), working("m0")))
    assert all(outcomes.pop(number).retry_in is None for number in range(MOST))
    with closing(connector(migrated)()) as other, closing(connector(migrated)()) as third:
        other.run("begin")
        other.run("select from conversations where conversation_id = :id for update", id=keys[4].conversation_id)
        with ThreadPoolExecutor(1) as group:
            gate.holds = lambda items: "turns" in items[0]  # a fence
            asking = group.submit(gate.together, threads, *working("m1"))
            until(lambda: len(outcomes) == MOST - 1)
            assert 4 not in outcomes
            while not asking.done():
                # The worker's time is up.
                third.run(
                    "select pg_cancel_backend(pid) from pg_stat_activity"
                    " where wait_event_type = 'Lock' and datname = current_database()"
                )
                time.sleep(0.01)
        other.run("rollback")
    assert asking.result() == [None] * MOST
    parts.close()
    held = outcomes.pop(4)
    assert [[job.unarchived for job in outcome.ended] for outcome in outcomes.values()] == [[False]] * (MOST - 1)
    assert [outcome.retry_in for outcome in outcomes.values()] == [None] * (MOST - 1)
    assert [job.unarchived for job in held.ended] == [True]
    assert held.retry_in is not None
    assert [type(record) for record in queue.records] == [ArchiveRecord]


@pytest.mark.parametrize("deployed", [True, False])
def test_only_deployed_functions_combine_calls(migrated: Settings, valkey: Server, deployed: bool, gate: Gate) -> None:
    """Elsewhere a thread may be interrupted, for example by Ctrl-C. Then it must not be on its way for others."""
    parts = build(migrated.model_copy(update={"redis_url": SecretStr(valkey.url)}), deployed=deployed)
    parts.close()
    # The archive's fences and commits, then each tier's steps and looks. The memory tier makes no round trips.
    together = [size for size in gate.group_sizes if size > 1]
    assert (len(together), len(gate.group_sizes)) == (6 if deployed else 0, 8)


class TestClaimingAgain:
    """A claim can accept its record again in the same step, on every tier."""

    def test_what_was_forgotten_is_claimed(self, chat: Chat) -> None:
        request = chat.request("Hello.")
        claim: Any = chat.tier.claim(chat.key, "worker", AcceptAgain(request, chat.job_id(1), chat.job_id(2)))
        assert claim.job.job_id == chat.job_id(1)
        assert [message.content for message in claim.job.messages] == ["Hello."]
        assert claim.lock_id == "worker"
        assert claim.job.bot_id == BOT

    def test_what_waits_is_claimed_once(self, chat: Chat) -> None:
        accepted = chat.says("Hello.")
        request = replace(chat.request("Hello."), messages=accepted.pending)
        claim: Any = chat.tier.claim(chat.key, "worker", AcceptAgain(request, accepted.job_id, chat.job_id(2)))
        assert claim.job.job_id == accepted.job_id
        assert len(claim.job.messages) == 1
        assert chat.heartbeat("worker") == "valid"

    def test_a_record_is_accepted_although_another_worker_holds_the_line(self, chat: Chat) -> None:
        chat.says("Hello.")
        chat.claimed("another")
        request = chat.request("More.")
        refused: Any = chat.tier.claim(chat.key, "worker", AcceptAgain(request, chat.job_id(1), chat.job_id(2)))
        assert refused.leased
        assert [message.content for message in chat.tier.jobs(chat.key)[0].messages] == ["Hello.", "More."]
        assert chat.heartbeat("another") == "valid"

    def test_a_name_that_is_taken_is_not_given_again(self, chat: Chat) -> None:
        ended = chat.answered("Rest.", "worker") if chat.says("Hello.") else None
        assert ended
        job_id = chat.tier.ended_by(chat.key, "minted-0")
        assert job_id
        request = chat.request("More.")
        claim: Any = chat.tier.claim(chat.key, "worker", AcceptAgain(request, job_id, chat.job_id(2)))
        assert claim.job.job_id == chat.job_id(2)
