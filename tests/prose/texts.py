"""Where a file speaks to people: its paragraphs, each with its line. Code and diagrams are left out."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import yaml

#: A line's number, and the paragraph that begins there.
type Texts = Iterator[tuple[int, str]]

#: A string of fewer words is a name, a key or a label.
_WORDS_OF_A_TEXT = 4
_STATEMENT = re.compile(r"\s*(select|insert|update|delete|with|create|alter|drop) ")
_FENCE = re.compile(r" *(```|~~~)")
_ITEM = re.compile(r"(?:[-*+]|\d+\.) +")
#: Columns, or the lines of a drawing.
_DIAGRAM = re.compile(r"\S {3,}\S|[│┌┐└┘├┤┬┴┼▲▼▶◀]|──+|--+>|={3,}>")
#: Comments that speak to programs.
_MARK = re.compile(r"noqa|type: ignore|guard:|nosec|pragma|fmt:|mypy:|nolint|eslint|cfn-lint|checkov|!|/usr/bin")


def texts_of(path: Path) -> Texts:
    yield from _reader(path)(path.read_text())


def can_read(path: Path) -> bool:
    return path.name == "Makefile" or path.suffix in _READERS


def markdown(source: str) -> Texts:
    """Paragraphs, list items, quoted notes and the cells of tables. Headings and code are left out."""
    fence, start, lines = "", 1, list[str]()
    for number, line in enumerate([*source.splitlines(), ""], 1):
        mark = _FENCE.match(line)
        if mark and fence in {"", mark[1]}:
            fence = "" if fence else mark[1]
            line = ""
        elif fence:
            continue
        text = line.strip().removeprefix(">").strip()
        item = _ITEM.match(text)
        is_table = text.startswith("|")
        is_code = line.startswith("    ") and not lines and not item
        is_other = not text or text.startswith(("#", "<")) or is_code or (_DIAGRAM.search(text) and not item)
        if lines and (is_other or is_table or item):
            yield start, " ".join(lines)
            lines = []
        if is_table:
            yield from ((number, cell) for cell in re.split(r"(?<!\\)\|", text.strip("|")) if re.search(r"\w", cell))
        elif not is_other:
            start = start if lines else number
            lines.append(text[item.end() :] if item else text)


def indented_text(source: str, indent: int = 0) -> Texts:
    """As Markdown. A line that is indented further is code or a diagram, unless it continues a list's item."""
    kept, in_item, in_example = [], False, False
    for index, line in enumerate(source.splitlines()):
        line = line.strip() if index == 0 else line[indent:] if line[:indent].isspace() else line.rstrip()
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        in_item = bool(_ITEM.match(line.strip())) or (in_item and line.startswith("  "))
        kept.append("" if in_example or (line.startswith("  ") and not in_item) else line)
    yield from markdown("\n".join(kept))


def python(source: str) -> Texts:
    yield from _python(source, [ast.parse(source)])


def python_test(source: str) -> Texts:
    """As other Python. A test's strings are what a patient or a store says, apart from the messages of its failures."""
    asserts = [node.msg for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert) and node.msg]
    yield from _python(source, asserts)


def _python(source: str, spoken: Iterable[ast.AST]) -> Texts:
    """Docstrings, comments, and the strings in these nodes."""
    docstrings = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and ast.get_docstring(node):
                docstrings.add((first.value.lineno, first.value.col_offset))
                for line, text in indented_text(str(first.value.value), first.col_offset):
                    yield first.lineno + line - 1, text
    for node in spoken:
        yield from _strings(node, docstrings)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = [token for token in tokens if token.type == tokenize.COMMENT]
    yield from _joined(
        [
            (token.start[0], token.line[: token.start[1]], re.sub(r"^#+:? ?| *# noqa.*", "", token.string))
            for token in comments
        ]
    )


def _strings(node: ast.AST, docstrings: set[tuple[int, int]]) -> Texts:
    """Error texts, log messages, descriptions. An f-string's values are one word each."""
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "value" for part in node.values]
        yield from _spoken(node.lineno, "".join(parts))
    elif (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and (node.lineno, node.col_offset) not in docstrings
    ):
        yield from _spoken(node.lineno, node.value)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _strings(child, docstrings)


def _spoken(line: int, text: str) -> Texts:
    """A string, if it speaks to people: it has words, and no sign that it is a statement or a pattern."""
    if _STATEMENT.match(text):
        return
    words = re.findall(r"(?<!\S)[\"'(“]?[A-Za-z][a-z’'-]*[,.:;!?)\"'”]*(?!\S)", text)
    if len(words) >= _WORDS_OF_A_TEXT and len(words) * 2 > len(text.split()):
        for at, paragraph in indented_text(text):
            yield line + at - 1, paragraph


def comments(sign: str) -> Callable[[str], Texts]:
    """A reader of comments that begin with a sign, on lines of their own or behind code."""
    comment = re.compile(rf"((?:[^'\"]|'[^']*'|\"[^\"]*\")*?)(?<!\S){re.escape(sign)}+:?(?: (.*)|$)")

    def read(source: str) -> Texts:
        found = []
        for number, line in enumerate(source.splitlines(), 1):
            if match := comment.match(line):
                # Statements are named for the program that loads them.
                text = match[2] or ""
                found.append((number, match[1], "" if text.startswith("name:") else text))
        yield from _joined(found)

    return read


def _joined(comments: list[tuple[int, str, str]]) -> Texts:
    """Comments, each with its line and the code before it. Comments on lines in sequence are one text."""
    start, lines, place = 0, list[str](), (0, "")
    for line, code, text in [*comments, (0, "", "")]:
        text = "" if _MARK.match(text) else text
        if lines and (code.strip() or (line, code) != place):
            for at, paragraph in indented_text("\n".join(lines)):
                yield start + at - 1, paragraph
            lines = []
        start = start if lines else line
        lines.append(text)
        place = (line + 1, code)


def yaml_file(source: str) -> Texts:
    yield from comments("#")(source)
    for line, text in _scalars(yaml.compose(source, Loader=yaml.SafeLoader)):
        yield from _spoken(line, text)


def _scalars(node: yaml.Node | None) -> Texts:
    if isinstance(node, yaml.ScalarNode):
        yield node.start_mark.line + 1, str(node.value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _scalars(child)
    elif isinstance(node, yaml.MappingNode):
        for _, child in node.value:
            yield from _scalars(child)


_JAVASCRIPT = re.compile(
    r"//(?P<line>[^\n]*)|/\*(?P<block>.*?)\*/|(?P<quote>[\"'`])(?P<string>(?:\\.|(?!(?P=quote)).)*)(?P=quote)",
    re.DOTALL,
)


def javascript(source: str) -> Texts:
    """Comments and strings. A template's values are one word each."""
    found = []
    for match in _JAVASCRIPT.finditer(source):
        line = source.count("\n", 0, match.start()) + 1
        code = source[source.rfind("\n", 0, match.start()) + 1 : match.start()]
        if match["line"]:
            found.append((line, code, match["line"].removeprefix(" ")))
        elif match["block"]:
            text = re.sub(r"(?m)^\s*\* ?", "", match["block"].strip("* "))
            yield from ((line + at - 1, paragraph) for at, paragraph in indented_text(text))
        elif match["string"]:
            yield from _spoken(line, re.sub(r"\$\{[^}]*\}", "value", match["string"]))
    yield from _joined(found)


class _Page(HTMLParser):
    """A page's texts, and the attributes that a browser shows or reads out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[int, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"title", "placeholder", "alt", "aria-label", "content"} and value:
                self.found.append((self.getpos()[0], value))

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append((self.getpos()[0], data))

    handle_comment = handle_data


def html(source: str) -> Texts:
    page = _Page()
    page.feed(source)
    for line, text in page.found:
        yield from _spoken(line, text)


_READERS: dict[str, Callable[[str], Texts]] = {
    ".md": markdown,
    ".py": python,
    ".js": javascript,
    ".cjs": javascript,
    ".ts": javascript,
    ".css": javascript,
    ".html": html,
    ".yaml": yaml_file,
    ".sql": comments("--"),
    ".lua": comments("--"),
    ".sh": comments("#"),
    ".toml": comments("#"),
    ".in": comments("#"),
}


def _reader(path: Path) -> Callable[[str], Texts]:
    if path.name == "Makefile" or (path.parent.name == "rules" and path.suffix == ".yaml"):
        return comments("#")  # the safety rules' texts are patients' own words
    return python_test if path.name.startswith("test_") and path.suffix == ".py" else _READERS[path.suffix]
