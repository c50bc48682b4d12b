"""Checks tokens as API Gateway's Cognito authoriser does, with the local issuer in place of Cognito.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-integrate-with-cognito.html
A method with scopes needs an access token that has one of them. A method without scopes needs an identity token.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from local.tokens import Issuer, TokenExpiredError, TokenRefusedError

_DATES = ("exp", "iat")


class RefusedError(Exception):
    """The gateway refuses the request; the message is the type of gateway response."""


class Authorizer:
    """Checks the header `Authorization`, with or without `Bearer`."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer

    def claims(self, header: str | None, scopes: Sequence[str]) -> dict[str, str]:
        """The claims in the form of a function's event. Raises RefusedError."""
        if not header:
            raise RefusedError("UNAUTHORIZED")
        try:
            claims = self._issuer.verify(header.removeprefix("Bearer ").strip())
        except (TokenExpiredError, TokenRefusedError):
            # EXPIRED_TOKEN is for AWS signatures only: an expired Cognito token is a 401 like any other bad token.
            raise RefusedError("UNAUTHORIZED") from None
        if claims["token_use"] != ("access" if scopes else "id"):
            raise RefusedError("UNAUTHORIZED")
        if scopes and not set(scopes) & set(str(claims.get("scope", "")).split()):
            raise RefusedError("ACCESS_DENIED")
        return {name: _text(name, value) for name, value in claims.items()}


def _text(name: str, value: Any) -> str:
    """Functions get text only: a list is `a,b`, and these times have Java's format."""
    if name in _DATES:
        return time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime(value))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
