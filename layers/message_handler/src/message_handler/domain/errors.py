"""Every error the layer raises. The class tells its catcher what to do.

    MessageHandlerError
    ├── RequestError            refuse: the caller's to mend, never retried (HTTP 4xx)
    │   ├── InvalidRequest          400, names the field
    │   ├── Unauthenticated         401
    │   ├── Forbidden               403
    │   ├── PayloadTooLarge         413
    │   ├── NotFound                404
    │   ├── PreconditionFailed      412
    │   ├── Conflict                409
    │   │   ├── OtherBot                the conversation belongs to `bot_id`
    │   │   ├── HandedOff               a human answers it: keep in Postgres what is said
    │   │   └── Rejected                the bot takes no message while it answers another
    │   └── TooManyRequests         429: send it again after `retry_after` seconds
    │       ├── RateLimited             the tenant has sent more than it may
    │       ├── TooManyWaiting          too many of the conversation's messages wait for an answer
    │       └── Contended               too many processes change the conversation at the same moment
    ├── SettingsError           stop: the deployment's configuration is wrong
    ├── Unavailable             retry later: a store or the queue did not answer (HTTP 503)
    ├── SecretRefused           stop: a tenant's configuration may not name or hold that secret
    ├── EgressRefused           stop: this deployment does not let anything be sent to that address
    ├── EgressFailed            retry later: another service did not answer, or not to the end
    └── AIError                 fail the job visibly: no answer could be made

No message of these may hold a patient's words, a token or a credential: they go to logs and callers.
"""

from __future__ import annotations

from collections.abc import Iterable


class MessageHandlerError(Exception):
    """The root; catch it to catch everything of this package."""


class RequestError(MessageHandlerError):
    """The request is refused and nothing was stored. `status` is its HTTP status, `title` the problem's.

    Its text is `field: detail`, or the detail alone where no field is to blame.
    """

    status = 400
    title = "Bad Request"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.detail = detail
        self.field = field


class InvalidRequest(RequestError):
    """Something in the request can't be accepted; `field` says where."""


class Unauthenticated(RequestError):
    """Nobody knows who calls: no access token, or one that has expired. Its text names the claim, never its value."""

    status = 401
    title = "Unauthorized"


class Forbidden(RequestError):
    """The token does not allow this: a scope or the tenant is missing from it."""

    status = 403
    title = "Forbidden"


class PayloadTooLarge(RequestError):
    """More text than one conversation may send or keep waiting."""

    status = 413
    title = "Content Too Large"


class NotFound(RequestError):
    """No such bot, job, conversation or route for this tenant."""

    status = 404
    title = "Not Found"


class PreconditionFailed(RequestError):
    """Somebody else has changed the thing since the caller saw it: look at it again, then decide again."""

    status = 412
    title = "Precondition Failed"


class Conflict(RequestError):
    """The thing exists, but not in a state that allows this."""

    status = 409
    title = "Conflict"


class OtherBot(Conflict):
    """The conversation belongs to another bot than the request's: to `bot_id`."""

    def __init__(self, bot_id: str) -> None:
        super().__init__("the conversation belongs to another bot", field="bot_id")
        self.bot_id = bot_id


class HandedOff(Conflict):
    """A human answers the conversation: a tier takes nothing in for the bot.

    The first `answered` messages of the request are ones that the bot's last job answered; `waiting` are the ids of
    those that the tier has still to hand over.
    """

    def __init__(self, answered: int, waiting: Iterable[str]) -> None:
        super().__init__("a human answers this conversation")
        self.answered = answered
        self.waiting = tuple(waiting)


class Rejected(Conflict):
    """The bot takes no message while it answers another: `job_id` says which."""

    def __init__(self, job_id: str) -> None:
        super().__init__("another message is being answered; send it again after the reply")
        self.job_id = job_id


class TooManyRequests(RequestError):
    """Send it again after `retry_after` whole seconds."""

    status = 429
    title = "Too Many Requests"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(f"{detail}; try again in {retry_after} s")
        self.retry_after = retry_after


class RateLimited(TooManyRequests):
    """The tenant has sent more than its `rate_limit_per_minute`."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("more messages than the platform's rate_limit_per_minute", retry_after)


class TooManyWaiting(TooManyRequests):
    """As many messages of the conversation wait for an answer as may wait."""

    def __init__(self, most: int, retry_after: int) -> None:
        super().__init__(f"{most} messages of this conversation wait for an answer already", retry_after)


class Contended(TooManyRequests):
    """Each try met a change by another process. It concerns this conversation alone: its store is there."""

    def __init__(self) -> None:
        super().__init__("too many requests change this conversation at the same moment", 1)


class SettingsError(MessageHandlerError):
    """A setting is missing or wrong; the message names it, never its value."""


class Unavailable(MessageHandlerError):
    """A store or the queue did not answer in time: nothing was promised, try again after `retry_after` seconds.

    `reason` is for operators: what it is away for, if more is known than that it is.
    """

    def __init__(self, what: str, *, retry_after: int = 5, reason: str | None = None) -> None:
        super().__init__(f"{what} is not available")
        self.what = what
        self.retry_after = retry_after
        self.reason = reason or what


class ReadOnly(Unavailable):
    """The store answers, and refuses to write: it is a replica, or full. Another may have its name by now."""


class TooOld(Unavailable):
    """The store is there, in a version that this release does not work with: a person's to mend."""


#: What passes: the same step may be taken again later, and what is left undone meanwhile is found again.
TRANSIENT = (Unavailable, Contended)


class SecretRefused(MessageHandlerError):
    """A secret that a tenant's configuration may not name or hold. Its text says what to do, and never quotes it."""


class EgressRefused(MessageHandlerError):
    """An address that nothing may be sent to: no connection was made. Its text names the rule, never the address."""


class EgressFailed(MessageHandlerError):
    """Another service could not be reached, or stopped answering. What was sent may have arrived."""


class AIError(MessageHandlerError):
    """The AI gave no answer; `code` is stable and for programs, the message for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
