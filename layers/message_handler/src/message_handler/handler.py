"""The whole product as one object, for Python programs."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from message_handler.domain.conversations import conversation_key
from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.errors import SettingsError, TooOld, Unavailable
from message_handler.domain.identifiers import DEFAULT_PLATFORM
from message_handler.intake import unsending
from message_handler.intake.requests import parse_request
from message_handler.jobs import BackgroundJobManager
from message_handler.locks import MessageLockManager
from message_handler.operations import handoff, health, interventions, sweeping
from message_handler.settings import Settings
from message_handler.wiring import build


class MessageHandler:
    """Accepts patients' messages and answers each once. Without configuration, all of it runs in this process.

        with MessageHandler() as handler:
            result = handler.handle_message_request("conv_123", "<USER>I need help</USER><br>")
            job = handler.get_job_status(result["ai_job_id"])

    Methods are safe to call from several threads. They raise `Unavailable` if a store or the queue does not answer, and
    a `RequestError` for a request that can't be accepted.
    """

    def __init__(self, settings: Settings | None = None, *, platform_id: str = DEFAULT_PLATFORM) -> None:
        """Build the handler from `settings` (default: the environment). It connects to nothing yet."""
        self._parts = build(settings)
        parts = self._parts
        self._platform_id = platform_id
        self.bots = parts.bots
        self.locks = MessageLockManager(parts.tiers, platform_id=platform_id)
        self.jobs = BackgroundJobManager(parts.tiers, parts.archive, parts.queue, parts.intake, platform_id=platform_id)

    def initialize(self) -> None:
        """Bring the database's schema up to date, unless Postgres is away.

        A store that is away raises nothing: `get_handler_status()` tells. Raises SettingsError for a store whose
        version is too old.
        """
        for step in (self._parts.archive.migrate, *(tier.ping for tier in self._parts.tiers.tiers)):
            try:
                step()
            except TooOld as error:
                raise SettingsError(error.what) from None
            except Unavailable:
                continue

    def close(self) -> None:
        """Stop the background threads after their present jobs, and close the connections."""
        self._parts.close()

    def __enter__(self) -> Self:
        self.initialize()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def handle_message_request(
        self,
        conversation_id: str,
        history: str | None = None,
        resources: dict[str, Any] | None = None,
        *,
        messages: list[dict[str, Any]] | None = None,
        bot_id: str | None = None,
        message_id: str | None = None,
        edited_at: str | float | None = None,
        double_texting: DoubleTexting | None = None,
        debounce_ms: int | None = None,
    ) -> dict[str, Any]:
        """Accept a message. The dictionary is the body of the API's `202`.

        Give the `history` as the platform's text, or `messages` as a list of `{role, content, message_id?}`: the whole
        history, or only what is new. A `message_id` that comes again with other words edits its message. `edited_at`
        (RFC 3339 or Unix seconds) says when. Raises RequestError (Rejected if the policy is to reject, and another
        message is being answered) or Unavailable; then nothing was stored.
        """
        body = {
            "history": history,
            "messages": messages,
            "resources": resources,
            "bot_id": bot_id,
            "message_id": message_id,
            "edited_at": edited_at,
            "double_texting": double_texting,
            "debounce_ms": debounce_ms,
        }
        request = parse_request(body, newest=self._parts.settings.history_turns)
        return self._parts.intake.handle(conversation_key(conversation_id, self._platform_id), request)

    def unsend_message(self, conversation_id: str, message_id: str) -> dict[str, Any]:
        """Take a patient's message back. The dictionary is the body of the API's `200`.

        Raises NotFound, Conflict (it was answered: the reply stands, and later contexts omit the message) or
        Unavailable.
        """
        parts, key = self._parts, conversation_key(conversation_id, self._platform_id)
        return unsending.unsend(parts.tiers, parts.archive, parts.queue, key, message_id)

    def get_job_status(self, job_id: str) -> dict[str, Any] | None:
        """The job as `GET /jobs/{job_id}` shows it, or None."""
        return self.jobs.get_job_status(job_id)

    def cancel_job(self, job_id: str) -> bool:
        """Cancel a job. False: it is unknown, has ended, or its reply is being committed."""
        return self.jobs.cancel_job(job_id)

    def get_conversation_lock_info(self, conversation_id: str) -> dict[str, Any] | None:
        """The conversation's lock as operators see it, or None."""
        return self.locks.get_lock_info(conversation_id)

    def release_conversation_lock(self, conversation_id: str) -> bool:
        """Free a conversation whose worker is stuck: another worker answers its messages. False: it was free."""
        parts, key = self._parts, conversation_key(conversation_id, self._platform_id)
        return interventions.force_release(parts.tiers, parts.archive, parts.queue, key)

    def cleanup_old_locks(self, max_age_hours: float = sweeping.DEFAULT_MAX_AGE_HOURS) -> int:
        """Sweep all platforms now. Returns how many conversations were freed or woken."""
        parts = self._parts
        sweeping.rescue(parts.worker)
        sweeping.end_answered(parts.archive)
        count = sweeping.sweep(parts.tiers, parts.queue, max_age_hours=max_age_hours)
        return count + handoff.unpark_the_rest(parts.tiers, parts.archive, parts.intake.accept)

    def get_handler_status(self) -> dict[str, Any]:
        """`{"status": "healthy" | "degraded" | "unhealthy", "components": {…}}`. Without configuration it is healthy.

        If a store is not up, also `"tiers": {"postgres": "read_only" | "away", …}, "reasons": {"postgres": "…"}`.
        """
        return health.status(self._parts.tiers, self._parts.archive, self._parts.queue)
