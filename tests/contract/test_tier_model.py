"""Two tiers, one story: whatever is done to them in whatever order, they answer alike and keep the promises.

Hypothesis makes up stories of two conversations of the same name in two tenants, drives memory and another tier
through them under one clock and with the same ids, and after each step compares all that can be seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, cast
from unittest.mock import patch

import hypothesis
import pytest
from hypothesis import HealthCheck
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from message_handler.errors import Conflict
from message_handler.models import (
    Accepted,
    ConversationKey,
    DoubleTexting,
    Job,
    JobError,
    JobStatus,
    Lock,
    Message,
    Progress,
    Refused,
    Request,
    Turn,
)
from message_handler.settings import Settings
from message_handler.stores.memory import MemoryTier
from message_handler.stores.port import Sealed, Tier
from tests.contract.chat import BOT, Clock, job_id_of
from tests.contract.conftest import TIERS, empty

KEYS = (ConversationKey("clinic", "patient-620"), ConversationKey("another", "patient-620"))
#: All of their shards are below this, so that a sweep needs to look at no more.
SHARDS = 16
SETTINGS = Settings(max_restarts=2, job_ttl=600)
DAY = 24 * 3600.0
#: How many stories are told, and how long they are at most. What isn't named here runs a named one's code.
STORIES = {"redis": (50, 40), "postgres": (20, 30)}

keys = st.sampled_from((KEYS[0], KEYS[0], KEYS[0], KEYS[0], KEYS[1]))
indexes = st.integers(0, 7)
#: (content, id of the platform's): the same words and the same ids come again and again.
spoken = st.tuples(st.sampled_from("abcd"), st.sampled_from((None, None, None, "m1", "m2", "m3", "m4")))
histories = st.lists(spoken, min_size=1, max_size=4)
INTERFERENCES = ("cancel", "forget", "forget", "release", "hand off", "hand back", "hand back")
some = st.sets(indexes, max_size=2)
#: Whose lock id: the holder's (0 to 3), the newest, or one of before.
who = st.integers(0, 6)


class Story(RuleBasedStateMachine):
    """`tiers` holds memory and the other tier; the rest is what the teller knows of the outside."""

    def __init__(self, other: Tier, clock: Clock) -> None:
        super().__init__()
        empty(other)
        self.clock = clock
        self.tiers: tuple[Tier, ...] = (MemoryTier(SETTINGS, clock), other)
        self.numbers = count(1)
        self.locks: dict[ConversationKey, list[str]] = {key: ["nobody"] for key in KEYS}
        self.jobs: dict[ConversationKey, list[str]] = {key: [] for key in KEYS}
        self.accepted: dict[ConversationKey, list[tuple[int, Request, Accepted]]] = {key: [] for key in KEYS}
        #: How often an id was posted by accepts that still stand, and when an id left the line.
        self.posts: dict[ConversationKey, Counter[str]] = {key: Counter() for key in KEYS}
        self.left: dict[ConversationKey, dict[str, int]] = {key: {} for key in KEYS}
        self.ends: dict[str, Job] = {}
        #: Whether the last step was a claim in vain: a second one would tell nothing new.
        self.refused = False

    # What happens.

    @rule(
        key=keys,
        history=histories,
        context=st.integers(0, 2),
        resources=st.sampled_from(({}, {"user": 1}, {"user": 2})),
        bot=st.sampled_from((BOT,) * 9 + ("another",)),
        policy=st.sampled_from(("consolidate", "consolidate", "enqueue", "interrupt", "interrupt", "reject")),
        debounce=st.sampled_from((0.0, 0.0, 0.0, 4.0)),
    )
    def accept(
        self,
        key: ConversationKey,
        history: list[tuple[str, str | None]],
        context: int,
        resources: dict[str, Any],
        bot: str,
        policy: DoubleTexting = "consolidate",
        debounce: float = 0.0,
    ) -> None:
        turns = (Turn("assistant", "Hello?"),) * context
        request = Request(
            key, self._messages(history), turns, bot, resources, f"request-{next(self.numbers)}", policy, debounce, 6.0
        )
        job_id, lock_id = self._job_id(key), self._lock_id(key)
        accepted = self._both(lambda tier: tier.accept(request, job_id=job_id, lock_id=lock_id))
        if isinstance(accepted, Accepted):
            self.accepted[key].append((next(self.numbers), request, accepted))
            self.posts[key].update(accepted.posted)
            if ended := accepted.interrupted:
                assert (ended.status, ended.superseded_by) == (JobStatus.CANCELLED, accepted.job_id)
                assert {m.message_id for m in ended.messages} < {m.message_id for m in accepted.pending}

    @rule(key=keys, word=spoken, policy=st.sampled_from(("consolidate", "interrupt", "enqueue", "reject")))
    def accept_one_more(
        self, key: ConversationKey, word: tuple[str, str | None], policy: DoubleTexting = "consolidate"
    ) -> None:
        self.accept(key, [word], 0, {}, BOT, policy)

    @rule(key=keys, index=indexes, history=histories)
    def a_record_arrives(self, key: ConversationKey, index: int, history: list[tuple[str, str | None]]) -> None:
        """Any record of this conversation, early, late or again; or one that the tiers know nothing of."""
        spare_id = self._job_id(key)
        if index < len(self.accepted[key]):
            _, request, accepted = self.accepted[key][-1 - index]
            job_id, request = accepted.job_id, replace(request, messages=accepted.pending or request.messages)
        else:
            messages = self._messages(history)
            if index % 2 and all(message.message_id != "m1" for message in messages):
                # The same utterance under an id that the tiers can't know and one that they may.
                messages = (Message(f"minted-{next(self.numbers)}", "a", given=True, aliases=("m1",)), *messages)
            job_id, request = self._job_id(key), Request(key, messages, (), BOT, {"user": 3})
        self._both(lambda tier: tier.accept_again(request, job_id=job_id, spare_id=spare_id))

    @precondition(lambda self: any(self.accepted.values()))
    @rule(key=keys, index=st.integers(0, 2))
    def its_send_is_refused(self, key: ConversationKey, index: int) -> None:
        if not self.accepted[key]:
            return
        since, _, accepted = self.accepted[key].pop(-1 - index % len(self.accepted[key]))
        before = self._live(key)
        if any(before[id_] and self.left[key].get(id_, 0) > since for id_ in accepted.posted):
            return  # It was answered and accepted anew meanwhile: no send takes that long.
        self._both(lambda tier: tier.undo(key, accepted.posted))
        self.posts[key].subtract(accepted.posted)
        taken = set(before) - set(self._live(key))
        assert not any(self.posts[key][id_] > 0 for id_ in taken), "what another accept posted was taken back"
        self._leave(key, taken)

    @precondition(lambda self: self._anything_waits() and not self.refused)
    @rule(key=keys)
    def claim(self, key: ConversationKey) -> None:
        lock_id = self._lock_id(key)
        self.refused = isinstance(self._both(lambda tier: tier.claim(key, lock_id)), Refused)

    @precondition(lambda self: self._anything_waits())
    @rule(
        key=keys,
        tries=st.integers(1, 5),
        finishes=st.booleans(),
        late=st.sampled_from((None, "consolidate", "interrupt", "enqueue", "reject")),
    )
    def a_worker_runs(self, key: ConversationKey, tries: int, finishes: bool, late: DoubleTexting | None) -> None:
        """From the claim on as far as it comes; while it runs somebody may type."""
        self.clock.advance(SETTINGS.heartbeat_stale)
        self.claim(key)
        for _ in range(tries):
            head = self.tiers[0].waiting(key)
            seen = len(head.messages) if head else 0
            if late:
                self.accept_one_more(key, (f"word {next(self.numbers)}", None), late)
            self.seal(key, 0, {seen}, fenced=True, may_restart=True, may_seal=True)
        if finishes:
            self.finish(key, 0, JobStatus.COMPLETED, 5, set())

    @precondition(lambda self: self._anybody_holds())
    @rule(
        key=keys,
        who=who,
        progress=st.sampled_from((None, Progress(3), Progress(4, "“Rest”"))),
        seen=st.sampled_from((None, 0, 1, 2, 9)),
        beats=st.booleans(),
    )
    def heartbeat(
        self, key: ConversationKey, who: int, progress: Progress | None, seen: int | None, beats: bool
    ) -> None:
        key = self._held(key)
        lock_id = self._lock_of(key, who)
        if beats:
            self._both(lambda tier: tier.heartbeat(key, lock_id, progress, seen=seen))
        else:
            self._both(lambda tier: tier.look(key, lock_id, seen=seen))

    @precondition(lambda self: self._anybody_holds())
    @rule(key=keys, who=who, settled=some)
    def adopt(self, key: ConversationKey, who: int, settled: set[int]) -> None:
        """The fence found some messages settled, never all of them: then the job is finished instead."""
        key = self._held(key)
        lock_id, job = self._lock_of(key, who), self.tiers[0].waiting(key)
        if job is None:
            return
        ids = [id_ for n, message in enumerate(job.messages) if n in settled for id_ in message.ids]
        if all(message.message_id in ids for message in job.messages):
            return
        ended = replace(job, status=JobStatus.COMPLETED, finished_at=self.clock.now, superseded_by=self._job_id(key))
        adopted = self._both(lambda tier: tier.adopt(key, lock_id, ids, ended if ids else None))
        if adopted:
            self._leave(key, {message.message_id for message in job.messages} & set(ids))

    @precondition(lambda self: self._anybody_holds())
    @rule(
        key=keys,
        who=who,
        unseen=st.sets(indexes, max_size=2),
        fenced=st.booleans(),
        may_restart=st.booleans(),
        may_seal=st.sampled_from((True, True, True, False)),
    )
    def seal(
        self, key: ConversationKey, who: int, unseen: set[int], fenced: bool, may_restart: bool, may_seal: bool
    ) -> None:
        key = self._held(key)
        lock_id, job = self._lock_of(key, who), self.tiers[0].waiting(key)
        messages = job.messages if job else ()
        answered = [message.message_id for n, message in enumerate(messages) if n not in unseen]
        next_id = self._job_id(key)
        self._both(
            lambda tier: tier.seal(
                key,
                lock_id,
                answered,
                next_id=next_id,
                fenced=fenced,
                may_restart=may_restart,
                may_seal=may_seal,
            )
        )

    @precondition(lambda self: self._anything_waits())
    @rule(
        key=keys,
        who=who,
        status=st.sampled_from((JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)),
        of=st.integers(0, 5),
        unseen=st.sets(indexes, max_size=1),
    )
    def finish(self, key: ConversationKey, who: int, status: JobStatus, of: int, unseen: set[int]) -> None:
        """By its holder, by another or by verdict; mostly the head, else a job that waits, has ended or never was."""
        lock_id = self._lock_of(key, who) if of else None
        head = self.tiers[0].waiting(key)
        job = head if head and of > 1 else self.tiers[0].job(self._known(self.jobs[key], of + len(unseen)))
        if job is None:
            return
        ended = replace(
            job,
            status=status,
            messages=tuple(message for n, message in enumerate(job.messages) if n not in unseen),
            reply="Rest." if status is JobStatus.COMPLETED else None,
            error=JobError("code", "why") if status is JobStatus.FAILED else None,
            finished_at=self.clock.now,
            held=status is JobStatus.CANCELLED and of % 2 == 1,
        )
        spare_id = self._job_id(key)
        with patch.object(ConversationKey, "new_job_id", lambda _: spare_id):
            finished = self._both(lambda tier: tier.finish(key, lock_id, ended))
        if finished.done:
            self._leave(key, {message.message_id for message in ended.messages})

    @precondition(lambda self: self._anything_waits())
    @rule(key=keys, index=indexes, what=st.sampled_from(INTERFERENCES))
    def somebody_interferes(self, key: ConversationKey, index: int, what: str) -> None:
        job_id, message_id = self._known(self.jobs[key], index), f"m{index % 4 + 1}"
        if what == "cancel":
            self._both(lambda tier: tier.cancel(key, job_id))
        elif what == "forget":
            self._both(lambda tier: tier.forget(key, message_id))
        elif what.startswith("hand"):
            self._both(lambda tier: tier.hand_off(key, human=what == "hand off"))
        else:
            self._both(lambda tier: tier.release(key))

    @rule(seconds=st.sampled_from((1, 1, 5, 14, 15, 59, 60, 600)), older_than=st.sampled_from((0.0, 0.0, 300.0, DAY)))
    def time_passes(self, seconds: int, older_than: float) -> None:
        """And, if `older_than`, the sweep comes."""
        self.clock.advance(seconds)
        if older_than:
            self._both(lambda tier: sorted(tier.sweep(older_than=older_than), key=lambda job: job.job_id))
            self._alike(lambda tier: [_anywhere(lock) for key in KEYS for lock in tier.locks(key.platform_id)])

    # What must hold.

    @invariant()
    def all_that_can_be_seen_is_alike(self) -> None:
        # Most names were never used: of those that memory doesn't know the newest will do.
        names = {key: self.jobs[key][-2:] + [n for n in self.jobs[key][:-2] if self.tiers[0].job(n)] for key in KEYS}
        self._alike(lambda tier: [tier.waiting(key) for key in KEYS])
        self._alike(lambda tier: [_anywhere(tier.lock(key)) for key in KEYS])
        self._alike(lambda tier: [tier.owner(key, lock_id) for key in KEYS for lock_id in self.locks[key][-3:]])
        self._alike(lambda tier: [tier.job(job_id) for key in KEYS for job_id in names[key]])

    @invariant()
    def at_most_one_holds_a_conversation(self) -> None:
        for key in KEYS:
            owned = [lock_id for lock_id in self.locks[key] if self.tiers[0].owner(key, lock_id)]
            assert len(owned) <= 1

    @invariant()
    def each_message_is_in_one_live_job_or_has_left_the_line(self) -> None:
        for key in KEYS:
            live = self._live(key)
            assert all(times == 1 for times in live.values()), live
            for message_id, posts in self.posts[key].items():
                assert posts <= 0 or live[message_id], f"{message_id} was lost"

    @invariant()
    def restarts_are_bounded(self) -> None:
        for job in self._live_jobs(*KEYS):
            assert job.restarts <= SETTINGS.max_restarts

    @invariant()
    def ends_are_final(self) -> None:
        for key in KEYS:
            for job_id in self.jobs[key]:
                job = self.tiers[0].job(job_id)
                if job is None:
                    self.ends.pop(job_id, None)
                elif job.status.ended or job_id in self.ends:
                    assert job == self.ends.setdefault(job_id, job)

    # How it is told.

    def _both(self, step: Callable[[Tier], Any]) -> Any:
        """Take the step on each tier; returns what all of them answered."""
        self.refused = False
        before = {key: self._order(key) for key in KEYS}
        answer = self._alike(step)
        if not isinstance(answer, Sealed):
            # Only a seal, at the limit of restarts, lets a later message go first.
            for key in KEYS:
                after = self._order(key)
                assert [i for i in before[key] if i in after] == [i for i in after if i in before[key]]
        return answer

    def _alike(self, look: Callable[[Tier], Any]) -> Any:
        answers = [_answer(look, tier) for tier in self.tiers]
        assert all(answer == answers[0] for answer in answers[1:]), answers
        return answers[0]

    def _leave(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        for message_id in message_ids:
            self.posts[key][message_id] = 0
            self.left[key][message_id] = next(self.numbers)

    def _messages(self, history: list[tuple[str, str | None]]) -> tuple[Message, ...]:
        """Each id once: intake refuses a request that gives one twice."""
        messages, used = [], set()
        for content, message_id in history:
            given = message_id is not None and message_id not in used
            used.add(message_id)
            name = message_id if given and message_id else f"minted-{next(self.numbers)}"
            messages.append(Message(name, content, given))
        return tuple(messages)

    def _job_id(self, key: ConversationKey) -> str:
        self.jobs[key].append(job_id_of(key, next(self.numbers)))
        return self.jobs[key][-1]

    def _lock_id(self, key: ConversationKey) -> str:
        self.locks[key].append(f"lock-{next(self.numbers)}")
        return self.locks[key][-1]

    def _lock_of(self, key: ConversationKey, who: int) -> str:
        holders = [lock_id for lock_id in self.locks[key] if self.tiers[0].owner(key, lock_id)]
        return holders[0] if holders and who < 4 else self._known(self.locks[key], who - 4)

    def _anything_waits(self) -> bool:
        return any(self.tiers[0].waiting(key) for key in KEYS)

    def _anybody_holds(self) -> bool:
        lock = self.tiers[0].lock(self._held(KEYS[0]))
        return lock is not None and lock.heartbeat_at is not None

    def _held(self, key: ConversationKey) -> ConversationKey:
        """The conversation, or another one that is held."""
        locks = ((other, self.tiers[0].lock(other)) for other in sorted(KEYS, key=lambda other: other != key))
        return next((other for other, lock in locks if lock and lock.heartbeat_at), key)

    def _known(self, names: list[str], index: int) -> str:
        return names[-1 - index % len(names)] if names else "never was"

    def _live_jobs(self, *of: ConversationKey) -> list[Job]:
        found = [self.tiers[0].job(job_id) for key in of for job_id in self.jobs[key]]
        heads = [self.tiers[0].waiting(key) for key in of]
        return list({job.job_id: job for job in (*heads, *found) if job and not job.status.ended}.values())

    def _live(self, key: ConversationKey) -> Counter[str]:
        return Counter(message.message_id for job in self._live_jobs(key) for message in job.messages)

    def _order(self, key: ConversationKey) -> list[str]:
        head = self.tiers[0].waiting(key)
        rest = [job for job in self._live_jobs(key) if not head or job.job_id != head.job_id]
        return [message.message_id for job in (*([head] if head else []), *rest) for message in job.messages]


def _anywhere(lock: Lock | None) -> Lock | None:
    """A lock without the name of its tier."""
    return replace(lock, tier="memory") if lock else None


def _answer(step: Callable[[Tier], Any], tier: Tier) -> Any:
    try:
        return step(tier)
    except Conflict as conflict:
        return str(conflict)


@pytest.fixture
def settings() -> Settings:
    """What the tiers' fixtures go by."""
    return SETTINGS


@pytest.mark.parametrize("name", [name for name in TIERS if name != "memory"])
def test_memory_and_another_tier_tell_the_same_story(
    name: str, clock: Clock, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(key.shard for key in KEYS) < SHARDS
    monkeypatch.setattr("message_handler.stores.redis.SHARDS", SHARDS)
    other: Tier = request.getfixturevalue(f"{name}_tier")
    examples, steps = STORIES.get(name, (10, 30))
    run_state_machine_as_test(
        cast(type[Story], partial(Story, other, clock)),  # it only calls it
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
        ),
    )
