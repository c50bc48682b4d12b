"""`python -m openapi`: write the API's description. `make openapi` calls it."""

from __future__ import annotations

import sys
from pathlib import Path

from openapi.document import as_text


def main() -> None:
    Path(sys.argv[1] if len(sys.argv) > 1 else "openapi.json").write_text(as_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
