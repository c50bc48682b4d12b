"""What makes a sentence hard to read, as far as it can be counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.prose.texts import texts_of

MOST_WORDS = 35
MOST_ON_AVERAGE = 18
#: A file with fewer sentences is not held to the average.
FEW_SENTENCES = 5

#: These stand where a worker, a request, a process, a client or a reader should.
_VAGUE = re.compile(r"\b((?:who(?:m|so|mso)?ever)|(?:some|any|every)(?:body|one)|nobody|no[ -]one)\b", re.IGNORECASE)
#: Phrases that sound translated, and what to write instead.
_AWKWARD = {
    re.compile(
        r"\bso (?:long|many)\b(?! (?:\w+ )?(?:as|that)\b)", re.IGNORECASE
    ): "say how long, or how many, and of what",
    re.compile(r"\bin vain\b", re.IGNORECASE): "say what failed",
    re.compile(r"\bso many as\b", re.IGNORECASE): "write “up to 3”",
    re.compile(r"\bbelongs? into\b", re.IGNORECASE): "write “must be sent in …” or “belongs in …”",
    re.compile(r"\bfor that (?:it|they|no|nothing|none)\b", re.IGNORECASE): "write “so that …”",
    re.compile(r"\btold ones\b", re.IGNORECASE): "name the things",
    re.compile(r"^Of what\b"): "begin with the subject",
}

_CODE = re.compile(r"``[^`]+``|`[^`]+`")
_QUOTATION = re.compile(r"\"[^\"]{1,120}\"|“[^”]*”|(?<!\w)'[^']{1,120}'(?!\w)|(?<![\w*])\*\w+\*(?![\w*])")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_ADDRESS = re.compile(r"\b[a-z]+://\S*\w")
_TAG = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|approx)\.")
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])[\"')\]*_]*\s+")


class Sentence(NamedTuple):
    line: int
    text: str

    @property
    def words(self) -> int:
        return sum(1 for word in self.text.split() if re.search(r"\w", word))

    @property
    def is_whole(self) -> bool:
        """Whether it ends as a sentence does. A table's cell or a label often doesn't: averages leave it out."""
        return bool(re.search(r"[.!?:][\"')\]*_]*$", self.text))


def sentences_of(line: int, text: str) -> Iterator[Sentence]:
    """The sentences of a paragraph that begins on this line. Code, a link or a quotation is one word."""
    text = _CODE.sub("code", " ".join(text.split()))
    text = _LINK.sub(r"\1", _TAG.sub("", text))
    text = _QUOTATION.sub("quotation", _ADDRESS.sub("link", text))
    text = _ABBREVIATION.sub(r"\1", text)
    for sentence in _BETWEEN_SENTENCES.split(text):
        if sentence.strip():
            yield Sentence(line, sentence.strip())


def sentences(path: Path) -> list[Sentence]:
    """All that a file says to people."""
    return [sentence for line, text in texts_of(path) for sentence in sentences_of(line, text)]


def faults(path: Path) -> Iterator[str]:
    """What is hard to read in a file: the line, the rule, and the sentence's beginning."""
    found = sentences(path)
    for sentence in found:
        if sentence.words > MOST_WORDS:
            yield f"{sentence.line}: {sentence.words} words, of at most {MOST_WORDS}: {sentence.text[:100]}…"
        for vague in _VAGUE.findall(sentence.text):
            yield f"{sentence.line}: “{vague}”: name who it is: {sentence.text[:100]}"
        for phrase, advice in _AWKWARD.items():
            if match := phrase.search(sentence.text):
                yield f"{sentence.line}: “{match[0]}”: {advice}: {sentence.text[:100]}"
    whole = [sentence.words for sentence in found if sentence.is_whole]
    if len(whole) >= FEW_SENTENCES and (mean := sum(whole) / len(whole)) > MOST_ON_AVERAGE:
        yield f"1: {mean:.1f} words a sentence on average, of at most {MOST_ON_AVERAGE} ({len(whole)} sentences)"
