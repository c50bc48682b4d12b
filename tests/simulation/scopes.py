"""Scopes that are small enough to be searched completely."""

from __future__ import annotations

from tests.simulation.fate import Fate
from tests.simulation.simulation import Simulation


def two_messages(fate: Fate) -> Simulation:
    simulation = Simulation(fate, looks=1, intakes=1)
    simulation.worker("worker-1")
    simulation.worker("worker-2")
    simulation.sweeper()
    simulation.platform_posts("m0")
    simulation.platform_posts("m1")
    return simulation


def and_a_duplicate(fate: Fate) -> Simulation:
    simulation = two_messages(fate)
    simulation.platform_posts("m0")
    return simulation


def one_interrupts_the_other(fate: Fate) -> Simulation:
    simulation = Simulation(fate, looks=1, intakes=1)
    simulation.worker("worker-1")
    simulation.worker("worker-2")
    simulation.sweeper()
    simulation.platform_posts("m0")
    simulation.platform_posts("m1", policy="interrupt")
    return simulation


def a_message_and_its_edit(fate: Fate) -> Simulation:
    simulation = Simulation(fate, looks=1, intakes=1)
    simulation.worker("worker-1")
    simulation.worker("worker-2")
    simulation.sweeper()
    simulation.platform_posts("m0")
    simulation.platform_posts("m0~1")
    return simulation


def and_it_is_unsent(fate: Fate) -> Simulation:
    simulation = a_message_and_its_edit(fate)
    simulation.platform_unsends("m0", at=0.0)
    return simulation


def a_message_that_is_unsent(fate: Fate) -> Simulation:
    simulation = Simulation(fate, looks=1, intakes=1)
    simulation.worker("worker-1")
    simulation.worker("worker-2")
    simulation.sweeper()
    simulation.platform_posts("m0")
    simulation.platform_unsends("m0", at=0.0)
    return simulation


def and_a_cancel(fate: Fate) -> Simulation:
    simulation = two_messages(fate)
    simulation.platform_cancels(at=0.0)
    return simulation


def and_a_release(fate: Fate) -> Simulation:
    simulation = two_messages(fate)
    simulation.operator_releases(at=0.0)
    return simulation


def a_message_after_the_fault_and_one_after_the_recovery(fate: Fate) -> Simulation:
    """The moments at which a message is most easily overtaken, or joins a job that is over."""
    simulation = Simulation(fate, looks=1, intakes=1)
    simulation.worker("worker-1")
    simulation.worker("worker-2")
    simulation.sweeper()
    simulation.platform_posts("m0")
    simulation.platform_posts("m1", at=200.0, after=simulation.after_fault(0, 1.0))
    simulation.platform_posts("m2", at=300.0, after=simulation.after_recovery(0.02))
    return simulation
