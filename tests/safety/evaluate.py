"""Measure the safety rules with the corpus: `python -m tests.safety.evaluate`, or `make safety-report`.

    python -m tests.safety.evaluate                            # both halves, figures only
    python -m tests.safety.evaluate --half development --misses

Only misses of the development half are shown. Authors of rules must not see sentences of the test half: these say how
well the rules work on sentences that the authors do not know.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

from message_handler.safety.rules import compiled_text, loaded, shipped
from tests.safety.corpus_files import FOLDER, Counts, Sentence, screened, sentences, wilson


def main(arguments: list[str] | None = None) -> int:
    """Print the table. Returns 2 if there is no corpus."""
    parser = argparse.ArgumentParser(prog="python -m tests.safety.evaluate", description="Measure the safety rules.")
    parser.add_argument("--half", choices=("development", "test"), help="only this half")
    parser.add_argument("--misses", action="store_true", help="list the misses; needs --half development")
    parser.add_argument("--language", help="only the sentences of this language")
    parser.add_argument("--category", help="only this category")
    parser.add_argument("--corpus", type=Path, default=FOLDER, help="the folder of the .tsv files")
    parser.add_argument("--rules", type=Path, nargs="+", metavar="YAML", help="these rules instead of the shipped ones")
    options = parser.parse_args(arguments)
    if options.misses and options.half != "development":
        parser.error("--misses needs --half development")
    if options.rules:
        from message_handler.safety.compiling import compiled_language, source_of

        rules = loaded(compiled_text([compiled_language(source_of(file)) for file in options.rules]))
    else:
        rules = shipped()
    counts = defaultdict[tuple[str, str, str], Counts](Counts)
    missed: list[tuple[Sentence, str]] = []
    chosen = [
        sentence
        for sentence in sentences(options.corpus)
        if options.half in (None, sentence.half)
        and options.language in (None, sentence.language)
        and options.category in (None, sentence.category)
    ]
    if not chosen:
        print("there are no such sentences", file=sys.stderr)
        return 2
    for sentence, found in screened(rules, chosen):
        if not counts[sentence.language, sentence.half, sentence.category].add(sentence, found):
            missed.append((sentence, f"{found.level} ({found.rule})" if found else "none"))
    print(f"rules {rules.version}, {len(chosen)} sentences\n")
    print(f"{'':2} {'half':11} {'category':12}  {'dangers found':32}  false alarms")
    for (language, half, category), count in counts.items():
        found, alarms = rate(count.found, count.dangers), rate(count.alarms, count.harmless)
        print(f"{language:2} {half:11} {category:12}  {found:32}  {alarms}".rstrip())
    if options.misses:
        print()
        for sentence, level in missed:
            print(f"{sentence.id}  {sentence.category}: {sentence.level or 'none'}, found {level}\n    {sentence.text}")
    return 0


def rate(some: int, of: int) -> str:
    if not of:
        return ""
    low, high = wilson(some, of)
    return f"{some:4} of {of:4} {some / of:6.1%} ({low:.1%} to {high:.1%})"


if __name__ == "__main__":
    sys.exit(main())
