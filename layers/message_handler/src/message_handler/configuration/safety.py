"""What a tenant's configuration lacks for patients in danger: contacts for a bot's country, or a fresh review."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from message_handler.configuration import safety_rules
from message_handler.configuration.records import usable
from message_handler.domain.conversations import DEFAULT_BOT
from message_handler.domain.errors import Conflict, InvalidRequest
from message_handler.domain.notices import disclosure_of
from message_handler.ports.configuration import RecordKind, Records
from message_handler.safety.notices import contacts_of

#: A review of contacts or rules holds for this time.
REVIEW_HOLDS = timedelta(days=365)
#: The bot that answers where a request names none, as long as no record configures it.
_DEFAULT: Mapping[str, Any] = {"bot_id": DEFAULT_BOT, "is_active": True, "meta_data": {}}


def state_of(records: Records, platform_id: str, today: date) -> dict[str, Any]:
    """The active bots without contacts for their country, the contacts with an old review, and the rules in force."""
    platform = records.get("platforms", platform_id)
    bots = records.all("bots")
    if all(bot["bot_id"] != DEFAULT_BOT for bot in bots):
        bots = [dict(_DEFAULT), *bots]
    contacts = _meta_data("platforms", platform).get("emergency_contacts") or ()
    return {
        "without_contacts": [bot["bot_id"] for bot in bots if bot["is_active"] and not _has_contacts(bot, platform)],
        "old_reviews": [
            {"country": each["country"], "reviewed_at": each["reviewed_at"]}
            for each in contacts
            if each["reviewed_at"] < oldest_review(today)
        ],
        "rules": safety_rules.state_of(records, platform_id, oldest_review(today)),
    }


def oldest_review(today: date) -> str:
    """The first day whose reviews still hold."""
    return (today - REVIEW_HOLDS).isoformat()


def check_bot(bot: Mapping[str, Any], records: Records, platform_id: str) -> None:
    """Refuse to activate a bot that can't tell patients how to get help, or what it is."""
    if not bot["is_active"]:
        return
    if not _has_contacts(bot, records.get("platforms", platform_id)):
        raise Conflict(
            "your platform has no emergency_contacts for the bot's country: write them, or set is_active to false",
            field="is_active",
        )
    if disclosure_of(bot) is None:
        raise InvalidRequest(
            "must be given in the bot's language: patients must know that an AI answers. Or set is_active to false",
            field="meta_data.disclosure",
        )


def check_platform(platform: Mapping[str, Any], was: Mapping[str, Any] | None, records: Records) -> None:
    """Refuse to take the contacts away from an active bot."""
    for bot in records.all("bots"):
        if bot["is_active"] and _has_contacts(bot, was) and not _has_contacts(bot, platform):
            raise Conflict(
                "an active bot needs the contacts for its country: keep them, or deactivate the bot first",
                field="meta_data.emergency_contacts",
            )


def _has_contacts(bot: Mapping[str, Any], platform: Mapping[str, Any] | None) -> bool:
    country = _meta_data("bots", bot).get("country")
    return bool(contacts_of(_meta_data("platforms", platform), country))


def _meta_data(kind: RecordKind, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part that patients' notices can use. Records that were written past the API may hold anything."""
    known, _ = usable(kind, record["meta_data"] if record else {})
    return known
