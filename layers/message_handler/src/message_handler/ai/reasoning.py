"""Takes out of a reply what the model thought, which some servers send in the same text, between tags."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: What reasoning stands between, unless the AI core names other tags: <think>…</think>.
REASONING_TAGS = ("think",)


class Reasoning:
    """Takes a text in any pieces, and keeps what a patient may read.

        "<think>She is ", "afraid.</th", "ink>Drink", " water."    →    "Drink water."

    A closing tag without an opening one ends reasoning that began with the text: some servers leave out the first tag.
    What was kept until then is dropped. `starts_open`: the text begins as reasoning, so that nothing is kept before the
    first closing tag.
    """

    def __init__(self, tags: Sequence[str] = REASONING_TAGS, *, starts_open: bool = False) -> None:
        names = "|".join(map(re.escape, tags))
        self._opening = re.compile(f"<(?:{names})>", re.IGNORECASE) if tags else None
        self._closing = re.compile(f"</(?:{names})>", re.IGNORECASE)
        self._tags = tuple(form.lower() for tag in tags for form in (f"<{tag}>", f"</{tag}>"))
        self._inside = starts_open and bool(tags)
        #: The end of the last piece, which may be the beginning of a tag.
        self._rest = ""
        self._kept: list[str] = []

    @property
    def text(self) -> str:
        """What a patient may read so far."""
        if len(self._kept) > 1:
            self._kept = ["".join(self._kept)]
        return self._kept[0] if self._kept else ""

    def add(self, piece: str) -> None:
        if self._opening is None:
            self._kept.append(piece)
            return
        text, self._rest = self._rest + piece, ""
        while text:
            closing = self._closing.search(text)
            opening = None if self._inside else self._opening.search(text, 0, closing.start() if closing else len(text))
            if opening:
                self._keep(text[: opening.start()])
                self._inside, text = True, text[opening.end() :]
            elif closing:
                if not self._inside:
                    self._kept = []
                self._inside, text = False, text[closing.end() :]
            else:
                text, self._rest = self._without_half_a_tag(text)
                if not self._inside:
                    self._keep(text)
                return

    def whole(self) -> str | None:
        """What a patient may read, now that no more comes. None: reasoning has begun within the text, and not ended.

        Half a tag at the end is text.
        """
        if self._inside:
            return None if self.text.strip() else ""
        return self.text + self._rest

    def _keep(self, text: str) -> None:
        # The line ends between reasoning and reply belong to neither.
        self._kept.append(text if self._kept else text.lstrip())
        if self._kept == [""]:
            self._kept = []

    def _without_half_a_tag(self, text: str) -> tuple[str, str]:
        """The text, and the beginning of a tag at its end."""
        start = text.rfind("<")
        half = text[start:] if start >= 0 else ""
        if half and any(tag.startswith(half.lower()) for tag in self._tags):
            return text[:start], half
        return text, ""
