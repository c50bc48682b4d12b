"""Danger in a patient's messages: intake looks for it first, and gives the safety notice with its answer.

Nothing that fails behind the notice keeps it from the patient:

    rules find danger ── the request is accepted, refused, or fails ── the answer has the notice
                         Postgres keeps the notice as a job of its own ── away: a record brings it later
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from message_handler.bot_config import BotConfigService
from message_handler.domain import history
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import TRANSIENT, MessageHandlerError
from message_handler.domain.messages import Message
from message_handler.domain.raised import Raised
from message_handler.domain.records import DeliveryRecord, NoticeRecord
from message_handler.domain.safety import Finding, Level
from message_handler.intake.requests import MAX_HISTORY_BYTES, MAX_UNANSWERED, MessageRequest, turns_of
from message_handler.intake.silence import silence
from message_handler.metrics import Meter
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.safety.notices import is_configured, notice_of, notice_texts, plain
from message_handler.safety.reader import Reader
from message_handler.safety.screening import Screened
from message_handler.tiers.failover import Failover

_log = logging.getLogger(__name__)
#: A patient's messages that wait together are read as one text: this many of the newest, with this many characters.
MOST_MESSAGES, MOST_CHARACTERS = 20, 4_000
#: A conversation gets one notice of a level in this time.
NOTICE_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Alarm:
    """What intake does about danger in one conversation. `queue` wakes deliveries. `reader` has the tenant's rules."""

    key: ConversationKey
    bot_id: str | None
    correlation_id: str
    tiers: Failover
    archive: Archive
    queue: Queue
    bots: BotConfigService
    reader: Reader
    clock: Callable[[], float]
    meter: Meter

    def look(self, messages: Sequence[Message]) -> Screened | None:
        """The danger in a request's messages, alone or read as one text."""
        return self.reader.screen([message.content for message in messages])

    def look_at_the_end(self, request: MessageRequest) -> Finding | None:
        """The worst danger in the newest messages of a request that is too large to be accepted.

        It reads as much of them as an accepted request may have.
        """
        _, messages = history.split(turns_of(request, self.recognise()))
        newest: list[str] = []
        left = MAX_HISTORY_BYTES
        for message in messages[: -MAX_UNANSWERED - 1 : -1]:
            content = message.content.encode()
            newest.insert(0, content[-left:].decode(errors="ignore"))
            left -= len(content)
            if left <= 0:
                break
        return worst(self.reader.screen(newest))

    def look_at_what_waits(
        self, own: Finding | None, messages: Sequence[Message], waiting: Sequence[Message]
    ) -> Finding | None:
        """The worst danger in a request's messages, also where a patient has split one phrase over several requests.

        What only earlier messages say does not count again: the answers to their requests had the notice. Each message
        was read alone when it came, so only the joined text is read now.
        """
        if own and own.level is Level.EMERGENCY:
            return own
        newest: list[str] = []
        left = MOST_CHARACTERS
        for message in waiting[: -MOST_MESSAGES - 1 : -1]:
            left -= len(message.content)
            if left < 0:
                break
            newest.insert(0, message.content)
        together = self.reader.screen(newest, only_joined=True) if len(newest) > 1 else None
        said = {message.content for message in messages}
        shares = [share for index, share in together.findings.items() if newest[index] in said] if together else []
        return max([own, *shares] if own else shares, key=lambda each: each.level, default=None)

    def recognise(self) -> Callable[[str], bool]:
        """Tells whether a bot's turn in a platform's history is a safety notice, which answers nothing.

        The configuration is read for the first of these turns alone: most requests have none.
        """
        notices = cache(lambda: notice_texts(self._config()))
        return lambda text: plain(text) in notices()

    def hand_off(self, found: Finding | None, jobs: Queue) -> None:
        """Let a human answer an emergency or a crisis that is whole only now, with a message that was accepted.

        The bot must be configured so. Raises nothing. While Postgres is away the bot answers, because only Postgres can
        park a message.
        """
        if found is None or found.level is Level.URGENT:
            return
        try:
            if self._configured()["meta_data"].get("after_danger") != "human":
                return
            bot_id = self._bot()
            if bot_id is not None:
                self.archive.hand_off(self.key, bot_id)
                silence(self.tiers, jobs, self.key)
        except Exception as error:  # noqa: BLE001  after any error the bot answers
            _log.error("danger can't be handed off", extra=_named(error))

    def give(self, found: Finding | None, messages: Iterable[Message]) -> dict[str, Any] | None:
        """The `safety` of an answer, or None without danger. Raises nothing.

        The notice of an emergency or a crisis becomes a job: the same one for a conversation, a level and an hour. A
        worker adds the line of an urgent match to the model's reply.
        """
        if found is None:
            return None
        config, now = self._config(), self.clock()
        notice = notice_of(config, found.level)
        if not is_configured(config):
            self.meter.add("SafetyUnconfigured")
        shown = {"level": found.level.value, "rule": found.rule, "notice": notice, "notice_job_id": None}
        self.meter.add("SafetyNotices")
        if found.level is Level.URGENT or self.archive.name == "none":
            return shown
        bot_id = self._bot()
        if bot_id is None:
            return shown
        raised = Raised(
            self.key,
            self.key.notice_job_id(found.level.value, int(now // NOTICE_SECONDS)),
            bot_id,
            found.level.value,
            found.rule,
            self.reader.rules.version,
            notice,
            tuple(id_ for message in messages if (id_ := message.turn_id)),
            now,
            self.correlation_id,
        )
        try:
            self._raise(raised)
        except Exception as error:  # noqa: BLE001  no error keeps the notice from the patient
            _log.error("a notice can't be kept or told", extra={"ai_job_id": raised.job_id, **_named(error)})
        return shown | {"notice_job_id": raised.job_id}

    def _raise(self, raised: Raised) -> None:
        _log.warning("danger", extra={"ai_job_id": raised.job_id, "danger": raised.level, "rule": raised.rule})
        try:
            new = self.archive.note_raised(raised)
        except MessageHandlerError:
            self.queue.send(NoticeRecord(raised))
        else:
            if new:
                self.queue.send(DeliveryRecord(self.key))

    def _config(self) -> dict[str, Any]:
        """The bot's configuration, or the default one. Raises nothing, because a notice needs words."""
        try:
            return self.bots.config_of_notice(self.key, self.bot_id)
        except Exception as error:  # noqa: BLE001  no error keeps the notice from the patient
            _log.error("a notice has the default words", extra=_named(error))
            return self.bots.default

    def _bot(self) -> str | None:
        """The bot to which a new conversation would belong. None: there is no such bot, or it may not answer.

        m0, of bot X, waits in the tier ── m1, which names no bot ── archived for the default bot: X can't answer m0
        """
        with suppress(*TRANSIENT):
            if found := self.tiers.find(lambda tier: tier.waiting(self.key)):
                return found[1].bot_id
        if owner := self.bots.owner_of(self.key):
            return owner
        try:
            bot_id: str = self._configured()["bot_id"]
        except MessageHandlerError:
            return None
        return bot_id

    def _configured(self) -> dict[str, Any]:
        return self.bots.get_bot_config(self.key.conversation_id, bot_id=self.bot_id, platform_id=self.key.platform_id)


def worst(screened: Screened | None) -> Finding | None:
    """The worst danger that was found."""
    return max(screened.findings.values(), key=lambda each: each.level) if screened else None


def for_a_human(screened: Screened | None, messages: Sequence[Message]) -> frozenset[str]:
    """The ids of a request's messages with an emergency or a crisis."""
    shares = screened.findings.items() if screened else ()
    return frozenset(messages[index].message_id for index, share in shares if share.level is not Level.URGENT)


def _named(error: Exception) -> dict[str, str]:
    """The error's type alone: its text may quote what was said."""
    return {"error": type(error).__name__}
