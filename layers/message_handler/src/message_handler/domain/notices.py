"""What a bot says beside the model's words, in its language: its failure notice, its disclosure, its silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: By language (ISO 639-1). English serves every other language.
_NOTICES = {
    "de": "Ihre Nachricht konnte gerade nicht beantwortet werden. Bitte versuchen Sie es später noch einmal.",
    "en": "Your message could not be answered just now. Please try again later.",
    "es": "No hemos podido responder a su mensaje en este momento. Inténtelo de nuevo más tarde.",
    "fr": "Nous n'avons pas pu répondre à votre message pour le moment. Veuillez réessayer plus tard.",
    "vi": "Hiện chưa thể trả lời tin nhắn của bạn. Vui lòng thử lại sau.",
}
#: What a bot says instead of an answer while it stays silent.
_SILENCE = {
    "de": "Dieser Assistent antwortet im Moment nicht.",
    "en": "This assistant does not answer at the moment.",
    "es": "Este asistente no responde en este momento.",
    "fr": "Cet assistant ne répond pas pour le moment.",
    "vi": "Trợ lý này hiện không trả lời.",
}


def failure_notice(config: Mapping[str, Any]) -> str:
    """The notice if no answer could be made: the bot's configured `failure_message`, else our own."""
    return _own_text(config, "failure_message") or _NOTICES.get(_language(config)) or _NOTICES["en"]


def disclosure_of(config: Mapping[str, Any]) -> str | None:
    """What a bot says about itself. None: nothing is configured in its language."""
    return _own_text(config, "disclosure")


def silence(config: Mapping[str, Any]) -> str:
    """What a bot that stays silent after danger says, before the way to help."""
    return _SILENCE.get(_language(config), _SILENCE["en"])


def _own_text(config: Mapping[str, Any], name: str) -> str | None:
    """A text of the bot's `meta_data`: one text, or the one for the bot's language."""
    text = config["meta_data"].get(name)
    if isinstance(text, dict):
        text = text.get(config["language"]) or text.get(_language(config))
    return text or None


def _language(config: Mapping[str, Any]) -> str:
    return str(config["language"]).lower().split("-")[0]
