"""`python -m local.expand`: the template as CloudFormation gets it, in JSON, for the scanners of `make validate`.

What a scanner is told to skip stands beside a resource, in its Metadata. SAM keeps these only at the resource that
has its source's name, so what else was made of it (an API's stage) inherits them here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.errors import TemplateError
from local.template import TemplateSource


def main(arguments: list[str] | None = None) -> int:
    """Print it. Returns the exit code: 0, or 2 if there is no such template or it can't be translated."""
    parser = argparse.ArgumentParser(prog="python -m local.expand", description="Print a template as CloudFormation.")
    parser.add_argument("--template", type=Path, default=Path("template.yaml"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    try:
        print(json.dumps(expand(options.template), indent=1))
    except TemplateError as error:
        print(f"expand: {error}", file=sys.stderr)
        return 2
    return 0


def expand(template: Path) -> dict[str, Any]:
    """The template that CloudFormation gets. Raises TemplateError."""
    source = TemplateSource(template)
    document = source.transformed
    for name, resource in document["Resources"].items():
        if name not in source.own_resources and (metadata := _inherited(name, source.own_resources)):
            resource["Metadata"] = metadata | resource.get("Metadata", {})
    return document


def _inherited(name: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """SAM makes the names of what it makes by appending to the source's."""
    origins = [origin for origin in own if name.startswith(origin)]
    return dict(own[max(origins, key=len)].get("Metadata", {})) if origins else {}


if __name__ == "__main__":
    sys.exit(main())
