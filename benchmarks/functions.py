"""A function of the service in this process, kept warm like Lambda's, with the events that the gateway sends.

It has the settings of a deployed function. Valkey, Postgres and the stand-in of SQS are processes of their own. Its
logs and metrics go to /dev/null, as fast as into a pipe.
"""

from __future__ import annotations

import importlib.util
import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

from benchmarks.history import conversation
from benchmarks.stores import AWS, Stores
from message_handler.domain.history import render

ROOT = Path(__file__).parent.parent
#: The last five turns. The last one is the patient's new message.
HISTORY = render(conversation(5))


@dataclass(frozen=True)
class Context:
    """The context that Lambda gives to a handler."""

    function_name: str
    memory_limit_in_mb: int = 1024
    aws_request_id: str = "9d2c7a1e-0000-4000-8000-000000000001"

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:eu-central-1:123456789012:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return 120_000


def variables(stores: Stores, name: str, **changed: str) -> dict[str, str]:
    """The environment of a deployed function."""
    return {
        **AWS,
        "AWS_ENDPOINT_URL": stores.sqs_endpoint,
        "REDIS_URL": stores.redis_url,
        "REDIS_TIMEOUT_MS": "10000",  # so that a loaded machine does not look like a dead server
        "DATABASE_URL": stores.database_url,
        "DATABASE_TIMEOUT": "30",
        "JOB_QUEUE_URL": stores.queue_url("jobs"),
        "AUTH_REQUIRED": "true",
        "POWERTOOLS_SERVICE_NAME": name,
        "POWERTOOLS_METRICS_NAMESPACE": "MessageHandler/benchmarks",
        "POWERTOOLS_LOG_LEVEL": "INFO",
        "DEBOUNCE_MS": "0",  # the figures of bursts set another
        **changed,
    }


@contextmanager
def warm(environment: dict[str, str], name: str) -> Iterator[ModuleType]:
    """The function's module, imported with this environment. It prints nothing."""
    before = dict(os.environ)
    os.environ.update(environment)
    with redirect_stdout(_nowhere()):
        try:
            module = load(name)
            try:
                yield module
            finally:
                module.parts().close()
        finally:
            os.environ.clear()
            os.environ.update(before)


@cache
def _nowhere() -> TextIO:
    """A file that stays open until the process ends: the logger keeps it for each later function."""
    return Path(os.devnull).open("w")


def load(name: str) -> ModuleType:
    """The function's module. It reads the environment at its first invocation."""
    spec = importlib.util.spec_from_file_location(f"benchmarked_{name}", ROOT / "functions" / name / "app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def post(conversation_id: str) -> dict[str, Any]:
    """API Gateway's event for a patient's message, with the claims of a platform's token."""
    event: dict[str, Any] = json.loads(_example("intake-post-message"))
    event["path"] = f"/conversations/{conversation_id}/messages"
    event["pathParameters"] = {"conversation_id": conversation_id}
    resources = {"user_id": "user_456"}
    event["body"] = json.dumps({"history": HISTORY, "resources": resources, "message_id": f"m-{uuid.uuid4()}"})
    event["requestContext"] |= {
        "authorizer": {"claims": _claims()},
        "extendedRequestId": str(uuid.uuid4()),
    }
    return event


def batch(bodies: list[str]) -> dict[str, Any]:
    """The event with which the event source mapping sends records."""
    (record,) = json.loads(_example("worker-one-record"))["Records"]
    return {"Records": [record | {"messageId": str(uuid.uuid4()), "body": body} for body in bodies]}


@cache
def _example(name: str) -> str:
    return (ROOT / "events" / f"{name}.json").read_text()


def _claims() -> dict[str, str]:
    day = "%a %b %d %H:%M:%S UTC %Y"
    return {
        "sub": "benchmarks",
        "client_id": "benchmarks",
        "token_use": "access",
        "scope": "message-handler/messages tenant/default",
        "iat": time.strftime(day, time.gmtime()),
        "exp": time.strftime(day, time.gmtime(time.time() + 3600)),
        "version": "2",
    }
