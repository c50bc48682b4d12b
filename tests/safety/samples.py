"""Small sets of rules for the tests. The shipped rules may change without changing these tests."""

from __future__ import annotations

from typing import Any

from message_handler.domain.safety import Level
from message_handler.safety.compiling import compiled_language
from message_handler.safety.rules import Rules, compiled_text, loaded

ENGLISH: dict[str, Any] = {
    "language": "en",
    "spellings": {"cnt": "can't", "wanna": "want to", "od": "overdose"},
    "unlike": ["cheat"],
    "words": {
        "cannot": ["can't", "cannot", "unable to", "struggling to"],
        "breathe": ["breathe", "breathing", "catch my breath"],
        "chest": ["chest", "breastbone"],
        "pressure": ["pressure", "squeezing", "tight"],
    },
    "idioms": ["dying of laughter", "kill for a coffee"],
    "cues": {
        "negation": {"before": ["no", "not", "without", "denies", "can't"], "after": ["is gone", "went away"]},
        "not_negation": ["not only", "no doubt", "is gone pale"],
        "past": ["years ago", "last year"],
        "other": ["in the film"],
        "information": ["what are the symptoms of"],
        "routine": ["how much is"],
    },
    "rules": [
        {
            "id": "breathing",
            "level": "emergency",
            "about": "Trouble with breathing",
            "phrases": ["<cannot> <breathe>", "gasping for air"],
            "except": ["breathing exercises"],
        },
        {
            "id": "chest",
            "level": "emergency",
            "about": "Pain in the chest",
            "phrases": ["chest pain"],
            "together": [["<chest>", "<pressure>"]],
            "lowered_by": {"past": "urgent"},
        },
        {
            "id": "suicide",
            "level": "crisis",
            "about": "A wish to die",
            "phrases": ["want to die", "kill", "dying", "suicide"],
        },
        {
            "id": "overdose",
            "level": "emergency",
            "about": "An overdose",
            "phrases": ["overdose"],
            "typing_errors": False,
        },
        {"id": "fever", "level": "urgent", "about": "A high fever", "phrases": ["fever of 40"]},
        {
            "id": "stroke",
            "level": "emergency",
            "about": "A stroke by its name",
            "phrases": ["a stroke"],
            "lowered_by": {"routine": "none"},
        },
    ],
}
VIETNAMESE: dict[str, Any] = {
    "language": "vi",
    "spellings": {"ko": "không", "mún": "muốn", "tữ": "tử"},
    "words": {"pain": ["đau", "nhói"], "chest": ["ngực", "tim"]},
    "idioms": ["chết cười", "từ từ"],
    "cues": {
        "negation": {"before": ["không", "chưa"], "after": ["hết rồi"]},
        "past": ["năm ngoái"],
        "other": ["trong phim"],
        "information": ["triệu chứng của"],
    },
    "rules": [
        {"id": "vi-chest", "level": "emergency", "about": "Pain in the chest", "phrases": ["<pain> <chest>"]},
        {"id": "vi-suicide", "level": "crisis", "about": "A wish to die", "phrases": ["tự tử", "muốn chết", "chết"]},
        {"id": "vi-awake", "level": "emergency", "about": "Unconscious", "phrases": ["không tỉnh", "không <pain> nữa"]},
        {"id": "vi-knife", "level": "urgent", "about": "A knife", "phrases": ["dao", "hoà tan"]},
    ],
}


def rules_of(*sources: dict[str, Any]) -> Rules:
    return loaded(compiled_text([compiled_language(source) for source in sources]))


RULES = rules_of(ENGLISH, VIETNAMESE)


def found(text: str, rules: Rules = RULES) -> dict[str, Level]:
    """Each rule that matches, with its level after lowering."""
    return {finding.rule: finding.level for finding in rules.find(text)}


def level(text: str, rules: Rules = RULES) -> Level | None:
    return max(found(text, rules).values(), default=None)
