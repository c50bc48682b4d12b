"""What happens to a message that comes while a job of its conversation runs: one row of `POLICIES` for each policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DoubleTexting = Literal["consolidate", "enqueue", "interrupt", "reject"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A double-texting policy, as `accept` and intake read it."""

    #: True: the message joins the running job, which starts again with it. False: the message waits for the next job.
    joins: bool = True
    #: The running job ends as cancelled, and a new job takes its messages.
    interrupts: bool = False
    #: The message is refused with `409`.
    rejects: bool = False
    #: A run starts only when the patient has been quiet for the debounce.
    waits: bool = True


POLICIES: dict[DoubleTexting, Policy] = {
    "consolidate": Policy(),
    "enqueue": Policy(joins=False),
    "interrupt": Policy(interrupts=True),
    "reject": Policy(rejects=True, waits=False),  # a second message would be rejected, so waiting for it is no use
}
