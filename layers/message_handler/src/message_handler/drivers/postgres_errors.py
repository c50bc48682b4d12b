"""What Postgres' errors mean: an outage, a refusal, or something that an operator must mend."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from pg8000.exceptions import DatabaseError, InterfaceError

from message_handler.domain.errors import MessageHandlerError, Unavailable
from message_handler.drivers.unreachable import why_unreachable, why_untrusted

#: SQLSTATE classes of outages that pass by themselves, with the reason that operators see.
_PASSING = {
    "08": "connection lost",
    "53": "short of resources",
    "57": "shutting down or starting",
    "58": "its operating system fails",
}
#: SQLSTATEs that refuse writes alone: of a replica or a primary made read-only, and of a full disk.
REPLICA = "25006"
READ_ONLY = {REPLICA: "read-only", "53100": "read-only: disk full"}
#: The server, or an operator, ended a statement that took too long.
SLOW = "57014"
#: The SQLSTATE class of a refused login: 28P01 is a wrong password, 28000 is any other fault.
LOGIN_REFUSED = "28"
_LOGIN_REFUSED = "it refuses the login: check DATABASE_URL, DATABASE_SECRET_ARN or DATABASE_IAM"
#: The server answered, but could not do the work: its schema is older than this code, or a lock is in the way.
OUTDATED = ("42P01", "42703", "42883")
IN_THE_WAY = ("55P03", "40001", "40P01")


class StatementRefused(MessageHandlerError):
    """Postgres refused a statement. The error holds only the SQLSTATE, because the server's text quotes values."""

    def __init__(self, code: str) -> None:
        super().__init__(f"Postgres refused a statement (SQLSTATE {code})")
        self.code = code


class TimedOut(Unavailable):
    """The server sent nothing for the whole timeout."""


@contextmanager
def reaching_postgres() -> Iterator[None]:
    """A context to call Postgres in. The driver's errors become Unavailable, TimedOut or StatementRefused."""
    try:
        yield
    except DatabaseError as error:
        code = sqlstate(error)
        if code.startswith(LOGIN_REFUSED):
            # The work goes on without Postgres until an operator mends it, or a rotation is complete.
            raise Unavailable(f"Postgres ({_LOGIN_REFUSED})", reason=f"login: {_LOGIN_REFUSED}") from None
        if code[:2] in _PASSING and code != SLOW and code not in READ_ONLY:
            raise Unavailable("Postgres", reason=f"{_PASSING[code[:2]]} (SQLSTATE {code})") from None
        raise StatementRefused(code) from None
    except (InterfaceError, OSError) as error:
        timed_out = isinstance(error, TimeoutError) or isinstance(error.__cause__, TimeoutError)
        remedy, reason = _tls_remedy(error), why_unreachable(error)
        what = f"Postgres ({remedy})" if remedy else "Postgres"
        raise (TimedOut if timed_out else Unavailable)(what, reason=remedy or reason) from error


def _tls_remedy(error: Exception) -> str | None:
    """What an operator must do about TLS, if that is what failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return why_untrusted(error, "DATABASE_URL with ?sslrootcert=<file>")
    if "refuses SSL" in str(error):
        return "it speaks no TLS: turn that on, or set ?sslmode=disable in DATABASE_URL"
    return None


def sqlstate(error: DatabaseError) -> str:
    """The five characters that name the error (`"28P01"`), or `"unknown"`."""
    details = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    return str(details.get("C", "unknown"))
