"""What becomes of a message that comes while another is being answered: one row of `POLICIES` for each policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DoubleTexting = Literal["consolidate", "enqueue", "interrupt", "reject"]


@dataclass(frozen=True, slots=True)
class Policy:
    """What `accept` and intake ask of a policy."""

    #: The message joins the job that runs, which starts again with it. Else it waits for the next job.
    joins: bool = True
    #: The job that runs ends as cancelled, and a new one takes its messages.
    interrupts: bool = False
    #: The message is refused with `409`.
    rejects: bool = False
    #: A run waits until the patient has been quiet for the debounce.
    waits: bool = True


POLICIES: dict[DoubleTexting, Policy] = {
    "consolidate": Policy(),
    "enqueue": Policy(joins=False),
    "interrupt": Policy(interrupts=True),
    "reject": Policy(rejects=True, waits=False),  # what comes meanwhile is rejected: there is nothing to wait for
}
