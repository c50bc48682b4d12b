"""Claims of access tokens, as API Gateway's Cognito authoriser adds them to an event."""

from __future__ import annotations

import time
from collections.abc import Sequence

PERSON = "b1946ac9-0000-4000-8000-000000000001"


def of_client(tenant: str, *scopes: str, expires: float = 3600) -> dict[str, str]:
    """The claims of a platform's token, from client credentials. It is valid for `expires` seconds."""
    granted = [*(f"message-handler/{scope}" for scope in scopes), f"tenant/{tenant}"]
    return _claims(f"client-of-{tenant}", f"client-of-{tenant}", granted, expires)


def of_person(groups: Sequence[str], *scopes: str, expires: float = 3600) -> dict[str, str]:
    """The claims of a signed-in person's token."""
    claims = _claims(PERSON, "operators", [f"message-handler/{scope}" for scope in scopes], expires)
    return claims | {"username": "ana", "cognito:groups": ",".join(groups)}


def _claims(subject: str, client_id: str, scopes: Sequence[str], expires: float) -> dict[str, str]:
    now = time.time()
    return {
        "sub": subject,
        "client_id": client_id,
        "token_use": "access",
        "scope": " ".join(scopes),
        "auth_time": str(int(now)),
        "iat": _date(now),
        "exp": _date(now + expires),
        "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_aBcDeFgHi",
        "version": "2",
        "jti": "5d3be8a7-c595-4111-8000-000000000001",
    }


def _date(seconds: float) -> str:
    return time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(seconds))
