"""Which replies a patient may read, and what they say beside the model's words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from message_handler.ai.port import Prompt
from message_handler.domain.conversations import Turn
from message_handler.domain.edits import newest_versions
from message_handler.domain.jobs import Job, MessageFinding
from message_handler.domain.messages import Message
from message_handler.domain.notices import disclosure_of, silence
from message_handler.domain.safety import Level
from message_handler.ports.archive import Fence
from message_handler.safety.notices import notice_of
from message_handler.safety.reader import Reader
from message_handler.safety.screening import Screened
from message_handler.safety.tenants import rules_of

#: A bot says what it is in its first reply, and in each further reply of this number.
DISCLOSURE_EVERY = 20


@dataclass(frozen=True, slots=True)
class Danger:
    """What the rules find in a job's messages, read once.

    `raised`: the level at which the conversation is raised: an emergency, a crisis, or None.
    """

    reader: Reader
    messages: tuple[Message, ...]
    raised: Level | None
    found: Screened | None
    rules_version: str

    @classmethod
    def of(cls, job: Job, fence: Fence | None, config: Mapping[str, Any]) -> Danger:
        reader = Reader(lambda: rules_of(config["platform"]), **job.log_fields)
        messages = tuple(newest_versions(job.messages))
        raised, found = _raised_level(reader, job, fence), reader.screen([message.content for message in messages])
        return cls(reader, messages, raised, found, reader.rules.version)

    @property
    def level(self) -> Level | None:
        """The level of the messages. In a raised conversation, it is at least a crisis."""
        if self.found is None or (self.raised and self.found.level is Level.URGENT):
            return self.raised
        return self.found.level

    @property
    def findings(self) -> tuple[MessageFinding, ...]:
        """What was found in each of the messages, also where they are one text together."""
        return tuple(
            MessageFinding(
                self.messages[index].message_id, share.level.value, share.rule, self.rules_version, share.place
            )
            for index, share in sorted(self.found.findings.items() if self.found else ())
        )


def _raised_level(reader: Reader, job: Job, fence: Fence | None) -> Level | None:
    """While Postgres is away, the platform's own history tells it, as far as the bot's limits let it through."""
    if fence:
        return Level(fence.raised) if fence.raised else None
    before = [turn.content for turn in job.context if turn.role == "user"]
    found = [found.level for content in before if (found := reader.screen([content]))]
    return max((level for level in found if level is not Level.URGENT), default=None)


def is_refused(reply: str, prompt: Prompt, danger: Danger) -> bool:
    """Whether no patient may read the reply, or not this one.

    This one: the conversation is raised, or the patient has told of danger in what the AI was shown.
    """
    level = danger.reader.forbidden(reply)
    return level is Level.EMERGENCY or (
        level is not None and (danger.level is not None or _told_before(prompt, danger))
    )


def _told_before(prompt: Prompt, danger: Danger) -> bool:
    return any(danger.reader.screen([turn.content]) for turn in prompt.context if turn.role == "user")


def with_disclosure(reply: str, known: Sequence[Turn], config: Mapping[str, Any], now: float) -> str:
    """The reply, which begins with the bot's disclosure where the patient has not read it lately.

    `known`: the conversation before the reply. A patient who has talked with a human is told again. The hours count
    for replies whose time is known.
    """
    disclosure, limits = disclosure_of(config), config["meta_data"]
    if disclosure is None or _has(reply, disclosure):
        return reply
    lately = _replies_since_a_human(known)[: limits.get("disclosure_every", DISCLOSURE_EVERY) - 1]
    since = now - 3600 * limits.get("disclosure_hours", math.inf)
    told = any(_has(turn.content, disclosure) and (turn.said_at > since or not turn.said_at) for turn in lately)
    return reply if told else f"{disclosure}\n\n{reply}"


def _replies_since_a_human(known: Sequence[Turn]) -> list[Turn]:
    """The bot's replies, the newest first."""
    replies = []
    for turn in reversed(known):
        if turn.role == "sale":
            break
        if turn.role == "assistant":
            replies.append(turn)
    return replies


def _has(reply: str, disclosure: str) -> bool:
    """Whether a reply says the disclosure, also where its platform has changed blanks and breaks."""
    return " ".join(disclosure.split()) in " ".join(reply.split())


def silent_reply(danger: Danger, config: Mapping[str, Any]) -> str | None:
    """The reply of a bot that stays silent after an emergency or a crisis; None if the bot answers.

    It settles the messages as any reply does. The notice alone could not: intake drops a bot's turn that repeats it.
    """
    is_silent = config["meta_data"].get("after_danger") == "silent"
    if not is_silent or danger.level in (None, Level.URGENT):
        return None
    return with_notice(silence(config), danger, config)


def with_notice(reply: str, danger: Danger, config: Mapping[str, Any]) -> str:
    """The reply with the notice behind it, if the rules find danger in its messages, or the conversation is raised.

    Intake has given the notice already. But the patient may read the reply alone.
    """
    if danger.level is None:
        return reply
    notice = notice_of(config, danger.level)
    return reply if notice in reply else f"{reply}\n\n{notice}"
