"""The Python library's contract: its public names, arguments and results."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from pydantic import SecretStr

import message_handler
from message_handler import BackgroundJobManager, BotConfigService, MessageHandler, MessageLockManager, aio
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.simulated import SimulatedAI
from message_handler.domain.errors import Conflict, InvalidRequest, NotFound, OtherBot, Rejected, Unavailable
from message_handler.metrics import Meter
from message_handler.settings import Settings
from tests.unit.service import CANARY

pytestmark = pytest.mark.usefixtures("output")

FAST = Settings(simulated_ai_delay_ms="0")
HELLO = f"<USER>{CANARY} hello</USER><br>"
UNKNOWN_JOB = "3616f6cf-e93b-8007-a95b-25c9aa32bfd2"


@pytest.fixture
def handler() -> Iterator[MessageHandler]:
    with MessageHandler(FAST) as handler:
        yield handler


def ended(handler: MessageHandler, job_id: str) -> dict[str, Any]:
    return handler.jobs.wait_for(job_id, 30)


def until_processing(handler: MessageHandler, job_id: str) -> None:
    while handler.jobs.find(job_id).status != "processing":
        time.sleep(0.01)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event. The AI answers when it is set, and checks for new messages meanwhile."""
    gate, complete = threading.Event(), SimulatedAI.complete

    def wait_and_complete(self: SimulatedAI, prompt: Prompt, watch: Watch) -> Completion:
        while not gate.wait(0.02):
            watch("")
        return complete(self, prompt, watch)

    monkeypatch.setattr(SimulatedAI, "complete", wait_and_complete)
    yield gate
    gate.set()


class TestUsage:
    def test_the_usage_example_runs_as_written(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)

        async def example() -> None:
            from message_handler.aio import MessageHandler

            handler = MessageHandler()
            await handler.initialize()
            result = await handler.handle_message_request(
                conversation_id="conv_123",
                history="<USER>I need help</USER><br>",
                resources={"user_id": "user_456"},
            )
            if result["success"]:
                job_id = result.get("ai_job_id")
                if job_id:
                    status = await handler.get_job_status(job_id)
            health = await handler.get_handler_status()
            print(f"Status: {health['status']}")
            print(f"Redis: {health['components']['redis_connected']}")
            lock_info = await handler.get_conversation_lock_info("conv_123")
            released = await handler.release_conversation_lock("conv_123")
            cleaned = await handler.cleanup_old_locks(max_age_hours=6)
            cancelled = await handler.cancel_job(job_id)  # type: ignore[possibly-undefined, arg-type]

            assert status is not None  # type: ignore[possibly-undefined]
            assert status["job_id"] == job_id
            assert lock_info is not None
            assert lock_info["ai_job_id"] == job_id
            assert released is True
            assert cleaned == 0
            assert isinstance(cleaned, int)
            assert cancelled is True
            await handler.close()

        asyncio.run(example())
        assert capsys.readouterr().out == "Status: healthy\nRedis: False\n"

    def test_the_plain_one_answers_too(self) -> None:
        with MessageHandler(FAST) as handler:
            result = handler.handle_message_request("conv_123", HELLO, {"user_id": "user_456"})
            job = ended(handler, result["ai_job_id"])
            assert handler.get_job_status(result["ai_job_id"]) == job
        assert job["status"] == "completed"
        assert f"> {CANARY} hello" in job["reply"]["content"]

    def test_the_awaitable_one_is_a_context_manager_and_leaves_the_event_loop_free(self) -> None:
        async def run() -> list[str]:
            async with aio.MessageHandler(FAST) as handler:
                results = await asyncio.gather(
                    *(handler.handle_message_request(f"conv-{n}", HELLO, message_id=f"m{n}") for n in range(20))
                )
                return [result["ai_job_id"] for result in results]

        assert len(set(asyncio.run(run()))) == 20

    def test_both_have_the_same_names_and_arguments(self) -> None:
        for name in (
            "initialize",
            "handle_message_request",
            "get_job_status",
            "cancel_job",
            "get_conversation_lock_info",
            "release_conversation_lock",
            "cleanup_old_locks",
            "get_handler_status",
            "close",
        ):
            plain, awaitable = getattr(MessageHandler, name), getattr(aio.MessageHandler, name)
            assert inspect.iscoroutinefunction(awaitable)
            assert inspect.signature(plain) == inspect.signature(awaitable)
        assert inspect.signature(MessageHandler.__init__) == inspect.signature(aio.MessageHandler.__init__)

    def test_nothing_else_is_public(self) -> None:
        promised = {"MessageHandler", "MessageLockManager", "BackgroundJobManager", "BotConfigService"}
        assert set(message_handler.__all__) == promised
        with pytest.raises(AttributeError, match="nothing"):
            message_handler.nothing  # noqa: B018


class TestRequests:
    def test_messages_may_be_a_list(self, handler: MessageHandler) -> None:
        turns = [{"role": "user", "content": f"{CANARY} {word}", "message_id": word} for word in ("a", "b")]
        result = handler.handle_message_request("conv_123", messages=turns, message_id="b")
        assert result["consolidated_messages"] == 2

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({}, "history"),
            ({"history": HELLO, "messages": []}, "history"),
            ({"history": HELLO.encode()}, "history"),
            ({"history": 1}, "history"),
            ({"messages": (CANARY,)}, "messages"),
            ({"messages": [CANARY]}, "messages.0"),
            ({"history": HELLO, "resources": {"n": float("nan")}}, "resources"),
            ({"history": HELLO, "resources": {"n": float("inf")}}, "resources"),
            ({"history": HELLO, "resources": {"n": 10**5000}}, "resources"),
            ({"history": HELLO, "resources": {"n": {CANARY}}}, "resources"),
            ({"history": HELLO, "resources": {"n": object()}}, "resources"),
            ({"history": HELLO, "resources": {1: CANARY}}, "resources"),
            ({"history": HELLO, "resources": [CANARY]}, "resources"),
            ({"history": HELLO, "bot_id": CANARY + " "}, "bot_id"),
            ({"history": HELLO, "message_id": CANARY + " "}, "message_id"),
        ],
    )
    def test_what_cant_be_accepted_is_refused_by_name(
        self, handler: MessageHandler, arguments: dict[str, Any], field: str
    ) -> None:
        with pytest.raises(InvalidRequest) as refused:
            handler.handle_message_request("conv_123", **arguments)
        assert refused.value.field == field
        assert CANARY not in str(refused.value)
        assert handler.get_conversation_lock_info("conv_123") is None

    def test_resources_that_hold_themselves_are_refused(self, handler: MessageHandler) -> None:
        resources: dict[str, Any] = {}
        resources["self"] = [resources]
        with pytest.raises(InvalidRequest):
            handler.handle_message_request("conv_123", HELLO, resources)

    @pytest.mark.parametrize("conversation_id", ["", "a b", "a/b", "c" * 256, "a\n", None, 1])
    def test_every_call_refuses_what_can_be_no_conversation(
        self, handler: MessageHandler, conversation_id: Any
    ) -> None:
        for call in (
            lambda: handler.handle_message_request(conversation_id, HELLO),
            lambda: handler.get_conversation_lock_info(conversation_id),
            lambda: handler.release_conversation_lock(conversation_id),
            lambda: handler.locks.check_and_acquire_lock(conversation_id, [CANARY]),
            lambda: handler.jobs.create_ai_processing_job(conversation_id, [CANARY]),
        ):
            with pytest.raises(InvalidRequest) as refused:
                call()
            assert refused.value.field == "conversation_id"

    def test_an_unknown_bot_is_not_found(self, handler: MessageHandler) -> None:
        with pytest.raises(NotFound):
            handler.handle_message_request("conv_123", HELLO, bot_id="nobody")

    @pytest.mark.parametrize("job_id", [UNKNOWN_JOB, "", "none", None, 7])
    def test_an_unknown_job_is_none_and_cant_be_cancelled(self, handler: MessageHandler, job_id: Any) -> None:
        assert handler.get_job_status(job_id) is None
        assert handler.cancel_job(job_id) is False

    @pytest.mark.parametrize("hours", [-1, float("nan"), float("inf"), "6", None, True, 10**400])
    def test_a_clean_up_of_no_sensible_age_is_refused(self, handler: MessageHandler, hours: Any) -> None:
        with pytest.raises(InvalidRequest) as refused:
            handler.cleanup_old_locks(hours)
        assert refused.value.field == "max_age_hours"

    def test_platforms_are_apart(self) -> None:
        with MessageHandler(FAST, platform_id="one") as one:
            job_id = one.handle_message_request("conv_123", HELLO)["ai_job_id"]
            parts = one._parts
            jobs = BackgroundJobManager(parts.tiers, parts.archive, parts.queue, parts.intake, platform_id="two")
            locks = MessageLockManager(parts.tiers, platform_id="two")
            assert one.get_job_status(job_id) is not None
            assert jobs.get_job_status(job_id) is None
            assert jobs.cancel_job(job_id) is False
            assert locks.get_lock_info("conv_123") is None


class TestOneAnswer:
    def test_a_burst_of_50_threads_gets_one_job_and_one_reply(
        self, handler: MessageHandler, gate: threading.Event
    ) -> None:
        words = [f"{CANARY}-{number:02}" for number in range(50)]
        together = threading.Barrier(50)

        def post(word: str) -> dict[str, Any]:
            together.wait(30)
            return handler.handle_message_request("conv_123", f"<USER>{word}</USER><br>", message_id=word)

        with ThreadPoolExecutor(50) as pool:
            results = list(pool.map(post, words))
        gate.set()
        assert sorted(result["action"] for result in results) == ["lock_acquired"] + ["lock_exists"] * 49
        assert [result for result in results if "lock_id" in result] == [
            result for result in results if result["action"] == "lock_acquired"
        ]
        (job_id,) = {result["ai_job_id"] for result in results}
        job = ended(handler, job_id)
        assert job["consolidated_messages"] == 50
        quoted = [line.removeprefix("> ") for line in job["reply"]["content"].splitlines()[1:]]
        assert sorted(quoted) == words

    def test_a_repeated_request_starts_nothing(self, handler: MessageHandler) -> None:
        first = handler.handle_message_request("conv_123", HELLO, message_id="m1")
        ended(handler, first["ai_job_id"])
        again = handler.handle_message_request("conv_123", HELLO, message_id="m1")
        assert (again["duplicate"], again["ai_job_id"]) == (True, first["ai_job_id"])
        assert handler.get_conversation_lock_info("conv_123") is None

    def test_what_is_rejected_is_raised(self, handler: MessageHandler, gate: threading.Event) -> None:
        job_id = handler.handle_message_request("conv_123", HELLO)["ai_job_id"]
        with pytest.raises(Rejected) as rejected:
            handler.handle_message_request("conv_123", f"<USER>{CANARY} more</USER>", double_texting="reject")
        assert rejected.value.job_id == job_id
        gate.set()
        assert ended(handler, job_id)["consolidated_messages"] == 1

    def test_what_interrupts_takes_over(self, handler: MessageHandler, gate: threading.Event) -> None:
        first = handler.handle_message_request("conv_123", HELLO)["ai_job_id"]
        until_processing(handler, first)
        more = f"<USER>{CANARY} more</USER>"
        accepted = handler.handle_message_request("conv_123", more, double_texting="interrupt", debounce_ms=0)
        gate.set()
        assert (accepted["action"], ended(handler, accepted["ai_job_id"])["consolidated_messages"]) == (
            "interrupted",
            2,
        )
        assert ended(handler, first)["superseded_by"] == accepted["ai_job_id"]

    def test_a_job_that_would_be_rejected_is_no_job(
        self, handler: MessageHandler, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handler.jobs.create_ai_processing_job("conv_123", [CANARY])
        config = handler.bots.get_bot_config("conv_123") | {"meta_data": {"double_texting": "reject"}}
        monkeypatch.setattr(handler.bots, "get_bot_config", lambda *_, **__: config)
        with pytest.raises(Conflict):
            handler.jobs.create_ai_processing_job("conv_123", [f"{CANARY} more"])

    def test_a_cancelled_job_stays_cancelled(self, handler: MessageHandler, gate: threading.Event) -> None:
        job_id = handler.handle_message_request("conv_123", HELLO)["ai_job_id"]
        assert handler.cancel_job(job_id) is True
        gate.set()
        assert handler.cancel_job(job_id) is False
        job = ended(handler, job_id)
        assert (job["status"], job["reply"]) == ("cancelled", None)
        assert handler.get_conversation_lock_info("conv_123") is None

    def test_what_is_said_after_a_cancel_is_answered(self, handler: MessageHandler, gate: threading.Event) -> None:
        cancelled = handler.handle_message_request("conv_123", HELLO)["ai_job_id"]
        handler.cancel_job(cancelled)
        gate.set()
        job_id = handler.handle_message_request("conv_123", f"<USER>{CANARY} more</USER>")["ai_job_id"]
        assert job_id != cancelled
        assert ended(handler, job_id)["status"] == "completed"


class TestLife:
    def test_close_ends_the_threads_and_accepts_nothing_more(self) -> None:
        def workers() -> set[threading.Thread]:
            """The threads of handlers. Other threads of this process may change meanwhile."""
            return {thread for thread in threading.enumerate() if thread.name == "message-handler-worker"}

        before = workers()
        handler = MessageHandler(FAST)
        handler.initialize()
        job_id = handler.handle_message_request("conv_123", HELLO)["ai_job_id"]
        ended(handler, job_id)
        assert workers() > before
        handler.close()
        assert workers() <= before
        with pytest.raises(Unavailable):
            handler.handle_message_request("conv_124", HELLO)
        assert handler.get_conversation_lock_info("conv_124") is None
        assert handler.get_job_status(job_id) is not None
        handler.close()

    def test_close_waits_for_what_is_being_answered(self, gate: threading.Event) -> None:
        handler = MessageHandler(FAST)
        job_id = handler.handle_message_request("conv_123", HELLO)["ai_job_id"]
        until_processing(handler, job_id)
        gate.set()
        handler.close()
        assert handler.jobs.find(job_id).status == "completed"

    def test_nothing_configured_is_healthy(self, handler: MessageHandler) -> None:
        assert handler.get_handler_status() == {
            "status": "healthy",
            "components": {
                "redis_connected": False,
                "database_connected": False,
                "tier": "memory",
                "lock_manager": "healthy",
                "job_manager": "healthy",
                "queue": "threads",
            },
        }

    def test_a_closed_queue_is_not_reported_as_working(self, handler: MessageHandler) -> None:
        handler.close()
        assert handler.get_handler_status()["status"] == "unhealthy"

    def test_an_error_in_the_block_passes_through_and_closes(self) -> None:
        with pytest.raises(LookupError), MessageHandler(FAST) as handler:
            raise LookupError
        with pytest.raises(Unavailable):
            handler.handle_message_request("conv_123", HELLO)

    def test_with_no_store_that_answers_it_works_on_in_memory_and_says_so(self) -> None:
        """No server listens on port 1."""
        settings = Settings(
            redis_url=SecretStr(f"redis://:{CANARY}@127.0.0.1:1"),
            database_url=SecretStr(f"postgresql://{CANARY}@127.0.0.1:1/x"),
            simulated_ai_delay_ms="0",
        )
        with MessageHandler(settings) as handler:
            accepted = handler.handle_message_request("conv_123", HELLO)
            assert accepted["degraded"] is True
            status = handler.get_handler_status()
            assert status["status"] == "degraded"
            assert status["components"]["tier"] == "memory"
            assert not status["components"]["redis_connected"]
            assert not status["components"]["database_connected"]
            assert ended(handler, accepted["ai_job_id"])["status"] == "completed"

    @pytest.mark.parametrize("url", [None, "postgresql://127.0.0.1:1/x"], ids=["no configuration", "an outage"])
    def test_where_no_simulated_ai_may_answer_the_patient_gets_the_failure_notice(
        self, url: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counted: list[str] = []
        monkeypatch.setattr(Meter, "add", lambda _, name, *__: counted.append(name))
        settings = Settings(database_url=SecretStr(url) if url else None, simulated_ai=False)
        with MessageHandler(settings) as handler:
            job = ended(handler, handler.handle_message_request("conv_123", HELLO)["ai_job_id"])
            assert (job["status"], job["reply"], job["error"]["code"]) == ("failed", None, "ai_not_configured")
            assert job["error"]["notice"] == "Hiện chưa thể trả lời tin nhắn của bạn. Vui lòng thử lại sau."
            assert counted.count("AINotConfigured") == 1

    def test_redis_alone_is_degraded(self) -> None:
        with MessageHandler(Settings(redis_url=SecretStr("redis://127.0.0.1:1"))) as handler:
            assert handler.get_handler_status()["status"] == "degraded"


class TestMessageLockManager:
    def test_one_client_acquires_the_lock_and_the_others_join(self, handler: MessageHandler) -> None:
        locks = handler.locks
        assert isinstance(locks, MessageLockManager)
        first = locks.check_and_acquire_lock("conv_123", [f"{CANARY} one"])
        assert set(first) == {"acquired", "lock_id", "ai_job_id", "duplicate", "consolidated_messages"}
        assert (first["acquired"], first["duplicate"], first["consolidated_messages"]) == (True, False, 1)
        second = locks.check_and_acquire_lock("conv_123", [f"{CANARY} two", f"{CANARY} three"])
        assert (second["acquired"], second["lock_id"]) == (False, None)
        assert (second["ai_job_id"], second["consolidated_messages"]) == (first["ai_job_id"], 3)
        again = locks.check_and_acquire_lock("conv_123", [f"{CANARY} one"])
        assert again["duplicate"] is True

    def test_only_the_owner_releases(self, handler: MessageHandler) -> None:
        locks = handler.locks
        lock_id = locks.check_and_acquire_lock("conv_123", [CANARY])["lock_id"]
        assert locks.release_lock("conv_123", "somebody else's") is False
        # The lock_id of a client that didn't acquire it, and values that no lock has.
        for no_lock in (None, 7, b"lock", "\ud800"):
            try:
                assert locks.release_lock("conv_123", cast(Any, no_lock)) is False
            except (AttributeError, TypeError, ValueError):
                pytest.fail(f"in a `finally` it would hide what was raised before: {no_lock!r}")
        assert locks.release_lock("conv_124", lock_id) is False
        assert locks.release_lock("conv_123", lock_id) is True
        assert locks.release_lock("conv_123", lock_id) is False
        assert locks.get_lock_info("conv_123") is None

    def test_a_freed_lock_has_no_owner(self, handler: MessageHandler) -> None:
        locks = handler.locks
        acquired = locks.check_and_acquire_lock("conv_123", [CANARY])
        handler._parts.tiers.tiers[0].force_release(handler.jobs.find(acquired["ai_job_id"]).key)
        for lock_id in (acquired["lock_id"], ""):
            assert locks.release_lock("conv_123", lock_id) is False
            assert locks.update_lock_with_ai_job("conv_123", lock_id, acquired["ai_job_id"]) is False
        assert handler.jobs.find(acquired["ai_job_id"]).status == "pending"

    def test_a_lock_has_its_job_from_the_first_moment(self, handler: MessageHandler) -> None:
        locks = handler.locks
        acquired = locks.check_and_acquire_lock("conv_123", [CANARY])
        assert locks.update_lock_with_ai_job("conv_123", acquired["lock_id"], acquired["ai_job_id"]) is True
        assert locks.update_lock_with_ai_job("conv_123", acquired["lock_id"], UNKNOWN_JOB) is False
        assert locks.update_lock_with_ai_job("conv_123", "somebody else's", acquired["ai_job_id"]) is False

    def test_a_lock_is_shown_without_text_and_without_its_id(self, handler: MessageHandler) -> None:
        acquired = handler.locks.check_and_acquire_lock("conv_123", [CANARY])
        info = handler.locks.get_lock_info("conv_123")
        assert info is not None
        assert set(info) == {
            "conversation_id",
            "ai_job_id",
            "acquired_at",
            "heartbeat_at",
            "expires_at",
            "consolidated_messages",
            "tier",
        }
        assert info == handler.get_conversation_lock_info("conv_123")
        assert acquired["lock_id"] not in info.values()
        assert CANARY not in str(info)

    @pytest.mark.parametrize("messages", [[], [""], ["  "], ["\u200b\ufe0f"], CANARY, [1], [None]])
    def test_what_is_no_message_takes_no_lock_and_starts_no_job(self, handler: MessageHandler, messages: Any) -> None:
        for call in (handler.locks.check_and_acquire_lock, handler.jobs.create_ai_processing_job):
            with pytest.raises(InvalidRequest) as refused:
                call("conv_123", messages)
            assert str(refused.value.field).startswith("messages")
            assert CANARY not in str(refused.value)
        assert handler.locks.get_lock_info("conv_123") is None

    def test_a_conversation_of_another_bot_is_not_locked(self, handler: MessageHandler) -> None:
        handler.locks.check_and_acquire_lock("conv_123", [CANARY], bot_id="nurse")
        with pytest.raises(OtherBot):
            handler.locks.check_and_acquire_lock("conv_123", [CANARY], bot_id="doctor")


class TestBackgroundJobManager:
    def test_a_job_is_created_and_answered(self, handler: MessageHandler) -> None:
        jobs = handler.jobs
        assert isinstance(jobs, BackgroundJobManager)
        job_id = jobs.create_ai_processing_job("conv_123", [f"{CANARY} one", f"{CANARY} two"])
        job = ended(handler, job_id)
        assert job["job_id"] == job_id
        assert (job["status"], job["consolidated_messages"]) == ("completed", 2)
        assert job["reply"]["content"].endswith(f"\n> {CANARY} one\n> {CANARY} two")

    def test_messages_of_a_conversation_under_way_join_its_job(
        self, handler: MessageHandler, gate: threading.Event
    ) -> None:
        jobs = handler.jobs
        first = jobs.create_ai_processing_job("conv_123", [f"{CANARY} one"])
        assert jobs.create_ai_processing_job("conv_123", [f"{CANARY} two"]) == first
        gate.set()
        assert ended(handler, first)["consolidated_messages"] == 2

    def test_an_unknown_bot_creates_no_job(self, handler: MessageHandler) -> None:
        with pytest.raises(NotFound):
            handler.jobs.create_ai_processing_job("conv_123", [CANARY], bot_id="nobody")
        assert handler.get_conversation_lock_info("conv_123") is None

    def test_a_job_that_failed_says_why(self, handler: MessageHandler) -> None:
        job = ended(handler, handler.jobs.create_ai_processing_job("conv_123", [f"{CANARY} [fail]"]))
        assert (job["status"], job["reply"]) == ("failed", None)
        assert job["error"]["code"] == "ai_failed"
        assert CANARY not in str(job["error"])

    def test_a_failed_jobs_words_are_seen_by_the_next_answer(
        self, handler: MessageHandler, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended(handler, handler.jobs.create_ai_processing_job("conv_123", [f"{CANARY} [fail]"]))
        seen: list[Prompt] = []

        def complete(self: SimulatedAI, prompt: Prompt, watch: Watch) -> Completion:
            seen.append(prompt)
            return Completion("seen")

        monkeypatch.setattr(SimulatedAI, "complete", complete)
        ended(handler, handler.jobs.create_ai_processing_job("conv_123", [f"{CANARY} again"]))
        assert [turn.content for turn in seen[0].context] == [f"{CANARY} [fail]"]
        assert [message.content for message in seen[0].messages] == [f"{CANARY} again"]

    def test_cancelling_twice_is_refused(self, handler: MessageHandler, gate: threading.Event) -> None:
        job_id = handler.jobs.create_ai_processing_job("conv_123", [CANARY])
        assert handler.jobs.cancel(job_id).status == "cancelled"
        with pytest.raises(Conflict):
            handler.jobs.cancel(job_id)

    def test_a_cancel_that_is_settled_stands_though_the_queue_is_away(
        self, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with MessageHandler(Settings(simulated_ai_delay_ms="0", max_restarts=0)) as handler:
            running = handler.jobs.create_ai_processing_job("conv_123", [f"{CANARY} one"])
            until_processing(handler, running)
            waiting = handler.jobs.create_ai_processing_job("conv_123", [f"{CANARY} two"])
            assert waiting != running
            with monkeypatch.context() as refusing:
                refusing.setattr(handler._parts.queue, "send", refuse)
                assert handler.cancel_job(running) is True
            assert handler.jobs.find(waiting).status == "pending"
            gate.set()

    def test_the_worker_status_names_the_queue(self, handler: MessageHandler) -> None:
        assert handler.jobs.get_worker_status() == {"queue": "threads"}


def refuse(*_: Any, **__: Any) -> None:
    raise Unavailable("the queue")


class TestBotConfigService:
    def test_the_default_bot_answers_where_nothing_is_configured(self, handler: MessageHandler) -> None:
        assert isinstance(handler.bots, BotConfigService)
        config = handler.bots.get_bot_config("conv_123")
        assert config == handler.bots._get_default_bot_config()
        assert (config["name"], config["language"]) == ("Healthcare Assistant", "vi")
        assert config["core_ai"]["api_endpoint"] == "simulated://"


class TestImports:
    """A cold start imports only what it uses. The tests start new processes, because this one has imported all."""

    @staticmethod
    def imported(code: str, *names: str) -> set[str]:
        program = f"{code}\nimport sys\nprint(' '.join(n for n in {names!r} if n in sys.modules))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        return set(done.stdout.split())

    def test_the_package_alone_imports_no_library(self) -> None:
        found = self.imported("import message_handler", "boto3", "botocore", "redis", "pg8000", "pydantic")
        assert found == set()

    def test_one_process_in_memory_imports_no_client(self) -> None:
        code = (
            "from message_handler.wiring import build\n"
            "from message_handler.settings import Settings\n"
            "build(Settings()).close()"
        )
        assert self.imported(code, "boto3", "botocore", "redis", "pg8000", "aws_lambda_powertools") == set()
