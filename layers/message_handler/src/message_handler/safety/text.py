"""A text as the safety rules read it: words in a plain form, without case, marks, disguise or punctuation.

The plain form serves matching alone. Each word keeps its place in the original text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from itertools import accumulate, product
from typing import Final, NamedTuple

#: Characters that show nothing: zero-width blanks and joiners, marks of direction, variation selectors and fillers.
_INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
)
_APOSTROPHES: Final = "'`\u00b4\u02b9\u02bb\u02bc\u02bd\u02c8\u2018\u2019\u201b\u2032\uff07"
_COMBINING: Final = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
#: Letters in circles, squares and brackets, which Python does not count as letters.
_ENCLOSED: Final = "\u249c-\u24e9\U0001f110-\U0001f149"
_SIGNS_OF_LETTERS: Final = "@$\uff20\uff04"
#: A word starts with a letter, a digit, or signs before them. The lookbehind keeps a long row of signs linear.
_WORD: Final = re.compile(
    rf"(?<![{_SIGNS_OF_LETTERS}])([{_SIGNS_OF_LETTERS}]*+[\w{_ENCLOSED}]"
    rf"[\w{_SIGNS_OF_LETTERS}{_APOSTROPHES}{_INVISIBLE}{_COMBINING}{_ENCLOSED}]*)"
)
#: The same words in ASCII, which most texts are.
_ASCII_WORD: Final = re.compile(r"(?<![@$])([@$]*+\w[\w@$'`]*)", re.ASCII)
_SENTENCE_END: Final = re.compile(r"[!?;\n\r\u2028\u2029\u2026\u3002\uff01\uff1f\uff1b\uff0e.]")
_COMMA: Final = re.compile(r"[,\uff0c\u3001]")

#: A character as a platform may escape it: can&#39;t.
_ENTITY: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});")

#: Letters of other scripts that look like a Latin letter, in lower case and without marks.
_LOOK_ALIKES: Final = {
    "a": "аαɑᴀ",
    "b": "вьʙ",
    "c": "сϲᴄ",
    "d": "ԁđðᴅɖ",
    "e": "еεєᴇə",
    "f": "ƒ",
    "g": "ɡɢ",
    "h": "һнħʜ",
    "i": "іιıɪӏ",
    "j": "јᴊȷ",
    "k": "кκᴋ",
    "l": "łʟⅼ",
    "m": "мᴍ",
    "n": "ηпɴ",
    "o": "оοσøᴏօ",
    "p": "рρᴘ",
    "q": "ԛ",
    "r": "гʀɾ",
    "s": "ѕꜱ",
    "t": "тτᴛŧ",
    "u": "υцᴜս",
    "v": "νѵᴠ",
    "w": "ԝωᴡѡ",
    "x": "хχ",
    "y": "уγʏү",
    "z": "ᴢ",
    "ss": "ß",
    "ae": "æ",
    "oe": "œ",
    "th": "þ",
}
_LETTERS: Final = str.maketrans(
    {other: letter for letter, others in _LOOK_ALIKES.items() for other in others}
    | dict.fromkeys(_APOSTROPHES + " ()", "")
)
_ASCII_LETTERS: Final = str.maketrans("", "", "'` ()")
_UNSEEN: Final = re.compile(f"[{_INVISIBLE}{_COMBINING}]+")
#: Digits and signs that may stand in the place of a letter.
_DISGUISE: Final = re.compile(r"[01345@$]")
_LETTER: Final = re.compile(r"[^\W\d_]")
_RUN: Final = re.compile(r"([^\W\d_])\1+")
#: Three of a letter in a row are in no word: they are drawn out. Only the first such runs are read in both ways.
_DRAWN: Final = re.compile(r"([^\W\d_])\1\1+")
_MOST_DRAWN: Final = 3
_AN_APOSTROPHE: Final = re.compile(f"[{_APOSTROPHES}]")
#: One such word in each line. A search that starts within a line would make a long word's time quadratic.
_WITH_AN_APOSTROPHE: Final = re.compile(f"^[^\\n{_APOSTROPHES}]*+[{_APOSTROPHES}].*", re.MULTILINE)
_SIGNS: Final = str.maketrans({"0": "o", "3": "e", "4": "a", "5": "s", "@": "a", "$": "s"})
_NO_SIGNS: Final = str.maketrans("", "", "@$")
#: A 1 stands for an i or an l. Only the first ones of a word are read in both ways.
_MOST_ONES: Final = 3

#: Vietnamese marks in their combining forms. Hỏi and ngã are one mark, because many people mix them up.
_TONES: Final = {"\u0300": "`", "\u0301": "'", "\u0303": "?", "\u0309": "?", "\u0323": "."}
_QUALITIES: Final = {"\u0302": "^", "\u0306": "(", "\u031b": "+"}
_PLAIN: Final = "-"
#: The most letters of a Vietnamese syllable.
_SYLLABLE: Final = 7
#: The characters whose marks are computed once: all others are rare.
_VIETNAMESE: Final = "abcdeghiklmnopqrstuvxyàáảãạăằắẳẵặâầấẩẫậđèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵ"


class Marks(NamedTuple):
    """The Vietnamese marks of a word: one for each letter of its squeezed form, and its tone.

    The tone belongs to the word, because people write it on different vowels: hòa and hoà.
    """

    letters: str
    tone: str

    def allow(self, other: Marks) -> bool:
        """Whether the other word has no mark that this word lacks."""
        if other.tone and other.tone != self.tone:
            return False
        # A word without any marks has no letters here.
        own = self.letters or _PLAIN * len(other.letters)
        return all(theirs in (_PLAIN, mark) for mark, theirs in zip(own, other.letters, strict=False))


NO_MARKS: Final = Marks("", "")


class Text:
    """A text's words in their plain form, each with its place in the original."""

    def __init__(self, original: str) -> None:
        if "&" in original:
            original = _ENTITY.sub(_character, original)
        self.original: Final = original.replace("_", " ")
        pattern = _ASCII_WORD if original.isascii() else _WORD
        self._marks: Final[dict[str, Marks]] = {}
        #: What stands before each word, the word, and so on. The last piece stands behind the last word.
        self._pieces: Final[list[str]] = pattern.split(self.original)
        #: The words as they are written, and the same words in their plain form.
        self.raw: Final = self._pieces[1::2]
        distinct = list(dict.fromkeys(self.raw))
        plain = dict(zip(distinct, plain_forms(distinct), strict=True))
        self.words: Final = list(map(plain.__getitem__, self.raw))
        #: For each word in plain form the squeezed form, without repeated letters.
        self.squeezed: Final = squeezed_forms(set(plain.values()))
        #: Other readings of words that have a 1 among letters.
        self.readings: Final = {
            plain[word]: readings for word in distinct if "1" in word and (readings := _readings(word, plain[word]))
        }

    @cached_property
    def drawn(self) -> Sequence[str]:
        """The words in plain form that have a letter drawn out: coulddd."""
        shorter = (word for word, squeezed in self.squeezed.items() if len(squeezed) < len(word) - 1)
        return list(filter(_DRAWN.search, shorter))

    @cached_property
    def contracted(self) -> Mapping[str, tuple[str, str]]:
        """The words in plain form that have an apostrophe, each in two pieces: throat, s."""
        words = _WITH_AN_APOSTROPHE.findall("\n".join(dict.fromkeys(self.raw)))
        pieces = [(*before, after) for *before, after in map(_AN_APOSTROPHE.split, words) if after]
        bases = plain_forms(["".join(before) for *before, _ in pieces])
        ends = plain_forms([after for *_, after in pieces])
        return {base + end: (base, end) for base, end in zip(bases, ends, strict=True) if base and end}

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """Where each word stands in the original."""
        ends = list(accumulate(map(len, self._pieces)))
        return list(zip(ends[::2], ends[1::2], strict=False))

    @cached_property
    def breaks(self) -> tuple[list[int], list[int]]:
        """The first words of the sentences, and of all parts: these also start after a comma."""
        sentences: list[int] = []
        parts: list[int] = []
        for word, separator in enumerate(self._pieces[:-1:2]):
            if separator == " " or not word or self._is_inside_a_number(separator, word):
                continue
            if _SENTENCE_END.search(separator):
                sentences.append(word)
                parts.append(word)
            elif _COMMA.search(separator):
                parts.append(word)
        return sentences, parts

    def _is_inside_a_number(self, separator: str, word: int) -> bool:
        """Whether a point or comma stands between digits: 39.5 degrees."""
        return separator in (".", ",") and self.raw[word - 1][-1].isdigit() and self.raw[word][0].isdigit()

    def marks(self, place: int) -> Marks:
        """The Vietnamese marks of a word."""
        word = self.raw[place]
        if word.isascii():
            return NO_MARKS
        if word not in self._marks:
            self._marks[word] = marks_of(word)
        return self._marks[word]


def _character(entity: re.Match[str]) -> str:
    """The character that an entity of HTML stands for, made as long as the entity, so that all places stay."""
    import html  # an import at the top would cost each cold start

    character = html.unescape(entity[0])
    return character + "\u2060" * (len(entity[0]) - len(character))


def plain_forms(words: Sequence[str]) -> list[str]:
    """Each word in lower case and in plain Latin letters. A word without letters and digits becomes empty."""
    if not words:
        return []
    # All words go through each step together, which takes a tenth of the time of one by one.
    lines = "\n".join(words)
    if lines.isascii():
        lines = lines.lower().translate(_ASCII_LETTERS)
    else:
        lines = _UNSEEN.sub("", unicodedata.normalize("NFKD", lines)).lower()
        lines = _UNSEEN.sub("", lines).replace("đ", "d")
        # Most texts are in Latin letters by now, and the next step takes as long as all others.
        lines = lines.translate(_ASCII_LETTERS if lines.isascii() else _LETTERS)
    forms = lines.split("\n")
    if _DISGUISE.search(lines):
        return [word if word.isalpha() else _undisguised(word) for word in forms]
    return forms


def _undisguised(word: str) -> str:
    if not _DISGUISE.search(word):
        return word
    if not _LETTER.search(word):
        return word.translate(_NO_SIGNS)
    return word.translate(_SIGNS).replace("1", "i")


def _readings(raw: str, plain: str) -> tuple[str, ...]:
    """The plain forms of a word in which some of its ones are an l."""
    if not _LETTER.search(plain):
        return ()
    pieces = raw.split("1", _MOST_ONES)
    choices = product("il", repeat=len(pieces) - 1)
    written = ["".join(a + b for a, b in zip(pieces, (*choice, ""), strict=True)) for choice in choices]
    return tuple(form for form in dict.fromkeys(plain_forms(written)) if form != plain)


def plain_form(word: str) -> str:
    """One word in its plain form."""
    return plain_forms([word])[0]


def undrawn(plain: str) -> Sequence[str]:
    """A word, and its forms with two letters or one for each that is drawn out. The last form has one for each."""
    pieces = _DRAWN.split(plain)
    letters = pieces[1::2]
    if not letters:
        return (plain,)
    choices = ((2, 1) if number < _MOST_DRAWN else (1,) for number in range(len(letters)))
    forms = []
    for counts in product(*choices):
        runs = (letter * count for letter, count in zip(letters, counts, strict=True))
        forms.append("".join(piece + run for piece, run in zip(pieces[::2], (*runs, ""), strict=True)))
    return (plain, *forms)


def squeezed_form(plain: str) -> str:
    """One word with each repeated letter written once."""
    return _RUN.sub(r"\1", plain)


def squeezed_forms(plain: Iterable[str]) -> dict[str, str]:
    """For each word the form in which a repeated letter is written once."""
    words = list(plain)
    lines = "\n".join(words)
    return dict(zip(words, _RUN.sub(r"\1", lines).split("\n"), strict=True)) if words else {}


@cache
def marks_in_rules(word: str) -> Marks:
    """`marks_of`, kept for the words of rules."""
    return marks_of(word)


def lacks_marks(word: str, written: str) -> bool | None:
    """Whether a text's word lacks a mark of the rules' word. None if it has one that the rules' word lacks."""
    return _lacks_marks_kept(word, written) if len(word) <= _SYLLABLE else _lacks_marks(word, written)


def _lacks_marks(word: str, written: str) -> bool | None:
    own, marks = marks_of(word), marks_in_rules(written)
    return own != marks if marks.allow(own) else None


#: Only words of the rules are compared, and they are kept one by one. So no text can be read from what is kept.
_lacks_marks_kept: Final = lru_cache(maxsize=16_384)(_lacks_marks)


def marks_of(word: str) -> Marks:
    """The Vietnamese marks of a word as it is written."""
    if word.isascii():
        return NO_MARKS
    letters, marks, tone = "", "", ""
    for character in word:
        letter, mark, own = _MARKED.get(character) or _of_character(character)
        letters += letter
        # A mark that stands behind its letter belongs to it.
        marks = marks + mark if letter else (marks[:-1] + mark if mark else marks)
        tone = own or tone
    if not tone and not marks.strip(_PLAIN):
        return NO_MARKS
    return Marks(_squeezed_marks(letters, marks) if _RUN.search(letters) else marks, tone)


def _of_character(character: str) -> tuple[str, str, str]:
    """A character's letters in plain form, a mark for each of them, and its tone."""
    letters, marks, tone = "", "", ""
    for piece in unicodedata.normalize("NFKD", character).lower():
        if piece in _TONES:
            tone = _TONES[piece]
        elif piece in _QUALITIES:
            marks = marks[:-1] + _QUALITIES[piece]
        elif not _UNSEEN.match(piece):
            plain = piece.translate(_LETTERS).translate(_SIGNS).replace("1", "i")
            letters += plain
            marks += ("d" if piece == "đ" else _PLAIN) * len(plain)
    return letters, marks, tone


def _squeezed_marks(letters: str, marks: str) -> str:
    """One mark for each run of a letter: the run's first one that is not plain."""
    squeezed = ""
    for found in re.finditer(r"(.)\1*", letters):
        run = marks[found.start() : found.end()].strip(_PLAIN)
        squeezed += run[:1] or _PLAIN
    return squeezed


_MARKED: Final = {character: _of_character(character) for character in _VIETNAMESE}
