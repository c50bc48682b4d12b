"""Any provider that speaks OpenAI's chat completions, streamed: OpenAI, Azure OpenAI, vLLM, Ollama, LiteLLM."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from message_handler.ai.events import Events
from message_handler.ai.failures import ProviderFailure, of_status
from message_handler.ai.messages import system_of, turns_of
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.reply import Reply, usage_of
from message_handler.ai.watched import Limits, Line, attend
from message_handler.domain.errors import EgressFailed, EgressRefused, SecretRefused, Unavailable
from message_handler.domain.jobs import Usage
from message_handler.drivers.egress import Egress, is_at
from message_handler.drivers.secrets import Secrets

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

_PARAMETERS = ("model", "temperature", "top_p", "max_tokens", "max_completion_tokens")
_UNAUTHORIZED = 401
_STOPS = {"stop": None, "length": "ai_truncated", "content_filter": "ai_refused"}


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """One `core_ai` record whose `api_endpoint` is the URL of a chat completions route."""

    core_ai: dict[str, Any]
    egress: Egress
    secrets: Secrets

    def ask(self, prompt: Prompt, watch: Watch, limits: Limits) -> Completion:
        """One try. Raises ProviderFailure."""
        return attend(lambda line: self._answer(prompt, line, limits), watch, limits)

    def _answer(self, prompt: Prompt, line: Line, limits: Limits) -> Generator[str, None, Completion]:
        token = self._token(prompt.platform_id)
        try:
            return (yield from self._exchange(prompt, token, line, limits))
        except ProviderFailure as failure:
            if failure.status != _UNAUTHORIZED or token is None:
                raise
            # It may have been rotated since it was read: then the provider has forgotten the old one first.
            renewed = self.secrets.renewed(self.core_ai["auth_token"], prompt.platform_id, token)
            if renewed is None:
                raise
        line.release()
        return (yield from self._exchange(prompt, renewed, line, limits))

    def _exchange(
        self, prompt: Prompt, token: str | None, line: Line, limits: Limits
    ) -> Generator[str, None, Completion]:
        try:
            with self.egress.request(
                "POST",
                self.core_ai["api_endpoint"],
                headers=self._headers(prompt, token),
                body=self._body(prompt),
                connect_timeout=limits.connect,
                read_timeout=limits.gap + 1,  # who attends is first to say that it was too long
                connected=line.hold,
            ) as response:
                yield ""
                return (yield from self._read(response))
        except EgressRefused:
            raise ProviderFailure("ai_address_refused") from None
        except EgressFailed:
            raise ProviderFailure("ai_unreachable", again=True) from None

    def _headers(self, prompt: Prompt, token: str | None) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Idempotency-Key": prompt.request_id,
            "X-Correlation-ID": prompt.correlation_id,
        }
        if token and self.core_ai["meta_data"].get("auth_header") == "api-key":
            headers["api-key"] = token
        elif token:
            headers["Authorization"] = f"Bearer {token}"
        return {name: value for name, value in headers.items() if value}

    def _token(self, platform_id: str) -> str | None:
        """The tenant's token, for the host that it was stored for: the endpoint may have been changed since."""
        stored = self.core_ai["auth_token"]
        if not stored:
            if self.core_ai["auth_required"]:
                raise ProviderFailure("ai_credentials_missing")
            return None
        if not is_at(self.core_ai["api_endpoint"], self.core_ai.get("auth_host")):
            raise ProviderFailure("ai_credentials_missing")
        try:
            # Who keeps a token in a file keeps a line end with it.
            token = self.secrets.reveal(stored, platform_id).strip()
        except (SecretRefused, Unavailable):
            raise ProviderFailure("ai_credentials_missing") from None
        if not (token and token.isascii() and token.isprintable()):
            raise ProviderFailure("ai_credentials_missing")  # no header holds it, or it is empty
        return token

    def _body(self, prompt: Prompt) -> bytes:
        meta_data = self.core_ai["meta_data"]
        messages = [("system", system_of(prompt, meta_data)), *turns_of(prompt)]
        body = {name: meta_data[name] for name in _PARAMETERS if meta_data.get(name) is not None}
        body |= {
            "messages": [{"role": role, "content": content} for role, content in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(body).encode()

    def _read(self, response: HTTPResponse) -> Generator[str, None, Completion]:
        if response.status != 200:
            raise of_status(response.status, response.headers.get("Retry-After"))
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream" or response.headers.get("Content-Encoding", "identity") != "identity":
            raise ProviderFailure("ai_protocol", status=200)
        answer = _Answer(Reply.limited(self.core_ai["meta_data"]))
        events = Events()
        while not answer.done and (piece := response.read1(65536)):
            answer.reply.count(len(piece))
            try:
                yield "".join(map(answer.take, events.feed(piece)))
            except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
                # Its text would quote the answer.
                raise ProviderFailure("ai_protocol", again=True, status=200) from None
        # Without a length, an end can't be told from a cut.
        delimited = response.chunked or "Content-Length" in response.headers
        if answer.stopped is None or not (answer.done or delimited):
            raise ProviderFailure("ai_unreachable", again=True, status=200)
        if code := _STOPS.get(answer.stopped, "ai_protocol"):
            raise ProviderFailure(code, status=200)
        return answer.reply.whole(answer.usage)


@dataclass(slots=True)
class _Answer:
    """What was read of a stream so far. `done` with the stream's own mark of its end."""

    reply: Reply
    stopped: str | None = None
    usage: Usage | None = None
    done: bool = False

    def take(self, data: str) -> str:
        """The text that one event adds. Raises ProviderFailure.

        What is no chunk raises whatever its shape leads to.
        """
        if self.done:
            return ""
        if data.strip() == "[DONE]":
            self.done = True
            return ""
        chunk = json.loads(data)
        if chunk.get("error"):
            raise ProviderFailure("ai_unavailable", again=True, status=200)
        if usage := chunk.get("usage"):
            self.usage = usage_of(usage.get("prompt_tokens"), usage.get("completion_tokens"))
        text = ""
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue
            delta = choice.get("delta") or {}
            if delta.get("refusal"):
                raise ProviderFailure("ai_refused", status=200)
            text += delta.get("content") or ""
            reason = choice.get("finish_reason")
            if reason is not None and not isinstance(reason, str):
                raise TypeError("finish_reason is no text")
            self.stopped = reason or self.stopped
        return self.reply.add(text)
