"""A client's place among those that wait for a job (`?wait=`)."""

from __future__ import annotations

from contextlib import suppress

from message_handler.domain.errors import Unavailable
from message_handler.domain.identifiers import new_id
from message_handler.ports.tier import Tier
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover


class Place:
    """Counts a client while it waits, so that no tenant's waits take all places.

    Entered, it says whether the client may wait. `refused`: it may not, because too many wait already.
    """

    def __init__(self, tiers: Failover, settings: Settings, platform_id: str) -> None:
        self.refused = False
        self._tiers = tiers
        self._settings = settings
        self._platform_id = platform_id
        self._id = new_id()
        self._tier: Tier | None = None

    def __enter__(self) -> bool:
        tier, may_wait = self._tiers.first(self._begin)
        self._tier = tier if may_wait else None
        self.refused = not may_wait
        return may_wait

    def _begin(self, tier: Tier) -> bool:
        bounds = self._settings
        return tier.begin_wait(
            self._platform_id, self._id, most=bounds.max_waits_per_tenant, most_in_all=bounds.max_waits
        )

    def __exit__(self, *_: object) -> None:
        if self._tier:
            with suppress(Unavailable):  # then the count expires
                self._tier.end_wait(self._platform_id, self._id)
