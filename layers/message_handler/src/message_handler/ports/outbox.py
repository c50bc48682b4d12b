"""The port of the outbox, which keeps the webhook deliveries until they have arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.events import Event, EventKind


@dataclass(frozen=True, slots=True)
class Delivery:
    """The delivery of an event to its platform, claimed for one try.

    `claim_id` is compared when the result of the try is reported. A try that fails after `give_up_at` (Unix seconds) is
    the last one. `failures`: how often the platform failed in a row.
    """

    event: Event
    webhook_id: str
    claim_id: str
    attempts: int
    give_up_at: float
    failures: int


@dataclass(frozen=True, slots=True)
class DeadDelivery:
    """A delivery that was given up, as people may see it, without text. `created_at` is in Unix seconds."""

    webhook_id: str
    event: EventKind
    conversation_id: str
    job_id: str
    attempts: int
    created_at: float
    last_error: str


class Outbox(Protocol):
    """Keeps deliveries. Times are in Unix seconds.

    The archive adds a delivery in the transaction that ends its job, settles an unsent message, or notes found danger.

    Each method raises Unavailable if the store is away.
    """

    def webhook(self, platform_id: str) -> tuple[str, dict[str, Any]] | None:
        """A platform's `base_url` and `meta_data`, with their secrets; None if it has no webhook."""

    def claim(
        self, key: ConversationKey, claim_id: str, *, now: float, until: float, most: int, busy_until: float
    ) -> Delivery | float | None:
        """Claim the conversation's oldest delivery for one try, if it is due and no other worker has it (invariant 6).

        Found danger goes before: it waits for none of the others, and holds none of them back. A worker that has not
        reported by `until` may lose the delivery to another one. At the same time, a platform has at most `most`
        claimed deliveries, beside those of danger. A platform that fails has none until it may be tried again, and then
        one. If the delivery is due but may not be claimed, the result is when to ask again: `busy_until` if `most` is
        reached. None if nothing is due.
        """

    def delivered(self, delivery: Delivery, *, now: float) -> bool:
        """Note that a delivery has arrived, so its platform works. False, and nothing changed: the claim was lost."""

    def undelivered(
        self,
        delivery: Delivery,
        code: str,
        *,
        next_attempt_at: float,
        dead: bool,
        retry_at: float | None,
        certain: bool,
    ) -> bool:
        """Note that a try has failed. The next one is at `next_attempt_at`, or never if `dead`.

        False, and nothing changed, if the claim was lost. `retry_at` is set if the platform itself may have failed.
        Then no delivery is sent to it before that time. This takes effect if the failure is `certain`, if the platform
        failed before, or if a second conversation in a row fails.
        """

    def due(self, platform_id: str | None = None, *, now: float, most: int) -> list[ConversationKey]:
        """Up to `most` conversations with a delivery that is due: one of each platform in turn.

        Danger comes first, and then deliveries that were never tried. A platform that fails has only one of them.
        `platform_id`: only that platform's.
        """

    def expire(self, *, now: float, overdue: float) -> list[str]:
        """Give up the deliveries whose time had ended by `overdue`. Returns the ids of their jobs."""

    def dead(self, platform_id: str, *, most: int) -> list[DeadDelivery]:
        """Up to `most` of the tenant's deliveries that were given up, oldest first."""

    def redrive(self, platform_id: str, *, now: float) -> list[ConversationKey]:
        """Try the tenant's given-up deliveries for another day. Returns their conversations, one for each delivery."""
