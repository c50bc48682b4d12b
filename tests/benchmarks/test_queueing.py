"""The simulation behind docs/scale.md agrees with queueing theory and with the product's own rules."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import queue_model, queueing
from benchmarks.queue_model import Invocation, Outage, Record, Simulation, World
from benchmarks.queue_picture import Line, Panel, svg
from benchmarks.queueing import erlang_c, mean_wait_of_one, steady
from message_handler.intake import intake
from message_handler.queue import timing
from message_handler.settings import Settings
from message_handler.worker import asking, worker

ROOT = Path(__file__).parents[2]


def test_waits_as_theory_has_it() -> None:
    for what, _, _, off in queueing.theory(400.0, 3):
        assert abs(float(str(off).rstrip("%"))) < 5.0, what


def test_theory_itself_is_right_where_it_is_known() -> None:
    assert erlang_c(1, 0.7) == pytest.approx(0.7)  # one server: as likely as it is busy
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    # M/M/1 by the formula for any service: the mean square of an exponential time is twice its squared mean.
    assert mean_wait_of_one(0.5, 1.0, 2.0) == pytest.approx(1.0)


def test_the_same_seed_is_the_same_run() -> None:
    world = steady(20.0, concurrency=20, death_rate=0.01)
    once, again, other = (Simulation(world, seed).run(100.0) for seed in (7, 7, 8))
    assert once == again
    assert once != other


@pytest.mark.parametrize(
    "world",
    [
        steady(10.0, concurrency=5),
        steady(10.0, concurrency=50, debounce=2.0),
        steady(10.0, concurrency=50, debounce=7.0, window=1.0),
        steady(10.0, concurrency=20, outage=Outage(50.0, 150.0, "hangs")),
        steady(10.0, concurrency=20, outage=Outage(50.0, 150.0, "refuses")),
        steady(10.0, concurrency=20, outage=Outage(50.0, 150.0, "stopped")),
        steady(10.0, concurrency=50, death_rate=0.2),
    ],
    ids=["overload", "debounce", "long debounce and window", "hangs", "refuses", "stopped", "deaths"],
)
def test_nothing_accepted_is_lost(world: World) -> None:
    seen = Simulation(world).run(200.0)
    assert seen.messages > 1000
    assert len(seen.answered) == seen.messages


def _one_burst(messages: int, every: float, **changed: object) -> World:
    """A world with a single burst: the second one would come after the end."""
    sizes = (0.0,) * (messages - 1) + (1.0,)
    world = World(bursts=lambda _: 1e-9, most_bursts=1e-9, sizes=sizes, typing=lambda _: every, ai=lambda _: 2.0)
    return replace(world, error_rate=0.0, **changed)  # type: ignore[arg-type]


class _Burst(Simulation):
    """A simulation that begins with a burst at any rate."""

    _began = False

    def _next_burst(self, time: float) -> float:
        self._began, began = True, self._began
        return math.inf if began else 0.0


def test_messages_that_come_while_the_ai_is_at_work_are_answered_together() -> None:
    seen = _Burst(_one_burst(3, every=1.0)).run(100.0)
    assert seen.jobs == 1
    assert seen.calls == 3
    assert seen.dropped == 2
    # One reply, begun by the last message, answers all three.
    assert [round(answered, 1) for answered in seen.answered] == [4.3, 3.3, 2.3]


def test_endless_typing_gets_an_answer_after_three_restarts() -> None:
    seen = _Burst(_one_burst(20, every=1.0)).run(100.0)
    assert min(seen.answered) < max(seen.answered) < 10.0
    # Four jobs with three restarts each, and one for the last message.
    assert (seen.jobs, seen.dropped, seen.calls) == (5, 12, 17)


def test_a_debounce_waits_for_the_patient_and_asks_once() -> None:
    seen = _Burst(_one_burst(3, every=1.0, debounce=2.0)).run(100.0)
    assert seen.calls == 1
    assert [round(answered, 1) for answered in seen.answered] == [6.0, 5.0, 4.0]


def test_a_run_that_was_stopped_waits_for_the_patient_too() -> None:
    def calls(debounce: float) -> int:
        pauses = iter((1.0, 0.4, 0.4, 0.0))
        world = replace(_one_burst(4, every=0.0, debounce=debounce), typing=lambda _: next(pauses))
        return _Burst(world).run(100.0).calls

    assert (calls(0.0), calls(0.5)) == (4, 2)


def test_what_a_dead_worker_left_comes_back_in_seconds() -> None:
    class Dies(_Burst):
        def _invoke(self, records: list[Record]) -> Invocation:
            invocation = super()._invoke(records)
            if self.now < 1.0:
                self._after(1.0, self._die, invocation)
            return invocation

    seen = Dies(_one_burst(1, every=1.0)).run(1000.0)
    assert (seen.deaths, seen.woken) == (1, 0)
    assert (seen.records, seen.idle_records) == (2, 0)
    # The record is hidden for 8 to 10 s after the death. Then the AI takes its 2 s again.
    assert 1.0 + 8.0 + 2.0 <= seen.answered[0] <= 1.0 + 10.0 + 2.1


def test_the_sweep_wakes_a_waiting_job_after_one_two_and_four_minutes() -> None:
    world = _one_burst(1, every=1.0, outage=Outage(0.0, 290.0, "stopped"))
    seen = _Burst(world).run(1000.0)
    assert seen.woken == 3  # at 60, 120 and 240 s
    # All four records are received at once. Three find the job held, and come back when it is answered.
    assert (seen.records, seen.idle_records, seen.calls) == (4 + 3, 3, 1)


def test_what_comes_too_late_for_another_run_waits_for_the_next() -> None:
    world = _one_burst(2, every=10.0, run_seconds=40.0)
    seen = _Burst(replace(world, ai=lambda _: 20.0)).run(1000.0)
    assert (seen.calls, seen.dropped) == (2, 0)
    assert [round(answered) for answered in seen.answered] == [20, 30]


def test_a_batch_is_held_by_its_slowest_record() -> None:
    delays = iter([9.0, 1.0, 1.0])
    world = _one_burst(3, every=0.0, consolidates=False, concurrency=2, batch=2, pollers=1, window=0.1)
    seen = _Burst(replace(world, ai=lambda _: next(delays))).run(100.0)
    assert seen.invocations == 2
    assert seen.billed == pytest.approx(9.0 + 1.0, abs=0.3)


def test_prints_a_table_and_draws_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert queueing.main(["consolidation", "--seconds", "20"]) == 0
    output = capsys.readouterr().out
    assert "| consolidate, debounce_ms 0 |" in output
    assert output.count("\n| ") == 8
    with pytest.raises(SystemExit) as wrong:
        queueing.main(["nonsense"])
    assert wrong.value.code == 2


def test_the_picture_is_well_formed_and_keeps_within_its_bounds() -> None:
    lines = [Line("a < b", [(0.0, 1.0), (10.0, 5000.0)]), Line("c", [(0.0, 0.0), (10.0, 1.0)], dashed=True)]
    root = ElementTree.fromstring(svg([Panel("A & B", "x", "y", lines, (0.01, 1000.0))]))
    drawn = [element.get("points") or "" for element in root.iter("{http://www.w3.org/2000/svg}polyline")]
    assert len(drawn) == 2
    heights = [float(point.split(",")[1]) for points in drawn for point in points.split()]
    assert min(heights) >= 0.0
    assert max(heights) <= 300.0


def test_the_simulations_numbers_are_the_products() -> None:
    world, settings = steady(1.0), Settings()
    template = (ROOT / "template.yaml").read_text()
    defaults = re.compile(r"^  (\w+):\n    Type: .*\n    Default: '?([^'\s]*)'?", re.MULTILINE)
    parameters: dict[str, str] = dict(defaults.findall(template))
    assert world.concurrency == int(parameters["WorkerMaximumConcurrency"])
    assert f"BatchSize: {world.batch} " in template
    assert "MaximumBatchingWindowInSeconds" not in template
    assert world.window == 0
    assert world.hiding == timing.HIDING_SECONDS
    assert (queue_model.ALONE_FROM, queue_model.RETRY_SECONDS) == (timing.ALONE_FROM, timing.RETRY_SECONDS)
    assert world.run_seconds == settings.run_seconds - 3  # REPORT_SECONDS of functions/worker
    for name in ("ai_timeout", "max_restarts", "join_delay", "heartbeat_stale", "wake_after"):
        assert getattr(world, name) == getattr(settings, name), name
    assert queue_model.FOLLOW_UP_SECONDS == worker.FOLLOW_UP_SECONDS
    assert queue_model.COMMIT_SECONDS == asking.COMMIT_SECONDS
    assert queue_model.PATIENCE_SECONDS == timing.PATIENCE_SECONDS
    assert world.debounce_max == intake.DEFAULT_DEBOUNCE_MAX_MS / 1000
    # And the limits that the document says are met first.
    page = (ROOT / "docs" / "scale.md").read_text()
    _, _, limits = page.partition("## Which limit is met first")
    named = re.findall(r"^\| [^|]* \| [^|]*`(\w+)=(\d+)`", limits, re.MULTILINE)
    assert len(named) >= 5
    assert [(name, parameters.get(name)) for name, _ in named] == named
