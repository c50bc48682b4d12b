"""What the memory archive keeps while a human answers, under its mutex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from message_handler.archive import parking
from message_handler.domain.handoff import ParkedMessage, ParkResult
from message_handler.domain.messages import Message


@dataclass(slots=True)
class Handoff:
    """One conversation's part of it; `messages` by their ids, in their order."""

    human: bool = False
    handoffs: int = 0
    messages: dict[str, ParkedMessage] = field(default_factory=dict)

    def waiting(self, settled: dict[str, str]) -> tuple[ParkedMessage, ...]:
        """What waits for the bot."""
        return tuple(
            kept
            for kept in self.messages.values()
            if not kept.answered_by and not any(id_ in settled for id_ in kept.message.ids)
        )

    def park(
        self,
        settled: dict[str, str],
        messages: Sequence[ParkedMessage],
        *,
        moved: bool = False,
    ) -> ParkResult:
        known = [*self.waiting(settled), *(kept for kept in self.messages.values() if kept.answered_by)]
        decided = parking.decide(known, settled.keys(), messages, moved=moved)
        self.messages |= {kept.message.message_id: kept for kept in decided.kept}
        for message, answered in decided.answered:
            assert answered.answered_by is not None
            settled |= {id_: answered.answered_by for id_ in message.ids if id_ not in settled}
            del self.messages[answered.message.message_id]
        return ParkResult(tuple(kept.message.message_id for kept in self.waiting(settled)), decided.duplicate)

    def answer(
        self, settled: dict[str, str], messages: Sequence[Message], job_id: str
    ) -> tuple[tuple[Message, ...], tuple[ParkedMessage, ...]]:
        """Those of the messages that a human has answered under this job, and what was held of them."""
        open_, found = parking.answered(self.waiting(settled), settled, messages)
        for kept in found:
            del self.messages[kept.message.message_id]
        known = {kept.message.message_id for kept in found}
        for message in open_:
            if message.message_id not in known:
                self.messages[message.message_id] = ParkedMessage(message, answered_by=job_id)
        return open_, found
