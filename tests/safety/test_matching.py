"""Phrases, windows, marks, typing errors, idioms and cues: each rule of matching and of lowering."""

from __future__ import annotations

from typing import Any

import pytest

from message_handler.domain.safety import Level
from message_handler.safety.compiling import RulesRefused, compiled_language
from tests.safety.samples import ENGLISH, RULES, VIETNAMESE, found, level, rules_of

EMERGENCY, CRISIS, URGENT = Level.EMERGENCY, Level.CRISIS, Level.URGENT


def test_levels_compare_by_their_urgency() -> None:
    assert EMERGENCY > CRISIS > URGENT
    assert sorted([EMERGENCY, URGENT, CRISIS]) == [URGENT, CRISIS, EMERGENCY]
    assert URGENT <= URGENT >= "urgent"


# Phrases and windows.


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("I can't breathe", "breathing"),
        ("he cannot really even breathe", "breathing"),
        ("I cannot catch my breath", "breathing"),
        ("I am gasping for air", "breathing"),
        ("tight feeling in my chest", "chest"),
        ("my chest feels so very tight", "chest"),
        ("a fever of 40 now", "fever"),
    ],
)
def test_what_matches(text: str, rule: str) -> None:
    assert rule in found(text)


@pytest.mark.parametrize(
    "text",
    [
        "breathe, I cannot",
        "I cannot see why one should breathe",
        "gasping hard for air",
        "my chest is what I mean when I tell you that it is tight",
        "fever of 400",
        "chest",
        "breathing",
    ],
)
def test_what_does_not_match(text: str) -> None:
    assert found(text) == {}


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("struggling to really even breathe", "breathing"),
        ("chest one two three four five six tight", "chest"),
        ("can't, can't, " * 9 + "or so it seems to me today; I can't really even breathe", "breathing"),
        ("chest, chest, " * 9 + "one two three four five six tight", "chest"),
    ],
)
def test_the_widest_gap_and_window_match_and_one_word_more_does_not(text: str, rule: str) -> None:
    assert rule in found(text)
    *before, last = text.split()
    assert found(" ".join([*before, "also", last])) == {}


def test_the_first_of_many_equal_terms_matches() -> None:
    assert "breathing" in found("can't really even breathe, " + "can't " * 9)


def test_a_word_with_several_forms_makes_each_match_once() -> None:
    rules = rules_of(
        {
            "language": "en",
            "rules": [
                {"id": "r", "level": "urgent", "about": "x", "phrases": ["of", "off now", "go off", "go off now"]}
            ],
        }
    )
    assert sorted(match.words for match in rules.explain("go offf now")) == [
        "go offf",
        "go offf now",
        "offf",
        "offf now",
    ]


def test_slots_of_a_window_have_words_of_their_own() -> None:
    rules = rules_of(
        {
            "language": "en",
            "words": {"a": ["chest pain", "chest"], "b": ["pain", "chest pain"]},
            "rules": [{"id": "r", "level": "urgent", "about": "x", "together": [["<a>", "<b>"]]}],
        }
    )
    assert found("chest pain", rules)
    assert not found("pain", rules)
    assert found("pain in the chest", rules)


def test_a_finding_has_the_place_of_its_words_and_no_text() -> None:
    text = "Help: I can't  really breathe!"
    (finding,) = RULES.find(text)
    assert [text[start:end] for start, end in finding.place] == ["can't", "breathe"]
    assert (finding.rule, finding.language, finding.level) == ("breathing", "en", EMERGENCY)


def test_the_strongest_rule_comes_first() -> None:
    findings = RULES.find("fever of 40, want to die, chest pain")
    assert [finding.rule for finding in findings] == ["chest", "suicide", "fever"]


# Marks.


@pytest.mark.parametrize(
    "text", ["tự tử", "tu tu", "tư tử", "tự tu", "TỰ TỬ", "tự tữ", "tự tuwr", "hoa tan", "hòa tan", "hoà tan"]
)
def test_a_text_may_lack_marks(text: str) -> None:
    assert text == "tự tuwr" or found(text)


@pytest.mark.parametrize("text", ["từ từ", "tứ tử", "đao", "dào", "hoá tan", "bé tự tí"])
def test_a_text_has_no_mark_that_the_rule_lacks(text: str) -> None:
    assert found(text) == {}


def test_a_letter_without_its_stroke_matches_one_with_it() -> None:
    assert found("dau nguc") == found("đau ngực") == {"vi-chest": EMERGENCY}


def test_an_idiom_of_just_the_same_bare_words_proves_nothing() -> None:
    assert found("tu tu") == {"vi-suicide": CRISIS}
    assert found("chet cuoi") == found("chết cười") == {}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("chó cắn vào chân", True),
        ("cho cắn chan", True),
        ("cho hang xom can chan", True),
        ("chan em bi cho can", False),
        ("cho em can do chan", False),
        ("chan em bi cho dai can", True),
        ("nó nhờ đứa lớn cho cắn vào chân", False),
        ("nó nhờ đứa lớn chó cắn vào chân", True),
    ],
)
def test_syllables_without_marks_meet_by_chance_in_any_order(text: str, counts: bool) -> None:
    """Each such syllable may be many words. One with its marks, or a term of several syllables, is enough. In a text
    with marks each syllable is read as it stands: "cho" is not "chó"."""
    together = [["<dog>", "cắn", "chân"]]
    rules = rules_of(
        {
            "language": "vi",
            "words": {"dog": ["chó", "chó dại", "chó hàng xóm"]},
            "rules": [{"id": "r", "level": "urgent", "about": "x", "together": together}],
        }
    )
    assert bool(found(text, rules)) is counts


def test_vietnamese_syllables_are_no_english_words() -> None:
    rules = rules_of(
        {"language": "en", "rules": [{"id": "r", "level": "urgent", "about": "x", "phrases": ["be", "suicide"]}]}
    )
    assert found("bé", rules) == {}
    assert found("süicide", rules)
    assert found("suícide", rules)


# Spellings and typing errors.


@pytest.mark.parametrize("text", ["I cnt breathe", "i wanna die", "od", "mún chết", "mun chet", "tự tữ"])
def test_spellings_are_written_out(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize("word", ["brethe", "breathee", "braethe", "breathr", "bresthe", "xbreathe"])
def test_one_typing_error_is_put_right(word: str) -> None:
    assert found(f"I can't {word}") == {"breathing": EMERGENCY}


@pytest.mark.parametrize("text", ["cheat pain", "can't brehe", "overdoze", "I want to dye", "fever of 50"])
def test_what_is_no_typing_error(text: str) -> None:
    assert "chest" not in found(text)
    assert found(text) == {}


# Idioms.


def test_an_idiom_voids_what_it_overlaps() -> None:
    assert found("I could kill for a coffee") == {}
    assert found("dying of laughter") == {}
    assert found("I could kill for a coffee, but I want to die") == {"suicide": CRISIS}


def test_a_rules_own_idiom_voids_it_alone() -> None:
    assert found("I can't do breathing exercises") == {}


# Cues.


@pytest.mark.parametrize(
    "text",
    [
        "no chest pain",
        "he has no sign of chest pain",
        "chest pain is gone",
        "I had chest pain but it went away",
        "no fever, cough or chest pain",
        "no cough, no fever or chest pain",
        "no chest pain, cough or fever",
        "no cough or sneezing or running nose or chest pain",
        "what are the symptoms of chest pain",
        "in the film he had chest pain",
        "my chest is not tight",
        "không đau ngực",
        "ko dau nguc",
        "không sốt, ho hay đau ngực",
        "đau ngực hết rồi",
    ],
)
def test_cues_lower_an_emergency_to_nothing(text: str) -> None:
    assert level(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "no idea why. chest pain",
        "no. chest pain",
        "no, chest pain",
        "no fever but chest pain",
        "no fever, however chest pain",
        "no one that I know here has chest pain",
        "not only chest pain",
        "no doubt chest pain",
        "chest pain. the fever is gone",
        "chest pain but the fever is gone",
        "chest pain and he is gone pale",
        "no cough, I have chest pain or pressure",
        "no cough, chest pain",
        "in the film. I have chest pain",
        "chest pain!! what are the symptoms of a cold?",
        "không sốt nhưng đau ngực",
        "không sốt, con đau ngực hay sao",
        "my husband is having chest pain",
    ],
)
def test_cues_elsewhere_lower_nothing(text: str) -> None:
    assert level(text) is EMERGENCY


def test_a_cue_that_is_part_of_the_match_does_not_count() -> None:
    assert found("can't breathe") == {"breathing": EMERGENCY}


def test_a_crisis_is_lowered_to_urgent_and_by_information_to_nothing() -> None:
    assert level("I do not want to die") is URGENT
    assert level("wanted suicide years ago") is URGENT
    assert level("suicide in the film") is URGENT
    assert level("what are the symptoms of suicide") is None


def test_routine_lowers_only_a_rule_that_says_so() -> None:
    assert level("how much is the check after a stroke") is None
    assert level("he has a stroke") is EMERGENCY
    assert level("how much is an ambulance for chest pain") is EMERGENCY
    assert level("how much is it, I want to die") is CRISIS


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("gọi mãi không tỉnh", True),
        ("không\ntỉnh", True),
        ("mổ có lâu không, tỉnh dậy thì ăn gì", False),
        ("có sao không, đau nữa thì khám đâu", False),
    ],
)
def test_a_match_does_not_go_on_behind_a_question(text: str, counts: bool) -> None:
    assert ("vi-awake" in found(text)) is counts


def test_a_rule_may_be_lowered_otherwise() -> None:
    assert level("chest pain last year") is URGENT
    assert level("gasping for air last year") is None


def test_the_strongest_match_of_a_text_counts() -> None:
    assert level("no chest pain. no. chest pain!") is EMERGENCY
    assert level("I do not want to die. I want to die") is CRISIS


def test_an_explanation_has_each_match_and_what_lowered_it() -> None:
    (match,) = RULES.explain("He had no chest pain last year")
    assert (match.rule, match.rule_level, match.level, match.words) == ("chest", EMERGENCY, None, "chest pain")
    assert match.lowered == (("negation", "no"), ("past", "last year"))
    (voided,) = RULES.explain("kill for a coffee")
    assert (voided.level, voided.lowered) == (None, (("idiom", "kill for a coffee"),))


def test_an_explanation_has_what_a_rules_own_idiom_voids() -> None:
    (voided,) = RULES.explain("I can't do breathing exercises")
    assert (voided.rule, voided.level, voided.lowered) == ("breathing", None, (("idiom", "breathing exercises"),))


# Sets of rules.


def test_rules_of_some_languages_and_without_some_rules() -> None:
    english = RULES.narrowed(languages=["en"], without=["chest"])
    assert english.languages == ("en",)
    assert found("chest pain, tự tử, suicide", english) == {"suicide": CRISIS}
    assert len({RULES.version, english.version, RULES.narrowed(languages=["en"]).version}) == 3


def own_rules(source: dict[str, Any]) -> dict[str, Any]:
    known = {language["language"]: language for language in RULES.compiled}
    return compiled_language(source, known.get(source["language"]))


def test_own_rules_use_the_shipped_groups() -> None:
    own = own_rules(
        {
            "language": "en",
            "words": {"inhaler": ["inhaler", "puffer"]},
            "rules": [
                {"id": "own-1", "level": "urgent", "about": "x", "phrases": ["<inhaler> <cannot>", "gasping for air"]}
            ],
        }
    )
    rules = RULES.extended([own])
    assert found("puffer cannot", rules) == {"own-1": URGENT}
    assert found("gasping for air", rules) == {"breathing": EMERGENCY, "own-1": URGENT}
    assert found("không đau ngực. chest pain. no chest pain", rules) == {"chest": EMERGENCY}
    assert found("puffer cannot in the film", rules) == {}, "the shipped cues lower an own rule"
    assert found("a pufffer cannot", rules) == {"own-1": URGENT}
    assert found("puffer cannot") == {}
    assert rules.version not in (RULES.version, RULES.extended([]).version)
    assert rules.version == RULES.extended([own]).version


def test_own_rules_change_no_shipped_rule() -> None:
    """Their idioms, cues, spellings and words are their own."""
    own = own_rules(
        {
            "language": "en",
            "idioms": ["chest pain"],
            "unlike": ["overdse"],
            "spellings": {"gaspin": "gardening"},
            "cues": {"negation": {"before": ["hello"]}},
            "rules": [{"id": "own-1", "level": "urgent", "about": "x", "phrases": ["chest pain", "flu"]}],
        }
    )
    rules = RULES.extended([own])
    for text in ("chest pain", "hello chest pain", "gaspin for air", "I am gasping for air"):
        assert found(text, rules) == found(text), text
        assert level(text, rules) is EMERGENCY
    assert found("hello flu", rules) == {}
    assert found("flu", rules) == {"own-1": URGENT}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"rules": [{"id": "chest", "level": "urgent", "about": "x", "phrases": ["y"]}]}, "another rule has this id"),
        ({"words": {"chest": ["y"]}}, "the shipped rules have this group"),
        ({"spellings": {"breathe": "y"}}, "is a word of the shipped rules"),
    ],
)
def test_own_rules_take_no_name_of_a_shipped_one(changes: dict[str, Any], problem: str) -> None:
    rule = {"id": "own-1", "level": "urgent", "about": "x", "phrases": ["y"]}
    with pytest.raises(RulesRefused, match=problem):
        own_rules({"language": "en", "rules": [rule]} | changes)


def test_own_rules_may_be_of_a_new_language() -> None:
    own = own_rules(
        {"language": "de", "rules": [{"id": "de-1", "level": "urgent", "about": "x", "phrases": ["hohes Fieber"]}]}
    )
    assert found("Hohes Fieber", RULES.extended([own])) == {"de-1": URGENT}


def test_the_version_is_a_digest_of_the_rules() -> None:
    assert rules_of(ENGLISH, VIETNAMESE).version == RULES.version
    assert rules_of(ENGLISH).version != RULES.version
