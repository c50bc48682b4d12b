"""The small words that give a sentence its structure, for each language that has them here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Grammar(NamedTuple):
    """Words in their plain form.

    `contrasts` start a new clause. `alternatives` stand before a list's last item. `subjects` start a sentence of its
    own inside a list. `leading` words stand between a match and a cue in the next clause that speaks of the same.
    `contractions` are ends of words behind an apostrophe: "my throat's swelling". `questions` end a question in front
    of a comma: "có đau không, ..." asks "does it hurt?"
    """

    contrasts: frozenset[str] = frozenset()
    alternatives: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()
    leading: frozenset[str] = frozenset()
    contractions: frozenset[str] = frozenset()
    questions: frozenset[str] = frozenset()

    @property
    def words(self) -> frozenset[str]:
        return self.contrasts | self.alternatives | self.subjects | self.leading | self.questions


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GRAMMARS: Final[Mapping[str, Grammar]] = {
    "en": Grammar(
        contrasts=_words("but however although"),
        alternatives=_words("or nor"),
        subjects=_words("i im ive he she we they it my you there hes shes"),
        leading=_words("but however it its this that they now has have all then and just"),
        contractions=_words("s re ve ll d"),
    ),
    "vi": Grammar(
        contrasts=_words("nhung ma tuy"),
        alternatives=_words("hay hoac"),
        subjects=_words("toi em con chau minh anh chi me bo ba ong tui no chong vo"),
        leading=_words("nhung ma no gio bay da thi cung roi nay"),
        questions=_words("khong"),
    ),
}
