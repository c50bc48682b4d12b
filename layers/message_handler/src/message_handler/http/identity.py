"""Reads the caller, its tenant and its rights from the access token's claims.

API Gateway's Cognito authoriser verifies the token and puts the claims into `requestContext.authorizer.claims`. They
are checked again here, so that a route without an authoriser in the template stays closed.

    client credentials (a platform)    scope "message-handler/messages tenant/clinic-a"     sub = client_id
    client credentials (the owner)     scope "message-handler/admin message-handler/deployment tenant/clinic-a"
    authorization code (an operator)   scope "message-handler/admin", cognito:groups "tenant/clinic-a"

All claims are text: a list is `a,b`, and `exp` is `Wed Nov 25 15:00:00 UTC 2026`.
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

#: The resource server's name, which begins each scope of the API in a token: `message-handler/messages`.
API = "message-handler/"
#: The scope of the deployment's owner, beside that of a route: what tenants share is not theirs to change.
OWNER = f"{API}deployment"
#: Begins a tenant in a token, `tenant/clinic-a`: a client's scope or a person's group.
TENANT = "tenant/"
#: The header that selects a tenant if the token holds several.
PLATFORM_HEADER = "X-Platform-Id"


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller, and the tenant that it acts for. `is_owner`: it may also change the limits of tenants."""

    actor: str
    platform_id: str
    is_owner: bool = False


def identify(event: Mapping[str, Any], settings: Settings, scope: Scope) -> Caller:
    """The caller of an event of API Gateway, if it may use `scope`.

    Raises Unauthenticated, Forbidden, or InvalidRequest if the token holds several tenants and the request names none.
    """
    if not settings.auth_required:
        return Caller("anyone", _tenant({DEFAULT_PLATFORM}, event), is_owner=True)
    claims = ((event.get("requestContext") or {}).get("authorizer") or {}).get("claims")
    if not isinstance(claims, Mapping) or not claims:
        raise Unauthenticated("an access token is missing")
    if claims.get("token_use") != "access":
        raise Unauthenticated("the token is not an access token")
    if not time.time() < _seconds(claims.get("exp")):
        raise Unauthenticated("the token has expired")
    client, subject = _text(claims, "client_id"), _text(claims, "sub")
    scopes = _text(claims, "scope", "").split()
    if API + scope not in scopes:
        raise Forbidden(f"the token lacks the scope {API}{scope}", lacks="scope")
    # A client is its own subject. A person's tenants are groups, because any client may ask for a person's scopes.
    is_client = subject == client
    names = scopes if is_client else _text(claims, "cognito:groups", "").split(",")
    actor, tenant = f"client:{client}" if is_client else f"user:{subject}", _tenant(_tenants(names), event)
    return Caller(actor, tenant, is_owner=is_client and OWNER in scopes)


def _tenants(names: Iterable[str]) -> set[str]:
    found = (name.strip() for name in names)
    return {
        name.removeprefix(TENANT) for name in found if name.startswith(TENANT) and is_identifier(name[len(TENANT) :])
    }


def _tenant(allowed: set[str], event: Mapping[str, Any]) -> str:
    """The tenant to act for: the one that the request names, else the only one of the token."""
    if not allowed:
        raise Forbidden("the token names no tenant", lacks="tenant")
    named = _named(event)
    if named is None and len(allowed) > 1:
        raise InvalidRequest("is missing: the token holds several tenants", field=PLATFORM_HEADER)
    if named is not None and named not in allowed:
        raise Forbidden(f"the token does not hold the tenant that {PLATFORM_HEADER} names", lacks="tenant")
    return named or min(allowed)


def _named(event: Mapping[str, Any]) -> str | None:
    """The tenant that the request names. Two different ones are refused: components might read different ones."""
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
        raise Unauthenticated(f"the token's {name} is missing or not text")
    return value


def _seconds(value: Any) -> float:
    """The time at which a token expires, in Unix seconds; 0 if it can't be read, so that the token has expired."""
    text = str(value)
    if text.isascii() and text.isdigit():
        return float(text)
    parsed = parsedate_tz(text)
    return float(mktime_tz(parsed)) if parsed else 0.0
