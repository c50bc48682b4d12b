"""How long a patient waits whose worker was killed in the middle of the AI's answer, with production's settings.

No new message comes to help, and nobody calls the sweep but its schedule. The kills are spread over the minute
between two sweeps.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from tests.chaos.clients import new_name
from tests.chaos.deployment import Deployment

#: Seconds from the kill to the answer: for half of the patients, and for each.
MEDIAN_SECONDS, LIMIT_SECONDS = 12, 25
_KILLS = 10
_EVERY_SECONDS = 11.0
_SETTINGS = {"SIMULATED_AI_DELAY_MS": "3000"}


def measure_dead_worker(template: Path) -> int:
    """Print the figures. Returns 0 if each was answered within the limit."""
    with Deployment(template=template, settings=_SETTINGS, sweep_every=0, visibility=None) as deployment:
        killed = {}
        for number in range(_KILLS):
            conversation, message = new_name("dead"), new_name("m")
            deployment.platform.hand_in(conversation, message)
            process = deployment.working_on(conversation)
            time.sleep(1.5)
            process.kill()
            killed[message] = time.time()
            print(f"worker {number + 1} of {_KILLS} killed", flush=True)
            time.sleep(_EVERY_SECONDS - 1.5)
        waiting = deployment.await_settled(4 * LIMIT_SECONDS)
        settled = deployment.settled()
    times = sorted(settled[message].at - at for message, at in killed.items() if message in settled)
    print("answered after", ", ".join(f"{took:.1f}" for took in times), "s")
    median, longest = (statistics.median(times), times[-1]) if times else (0.0, 0.0)
    print(f"p50 {median:.1f} s, limit {MEDIAN_SECONDS} s; longest {longest:.1f} s, limit {LIMIT_SECONDS} s")
    print(f"unanswered {len(waiting)}")
    return 1 if waiting or median > MEDIAN_SECONDS or longest > LIMIT_SECONDS else 0
