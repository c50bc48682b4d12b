"""Every store of lines answers as the memory store does, whatever is saved, read and forgotten, in any order.

All stores share the protocol's code, which the simulation explores. This file compares the stores.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Any

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st

from message_handler.domain.conversations import ConversationKey
from message_handler.ports.line_store import LineStore, Save
from message_handler.settings import Settings
from message_handler.tiers.line_tier import LineTier
from message_handler.tiers.memory import MemoryLines
from tests.contract.chat import Clock, job_id_of
from tests.contract.conftest import TIERS, empty

KEYS = (ConversationKey("clinic", "patient-620"), ConversationKey("another", "patient-620"))
#: All conversations are in shards below this, so that a sweep needs to look at no others.
SHARDS = 16
IDS = ("m1", "m2", "m:3 =|")
TEXTS = ("", "a", "Dạ, 'nhức' \"đầu\" \\ 😀", "x" * 5_000)
#: How many stories run, with how many steps each. A store that is not named shares a named one's code. EXAMPLES=10 runs
#: ten times as many.
STORIES = {"redis": (35, 40), "postgres": (25, 30)}
#: Seconds after which a store may forget. A server's own clock goes on too, so it is long for a busy machine.
LIFE = 600.0
TIMES = int(os.environ.get("EXAMPLES", "1"))

text = st.sampled_from(TEXTS)
some_ids = st.lists(st.sampled_from(IDS), unique=True)
kinds = st.sampled_from(("save", "save", "save", "save", "beat", "erase", "archived", "time", "time"))


class Story:
    """The store under test and the memory store, which get the same calls."""

    def __init__(self, data: st.DataObject, other: LineStore, clock: Clock) -> None:
        self.draw = data.draw
        # Postgres has one row for both, so it forgets a line together with the ids that it remembers.
        self.seconds = (0.1, 1.0) if other.name == "postgres" else (0.1, 1.0, LIFE - 60, LIFE + 60)
        self.clock = clock
        self.stores: tuple[LineStore, ...] = (MemoryLines(Settings(), clock), other)
        self.numbers = count(1)

    def step(self) -> None:
        kind, key = self.draw(kinds), self.draw(st.sampled_from((KEYS[0], KEYS[0], KEYS[1])))
        if kind == "time":
            self.clock.advance(self.draw(st.sampled_from(self.seconds)))
        elif kind == "archived":
            job_id = self.ended_id(key)
            document = f'{{"kept": "{job_id}"}}' if self.draw(st.booleans()) else None
            self.alike(lambda store: store.archived(key, job_id, document, LIFE))
        else:
            save = self.save(key, kind)
            self.alike(lambda store: store.save([save]))
        self.looks_alike()

    def save(self, key: ConversationKey, kind: str) -> Save:
        (fields,) = self.stores[0].read([key])
        holder = fields.get("holder", "")
        compared, version = ("holder", holder or "nobody") if kind == "beat" else ("version", fields.get("version", ""))
        seen = self.draw(
            st.sampled_from((version, version, version, "" if compared == "version" else "nobody", "another"))
        )
        save = Save(key, seen, self.clock() + self.draw(st.sampled_from((0, 0, 0.2, -0.2, 0.3, -9))), compared)  # type: ignore[arg-type]
        save.jobs = (
            {self.ended_id(key): ('{"ended": true}', LIFE)} if self.draw(st.booleans()) else {job_id_of(key, 1): None}
        )
        if any(save.jobs.values()) and self.draw(st.booleans()):
            save.unarchived = list(save.jobs)
        if kind == "erase":
            save.erases, save.jobs = True, dict.fromkeys(save.jobs)
            return save
        save.due_at = self.clock() + self.draw(st.sampled_from((-1.0, 30.0)))
        save.ttl = 14 * 24 * 3600.0
        if kind == "beat":
            save.jobs, save.unarchived = {}, []
            save.fields = {
                "heartbeat_at": repr(self.clock()),
                "progress": self.draw(st.sampled_from((None, "[1,null]"))),
            }
            save.wanted = ["version"]
            return save
        save.heartbeat_at = self.draw(st.sampled_from((None, None, fields.get("heartbeat_at", ""), "1.0")))
        save.unknown_ids, save.known_ids = self.parted(self.draw(some_ids))
        save.unused_names, save.taken_names = self.parted([self.ended_id(key)] if self.draw(st.booleans()) else [])
        save.wanted = ["line", "text:1", "version"] if self.draw(st.booleans()) else []
        if self.draw(st.integers(0, 4)) == 0:
            save.jobs, save.unarchived, save.due_at = {}, [], "as it is"  # this save only compares
            return save
        again = fields.get("version") if self.draw(st.integers(0, 9)) == 0 else None
        save.fields = {"version": again or f"00000000-0000-4000-8000-{next(self.numbers):012}", "line": self.draw(text)}
        save.fields |= {f"text:{n}": self.draw(st.sampled_from((*TEXTS, None))) for n in range(3)}
        holds = self.draw(st.sampled_from(("keeps", "takes", "leaves")))
        if holds != "keeps":
            save.fields |= {
                "holder": "worker" if holds == "takes" else None,
                "heartbeat_at": repr(self.clock()) if holds == "takes" else None,
            }
        save.fields["acquired_at"] = repr(self.clock())
        save.remembered = {id_: self.draw(st.sampled_from(("[1]", "[2]", None))) for id_ in self.draw(some_ids)}
        save.remembered_ttl = LIFE
        save.line_jobs, save.waiting = (job_id_of(key, 1),), tuple(IDS[:2])
        if self.draw(st.integers(0, 2)) == 0:  # no job waits any more
            save.due_at, save.ttl, save.line_jobs, save.waiting = None, self.draw(st.sampled_from((LIFE, None))), (), ()
            save.ttl = save.ttl if version else LIFE
        return save

    def parted(self, names: list[str]) -> tuple[list[str], list[str]]:
        place = self.draw(st.integers(0, len(names)))
        return names[:place], names[place:]

    def ended_id(self, key: ConversationKey) -> str:
        """The id of a job that may have ended. The first one is in the line."""
        return job_id_of(key, self.draw(st.integers(2, 3)))

    def looks_alike(self) -> None:
        self.alike(lambda store: store.read(KEYS))
        self.alike(lambda store: store.read(KEYS[:1], ["version", "holder", "nothing"]))
        self.alike(lambda store: [store.remembered(KEYS[0]), store.remembered(KEYS[0], IDS[2])])
        self.alike(lambda store: sorted(key.conversation_id for key in store.live("clinic")))
        self.alike(lambda store: sorted(key.platform_id for key in store.due(45.0)))
        self.alike(
            lambda store: sorted((end for end in store.unarchived() if isinstance(store.find(end[1]), str)), key=repr)
        )
        self.alike(lambda store: [isinstance(store.find(job_id_of(KEYS[0], n)), str) for n in (1, 2, 3)])

    def alike(self, ask: Any) -> None:
        answers = [ask(store) for store in self.stores]
        assert answers[1:] == answers[:1]


@pytest.mark.parametrize("name", [name for name in TIERS if name != "memory"])
def test_memory_and_another_store_tell_the_same_story(
    name: str, clock: Clock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(key.shard for key in KEYS) < SHARDS
    monkeypatch.setattr("message_handler.tiers.redis.SHARDS", SHARDS)
    tier: LineTier = request.getfixturevalue(f"{name}_tier")
    examples, steps = STORIES.get(name, (10, 30))

    @hypothesis.settings(
        max_examples=examples * TIMES,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(st.data())
    def tell(data: st.DataObject) -> None:
        empty(tier)
        story = Story(data, tier.store, clock)
        for _ in range(data.draw(st.integers(steps // 2, steps))):
            story.step()

    tell()
