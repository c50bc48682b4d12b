"""How much each tenant may send: for each kind of request, a bucket with one minute's share."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

from message_handler.bot_config import BotConfigService
from message_handler.domain.errors import RateLimited
from message_handler.metrics import Meter
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover

_log = logging.getLogger(__name__)

#: What is counted beside messages. A request that waits for a job is no read.
Kind = Literal["reads", "waits", "handoffs", "cancels"]
#: How many requests of a kind a tenant may send for each message that it may send.
PER_MESSAGE: dict[Kind, int] = {"reads": 10, "waits": 5, "handoffs": 1, "cancels": 1}
#: The least share of each kind. A tenant with few messages must still reach a person at once.
LEAST = 60


@dataclass(frozen=True, slots=True)
class Shares:
    """Counts what tenants send. A share that can't be checked, because no store answers, stops no request."""

    tiers: Failover
    bots: BotConfigService
    settings: Settings
    meter: Meter

    def take_messages(self, platform_id: str, count: int, own: int | None) -> None:
        """Count a request's messages. `own`: the tenant's own limit. Raises RateLimited.

        Messages count, not requests, because each message costs work. Duplicates count too. A request with more
        messages than a minute's share needs all of it.
        """
        per_minute = own or self.settings.rate_limit_per_minute
        if per_minute and (wait := self._wait(platform_id, per_minute, count)) > 0:
            self.meter.add("MessagesThrottled")
            raise RateLimited(math.ceil(wait))
        self.meter.use(platform_id, count)

    def take(self, platform_id: str, kind: Kind) -> None:
        """Count a request of another kind. Raises RateLimited."""
        per_minute = self.bots.rate_limit_of(platform_id) or self.settings.rate_limit_per_minute
        share = max(per_minute * PER_MESSAGE[kind], LEAST)
        # No tenant's id has a space.
        if per_minute and (wait := self._wait(f"{kind} of {platform_id}", share)) > 0:
            self.meter.add("RequestsThrottled")
            raise RateLimited(math.ceil(wait), kind)

    def _wait(self, name: str, per_minute: int, count: int = 1) -> float:
        try:
            return self.tiers.first(lambda tier: tier.admit(name, per_minute, count))[1]
        except Exception as error:  # noqa: BLE001  a limit that can't be checked must not stop a patient
            _log.warning("the rate limit can't be checked: the request passes", extra={"error": type(error).__name__})
            return 0.0
