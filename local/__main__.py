"""`python -m local`: the command line of the local host. `make run` calls it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from local.errors import HostError, StartInterruptedError
from local.options import add_port, number
from local.psql import address_file
from local.reachable import without_password
from local.stack import LocalStack, Store
from local.tokens import KEY_FILE, Issuer

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DESCRIPTION = """Run all of a SAM template on this machine: API, functions, queues, schedules, Postgres, Valkey.

REDIS_URL and DATABASE_URL name your own stores; without them the host starts its own. The environment may set
other variables of the functions too, such as SIMULATED_AI_DELAY_MS. With AUTH=1 callers need a token: `make token`."""


def main(arguments: list[str] | None = None) -> int:
    """Run until Ctrl-C. Returns the exit code: 0 after Ctrl-C, 2 if the host can't start."""
    options = _parse(arguments)
    _isolate_from_aws()
    stop = _Stop()
    stack = LocalStack(
        options.template,
        # For trying things out: an AI on this machine, and a token without Secrets Manager. If Redis is stopped and
        # forgets messages, the short JOIN_DELAY has them answered within seconds.
        settings={"EGRESS_ALLOW_LOOPBACK": "true", "ALLOW_LITERAL_SECRETS": "true", "JOIN_DELAY": "10"},
        concurrency=options.concurrency,
        port=options.port,
        log_file=options.log_file or options.template.parent / ".local" / f"functions-{options.port}.log",
        terminal=sys.stderr,
        redis=not options.without_redis,
        postgres=not options.without_postgres,
        issuer=Issuer(options.template.parent / KEY_FILE) if options.auth else None,
    )
    address = None
    try:
        stack.start(interrupted=stop)
        address = _keep_address(address_file(options.template.parent / ".local", options.port), stack.database_url)
        _report(stack, auth=options.auth)
        while not stop():
            time.sleep(0.2)  # not signal.pause, which would miss a signal that comes just before it
        return 0
    except StartInterruptedError:
        return 0
    except HostError as error:
        print(f"local: {error}", file=sys.stderr)
        return 2
    finally:
        if address is not None:  # without an address, the port may be another host's
            address.unlink(missing_ok=True)
        stack.stop()


def _keep_address(file: Path, database_url: str | None) -> Path:
    """Write the file for `make psql`. It holds the password, so only this user may read it."""
    if database_url:
        file.parent.mkdir(exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(database_url)
    return file


class _Stop:
    """Whether a signal asked to stop. The signal handler raises nothing, because it may interrupt any line.

    That line may be between the start of a process and its registration, or in an import that holds a lock.
    """

    def __init__(self) -> None:
        self._asked = False
        for stop_signal in _STOP_SIGNALS:
            signal.signal(stop_signal, self._ask)

    def __call__(self) -> bool:
        return self._asked

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self._asked = True


def _isolate_from_aws() -> None:
    """Ignore the developer's AWS profiles: a missing or broken one would stop the host."""
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        os.environ.pop(name, None)
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m local", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--template", type=Path, default=Path("template.yaml"), help="the SAM template (default: %(default)s)"
    )
    add_port(parser, "the API's port on 127.0.0.1; 0: any free port")
    parser.add_argument(
        "--concurrency",
        type=number(1, 1000, "it"),
        default="8",
        help="the most environments of each function, and for each queue that invokes it (default: %(default)s)",
    )
    parser.add_argument(
        "--log-file",
        type=Path,
        help="file for the functions' logs (default: .local/functions-PORT.log beside the template)",
    )
    parser.add_argument(
        "--auth",
        action="store_true",
        default=os.environ.get("AUTH", "0") not in ("", "0"),
        help="require a token from callers, as the deployed API does (default: if $AUTH is 1)",
    )
    for name in ("Redis", "Postgres"):
        parser.add_argument(f"--without-{name.lower()}", action="store_true", help=f"start without {name}, degraded")
    return parser.parse_args(arguments)


def _report(stack: LocalStack, *, auth: bool) -> None:
    lines = [_store_line(name, stack.stores[name]) for name in ("postgres", "redis") if name in stack.stores]
    lines += [f"DEGRADED: {reason}" for reason in stack.missing]
    lines.append(f"moto {version('moto')} (SQS, Secrets Manager)  {stack.sqs.meta.endpoint_url}")
    lines.append(f"awslambdaric {version('awslambdaric')} on Python {platform.python_version()}")
    for function in stack.template.functions.values():
        lines.append(f"  {function.name}, timeout {function.timeout_seconds:g} s")
        routes = [route for route in stack.template.routes if route.function == function.name]
        lines += [f"    {route.method} {route.path}" for route in sorted(routes, key=lambda route: route.path)]
        sources = [source for source in stack.template.event_sources if source.function == function.name]
        lines += [f"    queue {source.queue}, batches of {source.batch_size}" for source in sources]
        schedules = [schedule for schedule in stack.template.schedules if schedule.function == function.name]
        lines += [f"    every {schedule.seconds:g} s: {schedule.input}" for schedule in schedules]
    lines += [f"Logs: {stack.log_file}", "", f"Ready on {stack.url} (Ctrl-C stops it)"]
    if any(route.path == "/console" for route in stack.template.routes):
        lines.append(f"Console: {stack.url}/console")
    lines += _example(stack, auth=auth)
    print("\n".join(lines), flush=True)


def _store_line(name: str, store: Store) -> str:
    if store.own:  # shown with its password, which lasts only as long as this database
        return f"{store.version}  {store.url}"
    return f"{store.version or name}  {without_password(store.url, store.url)}"


def _example(stack: LocalStack, *, auth: bool) -> list[str]:
    if not any(route.path == "/conversations/{conversation_id}/messages" for route in stack.template.routes):
        return []
    body = json.dumps({"history": "<USER>Hello</USER><br>", "resources": {"user_id": "user_456"}})
    token = ["  token=$(make -s token ARGS='--tenant default')"] if auth else []
    curl = 'curl -s -H "Authorization: Bearer $token"' if auth else "curl -s"
    return [
        "Try:",
        *token,
        f"  {curl} {stack.url}/conversations/conv_123/messages -H 'Content-Type: application/json' -d '{body}'",
        f"  {curl} '{stack.url}/jobs/PASTE_THE_AI_JOB_ID?wait=20'",
    ]


if __name__ == "__main__":
    sys.exit(main())
