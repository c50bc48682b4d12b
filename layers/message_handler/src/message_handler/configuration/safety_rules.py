"""What a tenant may write about the safety rules: `parse_rules` refuses what is wrong, before a patient needs it.

No document removes a shipped rule. It says which of them do not apply, and why, and adds the tenant's own rules.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from message_handler.configuration.records import DAY_ADVICE, Name, ReviewDay, shows_words, wrong
from message_handler.domain.conversations import DEFAULT_BOT, DEFAULT_LANGUAGE
from message_handler.domain.errors import InvalidRequest
from message_handler.domain.validation import Strict, check_json, field_name, validated
from message_handler.ports.configuration import Records
from message_handler.safety.rules import shipped
from message_handler.safety.tenants import rules_of

#: Whether a clinician's review holds for the rules in force.
ReviewState = Literal["missing", "other_version", "old", "valid"]
#: The most that own rules may have, as JSON.
MOST_RULES_BYTES = 64 * 1024
#: Rules in this language are always tried, and so are those in the languages of the tenant's bots.
_ALWAYS = "en"
_VERSION = r"^[0-9a-f]{16}$"
_ADVICE = DAY_ADVICE | {
    _VERSION: "must be the rules_version that was reviewed",
}

Reason = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(shows_words)]

_log = logging.getLogger(__name__)


class RulesReview(Strict):
    """The clinician who has reviewed the rules in force: which version of them, and on which day."""

    reviewed_by: Annotated[Name, AfterValidator(shows_words)]
    reviewed_at: ReviewDay
    rules_version: Annotated[str, Field(pattern=_VERSION)]


class SafetyRules(Strict):
    """What a tenant has written about the safety rules.

    `languages`: of the shipped rules that are tried; null for all. `rules`: own ones, each entry as a file of rules.
    `not_applicable`: by the ids of shipped rules, why they do not apply.
    """

    languages: Annotated[list[str], Field(max_length=20)] | None = None
    rules: Annotated[list[dict[str, Any]], Field(max_length=20)] = Field(default_factory=list)
    not_applicable: dict[str, Reason] = Field(default_factory=dict)
    review: RulesReview | None = None

    @field_validator("rules")
    @classmethod
    def _are_one_for_each_language(cls, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len({str(each.get("language")) for each in values}) < len(values):
            raise wrong("must not have a language twice")
        return values


#: What a tenant that has written nothing has written.
NOTHING: Mapping[str, Any] = {
    "document": SafetyRules().model_dump(),
    "compiled": None,
    "compiled_for": "",
    "revision": 0,
}


def parse_rules(body: Any) -> tuple[dict[str, Any], str | None]:
    """The document in the body of a write, and its own rules compiled. Raises InvalidRequest."""
    document = validated(SafetyRules, check_json(body), _ADVICE)
    known = shipped()
    if not set(document.languages or ()) <= set(known.languages):
        raise InvalidRequest(f"must be languages of the shipped rules: {', '.join(known.languages)}", field="languages")
    ids = {rule["id"] for rule in shipped_rules()}
    for id_ in document.not_applicable:
        if id_ not in ids:
            raise InvalidRequest("is the id of no shipped rule", field=field_name(["not_applicable", id_]))
    if len(json.dumps(document.rules, ensure_ascii=False).encode()) > MOST_RULES_BYTES:
        raise InvalidRequest(f"must not be larger than {MOST_RULES_BYTES // 1024} KiB", field="rules")
    return document.model_dump(), _compiled(document.rules)


def usable_document(document: Any) -> SafetyRules:
    """A stored document. One that was written past the API, and is wrong, changes no rule."""
    try:
        return SafetyRules.model_validate(document)
    except ValidationError:
        _log.warning("a tenant's safety rules are not valid: the shipped rules count")
        return SafetyRules()


def in_force(stored: Mapping[str, Any], languages: Mapping[str, str]) -> dict[str, Any]:
    """The part `safety_rules` of a platform's configuration: see `safety/tenants.py`.

    `languages`: those of the tenant's bots, by the bots' ids.
    """
    document, version = usable_document(stored["document"]), shipped().version
    # Compiling takes a second, too long for a patient's request: until the release has done that, they do not count.
    own = stored["compiled"] if document.rules and stored["compiled_for"] == version else None
    known = {rule["id"] for rule in shipped_rules()}
    return {
        "languages": _tried(document.languages, languages),
        "not_applicable": sorted(known.intersection(document.not_applicable)),
        "own": own,
        "compiled_for": version,
    }


def _tried(chosen: Sequence[str] | None, bots: Mapping[str, str]) -> list[str] | None:
    """The languages of the shipped rules that are tried; None: all of them."""
    if chosen is None:
        return None
    always = {DEFAULT_BOT: DEFAULT_LANGUAGE} | dict(bots)
    return sorted({_ALWAYS, *chosen, *(tag.lower().split("-")[0] for tag in always.values())})


def state_of(records: Records, platform_id: str, oldest_review: str) -> dict[str, Any]:
    """The rules in force, and how they were reviewed, without any word of a rule.

    `review`: whether a review holds for this version of the rules, which is none before the day `oldest_review`.
    `refused`: the languages of own rules that this release can't compile, or has not compiled yet.
    """
    stored = records.get("safety_rules", platform_id) or NOTHING
    document = usable_document(stored["document"])
    part = in_force(stored, {bot["bot_id"]: bot["language"] for bot in records.all("bots")})
    rules = rules_of({"safety_rules": part})
    compiled = {each["language"] for each in json.loads(part["own"] or "[]")}
    return {
        "rules_version": rules.version,
        "languages": sorted(rules.languages),
        "review": _state_of(document.review, rules.version, oldest_review),
        "not_applicable": part["not_applicable"],
        "refused": sorted({str(each.get("language")) for each in document.rules} - compiled),
    }


def _state_of(review: RulesReview | None, version: str, oldest: str) -> ReviewState:
    if review is None:
        return "missing"
    if review.rules_version != version:
        return "other_version"
    return "old" if review.reviewed_at < oldest else "valid"


def recompiled(rules: Sequence[Mapping[str, Any]]) -> str | None:
    """Own rules that another release has compiled. What this release refuses is left out, and logged."""
    return _compiled(rules, lenient=True)


def _compiled(rules: Sequence[Mapping[str, Any]], *, lenient: bool = False) -> str | None:
    """Own rules, compiled, as JSON. None: there are none. `lenient`: wrong ones are left out, and logged.

    Raises InvalidRequest with the first problem, without any word of the rules.
    """
    from message_handler.safety.compiling import RulesRefused
    from message_handler.safety.own import own_language

    taken: set[str] = set()
    compiled: list[dict[str, Any]] = []
    for number, source in enumerate(json.loads(_canonical(rules))):
        language = str(source.get("language"))
        try:
            compiled.append(own_language(source, taken))
        except RulesRefused as error:
            if not lenient:
                field = f"rules.{number}.{error.problems[0].field}".rstrip(".")
                raise InvalidRequest(error.problems[0].what, field=field) from None
            _warn(language, error)
        except Exception as error:
            if not lenient:
                raise
            _warn(language, error)
        else:
            taken |= {rule["id"] for rule in compiled[-1]["rules"]}
    return json.dumps(compiled, ensure_ascii=False, separators=(",", ":")) if compiled else None


def _warn(language: str, error: Exception) -> None:
    """The error's type alone: its text may quote the rules."""
    about = {"language": language, "error": type(error).__name__}
    _log.error("a tenant's own safety rules can't be compiled: they do not count", extra=about)


def _canonical(rules: Iterable[Mapping[str, Any]]) -> str:
    """The same text before and after Postgres, which keeps no order of fields: so is what is compiled from it."""
    return json.dumps(list(rules), ensure_ascii=False, sort_keys=True)


def shipped_rules() -> list[dict[str, Any]]:
    """The shipped rules, each with its language."""
    return [rule | {"language": language["language"]} for language in shipped().compiled for rule in language["rules"]]
