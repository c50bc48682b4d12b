"""Edits: a message that comes again under its id, with other words, is a message of its own.

The first version of a message has the platform's id. An edit has that id with the digest of its words behind it. So
every tier and every record name it alike. An edit waits beside the version that it replaces. If both are in one job,
they are one message for the AI and in the conversation: the newest words, at the place of the first version.

    "2 pills" waits in J          "20 pills" joins J ── J answers "20 pills", and settles both
    J has answered "2 pills"      "20 pills" waits in J' ── J' answers it

Words that were replaced never come back with a late retry or an old record. A platform may return to old words: its
request then says when the message was edited (`edited_at`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from message_handler.domain.messages import Message, base_id, edit_id, is_edit


class EndedVersion(Protocol):
    """What is remembered of a version that does not wait any more.

    `words`: the digest of its words; "" if an earlier release noted it. `accepted_at`: Unix seconds.
    """

    @property
    def words(self) -> str: ...

    @property
    def accepted_at(self) -> float: ...


class _Version(NamedTuple):
    """A known version of a message, waiting or ended. `edited_at` is None if it is not known."""

    message_id: str
    words: str
    accepted_at: float
    edited_at: float | None


def named(
    incoming: Iterable[Message], waiting: Iterable[Message], ended: Mapping[str, EndedVersion], *, again: bool
) -> tuple[Message, ...]:
    """The incoming messages, each under the id of the version that it is: a known version, or a new edit.

    `ended` has the newest ended version under the platform's id, and other versions under their own ids. `again`: the
    messages were accepted before. So one that is older than the newest version was replaced already.
    """
    incoming = tuple(incoming)
    bases = {base_id(message.message_id) for message in incoming if message.given}
    # Up to a thousand messages wait, and only those with these ids are looked at.
    near = [wait for wait in waiting if wait.message_id in bases or wait.aliases or is_edit(wait.message_id)]
    waits = {id_: versions for versions in versions_of(near) for version in versions for id_ in _bases(version)}
    return tuple(_named(m, waits.get(base_id(m.message_id), ()), ended, again=again) for m in incoming)


def _named(message: Message, waits: Sequence[Message], ended: Mapping[str, EndedVersion], *, again: bool) -> Message:
    """A message, given the versions of it that wait or have ended. See the table in docs/protocol.md."""
    edit_ids = message.edit_ids if waits or ended else ()
    known = _known(message, waits, ended) if edit_ids else []
    if not known or not known[-1].words:
        return message
    own_id, newest, words = message.message_id, known[-1], message.words_digests
    by_words, by_time = edit_ids[0], edit_ids[-1]
    if is_edit(own_id):
        by_words = own_id
    by_words_known = by_words in ended or any(by_words in wait.ids for wait in waits)
    if by_words_known and by_words == own_id:
        return message
    same = next((version for version in reversed(known) if version.words in words), None)
    if same and (same is newest or message.edited_at in (0, same.edited_at)):
        # The newest ended version is known under the platform's id, too. Its own id leads to the job that answered it.
        ids = (by_time, edit_ids[0], same.message_id) if same.message_id in ended else (same.message_id,)
        return _known_as(message, next(id_ for id_ in ids if id_ in ended or id_ == same.message_id))
    if not waits and message.earlier and not is_edit(own_id):  # guard: invariant 5, an earlier turn that was answered
        return message
    if same:
        # Old words with a time of their own: the platform returns to them, or repeats such a return.
        return _known_as(message, by_time)
    if again and message.accepted_at < newest.accepted_at:  # guard: invariant 15, replaced ones
        # Its own id leads to the newest version from now on, also for a late retry.
        return _known_as(replace(message, message_id=by_words), newest.message_id)
    # No store knew words that are known by their id alone when a later version came.
    new_id = by_time if by_words_known else by_words
    # The clock of the host that accepted the older version may be ahead of this one.
    return replace(message, message_id=new_id, accepted_at=max(message.accepted_at, newest.accepted_at))


def _known(message: Message, waits: Sequence[Message], ended: Mapping[str, EndedVersion]) -> list[_Version]:
    """The known versions of a message, the newest last. Of the ended ones, the newest and one with the same words."""
    ids = (message.edit_ids[0], base_id(message.message_id))
    known = [_Version(id_, ended[id_].words, ended[id_].accepted_at, None) for id_ in ids if id_ in ended]
    return known + [_Version(wait.message_id, wait.words_digest, wait.accepted_at, wait.edited_at) for wait in waits]


def end_of[E: EndedVersion](name: Message, ended: Mapping[str, E]) -> E | None:
    """How a message has ended that has its name from `named`; None if it is open.

    Words that were replaced end as the newest version did. `ended` has that one under its own id, if it is an edit.
    """
    end = ended.get(name.message_id)
    if end is None or end.words in ("", *name.words_digests):
        return end
    return ended.get(edit_id(name.message_id, end.words), end)


def _known_as(message: Message, message_id: str) -> Message:
    """The message under a version's id. An edit's own id stays as an alias."""
    own_id = message.message_id
    aliases = (*message.aliases, own_id) if is_edit(own_id) else message.aliases
    return replace(message, message_id=message_id, aliases=tuple(alias for alias in aliases if alias != message_id))


def versions_of(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages, those together that are versions of one, each with its newest version last."""
    groups: dict[str, list[Message]] = {}
    result: list[list[Message]] = []
    for message in messages:
        bases = _bases(message)
        group = next((groups[base] for base in bases if base in groups), None)
        if group is None:
            group = []
            result.append(group)
        group.append(message)
        groups |= dict.fromkeys(bases, group)
    return [sorted(group, key=lambda version: version.accepted_at) for group in result]


def _bases(message: Message) -> list[str]:
    """The ids of the messages that it is a version of."""
    return [base_id(id_) for id_ in message.ids]


def newest_versions(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages as they are answered: of each, only the newest version, at the place of the first."""
    if not any(is_edit(message.message_id) for message in messages):
        return messages
    return [versions[-1] for versions in versions_of(messages)]
