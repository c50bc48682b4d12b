"""Every error that the layer raises. The class says what its catcher should do.

    MessageHandlerError
    ├── RequestError            refuse: only the caller can correct it, so it is never retried here (HTTP 4xx)
    │   ├── InvalidRequest          400, names the field
    │   │   └── OddCharacter            a text has a character that can't be stored
    │   ├── Unauthenticated         401
    │   ├── Forbidden               403
    │   ├── PayloadTooLarge         413
    │   ├── NotFound                404
    │   ├── PreconditionFailed      412
    │   ├── Conflict                409
    │   │   ├── OtherBot                the conversation belongs to `bot_id`
    │   │   ├── HandedOff               a human answers the conversation: park the messages in Postgres
    │   │   └── Rejected                the bot accepts no message while it answers another one
    │   └── TooManyRequests         429: the caller may send the request again after `retry_after` seconds
    │       ├── RateLimited             the tenant has sent more messages than it may
    │       ├── TooManyWaiting          too many messages of the conversation wait for an answer
    │       └── Contended               too many processes change the conversation at the same moment
    ├── SettingsError           stop: the deployment's configuration is wrong
    ├── Unavailable             retry later: a store or the queue did not answer (HTTP 503)
    │   ├── ReadOnly                the store refuses writes
    │   └── TooOld                  the store's version is too old: a person must correct that
    ├── SecretRefused           stop: a tenant's configuration may not name or contain that secret
    ├── EgressRefused           stop: this deployment sends nothing to that address
    ├── EgressFailed            retry later: another service did not answer, or its answer broke off
    └── AIError                 fail the job visibly: the AI gave no answer

Error texts go to logs and callers. So none may contain a patient's words, a token or a credential (invariant 11).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Literal, Self


class MessageHandlerError(Exception):
    """The base class of all errors of this package."""

    def __copy__(self) -> Self:
        """A copy with the same text. `__init__` is left out: it may take other arguments than `args`."""
        copied = type(self).__new__(type(self), *self.args)
        copied.__dict__.update(self.__dict__)
        return copied


class RequestError(MessageHandlerError):
    """The request is refused, and nothing was stored.

    `status` and `title` are those of the HTTP problem. The text is `field: detail`, or `detail` alone if no field is
    wrong.
    """

    status = 400
    title = "Bad Request"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.detail = detail
        self.field = field


class InvalidRequest(RequestError):
    """A value in the request is not valid; `field` names it."""


class OddCharacter(InvalidRequest):
    """A text has U+0000 or a lone surrogate, which Postgres and UTF-8 can't hold."""


class Unauthenticated(RequestError):
    """The access token is missing, wrong or expired. The text names the wrong claim, never its value."""

    status = 401
    title = "Unauthorized"
    lacks = "token"


class Forbidden(RequestError):
    """The access token does not allow this. `lacks` says what it is without."""

    status = 403
    title = "Forbidden"

    def __init__(self, detail: str, *, lacks: Literal["scope", "tenant"], field: str | None = None) -> None:
        super().__init__(detail, field=field)
        self.lacks = lacks


class PayloadTooLarge(RequestError):
    """A request is larger than allowed, or its conversation keeps more text waiting than a record can hold."""

    status = 413
    title = "Content Too Large"


class NotFound(RequestError):
    """This tenant has no such bot, job, conversation or route."""

    status = 404
    title = "Not Found"


class PreconditionFailed(RequestError):
    """Another caller has changed the resource since this caller read it. Read it again, then decide again."""

    status = 412
    title = "Precondition Failed"


class Conflict(RequestError):
    """The resource exists, but its state does not allow this."""

    status = 409
    title = "Conflict"


class OtherBot(Conflict):
    """The conversation belongs to the bot `bot_id`, but the request names another."""

    def __init__(self, bot_id: str) -> None:
        super().__init__("the conversation belongs to another bot", field="bot_id")
        self.bot_id = bot_id


class HandedOff(Conflict):
    """A human answers the conversation, or is to answer it from now on. So a tier accepts nothing for the bot.

    The bot's last job has answered the first `answered` messages of the request. `waiting` are the ids of messages
    that still wait in the tier: a worker will park them.
    """

    def __init__(self, answered: int, waiting: Iterable[str]) -> None:
        super().__init__("a human answers this conversation")
        self.answered = answered
        self.waiting = tuple(waiting)


class Rejected(Conflict):
    """The bot accepts no message while the job `job_id` answers another one."""

    def __init__(self, job_id: str) -> None:
        super().__init__("another message is being answered; send this one again after the reply")
        self.job_id = job_id


class TooManyRequests(RequestError):
    """The caller may send the request again after `retry_after` whole seconds."""

    status = 429
    title = "Too Many Requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(f"{detail}; try again in {retry_after} s")
        self.retry_after = retry_after


class RateLimited(TooManyRequests):
    """The tenant has sent more messages, or more requests of another kind, than its limit allows."""

    def __init__(self, retry_after: int, kind: str = "messages") -> None:
        super().__init__(f"the platform has sent more {kind} than its limit for a minute", retry_after)


class TooManyWaiting(TooManyRequests):
    """The conversation has `most` messages that wait for an answer, the most that is allowed."""

    def __init__(self, most: int, retry_after: int) -> None:
        super().__init__(f"{most} messages of this conversation wait for an answer already", retry_after)


class Contended(TooManyRequests):
    """Each try of a step met a change by another process. The store works: only this conversation is affected."""

    def __init__(self) -> None:
        super().__init__("too many requests change this conversation at the same moment", 1)


class SettingsError(MessageHandlerError):
    """Settings are missing or wrong. The text names each of them, never its value."""

    @classmethod
    def of(cls, problems: Iterable[str]) -> SettingsError:
        """One error for several problems. Each of them may be the text of such an error."""
        return cls("bad settings: " + "; ".join(problem.removeprefix("bad settings: ") for problem in problems))


class Unavailable(MessageHandlerError):
    """A store or the queue, `what`, did not answer in time. The caller may try again after `retry_after` seconds.

    `reason` tells operators why it is away, if that is known; else it is `what`.
    """

    def __init__(self, what: str, *, retry_after: int = 5, reason: str | None = None) -> None:
        super().__init__(f"{what} is not available")
        self.what = what
        self.retry_after = retry_after
        self.reason = reason or what


class ReadOnly(Unavailable):
    """The store answers but refuses writes: it is a replica, or full. Its name may lead to another server by now."""


class TooOld(Unavailable):
    """The store's version is too old for this release. Only a person can correct that."""


#: Errors that pass by themselves. The same step may be taken again later, and the sweep finds what was left undone.
TRANSIENT = (Unavailable, Contended)


class SecretRefused(MessageHandlerError):
    """A tenant's configuration may not name or contain this secret. The text says what to do and never quotes it."""


class EgressRefused(MessageHandlerError):
    """Nothing may be sent to this address, so no connection was made. The text names the rule, never the address."""


class EgressFailed(MessageHandlerError):
    """Another service could not be reached, or its answer broke off. The request may have arrived there."""


class AIError(MessageHandlerError):
    """The AI gave no answer. `code` is stable and for programs; the message is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def telling(error: Exception, safety: dict[str, Any] | None) -> Exception:
    """Any error with the `safety` that its answer must have: danger in the message that was refused.

    It is a new error. Threads whose calls went together share one (see `drivers/combiner.py`):

        A, of a patient in danger: tells the error ── B, of another patient: answers with the same error

    An error that can't be copied becomes one of ours, which names its type.
    """
    if not safety:
        return error
    try:
        told = copy.copy(error)
    except Exception:  # noqa: BLE001  a foreign error may break in any way, and the patient gets the notice
        told = MessageHandlerError(type(error).__name__)
    told.__dict__["safety"] = safety
    return told.with_traceback(error.__traceback__)


def safety_of(error: Exception) -> dict[str, Any] | None:
    """The `safety` that the answer for this error must have; None if the rules found no danger."""
    safety: dict[str, Any] | None = getattr(error, "safety", None)
    return safety
