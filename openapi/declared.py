"""Builds models of answers from the declared fields of a job, so that a new field appears in each schema by itself."""

from __future__ import annotations

import types
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import create_model

from message_handler.domain.documents import declared
from message_handler.domain.jobs import Job, Place
from openapi.base import Answer, Count, JobId, Moment, Text


def fields_of_job(place: Place) -> type[Answer]:
    """The base of a model: the fields that this place shows unchanged. The model declares the others itself."""
    hints = get_type_hints(Job)
    # An answer has all fields of a job; a missing value is null.
    named: dict[str, Any] = {field.name: (_type(field, hints[field.name]), ...) for field in declared(place)}
    return create_model(f"JobFieldsOf{place.title()}", __base__=Answer, **named)


def _type(field: Field[Any], hint: Any) -> Any:
    """A field's type in a schema. A name that ends with `_at` is a time."""
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    shown = tuple(None if choice is type(None) else _plain(field.name, choice) for choice in choices)
    return Union[shown]  # noqa: UP007  the members are known at run time only


def _plain(name: str, kind: Any) -> Any:
    if name in ("job_id", "superseded_by"):
        return JobId
    if name.endswith("_at"):
        return Moment
    if is_dataclass(kind):
        return _model_of(kind)
    return {int: Count, str: Text}.get(kind, kind)


_models: dict[type, type[Answer]] = {}


def _model_of(kind: Any) -> type[Answer]:
    """The model of a dataclass in a job. A field with a default may be missing, but is never null."""
    if kind not in _models:
        hints = get_type_hints(kind)
        named: dict[str, Any] = {}
        for field in fields(kind):
            shown = _type(field, hints[field.name])
            if field.default is not MISSING:
                shown = Union[tuple(each for each in get_args(shown) if each is not type(None))]  # noqa: UP007
            named[field.name] = (shown, ... if field.default is MISSING else "")
        _models[kind] = create_model(kind.__name__, __base__=Answer, __doc__=kind.__doc__, **named)
    return _models[kind]
