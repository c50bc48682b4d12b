"""In place of Postgres where none is configured: nothing is archived, and every run goes on without a fence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from message_handler.errors import Unavailable
from message_handler.models import Conversation, ConversationKey, Fence, Job, Verdict
from message_handler.stores.port import Records


class NoArchive:
    """Knows nothing, permits nothing. Replies are guarded by the tier alone, and remembered by it for an hour."""

    name: Literal["postgres", "memory", "none"] = "none"
    away = True

    def ping(self) -> None:
        raise Unavailable("Postgres")

    def close(self) -> None:
        """Nothing to close."""

    def migrate(self) -> list[str]:
        raise Unavailable("Postgres")

    def fence(self, job: Job, *, successor_id: str, turns: int, drain: bool = False) -> Fence:
        raise Unavailable("Postgres")

    def commit(self, job: Job, fence: int) -> bool:
        raise Unavailable("Postgres")

    def archive(self, job: Job) -> bool:
        raise Unavailable("Postgres")

    def interrupt(self, job: Job) -> None:
        raise Unavailable("Postgres")

    def cancel(self, job: Job) -> Verdict:
        raise Unavailable("Postgres")

    def raise_fence(self, key: ConversationKey) -> None:
        raise Unavailable("Postgres")

    def supersede(self, job: Job, successor_id: str) -> None:
        raise Unavailable("Postgres")

    def settled_by(self, key: ConversationKey, message_id: str) -> str | None:
        return None

    def job(self, platform_id: str, job_id: str) -> Job | None:
        return None

    def conversation(self, key: ConversationKey) -> Conversation | None:
        return None

    def bot_of(self, key: ConversationKey) -> str | None:
        return None

    def configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        raise Unavailable("Postgres")


class NoConfiguration:
    """In place of Postgres' configuration: there is none to show, and nowhere to keep one."""

    def read[T](self, platform_id: str, look: Callable[[Records], T]) -> T:
        raise Unavailable("Postgres")

    def change[T](self, platform_id: str, step: Callable[[Records], T]) -> T:
        raise Unavailable("Postgres")
