"""A guard of the protocol, how it is removed, and the test that fails without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from message_handler.sql import statements

REPOSITORY = Path(__file__).resolve().parents[2]
#: The folder of the guarded files. The list names files below it.
PACKAGE = Path("layers/message_handler/src/message_handler")
#: The folder of the tests. The list names tests below it.
TESTS = Path("tests")
#: Stands for all tests of a tier that need no server. Without a marked guard one of them must fail.
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
    """The place of an SQL statement: `file#name`."""
    (file,) = (
        file for file in (REPOSITORY / PACKAGE / "sql").glob("*.sql") if name in statements.named(file.read_text())
    )
    return f"sql/{file.name}#{name}"


def function(name: str) -> str:
    """The file of an SQL function."""
    return f"sql/functions/{name}.sql"


@dataclass(frozen=True)
class Removal:
    """Replaces `old`, which is there once, by `new` in a file or in one of its statements (`file#statement`)."""

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

    `rule`: the step, counterexample or invariant that needs the guard. `test`: the node id of a test that passes with
    the guard and fails without it; or IN_MEMORY, of which one test fails.
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
        """The arguments for pytest that choose the test."""
        if self.test == IN_MEMORY:
            return (*(f"{TESTS}/{file}" for file in _IN_MEMORY), "-k", "memory")
        return (f"{TESTS}/{self.test}",)

    def matches(self, words: str) -> bool:
        """Whether each of these words is in the guard's name, files or rule."""
        described = f"{self.name} {self.files} {self.rule}".lower()
        return all(word in described for word in words.lower().split())


def each_in(file: str, *stores: str) -> Callable[..., tuple[Guard, ...]]:
    """Makes guards that each of these stores has. One test of `file`, which runs for each store, catches all of them.

    The returned function takes the name, the rule, the test, and a removal for each store.
    """

    def guards(name: str, rule: str, test: str, *removals: Removal) -> tuple[Guard, ...]:
        pairs = zip(stores, removals, strict=True)
        return tuple(Guard(name, rule, f"{file}::{test}[{store}]", (removal,)) for store, removal in pairs)

    return guards
