"""Which replies a patient may read, and what they say beside the model's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from message_handler.ai.port import Prompt
from message_handler.domain.conversations import Turn
from message_handler.domain.messages import Message
from message_handler.domain.notices import disclosure_of
from message_handler.domain.safety import Level
from message_handler.safety.notices import notice_of
from message_handler.safety.replies import forbidden
from message_handler.safety.rules import shipped
from message_handler.safety.screening import screen

#: A bot says what it is in its first reply, and in each further reply of this number.
DISCLOSURE_EVERY = 20


def is_refused(reply: str, prompt: Prompt) -> bool:
    """Whether no patient may read the reply, or not this one, who has told of danger in what the AI was shown."""
    level = forbidden(reply)
    return level is Level.EMERGENCY or (level is not None and _tells_of_danger(prompt))


def _tells_of_danger(prompt: Prompt) -> bool:
    before = (turn.content for turn in prompt.context if turn.role == "user")
    if any(screen(shipped(), [content]) for content in before):
        return True
    return screen(shipped(), [message.content for message in prompt.messages]) is not None


def with_disclosure(reply: str, known: Sequence[Turn], config: Mapping[str, Any]) -> str:
    """The reply, which begins with the bot's disclosure where the patient has not read it lately.

    `known`: the conversation before the reply. A patient who has talked with a human is told again.
    """
    disclosure = disclosure_of(config)
    if disclosure is None or _has(reply, disclosure):
        return reply
    every = config["meta_data"].get("disclosure_every", DISCLOSURE_EVERY)
    lately = _replies_since_a_human(known)[: every - 1]
    return reply if any(_has(text, disclosure) for text in lately) else f"{disclosure}\n\n{reply}"


def _replies_since_a_human(known: Sequence[Turn]) -> list[str]:
    """The bot's replies, the newest first."""
    replies = []
    for turn in reversed(known):
        if turn.role == "sale":
            break
        if turn.role == "assistant":
            replies.append(turn.content)
    return replies


def _has(reply: str, disclosure: str) -> bool:
    """Whether a reply says the disclosure, also where its platform has changed blanks and breaks."""
    return " ".join(disclosure.split()) in " ".join(reply.split())


def with_notice(reply: str, messages: Sequence[Message], config: Mapping[str, Any]) -> str:
    """The reply to messages in which the rules find danger, with the notice behind it.

    Intake has given the notice of an emergency or a crisis already. But the patient may read the reply alone.
    """
    found = screen(shipped(), [message.content for message in messages])
    if found is None:
        return reply
    notice = notice_of(config, found.level)
    return reply if notice in reply else f"{reply}\n\n{notice}"
