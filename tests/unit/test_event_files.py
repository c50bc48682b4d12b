"""The files in `events/`, which developers invoke the functions with: tests use each, and each is what AWS sends."""

import hashlib
from pathlib import Path
from urllib.parse import unquote

import pytest

from message_handler.aws import cloudformation
from message_handler.domain.identifiers import shard_of_job
from message_handler.domain.records import DeliveryRecord
from message_handler.queue.codec import decode, encode
from tests.unit.service import (
    EVENTS,
    KEY,
    NOUNS,
    Service,
    load_event,
)


def test_every_file_is_used_here() -> None:
    source = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    names = {f"admin-{verb}-{noun}" for verb in ("get", "put", "delete") for noun in NOUNS}
    names |= {f"admin-list-{noun}" for noun in ("bots", "core-ai", "platforms")}
    unused = [file.name for file in EVENTS.iterdir() if f'"{file.stem}"' not in source and file.stem not in names]
    assert unused == []


@pytest.mark.parametrize("file", sorted(EVENTS.glob("*.json")), ids=lambda file: file.stem)
def test_a_call_is_one_that_its_function_routes_and_the_gateway_sends(service: Service, file: Path) -> None:
    event = load_event(file.stem)
    if "httpMethod" not in event:
        assert set(event) in ({"Records"}, {"action"}) or cloudformation.is_custom_resource(event)
        return
    function = service.functions[file.stem.partition("-")[0]]
    context = event["requestContext"]
    assert (event["httpMethod"], event["resource"]) in function.ROUTES
    assert event["resource"].format(**event["pathParameters"] or {}) == unquote(event["path"])
    assert context["resourcePath"] == event["resource"]
    assert context["httpMethod"] == event["httpMethod"]
    assert context["path"] == f"/{context['stage']}{event['path']}"
    assert event["multiValueHeaders"] == {name: [value] for name, value in event["headers"].items()}
    query = event["queryStringParameters"]
    assert event["multiValueQueryStringParameters"] == (query and {name: [query[name]] for name in query})


def test_records_are_what_the_queue_writes() -> None:
    records = load_event("worker-one-record")["Records"] + load_event("worker-batch")["Records"]
    bodies = [record["body"] for record in records]
    for record in records:
        assert record["md5OfBody"] == hashlib.md5(record["body"].encode()).hexdigest()
    broken = [body for body in bodies if not body.endswith("}")]
    assert broken == [bodies[2]]
    (delivery,) = load_event("worker-delivery")["Records"]
    assert delivery["md5OfBody"] == hashlib.md5(delivery["body"].encode()).hexdigest()
    assert encode(DeliveryRecord(KEY)) == delivery["body"]
    for body in set(bodies) - set(broken):
        decoded = decode(body)
        assert encode(decoded) == body
        assert shard_of_job(decoded.job_id) == decoded.request.key.shard
        assert decoded.message_id == decoded.request.messages[-1].message_id


def test_the_job_events_ask_for_the_job_of_the_one_record() -> None:
    job_id = decode(load_event("worker-one-record")["Records"][0]["body"]).job_id
    for name in ("status-get-job", "intake-delete-job"):
        assert load_event(name)["pathParameters"] == {"job_id": job_id}
