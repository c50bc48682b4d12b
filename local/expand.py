"""`python -m local.expand`: print the template as CloudFormation gets it, in JSON, for the scanners of `make validate`.

A resource's Metadata lists the rules that a scanner skips. SAM keeps Metadata only on the resource with the same name.
Here the other resources that SAM makes of it, such as an API's stage, inherit it too.
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
    """Print the template. Returns the exit code: 0, or 2 if the template is missing or can't be translated."""
    parser = argparse.ArgumentParser(prog="python -m local.expand", description="Print a template as CloudFormation.")
    parser.add_argument(
        "--template", type=Path, default=Path("template.yaml"), help="the SAM template (default: %(default)s)"
    )
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
    """The Metadata of the source of a resource: SAM appends to the source's name."""
    origins = [origin for origin in own if name.startswith(origin)]
    return dict(own[max(origins, key=len)].get("Metadata", {})) if origins else {}


if __name__ == "__main__":
    sys.exit(main())
