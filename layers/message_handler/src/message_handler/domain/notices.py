"""The notice that a patient gets if no answer could be made, in the bot's language."""

from __future__ import annotations

from typing import Any

#: By language (ISO 639-1). English serves every other language.
_NOTICES = {
    "de": "Ihre Nachricht konnte gerade nicht beantwortet werden. Bitte versuchen Sie es später noch einmal.",
    "en": "Your message could not be answered just now. Please try again later.",
    "es": "No hemos podido responder a su mensaje en este momento. Inténtelo de nuevo más tarde.",
    "fr": "Nous n'avons pas pu répondre à votre message pour le moment. Veuillez réessayer plus tard.",
    "vi": "Hiện chưa thể trả lời tin nhắn của bạn. Vui lòng thử lại sau.",
}


def failure_notice(config: dict[str, Any]) -> str:
    """The notice for a bot: its configured `failure_message` (a text, or a text for each language), else our own."""
    language = str(config["language"]).lower().split("-")[0]
    own = config["meta_data"].get("failure_message")
    if isinstance(own, dict):
        own = own.get(config["language"]) or own.get(language)
    return own or _NOTICES.get(language) or _NOTICES["en"]
