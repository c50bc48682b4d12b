"""The words of a safety notice: the deployment's own, else a text of ours, which names no number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: By language (ISO 639-1) and level. English serves every other language.
_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "emergency": (
            "What you write may be an emergency. Call {number} now, or go to the nearest emergency department. "
            "Do not wait for an answer in this chat."
        ),
        "crisis": (
            "You do not have to face this alone. Call {number} now, or speak to a person you trust. "
            "If you or another person may be in danger right now, go to the nearest emergency department."
        ),
        "urgent": "What you write should be seen by a doctor today. If it becomes worse, call {emergency}.",
    },
    "vi": {
        "emergency": (
            "Điều bạn mô tả có thể là tình huống cấp cứu. Hãy gọi {number} ngay, hoặc đến khoa cấp cứu gần nhất. "
            "Đừng chờ câu trả lời trong cuộc trò chuyện này."
        ),
        "crisis": (
            "Bạn không phải một mình đối mặt với chuyện này. Hãy gọi {number} ngay, hoặc nói với một người bạn tin. "
            "Nếu bạn hoặc người khác có thể đang gặp nguy hiểm, hãy đến khoa cấp cứu gần nhất."
        ),
        "urgent": "Tình trạng bạn mô tả nên được bác sĩ khám trong hôm nay. Nếu nặng hơn, hãy gọi {emergency}.",
    },
}
#: What stands where the deployment has given no number.
_NO_NUMBER = {
    "en": {"emergency": "your local emergency number", "crisis": "a crisis line or your local emergency number"},
    "vi": {"emergency": "số cấp cứu tại nơi bạn ở", "crisis": "đường dây hỗ trợ khủng hoảng hoặc số cấp cứu"},
}


def notice_of(config: Mapping[str, Any], level: str) -> str:
    """The notice that a bot's patient gets at this level, in the bot's language.

    `config` is the bot's configuration. Its platform's `emergency_contacts` have the numbers and texts for the bot's
    `country`, or for the first country if the bot has none.
    """
    given = _contacts(config)
    tag = str(config["language"]).lower()
    language = tag.split("-")[0]
    texts = {name.lower(): by_level for name, by_level in (given.get("texts") or {}).items()}
    own = (texts.get(tag) or {}).get(level) or (texts.get(language) or {}).get(level)
    if own:
        return str(own)
    language = language if language in _TEXTS else "en"
    numbers = _NO_NUMBER[language] | {name: given[name] for name in ("emergency", "crisis") if given.get(name)}
    return _TEXTS[language][level].format(number=numbers.get(level), emergency=numbers["emergency"])


#: What the notice of a drill begins with.
_DRILL = {
    "en": "This is a drill: no patient is in danger.",
    "vi": "Đây là diễn tập: không có bệnh nhân nào gặp nguy hiểm.",
}


def drill_notice_of(config: Mapping[str, Any], level: str) -> str:
    """The notice of a drill. It says first that it is one, for a platform that shows it."""
    language = str(config["language"]).lower().split("-")[0]
    return f"{_DRILL.get(language, _DRILL['en'])} {notice_of(config, level)}"


def notice_texts(config: Mapping[str, Any]) -> frozenset[str]:
    """The `plain` texts of all notices that a bot's patient may have got: also those of before it was configured."""
    bare = {**config, "platform": {"meta_data": {}}}
    configs = [{**each, "language": language} for each in (config, bare) for language in (config["language"], *_TEXTS)]
    return frozenset(
        plain(text_of(each, level))
        for each in configs
        for level in _TEXTS["en"]
        for text_of in (notice_of, drill_notice_of)
    )


def plain(text: str) -> str:
    """A text without what platforms change: blanks and breaks."""
    return " ".join(text.split())


def is_configured(config: Mapping[str, Any]) -> bool:
    """Whether the deployment has given a number for the bot's patients."""
    return bool(_contacts(config))


def _contacts(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The contacts for the bot's country; empty if there are none."""
    return contacts_of(config["platform"]["meta_data"], config["meta_data"].get("country"))


def contacts_of(platform: Mapping[str, Any], country: str | None) -> Mapping[str, Any]:
    """The contacts for a country in a platform's `meta_data`, or the first ones without a country."""
    contacts: list[Mapping[str, Any]] = platform.get("emergency_contacts") or []
    own = [each for each in contacts if country is None or each["country"] == country]
    return own[0] if own else {}
