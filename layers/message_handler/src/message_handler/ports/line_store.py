"""The port of the stores in which tiers keep their lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from message_handler.domain.conversations import ConversationKey
from message_handler.protocol.results import TierName

#: A process's clock and its store's may differ by up to this (seconds), which is far less than any deadline.
CLOCK_MARGIN = 0.25
#: No client waits longer for a job (seconds): the gateway gives up after 29 s.
LONGEST_WAIT = 30.0
#: The most ended messages of a conversation that a store remembers. Beyond that, a duplicate costs a record, but no AI
#: call.
MOST_REMEMBERED = 2_000


@dataclass(slots=True)
class Save:
    """One save of a line: what it compares, what it writes if all of that is as expected, and what it reads.

    It compares the field `compared` with `expected` ("" if the field is absent); `heartbeat_at`, if a step depends on
    it; and the time `now` (Unix seconds) that the step was computed with. Nothing may be remembered of the messages
    `unknown_ids`, and no job may have ended under the names `unused_names`.
    """

    key: ConversationKey
    expected: str
    now: float
    compared: Literal["version", "holder"] = "version"
    #: None: it is not compared.
    heartbeat_at: str | None = None
    #: The messages' ids and the jobs' names that the steps look up. The process knows that `known_ids` are remembered,
    #: and that jobs have ended under `taken_names`. Of the others it expects the opposite.
    unknown_ids: Sequence[str] = ()
    known_ids: Sequence[str] = ()
    unused_names: Sequence[str] = ()
    taken_names: Sequence[str] = ()

    #: The new texts, by their fields; None removes a field. The new version is among them, unless nothing changes.
    fields: dict[str, str | None] = field(default_factory=dict)
    #: When the sweep should look at the line (Unix seconds). None: no job waits. "as it is": the time stays.
    due_at: float | Literal["as it is"] | None = None
    #: The line is forgotten after this time (seconds). None: that time stays as it is.
    ttl: float | None = None
    #: What to remember of messages for `remembered_ttl` seconds, by their ids; None forgets a message.
    remembered: dict[str, str | None] = field(default_factory=dict)
    remembered_ttl: float = 0.0
    #: By the job's id: the document of a job that ended, and its life in seconds; None for a job that is in the line.
    jobs: dict[str, tuple[str, float] | None] = field(default_factory=dict)
    #: Those of `jobs` whose ends Postgres lacks. They go into the index of unarchived ends.
    unarchived: Collection[str] = ()
    #: The ids of the waiting messages and of the line's jobs, for a store whose statements look for them.
    waiting: tuple[str, ...] = ()
    line_jobs: tuple[str, ...] = ()
    #: Forget the line, everything that is remembered of it, and `jobs`.
    erases: bool = False

    #: The fields to read: as they are after the save, but before it removes fields.
    wanted: Sequence[str] = ()

    @property
    def ids(self) -> list[str]:
        return [*self.unknown_ids, *self.known_ids]

    @property
    def names(self) -> list[str]:
        return [*self.unused_names, *self.taken_names]

    def is_repeated(self, fields: dict[str, str]) -> bool:
        """Whether this save was made before, and its answer was lost."""
        return "version" in self.fields and fields.get("version") == self.fields["version"]

    def is_allowed(
        self, fields: dict[str, str], remembered: Collection[str], taken: Collection[str], now: float
    ) -> bool:
        """Whether everything is as expected: the line's fields, the store's time, and what was looked up."""
        return (
            fields.get(self.compared, "") == self.expected  # guard: one atomic step, version and holder
            and self.heartbeat_at in (None, fields.get("heartbeat_at", ""))  # guard: one atomic step, heartbeat
            and abs(now - self.now) <= CLOCK_MARGIN  # guard: one atomic step, clock
            and set(remembered).isdisjoint(self.unknown_ids)  # guard: one atomic step, ended
            and set(taken).isdisjoint(self.unused_names)  # guard: one atomic step, names
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """A save succeeded. `fields` are the ones that it wanted."""

    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A save was refused, because something was not as expected: the line at the server's time `now` (Unix seconds).

    `fields` are the line's structure. `remembered` and `taken` are what the store has of the save's `ids` and `names`.
    """

    fields: dict[str, str]
    now: float
    remembered: dict[str, str]
    taken: frozenset[str]


class LineStore(Protocol):
    """Keeps lines for a `LineTier`, as hashes of fields that the store compares and sets, but does not interpret.

    Each method raises Unavailable if the store is away.
    """

    name: TierName

    def ping(self) -> None:
        """Raises Unavailable if the store is away."""

    def save(self, saves: Sequence[Save]) -> list[Saved | Snapshot | Exception]:
        """Make each save by itself: all of it, or nothing if something was not as expected.

        The answers are in the order of the saves. An error of one save is its answer. Raises Unavailable if no save got
        an answer; each of them may then have been made.
        """

    def read(self, keys: Sequence[ConversationKey], names: Sequence[str] | None = None) -> list[dict[str, str]]:
        """The fields `names` of each line, as far as it has them, in one round trip; with None, all fields."""

    def remembered(self, key: ConversationKey, message_id: str | None = None) -> dict[str, str]:
        """What is remembered of a message, or of all messages of the conversation, by their ids."""

    def find(self, job_id: str) -> ConversationKey | str | None:
        """The conversation in whose line the job may be, or the document of the job's end; None if it is unknown."""

    def archived(self, key: ConversationKey, job_id: str, document: str | None, seconds: float) -> None:
        """Take a job out of the index of unarchived ends.

        With a `document`, it replaces the one of the job's end, if that is still there, and lives for `seconds`.
        """

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        """The entries of that index, a conversation's in the order of their ends. A bounded part, if there are many."""

    def live(self, platform_id: str) -> list[ConversationKey]:
        """The tenant's conversations in which a job waits."""

    def due(self, older_than: float, platform_id: str | None = None) -> list[ConversationKey]:
        """The conversations at which the sweep should look, and those whose lock is older than `older_than` seconds.

        With `platform_id`, those of that tenant, and nothing of another's is read.
        """

    def cached(self, name: str) -> str | None: ...

    def cache(self, name: str, text: str, seconds: float) -> None: ...

    def admit(self, name: str, per_minute: int, count: int = 1) -> float: ...

    def begin_wait(self, platform_id: str, wait_id: str, *, most: int, most_in_all: int) -> bool: ...

    def end_wait(self, platform_id: str, wait_id: str) -> None: ...

    def close(self) -> None: ...
