"""Who calls, for which tenant, and what they may: read from the access token's claims.

API Gateway's Cognito authoriser has verified the token before the function sees its claims, and leaves them in
`requestContext.authorizer.claims`. It is asked again here all the same: a route whose authoriser got lost in the
template stays closed.

    client credentials (a platform)    scope "message-handler/messages tenant/clinic-a"     sub = client_id
    authorization code (an operator)   scope "message-handler/admin", cognito:groups "tenant/clinic-a"

All claims come as text: a list as `a,b`, `exp` as `Wed Nov 25 15:00:00 UTC 2026`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Literal

from message_handler.domain.errors import Forbidden, InvalidRequest, Unauthenticated
from message_handler.domain.identifiers import DEFAULT_PLATFORM, IDENTIFIER_RULE, is_identifier
from message_handler.settings import Settings

Scope = Literal["messages", "admin"]

#: The API's own scopes in a token, `message-handler/messages`, come from the resource server of this name.
API = "message-handler/"
#: A tenant in a token: `tenant/clinic-a`, as a client's scope or as a person's group.
TENANT = "tenant/"
#: Names the tenant where a token holds several.
PLATFORM_HEADER = "X-Platform-Id"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and the tenant that they act for."""

    actor: str
    platform_id: str


def identify(event: Mapping[str, Any], settings: Settings, scope: Scope) -> Caller:
    """The caller of an event of API Gateway, who may use `scope`.

    Raises Unauthenticated, Forbidden, or InvalidRequest where the token holds several tenants and none is named.
    """
    if not settings.auth_required:
        return Caller("anyone", _tenant({DEFAULT_PLATFORM}, event))
    claims = ((event.get("requestContext") or {}).get("authorizer") or {}).get("claims")
    if not isinstance(claims, Mapping) or not claims:
        raise Unauthenticated("an access token is missing")
    if claims.get("token_use") != "access":
        raise Unauthenticated("the token is no access token")
    if not time.time() < _seconds(claims.get("exp")):
        raise Unauthenticated("the token has expired")
    client, subject = _text(claims, "client_id"), _text(claims, "sub")
    scopes = _text(claims, "scope", "").split()
    if API + scope not in scopes:
        raise Forbidden(f"the token lacks the scope {API}{scope}")
    # A client is a subject of its own. A person's tenants are groups: scopes are whatever their client asks for.
    is_client = subject == client
    names = scopes if is_client else _text(claims, "cognito:groups", "").split(",")
    return Caller(f"client:{client}" if is_client else f"user:{subject}", _tenant(_tenants(names), event))


def _tenants(names: Iterable[str]) -> set[str]:
    found = (name.strip() for name in names)
    return {
        name.removeprefix(TENANT) for name in found if name.startswith(TENANT) and is_identifier(name[len(TENANT) :])
    }


def _tenant(allowed: set[str], event: Mapping[str, Any]) -> str:
    """The tenant to act for, of those that the token allows."""
    if not allowed:
        raise Forbidden("the token names no tenant")
    named = _named(event)
    if named is None and len(allowed) > 1:
        raise InvalidRequest("is missing: the token holds several tenants", field=PLATFORM_HEADER)
    if named is not None and named not in allowed:
        raise Forbidden(f"the token is not for the tenant that {PLATFORM_HEADER} names")
    return named or min(allowed)


def _named(event: Mapping[str, Any]) -> str | None:
    """The tenant that the request names. Of two, each reader might take another."""
    single, multiple = event.get("headers") or {}, event.get("multiValueHeaders") or {}
    pairs = [*single.items(), *((name, value) for name, values in multiple.items() for value in values)]
    values = {value for name, value in pairs if name.lower() == PLATFORM_HEADER.lower()}
    if len(values) > 1:
        raise InvalidRequest("is given more than once", field=PLATFORM_HEADER)
    named = next(iter(values), None)
    if named is not None and not is_identifier(named):
        raise InvalidRequest(IDENTIFIER_RULE, field=PLATFORM_HEADER)
    return named


def _text(claims: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = claims.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise Unauthenticated(f"the token's {name} is missing or no text")
    return value


def _seconds(value: Any) -> float:
    """When a token expires, in Unix seconds; long ago where that can't be read."""
    text = str(value)
    if text.isascii() and text.isdigit():
        return float(text)
    parsed = parsedate_tz(text)
    return float(mktime_tz(parsed)) if parsed else 0.0
