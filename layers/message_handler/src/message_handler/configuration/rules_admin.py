"""What operators do with the safety rules: show those in force, and write what is the tenant's own.

Each change is written into the audit in the same transaction, as those of other configuration are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any

from message_handler.configuration.admin import Expected, Shown, bots_with, check_expected
from message_handler.configuration.safety import oldest_review
from message_handler.configuration.safety_rules import (
    NOTHING,
    parse_rules,
    recompiled,
    shipped_rules,
    state_of,
    usable_document,
)
from message_handler.domain.errors import Conflict, PreconditionFailed
from message_handler.ports.audit import AuditEntry
from message_handler.ports.configuration import ConfigurationStore, Records
from message_handler.safety.rules import shipped

#: The most tenants whose own rules one sweep compiles for a new release: each takes a second.
_MOST_COMPILED = 10
_SHOWN = ("id", "language", "level", "about", "source", "reviewed_by", "reviewed_at")


@dataclass(frozen=True, slots=True)
class RulesAdmin:
    """Each tenant sees and changes its own rules. Raises RequestError, or Unavailable without Postgres."""

    store: ConfigurationStore
    #: Shares the current configuration of these bots of a tenant with the other processes.
    refresh: Callable[[str, Iterable[str]], None]

    def get(self, platform_id: str, today: date) -> Shown:
        """The rules in force, the shipped ones, and what the tenant has written. Without that the revision is 0."""
        return self.store.read(platform_id, lambda records: _shown(records, platform_id, today))

    def put(self, platform_id: str, body: Any, *, actor: str, today: date, expected: Expected = None) -> Shown:
        """Replace all that the tenant has written. Raises PreconditionFailed if that is not as `expected`."""
        document, compiled = parse_rules(body)
        record = {
            "platform_id": platform_id,
            "document": document,
            "compiled": compiled,
            "compiled_for": shipped().version,
        }

        def step(records: Records) -> tuple[Shown, list[str]]:
            if records.get("platforms", platform_id) is None:
                raise Conflict("your platform has no record yet: write that first", field="platform_id")
            was = records.get("safety_rules", platform_id)
            # Settings that were never written have the revision 0.
            if expected in (0, "new"):
                if was is not None:
                    raise PreconditionFailed("it has been changed since you read it: read it again")
            else:
                check_expected(was, expected)
            records.put("safety_rules", record)
            before = None if was is None else was["document"]
            records.note(AuditEntry(actor, "put", "safety_rules", platform_id, before, document))
            return _shown(records, platform_id, today), bots_with("platforms", platform_id, records)

        shown, bot_ids = self.store.change(platform_id, step)
        self.refresh(platform_id, bot_ids)
        return shown

    def recompile(self) -> None:
        """Compile the own rules that another release has compiled. Until then they do not count."""
        version = shipped().version
        for outdated in self.store.outdated_rules(version, most=_MOST_COMPILED):
            rules = usable_document(outdated.document).rules
            self.store.recompile_rules(outdated, recompiled(rules), version)


def _shown(records: Records, platform_id: str, today: date) -> Shown:
    stored = records.get("safety_rules", platform_id) or NOTHING
    document = usable_document(stored["document"])
    state = state_of(records, platform_id, oldest_review(today))
    rules = [
        {name: rule[name] for name in _SHOWN} | {"not_applicable": document.not_applicable.get(rule["id"])}
        for rule in shipped_rules()
    ]
    record = {
        "settings": document.model_dump(),
        "in_force": state,
        "shipped": {"rules_version": shipped().version, "languages": [*shipped().languages], "rules": rules},
    }
    return Shown(record, stored["revision"])
