"""The archive in Postgres: it issues fences, commits replies, and keeps conversations and jobs for good."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from message_handler.archive import postgres_audit, postgres_handoff, postgres_steps
from message_handler.archive.erasures import is_void, is_void_on_any_clock
from message_handler.archive.postgres_jobs import (
    Values,
    end_values,
    job_values,
    key_values,
    raised_values,
    settle_values,
    settled_in,
)
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.documents import job_from_json
from message_handler.domain.handoff import ParkedMessages, ParkResult
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, Request
from message_handler.domain.raised import Raised
from message_handler.drivers.combiner import ALONE, MOST, Alone, Combiner
from message_handler.drivers.postgres import Database, execute, transaction
from message_handler.drivers.postgres_errors import StatementRefused
from message_handler.ports.archive import (
    ERASURE_MARGIN,
    ArchivedTurn,
    Committed,
    Conversation,
    Erased,
    Fence,
    Minute,
    Noted,
    Settled,
    Unsent,
    Verdict,
)
from message_handler.ports.audit import AuditEntry

if TYPE_CHECKING:
    from pg8000.native import Connection

#: What the commit gets if another commit has settled one of the messages.
_UNIQUE_VIOLATION = "23505"


class PostgresArchive:
    """Keeps the promises of `Archive` in Postgres.

    `together`: what several threads ask at the same moment becomes one transaction. This is only for processes that
    never interrupt a thread.
    """

    name: Literal["postgres", "memory", "none"] = "postgres"

    def __init__(self, database: Database, *, together: bool = True) -> None:
        self._database = database
        most = MOST if together else 1
        self._fences = Combiner[Values, list[Any]](lambda jobs: self._together(jobs, postgres_steps.take_fences), most)
        self._commits = Combiner[Values, Committed | None](
            lambda jobs: self._together(jobs, postgres_steps.commit_jobs), most
        )

    @property
    def away(self) -> bool:
        return self._database.away

    def ping(self) -> None:
        self._database.ping()

    def close(self) -> None:
        self._database.close()

    def migrate(self) -> list[str]:
        return self._database.migrate()

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        values = job_values(job) | {"turns": turns, "drains": drain, "successor_id": successor_id}
        fence = postgres_steps.fence_of(job, self._fences.ask(values, job.key))
        if fence.erased_until is not None:
            self._database.execute(values, "lock_conversation", "drop_empty_conversation")
        if fence.number is not None or fence.erased_until is not None:
            return fence
        return self._transact(lambda connection: postgres_steps.fence_or_end(connection, job, values))

    def commit(self, job: Job, fence: int) -> Committed | None:
        values = end_values(job) | {"fence": fence}
        try:
            committed = self._commits.ask(values, job.key)
        except StatementRefused as refused:
            if refused.code != _UNIQUE_VIOLATION:
                raise
            return None
        if committed is None and self._database.execute(values, "was_committed")[0][0]:
            return Committed()
        return committed

    def _together[T](
        self, jobs: list[Values], work: Callable[[Connection, list[Values]], list[T | Alone]]
    ) -> list[T | Alone | Exception]:
        """The answer for each of the jobs, from one transaction.

        If the transaction fails, each job goes alone, so that one job's error does not fail the others. This is safe:
        the transaction either changed nothing, or may be repeated. If Postgres is away, its breaker refuses each job at
        once.
        """
        try:
            return list(self._database.run(lambda connection: work(connection, jobs)))
        except Exception:
            if len(jobs) == 1:
                raise
        return [ALONE] * len(jobs)

    def _transact[T](self, step: Callable[[Connection], T]) -> T:
        """Run a step of several round trips as one transaction."""

        def work(connection: Connection) -> T:
            with transaction(connection):
                return step(connection)

        return self._database.run(work)

    def archive(self, job: Job) -> bool:
        spare_id = job.key.new_job_id()
        return self._transact(lambda connection: postgres_steps.archive(connection, job, spare_id))

    def cancel(self, job: Job) -> Verdict:
        return self._transact(lambda connection: postgres_steps.cancel(connection, job))

    def unsend(self, key: ConversationKey, message_id: str, waiting: Sequence[Job], *, at: float) -> Unsent:
        return self._transact(lambda connection: postgres_steps.unsend(connection, key, message_id, waiting, at))

    def interrupt(self, job: Job) -> None:
        self._transact(lambda connection: postgres_steps.interrupt(connection, job))

    def raise_fence(self, key: ConversationKey) -> None:
        self._database.execute(key_values(key), "raise_fence")

    def supersede(self, job: Job, successor_id: str) -> None:
        copy_id = job.key.new_job_id()
        self._transact(lambda connection: postgres_steps.supersede(connection, job, successor_id, copy_id))

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        rows = self._database.execute(key_values(key) | {"message_id": message_id}, "settled_by")
        return rows[0][0] if rows else None

    def settled(self, key: ConversationKey, message_ids: Iterable[str]) -> dict[str, Settled]:
        values = key_values(key) | {"ids": list(message_ids)}
        return settled_in(self._database.execute(values, "settled_of"))

    def settle_also(self, key: ConversationKey, message_ids: Sequence[str], end: Settled) -> None:
        values = settle_values((id_, end) for id_ in message_ids)
        self._database.execute(key_values(key) | values, "settle_also")

    def unfinished(self, *, most: int) -> list[Job]:
        return [job_from_json(row[0]) for row in self._database.execute({"most": most}, "unfinished_jobs")]

    def job(self, platform_id: str, job_id: str) -> Job | None:
        rows = self._database.execute({"platform_id": platform_id, "job_id": job_id}, "job")
        return job_from_json(rows[0][0]) if rows else None

    def jobs(
        self,
        platform_id: str,
        *,
        status: str | None,
        conversation_id: str | None,
        behind: tuple[int, str] | None,
        most: int,
    ) -> list[Job]:
        created, job_id = behind or (None, None)
        values = {"platform_id": platform_id, "status": status, "conversation_id": conversation_id}
        rows = self._database.execute(values | {"created": created, "behind": job_id, "most": most}, "jobs")
        return [job_from_json(row[0]) for row in rows]

    def last_end(self, platform_id: str) -> float | None:
        ended: float | None = self._database.execute({"platform_id": platform_id}, "last_end")[0][0]
        return ended

    def minutes(self, platform_id: str, *, since: float, until: float) -> list[Minute]:
        rows = self._database.execute({"platform_id": platform_id, "since": since, "until": until}, "minutes")
        return [Minute(*row) for row in rows]

    def reopen(self, job: Job, entry: AuditEntry) -> bool:
        return self._transact(lambda connection: postgres_steps.reopen(connection, job, entry))

    def conversation(self, key: ConversationKey) -> Conversation | None:
        rows = self._database.execute(key_values(key), "conversation")
        if not rows:
            return None
        turns = [
            ArchivedTurn(Turn(role, content, message_id), *facts)
            for _, role, content, message_id, *facts, _, _ in rows
            if role is not None
        ]
        *_, handed_off, parked = rows[0]
        return Conversation(key, rows[0][0], turns, handed_off=handed_off, parked=tuple(parked or ()))

    def bot_of(self, key: ConversationKey) -> str | None:
        rows = self._database.execute(key_values(key), "bot_of")
        return rows[0][0] if rows else None

    def hand_off(self, key: ConversationKey, bot_id: str) -> None:
        self._database.execute(key_values(key) | {"bot_id": bot_id}, "lock_conversation", "hand_off")

    def note_sale(self, key: ConversationKey, bot_id: str, said: Sequence[Turn]) -> Noted:
        return self._transact(lambda connection: postgres_handoff.note_sale(connection, key, bot_id, said))

    def park(self, request: Request, messages: Sequence[Message]) -> ParkResult | None:
        def step(connection: Connection) -> ParkResult | None:
            values = key_values(request.key) | {"bot_id": request.bot_id}
            if request.for_a_human:
                execute(connection, values, "lock_conversation")
            human = postgres_handoff.handed_off(connection, request.key)
            until = postgres_steps.erased_until(connection, values)
            live = [message for message in messages if not is_void_on_any_clock(until, message.accepted_at)]
            parked = postgres_handoff.park(
                connection,
                request.key,
                live,
                request.context,
                request.resources,
                for_a_human=None if human else request.for_a_human,
            )
            if parked is None and request.for_a_human:
                execute(connection, values, "drop_new_conversation")
            return parked

        return self._transact(step)

    def keep_wordless(self, key: ConversationKey, bot_id: str, messages: Sequence[Message]) -> None:
        self._transact(lambda connection: postgres_steps.keep_wordless(connection, key, bot_id, messages))

    def note_raised(self, raised: Raised) -> bool:
        values = raised_values(raised)
        return bool(self._database.execute(values, "lock_conversation", "note_raised", "drop_empty_conversation"))

    def parked_under(self, key: ConversationKey, message_ids: Iterable[str]) -> tuple[Message, ...]:
        rows = self._database.execute(key_values(key) | {"ids": list(message_ids)}, "parked_under")
        return tuple(Message(id_, content, given, tuple(aliases), at) for id_, content, given, aliases, at in rows)

    def resume(self, key: ConversationKey) -> bool:
        return bool(self._database.execute(key_values(key), "resume")[0][0])

    def parked(self, key: ConversationKey) -> ParkedMessages | None:
        return self._transact(lambda connection: postgres_handoff.parked(connection, key))

    def unparked(self, key: ConversationKey, back: ParkedMessages, job_id: str) -> None:
        self._transact(lambda connection: postgres_handoff.unparked(connection, key, back, job_id))

    def to_unpark(self) -> list[ConversationKey]:
        return [ConversationKey(*row) for row in self._database.execute({}, "to_unpark")]

    def erase(self, key: ConversationKey, entry: AuditEntry | None = None) -> Erased:
        values = key_values(key) | {"bot_id": "", "margin": ERASURE_MARGIN}
        statements = ["lock_conversation", "note_erasure", "erase_conversation"]
        if entry:
            values |= postgres_audit.values(key.platform_id, entry)
            statements.insert(0, "note_audit")
        found, job_ids = self._database.execute(values, *statements)[0]
        return Erased(found, tuple(job_ids))

    def erased(self, key: ConversationKey, accepted_at: float) -> float | None:
        until = self._database.run(lambda connection: postgres_steps.erased_until(connection, key_values(key)))
        return until if is_void(until, accepted_at) else None

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        rows = self._database.execute({"platform_id": platform_id, "bot_id": bot_id}, "configuration")
        return rows[0][0] if rows else None
