"""A prompt as the turns that providers accept. A turn's role says who spoke; a turn's text never does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from message_handler.ai.port import Prompt

#: A provider's role and the text.
type RoleAndText = tuple[str, str]

_COLLEAGUE = "[Human colleague] "
_COLLEAGUES = (
    f"Turns of the assistant that begin with {_COLLEAGUE.strip()} were written by a human colleague of yours. "
    "Stand by what they said, and never begin a turn like that yourself."
)
_LEFT_OUT = "What the platform told about this conversation is left out, because it is too long."
#: Providers refuse a conversation that the assistant begins, so this user turn goes before it. As instructions, the
#: assistant's first words would carry more weight, and they may quote a patient.
_EARLIER = "[The conversation began earlier.]"
#: Providers refuse a turn without text.
_NO_TEXT = "[No text]"


def system_of(prompt: Prompt, meta_data: dict[str, Any]) -> str:
    """The instructions: the configured ones, how to read a human colleague's turns, and the request's resources.

    Resources longer than `max_resources_characters` (default: 4,000) are left out whole: half a JSON object misleads.
    """
    parts = [str(meta_data.get("system_prompt") or _default(prompt))]
    if any(turn.role == "sale" for turn in prompt.context):
        parts.append(_COLLEAGUES)
    if prompt.resources:
        resources = json.dumps(prompt.resources, ensure_ascii=False, separators=(",", ":"))
        fits = len(resources) <= int(meta_data.get("max_resources_characters", 4000))
        parts.append(f"What the platform tells about this conversation, as JSON:\n{resources}" if fits else _LEFT_OUT)
    return "\n\n".join(parts)


def turns_of(prompt: Prompt) -> list[RoleAndText]:
    """The turns, in order. The first and the last are a user's, and roles alternate.

    Turns of the same role in a row become one turn, because providers refuse two.
    """
    said: list[RoleAndText] = []
    for turn in prompt.context:
        prefix = _COLLEAGUE if turn.role == "sale" else ""
        said.append(("user" if turn.role == "user" else "assistant", prefix + _text(turn.content)))
    said += [("user", _text(message.content)) for message in prompt.messages]
    if said[0][0] == "assistant":
        said.insert(0, ("user", _EARLIER))
    return _merged(said)


def with_instructions(role: str, instructions: str, turns: Sequence[RoleAndText]) -> list[RoleAndText]:
    """The turns behind the instructions; in the role of the user, these begin the user's first turn."""
    return _merged([(role, instructions), *turns])


def _merged(said: Sequence[RoleAndText]) -> list[RoleAndText]:
    merged = list(said[:1])
    for role, text in said[1:]:
        if role == merged[-1][0]:
            merged[-1] = (role, f"{merged[-1][1]}\n\n{text}")
        else:
            merged.append((role, text))
    return merged


def _default(prompt: Prompt) -> str:
    return (
        f"You are {prompt.bot_name}. Answer all that the patient has not been answered yet, in the patient's language, "
        "kindly and briefly. You are no doctor: in an emergency tell them to call for help."
    )


def _text(content: str) -> str:
    return content if content.strip() else _NO_TEXT
