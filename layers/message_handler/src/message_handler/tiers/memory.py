"""The memory tier: for library users, unit tests, and as the last resort of a deployment.

Other processes do not see its locks. A status that is shown names the tier, so that people know.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from message_handler.domain.conversations import ConversationKey
from message_handler.ports.line_store import MOST_REMEMBERED, Save, Saved, Snapshot
from message_handler.protocol.line import LIVE_TTL_SECONDS
from message_handler.protocol.line_documents import STRUCTURE
from message_handler.protocol.results import TierName
from message_handler.settings import Settings
from message_handler.tiers.alone import CountsAlone
from message_handler.tiers.line_tier import LineTier


@dataclass
class Expiring[Key, Value]:
    """Values with an expiry. Each `put` also checks two others, in turn, and drops the expired ones."""

    clock: Callable[[], float]
    kept: dict[Key, tuple[Value, float]] = field(default_factory=dict)

    def put(self, key: Key, value: Value, seconds: float) -> None:
        self.kept.pop(key, None)
        now = self.clock()
        self.kept[key] = (value, now + seconds)
        for other in [*islice(self.kept, 2)]:
            kept = self.kept.pop(other)
            if kept[1] > now:
                self.kept[other] = kept

    def get(self, key: Key) -> Value | None:
        value, until = self.kept.get(key, (None, 0.0))
        return value if until > self.clock() else None


class MemoryLines(CountsAlone):
    """A `LineStore` of dictionaries under one mutex: the shortest description of what a store must do.

    `unclaimed_seconds`: after this time a line that no worker of this process has claimed is dropped. Its messages have
    records, so other processes answer them. Otherwise each message of a long outage would carry all earlier ones along.
    """

    name: TierName = "memory"

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.time, *, unclaimed_seconds: float = math.inf
    ) -> None:
        super().__init__(clock)
        self._settings = settings
        self._unclaimed_seconds = unclaimed_seconds
        self.clock = clock
        self._mutex = threading.Lock()
        self.lines = Expiring[ConversationKey, dict[str, str]](clock)
        self.due_at: dict[ConversationKey, float] = {}
        self.ends = Expiring[ConversationKey, dict[str, str]](clock)
        #: By the job's id: the document of its end, or its conversation while it lives.
        self.jobs = Expiring[str, str | ConversationKey](clock)
        #: The index of unarchived ends, by the job's id.
        self.unarchived_ends: dict[str, ConversationKey] = {}

    def ping(self) -> None:
        """Never raises: a process reaches its own memory."""

    def close(self) -> None:
        """Nothing to close."""

    def save(self, saves: Sequence[Save]) -> list[Saved | Snapshot | Exception]:
        with self._mutex:
            return [self._save(save) for save in saves]

    def _save(self, save: Save) -> Saved | Snapshot:
        key, now = save.key, self.clock()
        fields, ends = self._line(key), self.ends.get(key) or {}
        remembered = {id_: ends[id_] for id_ in save.ids if id_ in ends}
        taken = frozenset(name for name in save.names if isinstance(self.jobs.get(name), str))
        if save.is_repeated(fields):  # guard: one atomic step, repeated
            return Saved({name: fields[name] for name in save.wanted if name in fields})
        if not save.is_allowed(fields, remembered, taken, now):
            return Snapshot({name: fields[name] for name in STRUCTURE if name in fields}, now, remembered, taken)
        if save.erases:
            for kept in (self.lines.kept, self.ends.kept, self.due_at):
                kept.pop(key, None)
            for job_id in save.jobs:
                self.jobs.kept.pop(job_id, None)
                self.unarchived_ends.pop(job_id, None)
            return Saved({})
        # A step's caller may want a text that this save removes. So removals come last.
        readable = fields | {name: text for name, text in save.fields.items() if text is not None}
        wanted = {name: readable[name] for name in save.wanted if name in readable}
        if save.fields:
            fields = _changed(fields, save.fields)
            left = self.lines.kept[key][1] - now if save.ttl is None else save.ttl
            self.lines.put(key, fields, left)
        if save.due_at is None:
            self.due_at.pop(key, None)
        elif save.due_at != "as it is":
            self.due_at[key] = save.due_at
        if save.remembered:
            known = {} if len(ends) + len(save.remembered) > MOST_REMEMBERED else ends
            left = self.ends.kept.get(key, (known, now))[1] - now
            self.ends.put(key, _changed(known, save.remembered), max(left, save.remembered_ttl))
        for job_id, end in save.jobs.items():
            self.jobs.put(job_id, *(end or (key, LIVE_TTL_SECONDS)))
        self.unarchived_ends |= dict.fromkeys(save.unarchived, key)
        return Saved(wanted)

    def _line(self, key: ConversationKey) -> dict[str, str]:
        fields = self.lines.get(key) or {}
        seen_at = float(fields.get("heartbeat_at", fields.get("acquired_at", 0.0)))
        until = seen_at + self._unclaimed_seconds
        if key in self.due_at and until <= self.clock():  # guard: both stores away, unclaimed
            del self.due_at[key]
            self.lines.kept.pop(key, None)
            return {}
        return fields

    def read(self, keys: Sequence[ConversationKey], names: Sequence[str] | None = None) -> list[dict[str, str]]:
        with self._mutex:
            lines = [self._line(key) for key in keys]
        return [line if names is None else {name: line[name] for name in names if name in line} for line in lines]

    def remembered(self, key: ConversationKey, message_id: str | None = None) -> dict[str, str]:
        with self._mutex:
            ends = self.ends.get(key) or {}
            return dict(ends) if message_id is None else {id_: ends[id_] for id_ in (message_id,) if id_ in ends}

    def find(self, job_id: str) -> ConversationKey | str | None:
        with self._mutex:
            return self.jobs.get(job_id)

    def archived(self, key: ConversationKey, job_id: str, document: str | None, seconds: float) -> None:
        with self._mutex:
            self.unarchived_ends.pop(job_id, None)
            if document is not None and self.jobs.get(job_id):
                self.jobs.put(job_id, document, seconds)

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        with self._mutex:
            return [(key, job_id) for job_id, key in self.unarchived_ends.items()]

    def live(self, platform_id: str) -> list[ConversationKey]:
        with self._mutex:
            return [key for key in self.due_at if key.platform_id == platform_id]

    def due(self, older_than: float, platform_id: str | None = None) -> list[ConversationKey]:
        with self._mutex:
            now = self.clock()
            keys = [
                key
                for key in self.due_at
                if platform_id in (None, key.platform_id)  # guard: invariant 13, sweep
            ]
            acquired = {key: float(self._line(key).get("acquired_at", "inf")) for key in keys}
            due_at = {key: self.due_at[key] for key in keys if key in self.due_at}
            return [key for key, at in due_at.items() if min(at, acquired[key] + older_than) <= now]


def _changed(values: dict[str, str], changes: dict[str, str | None]) -> dict[str, str]:
    """The values with these changes, in a new dictionary, because readers may still have the old one."""
    return {name: value for name, value in {**values, **changes}.items() if value is not None}


class MemoryTier(LineTier):
    """A tier over lines in memory, which only this process sees."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.time, *, unclaimed_seconds: float = math.inf
    ) -> None:
        super().__init__(MemoryLines(settings, clock, unclaimed_seconds=unclaimed_seconds), settings, clock)
