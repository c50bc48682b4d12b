"""How long a patient waits whose worker was killed in the middle of the AI's answer, with production's settings.

No new message comes to help, and nobody calls the sweep but its schedule. The kills are spread over the minute
between two sweeps.
"""

from __future__ import annotations

import time
from pathlib import Path

from tests.chaos.clients import new_name
from tests.chaos.deployment import Deployment

LIMIT_SECONDS = 90
_KILLS = 6
_EVERY_SECONDS = 11.0
_SETTINGS = {"SIMULATED_AI_DELAY_MS": "3000"}


def measure_dead_worker(template: Path) -> int:
    """Print the figures. Returns 0 if each was answered within the limit."""
    with Deployment(template=template, settings=_SETTINGS, sweep_every=0, visibility=None) as deployment:
        killed = {}
        for number in range(_KILLS):
            conversation, message = new_name("dead"), new_name("m")
            posted = deployment.platform.hand_in(conversation, message)
            process = deployment.working_on(conversation)
            time.sleep(1.5)
            process.kill()
            killed[message] = posted.until
            print(f"worker {number + 1} of {_KILLS} killed", flush=True)
            time.sleep(_EVERY_SECONDS - 1.5)
        waiting = deployment.await_settled(2 * LIMIT_SECONDS)
        settled = deployment.settled()
    for message, at in killed.items():
        took = f"{settled[message].at - at:.1f} s" if message in settled else "never"
        print(f"answered after {took}", flush=True)
    times = [settled[message].at - at for message, at in killed.items() if message in settled]
    print(f"longest {max(times, default=0):.1f} s, limit {LIMIT_SECONDS} s, unanswered {len(waiting)}")
    return 1 if waiting or max(times) > LIMIT_SECONDS else 0
