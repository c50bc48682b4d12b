"""Clients of AWS services. They share one session of botocore.

boto3 would add 20 ms of import to every start, for resources and transfers that this package does not use.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

_creating = threading.Lock()


@cache
def session() -> Any:
    """The process's session. It holds the credentials, the region and the service descriptions read so far."""
    from botocore.session import Session  # here, because a process without AWS needs none

    return Session()


def client(service: str, **options: Any) -> Any:
    """A client as `boto3.client` makes it. All threads may share it. It does not connect yet."""
    # The session is not safe for several threads; the clients are.
    with _creating:
        return session().create_client(service, **options)
