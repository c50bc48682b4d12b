"""How long a patient waits after a worker was killed in the middle of the AI's answer, with production's settings.

No new message arrives, and only its schedule runs the sweep. The kills are spread over the time between two heartbeats.
Some records are received by a process that dies before it begins with them: the sweep finds these.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from tests.chaos.clients import new_name
from tests.chaos.deployment import Deployment

#: Seconds from the kill to the answer, with the AI's own: the median, and the limit for each patient.
MEDIAN_SECONDS, LIMIT_SECONDS = 12, 25
#: The limit if no worker had begun with the record: the sweep finds it.
NEVER_BEGUN_SECONDS = 120
AI_SECONDS = 2.0
_KILLS, _NEVER_BEGUN = 10, 3
_EVERY_SECONDS = 11.0


def measure_dead_worker(template: Path) -> int:
    """Print the figures. Returns 0 if each message was answered within the limit."""
    settings = {"SIMULATED_AI_DELAY_MS": str(round(1000 * AI_SECONDS))}
    with Deployment(template=template, settings=settings, sweep_every=0, visibility=None) as deployment:
        never_begun = _received_by_a_process_that_dies(deployment)
        killed = {}
        for number in range(_KILLS):
            conversation, message = new_name("dead"), new_name("m")
            posted = deployment.platform.hand_in(conversation, message)
            while not deployment.calls({posted.job_id}):
                time.sleep(0.05)
            process = deployment.working_on(conversation)
            after = number / _KILLS * (AI_SECONDS - 0.2)
            time.sleep(after)
            process.kill()
            killed[message] = time.time()
            print(f"worker {number + 1} of {_KILLS} killed", flush=True)
            time.sleep(_EVERY_SECONDS - after)
        waiting = deployment.await_settled(2 * NEVER_BEGUN_SECONDS)
        settled = deployment.settled()
    print(f"unanswered {len(waiting)}")
    if waiting:
        return 1
    times, others = (sorted(settled[message].at - at for message, at in died.items()) for died in (killed, never_begun))
    median, listed = statistics.median(times), ", ".join(f"{took:.1f}" for took in times)
    print(f"answered after {listed} s: p50 {median:.1f} s, limit {MEDIAN_SECONDS} s; longest limit {LIMIT_SECONDS} s")
    print(f"never begun: longest {others[-1]:.1f} s, limit {NEVER_BEGUN_SECONDS} s")
    kept = median <= MEDIAN_SECONDS and times[-1] <= LIMIT_SECONDS and others[-1] <= NEVER_BEGUN_SECONDS
    return 0 if kept else 1


def _received_by_a_process_that_dies(deployment: Deployment) -> dict[str, float]:
    """Messages whose records were received by a process that died, each with the time of its death.

    Their records are hidden for the queue's own visibility timeout.
    """
    stack, died = deployment.stack, {}
    stack.parts.change("worker", "stopped")
    for _ in range(_NEVER_BEGUN):
        message = new_name("m")
        deployment.platform.hand_in(new_name("unbegun"), message)
        died[message] = time.time()
    received = 0
    while received < _NEVER_BEGUN:
        found = stack.sqs.receive_message(
            QueueUrl=stack.queue_url("JobQueue"),
            MaxNumberOfMessages=10,
            WaitTimeSeconds=5,
            MessageSystemAttributeNames=["All"],
        )
        received += len(found["Messages"])
    stack.parts.change("worker", "running")
    return died
