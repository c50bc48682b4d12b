"""Reads texts by the safety rules. No defect of the rules keeps a message from its answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from message_handler.domain.safety import Level
from message_handler.safety import replies
from message_handler.safety.rules import Rules, shipped
from message_handler.safety.screening import Screened, screen

_log = logging.getLogger(__name__)


class Reader:
    """Reads the texts of one conversation by its tenant's rules.

    If these can't be had or can't read a text, the shipped ones count from then on. A text that the shipped ones can't
    read has no danger.
    """

    def __init__(self, rules: Callable[[], Rules], **log_fields: Any) -> None:
        self._rules: Rules | None = None
        self._get = rules
        self._log_fields = log_fields

    @property
    def rules(self) -> Rules:
        """The rules that count."""
        if self._rules is None:
            try:
                self._rules = self._get()
            except Exception as error:  # noqa: BLE001  no error keeps the shipped rules from reading
                _log.error("the tenant's safety rules can't be read: the shipped ones count", extra=self._named(error))
                self._rules = shipped()
        return self._rules

    def screen(self, texts: Sequence[str], *, only_joined: bool = False) -> Screened | None:
        """What the rules find in texts that wait together. See `screening.screen`."""
        while True:
            try:
                return screen(self.rules, texts, only_joined=only_joined)
            except Exception as error:  # noqa: BLE001  a defect of the rules must cost no message
                _log.error("the safety rules can't read a text", extra=self._named(error))
            if self.rules is shipped():
                return None
            self._rules = shipped()

    def forbidden(self, reply: str) -> Level | None:
        """What keeps a reply from patients. See `replies.forbidden`."""
        try:
            return replies.forbidden(reply)
        except Exception as error:  # noqa: BLE001  a defect of the rules must cost no reply
            _log.error("the safety rules can't read a reply", extra=self._named(error))
            return None

    def _named(self, error: Exception) -> dict[str, Any]:
        """The error's type alone: its text may quote what was said."""
        return self._log_fields | {"error": type(error).__name__}
