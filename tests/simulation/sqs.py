"""SQS in virtual time. It delivers at least once, in no order, and gives up after `MAX_RECEIVE_COUNT` receives."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from message_handler.domain.records import ArchiveRecord, Record
from message_handler.ports.queue import DeadLetter
from message_handler.queue.codec import decode, encode
from message_handler.queue.timing import DEAD_LETTER_SECONDS, MAX_RECEIVE_COUNT
from tests.contract.chat import Clock
from tests.contract.world import hiding


@dataclass(eq=False)
class Delivery:
    """A record in the queue, the time at which it becomes visible, and how often it was received."""

    number: int
    record: Record | ArchiveRecord
    visible_at: float
    receives: int = 0


@dataclass
class SimulatedQueue:
    """The `Queue` behind its port, with the work of SQS and of Lambda's event source mapping."""

    clock: Clock
    waiting: list[Delivery] = field(default_factory=list)
    dead: list[Delivery] = field(default_factory=list)
    sent: int = 0
    most_receives: int = 0
    buried: int = 0
    name: str = "sqs"
    in_process: bool = False

    # The calls of the service.

    def ping(self) -> None: ...

    def close(self) -> None: ...

    def send(self, record: Record | ArchiveRecord, *, delay: int = 0) -> None:
        copy = decode(encode(record))
        assert copy == record, "a record changes in the queue's codec"
        self.sent += 1
        self.waiting.append(Delivery(self.sent, copy, self.clock() + delay))

    def dead_letters(self) -> list[DeadLetter]:
        seen = [letter for letter in self.dead if letter.visible_at <= self.clock()]
        for letter in seen:
            letter.visible_at = self.clock() + DEAD_LETTER_SECONDS
        return [DeadLetter(letter.record, str(letter.number)) for letter in seen]

    def remove(self, letter: DeadLetter) -> None:
        self.dead = [other for other in self.dead if str(other.number) != letter.receipt]

    # The workers' side.

    def next_at(self) -> float:
        return min((delivery.visible_at for delivery in self.waiting), default=math.inf)

    def visible(self) -> list[Delivery]:
        """The records that can be received now. Those that were received too often move to the dead letters."""
        now = self.clock()
        for delivery in self.waiting:
            if delivery.visible_at <= now and delivery.receives >= MAX_RECEIVE_COUNT:
                self.buried += 1
                delivery.visible_at = now
                self.dead.append(delivery)
        self.waiting = [delivery for delivery in self.waiting if delivery not in self.dead]
        return [delivery for delivery in self.waiting if delivery.visible_at <= now]

    def receive(self, delivery: Delivery, *, hidden: bool = True) -> None:
        """A worker receives the record and hides it as long as it lives. If not `hidden`, another one gets it too."""
        delivery.receives += 1
        self.most_receives = max(self.most_receives, delivery.receives)
        if hidden:
            delivery.visible_at = math.inf

    def let_go(self, delivery: Delivery) -> None:
        """The worker hides the record no longer: it has died or is paused."""
        if delivery.visible_at == math.inf:
            delivery.visible_at = self.clock() + hiding(delivery.receives)

    def keep(self, delivery: Delivery, receives: int) -> None:
        """The paused worker goes on. It hides the record again unless another worker has received it."""
        if delivery.receives == receives:
            delivery.visible_at = math.inf

    def delete(self, delivery: Delivery) -> None:
        self.waiting = [other for other in self.waiting if other is not delivery]

    def hide(self, delivery: Delivery, seconds: float) -> None:
        delivery.visible_at = self.clock() + seconds
