"""What intake does with a request: configure, accept, send, answer."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from message_handler.bot_config import BotConfigService
from message_handler.domain import history
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.double_texting import POLICIES, DoubleTexting
from message_handler.domain.errors import (
    TRANSIENT,
    HandedOff,
    InvalidRequest,
    OtherBot,
    PayloadTooLarge,
    RateLimited,
    Unavailable,
)
from message_handler.domain.identifiers import new_id
from message_handler.domain.messages import Request, new_message
from message_handler.domain.records import Record
from message_handler.intake.requests import MessageRequest, read_turns
from message_handler.intake.responses import parked_response, response
from message_handler.intake.silence import silence
from message_handler.metrics import TIER_VALUES, Meter
from message_handler.ports.archive import Archive
from message_handler.ports.queue import Queue
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Accepted
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover

_log = logging.getLogger(__name__)
#: A patient is waited for no longer than this in all, unless the bot says so.
DEFAULT_DEBOUNCE_MAX_MS = 10_000


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

    def handle(self, key: ConversationKey, request: MessageRequest, *, correlation_id: str = "") -> dict[str, Any]:
        """Accept a message: the body of the `202`.

        Raises RequestError (Rejected where the bot's policy is to), or Unavailable; then nothing was accepted.
        """
        context, messages = read_turns(request)
        bot_id, counted, now = request.bot_id, False, self.clock()
        new = tuple(new_message(message.content, message.message_id, now) for message in messages)
        while True:
            config = self.bots.get_bot_config(key.conversation_id, bot_id=bot_id, platform_id=key.platform_id)
            if not counted:
                self._count(key.platform_id, config["platform"]["meta_data"].get("rate_limit_per_minute"))
                counted = True
            limits = config["meta_data"]
            # More than the AI will see need not be kept in Redis and in the record.
            kept = history.trim(
                context,
                (),
                max_messages=int(limits.get("max_context_messages", 20)),
                max_characters=int(limits.get("max_context_characters", 10_000)),
            )
            accepting = Request(
                key,
                new,
                kept,
                config["bot_id"],
                request.resources,
                correlation_id,
                bounded=True,
                **_policy(request, limits, self.settings),
            )
            try:
                if self._human_answers(accepting, context):
                    raise HandedOff(0, ())
                tier, accepted = self.accept(accepting)
            except OtherBot as other:
                if bot_id:
                    raise
                # The conversation's first message is still on its way to Postgres: the tier knew better.
                bot_id = other.bot_id
                self.bots.belongs_to(key, bot_id)
                continue
            except HandedOff as silent:
                if told := self._hold(accepting, silent):
                    return told
                continue
            degraded = tier.name != self.tiers.expected or self.bots.degraded
            return response(accepted, config["name"], degraded=degraded)

    def _count(self, platform_id: str, per_minute: int | None) -> None:
        """Count a request of the tenant, duplicates too: they cost as much. Raises RateLimited."""
        if per_minute is None:
            return
        try:
            _, wait = self.tiers.first(lambda tier: tier.admit(platform_id, per_minute))
        except Exception as error:  # noqa: BLE001  a limit that can't be kept keeps no patient waiting
            _log.warning("the rate limit can't be kept", extra={"error": type(error).__name__})
            return
        if wait > 0:
            self.meter.add("MessagesThrottled")
            raise RateLimited(math.ceil(wait))

    def _human_answers(self, request: Request, context: tuple[Turn, ...]) -> bool:
        """Whether a human has spoken since the bot's last turn and not handed back: the bot is silent then.

        Raises Unavailable, and InvalidRequest for a mere notification of what was noted before it was handed back.
        """
        said = history.since_the_bot(context)
        if not said:
            return False
        noted = self.archive.note_sale(request.key, request.bot_id, said)
        if noted == "new":
            silence(self.tiers, self.queue, request.key)
        elif noted == "resumed" and not request.messages:
            raise InvalidRequest("the history ends with a reply: there is nothing to answer", field="history")
        return noted != "resumed"

    def _hold(self, request: Request, silent: HandedOff) -> dict[str, Any] | None:
        """Keep a request's messages while a human answers; None if the bot does, whatever the tier believes.

        Raises Unavailable: nothing is promised that is not durable.
        """
        messages = request.messages[silent.answered :]
        held = self.archive.park(request.key, messages, request.context, request.resources)
        if held is None:
            with suppress(*TRANSIENT):
                self.tiers.each(lambda tier: tier.hand_off(request.key, human=False))
            return None
        if messages:
            self.meter.add("MessagesAccepted")
        if held.duplicate:
            self.meter.add("MessagesDuplicate")
        return parked_response(held, silent.waiting, degraded=self.bots.degraded)

    def accept(self, request: Request) -> tuple[Tier, Accepted]:
        """Take the messages in and send their record, or undo; returns the tier that took them too.

        The record is sent for a duplicate too: whoever accepted it first may have died before it was sent
        (counterexample 1).
        """
        key, began = request.key, self.clock()
        # The same names on every tier: one that did it and could not say so leaves no second job.
        job_id, lock_id = key.new_job_id(), new_id()
        tier, accepted = self.tiers.first(lambda tier: tier.accept(request, job_id=job_id, lock_id=lock_id))
        self.meter.add("TimeToLock", 1000 * (self.clock() - began))
        if accepted.interrupted:
            # Whatever becomes of the record. While Postgres is away the tier alone keeps the old run from its commit.
            with suppress(Unavailable):
                self.archive.interrupt(accepted.interrupted)
        # A job that has ended keeps nothing waiting: its record stands for the request's own message alone,
        # under the name that was answered.
        own = request.messages[-1]
        if own.message_id != accepted.message_id:
            own = replace(own, message_id=accepted.message_id)
        # What the platform gives again was accepted now: an erasure since the first time does not void it.
        given, now = set(accepted.posted), own.accepted_at
        pending = [replace(m, accepted_at=now) if m.message_id in given else m for m in accepted.pending]
        messages = tuple(pending) or (own,)
        record = Record(
            accepted.job_id,
            accepted.message_id,
            replace(request, messages=messages),
        )
        # No worker shares this process's memory: a record that waited there for its job would wait in vain.
        alone = tier.name == "memory" and not self.queue.in_process
        # While the patient may still be typing a worker would have to wait: SQS waits for nothing, but counts seconds.
        quiet = int(request.debounce)
        try:
            self.queue.send(record, delay=quiet if accepted.lock_id or alone else self.settings.join_delay)
        except (Unavailable, PayloadTooLarge):
            # What a tier that went away meanwhile keeps is woken by the sweep: answered, though it was refused.
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


def _policy(request: MessageRequest, configured: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """What becomes of messages that come together: as the request says, else as its bot does, else as usual."""
    policy: DoubleTexting = request.double_texting or configured.get("double_texting", "consolidate")
    quiet, longest = request.debounce_ms, configured.get("debounce_max_ms", DEFAULT_DEBOUNCE_MAX_MS)
    if quiet is None:
        quiet = configured.get("debounce_ms", settings.debounce_ms)
    if not POLICIES[policy].waits:  # guard: policy reject, no debounce
        quiet = 0
    return {"double_texting": policy, "debounce": min(quiet, longest) / 1000, "debounce_max": longest / 1000}
