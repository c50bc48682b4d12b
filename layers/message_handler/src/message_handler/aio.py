"""The handler for asyncio: each call runs in a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from message_handler import handler
from message_handler.domain.double_texting import DoubleTexting
from message_handler.domain.identifiers import DEFAULT_PLATFORM
from message_handler.operations.sweeping import DEFAULT_MAX_AGE_HOURS
from message_handler.settings import Settings


class MessageHandler:
    """`message_handler.MessageHandler` with awaitable methods. That class says what each method does and raises."""

    def __init__(self, settings: Settings | None = None, *, platform_id: str = DEFAULT_PLATFORM) -> None:
        self._handler = handler.MessageHandler(settings, platform_id=platform_id)

    async def initialize(self) -> None:
        await asyncio.to_thread(self._handler.initialize)

    async def close(self) -> None:
        await asyncio.to_thread(self._handler.close)

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def handle_message_request(
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
        return await asyncio.to_thread(
            self._handler.handle_message_request,
            conversation_id,
            history,
            resources,
            messages=messages,
            bot_id=bot_id,
            message_id=message_id,
            edited_at=edited_at,
            double_texting=double_texting,
            debounce_ms=debounce_ms,
        )

    async def unsend_message(self, conversation_id: str, message_id: str) -> dict[str, Any]:
        return await asyncio.to_thread(self._handler.unsend_message, conversation_id, message_id)

    async def get_job_status(self, job_id: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._handler.get_job_status, job_id)

    async def cancel_job(self, job_id: str) -> bool:
        return await asyncio.to_thread(self._handler.cancel_job, job_id)

    async def get_conversation_lock_info(self, conversation_id: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._handler.get_conversation_lock_info, conversation_id)

    async def release_conversation_lock(self, conversation_id: str) -> bool:
        return await asyncio.to_thread(self._handler.release_conversation_lock, conversation_id)

    async def cleanup_old_locks(self, max_age_hours: float = DEFAULT_MAX_AGE_HOURS) -> int:
        return await asyncio.to_thread(self._handler.cleanup_old_locks, max_age_hours)

    async def get_handler_status(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._handler.get_handler_status)
