"""What can be counted of plain English, over docs, docstrings and comments: `make lint` runs this.

    python -m tests.prose                      # exit code 1 if a sentence is too long, or a word is too vague
    python -m tests.prose docs/protocol.md     # some files, or all below a folder

A file's sentences have at most 18 words on average, and none has more than 35. No sentence says *whoever* or *somebody*
where a component could be named. Code, diagrams and quotations are not counted.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
MOST_WORDS = 35
MOST_ON_AVERAGE = 18
#: A file with fewer sentences has no average worth the name.
FEW_SENTENCES = 5
#: They stand where a worker, a request, a process or a client should.
VAGUE = re.compile(
    r"\b(whoever|whomever|whosoever|somebody|someone|nobody|anybody|anyone|everybody|everyone)\b", re.IGNORECASE
)

_FENCE = re.compile(r"^ *(```|~~~)")
_COMMENT = {".sql": "--", ".lua": "--", ".yaml": "#", ".toml": "#"}
#: A comment for programs.
_MARK = re.compile(r"(noqa|type:|guard:|nosec|pragma|fmt:|!)")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]*_]*\s+|(?<=[.!?])\s*$")


class Sentence(NamedTuple):
    path: Path
    line: int
    text: str

    @property
    def words(self) -> int:
        return sum(1 for word in self.text.split() if re.search(r"\w", word))


def sentences_of(path: Path, line: int, text: str) -> Iterator[Sentence]:
    """The sentences of a paragraph that begins on a line."""
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"``[^`]*``|`[^`]*`", "code", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"https?://\S+", "link", text)
    text = re.sub(r"\"[^\"\n]{1,120}\"|“[^”]*”", "quotation", text)
    text = re.sub(r"\b(e\.g|i\.e|etc|vs|cf)\.", r"\1", text)
    for sentence in _SENTENCE_END.split(" ".join(text.split())):
        if sentence.strip():
            yield Sentence(path, line, sentence.strip())


def paragraphs_of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """Paragraphs, list items and cells of tables; headings and code are left out."""
    fenced, start, lines = False, 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if _FENCE.match(line):
            fenced = not fenced
            line = ""
        elif fenced:
            continue
        stripped = line.strip()
        begins = re.match(r"([-*+]|\d+\.) ", stripped)
        ends = not stripped or stripped.startswith(("#", "|", ">", "<")) or (line.startswith("    ") and not lines)
        if (ends or begins) and lines:
            yield start, " ".join(lines)
            lines = []
        if stripped.startswith("|"):
            for cell in re.split(r"(?<!\\)\|", stripped.strip("|")):
                yield number, cell
        elif not ends:
            if not lines:
                start = number
            lines.append(stripped[begins.end() :] if begins else stripped)


def paragraphs_of_docstring(text: str) -> Iterator[tuple[int, str]]:
    """As of Markdown; what is indented deeper is a diagram or code."""
    first, *rest = text.split("\n")
    indent = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=0)
    lines = [first, *(line[indent:] for line in rest)]
    kept = [line if index == 0 or not line.startswith("  ") else "" for index, line in enumerate(lines)]
    yield from paragraphs_of_markdown("\n".join(kept))


def paragraphs_of_python(source: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                for line, text in paragraphs_of_docstring(first.value.value):
                    yield first.lineno + line - 1, text
    comments = [
        token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type == tokenize.COMMENT
    ]
    yield from _joined([(token.start[0], token.start[1], token.string.lstrip("#: ")) for token in comments])


def paragraphs_of_comments(source: str, sign: str) -> Iterator[tuple[int, str]]:
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        match = re.match(rf"( *){re.escape(sign)}+ ?(.*)", line)
        if match and not match[2].startswith("name:"):
            found.append((number, len(match[1]), match[2]))
    yield from _joined(found)


def _joined(comments: list[tuple[int, int, str]]) -> Iterator[tuple[int, str]]:
    """Comments on lines that follow each other, in the same column, are one paragraph."""
    start, lines, place = 0, list[str](), (0, 0)
    for number, column, text in [*comments, (0, 0, "")]:
        text = "" if _MARK.match(text) or text.startswith(" ") else text.strip("─ ")
        if lines and (not text or (number, column) != place):
            yield start, " ".join(lines)
            lines = []
        if text:
            start = start if lines else number
            lines.append(text)
        place = (number + 1, column)


def sentences(path: Path) -> list[Sentence]:
    """All that a file says to its readers."""
    text = path.read_text()
    if path.suffix == ".md":
        found = paragraphs_of_markdown(text)
    elif path.suffix == ".py":
        found = paragraphs_of_python(text)
    else:
        found = paragraphs_of_comments(text, _COMMENT[path.suffix])
    return [sentence for line, paragraph in found for sentence in sentences_of(path, line, paragraph)]


def faults(path: Path) -> Iterator[str]:
    found = sentences(path)
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    for sentence in found:
        if sentence.words > MOST_WORDS:
            yield f"{shown}:{sentence.line}: {sentence.words} words: {sentence.text[:100]}…"
        for vague in VAGUE.findall(sentence.text):
            yield f"{shown}:{sentence.line}: “{vague}”: name who it is: {sentence.text[:100]}"
    average = sum(sentence.words for sentence in found) / max(len(found), 1)
    if len(found) >= FEW_SENTENCES and average > MOST_ON_AVERAGE:
        yield f"{shown}: {average:.1f} words a sentence on average, of {len(found)} sentences"


def files(below: list[str]) -> list[Path]:
    """The files that Git knows of, and that people read."""
    listed = subprocess.run(["git", "ls-files", "--", *below], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in listed.stdout.splitlines()]
    # Migrations and the statements of released versions never change.
    frozen = re.compile(r"sql/(migrations|schema\.sql)|tests/migrations/|requirements/")
    return [path for path in paths if path.suffix in {".md", ".py", *_COMMENT} and not frozen.search(str(path))]


def main() -> int:
    found = [fault for path in files(sys.argv[1:]) for fault in faults(path)]
    print("\n".join(found) if found else "No sentence is too long, and no word too vague.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
