"""What intake does with a request: find its bot's configuration, accept its messages, send their record, answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from message_handler.bot_config import BotConfigService
from message_handler.domain import history
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.double_texting import POLICIES, DoubleTexting
from message_handler.domain.edits import versions_of
from message_handler.domain.errors import (
    TRANSIENT,
    HandedOff,
    InvalidRequest,
    OtherBot,
    PayloadTooLarge,
    Unavailable,
    telling,
)
from message_handler.domain.identifiers import new_id
from message_handler.domain.messages import Message, Request, known_by, new_message
from message_handler.domain.records import Record, WordlessRecord
from message_handler.intake.danger import Alarm, for_a_human, worst
from message_handler.intake.requests import MessageRequest, Said, read_turns
from message_handler.intake.responses import nothing_to_answer, parked_response, response
from message_handler.intake.shares import Shares
from message_handler.intake.silence import silence
from message_handler.metrics import TIER_VALUES, Meter
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Accepted
from message_handler.safety.reader import Reader
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover

_log = logging.getLogger(__name__)
#: The longest wait for a patient who goes on typing, unless the bot has its own `debounce_max_ms`.
DEFAULT_DEBOUNCE_MAX_MS = 10_000


class Answered(NamedTuple):
    """The body of a `202`, and the patient's messages that wait together, for the bot or parked.

    `is_new`: the request's own message waits for the bot now, and did not before.
    """

    body: dict[str, Any]
    waiting: tuple[Message, ...] = ()
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Intake:
    """The use case of the intake function."""

    tiers: Failover
    archive: Archive
    queue: Queue
    bots: BotConfigService
    settings: Settings
    clock: Callable[[], float] = time.time
    meter: Meter = field(default_factory=Meter)
    #: Wakes deliveries, beside the jobs that wait. None: the queue of jobs does.
    delivery_queue: Queue | None = None

    @property
    def shares(self) -> Shares:
        """How much each tenant may send."""
        return Shares(self.tiers, self.bots, self.settings, self.meter)

    def handle(self, key: ConversationKey, request: MessageRequest, *, correlation_id: str = "") -> dict[str, Any]:
        """Accept a request's messages, and return the body of the `202`.

        Raises RequestError (Rejected, if the bot's policy is to reject) or Unavailable; then nothing was accepted.
        (If only the record of messages without words is refused, those with words are answered nevertheless.)

        If the rules find danger in the messages, the body has a `safety`, and so has every error (see `safety_of`).
        """
        queue = self.delivery_queue or self.queue
        alarm = Alarm(
            key,
            request.bot_id,
            correlation_id,
            self.tiers,
            self.archive,
            queue,
            self.bots,
            Reader(lambda: self.bots.rules_of(key, request.bot_id)),
            self.clock,
            self.meter,
        )
        try:
            said = read_turns(request, alarm.recognise(), newest=self.settings.history_turns)
        except PayloadTooLarge as error:
            raise telling(error, alarm.give(alarm.look_at_the_end(request), ())) from error.__cause__
        now = self.clock()
        messages, wordless = _messages(said.messages, now), _messages(said.wordless, now)
        if said.ends_wordless and (last := wordless[-1]).given:
            messages = known_by(messages, last.message_id)
        # Before all that may refuse the request or fail.
        screened = alarm.look(messages)
        found, severe = worst(screened), for_a_human(screened, messages)
        try:
            body, waiting, is_new = self._handle(key, request, said, messages, wordless, severe, correlation_id)
        except Exception as error:  # noqa: BLE001  the answer to each error has the notice
            raise telling(error, alarm.give(found, messages)) from error.__cause__
        own = found
        found = alarm.look_at_what_waits(found, messages, waiting)
        if is_new and found is not own:
            alarm.hand_off(found, self.queue)
        safety = alarm.give(found, messages)
        return body | {"safety": safety} if safety else body

    def _handle(
        self,
        key: ConversationKey,
        request: MessageRequest,
        said: Said,
        messages: tuple[Message, ...],
        wordless: tuple[Message, ...],
        for_a_human: frozenset[str],
        correlation_id: str,
    ) -> Answered:
        """Take the request in with its bot's limits. If a tier knows another bot for the conversation, that bot's.

        If the bot is configured so, messages `for_a_human` hand the conversation off, in the step that parks them:

            refused: 409, 413, 429 ── the bot goes on
            tier: m0 is new, accepts nothing ── Postgres: silent, fence + 1, m0 parked ── tiers: flag, lease emptied
            tier: m0 waits or was answered: the platform sends it again, maybe after a resume ── the bot goes on
            tier: m0 is new ── Postgres away: m0 can't be parked ── accept again: the bot answers
        """
        bot_id, counted = request.bot_id, False
        while True:
            config = self.bots.get_bot_config(key.conversation_id, bot_id=bot_id, platform_id=key.platform_id)
            if not counted:
                own = config["platform"]["meta_data"].get("rate_limit_per_minute")
                self.shares.take_messages(key.platform_id, max(1, len(messages) + len(wordless)), own)
                counted = True
            accepting = Request(
                key,
                messages,
                _trimmed(said.context, config["meta_data"]),
                config["bot_id"],
                request.resources,
                correlation_id,
                bounded=True,
                for_a_human=for_a_human if config["meta_data"].get("after_danger") == "human" else frozenset(),
                **_policy(request, config["meta_data"], self.settings),
            )
            try:
                answered = self._respond(accepting, said, wordless, config["name"])
            except OtherBot as other:
                if bot_id:
                    raise
                # The conversation's first message is still on its way to Postgres: only the tier knows its bot.
                bot_id = other.bot_id
                self.bots.belongs_to(key, bot_id)
            else:
                if answered is not None:
                    return answered
                for_a_human = frozenset()

    def _respond(self, request: Request, said: Said, wordless: tuple[Message, ...], bot_name: str) -> Answered | None:
        """Accept or park a request's messages, and keep those without words.

        None: the tier believes that a human answers, but the bot does; or none can be called. The caller tries again.
        """
        human = self._human_answers(request, said)
        if wordless and not request.messages:
            self.meter.add("MessagesAccepted")
            return Answered(self._keep(request, wordless))
        try:
            if human:
                raise HandedOff(0, ())
            tier, accepted = self.accept(request)
        except HandedOff as handed_off:
            answered = self._park(request, handed_off)
            if answered is None:
                return None
        else:
            if said.ends_wordless and not accepted.recognised:
                return Answered(self._keep(request, wordless))
            degraded = tier.name != self.tiers.expected or self.bots.degraded
            body = response(accepted, bot_name, degraded=degraded)
            answered = Answered(body, accepted.pending, not accepted.duplicate)
        # Those without an id are not kept: a platform that sends whole histories would bring each again and again.
        if named := tuple(message for message in wordless if message.given):
            self._keep(request, named)
        return answered

    def _keep(self, request: Request, wordless: tuple[Message, ...]) -> dict[str, Any]:
        """Send the record of messages without words. Returns the response to a request that brings nothing else."""
        found = None
        with suppress(*TRANSIENT):
            # The conversation's first message may still be on its way to Postgres, so only a tier knows its bot.
            found = self.tiers.find(lambda tier: tier.waiting(request.key))
        bot_id = found[1].bot_id if found else request.bot_id
        self.queue.send(WordlessRecord(request.key, bot_id, wordless, request.correlation_id))
        return nothing_to_answer(kept=self.archive.name != "none", degraded=self.bots.degraded)

    def _human_answers(self, request: Request, said: Said) -> bool:
        """Whether a human has spoken since the bot's last turn, and the bot has not been resumed: it is silent then.

        Raises Unavailable. Raises InvalidRequest for a request that only repeats a human's turn from before the resume.
        """
        turns = history.since_the_bot(said.context, self.settings.human_turns)
        if not turns:
            return False
        noted = self.archive.note_sale(request.key, request.bot_id, turns)
        if noted == "new":
            silence(self.tiers, self.queue, request.key)
        elif noted == "resumed" and not said.messages and not said.wordless:
            raise InvalidRequest("ends with a reply: there is nothing to answer", field="history")
        return noted != "resumed"

    def _park(self, request: Request, handed_off: HandedOff) -> Answered | None:
        """Park a request's messages while a human answers. None if the bot answers: the tier was wrong.

        Raises Unavailable, because only a durable message may be promised an answer. (But danger that should have
        called a human is answered by the bot then.)
        """
        messages = request.messages[handed_off.answered :]
        try:
            parked = self.archive.park(request, messages)
        except Exception as error:
            if not request.for_a_human:
                raise
            _log.error("danger can't be handed off", extra={"error": type(error).__name__})
            return None
        if parked and request.for_a_human:
            silence(self.tiers, self.queue, request.key)
        if parked is None:
            with suppress(*TRANSIENT):
                self.tiers.each(lambda tier: tier.hand_off(request.key, human=False))
            return None
        if messages:
            self.meter.add("MessagesAccepted")
        if request.messages and not messages:
            parked = replace(parked, duplicate=True)
        if parked.duplicate:
            self.meter.add("MessagesDuplicate")
        body = parked_response(parked, handed_off.waiting, degraded=self.bots.degraded)
        return Answered(body, parked.messages)

    def accept(self, request: Request) -> tuple[Tier, Accepted]:
        """Take the messages in and send their record, or undo. Returns the tier that has taken them, and its answer.

        The record is sent for a duplicate too: the process that accepted the message first may have died before it
        sent one (counterexample 1).
        """
        key, began = request.key, self.clock()
        # The same ids on every tier. A tier may take the messages, but its answer may be lost: it leaves no second job.
        job_id, lock_id = key.new_job_id(), new_id()
        tier, accepted = self.tiers.first(lambda tier: tier.accept(request, job_id=job_id, lock_id=lock_id))
        self.meter.add("TimeToLock", 1000 * (self.clock() - began))
        if accepted.interrupted:
            # Even if the record can't be sent. While Postgres is away, only the tier stops the old run's commit.
            with suppress(Unavailable):
                self.archive.interrupt(accepted.interrupted)
        record = _record(request, accepted)
        # A worker in another process can't see this process's memory: its record must not wait for the job there.
        only_here = tier.name == "memory" and not self.queue.in_process
        # While the patient may still be typing, the record waits in SQS, where waiting costs nothing. SQS counts whole
        # seconds.
        quiet = int(request.debounce)
        try:
            self.queue.send(record, delay=quiet if accepted.lock_id or only_here else self.settings.join_delay)
        except (Unavailable, PayloadTooLarge):
            # If the tier has gone away meanwhile, it keeps the messages. The sweep wakes them: they are answered,
            # although the request was refused.
            with suppress(*TRANSIENT):
                tier.undo(key, accepted.posted)
            raise
        if accepted.interrupted:
            self.meter.add("JobsInterrupted")
        self._measure(tier, accepted)
        return tier, accepted

    def _measure(self, tier: Tier, accepted: Accepted) -> None:
        self.meter.add("MessagesAccepted")
        self.meter.add("Tier", TIER_VALUES[tier.name])
        if accepted.duplicate:
            self.meter.add("MessagesDuplicate")
        elif accepted.lock_id is None:
            self.meter.add("MessagesConsolidated")


def _messages(turns: tuple[Turn, ...], now: float) -> tuple[Message, ...]:
    """The turns as messages, accepted `now`. All but the last are earlier turns of the request."""
    last = len(turns) - 1
    return tuple(
        new_message(turn.content, turn.message_id, now, edited_at=turn.edited_at, earlier=number < last)
        for number, turn in enumerate(turns)
    )


def _trimmed(context: tuple[Turn, ...], limits: dict[str, Any]) -> tuple[Turn, ...]:
    """As much of the context as the AI will see. Redis and the record need not keep more."""
    return history.trim(
        context,
        (),
        max_messages=int(limits.get("max_context_messages", 20)),
        max_characters=int(limits.get("max_context_characters", 10_000)),
    )


def _record(request: Request, accepted: Accepted) -> Record:
    """The record of accepted messages. It has all messages that wait, so that a record alone can redo the work.

    If the job has ended, no message waits. Then the record has the request's own message, under the id that was
    answered.
    """
    own = request.messages[-1]
    if own.message_id != accepted.message_id:
        own = replace(own, message_id=accepted.message_id)
    # A message that the platform sends again was accepted now: an erasure since the first time does not void it.
    # All versions of it were, each a microsecond after the one before it, so that the newest one stays the newest.
    posted, times = set(accepted.posted), {m.message_id: m.accepted_at for m in accepted.pending}
    for versions in versions_of(accepted.pending):
        if any(version.message_id in posted for version in versions):
            times |= {version.message_id: own.accepted_at + n / 1e6 for n, version in enumerate(versions)}
    pending = tuple(replace(message, accepted_at=times[message.message_id]) for message in accepted.pending)
    return Record(accepted.job_id, accepted.message_id, replace(request, messages=pending or (own,)))


def _policy(request: MessageRequest, configured: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What happens to messages that come together: as the request says, else as its bot says, else the default."""
    policy: DoubleTexting = request.double_texting or configured.get("double_texting", "consolidate")
    quiet, longest = request.debounce_ms, configured.get("debounce_max_ms", DEFAULT_DEBOUNCE_MAX_MS)
    if quiet is None:
        quiet = configured.get("debounce_ms", settings.debounce_ms)
    if not POLICIES[policy].waits:  # guard: policy reject, no debounce
        quiet = 0
    return {"double_texting": policy, "debounce": min(quiet, longest) / 1000, "debounce_max": longest / 1000}
