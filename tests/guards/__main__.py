"""`python -m tests.guards` removes the protocol's guards one by one. `make test-guards` calls it."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import NoReturn

from tests.guards import (
    administration,
    archives,
    authorisation,
    console,
    credentials,
    danger,
    deliveries,
    double_texting,
    edits,
    handoff,
    marks,
    page,
    plans,
    providers,
    replies,
    rescue,
    retention,
    safety_rules,
    service,
    speed,
    taking,
    template,
    tenants,
    tiers,
    together,
    unsending,
    waits,
    words,
    worker,
)
from tests.guards.guard import REPOSITORY, Guard
from tests.guards.scratch import Outcome, Scratch

GUARDS: tuple[Guard, ...] = (
    *marks.GUARDS,
    *double_texting.GUARDS,
    *edits.GUARDS,
    *tiers.GUARDS,
    *archives.GUARDS,
    *worker.GUARDS,
    *rescue.GUARDS,
    *replies.GUARDS,
    *safety_rules.GUARDS,
    *together.GUARDS,
    *unsending.GUARDS,
    *waits.GUARDS,
    *plans.GUARDS,
    *providers.GUARDS,
    *service.GUARDS,
    *words.GUARDS,
    *speed.GUARDS,
    *handoff.GUARDS,
    *tenants.GUARDS,
    *credentials.GUARDS,
    *authorisation.GUARDS,
    *deliveries.GUARDS,
    *danger.GUARDS,
    *taking.GUARDS,
    *retention.GUARDS,
    *administration.GUARDS,
    *console.GUARDS,
    *page.GUARDS,
    *template.GUARDS,
)
#: The number of copies that tests run in at the same time.
COPIES = 2

_DESCRIPTION = """Remove the protocol's guards one by one in a scratch copy, and show that a test fails without each.
First the tests must pass with all guards.

Exit code 0 if every guard was caught, else 1; 130 if it was interrupted."""

_COLUMNS = ("guard", "file", "comes from", "test that fails without it")


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    guards = [guard for guard in GUARDS if guard.matches(options.only)]
    if not guards:
        print(f"no guard matches {options.only!r}; --list shows them all")
        return 2
    if options.list:
        print(_table(_COLUMNS, [_described(guard) for guard in guards]))
        return 0
    signal.signal(signal.SIGTERM, _stop)
    try:
        with tempfile.TemporaryDirectory(prefix="message-handler-guards-") as directory, ExitStack() as opened:
            copies = [Scratch(REPOSITORY, Path(directory, str(number))) for number in range(min(COPIES, len(guards)))]
            for copy in copies:
                opened.enter_context(closing(copy))
            return _prove(guards, copies)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.guards", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", metavar="WORDS", help="guards with all these words in name, file or rule")
    parser.add_argument("--list", action="store_true", help="show the guards and their tests, and do nothing")
    return parser.parse_args(arguments)


def _prove(guards: Sequence[Guard], copies: Sequence[Scratch]) -> int:
    began = time.monotonic()
    if not copies[0].is_used:
        print("the tests in the copy would import another message_handler than the copy's own")
        return 1
    print(f"{len(guards)} guards; their tests must pass first", flush=True)
    chosen = dict.fromkeys(guard.chosen for guard in guards)
    alone = [node for node, *others in chosen if not others]
    for arguments in filter(None, (alone, *(arguments for arguments in chosen if len(arguments) > 1))):
        whole = copies[0].run(arguments)
        if not whole.passed:
            print(whole.output, "they do not", sep="\n")
            return 1
    outcomes = _without_each(guards, copies)
    rows = [(_verdict(outcomes[guard]), *_described(guard)) for guard in guards]
    print("", _table(("", *_COLUMNS), rows), sep="\n")
    caught = sum(outcome.caught for outcome in outcomes.values())
    print(f"\n{caught} of {len(guards)} guards caught in {time.monotonic() - began:.0f} s")
    return 0 if caught == len(guards) else 1


def _without_each(guards: Sequence[Guard], copies: Sequence[Scratch]) -> dict[Guard, Outcome]:
    """The outcome of each guard's test without the guard."""
    free: SimpleQueue[Scratch] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def attempt(guard: Guard) -> Outcome:
        copy = free.get()
        try:
            with copy.without(guard):
                return copy.run(guard.chosen, "-x")
        finally:
            free.put(copy)

    outcomes: dict[Guard, Outcome] = {}
    with ThreadPoolExecutor(len(copies)) as pool:
        try:
            attempts = {pool.submit(attempt, guard): guard for guard in guards}
            for number, done in enumerate(as_completed(attempts), 1):
                guard, outcome = attempts[done], done.result()
                outcomes[guard] = outcome
                said = f"{_verdict(outcome):10}  {guard.name} ({guard.files})"
                print(f"{number:3}/{len(guards)}  {said}", flush=True)
                if not outcome.caught:
                    print(f"         {guard.test}\n         {outcome.why}", flush=True)
        except BaseException:
            for copy in copies:
                copy.close()
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def _verdict(outcome: Outcome) -> str:
    return "caught" if outcome.caught else "NOT CAUGHT"


def _described(guard: Guard) -> tuple[str, str, str, str]:
    return guard.name, guard.files, guard.rule, guard.test


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, ["─" * width for width in widths], *rows]
    return "\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
