"""Runs migrations for a stack: as a custom resource of CloudFormation.

CloudFormation invokes the function, then waits up to an hour for an answer at the event's address. So the function
answers before its own time is over, whatever the database does. Creating or updating the resource migrates. Deleting
it leaves the database unchanged.

The AWS CloudFormation User Guide describes event and answer under "Custom resource request types".
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from message_handler.domain.errors import InvalidRequest, MessageHandlerError, TooOld, Unavailable

_log = logging.getLogger(__name__)

#: Seconds of the function's time that are kept for the answer.
ANSWER_SECONDS = 12.0
#: Seconds between two tries, while a new database is not up yet.
PAUSE_SECONDS = 2.0
#: Tries to send the answer, and the timeout of each.
TRIES = 3
PUT_SECONDS = 3.0
#: Characters. CloudFormation accepts an answer of 4 KiB at most.
MAX_REASON = 1_000
#: CloudFormation's addresses are those of S3, in any region and partition.
_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_custom_resource(event: Mapping[str, Any]) -> bool:
    """Whether an event comes from CloudFormation."""
    return "RequestType" in event and "ResponseURL" in event


def run(
    event: Mapping[str, Any],
    migrate: Callable[[], list[str]],
    *,
    remaining: Callable[[], float],
    allow_loopback: Callable[[], bool] = lambda: False,
    patience: Callable[[], float] = lambda: math.inf,
) -> dict[str, Any]:
    """Do what the event asks for, and send the answer to its address. Returns the answer.

    `remaining`: the seconds that are left of the function's time. `patience`: the seconds for which a database that is
    away is tried again, if the function has that much time. Raises InvalidRequest, before anything is done, if
    the address is not CloudFormation's. Raises Unavailable if the answer could not be sent: CloudFormation goes on
    waiting. If the migration failed, too, that is a MessageHandlerError with its reason.
    """
    url = _checked(event["ResponseURL"], allow_loopback=allow_loopback)
    status: Literal["SUCCESS", "FAILED"] = "SUCCESS"
    reason, applied = "", ""
    if event["RequestType"] in ("Create", "Update"):
        outcome = _in_time(migrate, remaining() - ANSWER_SECONDS, patience)
        if isinstance(outcome, str):
            status, reason = "FAILED", outcome
            _log.error("the migration failed", extra={"reason": reason})
        else:
            applied = ", ".join(outcome)
            _log.info("migrated", extra={"applied": outcome})
    answer = {
        "Status": status,
        "Reason": reason[:MAX_REASON],
        # The same for all of the resource's life: CloudFormation would delete the resource of another id.
        "PhysicalResourceId": event.get("PhysicalResourceId") or event["LogicalResourceId"],
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "Data": {"Applied": applied[:MAX_REASON]},
    }
    try:
        _put(url, json.dumps(answer).encode(), remaining)
    except Unavailable as unsent:
        if not reason:
            raise
        raise MessageHandlerError(f"the migration failed: {reason}; and {unsent}") from None
    return answer


def _checked(url: Any, *, allow_loopback: Callable[[], bool]) -> str:
    """The address, if it is CloudFormation's. It is as secret as a password: it lets any caller answer.

    Raises InvalidRequest.
    """
    try:
        parts = urlsplit(str(url))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    is_s3 = parts.scheme == "https" and port in (None, 443) and host.endswith(_HOSTS) and parts.username is None
    is_local = parts.scheme in ("http", "https") and host in _LOOPBACK
    if not is_s3 and not (is_local and allow_loopback()):
        raise InvalidRequest("must be an address of CloudFormation", field="ResponseURL")
    return str(url)


def _in_time(migrate: Callable[[], list[str]], seconds: float, patience: Callable[[], float]) -> list[str] | str:
    """The applied migrations, or the reason of a failure. Returns within `seconds`, even if a server hangs."""
    outcomes: list[list[str] | str] = []
    began = time.monotonic()
    tried: list[str] = []

    def work() -> None:
        while True:
            try:
                outcomes.append(migrate())
                return
            except Unavailable as away:
                tried.append(str(away))
                next_at = time.monotonic() - began + PAUSE_SECONDS
                if isinstance(away, TooOld) or next_at >= patience():
                    is_explained = away.what.endswith(")") or away.reason == away.what
                    outcomes.append(str(away) if is_explained else f"{away} ({away.reason})")
                    return
                if next_at >= seconds:
                    outcomes.append(f"{away}, for as long as the function could wait")
                    return
                if len(tried) == 1:
                    _log.warning("the migration waits for the database", extra={"reason": away.reason})
                time.sleep(PAUSE_SECONDS)
            except MessageHandlerError as error:
                outcomes.append(str(error))
                return
            except Exception as error:  # noqa: BLE001  CloudFormation must get an answer; the error's text may quote data
                outcomes.append(f"unexpected error: {type(error).__name__}")
                return

    thread = threading.Thread(target=work, name="migration", daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if outcomes:
        return outcomes[0]
    # The time may end while a try is under way.
    return (
        f"{tried[-1]}, for as long as the function could wait"
        if tried
        else "Postgres does not answer, or the migration needs more time than the function has: run `make migrate`"
    )


def _put(url: str, body: bytes, remaining: Callable[[], float]) -> None:
    import urllib3  # here, because only deployments need it

    # The address was signed for an empty content type.
    headers = {"Content-Type": "", "Content-Length": str(len(body))}
    with urllib3.PoolManager(retries=False, timeout=PUT_SECONDS) as pool:
        for number in range(TRIES):
            try:
                status = pool.request("PUT", url, body=body, headers=headers, redirect=False).status
            except urllib3.exceptions.HTTPError as error:
                # The error's text quotes the address.
                status, failure = 0, type(error).__name__
            else:
                failure = f"HTTP {status}"
            if 200 <= status < 300:
                return
            _log.warning("CloudFormation did not accept the answer", extra={"error": failure, "try": number + 1})
            pause = 0.5 * 2.0**number
            if number + 1 == TRIES or remaining() < pause + PUT_SECONDS:
                break
            time.sleep(pause)
    raise Unavailable("CloudFormation's address for the answer")
