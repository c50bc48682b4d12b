"""Which tier coordinates: Redis, while it is away Postgres, while both are away this process's memory.

Each process decides for itself, at each request or record, by the stores' circuit breakers. Nothing is copied from
one tier to another, neither on leaving nor on coming back:

    Redis J{m0} ── Redis away ── m0's record ──▶ Postgres J{m0} ── answered ──▶ settled in Postgres
    Redis back: J{m0} is swept there, claimed, and its fence says that m0 is settled

That is safe because every record carries its messages, and because whatever tier a worker claimed on, the fence is
taken and the reply committed in Postgres. A worker stays on the tier on which it claimed: each call here is for a
whole piece of work.
"""

from __future__ import annotations

from collections.abc import Callable

from message_handler.domain.errors import TRANSIENT, Unavailable
from message_handler.ports.tier import Tier
from message_handler.protocol.results import TierName


class Failover:
    """The tiers of one process, best first. `expected`: the one on which nothing is degraded (default, the first)."""

    def __init__(self, *tiers: Tier, expected: TierName | None = None) -> None:
        self.tiers = tiers
        self.expected = expected or tiers[0].name

    def first[T](self, step: Callable[[Tier], T]) -> tuple[Tier, T]:
        """Take a step on the best tier that is there; returns that tier too. Raises Unavailable if none is."""
        *better, last = self.tiers
        for tier in better:
            try:
                return tier, step(tier)
            except Unavailable:
                # Its breaker has said so, or this step alone took too long.
                continue
        return last, step(last)

    def find[T](self, look: Callable[[Tier], T | None]) -> tuple[Tier, T] | None:
        """The first tier that knows, with what it knows. Raises Unavailable if none does but one is away."""
        away: Exception | None = None
        for tier in self.tiers:
            try:
                found = look(tier)
            except TRANSIENT as error:
                away = error
                continue
            if found is not None:
                return tier, found
        if away:
            raise away
        return None

    def each[T](self, step: Callable[[Tier], T]) -> list[T]:
        """Take a step on every tier that is there. Raises Unavailable if none is."""
        done: list[T] = []
        away: Exception | None = None
        for tier in self.tiers:
            try:
                done.append(step(tier))
            except TRANSIENT as error:
                away = error
        if away and not done:
            raise away
        return done

    def close(self) -> None:
        for tier in self.tiers:
            tier.close()
