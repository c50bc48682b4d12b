"""Chooses the tier: Redis; Postgres while Redis is away; this process's memory while both are away.

Each process decides for itself, for each request or record, by the stores' circuit breakers. No line is copied from one
tier to another, neither when Redis goes away nor when it is back:

    Redis J{m0} ── Redis away ── m0's record ──▶ Postgres J{m0} ── answered ──▶ settled in Postgres
    Redis back: J{m0} is swept there, claimed, and its fence says that m0 is settled

This is safe, because every record carries its messages, and because the fence is taken and the reply committed in
Postgres, on whatever tier the worker claimed. A worker stays on that tier until its work is done.
"""

from __future__ import annotations

from collections.abc import Callable

from message_handler.domain.errors import TRANSIENT, Unavailable
from message_handler.ports.tier import Tier
from message_handler.protocol.results import TierName


class Failover:
    """The tiers of one process, best first. On the tier `expected`, by default the first, nothing is `degraded`."""

    def __init__(self, *tiers: Tier, expected: TierName | None = None) -> None:
        self.tiers = tiers
        self.expected = expected or tiers[0].name

    def first[T](self, step: Callable[[Tier], T]) -> tuple[Tier, T]:
        """Take a step on the best tier that is available. Returns that tier and the step's result.

        Raises Unavailable if no tier is available.
        """
        *better, last = self.tiers
        for tier in better:
            try:
                return tier, step(tier)
            except Unavailable:
                # Its circuit breaker is open, or this step took too long.
                continue
        return last, step(last)

    def find[T](self, look: Callable[[Tier], T | None]) -> tuple[Tier, T] | None:
        """The first tier for which `look` finds something, with what it found; None if no tier does.

        Raises Unavailable or Contended if no tier finds something and one of them could not be asked.
        """
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
        """Take a step on every tier that is available. Returns their results.

        Raises Unavailable or Contended if the step succeeded on no tier.
        """
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
