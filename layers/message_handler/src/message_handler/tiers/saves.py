"""The saves that a tier sends to its store: what the steps on a line compare, change and read."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import as_text, job_to_json
from message_handler.domain.identifiers import new_id
from message_handler.domain.jobs import Progress
from message_handler.ports.line_store import Save
from message_handler.protocol.line import LIVE_TTL_SECONDS, Line
from message_handler.protocol.line_documents import answered_to_text, changed_fields, progress_to_text
from message_handler.settings import Settings


@dataclass(slots=True)
class SeenLine:
    """A line as this process last saved or read it, the text of its field `line`, and its version. It never changes."""

    line: Line
    text: str = "{}"
    version: str = ""


def save_of_steps(
    seen: SeenLine,
    line: Line,
    *,
    ids: AbstractSet[str],
    names: AbstractSet[str],
    looks_at_heartbeat: bool,
    now: float,
    settings: Settings,
) -> Save:
    """The save that replaces the line that was `seen` by `line`, if nothing that the steps looked at has changed.

    `ids` and `names`: the messages and job names that the steps look up. `now`: the steps' time (Unix seconds).
    """
    before = seen.line
    known, taken = ids & before.answered.keys(), names & before.taken
    save = Save(
        line.key,
        seen.version,
        now,
        unknown_ids=[*(ids - known)],
        known_ids=[*known],
        unused_names=[*(names - taken)],
        taken_names=[*taken],
    )
    if looks_at_heartbeat:
        save.heartbeat_at = repr(before.lease.heartbeat_at) if before.lease else ""

    save.fields = changed_fields(before, seen.text, line)
    save.remembered = {
        id_: answered_to_text(message) for id_, message in line.answered.items() if before.answered.get(id_) != message
    }
    save.remembered |= dict.fromkeys(before.answered.keys() - line.answered.keys())
    if not save.fields and not save.remembered:
        save.due_at = "as it is" if line.current else None
        return save

    save.fields["version"] = new_id()
    due_at = line.lease.heartbeat_at + settings.heartbeat_stale if line.lease else line.due_at
    save.due_at = due_at if line.current else None
    has_work = (
        line.handed_off  # guard: step hand off, as long as a record
        or line.current
    )
    job_ttl = settings.job_ttl
    save.ttl = LIVE_TTL_SECONDS if has_work else job_ttl
    if seen.version and not before.current and not line.current and line.handed_off is before.handed_off:
        # An idle line is forgotten an hour after its last job ended, whatever comes late.
        save.ttl = None
    jobs, job_ids_before = line.jobs(), {job.job_id for job in before.jobs()}
    save.waiting = tuple([message.message_id for job in jobs for message in job.messages])
    save.line_jobs = tuple([job.job_id for job in jobs])
    save.jobs = {job.job_id: None for job in jobs if job.job_id not in job_ids_before}
    save.remembered_ttl = job_ttl
    for job in line.ends:
        ttl = LIVE_TTL_SECONDS if job.unarchived else job_ttl  # guard: invariant 1, unarchived -> job_ttl
        save.jobs[job.job_id] = (as_text(job_to_json(job)), ttl)
        save.remembered_ttl = max(save.remembered_ttl, ttl)
    save.unarchived = [job.job_id for job in line.ends if job.unarchived]  # guard: step archive, index -> []
    return save


def save_of_heartbeat(
    key: ConversationKey, lock_id: str, progress: Progress | None, *, now: float, settings: Settings
) -> Save:
    """The save that renews a lease and shows its run's progress.

    It compares the lease's `lock_id`, not the line's version. So messages that join can't keep it from succeeding.
    """
    return Save(
        key,
        lock_id,
        now,
        "holder",
        fields={"heartbeat_at": repr(now), "progress": progress_to_text(progress)},
        due_at=now + settings.heartbeat_stale,
        ttl=LIVE_TTL_SECONDS,
        wanted=["version"],
    )
