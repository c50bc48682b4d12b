"""`python -m tests.chaos`: the long form of the fault tests. `make test-chaos` calls it."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from tests.chaos.campaign import Campaign
from tests.chaos.dead_worker import measure_dead_worker
from tests.chaos.faults import KINDS, PAIRS
from tests.chaos.frozen_redis import measure
from tests.chaos.load import run_load

_DESCRIPTION = """Break parts of the service under load, then check that it kept its promises.

By default, random faults come for some minutes. Exit code 0 if every promise was kept, else 1; 130 if interrupted."""


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        if options.frozen_redis:
            return measure(options.template)
        if options.dead_worker:
            return measure_dead_worker(options.template)
        if options.messages:
            return run_load(options.messages, options.seed, options.template)
        catalogue = (*KINDS, *PAIRS)
        kinds = tuple(kind for kind in catalogue if re.search(options.kinds, str(kind)))
        if not kinds:
            print(f"no kind of fault matches {options.kinds!r}; there are:", *map(str, catalogue), sep="\n  ")
            return 2
        return Campaign(
            minutes=options.minutes,
            seed=options.seed,
            patients=options.patients,
            kinds=kinds,
            template=options.template,
            log_file=options.log_file,
        ).run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20, help="how long faults are injected (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the faults and messages (default: %(default)s)")
    parser.add_argument("--patients", type=int, default=8, help="patients at the same time (default: %(default)s)")
    parser.add_argument("--kinds", default="", help="only the faults whose names match this regular expression")
    parser.add_argument("--template", type=Path, default=Path("template.yaml"), help="default: %(default)s")
    parser.add_argument("--log-file", type=Path, help="file for the functions' logs of a long run")
    parser.add_argument(
        "--messages", type=int, help="instead: send this many messages with duplicates and reordering, without faults"
    )
    parser.add_argument(
        "--frozen-redis", action="store_true", help="instead: measure requests while Redis is stopped under load"
    )
    parser.add_argument(
        "--dead-worker", action="store_true", help="instead: measure patients' waits after their worker is killed"
    )
    return parser.parse_args(arguments)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the clean-up
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
