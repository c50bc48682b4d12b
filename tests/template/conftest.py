"""template.yaml as CloudFormation gets it: expanded by AWS' translator, and resolved for given parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from local.expand import expand
from local.intrinsics import Resolver

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
FUNCTIONS = {"IntakeFunction", "StatusFunction", "WorkerFunction", "AdminFunction"}


class _Resolver(Resolver):
    """A resolver with ARNs of the real form, because the template takes some apart."""

    def _attribute(self, resource: str, attribute: str) -> str:
        if attribute == "DBProxyArn":
            return "arn:aws:rds:us-east-1:123456789012:db-proxy:prx-0123"
        return super()._attribute(resource, attribute)


@dataclass(frozen=True)
class Expanded:
    """The expanded template. `resolved` gives its resources for some parameters and the others' defaults."""

    document: dict[str, Any]

    @property
    def resources(self) -> dict[str, Any]:
        return dict(self.document["Resources"])

    def of_type(self, kind: str) -> dict[str, dict[str, Any]]:
        """The properties of the resources of a type, as written."""
        return {name: it.get("Properties", {}) for name, it in self.resources.items() if it["Type"] == kind}

    def resolved(self, kind: str, **parameters: str) -> dict[str, dict[str, Any]]:
        """The properties of a type's resources that exist with these parameters, without intrinsic functions."""
        resolver = _Resolver(self.document, parameters, "https://sqs/")
        return {
            name: resolver.resolve(it.get("Properties", {}))
            for name, it in self.resources.items()
            if it["Type"] == kind and resolver.exists(it)
        }


@pytest.fixture(scope="session")
def expanded() -> Expanded:
    # To text and back: then its parts share no objects, and a change in one place changes no other.
    return Expanded(json.loads(json.dumps(expand(TEMPLATE))))


@pytest.fixture(scope="session")
def stack(expanded: Expanded) -> dict[str, Any]:
    """The expanded resources, by logical id."""
    return expanded.resources


@pytest.fixture(scope="session")
def parameters(expanded: Expanded) -> dict[str, Any]:
    return dict(expanded.document["Parameters"])
