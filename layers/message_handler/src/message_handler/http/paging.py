"""Pages of long lists: `?limit=` and `?next=`, an opaque cursor from the previous answer.

A cursor names the entry after which the page begins. It holds no tenant: that comes from the call.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from message_handler.domain.errors import InvalidRequest
from message_handler.http.rest import Call
from message_handler.operations.export import MOST_BYTES

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
_MAX_CURSOR = 200
#: Postgres converts microseconds to a time through a float8, which is exact up to here: until the year 2255.
_MAX_NUMBER = 2**53


def limit_of(call: Call) -> int:
    """The most entries on a page. Raises InvalidRequest."""
    text = call.query("limit")
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[0-9]{1,3}", text) or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidRequest(f"must be a whole number from 1 to {MAX_LIMIT}", field="limit")
    return int(text)


def fitting(views: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first entries that fit into one answer: at most `MOST_BYTES` of JSON, but always one if there is one."""
    sizes = accumulate(len(json.dumps(view, ensure_ascii=False).encode()) for view in views)
    return [
        view for number, (view, size) in enumerate(zip(views, sizes, strict=True)) if not number or size <= MOST_BYTES
    ]


def cursor(*values: int | str) -> str:
    """The `next` of an answer whose last entry has these values."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def behind(call: Call, *kinds: type[int] | type[str]) -> Sequence[int | str] | None:
    """The values in the call's `next`, of these types; None for the first page. Raises InvalidRequest."""
    text = call.query("next")
    if text is None:
        return None
    try:
        values = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        values = None
    if (
        len(text) > _MAX_CURSOR
        or not isinstance(values, list)
        or [type(value) for value in values] != list(kinds)
        or any(isinstance(value, int) and not 0 <= value < _MAX_NUMBER for value in values)
    ):
        raise InvalidRequest("is not one that an answer gave", field="next")
    return values
