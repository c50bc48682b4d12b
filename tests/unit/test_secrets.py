"""Secrets: read where they are kept, seen when they change, never told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from message_handler.errors import Unavailable
from message_handler.secrets import Secrets
from tests.unit.service import Output

SECRET = "s3cr3t-t0k3n"
ROTATED = "r0t4t3d-t0k3n"
TENANT = "clinic"


class Clock:
    """A time that only a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, output: Output) -> Iterator[Any]:
    """The client of whoever keeps the secrets. None of them is ever printed or logged."""
    output.private |= {SECRET, ROTATED}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with mock_aws():
        client = boto3.client("secretsmanager", region_name="eu-central-1")
        yield client
        client.close()


def keep(kept: Any, value: str | bytes) -> str:
    kind = "SecretString" if isinstance(value, str) else "SecretBinary"
    return str(kept.create_secret(Name=f"message-handler/{TENANT}/openai", **{kind: value})["ARN"])


@pytest.mark.parametrize(
    "value", [SECRET, "", "arn:aws:s3:::bucket", "arn:aws:secretsmanager", "x arn:aws:secretsmanager"]
)
def test_what_is_no_arn_is_the_secret_itself(value: str) -> None:
    assert Secrets(literals=True).reveal(value, TENANT) == value


def test_the_newline_that_an_editor_left_at_its_end_is_none_of_it(kept: Any) -> None:
    assert Secrets().reveal(keep(kept, f"{SECRET}\n"), TENANT) == SECRET


def test_a_secret_is_read_where_it_is_kept(kept: Any) -> None:
    assert Secrets().reveal(keep(kept, SECRET), TENANT) == SECRET


def test_a_rotated_secret_is_seen_after_300_s(kept: Any, clock: Clock) -> None:
    arn, secrets = keep(kept, SECRET), Secrets(clock=clock)
    assert secrets.reveal(arn, TENANT) == SECRET
    kept.put_secret_value(SecretId=arn, SecretString=ROTATED)
    clock.now += 299
    assert secrets.reveal(arn, TENANT) == SECRET
    clock.now += 2
    assert secrets.reveal(arn, TENANT) == ROTATED


def test_a_secret_is_asked_for_once_while_it_is_fresh(kept: Any, clock: Clock) -> None:
    arn, secrets = keep(kept, SECRET), Secrets(clock=clock)
    assert secrets.reveal(arn, TENANT) == SECRET
    kept.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
    assert secrets.reveal(arn, TENANT) == SECRET


@pytest.mark.parametrize("forced", [True, False])
def test_a_secret_that_was_taken_away_is_used_no_longer(kept: Any, clock: Clock, forced: bool) -> None:
    arn, secrets = keep(kept, SECRET), Secrets(clock=clock)
    assert secrets.reveal(arn, TENANT) == SECRET
    kept.delete_secret(SecretId=arn, **({"ForceDeleteWithoutRecovery": True} if forced else {}))
    clock.now += 301
    for _ in range(2):
        with pytest.raises(Unavailable) as gone:
            secrets.reveal(arn, TENANT)
        assert SECRET not in str(gone.value)


def test_while_nobody_answers_the_last_known_secret_goes_on(
    kept: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arn, secrets = keep(kept, SECRET), Secrets(clock=clock)
    assert secrets.reveal(arn, TENANT) == SECRET
    away = _Away()
    monkeypatch.setattr(secrets._manager, "_client", lambda _: away)
    clock.now += 301
    assert [secrets.reveal(arn, TENANT) for _ in range(5)] == [SECRET] * 5
    assert away.asked == 1  # not at every call
    clock.now += 31
    assert secrets.reveal(arn, TENANT) == SECRET
    assert away.asked == 2
    assert caplog.get_records("call")[-1].levelno == logging.WARNING
    monkeypatch.undo()
    kept.put_secret_value(SecretId=arn, SecretString=ROTATED)
    clock.now += 31
    assert secrets.reveal(arn, TENANT) == ROTATED


class _Away:
    """A client of an endpoint where nobody listens."""

    def __init__(self) -> None:
        self.asked = 0

    def get_secret_value(self, SecretId: str) -> Any:  # noqa: N803
        from botocore.exceptions import EndpointConnectionError

        self.asked += 1
        raise EndpointConnectionError(endpoint_url=SECRET)


def test_a_secret_that_nobody_ever_told_is_not_available(kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = Secrets()
    monkeypatch.setattr(secrets._manager, "_client", lambda _: _Away())
    with pytest.raises(Unavailable, match="Secrets Manager") as away:
        secrets.reveal(keep(kept, SECRET), TENANT)
    assert SECRET not in str(away.value)


def test_a_secret_without_text_is_not_available(kept: Any) -> None:
    with pytest.raises(Unavailable, match="Secrets Manager"):
        Secrets().reveal(keep(kept, SECRET.encode()), TENANT)
