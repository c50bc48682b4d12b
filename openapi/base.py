"""The parts that all models of answers are built from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Moment = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        description="RFC 3339 in UTC, to the millisecond.",
        examples=["2026-06-15T09:30:00.000Z"],
    ),
]
JobId = Annotated[str, Field(json_schema_extra={"format": "uuid"})]


def one_of(values: Iterable[str]) -> FieldInfo:
    """A field that holds one of these values. For values that the layer lists; a `Literal` cannot refer to a list."""
    field: FieldInfo = Field(json_schema_extra={"enum": [*values]})
    return field


def absent() -> Any:
    """The default of a field that may be missing, and whose type has no value that could say so."""
    return Field(default=None)


class Answer(BaseModel):
    """An answer has the fields of its model and no others."""

    model_config = ConfigDict(extra="forbid")
