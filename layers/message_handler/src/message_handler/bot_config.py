"""Which bot answers a conversation, and how it is configured."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from typing import Any

from message_handler.errors import Conflict, NotFound, Unavailable
from message_handler.models import DEFAULT_PLATFORM, ConversationKey, Job
from message_handler.settings import Settings
from message_handler.stores.failover import Failover
from message_handler.stores.port import Archive

DEFAULT_BOT = "default"
REDACTED = "***"
#: Entries in the process's own caches; past it they start anew.
_MAX_CACHED = 10_000
#: How long Redis keeps a configuration, for when Postgres is away.
_SHARED_SECONDS = 24 * 3600.0
#: What `meta_data` may limit of the AI's context.
_LIMITS = ("max_context_messages", "max_context_characters")

_log = logging.getLogger(__name__)


class BotConfigService:
    """Configuration from the process's cache, then Redis, then Postgres, then the defaults.

    A change in Postgres is seen within twice `configuration_ttl` (5 s): once for Redis, once for the process. While
    Postgres is away what either of them last had goes on being used, then the default configuration.
    """

    def __init__(
        self, tiers: Failover, archive: Archive, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self._tiers = tiers
        self._archive = archive
        self._ttl = settings.configuration_ttl
        self._clock = clock
        self._bots: dict[tuple[str, str], tuple[float, dict[str, Any] | None]] = {}
        self._conversations: dict[ConversationKey, tuple[float, str | None]] = {}

    @property
    def degraded(self) -> bool:
        """Whether configuration is what was last known, or the default, because Postgres is away."""
        return self._archive.away

    def get_bot_config(
        self, conversation_id: str, *, bot_id: str | None = None, platform_id: str = DEFAULT_PLATFORM
    ) -> dict[str, Any]:
        """The configuration of the bot that answers a conversation; with `bot_id`, of that one if it may answer.

        A bot's fields (`bot_id`, `name`, `description`, `language`, `is_active`, `core_ai_id`, `platform_id`,
        `meta_data`) with the records `core_ai` and `platform` inside; secrets are redacted. Raises NotFound for
        an unknown bot, Conflict for an inactive one or one that the conversation doesn't belong to.
        """
        owner = self._bot_of(ConversationKey(platform_id, conversation_id))
        if bot_id and owner and bot_id != owner:
            raise Conflict("the conversation belongs to another bot", field="bot_id")
        return self._active(platform_id, bot_id or owner or DEFAULT_BOT)

    def config_of_job(self, job: Job) -> dict[str, Any]:
        """The configuration for answering a job. Raises NotFound or Conflict if its bot may not answer any more.

        A job that was accepted while Postgres was away may name another bot than the conversation's: that one answers.
        """
        return self._active(job.key.platform_id, self._bot_of(job.key) or job.bot_id)

    def belongs_to(self, key: ConversationKey, bot_id: str) -> None:
        """Remember for a while the bot of a conversation that only the tier knows of yet."""
        self._keep(self._conversations, key, bot_id, self._ttl)

    def _active(self, platform_id: str, bot_id: str) -> dict[str, Any]:
        configuration = self._configuration(platform_id, bot_id)
        if configuration is None:
            if bot_id != DEFAULT_BOT:
                raise NotFound("there is no such bot", field="bot_id")
            return self._get_default_bot_config()
        if not configuration["is_active"]:
            raise Conflict("the bot is not active", field="bot_id")
        return deepcopy(configuration)

    @property
    def default(self) -> dict[str, Any]:
        """See `_get_default_bot_config`."""
        return self._get_default_bot_config()

    def _get_default_bot_config(self) -> dict[str, Any]:
        """The bot that answers where nothing is configured."""
        return {
            "bot_id": DEFAULT_BOT,
            "name": "Healthcare Assistant",
            "description": "Answers where no bot is configured.",
            "language": "vi",
            "is_active": True,
            "core_ai_id": None,
            "platform_id": DEFAULT_PLATFORM,
            "meta_data": {},
            "core_ai": {
                "core_ai_id": None,
                "name": "Simulated AI",
                "api_endpoint": "simulated://",
                "auth_required": False,
                "auth_token": None,
                "timeout_seconds": 30,
                "meta_data": {},
            },
            "platform": {
                "platform_id": DEFAULT_PLATFORM,
                "name": "Default platform",
                "description": "",
                "base_url": None,
                "auth_required": False,
                "meta_data": {},
            },
        }

    def _configuration(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        found, now = self._bots.get((platform_id, bot_id)), self._clock()
        if found and found[0] > now:
            return found[1]
        name = f"bot:{platform_id}/{bot_id}"
        shared = self._shared(name)
        if shared and shared["until"] > now:
            value = shared["bot"]
        else:
            try:
                value = self._archived(platform_id, bot_id)
            except Unavailable:
                if found or shared:
                    return found[1] if found else shared["bot"] if shared else None
                # Under the bot's own name: whoever answers, when Postgres is back, answers as that bot.
                return self._get_default_bot_config() | {"bot_id": bot_id}
            self._share(name, {"until": now + self._ttl, "bot": value})
        self._keep(self._bots, (platform_id, bot_id), value, self._ttl)
        return value if isinstance(value, dict) else None

    def _archived(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        configuration = self._archive.configuration(platform_id, bot_id)
        if configuration:
            configuration["meta_data"] = _usable(bot_id, configuration["meta_data"])
            configuration["core_ai"] = _redacted(configuration["core_ai"]) or self._default_ai()
        return configuration

    def _shared(self, name: str) -> dict[str, Any] | None:
        """What some process of this service kept in Redis."""
        text = None
        with suppress(Unavailable):
            text = self._tiers.tiers[0].cached(name)
        return json.loads(text) if text else None

    def _share(self, name: str, value: dict[str, Any]) -> None:
        # Kept far longer than it is fresh: it serves the processes that start while Postgres is away.
        with suppress(Unavailable):
            self._tiers.tiers[0].cache(name, json.dumps(value), _SHARED_SECONDS)

    def _default_ai(self) -> dict[str, Any]:
        default: dict[str, Any] = self._get_default_bot_config()["core_ai"]
        return default

    def _bot_of(self, key: ConversationKey) -> str | None:
        found = self._conversations.get(key)
        if found and found[0] > self._clock():
            return found[1]
        try:
            bot_id = self._archive.bot_of(key)
        except Unavailable:
            return found[1] if found else None
        # What is archived stays: a conversation keeps its bot. Only "none yet" must be asked again.
        self._keep(self._conversations, key, bot_id, math.inf if bot_id else self._ttl)
        return bot_id

    def _keep[K, V](self, cache: dict[K, tuple[float, V]], key: K, value: V, seconds: float) -> None:
        if len(cache) >= _MAX_CACHED:
            cache.clear()
        cache[key] = (self._clock() + seconds, value)


def _usable(bot_id: str, meta_data: Any) -> dict[str, Any]:
    """Somebody wrote this by hand. A limit that is no whole number counts as not set: the bot must go on answering."""
    usable = dict(meta_data) if isinstance(meta_data, dict) else {}
    for limit in _LIMITS:
        value = usable.get(limit)
        if value is not None and (type(value) is not int or value < 0):
            _log.warning("a bot's limit is no whole number: left out", extra={"bot_id": bot_id, "limit": limit})
            value = None
        if value is None:
            usable.pop(limit, None)
    return usable


def _redacted(core_ai: dict[str, Any] | None) -> dict[str, Any] | None:
    """The token leaves Postgres only for the AI call itself; neither Redis nor a reader sees it."""
    if core_ai is None:
        return None
    return core_ai | {"auth_token": REDACTED if core_ai.get("auth_token") else None}
