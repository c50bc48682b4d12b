"""The safety rules of one tenant: the shipped ones as an operator has changed them, and the tenant's own ones.

A platform's configuration carries them in the part `safety_rules`, so they are known wherever a bot's configuration is:

    languages        the codes of the shipped rules' languages that are tried; None: all
    not_applicable   the ids of shipped rules that do not apply
    own              the compiled own rules, as JSON; None: there are none
    compiled_for     the version of the shipped rules that `own` was compiled for
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from message_handler.safety.rules import Rules, shipped

#: The most sets of rules that a process keeps. They share the shipped rules. Own ones take 1 to 7 MB each.
_MOST_KEPT = 8


def rules_of(platform: Mapping[str, Any]) -> Rules:
    """The rules for a platform's patients."""
    given = platform.get("safety_rules")
    if not given:
        return shipped()
    languages = given["languages"]
    # The form of compiled rules belongs to one release.
    own = given["own"] if is_current(platform) else None
    return _rules_of(None if languages is None else tuple(languages), tuple(given["not_applicable"]), own)


def is_current(platform: Mapping[str, Any]) -> bool:
    """Whether this release can use the compiled own rules."""
    given = platform.get("safety_rules")
    return not given or given["own"] is None or given["compiled_for"] == shipped().version


@lru_cache(_MOST_KEPT)
def _rules_of(languages: tuple[str, ...] | None, without: tuple[str, ...], own: str | None) -> Rules:
    rules = shipped()
    if without or not (languages is None or set(rules.languages) <= set(languages)):
        rules = rules.narrowed(languages, without)
    return rules.extended(json.loads(own)) if own else rules
