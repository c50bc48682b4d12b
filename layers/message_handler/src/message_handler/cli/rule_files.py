"""Files of safety rules in YAML, as the commands read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def source_of(file: Path) -> dict[str, Any]:
    """The content of a YAML file. Raises RulesRefused, or ValueError that says what to install."""
    # Imported here: only the commands on rules need it.
    from message_handler.safety import compiling

    try:
        return compiling.source_of(file)
    except ModuleNotFoundError as error:
        raise ValueError("to read YAML, install PyYAML: pip install pyyaml") from error
