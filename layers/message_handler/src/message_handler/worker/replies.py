"""What a reply says beside the model's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from message_handler.domain.messages import Message
from message_handler.safety.notices import notice_of
from message_handler.safety.rules import shipped
from message_handler.safety.screening import screen


def with_notice(reply: str, messages: Sequence[Message], config: Mapping[str, Any]) -> str:
    """The reply to messages in which the rules find danger, with the notice behind it.

    Intake has given the notice of an emergency or a crisis already. But the patient may read the reply alone.
    """
    found = screen(shipped(), [message.content for message in messages])
    if found is None:
        return reply
    notice = notice_of(config, found.level)
    return reply if notice in reply else f"{reply}\n\n{notice}"
