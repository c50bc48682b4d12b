"""Migrations as a stack asks for them: a custom resource of CloudFormation.

CloudFormation invokes the function and waits, for an hour, until its answer is put where the event says: so there is
one before the function's time is up, whatever the database does. Creating and updating the resource migrates, deleting
it leaves the database as it is.

The event and the answer are as in the AWS CloudFormation User Guide, "Custom resource request types".
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from message_handler.domain.errors import InvalidRequest, MessageHandlerError, Unavailable

_log = logging.getLogger(__name__)

#: What is left of the function's time for the answer.
ANSWER_SECONDS = 12.0
#: A database that is just being made is asked again so often.
PAUSE_SECONDS = 2.0
#: Tries to put the answer, each with its own timeout, and the pause before the next.
TRIES = 3
PUT_SECONDS = 3.0
#: CloudFormation takes no more than 4 KiB in all.
MAX_REASON = 1_000
#: Where CloudFormation takes answers: at S3, in whatever region and partition.
_HOSTS = (".amazonaws.com", ".amazonaws.com.cn")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def is_custom_resource(event: Mapping[str, Any]) -> bool:
    """Whether an event is one of CloudFormation's."""
    return "RequestType" in event and "ResponseURL" in event


def run(
    event: Mapping[str, Any],
    migrate: Callable[[], list[str]],
    *,
    remaining: Callable[[], float],
    allow_loopback: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Do what the event asks for, and put the answer where it says; returns the answer.

    `remaining`: seconds left of the function's time. Raises InvalidRequest for an address that is none of
    CloudFormation's (nothing was done), or Unavailable if the answer could not be put: CloudFormation then goes on
    waiting.
    """
    url = _checked(event["ResponseURL"], allow_loopback=allow_loopback)
    status: Literal["SUCCESS", "FAILED"] = "SUCCESS"
    reason, applied = "", ""
    if event["RequestType"] in ("Create", "Update"):
        outcome = _in_time(migrate, remaining() - ANSWER_SECONDS)
        if isinstance(outcome, str):
            status, reason = "FAILED", outcome
            _log.error("the migration failed", extra={"reason": reason})
        else:
            applied = ", ".join(outcome)
            _log.info("migrated", extra={"applied": outcome})
    answer = {
        "Status": status,
        "Reason": reason[:MAX_REASON],
        # The same for as long as the resource lives: with another one CloudFormation would delete the first.
        "PhysicalResourceId": event.get("PhysicalResourceId") or event["LogicalResourceId"],
        "StackId": event["StackId"],
        "RequestId": event["RequestId"],
        "LogicalResourceId": event["LogicalResourceId"],
        "Data": {"Applied": applied[:MAX_REASON]},
    }
    _put(url, json.dumps(answer).encode(), remaining)
    return answer


def _checked(url: Any, *, allow_loopback: Callable[[], bool]) -> str:
    """The address, which is as secret as a password: whoever has it may answer. Raises InvalidRequest."""
    try:
        parts = urlsplit(str(url))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    ours = parts.scheme == "https" and port in (None, 443) and host.endswith(_HOSTS) and parts.username is None
    local = parts.scheme in ("http", "https") and host in _LOOPBACK
    if not ours and not (local and allow_loopback()):
        raise InvalidRequest("must be an address of CloudFormation's", field="ResponseURL")
    return str(url)


def _in_time(migrate: Callable[[], list[str]], seconds: float) -> list[str] | str:
    """What was applied, or why it wasn't: said after `seconds` at the latest, even if a server says nothing at all."""
    outcomes: list[list[str] | str] = []
    until = time.monotonic() + seconds
    tried: list[str] = []

    def work() -> None:
        while True:
            try:
                outcomes.append(migrate())
                return
            except Unavailable as away:
                tried.append(str(away))
                if time.monotonic() + PAUSE_SECONDS >= until:
                    outcomes.append(f"{away}, for as long as the function could wait")
                    return
                time.sleep(PAUSE_SECONDS)
            except MessageHandlerError as error:
                outcomes.append(str(error))
                return
            except Exception as error:  # noqa: BLE001  CloudFormation must be told; the text may quote what it must not
                outcomes.append(f"unexpected error: {type(error).__name__}")
                return

    thread = threading.Thread(target=work, name="migration", daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    if outcomes:
        return outcomes[0]
    return (
        tried[-1]
        if tried
        else "Postgres says nothing, or the migration takes longer than the function may: `make migrate`"
    )


def _put(url: str, body: bytes, remaining: Callable[[], float]) -> None:
    import urllib3  # only deployments wait for it

    # An empty type is part of what the address was signed for.
    headers = {"Content-Type": "", "Content-Length": str(len(body))}
    with urllib3.PoolManager(retries=False, timeout=PUT_SECONDS) as pool:
        for number in range(TRIES):
            try:
                status = pool.request("PUT", url, body=body, headers=headers, redirect=False).status
            except urllib3.exceptions.HTTPError as error:
                # Its text quotes the address.
                status, failure = 0, type(error).__name__
            else:
                failure = f"HTTP {status}"
            if 200 <= status < 300:
                return
            _log.warning("CloudFormation's answer was not taken", extra={"error": failure, "try": number + 1})
            pause = 0.5 * 2.0**number
            if number + 1 == TRIES or remaining() < pause + PUT_SECONDS:
                break
            time.sleep(pause)
    raise Unavailable("the address for CloudFormation's answer")
