"""Settings are read once and checked. Errors name variables without their values, and secrets stay hidden."""

from __future__ import annotations

import logging
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from message_handler.domain.errors import SettingsError
from message_handler.settings import Settings
from message_handler.wiring import build
from tests.unit.service import Context, Output, load_event, load_function

SECRET = "pa55w0rd"


def test_an_empty_environment_is_enough() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert (settings.redis_url, settings.redis_password) == (None, None)
    assert (settings.database_url, settings.job_queue_url) == (None, None)
    assert (settings.lock_ttl, settings.heartbeat_every, settings.heartbeat_stale) == (300, 2, 8)
    assert (settings.job_ttl, settings.ai_timeout, settings.run_seconds) == (3600, 30, 120)
    assert (settings.join_delay, settings.redis_timeout_ms, settings.max_restarts) == (150, 200, 3)
    assert (settings.simulated_ai_delay_ms, settings.max_wait_seconds, settings.debounce_ms) == ("800", 25, 500)


def test_the_environment_is_read_in_capitals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"rediss://:{SECRET}@cache.example:6380/1")
    monkeypatch.setenv("DATABASE_URL", f"postgresql+asyncpg://user:{SECRET}@db.example/app?sslmode=require")
    monkeypatch.setenv("JOB_QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs")
    monkeypatch.setenv("SIMULATED_AI_DELAY_MS", "400-1200")
    monkeypatch.setenv("LOCK_TTL", "60.5")
    settings = Settings.from_environment()
    assert settings.redis_url is not None
    assert settings.redis_url.get_secret_value().endswith("cache.example:6380/1")
    assert settings.lock_ttl == 60.5
    assert settings.simulated_ai_delay_ms == "400-1200"


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_environment(dict.fromkeys(map(str.upper, Settings.model_fields), "")) == Settings()


def test_settings_are_frozen_and_hide_their_secrets() -> None:
    settings = Settings.from_environment(
        {
            "REDIS_URL": f"redis://:{SECRET}@localhost",
            "REDIS_PASSWORD": SECRET,
            "DATABASE_URL": f"postgres://u:{SECRET}@h/d",
        }
    )
    assert SECRET not in f"{settings} {settings!r} {settings.model_dump()} {settings.model_dump_json()}"
    with pytest.raises(ValidationError):
        settings.redis_password = None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REDIS_URL", f"http://{SECRET}@localhost"),
        ("REDIS_URL", SECRET),
        ("REDIS_URL", f"redis://:pa#{SECRET}@localhost:6379"),
        ("REDIS_URL", f"redis://:[{SECRET}@localhost:6379"),
        ("REDIS_URL", f"redis://localhost:{SECRET}"),
        ("DATABASE_URL", f"mysql://root:{SECRET}@localhost/db"),
        ("DATABASE_URL", f"postgresql://root:{SECRET}@localhost:{SECRET}/db"),
        ("DATABASE_URL", f"postgresql://root:pa/{SECRET}@localhost/db"),
        ("JOB_QUEUE_URL", f"arn:aws:sqs:eu-central-1:123456789012:{SECRET}"),
        ("JOB_QUEUE_URL", SECRET),
        ("SIMULATED_AI_DELAY_MS", SECRET),
        ("SIMULATED_AI_DELAY_MS", "-5"),
        ("SIMULATED_AI_DELAY_MS", "800\n"),
        ("SIMULATED_AI_DELAY_MS", "900-100"),
        ("MAX_WAIT_SECONDS", "26"),
        ("MAX_WAIT_SECONDS", "-1"),
        ("MAX_WAIT_SECONDS", SECRET),
        ("MAX_WAITS", "-1"),
        ("MAX_WAITS_PER_TENANT", SECRET),
        ("REDIS_TIMEOUT_MS", "0"),
        ("REDIS_TIMEOUT_MS", "0.5"),
        ("LOCK_TTL", "0"),
        ("LOCK_TTL", "nan"),
        ("LOCK_TTL", "inf"),
        ("LOCK_TTL", SECRET),
        ("JOIN_DELAY", "901"),
        ("DEBOUNCE_MS", "10001"),
        ("DEBOUNCE_MS", "-1"),
        ("REDIS_SECRET_ARN", SECRET),
        ("DATABASE_SECRET_ARN", f"arn:aws:s3:::{SECRET}"),
        ("DATABASE_IAM", SECRET),
        ("REDIS_IAM_CACHE", f"{SECRET}.cache.example:6379"),
        ("SECRETS_PREFIX", f"{SECRET}*"),
        ("ALLOW_LITERAL_SECRETS", SECRET),
        ("MAX_RESTARTS", "-1"),
    ],
)
def test_a_bad_variable_is_named_and_its_value_is_not(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({name: value, "REDIS_PASSWORD": SECRET})
    assert name in str(refused.value)
    assert len(value) < 3 or value not in str(refused.value)
    assert SECRET not in str(refused.value)


def test_every_bad_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"(?s)DATABASE_URL.*LOCK_TTL"):
        Settings.from_environment({"LOCK_TTL": "x", "DATABASE_URL": "x"})


CONTRADICTING = {"SIMULATED_AI_DELAY_MS": "9-1", "REDIS_PASSWORD": SECRET, "REDIS_IAM_CACHE": "cache"}


def test_values_that_are_bad_alone_and_values_that_contradict_each_other_are_named_at_once() -> None:
    names = {"LOCK_TTL", "DATABASE_URL", *CONTRADICTING}
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(CONTRADICTING | {"LOCK_TTL": SECRET, "DATABASE_URL": SECRET})
    assert {name for name in names if name in str(refused.value)} == names
    assert str(refused.value).count("bad settings") == 1
    assert SECRET not in str(refused.value)


def test_a_bad_value_is_no_part_of_a_contradiction() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment({"REDIS_URL": f"http://{SECRET}", "REDIS_IAM_CACHE": "cache"})
    assert str(refused.value) == "bad settings: REDIS_URL: Value error, must start with redis:// or rediss://"


def test_settings_that_clients_refuse_are_named_at_once() -> None:
    environment = {
        "REDIS_URL": f"redis://:{SECRET}@cache.example?{SECRET}=1",
        "DATABASE_URL": f"postgresql://me:{SECRET}@db.example/app?sslmode=prefer",
        "EGRESS_ALLOWED_HOSTS": f"{SECRET}/path",
    }
    with pytest.raises(SettingsError) as refused:
        build(Settings.from_environment(environment))
    assert [name for name in environment if f"{name}: " not in str(refused.value)] == []
    assert str(refused.value).count("bad settings") == 1
    assert SECRET not in str(refused.value)


BAD = [
    ({"LOCK_TTL": SECRET}, ["LOCK_TTL"]),
    ({"LOCK_TTL": SECRET, "MAX_WAIT_SECONDS": SECRET}, ["LOCK_TTL", "MAX_WAIT_SECONDS"]),
    (CONTRADICTING, list(CONTRADICTING)),
    ({"DATABASE_URL": f"postgresql://me:{SECRET}@db.example/app?sslmode=prefer"}, ["DATABASE_URL"]),
    ({"REDIS_URL": f"redis://:{SECRET}@h:x"}, ["REDIS_URL"]),
]
CALLS = [
    ("intake", "intake-post-message"),
    ("status", "status-get-job"),
    ("worker", "worker-one-record"),
    ("admin", "admin-list-locks"),
    ("admin", "admin-console-settings"),
    ("admin", "admin-schedule"),
    ("admin", "admin-migrate"),
]


@pytest.mark.parametrize(("function", "event"), CALLS)
@pytest.mark.parametrize(("environment", "names"), BAD)
def test_a_bad_setting_names_its_variable_in_the_log_of_every_function(
    output: Output,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    event: str,
    environment: dict[str, str],
    names: list[str],
) -> None:
    output.private.add(SECRET)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", function)
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "MessageHandler")
    layer = logging.getLogger("message_handler")
    before = (layer.handlers, layer.propagate)
    module = load_function(function)
    module.logger.logger_handler.stream = sys.stdout
    call = load_event(event)
    try:
        if "httpMethod" in call:
            assert module.handler(call, Context(function))["statusCode"] == 500
        else:
            with pytest.raises(SettingsError):
                module.handler(call, Context(function))
    finally:
        layer.handlers, layer.propagate = before
    (line,) = [line for line in output.logs if "reason" in line]
    assert [name for name in names if name not in line["reason"]] == []
    assert line["correlation_id"]


@pytest.mark.parametrize("arguments", [{"redis_url": f"http://{SECRET}"}, {"redis_uri": SECRET}, {"lock_ttl": SECRET}])
def test_settings_from_code_hide_values_in_errors_too(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        Settings(**arguments)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["redis://localhost", "redis:///0", "rediss://[::1]:6380", f"redis://u:%23{SECRET}@h:1/0"]
)
def test_urls_that_redis_takes_are_fine(url: str) -> None:
    assert Settings.from_environment({"REDIS_URL": url}).redis_url is not None


@pytest.mark.parametrize("url", ["postgresql://localhost/db", "postgres:///db", "postgresql+psycopg://u:p%40@h:5432/d"])
def test_urls_that_postgres_takes_are_fine(url: str) -> None:
    assert Settings.from_environment({"DATABASE_URL": url}).database_url is not None


def test_under_sam_local_a_queue_is_only_a_name() -> None:
    """`sam local` has no queues: it gives a queue's logical id in place of its URL."""
    environment = {"JOB_QUEUE_URL": "JobQueue", "DEAD_LETTER_QUEUE_URL": "DeadLetterQueue"}
    assert Settings.from_environment(environment | {"AWS_SAM_LOCAL": "true"}).job_queue_url is None
    with pytest.raises(SettingsError, match="JOB_QUEUE_URL"):
        Settings.from_environment(environment)


SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:stores/login-AbCdEf"
REDIS = {"REDIS_URL": "rediss://handler@cache.example:6379/0"}
DATABASE = {"DATABASE_URL": "postgresql://handler@db.example/app"}
LOGINS = {
    "REDIS_PASSWORD": SECRET,
    "REDIS_SECRET_ARN": SECRET_ARN,
    "REDIS_IAM_CACHE": "cache",
    "DATABASE_SECRET_ARN": SECRET_ARN,
    "DATABASE_IAM": "true",
}


@pytest.mark.parametrize("name", LOGINS)
def test_a_store_is_logged_in_at_in_each_of_these_ways(name: str) -> None:
    settings = Settings.from_environment(REDIS | DATABASE | {name: LOGINS[name]})
    assert getattr(settings, name.lower())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("REDIS_PASSWORD", "REDIS_SECRET_ARN"),
        ("REDIS_PASSWORD", "REDIS_IAM_CACHE"),
        ("REDIS_SECRET_ARN", "REDIS_IAM_CACHE"),
        ("DATABASE_SECRET_ARN", "DATABASE_IAM"),
    ],
)
def test_two_ways_to_log_in_at_one_store_are_named(one: str, other: str) -> None:
    with pytest.raises(SettingsError, match=f"{one} and {other}") as refused:
        Settings.from_environment(REDIS | DATABASE | {name: LOGINS[name] for name in (one, other)})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", [name for name in LOGINS if name != "REDIS_PASSWORD"])
def test_a_password_in_the_url_beside_another_way_is_named(name: str) -> None:
    url = f"{name.partition('_')[0]}_URL"
    value = (REDIS | DATABASE)[url].replace("handler", f"handler:{SECRET}")
    with pytest.raises(SettingsError, match=f"{name} and the password in {url}") as refused:
        Settings.from_environment({url: value, name: LOGINS[name]})
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", ["REDIS_IAM_CACHE", "DATABASE_IAM"])
def test_iam_is_told_who_logs_in(name: str) -> None:
    url = f"{name.partition('_')[0]}_URL"
    with pytest.raises(SettingsError, match=f"{url} must contain a user name, because of {name}"):
        Settings.from_environment({url: (REDIS | DATABASE)[url].replace("handler@", ""), name: LOGINS[name]})


def test_a_token_of_iam_is_sent_to_redis_in_tls_alone() -> None:
    with pytest.raises(SettingsError, match="REDIS_URL must start with rediss://"):
        Settings.from_environment({"REDIS_URL": "redis://handler@cache.example", "REDIS_IAM_CACHE": "cache"})


def test_literal_secrets_are_refused_unless_a_setting_allows_them() -> None:
    assert (Settings().allow_literal_secrets, Settings().secrets_prefix) == (False, "message-handler/")


def test_a_token_is_needed_unless_a_setting_says_otherwise() -> None:
    """`sam local` skips the authoriser: no caller could have one there."""
    assert Settings.from_environment({}).auth_required is True
    assert Settings.from_environment({"AUTH_REQUIRED": "false"}).auth_required is False
    assert Settings.from_environment({"AWS_SAM_LOCAL": "true", "AUTH_REQUIRED": "true"}).auth_required is False
    assert Settings.from_environment({"AWS_SAM_LOCAL": "false"}).auth_required is True
