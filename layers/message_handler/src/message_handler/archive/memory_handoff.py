"""What the memory archive keeps while a human answers. Under the archive's mutex."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from message_handler.archive import parking
from message_handler.domain.handoff import ParkedMessage, ParkResult
from message_handler.ports.archive import Settled


@dataclass(slots=True)
class Handoff:
    """Whether a human answers a conversation, how often it was handed off, and its parked messages by id, in order."""

    human: bool = False
    handoffs: int = 0
    messages: dict[str, ParkedMessage] = field(default_factory=dict)

    def waiting(self, settled: dict[str, Settled]) -> tuple[ParkedMessage, ...]:
        """The parked messages that wait for the bot."""
        return tuple(
            parked
            for parked in self.messages.values()
            if not parked.answered_by and not any(id_ in settled for id_ in parked.message.ids)
        )

    def park(
        self,
        settled: dict[str, Settled],
        messages: Sequence[ParkedMessage],
        *,
        moved: bool = False,
        for_a_human: Collection[str] | None = None,
    ) -> ParkResult | None:
        """Park messages that are not settled. For `moved` see `parking.decide`, for `for_a_human` the other archive."""
        known = [*self.waiting(settled), *(parked for parked in self.messages.values() if parked.answered_by)]
        decision = parking.decide(known, settled, messages, moved=moved)
        if for_a_human is not None and decision.new.isdisjoint(for_a_human):
            return None
        self.messages |= {parked.message.message_id: parked for parked in decision.kept}
        for id_, end in decision.ends():
            settled.setdefault(id_, end)
        for _, answered in decision.answered:
            del self.messages[answered.message.message_id]
        waiting = tuple(parked.message for parked in self.waiting(settled))
        return ParkResult(waiting, decision.duplicate, decision.edited)

    def answer(self, settled: dict[str, Settled], new: Sequence[parking.Exchange], job_id: str) -> parking.Answered:
        """Record that a human has answered the messages of these exchanges, under this job."""
        answered = parking.answered(self.waiting(settled), settled, new)
        for parked in answered.parked:
            del self.messages[parked.message.message_id]
        were_parked = {parked.message.message_id for parked in answered.parked}
        for message in answered.messages:
            if message.message_id not in were_parked:
                self.messages[message.message_id] = ParkedMessage(message, answered_by=job_id)
        return answered
