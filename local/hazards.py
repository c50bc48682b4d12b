"""The hazards of this product: what `safety/hazards.yaml` says, checked.

A hazard names its controls, and a control names its tests. A rating's words, and the risk of each pair of them, are
those of the 5 by 5 matrix that England's guidance to DCB0129 proposes.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

FILE = Path(__file__).parents[1] / "safety" / "hazards.yaml"

type Severity = Literal["minor", "significant", "considerable", "major", "catastrophic"]
type Likelihood = Literal["very low", "low", "medium", "high", "very high"]
#: `built`: in this version, with tests. `planned`: not in this version. `transferred`: left to who deploys it.
type Status = Literal["built", "planned", "transferred"]

SEVERITIES: tuple[Severity, ...] = ("minor", "significant", "considerable", "major", "catastrophic")
LIKELIHOODS: tuple[Likelihood, ...] = ("very low", "low", "medium", "high", "very high")
#: The risk of each likelihood, from very low to very high, in the order of SEVERITIES.
RISKS = ((1, 1, 2, 2, 3), (1, 2, 2, 3, 4), (2, 2, 3, 3, 4), (2, 3, 3, 4, 5), (3, 4, 4, 5, 5))

Text = Annotated[str, Field(min_length=3)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rating(_Frozen):
    """How bad the harm is, and how likely."""

    severity: Severity
    likelihood: Likelihood

    @property
    def risk(self) -> int:
        return RISKS[LIKELIHOODS.index(self.likelihood)][SEVERITIES.index(self.severity)]

    def __str__(self) -> str:
        return f"{self.risk} ({self.severity}, {self.likelihood})"


class Control(_Frozen):
    """What makes a hazard less likely, or its harm smaller. `guards`: names in tests/guards, each removed in turn."""

    id: Annotated[str, Field(pattern=r"^C\d\d$")]
    text: Text
    status: Status
    page: str | None = None
    tests: tuple[str, ...] = ()
    guards: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_tests_if_it_is_built(self) -> Self:
        if (self.status == "built") != bool(self.tests):
            raise ValueError(f"{self.id} is {self.status}: a built control names its tests, and no other one does")
        if self.guards and self.status != "built":
            raise ValueError(f"{self.id} is {self.status}: it has no guards yet")
        return self


class Hazard(_Frozen):
    """Causes lead to a hazard, and the hazard to harm. `after`: with all of its controls in place."""

    id: Annotated[str, Field(pattern=r"^H\d\d$")]
    name: Text
    causes: Annotated[tuple[Text, ...], Field(min_length=1)]
    hazard: Text
    harm: Text
    before: Rating
    after: Rating
    controls: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _controls_make_it_no_worse(self) -> Self:
        if self.after.risk > self.before.risk:
            raise ValueError(f"{self.id}: its controls make the risk greater")
        return self


class Hazards(_Frozen):
    """The whole file. `reviewed_by`: the clinical safety officer who has confirmed it, or none."""

    reviewed_by: str | None
    reviewed_at: date | None
    controls: tuple[Control, ...]
    hazards: tuple[Hazard, ...]

    @model_validator(mode="after")
    def _names_lead_somewhere(self) -> Self:
        ids = [*(control.id for control in self.controls), *(hazard.id for hazard in self.hazards)]
        if twice := sorted(id_ for id_, times in Counter(ids).items() if times > 1):
            raise ValueError(f"these ids come twice: {twice}")
        used = {id_ for hazard in self.hazards for id_ in hazard.controls}
        known = {control.id for control in self.controls}
        if wrong := sorted(used ^ known):
            raise ValueError(f"these controls are not listed, or no hazard names them: {wrong}")
        return self

    def controls_of(self, hazard: Hazard) -> tuple[Control, ...]:
        """Its controls, in the order of the file."""
        return tuple(control for control in self.controls if control.id in hazard.controls)

    def hazards_of(self, control: Control) -> tuple[Hazard, ...]:
        return tuple(hazard for hazard in self.hazards if control.id in hazard.controls)

    def open_controls(self, hazard: Hazard) -> tuple[Control, ...]:
        """The hazard's controls that this version lacks."""
        return tuple(control for control in self.controls_of(hazard) if control.status == "planned")

    def today(self, hazard: Hazard) -> Rating:
        """The rating that counts today. A hazard with an open control counts as if it had no control at all."""
        return hazard.before if self.open_controls(hazard) else hazard.after

    def with_status(self, status: Status) -> tuple[Control, ...]:
        return tuple(control for control in self.controls if control.status == status)


def read(file: Path = FILE) -> Hazards:
    """The file's content. Raises pydantic's ValidationError, which names what is wrong."""
    return Hazards.model_validate(yaml.safe_load(file.read_text()))
