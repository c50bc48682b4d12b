"""A guard of the protocol, what its removal is, and the test that fails without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from message_handler.sql import statements

REPOSITORY = Path(__file__).resolve().parents[2]
#: Where the files of the guards are; their names in the list are below it.
PACKAGE = Path("layers/message_handler/src/message_handler")
#: Where the tests are; their names in the list are below it.
TESTS = Path("tests")
#: In the place of a test: tests that need no server. One of them fails without a marked guard.
IN_MEMORY = "the tier's contract, in memory"
_IN_MEMORY = (
    "contract/test_meeting.py",
    "contract/test_line_tier.py",
    "contract/steps",
    "contract/test_double_texting.py",
    "contract/test_promises.py",
    "contract/test_handoff.py",
    "unit/test_failover.py",
    "contract/outages",
)


@cache
def statement(name: str) -> str:
    """Where an SQL statement is: its file, and behind a `#` its name."""
    (file,) = (
        file for file in (REPOSITORY / PACKAGE / "sql").glob("*.sql") if name in statements.named(file.read_text())
    )
    return f"sql/{file.name}#{name}"


def function(name: str) -> str:
    """The file of an SQL function."""
    return f"sql/functions/{name}.sql"


@dataclass(frozen=True)
class Removal:
    """In a file, or in one statement of it (`file#statement`), the text `old`, which is there once, becomes `new`."""

    place: str
    old: str
    new: str = ""

    @property
    def file(self) -> str:
        return self.place.partition("#")[0]

    def applied(self, text: str) -> str:
        """The file's text without the guard. Raises ValueError unless `old` is there exactly once."""
        name = self.place.partition("#")[2]
        part = statements.named(text)[name] if name else text
        found = part.count(self.old)
        if found != 1 or self.old == self.new:
            raise ValueError(f"{self.place}: found {found} times, not once:\n{self.old}")
        return text.replace(part, part.replace(self.old, self.new))


@dataclass(frozen=True)
class Guard:
    """One thing that the protocol compares, checks or keeps.

    `rule`: the step, the counterexample (by its number) or the invariant that it comes from. `test`: the node id of a
    test that passes, and fails without the guard; or IN_MEMORY, of which one fails.
    """

    name: str
    rule: str
    test: str
    removals: tuple[Removal, ...]

    @property
    def files(self) -> str:
        return ", ".join(dict.fromkeys(removal.file for removal in self.removals))

    @property
    def chosen(self) -> tuple[str, ...]:
        """The test as pytest is told it."""
        if self.test == IN_MEMORY:
            return (*(f"{TESTS}/{file}" for file in _IN_MEMORY), "-k", "memory")
        return (f"{TESTS}/{self.test}",)

    def matches(self, words: str) -> bool:
        """Whether each of these words is in its name, its files or its rule."""
        described = f"{self.name} {self.files} {self.rule}".lower()
        return all(word in described for word in words.lower().split())


def each_in(file: str, *stores: str) -> Callable[..., tuple[Guard, ...]]:
    """Makes guards that stand once for each of these stores: one test of `file` catches all of them.

    What it returns takes the name, the rule, the test, and a removal for each store.
    """

    def guards(name: str, rule: str, test: str, *removals: Removal) -> tuple[Guard, ...]:
        pairs = zip(stores, removals, strict=True)
        return tuple(Guard(name, rule, f"{file}::{test}[{store}]", (removal,)) for store, removal in pairs)

    return guards
