"""The four functions in this process, over one set of parts, with all their output.

Each message in these tests contains `CANARY`. When a test ends, no log line, metric or error body may contain it.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers

from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.archive.memory import MemoryArchive
from message_handler.archive.none import NoConfiguration
from message_handler.bot_config import BotConfigService
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.errors import MessageHandlerError, Unavailable
from message_handler.domain.records import ArchiveRecord, Record
from message_handler.drivers.egress import Egress
from message_handler.drivers.secrets import Secrets
from message_handler.intake.intake import Intake
from message_handler.metrics import Meter
from message_handler.ports.queue import DeadLetter, Queue
from message_handler.queue.codec import decode, encode
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover
from message_handler.tiers.memory import MemoryTier
from message_handler.wiring import Parts
from message_handler.worker.worker import Worker
from tests.published import assert_published, body_of

CANARY = "c4n4ry"
ROOT = Path(__file__).parents[2]
EVENTS = ROOT / "events"
FUNCTIONS = ("intake", "status", "worker", "admin")
KEY = ConversationKey("default", "conv_123")
#: The kinds of configured records, as the files in events/ name them.
NOUNS = ("bot", "core-ai", "platform")
#: The fields of the answer to a message that joined others.
JOINED = {"success", "status", "action", "message", "ai_job_id", "consolidated_messages"}


class Output:
    """All that was printed and logged so far, and the words that it may not contain."""

    def __init__(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self._capsys = capsys
        self._caplog = caplog
        self._printed = ""
        self.private = {CANARY}

    @property
    def printed(self) -> str:
        captured = self._capsys.readouterr()
        self._printed += captured.out + captured.err
        return self._printed

    @property
    def logged(self) -> str:
        """The standard log, with all fields of its records."""
        records = [*self._caplog.get_records("setup"), *self._caplog.get_records("call")]
        return "\n".join(f"{logging.Formatter().format(record)} {vars(record)}" for record in records)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The functions' output: logs and metrics. Each line is a JSON object."""
        return [json.loads(line) for line in self.printed.splitlines()]

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if "_aws" not in line]

    @property
    def metrics(self) -> dict[str, list[float]]:
        """The values of each metric in the whole output."""
        found: dict[str, list[float]] = {}
        for line in self.lines:
            for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
                for metric in directive["Metrics"]:
                    found.setdefault(metric["Name"], []).extend(line[metric["Name"]])
        return found

    def assert_private(self, text: str | None = None) -> None:
        """Check that no private words are in `text`, by default all that was printed and logged."""
        text = self.printed + self.logged if text is None else text
        for words in self.private:
            assert words not in text
            assert json.dumps(words)[1:-1] not in text


class HeldQueue:
    """Keeps records as the text that SQS would keep, until a test delivers them. Refuses while `error` is set."""

    name = "held"
    in_process = True

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []
        self.error: MessageHandlerError | None = None

    def ping(self) -> None:
        if self.error:
            raise self.error

    def dead_letters(self) -> list[DeadLetter]:
        return []

    def count_dead_letters(self) -> int | None:
        return None

    def depth(self) -> dict[str, int]:
        self.ping()
        return {"visible": len(self.sent), "in_flight": 0, "delayed": 0}

    def remove(self, letter: DeadLetter) -> None: ...

    def send(self, record: Record | ArchiveRecord, *, delay: int = 0) -> None:
        if self.error:
            raise self.error
        self.sent.append((encode(record), delay))

    def close(self) -> None:
        """Nothing to close."""

    @property
    def delays(self) -> list[int]:
        return [delay for _, delay in self.sent]


class ConfiguredArchive(MemoryArchive):
    """An archive with configured bots."""

    def __init__(self, **bots: dict[str, Any]) -> None:
        super().__init__()
        self.bots = bots
        self.asked: list[str] = []
        self.gone = False

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        if self.gone:
            raise Unavailable("Postgres")
        self.asked.append(bot_id)
        return json.loads(json.dumps(self.bots.get(bot_id)))  # type: ignore[no-any-return]


def bot(bot_id: str, **changes: Any) -> dict[str, Any]:
    """A bot's configuration as in Postgres."""
    platform: dict[str, Any] = {
        "platform_id": "default",
        "name": "Clinic",
        "description": "",
        "base_url": None,
        "auth_required": False,
        "meta_data": {},
        "safety_rules": None,
    }
    record = {
        "bot_id": bot_id,
        "name": f"Bot {bot_id}",
        "description": "",
        "language": "vi",
        "is_active": True,
        "core_ai_id": None,
        "platform_id": "default",
        "meta_data": {},
        "revision": 3,
        "core_ai": None,
        "platform": platform,
    }
    return record | changes


@dataclass
class ScriptedAI:
    """An AI that answers with the test's script."""

    script: Callable[[Prompt, Watch], str]

    def complete(self, prompt: Prompt, watch: Watch) -> Completion:
        return Completion(self.script(prompt, watch))


def quote(prompt: Prompt, _watch: Watch) -> str:
    return " ".join(message.content for message in prompt.messages)


@dataclass
class Context:
    """Lambda's context, with the fields that our handlers use."""

    function_name: str
    memory_limit_in_mb: int = 1024
    aws_request_id: str = "9d2c7a1e-0000-4000-8000-000000000001"
    remaining_ms: int = 120_000

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:eu-central-1:123456789012:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@dataclass(frozen=True)
class Answer:
    """An HTTP response of a function."""

    status: int
    headers: dict[str, str]
    body: Any


def parts_of(
    settings: Settings,
    queue: Queue,
    ai: ScriptedAI,
    archive: MemoryArchive | None = None,
    meter: Meter | None = None,
) -> Parts:
    """All parts in memory, with the test's queue and AI."""
    tiers, archive, meter = Failover(MemoryTier(settings)), archive or MemoryArchive(), meter or Meter()
    no_configuration, egress = NoConfiguration(), Egress(())
    bots = BotConfigService(tiers, archive, settings)
    worker = Worker(tiers, archive, queue, bots, lambda core_ai: ai, settings, meter=meter)
    intake = Intake(tiers, archive, queue, bots, settings, meter=meter)
    return Parts(
        settings,
        tiers,
        archive,
        queue,
        bots,
        intake,
        worker,
        no_configuration,
        egress,
        Secrets(),
        archive.audit,
        archive.raised,
    )


def load_event(name: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def texts_of(event: Mapping[str, Any]) -> set[str]:
    """A patient's words in an event: in a request's body and in records."""
    bodies = [event.get("body"), *(record["body"] for record in event.get("Records", ()))]
    found = set()
    for body in bodies:
        try:
            value = json.loads(body or "{}")
        except ValueError:
            continue
        if isinstance(value, dict):
            turns = [*(value.get("messages") or ()), *(value.get("context") or ())]
            found |= {turn["content"] for turn in turns}
            found |= {value["history"]} if isinstance(value.get("history"), str) else set()
    return found


@dataclass
class Service:
    """The four functions. They share `parts`."""

    output: Output
    parts: Parts
    queue: HeldQueue
    ai: ScriptedAI
    meter: Meter
    functions: dict[str, ModuleType] = field(default_factory=dict)
    remaining_ms: int = 120_000

    def event(self, name: str, **changes: Any) -> dict[str, Any]:
        """A file of events/ with some keys changed. From now on no log may contain its texts."""
        event = load_event(name) | changes
        self.output.private |= texts_of(event)
        return event

    def invoke(self, function: str, event: Mapping[str, Any]) -> Any:
        module = self.functions[function]
        # In Lambda a process has one function and one stdout. Here the layer's logs go to the invoked function's.
        module.logger.logger_handler.stream = sys.stdout
        copy_config_to_registered_loggers(module.logger, include={"message_handler"})
        return module.handler(event, Context(function, remaining_ms=self.remaining_ms))

    def http(self, function: str, event: Mapping[str, Any]) -> Answer:
        """Call a function as the gateway does. Errors must be problem details without a patient's words."""
        response = self.invoke(function, event)
        assert set(response) == {"statusCode", "headers", "body", "isBase64Encoded"}
        assert response["isBase64Encoded"] is False
        assert response["headers"]["X-Content-Type-Options"] == "nosniff"
        body = body_of(response["headers"], response["body"])
        answer = Answer(response["statusCode"], response["headers"], body)
        if answer.status >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert {"type", "title", "status", "detail"} <= set(answer.body)
            assert answer.body["status"] == answer.status
            self.output.assert_private(response["body"])
        elif not str(event["resource"]).startswith("/console"):
            assert answer.headers["Content-Type"] in ("application/json", "text/csv; charset=utf-8")
        method, resource = str(event["httpMethod"]), str(event["resource"])
        assert_published(method, resource, answer.status, answer.headers, answer.body)
        return answer

    def post(self, body: Any, conversation_id: str = KEY.conversation_id, **changes: Any) -> Answer:
        """Post a request. A `body` that isn't text becomes JSON."""
        text = body if isinstance(body, str | None) else json.dumps(body)
        event = load_event("intake-post-message") | {
            "pathParameters": {"conversation_id": conversation_id},
            "body": text,
        }
        return self.http("intake", event | changes)

    def deliver(self) -> dict[str, Any]:
        """Deliver all sent records to the worker as one batch. Returns its answer."""
        bodies, self.queue.sent = [body for body, _ in self.queue.sent], []
        template = load_event("worker-one-record")["Records"][0]
        records = [template | {"messageId": f"record-{n}", "body": body} for n, body in enumerate(bodies)]
        result: dict[str, Any] = self.invoke("worker", {"Records": records})
        return result

    def send(self, *names: str) -> None:
        """Send a record for each name: one message, which ends with the name, in its own conversation."""
        for name in names:
            message = {"role": "user", "content": f"{CANARY} {name}"}
            assert self.post({"messages": [message]}, f"conv-{name}").status == 202

    def receive(self, *receives: int) -> dict[str, Any]:
        """Deliver all sent records as one batch. `receives` are their receive counts, or one count for all."""
        template = load_event("worker-one-record")["Records"][0]
        counts = receives if len(receives) > 1 else receives * len(self.queue.sent)
        records = [
            template
            | {"messageId": f"record-{n}", "receiptHandle": f"receipt-{n}", "body": body}
            | {"attributes": template["attributes"] | {"ApproximateReceiveCount": str(count)}}
            for n, ((body, _), count) in enumerate(zip(self.queue.sent, counts, strict=True))
        ]
        result: dict[str, Any] = self.invoke("worker", {"Records": records})
        return result

    def batch(self, *names: str, receives: tuple[int, ...] = (1,)) -> dict[str, Any]:
        """Send a record for each name, and deliver them as one batch."""
        self.queue.sent = []
        self.send(*names)
        return self.receive(*receives)

    def use(self, **replaced: Any) -> None:
        """Replace some parts of the functions."""
        self.parts = replace(self.parts, **replaced)


def load_function(name: str) -> ModuleType:
    """A new module of a function, as in a cold start."""
    # Powertools keeps a logger and its stream until the process ends. Here each test has its own.
    logging.root.manager.loggerDict.pop(name, None)
    spec = importlib.util.spec_from_file_location(f"function_{name}", ROOT / "functions" / name / "app.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def says(words: str, message_id: str | None = None, **more: Any) -> dict[str, Any]:
    """A request with one new message."""
    return {"history": f"<USER>{CANARY} {words}</USER><br>", "message_id": message_id} | more


def accept_again(service: Service, event: dict[str, Any]) -> Record:
    """Put a record's messages into the tier, under the record's own job, without answering them."""
    record = decode(event["Records"][0]["body"])
    key = record.request.key
    service.parts.tiers.tiers[0].accept_again(record.request, job_id=record.job_id, spare_id=key.new_job_id())
    return record
