"""`message-handler safety`: what the safety rules find in a text, and whether files of rules are right.

Neither command calls the API.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from message_handler.cli.client import Client
from message_handler.cli.rule_files import source_of
from message_handler.cli.tables import as_json, printable, table
from message_handler.cli.verbs import say
from message_handler.safety.rules import Explanation, shipped

_COLUMNS = ("rule", "level", "words", "lowered_by")


def check(_client: Client, options: Namespace) -> None:
    """Show each rule that matches the text, and what lowered it."""
    text = sys.stdin.read() if options.text == "-" else options.text
    rules = shipped()
    if options.own:
        rules = rules.extended([_compiled(Path(options.own), own=True)])
    found = rules.explain(text)
    if options.json:
        say(as_json([match._asdict() for match in found]))
    elif found:
        say(table([_row(match) for match in found], _COLUMNS))
    else:
        say("no rule matches")


def lint(_client: Client, options: Namespace) -> int:
    """Check files of rules. Returns 1 if one has a fault."""
    from message_handler.safety.compiling import RulesRefused

    failed = 0
    for file in map(Path, options.files):
        try:
            compiled = _compiled(file, own=options.own)
        except RulesRefused as error:
            failed = 1
            for problem in error.problems:
                say(printable(f"{file}: {problem}"))
        else:
            say(printable(f"{file}: {len(compiled['rules'])} rules"))
    return failed


def _compiled(file: Path, *, own: bool) -> dict[str, Any]:
    """The compiled form of a file. `own`: they are a tenant's own rules. Raises RulesRefused."""
    from message_handler.safety.compiling import compiled_language
    from message_handler.safety.own import own_language

    source = source_of(file)
    return own_language(source) if own else compiled_language(source)


def _row(match: Explanation) -> dict[str, str]:
    level = match.level.value if match.level else "none"
    return {
        "rule": match.rule,
        "level": level if match.level is match.rule_level else f"{match.rule_level.value} -> {level}",
        "words": match.words,
        "lowered_by": ", ".join(f"{kind}: {words}" for kind, words in match.lowered) or "-",
    }
