"""One route of the API: what it is for, what it takes, and each status that it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

#: The statuses that the gateway and its firewall answer with by themselves, or any function where something breaks.
COMMON = (400, 403, 413, 429, 500, 502, 504)

Models = tuple[type[BaseModel], ...]
Schema = dict[str, object]


@dataclass(frozen=True)
class Route:
    """One route. `answers` are its bodies by status, `problems` the errors beside those of COMMON.

    `scope`: None is open to everybody. `body`: what it takes, with an `example`, and whether it may be left out.
    `query`: parameters by name, with their schemas. `revised`: it is about a record with a revision, which it tells
    (GET, PUT) and may be asked to compare first (PUT, DELETE). `links`: the operations that may follow, on what this
    one named or made. `media_types`: it answers with a file, which is of one of them.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    summary: str
    scope: Literal["messages", "admin"] | None
    answers: dict[int, Models]
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: dict[str, Schema] = field(default_factory=dict)
    example: dict[str, object] | None = None
    revised: bool = False
    links: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()

    @property
    def tells_revision(self) -> bool:
        return self.revised and self.method in ("GET", "PUT")

    @property
    def compares_revision(self) -> bool:
        return self.revised and self.method in ("PUT", "DELETE")

    @property
    def all_problems(self) -> list[int]:
        signed_in, compared = (401,) if self.scope else (), (412,) if self.compares_revision else ()
        return sorted({*self.problems, *COMMON, *signed_in, *compared})
