"""Any provider that speaks OpenAI's chat completions, streamed: OpenAI, Azure OpenAI, vLLM, Ollama, LiteLLM."""

from __future__ import annotations

import json

from message_handler.ai.chat_answer import ChatAnswer
from message_handler.ai.http_provider import HttpProvider
from message_handler.ai.messages import system_of, turns_of
from message_handler.ai.port import Prompt
from message_handler.ai.reply import Reply

_PARAMETERS = ("model", "temperature", "top_p", "max_tokens", "max_completion_tokens")
#: URLs whose servers refuse `stream_options`, as far as this process has seen.
_without_stream_options: set[str] = set()


class ChatCompletions(HttpProvider):
    """One AI core whose URL is that of a chat completions route."""

    __slots__ = ()

    def _credentials(self, token: str) -> dict[str, str]:
        if self.core_ai["meta_data"].get("auth_header") == "api-key":
            return {"api-key": token}
        return {"Authorization": f"Bearer {token}"}

    def _body(self, prompt: Prompt) -> bytes:
        meta_data = self.core_ai["meta_data"]
        role = meta_data.get("system_role", "system")
        system = system_of(prompt, meta_data)
        in_a_turn = role == "user"
        turns = turns_of(prompt, meta_data, instructions=system if in_a_turn else None)
        messages = turns if in_a_turn else [(role, system), *turns]
        body = {name: meta_data[name] for name in _PARAMETERS if meta_data.get(name) is not None}
        body |= {
            "messages": [{"role": role, "content": content} for role, content in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        left_out = {*meta_data.get("omit", ()), *(["stream_options"] if self.url in _without_stream_options else [])}
        body = {name: value for name, value in body.items() if name not in left_out}
        return json.dumps(body | meta_data.get("extra_body", {})).encode()

    def _leave_out(self, unknown_fields: tuple[str, ...]) -> bool:
        if "stream_options" not in unknown_fields:
            return False
        _without_stream_options.add(self.url)
        return True

    def _new_answer(self) -> ChatAnswer:
        return ChatAnswer(Reply(self.core_ai["meta_data"]))
