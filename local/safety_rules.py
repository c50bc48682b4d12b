"""`python -m local.safety_rules`: write `safety/rules.json` from the files in `safety/rules`.

`make safety-rules` calls it. A function's start reads the compiled file, and parses no YAML.
"""

from __future__ import annotations

import argparse
import os
import sys

from message_handler.safety.compiling import RulesRefused, compiled_language, source_of
from message_handler.safety.rules import FILE, compiled_text

FOLDER = FILE.with_name("rules")


def main(arguments: list[str] | None = None) -> int:
    """Write the file. Returns 1 if a rule is refused."""
    parser = argparse.ArgumentParser(prog="python -m local.safety_rules", description="Write safety/rules.json.")
    parser.parse_args(arguments)
    try:
        text = text_of_rules()
    except RulesRefused as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    FILE.write_text(text, encoding="utf-8")
    print(f"wrote {os.path.relpath(FILE)}")
    return 0


def text_of_rules() -> str:
    """The compiled file's text. Raises RulesRefused with the problems of all files."""
    languages, problems = [], []
    for file in sorted(FOLDER.glob("*.yaml")):
        try:
            languages.append(compiled_language(source_of(file)))
        except RulesRefused as error:
            problems += [f"{file.name}: {problem}" for problem in error.problems]
    if problems:
        raise RulesRefused(problems)
    return compiled_text(languages)


if __name__ == "__main__":
    sys.exit(main())
