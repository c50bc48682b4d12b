"""Decides which bot answers a conversation, and knows its configuration."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from message_handler.configuration.redaction import copied, is_complete, redacted, shareable, unredacted
from message_handler.domain.conversations import DEFAULT_BOT, DEFAULT_LANGUAGE, ConversationKey
from message_handler.domain.errors import Conflict, NotFound, Unavailable
from message_handler.domain.identifiers import DEFAULT_PLATFORM
from message_handler.domain.jobs import Job
from message_handler.ports.archive import Archive
from message_handler.ports.configuration import RecordKind
from message_handler.safety.rules import Rules
from message_handler.safety.tenants import is_current, rules_of
from message_handler.settings import Settings
from message_handler.tiers.failover import Failover

#: The most entries of each cache in this process. A full cache is emptied.
_MAX_CACHED = 10_000
#: How long Redis keeps a configuration, for the time when Postgres is away.
_SHARED_SECONDS = 24 * 3600.0
#: How long an archived conversation's bot is not asked for again. It stays the same until the conversation is erased.
_OWNER_SECONDS = 60.0

_log = logging.getLogger(__name__)


class BotConfigService:
    """Configuration from the process's cache, then Redis, then Postgres, then the defaults.

    A change in Postgres is seen within `configuration_ttl` (5 s). A configuration is used until 5 s after
    Postgres was asked for it. Each shared copy carries that moment with it, so sharing does not prolong its use.

        process A: asks Postgres ─ old ───────────────── shares the old one, good till 5 s after A asked
        operator:                      writes, shares the new one       process B: takes it, till then and no longer

    While Postgres is away, the last known configuration is used, else the default one.

    Secrets that are written out in Postgres stay in the memory of processes that answer. The shared copy lacks them, so
    a process that needs them asks Postgres.
    """

    def __init__(
        self, tiers: Failover, archive: Archive, settings: Settings, clock: Callable[[], float] = time.time
    ) -> None:
        self._tiers = tiers
        self._archive = archive
        self._ttl = settings.configuration_ttl
        self._clock = clock
        self._bots: dict[tuple[str, str], tuple[float, dict[str, Any] | None]] = {}
        #: The same with secrets, used only to answer.
        self._revealed: dict[tuple[str, str], tuple[float, dict[str, Any] | None]] = {}
        self._warned: set[tuple[str, str]] = set()
        self._conversations: dict[ConversationKey, tuple[float, str | None]] = {}

    @property
    def degraded(self) -> bool:
        """Whether Postgres is away, so that the last known or the default configuration is used."""
        return self._archive.away

    def get_bot_config(
        self, conversation_id: str, *, bot_id: str | None = None, platform_id: str = DEFAULT_PLATFORM
    ) -> dict[str, Any]:
        """The configuration of the bot that answers a conversation, or of `bot_id` if that bot may answer it.

        It has a bot's fields (`bot_id`, `name`, `description`, `language`, `is_active`, `core_ai_id`, `platform_id`,
        `meta_data`, `revision`) and the records `core_ai` and `platform`. Secrets are redacted. Raises NotFound for an
        unknown bot, and Conflict for an inactive bot or for another bot than the conversation's.
        """
        owner = self._bot_of(ConversationKey(platform_id, conversation_id), bot_id)
        if bot_id and owner and bot_id != owner:
            raise Conflict("the conversation belongs to another bot", field="bot_id")
        return redacted(self._active(platform_id, bot_id or owner or DEFAULT_BOT))

    def config_of_notice(self, key: ConversationKey, bot_id: str | None) -> dict[str, Any]:
        """The configuration for a notice to a conversation: its own bot's, also of a bot that may not answer.

        For a bot that does not exist, it is the default bot's, with the tenant's own platform. Secrets are redacted.
        """
        return redacted(self._of_any_bot(key, bot_id))

    def rules_of(self, key: ConversationKey, bot_id: str | None) -> Rules:
        """The safety rules for a conversation, also of a bot that may not answer. See `config_of_notice`."""
        return rules_of(self._of_any_bot(key, bot_id)["platform"])

    def _of_any_bot(self, key: ConversationKey, bot_id: str | None) -> dict[str, Any]:
        owner = self._bot_of(key, bot_id)
        for each in (owner or bot_id or DEFAULT_BOT, DEFAULT_BOT):
            if configuration := self._configuration(key.platform_id, each, reveal=False):
                return configuration
        return self._get_default_bot_config()

    def rate_limit_of(self, platform_id: str) -> int | None:
        """How many messages a minute the tenant may send; None if its platform has no limit of its own."""
        found = self._configuration(platform_id, DEFAULT_BOT, reveal=False)
        return found["platform"]["meta_data"].get("rate_limit_per_minute") if found else None

    def owner_of(self, key: ConversationKey) -> str | None:
        """The bot that a conversation belongs to; None if no store that can be asked knows it."""
        return self._bot_of(key, None)

    def config_of_job(self, job: Job) -> dict[str, Any]:
        """The configuration for answering a job, with its secrets. Only the call of the AI may use them.

        If a token is needed but unknown, because Postgres is away, `auth_token` is None and `auth_required` is True.
        A job that was accepted while Postgres was away may name another bot than the conversation's. Then the
        conversation's bot answers. Raises NotFound or Conflict if the bot may not answer any more.
        """
        owner = self._bot_of(job.key, job.bot_id)
        return copied(self._active(job.key.platform_id, owner or job.bot_id, reveal=True))

    def refresh(self, platform_id: str, bot_ids: Iterable[str]) -> None:
        """Share the bots' current configuration. Other processes see it as soon as their own copies are too old."""
        for bot_id in bot_ids:
            self._bots.pop((platform_id, bot_id), None)
            self._revealed.pop((platform_id, bot_id), None)
            # If it can't be read now, it is read when the shared copy is too old.
            until = self._clock() + self._ttl
            with suppress(Unavailable):
                self._share(platform_id, bot_id, self._archived(platform_id, bot_id), until)

    def belongs_to(self, key: ConversationKey, bot_id: str) -> None:
        """Remember for a while the bot of a conversation that only the tier knows yet."""
        self._keep(self._conversations, key, bot_id, self._clock() + self._ttl)

    def forget(self, key: ConversationKey) -> None:
        """Forget a conversation's bot, because the conversation was erased."""
        self._conversations.pop(key, None)

    def _active(self, platform_id: str, bot_id: str, *, reveal: bool = False) -> dict[str, Any]:
        configuration = self._configuration(platform_id, bot_id, reveal=reveal)
        if configuration is None:
            if bot_id != DEFAULT_BOT:
                raise NotFound("there is no such bot", field="bot_id")
            return self._get_default_bot_config()
        if not configuration["is_active"]:
            raise Conflict("the bot is not active", field="bot_id")
        return configuration

    @property
    def default(self) -> dict[str, Any]:
        """See `_get_default_bot_config`."""
        return self._get_default_bot_config()

    def _get_default_bot_config(self) -> dict[str, Any]:
        """The bot that answers if none is configured."""
        return {
            "bot_id": DEFAULT_BOT,
            "name": "Healthcare Assistant",
            "description": "Answers where no bot is configured.",
            "language": DEFAULT_LANGUAGE,
            "is_active": True,
            "core_ai_id": None,
            "platform_id": DEFAULT_PLATFORM,
            "meta_data": {},
            "revision": None,
            "core_ai": {
                "core_ai_id": None,
                "name": "Simulated AI",
                "api_endpoint": "simulated://",
                "auth_required": False,
                "auth_token": None,
                "auth_host": None,
                "timeout_seconds": 30,
                "meta_data": {},
                "revision": None,
                "fallback": None,
            },
            "platform": {
                "platform_id": DEFAULT_PLATFORM,
                "name": "Default platform",
                "description": "",
                "base_url": None,
                "auth_required": False,
                "meta_data": {},
                "safety_rules": None,
            },
        }

    def _configuration(self, platform_id: str, bot_id: str, *, reveal: bool) -> dict[str, Any] | None:
        known = self._revealed if reveal else self._bots
        found, now = known.get((platform_id, bot_id)), self._clock()
        if found and found[0] > now:
            return found[1]
        shared = self._shared(platform_id, bot_id)
        value: dict[str, Any] | None = shared["bot"] if shared else None
        # (A job's provenance needs the revision. Another release may have shared less, or have compiled the own rules.)
        enough = value is None or (_is_of_this_release(value) and (not reveal or is_complete(value)))
        if shared and shared["until"] > now and enough:
            until = shared["until"]
        else:
            until = self._clock() + self._ttl
            try:
                value = self._archived(platform_id, bot_id)
            except Unavailable:
                if found:
                    return found[1]
                if shared:
                    return unredacted(value) if value and reveal else value
                # Under the bot's own id: a worker that answers after Postgres is back answers as that bot.
                own = {"bot_id": bot_id, "platform": self._last_known_platform(platform_id)}
                return self._get_default_bot_config() | own
            self._share(platform_id, bot_id, value, until)
            value = value if reveal or value is None else shareable(value)
        self._keep(known, (platform_id, bot_id), value, until)
        return value

    def _last_known_platform(self, platform_id: str) -> dict[str, Any]:
        """What this process has read for another bot of the tenant: how patients get help, and the safety rules."""
        for (tenant, _), (_, found) in [*self._bots.items(), *self._revealed.items()]:
            if tenant == platform_id and found:
                platform: dict[str, Any] = unredacted(shareable(found))["platform"]
                return platform
        return dict(self.default["platform"])

    def _archived(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        """The usable part of what Postgres has."""
        configuration = self._archive.configuration(platform_id, bot_id)
        if configuration is None:
            return None
        # Imported here: the models cost a start 12 ms, and most processes find a configuration that another has shared.
        from message_handler.ai.providers import provider_of
        from message_handler.configuration.records import usable
        from message_handler.drivers.egress import is_at

        if configuration["bot_id"] is None:
            # The default bot is not configured, but its platform is.
            configuration = self._get_default_bot_config() | {
                "platform_id": platform_id,
                "platform": configuration["platform"],
            }
        configuration["core_ai"] = core_ai = configuration["core_ai"] or self.default["core_ai"]
        platform = configuration["platform"]
        if stored := platform.setdefault("safety_rules", None):
            from message_handler.configuration.safety_rules import in_force

            platform["safety_rules"] = in_force(stored, stored["languages"])
        parts: list[tuple[RecordKind, dict[str, Any]]] = [
            ("bots", configuration),
            ("platforms", platform),
            *(("core_ai", part) for part in (core_ai, core_ai.get("fallback")) if part),
        ]
        for kind, part in parts:
            part["meta_data"], left_out = usable(kind, part["meta_data"])
            self._warn(bot_id, left_out)
        for kind, part in parts:
            if kind != "core_ai" or not part["auth_token"]:
                continue
            url = provider_of(part).url(part)
            if url is None or not is_at(url, part.get("auth_host")):
                part.update(auth_token=None, auth_required=True)
                self._warn(bot_id, ["auth_token"])
        return unredacted(configuration)

    def _warn(self, bot_id: str, left_out: Iterable[str]) -> None:
        """Log once which keys can't be used, by their names alone. Such values were written past the API."""
        for key in left_out:
            if (bot_id, key) not in self._warned and len(self._warned) < _MAX_CACHED:
                self._warned.add((bot_id, key))
                _log.warning("a configured value is not valid: ignored", extra={"bot_id": bot_id, "key": key})

    def _shared(self, platform_id: str, bot_id: str) -> dict[str, Any] | None:
        """What a process has shared in Redis: a bot's configuration (None: no such bot), and until when it is fresh."""
        text = None
        with suppress(Unavailable):
            text = self._tiers.tiers[0].cached(f"bot:{platform_id}/{bot_id}")
        return json.loads(text) if text else None

    def _share(self, platform_id: str, bot_id: str, value: dict[str, Any] | None, until: float) -> None:
        # Kept much longer than it is fresh, for processes that start while Postgres is away.
        text = json.dumps({"until": until, "bot": shareable(value) if value else None})
        with suppress(Unavailable):
            self._tiers.tiers[0].cache(f"bot:{platform_id}/{bot_id}", text, _SHARED_SECONDS)

    def _bot_of(self, key: ConversationKey, expected: str | None) -> str | None:
        """The conversation's bot. If the caller expects another bot, Postgres is asked again.

        The conversation may have been erased, and may begin again with the expected bot.
        """
        found = self._conversations.get(key)
        if found and found[0] > self._clock() and (not expected or found[1] in (None, expected)):
            return found[1]
        try:
            bot_id = self._archive.bot_of(key)
        except Unavailable:
            return found[1] if found else None
        self._keep(self._conversations, key, bot_id, self._clock() + (_OWNER_SECONDS if bot_id else self._ttl))
        return bot_id

    def _keep[K, V](self, cache: dict[K, tuple[float, V]], key: K, value: V, until: float) -> None:
        if len(cache) >= _MAX_CACHED:
            cache.clear()
        cache[key] = (until, value)


def _is_of_this_release(configuration: dict[str, Any]) -> bool:
    platform = configuration["platform"]
    return "revision" in configuration and "safety_rules" in platform and is_current(platform)
