"""Reads API Gateway's proxy events, calls the route's function, and writes its answer or a problem (RFC 9457).

A route is looked up by the `resource` that the gateway has matched, so that both always agree.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import math
import traceback
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from message_handler.domain.errors import (
    Forbidden,
    InvalidRequest,
    MessageHandlerError,
    NotFound,
    PayloadTooLarge,
    RequestError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    safety_of,
)
from message_handler.domain.identifiers import is_identifier
from message_handler.domain.validation import field_name
from message_handler.http.identity import Caller, Scope, identify
from message_handler.metrics import Meter
from message_handler.settings import Settings

_log = logging.getLogger(__name__)

#: More than the largest history and resources need with each character escaped. A larger body is not parsed.
MAX_BODY_CHARACTERS = 2 * 1024 * 1024

#: Of each answer. A browser must not guess another type: a patient's words could then become a page.
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

Response = dict[str, Any]
Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API: its event and its caller. `caller` is None only on open routes."""

    event: Mapping[str, Any]
    caller: Caller | None

    @property
    def platform_id(self) -> str:
        """The tenant that the caller acts for. Not available on an open route."""
        assert self.caller
        return self.caller.platform_id

    @property
    def actor(self) -> str:
        """The caller as the audit names it: `client:<client_id>`, `user:<sub>`, or `anyone` if no token is required."""
        assert self.caller
        return self.caller.actor

    @property
    def is_owner(self) -> bool:
        """Whether the caller acts for the deployment's owner too."""
        assert self.caller
        return self.caller.is_owner

    def header(self, name: str) -> str | None:
        """A header by its name in any case; None if it is missing."""
        return _header(self.event, name)

    @property
    def correlation_id(self) -> str:
        return correlation_id_of(self.event)

    def path(self, name: str) -> str:
        """A path parameter, percent-decoded once.

        Some gateways decode path parameters, others do not. The event's `path` is never decoded. So a parameter that is
        not a segment of `path`, but equals a decoded segment, was decoded by the gateway.
        """
        given = str((self.event.get("pathParameters") or {}).get(name) or "")
        segments = str(self.event.get("path") or "").split("/")
        decoded = given not in segments and given in map(unquote, segments)
        return given if decoded else unquote(given)

    def query(self, name: str) -> str | None:
        """A query parameter; None if it is missing. Raises InvalidRequest if it is repeated."""
        if len((self.event.get("multiValueQueryStringParameters") or {}).get(name) or ()) > 1:
            raise InvalidRequest("is given more than once", field=name)
        return (self.event.get("queryStringParameters") or {}).get(name)

    def body(self) -> Any:
        """The body's JSON value; None for an empty body. Raises InvalidRequest or PayloadTooLarge."""
        text = self.event.get("body")
        if not text:
            return None
        if len(text) > MAX_BODY_CHARACTERS:
            raise PayloadTooLarge(f"the body is larger than {MAX_BODY_CHARACTERS // 1024 // 1024} MiB")
        try:
            if self.event.get("isBase64Encoded"):
                text = base64.b64decode(text, validate=True).decode()
            return json.loads(
                text, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_without_repeats
            )
        except InvalidRequest:
            raise
        except (binascii.Error, UnicodeDecodeError):
            raise InvalidRequest("the body is not UTF-8") from None
        except RecursionError:
            raise InvalidRequest("the body is nested too deeply") from None
        except json.JSONDecodeError:
            # Not chained: the parser's error holds the body.
            raise InvalidRequest("the body is not JSON") from None
        except ValueError:
            raise InvalidRequest("the body holds a number that is too large") from None


#: A route returns a status, a body, and its own headers if it has any. A body of text is sent as it is, with the type
#: that the headers name.
Answer = tuple[int, dict[str, Any]] | tuple[int, dict[str, Any] | str, Headers]
Route = Callable[[Call], Answer]


def correlation_id_of(event: Mapping[str, Any]) -> str:
    """The id that names a call in its answer, logs, provider and webhook: the one that it sent, else the gateway's.

    An id that was sent counts only if it is an identifier, because it is shown. A call of AWS itself has neither: `""`.
    """
    own = _header(event, "x-correlation-id")
    return str(own if is_identifier(own) else (event.get("requestContext") or {}).get("requestId") or "")


def _header(event: Mapping[str, Any], name: str) -> str | None:
    wanted, found = name.lower(), None
    for key, value in (event.get("headers") or {}).items():
        if key.lower() == wanted:
            found = value
    return None if found is None else str(found)


def _refuse_constant(_name: str) -> None:
    raise InvalidRequest("the body holds NaN or Infinity, which JSON doesn't have")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise InvalidRequest("the body holds a number that is too large")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a field that is given twice: some parsers use the first, others the last."""
    result = dict(pairs)
    if len(result) < len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InvalidRequest("is given more than once", field=field_name([repeated]))
    return result


def serve(
    routes: Mapping[tuple[str, str], Route],
    event: Mapping[str, Any],
    settings: Callable[[], Settings],
    *,
    scope: Scope,
    meter: Meter,
    open_routes: Container[tuple[str, str]] = (),
) -> Response:
    """Answer one call with what its route returns, or with the problem that it raised.

    Each route needs a token with `scope` and a tenant, except those in `open_routes`. A caller who is refused for that
    is counted. Every answer has the call's correlation id.
    """
    response = _answer(routes, event, settings, scope, meter, open_routes)
    response["headers"]["X-Correlation-ID"] = correlation_id_of(event)
    return response


def _answer(
    routes: Mapping[tuple[str, str], Route],
    event: Mapping[str, Any],
    settings: Callable[[], Settings],
    scope: Scope,
    meter: Meter,
    open_routes: Container[tuple[str, str]],
) -> Response:
    try:
        name = (str(event.get("httpMethod")), str(event.get("resource")))
        route = routes.get(name)
        if route is None:
            raise NotFound("There is no such route.")
        call = Call(event, None if name in open_routes else identify(event, settings(), scope))
        status, body, *headers = route(call)
        return _response(status, body, "application/json", headers[0] if headers else None)
    except RequestError as error:
        _log.info("refused", extra={"status": error.status, "reason": str(error)})
        if isinstance(error, Unauthenticated | Forbidden):
            meter.add(f"RefusedFor{error.lacks.capitalize()}")
        return problem(
            error.status,
            error.title,
            str(error),
            field=error.field,
            headers=_headers_of(error),
            safety=safety_of(error),
        )
    except Unavailable as error:
        _log.warning("not available", extra={"what": error.what})
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Service Unavailable",
            f"{error.what[:1].upper()}{error.what[1:]} is not available. Send the same request again later.",
            headers={"Retry-After": str(error.retry_after)},
            safety=safety_of(error),
        )
    except Exception as error:  # noqa: BLE001  the last place that can send an answer
        log_crash(error)
        return problem(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "Internal Server Error",
            "The service could not answer. You may send the request again.",
            safety=safety_of(error),
        )


def _headers_of(error: RequestError) -> Headers:
    """The headers that HTTP requires for an error's status (RFC 9110, RFC 6585)."""
    if isinstance(error, Unauthenticated):
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": str(error.retry_after)} if isinstance(error, TooManyRequests) else {}


def log_crash(error: Exception, **about: str) -> None:
    """Log where an unexpected error came from. Of the package's own errors also the text, which quotes no patient."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]
    reason = {"reason": str(error)} if isinstance(error, MessageHandlerError) else {}
    _log.error("unexpected error", extra={"error": type(error).__name__, "where": where, **reason, **about})


def problem(
    status: int,
    title: str,
    detail: str,
    *,
    field: str | None = None,
    headers: Headers | None = None,
    safety: dict[str, Any] | None = None,
) -> Response:
    """The answer for an error. `field` names the wrong field, never its value. `safety`: see `safety_of`."""
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": int(status), "detail": detail}
    body |= ({"field": field} if field else {}) | ({"safety": safety} if safety else {})
    return _response(status, body, "application/problem+json", headers)


def _response(status: int, body: dict[str, Any] | str, content_type: str, headers: Headers | None = None) -> Response:
    return {
        "statusCode": int(status),
        "headers": _HEADERS | {"Content-Type": content_type} | (headers or {}),
        "body": body if isinstance(body, str) else json.dumps(body, ensure_ascii=False),
        "isBase64Encoded": False,
    }
