"""People's texts: characters that can't be stored, texts without words, and texts of the same words."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

#: The deepest nesting of objects and lists. Other JSON parsers, which get our JSON later, allow less than Python's.
MAX_DEPTH = 32
#: Stands for a character that can't be stored.
REPLACEMENT = "\ufffd"

#: Unicode's categories of blanks, control characters and format characters. The latter are zero-width spaces and
#: joiners, marks of direction, the byte order mark, the word joiner, the soft hyphen and the like.
_INVISIBLE = frozenset({"Zs", "Zl", "Zp", "Cc", "Cf"})
#: Other characters that show nothing: those that Unicode calls default-ignorable (variation selectors, Hangul fillers,
#: …), and the empty Braille pattern, which many use as a blank.
_IGNORABLE = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xFFF0, 0xFFF9),
        ),
    )
)
_IGNORABLE_PLANE = range(0xE0000, 0xE1000)
#: The no-break space and its relatives: all blanks of Unicode (category Zs) but the plain one.
_OTHER_BLANKS = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]")


def is_storable(text: str) -> bool:
    """Whether UTF-8 and Postgres can hold the text: it has no U+0000 and no lone surrogate."""
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def storable(text: str) -> str:
    """The text with U+FFFD in place of each U+0000 and lone surrogate. Two halves that stand together become one
    character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", REPLACEMENT)


def all_storable(value: Any, depth: int = 1) -> Any:
    """JSON with each text `storable`, keys too. What is nested more than `MAX_DEPTH` deep stays as it is.

    Keys that would become the same are told apart by a further U+FFFD.
    """
    if isinstance(value, str):
        return storable(value)
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, list):
        return [all_storable(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    result: dict[Any, Any] = {}
    for name, item in value.items():
        key = storable(name) if isinstance(name, str) and not is_storable(name) else name
        while key is not name and (key in value or key in result):
            key += REPLACEMENT
        result[key] = all_storable(item, depth + 1)
    return result


def is_wordless(text: str) -> bool:
    """Whether the text shows nothing: it is empty, or has only blanks and invisible characters."""
    return all(map(_shows_nothing, text))


def _shows_nothing(character: str) -> bool:
    return (
        unicodedata.category(character) in _INVISIBLE or character in _IGNORABLE or ord(character) in _IGNORABLE_PLANE
    )


def words_of(text: str) -> str:
    """The form in which texts are compared: texts with the same form have the same words.

    It is Unicode's NFC, with `\\n` at the end of a line, with plain blanks, and without blanks at both ends. Most texts
    have this form already.
    """
    if not text.isascii():
        if not unicodedata.is_normalized("NFC", text):
            text = unicodedata.normalize("NFC", text)
        text = _OTHER_BLANKS.sub(" ", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.strip()
