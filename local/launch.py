"""Replaces itself by a command that dies with the host.

`processes.spawn` runs this script: `launch.py HOST_PID DEATH_SIGNAL UID GID COMMAND...`. A UID of -1 keeps the current
user. The script imports nothing of this package, because it must start in milliseconds.

Linux sends DEATH_SIGNAL when the host has ended, even by SIGKILL. On other systems a forked watcher checks twice a
second.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str]) -> None:
    host, death_signal, uid, gid = (int(argument) for argument in arguments[:4])
    command = arguments[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After setuid, because changing credentials clears the death signal.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != host:  # it died before the line above
            sys.exit(1)
    elif os.fork() == 0:
        watch(host, os.getppid(), death_signal, os.getppid)
        os._exit(0)
    os.execv(command[0], list(command))


def watch(host: int, command: int, death_signal: int, parent: Callable[[], int]) -> None:
    """Return when the command has ended, and end it when the host has. `parent` returns the parent's process id."""
    while parent() == command:
        try:
            os.kill(host, 0)
        except ProcessLookupError:
            os.kill(command, death_signal)
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1:])
