"""Checks the invariants 1 to 7, 10, 11 and 16 over a history, as far as they can be seen from outside.

    1 lost          an accepted version of a message is neither answered nor replaced by a later one that is, and has
                    neither failed nor been cancelled visibly
    2 doubled       a version is answered by two replies, or twice by one
    2 old words     a version is answered with or after a later one, or although a later one was there before the run
    2 unsent        an unsent message is answered, or the answer to the client who unsent it was wrong
    2 wrong job     the client's job neither answers the message nor leads to the job that does
    2 told late     a client that polls this job hears of the answer too late, or never
    3 stale         a commit under a fence although a later fence was taken
    5 duplicate     one version is archived as two, or two versions that one job answered, or words that were replaced
    6 out of order  a message is answered before one that was accepted earlier
    7 stranded      a message still waits or a conversation is locked at the end
    10 changed      an ended job, or a message's end, is shown differently afterwards
    11 leaked       a patient's words are where they must not be
    16 danger first an answer to danger has no notice, or another one than before in this hour

Invariant 4 (owned) can't be seen from outside: its tests are those of the tiers.

What docs/guarantees.md lists as not promised is no violation. One case is the order of two messages while Redis was
lost or away. The other is a reply that was given while both Redis and Postgres were away, or shortly before, so that
Postgres lacked it. Then these are excused: a second reply, another end of its job, a fence of a tier that forgot, or a
promised job that tells the reply late. Postgres counts as away until it has what it lacked.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, takewhile

from tests.chaos.history import (
    AFTERMATH_SECONDS,
    ENDED,
    History,
    JobRow,
    Part,
    Posted,
    Seen,
    SettledRow,
    Unsent,
)
from tests.versions import message_of

#: The longest time from a message's answer until its promised job tells it: the p99, and the limit for each.
TOLD_P99_SECONDS, TOLD_LIMIT_SECONDS = 10.0, 65.0
#: A run closes its job up to this long before its AI is asked, on a machine that is busy.
SEAL_SECONDS = 1.0
#: After its return, Postgres may lack for this long what was answered without it.
REPAIR_SECONDS = 12.0


@dataclass(frozen=True)
class Violation:
    """A broken promise, with the messages (versions of them) and the jobs that show it."""

    promise: str
    what: str
    conversation: str = ""
    messages: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.promise}: {self.what} (conversation {self.conversation or 'none'})"


def check(history: History) -> list[Violation]:
    """Every violation in the history."""
    index = _Index(history)
    return [violation for look in _CHECKS for violation in look(index)]


def story(history: History, violation: Violation) -> str:
    """The part of the history that shows the violation: the events of its messages and jobs, in order."""
    jobs = set(violation.jobs)
    lines: list[tuple[float, str]] = []
    messages = {message_of(version) for version in violation.messages}
    for message in messages:
        lines += [(event.at, str(event)) for event in history.posted if event.message_id == message]
        lines += [(event.at, str(event)) for event in history.unsent if event.message_id == message]
        lines += [(row.at, str(row)) for row in history.settled if row.message_id == message]
        jobs |= {event.job_id for event in history.posted if event.message_id == message and event.job_id}
        jobs |= {row.job_id for row in history.settled if row.message_id == message}
    for job_id in list(jobs):
        jobs |= set(_chain(history.jobs, job_id))
    for events in (history.cancelled, history.asked, history.fenced_out):
        lines += [(event.at, str(event)) for event in events if event.job_id in jobs]
    if lines:
        first, last = min(lines)[0], max(lines)[0]
        faults = (*history.faults, *history.away)
        lines += [(fault.at, str(fault)) for fault in faults if fault.until >= first and fault.at <= last]
    # Each job is read once more at the end. Faults at that time don't matter.
    for job_id in jobs:
        looks = sorted((event.at, str(event)) for event in history.seen if event.job_id == job_id)
        # A client that polls sees the same state again and again.
        lines += [look for before, look in pairwise([(0.0, ""), *looks]) if look[1] != before[1]]
    text = [str(violation)]
    text += [f"  {at:.3f}  {line}" for at, line in sorted(set(lines))]
    for job_id in sorted(jobs):
        job = history.jobs.get(job_id)
        end = f"{job.status}, fence {job.fence}, superseded by {job.superseded_by}" if job else "unknown to Postgres"
        text.append(f"  at the end  job {job_id}: {end}")
    for turn in history.turns:
        if turn.conversation == violation.conversation and messages & set(map(message_of, turn.quotes)):
            text.append(f"  at the end  reply {turn.position} of job {turn.job_id} answers {' '.join(turn.quotes)}")
    return "\n".join(text)


class _Index:
    """The history, looked up by version and by message."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.accepted: dict[str, list[Posted]] = {}
        self.first_sent: dict[str, float] = {}
        for event in sorted(history.posted, key=lambda event: event.until):
            self.first_sent[event.version] = min(event.at, self.first_sent.get(event.version, event.at))
            if event.accepted:
                self.accepted.setdefault(event.version, []).append(event)
        # By message: its versions and its rows in Postgres, the oldest first.
        self.versions: dict[str, list[str]] = defaultdict(list)
        for version in sorted(self.first_sent, key=self.first_sent.__getitem__):
            self.versions[message_of(version)].append(version)
        self.rows: dict[str, list[SettledRow]] = defaultdict(list)
        for row in sorted(history.settled, key=lambda row: row.at):
            self.rows[row.message_id].append(row)
        # The replies that quote a version: version → (position of the reply, place in it).
        self.answers: dict[str, list[tuple[int, int]]] = {}
        self.answered_by: dict[str, list[str | None]] = {}
        # The version of a message that a job's reply quotes.
        self.answered_with: dict[tuple[str | None, str], str] = {}
        self.last_answered = {
            version: rows[-1].at for message, rows in self.rows.items() for version in self.versions[message]
        }
        for turn in history.turns:
            if turn.role == "assistant":
                for place, version in enumerate(turn.quotes):
                    self.answers.setdefault(version, []).append((turn.position, place))
                    self.answered_by.setdefault(version, []).append(turn.job_id)
                    self.answered_with[turn.job_id, message_of(version)] = version
                    self.last_answered[version] = max(turn.at, self.last_answered.get(version, turn.at))
        self.said: dict[str, list[float]] = defaultdict(list)
        for turn in history.turns:
            if turn.role == "assistant":
                self.said[turn.job_id or ""].append(turn.at)
        self.asked: dict[str, list[float]] = defaultdict(list)
        for call in history.asked:
            self.asked[call.job_id].append(call.at)
        self.looks: dict[str, list[Seen]] = defaultdict(list)
        for look in sorted(history.seen, key=lambda look: look.at):
            self.looks[look.job_id].append(look)
        # When a client first heard of an end: message → the job in which it ended → time.
        self.first_heard: dict[str, dict[str, float]] = defaultdict(dict)
        for look in history.seen:
            for told in look.messages:
                if told.ended:
                    heard = self.first_heard[told.message_id]
                    heard[told.job_id] = min(look.at, heard.get(told.job_id, look.at))
        self.without_both = _without_both(history)

    def older(self, version: str) -> list[str]:
        """The versions of the message before this one, the oldest first."""
        return list(takewhile(version.__ne__, self.versions[message_of(version)]))

    def newest(self, version: str) -> list[str]:
        """The version, and those of the message after it."""
        return self.versions[message_of(version)][len(self.older(version)) :]

    def ends(self, version: str) -> list[SettledRow]:
        """The rows in which the version ended, or a later one that may have replaced it. The likeliest comes first."""
        rows = self.rows[message_of(version)]
        if not self.is_edited(version):
            return rows
        answering = [job for newer in self.newest(version) for job in self.answered_by.get(newer, ())]
        answered = sorted((row for row in rows if row.job_id in answering), key=lambda row: answering.index(row.job_id))
        others = {job for older in self.older(version) for job in self.answered_by.get(older, ())}.union(answering)
        unanswered = [row for row in rows if row.job_id not in others and row.at >= self.first_sent[version]]
        return answered + (unanswered if self.newest(version)[1:] else unanswered[::-1])

    def heard_of(self, version: str, row: SettledRow) -> float:
        """When a client first heard that the version has ended as in this row; at the latest, the row's time."""
        heard = self.first_heard[message_of(version)]
        if self.is_edited(version):
            heard = {job_id: at for job_id, at in heard.items() if job_id == row.job_id}
        return min((row.at, *heard.values()))

    def is_edited(self, version: str) -> bool:
        """Whether its message has several versions."""
        return len(self.versions[message_of(version)]) > 1

    def gave_way(self, version: str) -> bool:
        """Whether a tier that had forgotten this version took older words for an edit of it, and answered them."""
        accepted = self.accepted[version][0].until if version in self.accepted else math.inf
        answered = [older for older in self.older(version) if older in self.answers]
        again = any(event.at > accepted for older in answered for event in self.accepted.get(older, ()))
        return again and _was_away(self, [version], "redis")

    def replacing(self, version: str) -> float:
        """When the version was sent, or the first of the unanswered versions before it: it takes their place."""
        replaced = takewhile(lambda older: older not in self.answers, reversed(self.older(version)))
        return min(self.first_sent[one] for one in (version, *replaced))

    def is_excused(self, *jobs: str) -> bool:
        """Whether one of these jobs' replies was given when no store could keep it: see above."""
        for job_id in jobs:
            ended = [look.at for look in self.looks.get(job_id, ()) if look.status in ENDED]
            moments = [*self.asked.get(job_id, ()), *ended[:1], *self.said.get(job_id, ())]
            if any(begin <= at <= end for at in moments for begin, end in self.without_both):
                return True
        return False

    def conversation_of(self, version: str) -> str:
        return self.accepted[version][0].conversation


def _lost(index: _Index) -> Iterator[Violation]:
    cancelled = {event.conversation for event in index.history.cancelled}
    unsent = {event.message_id for event in index.history.unsent}
    for version, events in index.accepted.items():
        conversation, row = events[0].conversation, next(iter(index.ends(version)), None)
        if row is None and index.gave_way(version):
            continue
        if row is None:
            yield Violation("1 lost", f"{version} was accepted and never settled", conversation, (version,))
            continue
        job = index.history.jobs.get(row.job_id)
        if row.kind == "answered" and not any(newer in index.answers for newer in index.newest(version)):
            yield Violation("1 lost", f"{version} counts as answered, but no reply quotes it", conversation, (version,))
        if row.kind == "failed" and (job is None or job.status != "failed" or not job.error):
            yield Violation("1 lost", f"{version} failed, but no job shows it", conversation, (version,))
        if row.kind == "cancelled" and conversation not in cancelled and row.message_id not in unsent:
            yield Violation("1 lost", f"{version} was cancelled, but no client asked for it", conversation, (version,))


def _doubled(index: _Index) -> Iterator[Violation]:
    for version, answers in index.answers.items():
        rows = index.rows[message_of(version)]
        conversation = rows[0].conversation if rows else ""
        jobs = tuple(job for job in index.answered_by[version] if job)
        if index.is_excused(*jobs):
            continue
        if len(answers) > 1:
            yield Violation("2 doubled", f"{version} is answered {len(answers)} times", conversation, (version,), jobs)
        elif not any(row.kind == "answered" and jobs == (row.job_id,) for row in rows):
            how = ", ".join(f"settled as {row.kind} by {row.job_id}" for row in rows) or "not settled"
            yield Violation("2 doubled", f"{version} is answered, but {how}", conversation, (version,), jobs)


def _old_words(index: _Index) -> Iterator[Violation]:
    for versions in index.versions.values():
        for older, newer in combinations(versions, 2):
            if older not in index.answers or not _is_replaced_by(index, older, newer):
                continue
            jobs = tuple(job for version in (older, newer) for job in index.answered_by.get(version, ()) if job)
            if index.is_excused(*jobs):
                continue
            shown = index.conversation_of(older), (older, newer), jobs
            place, newer_place = index.answers[older][-1], index.answers.get(newer, [(math.inf, 0)])[0]
            if place[0] == newer_place[0]:
                yield Violation("2 old words", f"one reply answers {older} and {newer}", *shown)
            elif place > newer_place and not index.gave_way(newer):
                yield Violation("2 old words", f"{older} is answered after {newer}", *shown)
            elif place < newer_place and _was_there_before_the_run(index, older, newer):
                what = f"{older} is answered, although {newer} was there before its run"
                yield Violation("2 old words", what, *shown)


def _is_replaced_by(index: _Index, older: str, newer: str) -> bool:
    """Whether the platform sent the newer version when the older one had been accepted."""
    return older in index.accepted and index.accepted[older][0].until < index.first_sent[newer]


def _was_there_before_the_run(index: _Index, older: str, newer: str) -> bool:
    """Whether the newer version was accepted before any run could ask for the older one. The tier was there.

    If the newer version was promised another job, the older one's job was closed by then: its run had begun.
    """
    if newer not in index.accepted or _was_away(index, [older, newer], "redis"):
        return False
    promised = {event.job_id for event in index.accepted[older] if event.job_id}
    jobs = {job for name in promised for job in _chain(index.history.jobs, name)}
    jobs |= {job for job in index.answered_by[older] if job}
    runs = [at for job in jobs for at in index.asked[job] if at > index.first_sent[older]]
    closed_before = 0.0 if index.accepted[newer][0].job_id in jobs else SEAL_SECONDS
    return index.accepted[newer][0].until < min(runs, default=0.0) - closed_before


def _unsent(index: _Index) -> Iterator[Violation]:
    for event in index.history.unsent:
        versions, rows = index.versions[event.message_id], index.rows[event.message_id]
        jobs = tuple(row.job_id for row in rows)
        if index.is_excused(*jobs):
            continue
        known = [one for one in versions if one in index.accepted and index.accepted[one][0].until < event.at]
        kinds = {row.kind for row in rows}
        what = ""
        if event.confirmed and (any(one in index.answers for one in known[-1:]) or _is_answered_after(index, event)):
            what = "was unsent, and is answered"
        elif event.confirmed and "cancelled" not in kinds:
            what = "was unsent, and nothing was cancelled"
        elif event.status == 409 and kinds == {"cancelled"}:
            what = "could not be unsent because it was answered, and it was not"
        elif event.status == 404 and known and not _was_away(index, versions, "redis"):
            what = "could not be unsent because it was unknown, and it was accepted before"
        if what:
            yield Violation("2 unsent", f"{event.message_id} {what}", event.conversation, (event.message_id,), jobs)


def _is_answered_after(index: _Index, unsent: Unsent) -> bool:
    """Whether a version that was sent before the message was unsent is answered afterwards."""
    late = {row.job_id for row in index.rows[unsent.message_id] if row.at > unsent.until}
    sent = [one for one in index.versions[unsent.message_id] if index.first_sent[one] < unsent.at]
    return any(job in late for version in sent for job in index.answered_by.get(version, ()))


def _wrong_job(index: _Index) -> Iterator[Violation]:
    jobs = index.history.jobs
    unsent = {event.message_id for event in index.history.unsent if event.confirmed}
    for version, events in index.accepted.items():
        rows = index.ends(version)
        ends = {row.job_id for row in rows}
        # An unsent message ends in a job of its own. The promised one may go on without it.
        left = message_of(version) in unsent and all(row.kind == "cancelled" for row in rows)
        conversation = index.conversation_of(version)
        for promised in dict.fromkeys(event.job_id for event in events):
            if not ends or not promised:
                continue
            if not left and not any(_leads_to(jobs, promised, end) for end in ends):
                what = f"{version} was promised {promised}, which doesn't lead to {_listed(ends)}"
                yield Violation("2 wrong job", what, conversation, (version,), (promised,))
            looks = [look for look in index.looks[promised] if look.says(message_of(version))]
            said = [told for told in looks[-1].messages if told.message_id == message_of(version)] if looks else []
            if said and not any(_leads_to(jobs, told.job_id, end) for told in said for end in ends):
                told = said[-1]
                what = f"{promised} said that {version} {told.status} in {told.job_id}, which was {_listed(ends)}"
                if not index.is_excused(told.job_id):
                    yield Violation("2 wrong job", what, conversation, (version,), (promised,))


def _listed(jobs: Iterable[str]) -> str:
    return " or ".join(sorted(jobs))


@dataclass(frozen=True)
class Telling:
    """The seconds until a promised job told its client of the end of a message's version. None if it never did."""

    conversation: str
    message: str
    job_id: str
    seconds: float | None


def tellings(history: History) -> list[Telling]:
    """One for each version of a message and each polled job that it was promised. Excused ones are left out."""
    return list(_tellings(_Index(history)))


def p99(seconds: Iterable[float]) -> float:
    """The 99th percentile; 0 without values."""
    ordered = sorted(seconds)
    return ordered[math.ceil(0.99 * len(ordered)) - 1] if ordered else 0.0


def _tellings(index: _Index) -> Iterator[Telling]:
    for version, events in index.accepted.items():
        row = next(iter(index.ends(version)), None)
        promised = {event.job_id: event.until for event in reversed(events) if event.job_id in index.history.polled}
        if row is None:
            continue
        answered, edited = index.heard_of(version, row), index.is_edited(version)
        for job_id, since in promised.items():
            if job_id is None or index.is_excused(job_id, row.job_id):
                continue
            # Before an edit was accepted, its job may have told the end of an earlier version.
            looks = [look for look in index.looks[job_id] if look.at >= since or not edited]
            told_at = next((look.at for look in looks if look.says(message_of(version))), None)
            took = None if told_at is None else max(0.0, told_at - max(answered, since))
            yield Telling(row.conversation, version, job_id, took)


def _told_late(index: _Index) -> Iterator[Violation]:
    seconds = []
    for telling in _tellings(index):
        shown = telling.conversation, (telling.message,), (telling.job_id,)
        if telling.seconds is None:
            yield Violation("2 told late", f"{telling.job_id} never told of {telling.message}", *shown)
            continue
        seconds.append(telling.seconds)
        if telling.seconds > TOLD_LIMIT_SECONDS:
            what = f"{telling.job_id} told of {telling.message} after {telling.seconds:.1f} s"
            yield Violation("2 told late", what, *shown)
    if len(seconds) >= 100 and p99(seconds) > TOLD_P99_SECONDS:
        yield Violation("2 told late", f"the p99 of the times until clients were told is {p99(seconds):.1f} s")


def _without_both(history: History) -> list[tuple[float, float]]:
    """The times, each from and until, at which no store could keep a reply."""
    faults = (*history.faults, *history.away)
    lost = [fault for fault in faults if fault.part in ("redis", "both")]
    lacking = [
        replace(fault, until=fault.until - AFTERMATH_SECONDS + REPAIR_SECONDS)
        for fault in faults
        if fault.part in ("postgres", "both")
    ]
    overlaps = [(max(one.at, two.at), min(one.until, two.until)) for one in lost for two in lacking]
    return [(begin - REPAIR_SECONDS, end) for begin, end in overlaps if begin <= end]


def _stale(index: _Index) -> Iterator[Violation]:
    """Two checks: replies are in the order of their fences, and no AI was asked under a later fence before a commit.

    A reply that Postgres could not take keeps its place, and gets another fence when it is archived.
    """
    history = index.history
    fences: dict[str, set[int | None]] = defaultdict(set)
    for call in history.asked:
        fences[call.job_id].add(call.fence)
    # A replaced version may be noted later, under the job that answered before.
    answered = sorted((row for row in history.settled if row.kind == "answered"), key=lambda row: row.at, reverse=True)
    committed_at = {row.job_id: row.at for row in answered}
    newest: dict[str, tuple[int, str]] = {}
    for turn in sorted(history.turns, key=lambda turn: (turn.conversation, turn.position)):
        job = history.jobs.get(turn.job_id or "")
        if turn.role != "assistant" or job is None or job.fence is None:
            continue
        if job.job_id in fences and job.fence not in fences[job.job_id]:
            continue
        if index.is_excused(job.job_id):
            continue
        before = newest.get(turn.conversation)
        if before and job.fence <= before[0]:
            what = f"fence {job.fence} was committed after fence {before[0]}"
            yield Violation("3 stale", what, turn.conversation, tuple(turn.quotes), (before[1], job.job_id))
        newest[turn.conversation] = (max(job.fence, before[0] if before else 0), job.job_id)
    committed = defaultdict(list)
    for job_id, at in committed_at.items():
        if (job := history.jobs.get(job_id)) and job.fence is not None:
            committed[job.conversation].append((job, at))
    for call in history.asked:
        caller = history.jobs.get(call.job_id)
        for job, at in committed[caller.conversation] if caller else ():
            # The log's clock counts milliseconds.
            later = call.fence is not None and job.fence is not None and call.fence > job.fence and call.at + 0.002 < at
            if later and not index.is_excused(job.job_id):
                what = f"fence {job.fence} was committed after fence {call.fence} was taken"
                yield Violation("3 stale", what, job.conversation, (), (job.job_id, call.job_id))


def _duplicate(index: _Index) -> Iterator[Violation]:
    said: dict[tuple[str, str], list[str]] = defaultdict(list)
    for turn in index.history.turns:
        if turn.role == "user" and turn.content.strip():
            version = turn.content.split()[0]
            said[turn.conversation, message_of(version)].append(version)
            answered = index.answered_with.get((turn.job_id, message_of(version)), version)
            if version in index.older(answered):
                what = f"{version} is archived by the job that answered {answered}"
                yield Violation("5 duplicate", what, turn.conversation, (version, answered))
    for (conversation, message), versions in said.items():
        if len(set(versions)) < len(versions):
            what = f"{message} is archived {len(versions)} times: {' '.join(versions)}"
            yield Violation("5 duplicate", what, conversation, (message,))


def _out_of_order(index: _Index) -> Iterator[Violation]:
    """Compare each message with those that were accepted before it was first sent: none may be answered later."""
    conversations: dict[str, list[str]] = defaultdict(list)
    for version in index.accepted:
        if len(index.answers.get(version, ())) == 1:
            conversations[index.conversation_of(version)].append(version)
    for conversation, versions in conversations.items():
        for later in versions:
            place = index.answers[later][0]
            for earlier in versions:
                overtaken = index.answers[earlier][0] > place and message_of(earlier) != message_of(later)
                in_order = index.accepted[earlier][0].until < index.replacing(later)
                if overtaken and in_order and not _was_away(index, [earlier, later], "redis"):
                    what = f"{later} is answered before {earlier}"
                    yield Violation("6 out of order", what, conversation, (earlier, later))


def _was_away(index: _Index, messages: Iterable[str], part: Part) -> bool:
    """Whether the part was broken in the life of these messages, or so slow that a function gave it up."""
    lives = [(index.first_sent.get(message, 0.0), index.last_answered.get(message, 0.0)) for message in messages]
    begin, end = min(life[0] for life in lives), max(life[1] for life in lives)
    faults = [fault for fault in (*index.history.faults, *index.history.away) if fault.part in (part, "both")]
    return any(fault.at <= end and fault.until >= begin for fault in faults)


def _stranded(index: _Index) -> Iterator[Violation]:
    rest = index.history.rest
    for conversation in rest.locked:
        waiting = tuple(
            version
            for version, events in index.accepted.items()
            if events[0].conversation == conversation and not index.ends(version)
        )
        yield Violation("7 stranded", "it is still locked", conversation, waiting)
    if rest.queued:
        yield Violation("7 stranded", f"{rest.queued} record(s) still wait in the queue")
    if rest.dead_letters:
        yield Violation("7 stranded", f"{rest.dead_letters} record(s) rest in the dead letters")
    promised = {(event.conversation, event.job_id) for event in index.history.posted if event.accepted and event.job_id}
    for conversation, job_id in sorted(promised):
        job = index.history.jobs.get(job_id)
        if job is not None and job.status not in ENDED:
            yield Violation("7 stranded", f"job {job_id} is {job.status} for ever", conversation, (), (job_id,))


def _changed(index: _Index) -> Iterator[Violation]:
    ends: dict[str, tuple[str, str | None, str | None]] = {}
    for event in sorted(index.history.seen, key=lambda event: event.at):
        end = (event.status, event.reply, event.error)
        if event.degraded and event.status not in ENDED:
            continue  # this answer says that the job may have ended
        if event.job_id in ends and end != ends[event.job_id] and not index.is_excused(event.job_id):
            what = f"job {event.job_id} had ended as {ends[event.job_id][0]} and then was {event.status}"
            yield Violation("10 changed", what, event.conversation, (), (event.job_id,))
        elif event.status in ENDED:
            ends[event.job_id] = end
    edited = {(event.job_id, event.message_id) for event in index.history.posted if event.edited}
    for job_id, looks in index.looks.items():
        ended: dict[tuple[str, int, str], str] = {}
        for look in looks:
            # Of the versions of a message, one that waits counts: it comes last.
            states = {told.message_id: told for told in sorted(look.messages, key=lambda told: not told.ended)}
            for told in states.values():
                if look.degraded and not told.ended:
                    continue
                # An edit that was promised this job may wait on a tier that was away when the first version ended. The
                # job tells the end of the first one, and then that of the edit, which is in another job.
                is_edited = (job_id, told.message_id) in edited
                if is_edited and not told.ended:
                    continue
                # An edit may open a message again.
                versions = sum(index.first_sent[version] < look.at for version in index.versions[told.message_id])
                end_of = told.message_id, versions, told.job_id if is_edited else ""
                before = ended.get(end_of, told.status)
                if before != told.status and not index.is_excused(job_id, told.job_id):
                    what = f"job {job_id} said that {told.message_id} was {before}, and then {told.status}"
                    yield Violation("10 changed", what, look.conversation, (told.message_id,), (job_id,))
                elif told.ended:
                    ended[end_of] = told.status
    kept = {row.job_id for row in index.history.settled if row.kind == "cancelled"}
    for attempt in index.history.cancelled:
        if attempt.status == 200 and attempt.job_id not in kept:
            what = f"the cancel of job {attempt.job_id} was confirmed, but cancelled no message"
            yield Violation("10 changed", what, attempt.conversation, (), (attempt.job_id,))


def _leaked(index: _Index) -> Iterator[Violation]:
    for where in index.history.leaks:
        yield Violation("11 leaked", f"a patient's words are in {where}")


def _leads_to(jobs: dict[str, JobRow], job_id: str, end_id: str) -> bool:
    """Whether a job leads to another one, or to a copy of it."""
    return any(end_id in (id_, jobs[id_].copy_of if id_ in jobs else None) for id_ in _chain(jobs, job_id))


def _chain(jobs: dict[str, JobRow], job_id: str) -> list[str]:
    """The job and those that it leads to."""
    chain = [job_id]
    while (job := jobs.get(chain[-1])) and job.superseded_by and job.superseded_by not in chain:
        chain.append(job.superseded_by)
    return chain


def _without_notice(index: _Index) -> Iterator[Violation]:
    """Each answer to danger names the notice, whatever was away: the same one for a conversation and an hour."""
    hours: dict[tuple[str, int], set[str]] = defaultdict(set)
    for event in index.history.posted:
        if not event.danger or event.status not in (202, 409, 429):
            continue
        shown = event.conversation, (event.version,), ()
        if event.notice is None:
            yield Violation("16 danger first", f"{event.version} tells of danger, and the answer has no notice", *shown)
        elif int(event.at // 3600) == int(event.until // 3600):
            notices = hours[event.conversation, int(event.at // 3600)]
            notices.add(event.notice)
            if len(notices) > 1:
                yield Violation("16 danger first", f"{event.conversation} has two notices in one hour", *shown)


_CHECKS = (
    _lost,
    _doubled,
    _old_words,
    _unsent,
    _wrong_job,
    _told_late,
    _stale,
    _duplicate,
    _out_of_order,
    _stranded,
    _changed,
    _leaked,
    _without_notice,
)
