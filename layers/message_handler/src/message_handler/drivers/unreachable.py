"""Reasons why a store could not be reached, in words for operators, without addresses, names or credentials."""

from __future__ import annotations

import socket
import ssl

# OpenSSL's codes.
#: The certificate was issued by an unknown authority.
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
_OUT_OF_DATE = {9, 10}
_OF_ANOTHER_NAME = {62, 64}


def why_unreachable(error: BaseException) -> str:
    """The reason that the network or the system gave, found among the causes of a driver's error."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    kinds = (
        (socket.gaierror, "name not found"),
        (ConnectionRefusedError, "refused"),
        (TimeoutError, "timeout"),
        (ssl.SSLError, "TLS"),
    )
    for kind, reason in kinds:
        if any(isinstance(cause, kind) for cause in causes):
            return reason
    return "connection lost"


def why_untrusted(error: ssl.SSLCertVerificationError, authority: str) -> str:
    """OpenSSL's reason, and what an operator must do. `authority` names the setting for a trusted authority."""
    code = error.verify_code
    if code in _OF_ANOTHER_NAME:
        # OpenSSL's reason quotes the host.
        return "its certificate isn't trusted (it is for another host): the URL must name the host that it is for"
    if code in _UNKNOWN_AUTHORITY:
        remedy = f"name its authority in {authority}"
    elif code in _OUT_OF_DATE:
        remedy = "renew it"
    else:
        remedy = "issue a new one for the server or its authority: Python 3.13 requires all that RFC 5280 does"
    return f"its certificate isn't trusted ({error.verify_message}): {remedy}"
