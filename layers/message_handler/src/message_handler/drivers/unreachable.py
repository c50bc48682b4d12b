"""Why a store could not be reached, in words for operators: never an address, a name or a credential."""

from __future__ import annotations

import socket
import ssl

#: OpenSSL's codes. No authority that is known has issued the certificate:
_UNKNOWN_AUTHORITY = {2, 18, 19, 20, 21}
_OUT_OF_DATE = {9, 10}
_OF_ANOTHER_NAME = {62, 64}


def why_unreachable(error: BaseException) -> str:
    """What the network or the system says, from the error that a driver has made of it."""
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
    """OpenSSL's own reason, and what a person has to do; `authority` says how a setting names one."""
    code = error.verify_code
    if code in _OF_ANOTHER_NAME:
        # Its reason quotes the host.
        return "its certificate isn't trusted (it is for another host): the URL must name the host that it is for"
    if code in _UNKNOWN_AUTHORITY:
        mend = f"{authority} may name the authority"
    elif code in _OUT_OF_DATE:
        mend = "it has to be renewed"
    else:
        mend = "its authority must issue it, or itself, anew, for Python 3.13 asks for all that RFC 5280 does"
    return f"its certificate isn't trusted ({error.verify_message}): {mend}"
