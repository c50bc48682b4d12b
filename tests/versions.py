"""Versions of a message in the tests. The first one has the name of its message, an edit has a number behind it: m0~1.

A version's name tells its message. So tests name versions wherever they name messages.
"""

from __future__ import annotations

_EDIT = "~"


def version_of(message_id: str, edit: int) -> str:
    """The name of a message's version: of its first words (0), or of its n-th edit."""
    return f"{message_id}{_EDIT}{edit}" if edit else message_id


def message_of(version: str) -> str:
    """The id of the message that this is a version of."""
    return version.partition(_EDIT)[0]


def edit_of(version: str) -> int:
    """The number of the edit; 0 for the first version."""
    return int(version.partition(_EDIT)[2] or 0)
