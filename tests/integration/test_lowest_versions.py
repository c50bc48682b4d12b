"""Each function starts and works with the lowest versions that the layer asks for, over real stores and a queue.

Their own environment has them (requirements/lowest.txt). Its Python runs the functions.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from pg8000.native import Connection
from pydantic import SecretStr

from local.aws import start_simulator
from local.stores import Server
from local.variables import simulated_aws
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from tests.servers import SecuredRedis
from tests.unit.service import load_event
from tests.unit.test_requirements import lower_bounds

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-lowest" / "bin" / "python"
#: Prints the installed versions, then the answer to each event on stdin. Other output goes to stderr.
PROGRAM = """
import json, sys
from importlib.metadata import version
answers, sys.stdout = sys.stdout, sys.stderr
names = json.loads(sys.stdin.readline())
print(json.dumps({name: version(name) for name in names}), file=answers, flush=True)
import app
class Context:
    function_name, memory_limit_in_mb, invoked_function_arn, aws_request_id = "function", 1024, "arn", "id"
    get_remaining_time_in_millis = staticmethod(lambda: 120_000)
for line in sys.stdin:
    print(json.dumps(app.handler(json.loads(line), Context())), file=answers, flush=True)
"""


class Function:
    """One execution environment of a function."""

    def __init__(self, name: str, variables: dict[str, str], log: Path) -> None:
        folder, source = ROOT / "functions" / name, ROOT / "layers" / "message_handler" / "src"
        environment = variables | {"PYTHONPATH": f"{folder}:{source}", "POWERTOOLS_SERVICE_NAME": name}
        self._log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [PYTHON, "-c", PROGRAM],
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )

    def ask(self, question: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(question).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self._log.read_text()
        return json.loads(line)

    def stop(self) -> None:
        self.process.communicate(timeout=60)


@pytest.fixture(params=["plain", "TLS"])
def stores(request: pytest.FixtureRequest) -> dict[str, str]:
    """The variables that name the stores, with TLS and passwords as on AWS, or without."""
    secured = request.param == "TLS"
    postgres: Server = request.getfixturevalue("postgres_15" if secured else "postgres")
    redis: SecuredRedis | Server = request.getfixturevalue("secured_redis" if secured else "valkey")
    return {
        "REDIS_URL": urlsplit(redis.url)._replace(path="/1").geturl(),
        "REDIS_PASSWORD": redis.password if isinstance(redis, SecuredRedis) else "",
        "DATABASE_URL": own_database(postgres),
    }


@pytest.fixture
def functions(stores: dict[str, str], tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The functions by name, and a client of SQS with the queue's URL."""
    if not PYTHON.exists():
        reason = "the lowest versions are not installed: make .venv-lowest/synced"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with ExitStack() as running:
        aws = start_simulator(tmp_path / "aws.log")
        running.callback(aws.stop)
        keys = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}
        sqs = boto3.client("sqs", endpoint_url=aws.endpoint, region_name="eu-central-1", **keys)
        running.callback(sqs.close)
        queue = sqs.create_queue(QueueName="jobs")["QueueUrl"]
        variables = {
            **simulated_aws(aws.endpoint),
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "POWERTOOLS_METRICS_NAMESPACE": "test",
            "AUTH_REQUIRED": "false",
            "SIMULATED_AI_DELAY_MS": "0",
            "JOB_QUEUE_URL": queue,
            **stores,
            "REDIS_TIMEOUT_MS": "10000",
            "DATABASE_TIMEOUT": "10",
        }
        found: dict[str, Any] = {"sqs": sqs, "queue": queue}
        for name in ("admin", "intake", "status", "worker"):
            found[name] = function = Function(name, variables, tmp_path / f"{name}.log")
            running.callback(function.stop)
        yield found


def own_database(postgres: Server) -> str:
    connection: Connection = connector(Settings(database_url=SecretStr(postgres.url)))()
    connection.run("drop database if exists lowest")
    connection.run("create database lowest")
    connection.close()
    return urlsplit(postgres.url)._replace(path="/lowest").geturl()


def test_a_message_is_accepted_and_answered_and_all_is_healthy(functions: dict[str, Any]) -> None:
    admin, intake, status, worker = (functions[name] for name in ("admin", "intake", "status", "worker"))
    bounds = lower_bounds()
    for function in (admin, intake, status, worker):
        assert function.ask(list(bounds)) == bounds
    assert admin.ask({"action": "migrate"})["applied"]

    accepted = intake.ask(load_event("intake-post-message"))
    assert accepted["statusCode"] == 202, accepted
    job_id = json.loads(accepted["body"])["ai_job_id"]

    (message,) = functions["sqs"].receive_message(QueueUrl=functions["queue"], WaitTimeSeconds=10)["Messages"]
    (record,) = load_event("worker-one-record")["Records"]
    record |= {"messageId": message["MessageId"], "receiptHandle": message["ReceiptHandle"], "body": message["Body"]}
    assert worker.ask({"Records": [record]}) == {"batchItemFailures": []}

    asked = load_event("status-get-job") | {"pathParameters": {"job_id": job_id}}
    answer = status.ask(asked)
    assert (answer["statusCode"], json.loads(answer["body"])["status"]) == (200, "completed")

    shown = admin.ask(load_event("admin-status"))
    assert (shown["statusCode"], json.loads(shown["body"])["status"]) == (200, "healthy")
