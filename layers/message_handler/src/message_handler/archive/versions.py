"""Which of a job's messages are settled, and which are edits of settled ones. Both archives use this."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from message_handler.archive.erasures import is_void
from message_handler.domain.conversations import Turn
from message_handler.domain.edits import end_of, named, versions_of
from message_handler.domain.handoff import ParkedMessage
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message, base_id, is_edit
from message_handler.ports.archive import Settled


class Standing(NamedTuple):
    """How messages stand, given what is settled.

    `messages`: all of them, in order. `open`: those that need an answer. In both, an edit has its id as one. `edits`:
    the former id of each message that was found to be an edit, with its id as one. `settled`: the settled ids of the
    messages, each with the job that settled it.
    """

    messages: tuple[Message, ...]
    open: tuple[Message, ...]
    edits: dict[str, str]
    settled: dict[str, str]

    @property
    def open_ids(self) -> tuple[str, ...]:
        """All ids under which the open messages may wait: also the former ids of edits."""
        return (*self.edits, *(id_ for message in self.open for id_ in message.ids))


def standing(messages: Sequence[Message], settled: Mapping[str, Settled], *, ended: bool = False) -> Standing:
    """Compare messages with what is settled under their `possible_ids`.

    A tier may have forgotten a message, and accepted an edit of it as a new message. Such an edit is open: its words
    are others than those that were settled, and it was accepted later. `ended`: a tier has ended the messages while
    Postgres was away. Then words that were replaced are open, too: they were answered before.
    """
    names: list[Message] = []
    open_: list[Message] = []
    edits: dict[str, str] = {}
    settled_by: dict[str, str] = {}
    for message, name in zip(messages, named(messages, (), settled, again=True), strict=True):
        end = end_of(name, settled)
        own_id = message.message_id if is_edit(message.message_id) else (*message.edit_ids, "")[0]
        if ended and end and own_id and own_id not in settled and end.words not in ("", *message.words_digests):
            name, end = replace(message, message_id=own_id), None
        if end:
            settled_by[message.message_id] = end.job_id
        else:
            open_.append(name)
            if name.message_id != message.message_id:
                edits[message.message_id] = name.message_id
        names.append(message if end else name)
        settled_by |= {alias: settled[alias].job_id for alias in message.aliases if alias in settled}
    return Standing(tuple(names), tuple(open_), edits, settled_by)


class SaidTurn(NamedTuple):
    """A patient's turn as it is archived. `earlier`: the texts that its edits replaced, oldest first.

    `edited_at` (Unix seconds) is the platform's time, or else when the edit was accepted. None: it was not edited.
    """

    turn: Turn
    edited_at: float | None = None
    earlier: tuple[str, ...] = ()


def turns_of(messages: Sequence[Message]) -> list[SaidTurn]:
    """The turns of messages that end together. The versions of a message are one turn."""
    said = []
    for versions in versions_of(messages):
        newest = versions[-1]
        accepted_at = newest.accepted_at if is_edit(newest.message_id) else None
        turn = Turn("user", newest.content, newest.turn_id)
        said.append(SaidTurn(turn, newest.edited_at or accepted_at, tuple(v.content for v in versions[:-1])))
    return said


#: In place of the words of a message that its patient has taken back: all versions from before count as replaced.
UNSENT = "unsent"


class SettledEdit(NamedTuple):
    """The newest version of a message that is settled.

    `base`: the id of the message. `message_id`: the edit's own id; "" if the message was unsent. `words` and
    `accepted_at`: see `Settled`.
    """

    base: str
    message_id: str
    words: str
    accepted_at: float


def edits_of(messages: Sequence[Message]) -> list[SettledEdit]:
    """The edits among messages that end together, oldest first."""
    edits = [message for message in messages if is_edit(message.message_id)]
    return [
        SettledEdit(base_id(edit.message_id), edit.message_id, edit.words_digest, edit.accepted_at)
        for edit in sorted(edits, key=lambda edit: edit.accepted_at)
    ]


def versions_to_unsend(
    message_id: str, waiting: Sequence[Job], parked: Sequence[ParkedMessage], erased_until: float | None
) -> list[Message]:
    """The versions of a message that wait in jobs or are parked, each once, without the jobs that they were promised.

    They end under a job of their own, and the promised jobs may go on without them.
    """
    messages = [message for job in waiting for message in job.messages]
    messages += [each.message for each in parked if not each.answered_by]
    found = {
        message.message_id: replace(message, promised=())
        for message in messages
        if message_id in map(base_id, message.ids) and not is_void(erased_until, message.accepted_at)
    }
    return list(found.values())


def without_others(waiting: Sequence[Job], unsent_ids: Collection[str]) -> list[Job]:
    """The jobs that have no other message than those that were unsent."""
    return [job for job in waiting if all(message.message_id in unsent_ids for message in job.messages)]


def outcome_of(
    unsent: Sequence[Message], settled: Mapping[str, Settled], *, said: bool
) -> Literal["unsent", "answered", "unknown"]:
    """What becomes of an unsent message: some versions were open, others are `settled`; `said`: it has a turn."""
    if unsent:
        return "unsent"
    if any(end.kind != "cancelled" for end in settled.values()):
        return "answered"
    return "unsent" if settled or said else "unknown"
