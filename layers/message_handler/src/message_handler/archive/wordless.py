"""Which of a patient's messages without words are archived. Both archives use this, each under its own lock."""

from __future__ import annotations

from collections.abc import Container, Sequence

from message_handler.archive.erasures import is_void
from message_handler.domain.conversations import Turn
from message_handler.domain.messages import Message
from message_handler.domain.text import is_wordless


def to_keep(
    messages: Sequence[Message], known_ids: Container[str | None], last: Turn | None, erased_until: float | None
) -> list[Message]:
    """The messages that become turns: those that are neither void nor known.

    A message with the platform's id is known if `known_ids` has it. Any other message is the same as `last`, the
    conversation's last turn, if that has neither words nor an id.
    """
    kept: list[Message] = []
    for message in messages:
        repeats = last is not None and last.role == "user" and last.message_id is None and is_wordless(last.content)
        known = message.message_id in known_ids if message.given else repeats
        if not known and not is_void(erased_until, message.accepted_at):
            kept.append(message)
            last = turn_of(message)
    return kept


def turn_of(message: Message) -> Turn:
    """A message without words as its turn."""
    return Turn("user", message.content, message.turn_id)
