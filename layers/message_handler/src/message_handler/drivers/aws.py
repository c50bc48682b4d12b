"""Clients of AWS, all of one session of botocore's.

boto3 would be the same with 20 ms more of import in every start, for resources and transfers that nobody here uses.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

_creating = threading.Lock()


@cache
def session() -> Any:
    """The process's own session: its credentials, its region, and what it has read of botocore's files."""
    from botocore.session import Session

    return Session()


def client(service: str, **options: Any) -> Any:
    """A client as `boto3.client` makes it, for all threads; connects to nothing yet."""
    # The session itself is for one at a time.
    with _creating:
        return session().create_client(service, **options)
