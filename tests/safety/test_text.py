"""A text is read without case, marks, disguise and punctuation, and each word keeps its place."""

from __future__ import annotations

import random

import pytest

from message_handler.domain.safety import Level
from message_handler.safety.misspelt import Misspelt, is_one_error
from message_handler.safety.text import NO_MARKS, Text, marks_of, squeezed_form, undrawn
from tests.safety.samples import found, rules_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I CAN'T breathe!", "i cant breathe"),
        ("I can\u2019t", "i cant"),
        ("chest-pain,now", "chest pain now"),
        ("snake_case", "snake case"),
        ("\uff53\uff55\uff49\uff43\uff49\uff44\uff45", "suicide"),
        ("su\u200bici\u00adde", "suicide"),
        ("\u202esuicide\u202c", "suicide"),
        ("ѕuісіdе", "suicide"),
        ("ѕυιсιԁε", "suicide"),
        ("su1c1de", "suicide"),
        ("$uic!de", "suic de"),
        ("$u1cide @buse k3tamine", "suicide abuse ketamine"),
        ("911 at 10", "911 at 10"),
        ("$500 @ 5$", "500 5"),
        ("tự tử", "tu tu"),
        ("tu\u031b\u0323 tu\u031b\u0309", "tu tu"),
        ("Đau quá", "dau qua"),
        ("𝐤𝐢𝐥𝐥 ⓚⓘⓛⓛ", "kill kill"),
        ("", ""),
        ("?! …", ""),
        ("🔪", ""),
    ],
)
def test_words_in_their_plain_form(text: str, words: str) -> None:
    assert " ".join(Text(text).words) == words


def test_each_word_keeps_its_place() -> None:
    text = "Ngực  tôi, ѕuісіdе!"
    assert [text[start:end] for start, end in Text(text).spans] == ["Ngực", "tôi", "ѕuісіdе"]


def test_a_one_is_an_i_or_an_l() -> None:
    assert found("k1ll") == found("ki1l") == found("k111") == found("kill")


def test_repeated_letters_count_once() -> None:
    assert squeezed_form("passsed") == "pased"
    assert found("suuuicide") == found("suicide") == found("suicidee")


def test_a_short_word_with_a_doubled_letter_is_another_word() -> None:
    assert found("an odd feeling") == {}
    assert found("od") == found("ODDD") == found("overdose")


def test_three_of_a_letter_in_a_row_are_drawn_out() -> None:
    assert undrawn("killlll meee")[1:] == ("kill mee", "kill me", "kil mee", "kil me")
    assert undrawn("too") == ("too",)
    assert undrawn("aaabbbcccddd")[-1] == "abcd"
    assert len(undrawn("aaabbbccc" * 100)) == 9


@pytest.mark.parametrize("text", ["iii wish i coulddd dieee", "tired offf lifeee", "tired of life", "badddly offf"])
def test_the_first_known_form_of_a_word_that_is_drawn_out(text: str) -> None:
    phrases = ["i wish i could die", "tired of life", "badly off"]
    rules = rules_of(
        {"language": "en", "rules": [{"id": "r", "level": "urgent", "about": "x", "phrases": phrases}]},
    )
    assert found(text, rules)


def test_an_unsure_word_holds_nothing_back() -> None:
    rules = rules_of(
        {
            "language": "en",
            "idioms": ["off my chest"],
            "rules": [{"id": "r", "level": "urgent", "about": "x", "phrases": ["middle of my chest"]}],
        },
    )
    assert found("pain in the middle offf my chest", rules)
    assert found("the middle of my chest, off my chesttt", rules)


@pytest.mark.parametrize("apostrophe", ["'", "\u2019", "`", "\u02bc"])
@pytest.mark.parametrize("end", ["s", "S", "ve", "ll", "d", "re"])
def test_a_contraction_is_read_without_its_end(apostrophe: str, end: str) -> None:
    assert found(f"my chest{apostrophe}{end} tight") == {"chest": Level.EMERGENCY}


def test_a_contraction_that_is_a_word_of_the_rules_is_read_in_both_ways() -> None:
    phrases = ["ill and weak", "i fainted", "mouths dry"]
    rules = rules_of(
        {"language": "en", "rules": [{"id": "r", "level": "urgent", "about": "x", "phrases": phrases}]},
    )
    assert found("I'll and weak", rules)
    assert found("I'll fainted", rules)
    assert found("mouth's dry", rules)


def test_marks_are_one_for_each_letter_and_a_tone() -> None:
    assert marks_of("tự") == ("-+", ".")
    assert marks_of("đường") == ("d++--", "`")
    assert marks_of("hoà") == marks_of("hòa")
    assert marks_of("tử") == marks_of("tữ")
    assert marks_of("đau") == ("d--", "")
    assert marks_of("cafe") == NO_MARKS
    assert marks_of("ngựcc").letters == marks_of("ngực").letters


def test_sentences_end_at_their_signs_and_parts_at_commas_too() -> None:
    sentences, parts = Text("One, two. Three 39.5 and 39,5; four\nfive").breaks
    assert sentences == [2, 8, 9]
    assert parts == [1, 2, 8, 9]


def nearest(words: list[str], word: str) -> set[str]:
    return {meant for meant in words if is_one_error(word, meant)}


def test_the_index_of_typing_errors_misses_none() -> None:
    choose = random.Random(0)
    words = sorted({"".join(choose.choices("abc", k=choose.randint(5, 8))) for _ in range(300)})
    words = [word for word in words if squeezed_form(word) == word]
    index = Misspelt({word: word for word in words})
    for _ in range(2000):
        word = "".join(choose.choices("abc", k=choose.randint(5, 8)))
        near = nearest(words, word)
        assert (index.meant(word) in near) if near else index.meant(word) is None, word


@pytest.mark.parametrize("word", ["abcd", "bcde", "bacde", "abced", "axcde", "xabcde", "abcdex", "abdce", "abcxde"])
def test_one_error(word: str) -> None:
    assert is_one_error(word, "abcde")
    assert is_one_error("abcde", word)


@pytest.mark.parametrize("word", ["badce", "abc", "axxde", "abcdexx", "edcba"])
def test_more_than_one_error(word: str) -> None:
    assert not is_one_error(word, "abcde")
    assert not is_one_error("abcde", word)


@pytest.mark.parametrize(
    "text", ["can&#39;t breathe", "can&apos;t breathe", "can&#X2019;t&nbsp;breathe", "c&aacute;n&rsquo;t breathe"]
)
def test_a_character_that_a_platform_escapes_is_read_in_its_place(text: str) -> None:
    read = Text(text)
    assert read.words == ["cant", "breathe"]
    assert [text[start:end] for start, end in read.spans][1] == "breathe"
    assert len(read.original) == len(text)


@pytest.mark.parametrize("text", ["fish & chips;", "&unknown;", "&#1114112;", "&#0;", "&;", "&amp"])
def test_what_is_no_escape_stays(text: str) -> None:
    assert len(Text(text).original) == len(text)
