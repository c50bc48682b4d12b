"""What comes from outside, checked: JSON of any shape in, a pydantic model or an `InvalidRequest` out.

A refusal names the field, never its value: values are patients' words and credentials.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from message_handler.domain.errors import InvalidRequest
from message_handler.domain.identifiers import IDENTIFIER, IDENTIFIER_RULE

#: Objects and lists within each other. Some JSON parsers behind us give up where Python's does not.
MAX_DEPTH = 32

_NAME = re.compile(r"[A-Za-z0-9_-]{1,40}", re.ASCII)

_IDENTIFIER = f"^{IDENTIFIER}$"
Identifier = Annotated[str, Field(pattern=_IDENTIFIER)]

#: A patient is waited for no longer than this after each message.
MAX_DEBOUNCE_MS = 10_000

#: What to mend, by the kind of the error or the pattern that didn't match.
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
    """Takes no type for another, and no field that it doesn't have."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


def validated[M: BaseModel](model: type[M], value: Any, advice: Mapping[str, str] | None = None) -> M:
    """`value` as a `model`. Raises InvalidRequest that names the first field that is wrong.

    `advice`: what to mend where one of the model's own patterns doesn't match.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        kind = first.get("ctx", {}).get("pattern", first["type"])
        told = (_ADVICE | dict(advice or {})).get(kind) or re.sub(r"^\w+ should ", "must ", first["msg"])
        raise InvalidRequest(told, field=field_name(first["loc"])) from None


def field_name(location: Sequence[str | int]) -> str:
    """`messages.0.content`. An unknown field's name is the caller's own text: told only if it looks like a name."""
    return ".".join(str(part) if _NAME.fullmatch(str(part)) else "?" for part in location)


def check_json(body: Any) -> dict[str, Any]:
    """The body, if it is an object without what JSON, Postgres or UTF-8 can't hold, wherever that hides.

    A library's caller may hand in anything. Raises InvalidRequest.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    waiting: list[tuple[Any, str, int]] = [(body, "", 0)]
    while waiting:
        value, field, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"is nested more than {MAX_DEPTH} deep", field=field)
        if isinstance(value, str):
            _check_text(value, field)
        elif isinstance(value, dict):
            if not all(isinstance(name, str) for name in value):
                raise InvalidRequest("has a key that isn't text", field=field)
            waiting.extend((name, field or "body", depth + 1) for name in value)
            waiting.extend((item, field or field_name([name]), depth + 1) for name, item in value.items())
        elif isinstance(value, list):
            waiting.extend((item, field, depth + 1) for item in value)
        elif isinstance(value, int | float):
            if not abs(value) <= sys.float_info.max:  # NaN compares with nothing
                raise InvalidRequest("holds NaN or a number that is too large", field=field)
        elif value is not None:
            raise InvalidRequest("holds something that JSON can't", field=field)
    return body


def _check_text(text: str, field: str) -> None:
    if text.isascii() and "\x00" not in text:
        return
    if "\x00" in text:
        raise InvalidRequest("holds U+0000", field=field)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("holds a lone surrogate", field=field) from None
