"""Child processes that end with the host, each ended by its own id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_LAUNCHER = str(Path(__file__).with_name("launch.py"))

# Linux sends the death signal when the *thread* that started the child ends, not the process. So this one thread,
# which lives until the interpreter exits, starts every child.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="process-starter")


@dataclass(frozen=True)
class Account:
    """An operating system user to run a child as."""

    uid: int
    gid: int


def spawn(
    command: Sequence[str | Path],
    *,
    output: IO[bytes] | int = subprocess.PIPE,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a command in its own session, so that a Ctrl-C in the terminal reaches only the host.

    `output` receives stdout and stderr. The child gets `death_signal` when the host dies. The command's first word is
    an absolute path. `inherited` file descriptors stay open for it. Raises OSError if the launcher can't be started; a
    command that can't be started shows by its exit code.
    """
    user = account or Account(-1, -1)
    launcher = [sys.executable, "-I", "-S", _LAUNCHER, str(os.getpid()), str(int(death_signal))]
    words = [*launcher, str(user.uid), str(user.gid), *(str(word) for word in command)]
    return _starter.submit(
        subprocess.Popen[bytes],
        words,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env=None if environment is None else dict(environment),
        start_new_session=True,
        pass_fds=inherited,
    ).result()


def end(process: subprocess.Popen[bytes], first: signal.Signals, grace_seconds: float) -> int:
    """End a child with the `first` signal, and with SIGKILL after the grace. Returns its exit code."""
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
