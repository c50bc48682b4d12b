"""`python -m local.safety_rules`: write `safety/rules.json` and `safety/replies.json` from the files in their folders.

`make safety-rules` calls it. A function's start reads the compiled files, and parses no YAML. `--format` wraps the
lists of terms in the YAML files instead.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from local.safety_format import formatted
from message_handler.safety import replies, rules
from message_handler.safety.compiling import RulesRefused, compiled_language, source_of
from message_handler.safety.rules import compiled_text

#: Each is compiled from the YAML files in the folder beside it.
FILES = (rules.FILE, replies.FILE)


def main(arguments: list[str] | None = None) -> int:
    """Write the files. Returns 1, and writes none, if a rule is refused."""
    parser = argparse.ArgumentParser(prog="python -m local.safety_rules", description="Write the compiled rules.")
    parser.add_argument(
        "--format", type=Path, nargs="*", metavar="YAML", help="wrap the lists in these files, by default in all"
    )
    options = parser.parse_args(arguments)
    try:
        if options.format is not None:
            return format_files(options.format or [file for each in FILES for file in sources_of(each)])
        texts = {file: text_of_rules(file) for file in FILES}
    except RulesRefused as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
        print(f"wrote {os.path.relpath(file)}")
    return 0


def sources_of(file: Path) -> list[Path]:
    """The YAML files that a file is compiled from."""
    return sorted(file.with_suffix("").glob("*.yaml"))


def format_files(files: Sequence[Path]) -> int:
    """Wrap the lists of terms in these files. Raises RulesRefused."""
    for file in files:
        before = file.read_text(encoding="utf-8")
        after = formatted(before)
        if after != before:
            file.write_text(after, encoding="utf-8")
            print(f"formatted {os.path.relpath(file)}")
    return 0


def text_of_rules(file: Path) -> str:
    """The compiled text of a file. Raises RulesRefused with the problems of all its sources."""
    languages, problems = [], []
    for source in sources_of(file):
        try:
            languages.append(compiled_language(source_of(source)))
        except RulesRefused as error:
            problems += [f"{source.name}: {problem}" for problem in error.problems]
    if problems:
        raise RulesRefused(problems)
    return compiled_text(languages)


if __name__ == "__main__":
    sys.exit(main())
