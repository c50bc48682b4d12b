"""Checks JSON from outside, of any shape: gives a pydantic model, or raises `InvalidRequest`.

The error names the field, never its value: values may be patients' words or credentials (invariant 11).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from message_handler.domain.errors import InvalidRequest, OddCharacter
from message_handler.domain.identifiers import IDENTIFIER, IDENTIFIER_RULE
from message_handler.domain.text import MAX_DEPTH, is_storable

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)

_IDENTIFIER = f"^{IDENTIFIER}$"
Identifier = Annotated[str, Field(pattern=_IDENTIFIER)]

#: The longest debounce that a bot may have: how long a run waits after each message (milliseconds).
MAX_DEBOUNCE_MS = 10_000

#: What to correct, by the kind of the error or the pattern that didn't match.
_ADVICE = {
    "extra_forbidden": "there is no such field",
    "missing": "is missing",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    _IDENTIFIER: IDENTIFIER_RULE,
}


class Strict(BaseModel):
    """A model that converts no type into another, and refuses unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


def validated[M: BaseModel](model: type[M], value: Any, advice: Mapping[str, str] | None = None) -> M:
    """`value` as a `model`. Raises InvalidRequest that names the first wrong field.

    `advice`: what to correct, by each of the model's own patterns.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        kind = first.get("ctx", {}).get("pattern", first["type"])
        detail = (_ADVICE | dict(advice or {})).get(kind) or re.sub(r"^\w+ should ", "must ", first["msg"])
        raise InvalidRequest(detail, field=field_name(first["loc"])) from None


def field_name(location: Sequence[str | int]) -> str:
    """A place in the body, such as `messages.0.content`.

    The name of an unknown field is the caller's own text, so it is shown only if it looks like a name.
    """
    return ".".join(str(part) if _NAME.fullmatch(str(part)) else "?" for part in location)


def check_json(body: Any) -> dict[str, Any]:
    """The body, if it is an object and JSON, Postgres and UTF-8 can hold every value and key in it.

    A caller of the library may pass anything. Raises InvalidRequest; OddCharacter if a text can't be stored.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    waiting: list[tuple[Any, str, int]] = [(body, "", 0)]
    while waiting:
        value, field, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"is nested more than {MAX_DEPTH} levels deep", field=field)
        if isinstance(value, str):
            if not is_storable(value):
                raise OddCharacter("contains the character U+0000 or a lone surrogate; remove it", field=field)
        elif isinstance(value, dict):
            if not all(isinstance(name, str) for name in value):
                raise InvalidRequest("has a key that isn't text", field=field)
            waiting.extend((name, field or "body", depth + 1) for name in value)
            waiting.extend((item, field or field_name([name]), depth + 1) for name, item in value.items())
        elif isinstance(value, list):
            waiting.extend((item, field, depth + 1) for item in value)
        elif isinstance(value, int | float):
            if not abs(value) <= sys.float_info.max:  # NaN compares with nothing
                raise InvalidRequest("contains NaN, or a number that is too large", field=field)
        elif value is not None:
            raise InvalidRequest("contains a value that JSON does not have", field=field)
    return body
