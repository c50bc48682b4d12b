"""Any provider that speaks OpenAI's chat completions, streamed: OpenAI, Azure OpenAI, vLLM, Ollama, LiteLLM."""

from __future__ import annotations

import json
from dataclasses import dataclass

from message_handler.ai.failures import ProviderFailure
from message_handler.ai.http_provider import HttpProvider
from message_handler.ai.messages import system_of, turns_of
from message_handler.ai.port import Completion, Prompt
from message_handler.ai.reply import Reply, usage_of
from message_handler.domain.jobs import Usage

_PARAMETERS = ("model", "temperature", "top_p", "max_tokens", "max_completion_tokens")
_STOPS = {"stop": None, "length": "ai_truncated", "content_filter": "ai_refused"}


class ChatCompletions(HttpProvider):
    """One AI core whose URL is that of a chat completions route."""

    __slots__ = ()

    def _credentials(self, token: str) -> dict[str, str]:
        if self.core_ai["meta_data"].get("auth_header") == "api-key":
            return {"api-key": token}
        return {"Authorization": f"Bearer {token}"}

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

    def _new_answer(self) -> _Answer:
        return _Answer(Reply.limited(self.core_ai["meta_data"]))


@dataclass(slots=True)
class _Answer:
    """A stream of chunks, which ends with ``[DONE]``; `stopped` is the choice's `finish_reason`."""

    reply: Reply
    stopped: str | None = None
    usage: Usage | None = None
    done: bool = False

    def take(self, data: str) -> str:
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
                raise TypeError("finish_reason is not a text")
            self.stopped = reason or self.stopped
        return self.reply.add(text)

    def completion(self) -> Completion:
        if code := _STOPS.get(self.stopped or "", "ai_protocol"):
            raise ProviderFailure(code, status=200)
        return self.reply.whole(self.usage)
