"""A run in which one seed draws everything: which actor does what and when, in which order, and all faults."""

from __future__ import annotations

import random

from message_handler.domain.double_texting import DoubleTexting
from tests.simulation.checks import check
from tests.simulation.fate import Chance
from tests.simulation.simulation import Simulation
from tests.versions import version_of

#: When a message comes, in seconds: together, while the AI runs, and after the reply.
_MOMENTS = (0.0, 0.0, 0.0, 0.5, 2.0, 5.0, 6.5, 20.0, 62.0, 150.0)
#: Or earlier: at a step of the run, some seconds after a fault, or once a stuck conversation was freed.
_STEPS = 60
_POLICIES: tuple[DoubleTexting, ...] = ("consolidate", "consolidate", "consolidate", "interrupt", "enqueue", "reject")
_AFTER_FAULTS = (0.0, 0.02, 1.0, 10.0, 55.0)


def simulation_of(seed: int) -> Simulation:
    """A simulation with the actors that the seed draws. It has not run yet."""
    fate = Chance(seed)
    draw = fate.random
    simulation = Simulation(fate)
    for number in range(1, draw.choice([1, 2, 2, 3]) + 1):
        simulation.worker(f"worker-{number}")
    simulation.sweeper()
    rethink = random.Random(f"{seed}: second thoughts")
    edits = rethink.choice(((0,), (0, 0, 0, 1, 2)))
    for number in range(draw.choice([1, 2, 2, 3, 3, 4, 6])):
        at = draw.choice(_MOMENTS)
        after_fault = simulation.after_fault(draw.choice((0, 0, 1)), draw.choice(_AFTER_FAULTS))
        after_recovery = simulation.after_recovery(draw.choice((0.02, 3.0)))
        after_step = simulation.after_step(draw.randrange(_STEPS))
        after = draw.choice((None, after_step, after_fault, after_fault, after_recovery))
        text = f"text of m{number} [fail]" if draw.random() < 0.05 else ""
        earlier = [f"m{number - 1}"] if number and draw.random() < 0.2 else []
        policy: DoubleTexting = draw.choice(_POLICIES)
        for _ in range(draw.choice([1, 1, 1, 2])):
            simulation.platform_posts(*earlier, f"m{number}", at=at, after=after, text=text, policy=policy)
        for edit in range(1, 1 + rethink.choice(edits)):
            _edits(simulation, rethink, earlier, f"m{number}", edit)
        if rethink.random() < 0.1 * max(edits):
            moment = simulation.after_step(rethink.randrange(_STEPS))
            simulation.platform_unsends(f"m{number}", rethink.choice(_MOMENTS), rethink.choice((None, moment)))
    if draw.random() < 0.3:
        simulation.platform_cancels(at=draw.choice(_MOMENTS))
    if draw.random() < 0.2:
        simulation.operator_releases(at=draw.choice(_MOMENTS))
    return simulation


def _edits(simulation: Simulation, draw: random.Random, earlier: list[str], message_id: str, edit: int) -> None:
    """The patient edits the message, which came with `earlier` ones. Its older words may come again later."""
    edited, before = version_of(message_id, edit), version_of(message_id, edit - 1)
    at, after = draw.choice(_MOMENTS), simulation.after_step(draw.randrange(_STEPS))
    simulation.platform_posts(*earlier, edited, at=at, after=after, policy=draw.choice(_POLICIES))
    if draw.random() < 0.3:
        simulation.platform_posts(*earlier, before, at=draw.choice(_MOMENTS))


def checked_run(seed: int) -> Simulation:
    """Run the seed's simulation and check all promises. Raises Violation."""
    simulation = simulation_of(seed).run()
    check(simulation)
    return simulation
