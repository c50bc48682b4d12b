"""One route of the API: its purpose, its request, and each status that it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel

#: Any route may answer with these: the gateway and its firewall do so by themselves, and a function that breaks does.
COMMON = (400, 403, 413, 429, 500, 502, 504)

Models = tuple[type[BaseModel], ...]
Schema = dict[str, object]
#: The scope that a token needs; None: the route is open to every caller.
Scope = Literal["messages", "admin"] | None


@dataclass(frozen=True)
class Route:
    """One route.

    - `answers`: the models of its bodies, by status. `problems`: the statuses of its errors, beside those of COMMON.
    - `body`: the model of its request, with an `example`. `body_required`: whether a request must have one.
    - `query`: the schemas of its query parameters, by name.
    - `revised`: its record has a revision. GET and PUT send it as `ETag`; PUT and DELETE accept `If-Match`.
    - `links`: operations that may follow, such as `GET /jobs/{job_id}`.
    - `media_types`: the route answers with a file of one of these types.
    - `also`: the media types that its `200` may have beside JSON.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    summary: str
    description: str
    scope: Scope
    answers: dict[int, Models]
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: dict[str, Schema] = field(default_factory=dict)
    example: dict[str, object] | None = None
    revised: bool = False
    links: tuple[str, ...] = ()
    media_types: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def sends_revision(self) -> bool:
        return self.revised and self.method in ("GET", "PUT")

    @property
    def compares_revision(self) -> bool:
        return self.revised and self.method in ("PUT", "DELETE")

    @property
    def all_problems(self) -> list[int]:
        signed_in, compared = (401,) if self.scope else (), (412,) if self.compares_revision else ()
        return sorted({*self.problems, *COMMON, *signed_in, *compared})
