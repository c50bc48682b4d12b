"""The whole host with given or missing stores, and the environment that a function sees."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import redis

from local import binaries
from local.errors import StartInterruptedError
from local.stack import FunctionError, LocalStack
from local.stores import Server
from local.template import Function
from local.variables import function_variables, module_folders, simulated_aws

from .conftest import APP, Client


def test_given_stores_are_used_and_reach_the_functions(valkey: Server, postgres: Server) -> None:
    environment = {"REDIS_URL": valkey.url, "DATABASE_URL": postgres.url}
    with LocalStack(APP / "template.yaml", environment=environment) as stack:
        assert (stack.redis_url, stack.database_url, stack.missing) == (valkey.url, postgres.url, [])
        assert not any(store.own for store in stack.stores.values())
        client = Client(stack.url)
        seen = client.request("GET", "/echo/x").json["environment"]
        client.close()
        assert (seen["REDIS_URL"], seen["DATABASE_URL"]) == (valkey.url, postgres.url)
        assert "migrate" in stack.log_file.read_text()


def test_the_password_of_a_given_redis_reaches_the_functions_that_of_no_redis_does_not(valkey: Server) -> None:
    """The template has no password: AWS uses IAM or a secret."""
    url = valkey.url.replace("redis://", "redis://somebody@")
    admin = redis.Redis.from_url(valkey.url)
    admin.acl_setuser("somebody", enabled=True, passwords=["+pw"], commands=["+@all"], keys=["*"])
    for environment in ({"REDIS_URL": url, "REDIS_PASSWORD": "pw"}, {"REDIS_PASSWORD": "pw"}):
        with LocalStack(APP / "template.yaml", environment=environment, postgres=False) as stack:
            client = Client(stack.url)
            seen = client.request("GET", "/echo/x").json["environment"]
            client.close()
        assert seen.get("REDIS_PASSWORD") == ("pw" if "REDIS_URL" in environment else None)
    admin.acl_deluser("somebody")
    admin.close()


def test_without_store_programs_the_start_is_degraded_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(binaries, "wheel_folder", lambda *_: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with LocalStack(APP / "template.yaml", environment={}) as stack:
        assert (stack.redis_url, stack.database_url) == (None, None)
        assert [reason.split(":")[0] for reason in stack.missing] == ["Valkey is missing", "PostgreSQL is missing"]
        assert stack.invoke("AdminFunction", {"action": "anything"}) == {"did": "anything"}


def test_settings_reach_the_functions_though_the_template_does_not_name_them() -> None:
    settings = {"HEARTBEAT_EVERY": "1", "GREETING": "from settings"}
    with LocalStack(APP / "template.yaml", environment={}, settings=settings, redis=False, postgres=False) as stack:
        client = Client(stack.url)
        seen = client.request("GET", "/echo/x").json["environment"]
        client.close()
    assert (seen["HEARTBEAT_EVERY"], seen["GREETING"]) == ("1", "from settings")


def test_a_direct_invocation_that_fails_raises_the_functions_error(stack: LocalStack) -> None:
    with pytest.raises(FunctionError, match="AdminFunction: KeyError: 'action'") as caught:
        stack.invoke("AdminFunction", {})
    assert caught.value.payload["errorType"] == "KeyError"
    with pytest.raises(KeyError):
        stack.invoke("NobodyFunction", {})


def test_the_simulated_aws_has_secrets_too(stack: LocalStack) -> None:
    import boto3

    secrets = boto3.client(
        "secretsmanager",
        endpoint_url=stack.sqs.meta.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )
    secrets.create_secret(Name="token", SecretString="t")
    assert secrets.get_secret_value(SecretId="token")["SecretString"] == "t"
    secrets.close()


def test_a_start_that_is_interrupted_between_any_two_steps_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.chmod(0o711)  # Postgres runs as `nobody`
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    others = set(psutil.Process().children())
    asked_for, ended = 0, False
    while not ended:
        asked_for += 1
        answers = iter([False] * (asked_for - 1) + [True])
        stack = LocalStack(APP / "template.yaml", environment={})
        try:
            stack.start(lambda answers=answers: next(answers, False))
        except StartInterruptedError:
            assert not hasattr(stack, "url")  # it never had an address
        else:
            ended = True
            stack.stop()
        # Its processes are children of this one. Those of other tests' servers, such as a vacuum, are not.
        assert set(psutil.Process().children()) <= others
        assert list(tmp_path.iterdir()) == []
    assert asked_for > 7


def variables(monkeypatch: pytest.MonkeyPatch, **overrides: str) -> dict[str, str]:
    monkeypatch.setenv("AWS_PROFILE", "the-developers-own")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    monkeypatch.setenv("NO_PROXY", "example.org")
    function = Function("F", "app.handler", APP, (APP / "layer",), 3, 128, {"A": "template", "B": "template"}, "arn")
    path = os.pathsep.join(map(str, module_folders(function)))
    return function_variables(function, overrides, simulated_aws("http://here"), path)


def test_the_callers_variables_replace_those_of_the_template_and_add_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = variables(monkeypatch, A="caller", C="caller")
    assert (seen["A"], seen["B"], "C" in seen) == ("caller", "template", False)


def test_a_function_sees_what_lambda_sets_and_the_simulated_aws_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = variables(monkeypatch)
    assert seen["AWS_LAMBDA_FUNCTION_NAME"] == "F"
    assert seen["_HANDLER"] == "app.handler"
    assert seen["PYTHONPATH"] == f"{APP}{os.pathsep}{APP / 'layer' / 'src'}"
    assert seen["AWS_ENDPOINT_URL"] == "http://here"
    assert "AWS_PROFILE" not in seen
    assert (seen["HTTPS_PROXY"], seen["NO_PROXY"]) == ("http://proxy", "example.org,127.0.0.1,localhost")
