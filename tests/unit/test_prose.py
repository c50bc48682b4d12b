"""The check of plain English: each rule has a sentence that fails it, and what is not prose is not counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.prose.__main__ import main
from tests.prose.rules import faults, sentences


def said(tmp_path: Path, name: str, text: str) -> list[str]:
    """The sentences that the check finds in a file of this name."""
    path = tmp_path / name
    path.write_text(text)
    return [sentence.text for sentence in sentences(path)]


def found(tmp_path: Path, name: str, text: str) -> list[str]:
    """The faults that the check finds in a file of this name."""
    path = tmp_path / name
    path.write_text(text)
    return list(faults(path))


def test_a_sentence_of_35_words_passes_and_one_of_36_fails(tmp_path: Path) -> None:
    assert not found(tmp_path, "page.md", "word " * 34 + "word.")
    [fault] = found(tmp_path, "page.md", "word " * 35 + "word.")
    assert fault.startswith("1: 36 words")


def test_a_mean_of_18_words_passes_and_more_fails(tmp_path: Path) -> None:
    sentence = "word " * 17 + "word.\n\n"
    assert not found(tmp_path, "page.md", sentence * 5)
    [fault] = found(tmp_path, "page.md", sentence * 4 + "word " * 18 + "word.")
    assert "18.2 words a sentence on average" in fault
    assert not found(tmp_path, "page.md", "word " * 29 + "word.")  # one sentence has no average


def test_cells_and_labels_do_not_lower_the_mean(tmp_path: Path) -> None:
    labels = "- a label\n- another label\n" * 20
    assert found(tmp_path, "page.md", labels + "\n" + ("word " * 18 + "word.\n\n") * 5)


@pytest.mark.parametrize(
    "sentence",
    [
        "Whoever comes first takes it.",
        "It is kept for whomever it concerns.",
        "Nobody waits for it.",
        "No one waits for it.",
        "Somebody else's lock is left alone.",
        "Someone has changed it.",
        "Anybody may read it.",
        "It is open to everyone.",
        "So long it is left alone at most.",
        "It is tried again after so many seconds.",
        "Give it so many as it takes.",
        "It asked in vain.",
        "That belongs into the body.",
        "It waits, for that it may be seen.",
        "The told ones are gone.",
        "Of what a snapshot holds little is new.",
    ],
)
def test_a_word_in_the_place_of_a_component_fails(tmp_path: Path, sentence: str) -> None:
    assert len(found(tmp_path, "page.md", sentence)) == 1


@pytest.mark.parametrize(
    "sentence",
    [
        'The patient writes "nobody answers" and waits.',
        "The patient writes “nobody answers” and waits.",
        "The word *whoever* names no component.",
        "The state `nobody` is one of three.",
        "It is hidden for so long that its sender asks again.",
        "It is hidden so long as its worker lives.",
        "It has so many tries that one succeeds.",
    ],
)
def test_a_quoted_word_passes(tmp_path: Path, sentence: str) -> None:
    assert not found(tmp_path, "page.md", sentence)


def test_code_a_link_and_a_quotation_are_one_word_each(tmp_path: Path) -> None:
    text = 'Read `a b c` at [the page](docs/x.md) or https://example.com/a?b, say "one two", e.g. now.'
    assert said(tmp_path, "page.md", text) == ["Read code at the page or link, say quotation, e.g now."]


def test_markdown_is_read_by_paragraph_item_note_and_cell(tmp_path: Path) -> None:
    text = """\
# Nobody counts headings

A paragraph
on two lines. Its second sentence.
- An item
  on two lines.
1. A numbered item.

> A note.

| a cell | `code` |
|---|---|

```sh
nobody counts code
```
~~~
``` nobody counts code
~~~

    nobody counts code

│ nobody │ counts diagrams │
a column     nobody counts

<details><summary>nobody counts tags</summary>
"""
    assert said(tmp_path, "page.md", text) == [
        "A paragraph on two lines.",
        "Its second sentence.",
        "An item on two lines.",
        "A numbered item.",
        "A note.",
        "a cell",
        "code",
    ]


def test_python_is_read_by_docstring_comment_and_text(tmp_path: Path) -> None:
    text = '''\
"""The first line
and its second.

    nobody counts code

- An item
  on two lines.
"""

SQL = "select a from the table where nobody is b"
KEY = "not_a_text"
WORDS = "too few words"


class Thing:
    """Does it.

    >>> nobody.counts(examples)
    nobody counts results

    Then it ends.
    """

    def do(self, value: int) -> None:
        # A comment  # noqa
        # on two lines.
        # guard: nobody counts marks
        #   nobody counts code
        self.it = 1  # behind code
        self.is_it = 2  # behind other code
        raise ValueError(f"The value {value!r} is too large; " "send a smaller one.")
'''
    assert said(tmp_path, "module.py", text) == [
        "The first line and its second.",
        "An item on two lines.",
        "Does it.",
        "Then it ends.",
        "The value value is too large; send a smaller one.",
        "A comment on two lines.",
        "behind code",
        "behind other code",
    ]


def test_of_a_tests_strings_the_messages_of_its_failures_are_read(tmp_path: Path) -> None:
    text = '''\
def test_it_answers() -> None:
    """It answers."""
    assert say("nobody counts a patient's words") == 1, "the worker has not answered"
'''
    assert said(tmp_path, "test_module.py", text) == ["It answers.", "the worker has not answered"]


def test_yaml_is_read_by_comment_and_text(tmp_path: Path) -> None:
    text = """\
# A comment.
Parameters:
  Name: # behind a key
    Type: String
    Default: "a # b"
    Description: >-
      What the parameter
      is good for.
"""
    assert said(tmp_path, "template.yaml", text) == [
        "A comment.",
        "behind a key",
        "What the parameter is good for.",
    ]


def test_javascript_is_read_by_comment_and_text(tmp_path: Path) -> None:
    text = """\
/** What the module is for. */
import { some } from "./elsewhere.js"; // behind code
const text = `The record ${record.name} has changed since.`;
/**
 * On two
 * lines.
 */
// A comment
// on two lines.
const short = 'a label';
"""
    assert said(tmp_path, "module.js", text) == [
        "What the module is for.",
        "The record value has changed since.",
        "On two lines.",
        "behind code",
        "A comment on two lines.",
    ]


def test_html_is_read_by_text_and_attribute(tmp_path: Path) -> None:
    text = '<p class="a b c d" title="What a browser shows first">The page needs a browser with scripts.</p>'
    assert said(tmp_path, "page.html", text) == ["What a browser shows first", "The page needs a browser with scripts."]


@pytest.mark.parametrize(
    ("name", "sign"),
    [("a.sql", "--"), ("a.lua", "--"), ("a.sh", "#"), ("a.toml", "#"), ("a.in", "#"), ("Makefile", "#")],
)
def test_other_files_are_read_by_comment(tmp_path: Path, name: str, sign: str) -> None:
    text = f"{sign} A comment\n{sign} on two lines.\ncode '{sign} no comment' {sign} behind code\n"
    assert said(tmp_path, name, text) == ["A comment on two lines.", "behind code"]


def test_the_help_of_the_makefile_is_read(tmp_path: Path) -> None:
    assert said(tmp_path, "Makefile", "run: .venv ## run it on this machine\n") == ["run it on this machine"]


def test_the_command_says_what_it_checks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "at most 35 words" in capsys.readouterr().out


def test_the_command_reads_what_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(Path(__file__).parents[1] / "prose")]) == 0
    assert capsys.readouterr().out == "No sentence is too long, and no word too vague.\n"
    with pytest.raises(SystemExit, match="2"):
        main(["docs/no-such-page.md"])
    assert "docs/no-such-page.md is not there." in capsys.readouterr().err
