"""The machine that figures were measured on: without it they mean nothing."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

#: The packages whose versions the report names.
PACKAGES = ("redis", "pg8000", "boto3", "pydantic", "aws-lambda-powertools", "moto")


def describe(stores: list[str]) -> dict[str, str]:
    """The machine and the versions. `stores` are the names and versions of the started stores."""
    packages = [f"{name} {version(name)}" for name in PACKAGES]
    return {
        "measured": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "stores": ", ".join(stores) or "none",
        "packages": ", ".join(packages),
    }


def load() -> float:
    """The average number of runnable processes in the last minute. Above the number of cores, figures are noisy."""
    return os.getloadavg()[0]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
