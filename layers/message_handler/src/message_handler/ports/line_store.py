"""The port of the stores in which the tiers keep their lines."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from message_handler.domain.conversations import ConversationKey
from message_handler.protocol.results import TierName

#: The clocks of a process and of its store may differ by so much (seconds): far less than any deadline.
CLOCK_MARGIN = 0.25
#: What of a conversation's ended messages is remembered: beyond it a duplicate costs a record, not an AI call.
MOST_REMEMBERED = 2_000


@dataclass(slots=True)
class Save:
    """What one save compares, what it writes if that is as it was seen, and what it brings.

    It compares the field `compared` with `seen` ("" where it was absent), `heartbeat_at` where a step has looked at it,
    and the time that the step was computed with. It also compares that nothing is remembered of the messages `ids`, but
    of the last `known` of them, and that no job of the names `names` has ended, but of the last `taken` of them.
    """

    key: ConversationKey
    seen: str
    now: float
    compared: Literal["version", "holder"] = "version"
    #: None: whatever it is.
    heartbeat_at: str | None = None
    #: Messages that the steps look up, and names of jobs.
    ids: Sequence[str] = ()
    known: int = 0
    names: Sequence[str] = ()
    taken: int = 0

    #: By name; None for one that goes. The new version is among them, unless nothing else changes.
    fields: dict[str, str | None] = field(default_factory=dict)
    #: When the sweep should look at the line (Unix seconds); None where no job waits, "as it is" where that stays.
    due_at: float | Literal["as it is"] | None = None
    #: The line is forgotten after so many seconds; None: when it would have been.
    ttl: float | None = None
    #: What is remembered of messages, by their ids, for `remembered_ttl` seconds; None for what is forgotten.
    remembered: dict[str, str | None] = field(default_factory=dict)
    remembered_ttl: float = 0.0
    #: Documents of jobs that ended, each for so many seconds; None for one that is in the line now.
    jobs: dict[str, tuple[str, float] | None] = field(default_factory=dict)
    #: Those of `jobs` whose ends Postgres lacks: they are indexed.
    unarchived: Collection[str] = ()
    #: The messages that wait, by their ids, and the line's jobs: for a store whose statements look for them.
    waiting: tuple[str, ...] = ()
    line_jobs: tuple[str, ...] = ()
    #: Forget the line, all that is remembered of it, and `jobs`.
    erases: bool = False

    #: The fields that are wanted once it is saved.
    wanted: Sequence[str] = ()

    def is_repeated(self, fields: dict[str, str]) -> bool:
        """Whether it was saved before, and its answer was lost."""
        return "version" in self.fields and fields.get("version") == self.fields["version"]

    def is_allowed(
        self, fields: dict[str, str], remembered: Collection[str], taken: Collection[str], now: float
    ) -> bool:
        """What a store compares: the line's fields, and what was looked up."""
        return (
            fields.get(self.compared, "") == self.seen  # guard: one atomic step, version and holder
            and self.heartbeat_at in (None, fields.get("heartbeat_at", ""))  # guard: one atomic step, heartbeat
            and abs(now - self.now) <= CLOCK_MARGIN  # guard: one atomic step, clock
            and set(remembered).isdisjoint(self.ids[: len(self.ids) - self.known])  # guard: one atomic step, ended
            and set(taken).isdisjoint(self.names[: len(self.names) - self.taken])  # guard: one atomic step, names
        )


@dataclass(frozen=True, slots=True)
class Saved:
    """The fields that were wanted."""

    fields: dict[str, str]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A line as it is at the server's time `now` (Unix seconds), where a save met another than it had seen.

    `fields` are its structure; `remembered` and `taken` what there is of the save's `ids` and `names`.
    """

    fields: dict[str, str]
    now: float
    remembered: dict[str, str]
    taken: frozenset[str]


class LineStore(Protocol):
    """Keeps lines for a `LineTier`, whose they are: hashes of opaque texts, compared and set."""

    name: TierName

    def ping(self) -> None:
        """Raises Unavailable if the store is away."""

    def save(self, saves: Sequence[Save]) -> list[Saved | Snapshot | Exception]:
        """Take each save alone: all of it, or nothing where it met another line than it had seen.

        Raises Unavailable where nobody knows of any of them; what went wrong with one is its answer.
        """

    def read(self, keys: Sequence[ConversationKey], names: Sequence[str] | None = None) -> list[dict[str, str]]:
        """The named fields of each line that are there, in one round trip; None for all of them."""

    def remembered(self, key: ConversationKey, message_id: str | None = None) -> dict[str, str]:
        """What is remembered of a message, or of all of the conversation's."""

    def find(self, job_id: str) -> ConversationKey | str | None:
        """The conversation in whose line a job may be, or the document of how it ended."""

    def archived(self, key: ConversationKey, job_id: str, document: str | None, seconds: float) -> None:
        """Take a job out of the index of unarchived ends. With a `document`, replace its own, if it is still there."""

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        """What that index has, those of one conversation as they ended. Of many, a bounded part."""

    def live(self, platform_id: str) -> list[ConversationKey]:
        """The tenant's conversations in which a job waits."""

    def due(self, older_than: float) -> list[ConversationKey]:
        """The conversations at which the sweep should look, and those whose lock is older than so many seconds."""

    def cached(self, name: str) -> str | None: ...

    def cache(self, name: str, text: str, seconds: float) -> None: ...

    def admit(self, platform_id: str, per_minute: int) -> float: ...

    def close(self) -> None: ...
