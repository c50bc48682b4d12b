"""The functions work on real servers with the rights and settings of the template's stores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis
from pydantic import SecretStr

from local.stores import Server
from message_handler import MessageHandler
from message_handler.settings import Settings
from tests.template.conftest import Expanded

PASSWORD = "in place of IAM's token"


@pytest.fixture
def restricted(expanded: Expanded, valkey: Server) -> Iterator[str]:
    """The URL of a Valkey for a user with the template's access string."""
    (user,) = expanded.resolved("AWS::ElastiCache::User").values()
    admin = redis.Redis.from_url(valkey.url)
    admin.execute_command("ACL", "SETUSER", "restricted", "reset", f">{PASSWORD}", *user["AccessString"].split())
    address = urlsplit(valkey.url)
    yield f"redis://restricted:{PASSWORD.replace(' ', '%20')}@{address.hostname}:{address.port}/0"
    admin.execute_command("ACL", "DELUSER", "restricted")
    for key in admin.scan_iter("mh:*"):
        admin.delete(key)
    admin.close()


def test_the_user_of_redis_may_do_all_that_the_service_does(restricted: str, caplog: pytest.LogCaptureFixture) -> None:
    """A request with a forbidden command would go to the next tier."""
    settings = Settings(redis_url=SecretStr(restricted), redis_timeout_ms=2000, simulated_ai_delay_ms="300")
    with MessageHandler(settings) as handler:
        first = handler.handle_message_request("c", "<USER>Hello</USER><br>")
        second = handler.handle_message_request("c", "<USER>Hello</USER><br><USER>again</USER><br>")
        assert first["ai_job_id"] == second["ai_job_id"]
        assert handler.get_conversation_lock_info("c") is not None
        deadline = time.monotonic() + 20
        while (job := handler.get_job_status(first["ai_job_id"]))["status"] != "completed":
            assert time.monotonic() < deadline, job["status"]
            time.sleep(0.05)
        handler.cleanup_old_locks()
        status = handler.get_handler_status()
        assert (status["components"]["redis_connected"], status["components"]["tier"]) == (True, "redis")
    assert not [
        record for record in caplog.records if "redis" in record.getMessage().lower() + str(vars(record)).lower()
    ]


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "KEYS *",
        "CONFIG GET *",
        "ACL LIST",
        "MONITOR",
        "SHUTDOWN",
        "GET other",
        "SET other 1",
    ],
)
def test_the_user_of_redis_may_do_nothing_else(restricted: str, command: str) -> None:
    client = redis.Redis.from_url(restricted)
    with pytest.raises(redis.exceptions.NoPermissionError):
        client.execute_command(*command.split())
    client.close()
