"""The port of the outbox: what platforms are still to be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job


@dataclass(frozen=True, slots=True)
class Delivery:
    """A job's end on its way to the platform, claimed for one try; `claim_id` is compared when that is reported.

    `message_ids` are the platform's own. From `give_up_at` (Unix seconds) on a failed try is the last one.
    `failures` are the platform's in a row.
    """

    job: Job
    webhook_id: str
    claim_id: str
    message_ids: tuple[str, ...]
    attempts: int
    give_up_at: float
    failures: int


@dataclass(frozen=True, slots=True)
class DeadDelivery:
    """A delivery that was given up, as people may see it: no text. `created_at` is in Unix seconds."""

    webhook_id: str
    conversation_id: str
    job_id: str
    attempts: int
    created_at: float
    last_error: str


class Outbox(Protocol):
    """What platforms are still to be told. An archive's commits fill it, in the same transactions."""

    def webhook(self, platform_id: str) -> tuple[str, dict[str, Any]] | None:
        """A platform's `base_url` and `meta_data`, secrets included; None if it has no webhook."""

    def claim(
        self, key: ConversationKey, claim_id: str, *, now: float, until: float, most: int, busy_until: float
    ) -> Delivery | float | None:
        """The conversation's oldest delivery for one try, if it is due and nobody has it; never one behind it.

        Whoever has not reported by `until` may have lost it to another. Of a platform that fails nothing is handed
        out until it may be tried again, and then one delivery; of any other no more than `most` at the same time. What
        is due but not handed out may be asked for again at the moment that is returned: `busy_until` if it is `most`.
        """

    def delivered(self, delivery: Delivery, *, now: float) -> bool:
        """It has arrived; its platform is back, if it had failed. False, and nothing changed: the claim was lost."""

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
        """The try has failed: once more at `next_attempt_at`, or never if `dead`. False if the claim was lost.

        With `retry_at` the platform itself has failed, and nothing is sent to it before: if that is `certain`, if it
        failed before, or if this is the second conversation in a row that failed.
        """

    def due(self, platform_id: str | None = None, *, now: float, most: int) -> list[ConversationKey]:
        """Conversations with something to deliver now, in turn one of each platform; of one that fails a single one.

        Those of one platform alone if it is named; first those that were never tried.
        """

    def expire(self, *, now: float, overdue: float) -> list[str]:
        """Give up deliveries whose time had ended by `overdue`; returns their jobs."""

    def dead(self, platform_id: str, *, most: int) -> list[DeadDelivery]:
        """The tenant's deliveries that were given up, oldest first."""

    def redrive(self, platform_id: str, *, now: float) -> list[ConversationKey]:
        """Let the tenant's deliveries that were given up be tried for another day; a conversation for each."""
