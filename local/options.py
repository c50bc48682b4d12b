"""Options that several commands of the local host have."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable


def add_port(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add `--port`: by default the variable `PORT`, else 3000."""
    parser.add_argument(
        "--port",
        type=number(0, 65535, "--port, or the variable PORT,"),
        default=os.environ.get("PORT") or "3000",
        help=f"{purpose} (default: $PORT, else 3000)",
    )


def number(lowest: int, highest: int, name: str) -> Callable[[str], int]:
    """Reads a whole number. `name` begins the error, which never quotes the value."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{name} must be a whole number from {lowest} to {highest}")
        return int(text)

    return parse
