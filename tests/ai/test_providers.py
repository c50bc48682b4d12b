"""The registry of AI providers: a scheme has one provider, and adding a provider takes its file and its entry."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from local.stores import Server as Store
from message_handler import MessageHandler
from message_handler.ai import providers
from message_handler.ai.answering import Ask
from message_handler.ai.events import Events
from message_handler.ai.failures import ProviderFailure
from message_handler.ai.http_provider import HttpProvider
from message_handler.ai.port import Completion, Prompt
from message_handler.ai.providers import PROVIDERS, Provider, Tools, provider_of
from message_handler.ai.reply import Reply
from message_handler.configuration.records import parse_record
from message_handler.domain.errors import InvalidRequest
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from tests.ai.conftest import TOKEN
from tests.ai.server import Exchange, Server
from tests.servers import emptied
from tests.unit.service import CANARY

SCHEMES = [scheme for provider in PROVIDERS for scheme in provider.schemes]
#: Each provider accepts such an endpoint.
ENDPOINTS = {scheme: f"{scheme}://x" for scheme in SCHEMES}
PACKAGE = Path(providers.__file__).parents[1]


def provider_files() -> set[str]:
    """The modules that the registry imports when it builds a core."""
    classes = [node for node in ast.parse(Path(providers.__file__).read_text()).body if isinstance(node, ast.ClassDef)]
    builds = [
        node for cls in classes for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "build"
    ]
    found = {node.module for build in builds for node in ast.walk(build) if isinstance(node, ast.ImportFrom)}
    return {str(module) for module in found} - {"message_handler.ai.failures"}


def record(endpoint: str, **fields: Any) -> dict[str, Any]:
    body = {"name": "AI", "api_endpoint": endpoint, "meta_data": {"model": "m-1"}, **fields}
    return parse_record("core_ai", body, {"core_ai_id": "trial"})


def refusal(endpoint: str, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        record(endpoint, **fields)
    assert CANARY not in str(refused.value)
    return refused.value


class TestRules:
    def test_each_scheme_has_one_provider(self) -> None:
        assert len(SCHEMES) == len(set(SCHEMES))
        assert all(provider.schemes for provider in PROVIDERS)

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_each_scheme_can_be_configured(self, scheme: str) -> None:
        core_ai = record(ENDPOINTS[scheme])
        assert core_ai["api_endpoint"] == ENDPOINTS[scheme]
        assert scheme in provider_of(core_ai).schemes

    def test_an_unknown_scheme_is_refused_with_the_known_ones(self) -> None:
        refused = refusal(f"morse://{CANARY}")
        assert (refused.field, refused.detail) == (
            "api_endpoint",
            "must start with https://, bedrock:// or simulated://",
        )

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_a_scheme_is_written_in_small_letters_and_read_in_any(self, scheme: str) -> None:
        shouted = ENDPOINTS[scheme].replace(scheme, scheme.upper(), 1)
        assert refusal(shouted).field == "api_endpoint"
        assert scheme in provider_of({"api_endpoint": shouted}).schemes

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_a_token_is_kept_only_by_providers_that_send_one(self, scheme: str) -> None:
        if provider_of(record(ENDPOINTS[scheme])).takes_token:
            assert record(ENDPOINTS[scheme], auth_token=CANARY)["auth_required"] is True
            assert refusal(ENDPOINTS[scheme], auth_required=True).field == "auth_token"
        else:
            assert refusal(ENDPOINTS[scheme], auth_token=CANARY).field == "auth_token"
            assert record(ENDPOINTS[scheme], auth_required=True)["auth_token"] is None

    def test_providers_say_whether_they_take_a_token_and_are_simulated(self) -> None:
        found = [provider_of({"api_endpoint": f"{scheme}://"}) for scheme in ("https", "http", "bedrock", "simulated")]
        assert [provider.takes_token for provider in found] == [True, True, False, False]
        assert [provider.simulated for provider in found] == [False, False, False, True]

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_a_provider_that_takes_a_token_says_where_it_is_sent(self, scheme: str) -> None:
        core_ai = record(ENDPOINTS[scheme])
        provider = provider_of(core_ai)
        assert (provider.url(core_ai) is not None) or not provider.takes_token


class TestStarts:
    @pytest.mark.parametrize(
        ("endpoint", "loaded"),
        [
            ("https://ai.example/v1", "message_handler.ai.chat_completions"),
            ("bedrock://model", "message_handler.ai.bedrock"),
            ("simulated://", "message_handler.ai.simulated"),
            ("morse://model", None),
        ],
    )
    def test_only_the_provider_that_is_used_is_loaded(self, endpoint: str, loaded: str | None) -> None:
        program = f"""
import sys
from message_handler.ai.providers import Tools, ai_of
from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
core_ai = {{"core_ai_id": "trial", "api_endpoint": {endpoint!r}, "timeout_seconds": 10, "meta_data": {{}}}}
ai_of(core_ai, Tools(Settings(), None, None))
print(*sys.modules)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
        modules = set(done.stdout.split())
        assert modules & provider_files() == ({loaded} if loaded else set())
        assert ("botocore" in modules) is (loaded == "message_handler.ai.bedrock")

    def test_only_the_registry_imports_a_providers_file(self) -> None:
        assert len(provider_files()) >= 3
        importing = [
            file.relative_to(PACKAGE).as_posix()
            for file in PACKAGE.rglob("*.py")
            if any(re.search(rf"\b{re.escape(module)}\b", file.read_text()) for module in provider_files())
        ]
        assert importing == ["ai/providers.py"]


# One more provider, added as CONTRIBUTING.md says.


class Parrot(Provider):
    """Speaks a dialect of its own over HTTP. Its endpoint names the port: ``parrot://8080``."""

    schemes = ("parrot",)
    takes_token = True

    def check(self, core_ai: dict[str, Any]) -> None:
        if not core_ai["api_endpoint"].removeprefix("parrot://").isdigit():
            raise InvalidRequest("must be parrot:// and a port", field="api_endpoint")

    def url(self, core_ai: dict[str, Any]) -> str:
        return f"http://127.0.0.1:{core_ai['api_endpoint'].removeprefix('parrot://')}/squawk"

    def build(self, core_ai: dict[str, Any], tools: Tools) -> Ask:
        return ParrotProvider(core_ai, self.url(core_ai), tools.egress, tools.secrets).ask


class ParrotProvider(HttpProvider):
    def _credentials(self, token: str) -> dict[str, str]:
        return {"X-Cracker": token}

    def _body(self, prompt: Prompt) -> bytes:
        return json.dumps([message.content for message in prompt.messages]).encode()

    def _new_answer(self) -> Squawk:
        return Squawk(Reply(self.core_ai["meta_data"]))


@dataclass
class Squawk:
    reply: Reply
    done: bool = False
    events: Events = field(default_factory=Events)

    def feed(self, piece: bytes) -> None:
        for event in self.events.feed(piece):
            if event.data == "over":
                self.done = True
            else:
                self.reply.add(event.data)

    def whole(self) -> Completion | None:
        return self.reply.whole(None) if self.done else None

    def close(self) -> Completion:
        raise ProviderFailure("ai_unreachable", again=True)


def squawks(exchange: Exchange) -> None:
    exchange.start()
    exchange.event("Pretty ")
    exchange.event("Polly.")
    exchange.event("over")
    exchange.end()


class TestOneMore:
    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(providers, "PROVIDERS", (*PROVIDERS, Parrot()))

    @pytest.fixture
    def handler(self, postgres: Store) -> Iterator[MessageHandler]:
        settings = Settings(
            database_url=SecretStr(postgres.url),
            database_timeout=30,
            egress_allow_loopback=True,
            allow_literal_secrets=True,
        )
        with MessageHandler(settings) as handler:
            yield handler
        with closing(connector(settings)()) as connection:
            connection.execute_simple(emptied("conversations", "jobs", "settled", "bots", "core_ai", "audit"))

    def test_its_own_rules_hold(self) -> None:
        record("parrot://1")
        assert refusal(f"parrot://{CANARY}").detail == "must be parrot:// and a port"
        assert record("parrot://1", auth_token=CANARY)["auth_required"] is True
        assert refusal("cat://").detail == "must start with https://, bedrock://, simulated:// or parrot://"

    def test_it_is_configured_and_answers(self, handler: MessageHandler, server: Server) -> None:
        server.scripts = [squawks]
        configuration = handler._parts.configuration
        core_ai = {"name": "Parrot", "api_endpoint": f"parrot://{server.server_port}", "auth_token": TOKEN}
        configuration.put("core_ai", "default", "parrot", core_ai, actor="user:1")
        configuration.put("bots", "default", "polly", {"name": "Polly", "core_ai_id": "parrot"}, actor="user:1")
        result = handler.handle_message_request("parrots", f"<USER>{CANARY}</USER><br>", bot_id="polly")
        job = handler.jobs.wait_for(result["ai_job_id"], 60)
        assert (job["status"], job["reply"]["content"]) == ("completed", "Pretty Polly.")
        assert (job["provenance"]["core_ai_id"], job["provenance"]["simulated"]) == ("parrot", False)
        (call,) = server.calls
        assert (call.path, call.headers["x-cracker"], json.loads(call.raw)) == ("/squawk", TOKEN, [CANARY])
