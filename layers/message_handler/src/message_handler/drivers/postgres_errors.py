"""What Postgres' errors mean: who is away, who refuses, and what a person has to mend."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from pg8000.exceptions import DatabaseError, InterfaceError

from message_handler.domain.errors import MessageHandlerError, Unavailable
from message_handler.drivers.unreachable import why_unreachable, why_untrusted

#: SQLSTATE classes that pass by themselves, and what they are to operators.
_PASSING = {
    "08": "connection lost",
    "53": "short of resources",
    "57": "shutting down or starting",
    "58": "its system fails",
}
#: What refuses writes alone: a replica, or a primary that was told so; and a full disk.
REPLICA = "25006"
READ_ONLY = {REPLICA: "read-only", "53100": "read-only: disk full"}
#: The server, or an operator, ended a statement that took too long.
SLOW = "57014"
#: The SQLSTATE class of a login that is refused: 28P01 a password, 28000 anything else of it.
REFUSING = "28"
_REFUSES_LOGIN = "it refuses the login: see DATABASE_URL, DATABASE_SECRET_ARN or DATABASE_IAM"
#: The server answered, but not with what was asked: a schema older than this code; a lock or a deadlock in the way.
OUTDATED = ("42P01", "42703", "42883")
IN_THE_WAY = ("55P03", "40001", "40P01")


class StatementRefused(MessageHandlerError):
    """Postgres refused a statement. Only the SQLSTATE is told: the server's own text quotes values."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Postgres refused a statement (SQLSTATE {code})")
        self.code = code


class TimedOut(Unavailable):
    """The server said nothing for the whole timeout."""


@contextmanager
def reaching_postgres() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        code = sqlstate(error)
        if code.startswith(REFUSING):
            # Until a person mends it, or a rotation has come to its end, the work goes on without Postgres.
            raise Unavailable(f"Postgres ({_REFUSES_LOGIN})", reason=f"login: {_REFUSES_LOGIN}") from None
        if code[:2] in _PASSING and code != SLOW and code not in READ_ONLY:
            raise Unavailable("Postgres", reason=f"{_PASSING[code[:2]]} (SQLSTATE {code})") from None
        raise StatementRefused(code) from None
    except (InterfaceError, OSError) as error:
        timed_out = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
        mend, reason = _to_be_mended(error), why_unreachable(error)
        what = f"Postgres ({mend})" if mend else "Postgres"
        raise (TimedOut if timed_out else Unavailable)(what, reason=mend or reason) from error


def _to_be_mended(error: Exception) -> str | None:
    """What a person has to do about TLS, which is asked for unless the URL says otherwise."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return why_untrusted(error, "DATABASE_URL with ?sslrootcert=<file>")
    if "refuses SSL" in str(error):
        return "it speaks no TLS: DATABASE_URL may say ?sslmode=disable"
    return None


def sqlstate(error: DatabaseError) -> str:
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    return str(details.get("C", "unknown"))
