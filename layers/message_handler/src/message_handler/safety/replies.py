"""Replies that no patient may read: by rules of their own, which the engine of the safety rules matches."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from message_handler.domain.safety import Level
from message_handler.safety.rules import Rules, loaded

#: Written by `make safety-rules` from the files in `replies/`.
FILE: Final = Path(__file__).with_name("replies.json")
#: A phrase goes over no end of a sentence: "This is who I am. A doctor reads along."
_SENTENCE_END: Final = re.compile(r"[.!?;:\n\u2026\u3002\uff01\uff1f\uff1b]+")


@cache
def reply_rules() -> Rules:
    """The rules for replies."""
    return loaded(FILE.read_text(encoding="utf-8"))


def forbidden(reply: str) -> Level | None:
    """`emergency`: no patient may read the reply. `urgent`: no patient who has told of danger. None: each may."""
    rules = reply_rules()
    found = (finding.level for sentence in _SENTENCE_END.split(reply) for finding in rules.find(sentence))
    return max(found, default=None)
