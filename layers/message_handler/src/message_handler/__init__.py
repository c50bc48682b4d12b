"""Accepts a patient's messages, in any number and order, and answers each exactly once.

`MessageHandler` has plain methods here, and awaitable ones in `message_handler.aio`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from message_handler.bot_config import BotConfigService
    from message_handler.handler import MessageHandler
    from message_handler.jobs import BackgroundJobManager
    from message_handler.locks import MessageLockManager

__all__ = ["BackgroundJobManager", "BotConfigService", "MessageHandler", "MessageLockManager"]

_MODULES = {
    "BackgroundJobManager": "jobs",
    "BotConfigService": "bot_config",
    "MessageHandler": "handler",
    "MessageLockManager": "locks",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that a cold start pays only for the names that it needs."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
