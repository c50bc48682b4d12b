"""Secrets are read in AWS Secrets Manager, renewed when they change, and never shown."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import closing
from typing import Any

import pytest

from message_handler.domain.errors import SecretRefused, Unavailable
from message_handler.drivers import aws
from message_handler.drivers.secrets import Secrets, SecretsManager
from message_handler.settings import Settings
from message_handler.wiring import build
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
def kept(vault: Any, output: Output) -> Any:
    """The client of a Secrets Manager. None of its secrets is ever printed or logged."""
    output.private |= {SECRET, ROTATED}
    return vault


class Endpoint:
    """A client of the same Secrets Manager, which may be away. It counts what it is asked."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.is_away = False
        self.asked = 0

    def get_secret_value(self, SecretId: str) -> Any:  # noqa: N803
        from botocore.exceptions import EndpointConnectionError

        self.asked += 1
        if self.is_away:
            raise EndpointConnectionError(endpoint_url=SECRET)
        return self.client.get_secret_value(SecretId=SecretId)


@pytest.fixture
def endpoint(kept: Any, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """The client that the package makes for itself."""
    endpoint = Endpoint(kept)
    monkeypatch.setattr(aws, "client", lambda *_, **__: endpoint)
    return endpoint


HOST = "api.openai.com"


def for_host(token: str, host: str = HOST) -> str:
    return json.dumps({"token": token, "host": host})


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
    secrets = Secrets()
    assert secrets.reveal(keep(kept, SECRET), TENANT) == SECRET
    assert SECRET not in f"{secrets!r} {vars(secrets)}"


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


def test_while_secrets_manager_is_away_the_last_known_secret_is_used(
    kept: Any, endpoint: Endpoint, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    arn, secrets = keep(kept, SECRET), Secrets(clock=clock)
    assert secrets.reveal(arn, TENANT) == SECRET
    endpoint.is_away = True
    clock.now += 301
    assert [secrets.reveal(arn, TENANT) for _ in range(5)] == [SECRET] * 5
    assert endpoint.asked == 2  # not at every call
    clock.now += 31
    assert secrets.reveal(arn, TENANT) == SECRET
    assert endpoint.asked == 3
    assert caplog.get_records("call")[-1].levelno == logging.WARNING
    endpoint.is_away = False
    kept.put_secret_value(SecretId=arn, SecretString=ROTATED)
    clock.now += 31
    assert secrets.reveal(arn, TENANT) == ROTATED


def test_a_secret_that_was_never_read_is_not_available(kept: Any, endpoint: Endpoint) -> None:
    secrets, endpoint.is_away = Secrets(), True
    with pytest.raises(Unavailable, match="Secrets Manager") as away:
        secrets.reveal(keep(kept, SECRET), TENANT)
    assert SECRET not in str(away.value)


def test_a_secret_without_text_is_not_available(kept: Any) -> None:
    with pytest.raises(Unavailable, match="Secrets Manager"):
        Secrets().reveal(keep(kept, SECRET.encode()), TENANT)


class TestWhose:
    """A tenant's configuration may name secrets below its own prefix, and may hold no secret itself."""

    ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:"

    @pytest.mark.parametrize("value", [SECRET, "arn:aws:s3:::bucket", f"whsec_{SECRET}"])
    def test_a_secret_that_is_written_out_is_never_used(self, value: str) -> None:
        with pytest.raises(
            SecretRefused, match="store it in AWS Secrets Manager as message-handler/clinic/"
        ) as refused:
            Secrets().reveal(value, TENANT)
        assert SECRET not in str(refused.value)

    @pytest.mark.parametrize(
        "name",
        [
            "message-handler/other/openai",
            "message-handler/clinic-2/openai",
            "message-handler/clinic",
            "message-handler/clinic/",
            "message-handler/",
            "message-handler/x/clinic/openai",
            "clinic/openai",
            "Message-Handler/clinic/openai",
        ],
    )
    @pytest.mark.parametrize("literals", [False, True])
    def test_no_tenant_names_a_secret_of_another(self, kept: Any, name: str, literals: bool) -> None:
        arn = (
            kept.create_secret(Name=name, SecretString=SECRET)["ARN"] if name[-1] != "/" else f"{self.ARN}{name}-AbCdEf"
        )
        secrets = Secrets(literals=literals)
        with pytest.raises(SecretRefused, match="whose name begins with message-handler/clinic/") as refused:
            secrets.reveal(arn, TENANT)
        assert name not in str(refused.value).replace("message-handler/clinic/", "")
        assert secrets.renewed(arn, TENANT, "anything", host=HOST) is None

    def test_the_prefix_is_the_deployments(self, kept: Any) -> None:
        arn = kept.create_secret(Name=f"eu/chat/{TENANT}/openai", SecretString=SECRET)["ARN"]
        assert Secrets("eu/chat/").reveal(arn, TENANT) == SECRET
        with pytest.raises(SecretRefused):
            Secrets("eu/").reveal(arn, TENANT)

    def test_what_the_settings_say_holds_for_all_parts(self) -> None:
        with closing(build(Settings())) as parts, pytest.raises(SecretRefused, match="message-handler/clinic/"):
            parts.secrets.check(SECRET, TENANT)
        settings = Settings(allow_literal_secrets=True, secrets_prefix="eu/chat/")
        with closing(build(settings)) as parts:
            secrets = parts.configuration.secrets
            secrets.check(SECRET, TENANT)
            with pytest.raises(SecretRefused, match="eu/chat/clinic/"):
                secrets.check(f"{self.ARN}message-handler/clinic/openai-AbCdEf", TENANT)

    @pytest.mark.parametrize(
        "arn_prefix", ["arn:aws:secretsmanager:us-east-1", "arn:aws:secretsmanager:eu-central-1:2"]
    )
    def test_a_secret_of_another_account_or_region_is_refused(self, arn_prefix: str) -> None:
        secrets = Secrets(arn_prefix=arn_prefix)
        with pytest.raises(SecretRefused, match="this deployment's account and region"):
            secrets.check(f"{self.ARN}message-handler/{TENANT}/openai-AbCdEf", TENANT)
        Secrets(arn_prefix=self.ARN).check(f"{self.ARN}message-handler/{TENANT}/openai-AbCdEf", TENANT)

    @pytest.mark.parametrize("end", ["", "-", "-AbCdE", "-AbCdE_", "-AbCdEf:", "*", "-??????"])
    def test_a_part_of_an_arn_is_refused(self, end: str) -> None:
        with pytest.raises(SecretRefused, match="whole ARN"):
            Secrets().check(f"{self.ARN}message-handler/{TENANT}/openai{end}", TENANT)


class TestHost:
    """A token goes to the host that its secret names, also if another record names the secret."""

    def test_the_token_is_for_its_host_alone(self, kept: Any, caplog: pytest.LogCaptureFixture) -> None:
        arn, secrets = keep(kept, for_host(SECRET, "API.openai.com")), Secrets()
        assert secrets.reveal(arn, TENANT, host=HOST) == SECRET
        for other in ("evil.example", "openai.com", "x.api.openai.com", f"{HOST}:8443", f"{HOST}."):
            with pytest.raises(SecretRefused) as refused:
                secrets.reveal(arn, TENANT, host=other)
            assert SECRET not in str(refused.value)
            assert secrets.renewed(arn, TENANT, "old", host=other) is None
        assert "another host" in str(vars(caplog.records[-1]))

    @pytest.mark.parametrize(
        "value",
        [
            *(SECRET, "{}", "[]", "null", f'"{SECRET}"', "[" * 50_000),
            *(f'{{"token": "{SECRET}"}}', f'{{"host": "{HOST}", "token": ""}}'),
        ],
        ids=range(8),
    )
    def test_a_secret_that_names_no_host_or_no_token_is_not_used(self, kept: Any, value: str) -> None:
        with pytest.raises(SecretRefused) as refused:
            Secrets().reveal(keep(kept, value), TENANT, host=HOST)
        assert SECRET not in str(refused.value)

    def test_a_webhooks_key_is_not_sent_and_stands_alone(self, kept: Any) -> None:
        assert Secrets().reveal(keep(kept, f"whsec_{SECRET}"), TENANT) == f"whsec_{SECRET}"


class _Counting(SecretsManager):
    """A Secrets Manager that counts its reads."""

    asked = 0

    def read(self, arn: str) -> str:
        self.asked += 1
        return super().read(arn)


class TestRenewed:
    """A provider that refuses a token may know of its rotation before this process does."""

    def test_a_refused_secret_is_read_again(self, kept: Any, clock: Clock) -> None:
        arn, secrets = keep(kept, for_host(SECRET)), Secrets(clock=clock)
        assert secrets.reveal(arn, TENANT, host=HOST) == SECRET
        kept.put_secret_value(SecretId=arn, SecretString=for_host(ROTATED))
        clock.now += 1
        assert secrets.renewed(arn, TENANT, SECRET, host=HOST) == ROTATED
        assert secrets.reveal(arn, TENANT, host=HOST) == ROTATED

    def test_a_refused_secret_is_read_at_most_once_a_second(self, kept: Any, clock: Clock) -> None:
        manager = _Counting()
        arn, secrets = keep(kept, for_host(SECRET)), Secrets(clock=clock, manager=manager)
        secrets.reveal(arn, TENANT, host=HOST)
        assert [secrets.renewed(arn, TENANT, SECRET, host=HOST) for _ in range(5)] == [None] * 5
        assert manager.asked == 1  # it was read just now
        clock.now += 1
        assert [secrets.renewed(arn, TENANT, SECRET, host=HOST) for _ in range(5)] == [None] * 5
        assert manager.asked == 2

    def test_all_that_are_refused_at_once_ask_once(self, kept: Any, clock: Clock) -> None:
        manager = _Counting()
        arn, secrets = keep(kept, for_host(SECRET)), Secrets(clock=clock, manager=manager)
        secrets.reveal(arn, TENANT, host=HOST)
        kept.put_secret_value(SecretId=arn, SecretString=for_host(ROTATED))
        clock.now += 1
        found: list[str | None] = []
        together = threading.Barrier(8)

        def refused() -> None:
            together.wait()
            found.append(secrets.renewed(arn, TENANT, SECRET, host=HOST))

        threads = [threading.Thread(target=refused) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (found, manager.asked) == ([ROTATED] * 8, 2)

    def test_what_is_written_out_or_gone_is_what_it_is(self, kept: Any, endpoint: Endpoint, clock: Clock) -> None:
        arn, secrets = keep(kept, for_host(SECRET)), Secrets(literals=True, clock=clock)
        assert secrets.renewed(SECRET, TENANT, SECRET, host=HOST) is None
        secrets.reveal(arn, TENANT, host=HOST)
        clock.now += 1
        endpoint.is_away = True
        assert secrets.renewed(arn, TENANT, SECRET, host=HOST) is None
        endpoint.is_away = False
        kept.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        clock.now += 1
        assert secrets.renewed(arn, TENANT, SECRET, host=HOST) is None
        with pytest.raises(Unavailable):
            secrets.reveal(arn, TENANT, host=HOST)
