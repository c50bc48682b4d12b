"""`python -m local.safety_rules`: write `safety/rules.json` and `safety/replies.json` from the files in their folders.

`make safety-rules` calls it. A function's start reads the compiled files, and parses no YAML.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from message_handler.safety import replies, rules
from message_handler.safety.compiling import RulesRefused, compiled_language, source_of
from message_handler.safety.rules import compiled_text

#: Each is compiled from the YAML files in the folder beside it.
FILES = (rules.FILE, replies.FILE)


def main(arguments: list[str] | None = None) -> int:
    """Write the files. Returns 1, and writes none, if a rule is refused."""
    parser = argparse.ArgumentParser(prog="python -m local.safety_rules", description="Write the compiled rules.")
    parser.parse_args(arguments)
    try:
        texts = {file: text_of_rules(file.with_suffix("")) for file in FILES}
    except RulesRefused as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return 1
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
        print(f"wrote {os.path.relpath(file)}")
    return 0


def text_of_rules(folder: Path) -> str:
    """The compiled text of a folder's files. Raises RulesRefused with the problems of all files."""
    languages, problems = [], []
    for file in sorted(folder.glob("*.yaml")):
        try:
            languages.append(compiled_language(source_of(file)))
        except RulesRefused as error:
            problems += [f"{file.name}: {problem}" for problem in error.problems]
    if problems:
        raise RulesRefused(problems)
    return compiled_text(languages)


if __name__ == "__main__":
    sys.exit(main())
