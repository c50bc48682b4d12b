"""What operators do with configuration: show, write and delete records, each checked against the others.

Each change is written into the audit in the same transaction. An operator who names the revision that was read changes
that revision or nothing.

A token is only ever sent to the host that it was stored for. Neither a new address nor a record that was read, changed
and written back moves it to another host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from message_handler.ai.providers import provider_of
from message_handler.configuration import safety
from message_handler.configuration.records import KINDS, parse_record, usable
from message_handler.configuration.redaction import REDACTED, redacted, redacted_change
from message_handler.domain.conversations import DEFAULT_BOT
from message_handler.domain.errors import (
    Conflict,
    EgressRefused,
    Forbidden,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    SecretRefused,
)
from message_handler.domain.identifiers import DEFAULT_PLATFORM, IDENTIFIER_RULE, is_identifier
from message_handler.drivers.egress import Egress, host_of
from message_handler.drivers.secrets import Secrets
from message_handler.ports.audit import AuditEntry
from message_handler.ports.configuration import ConfigurationStore, RecordKind, Records

_FALLBACK = "fallback_core_ai_id"
_LIMIT = "rate_limit_per_minute"
_LIMIT_FIELD = f"meta_data.{_LIMIT}"

#: The state in which a record must be for a write: at this revision, not there yet, there at any revision, or any.
Expected = int | Literal["new", "there"] | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as operators see it, and its revision."""

    record: dict[str, Any]
    revision: int


@dataclass(frozen=True, slots=True)
class ConfigurationAdmin:
    """Each tenant sees and changes its own records. Raises RequestError, or Unavailable without Postgres."""

    store: ConfigurationStore
    #: Shares the current configuration of these bots of a tenant with the other processes.
    refresh: Callable[[str, Iterable[str]], None]
    egress: Egress
    secrets: Secrets
    #: Whether an active bot needs contacts for its country and a disclosure.
    requires_safety: bool = False

    def all(self, kind: RecordKind, platform_id: str) -> list[dict[str, Any]]:
        """Every record of a kind, ordered by id, without secrets."""
        found = self.store.read(platform_id, lambda records: records.all(kind))
        return [_shown(kind, record) for record in found]

    def get(self, kind: RecordKind, platform_id: str, id_: str) -> Shown:
        """One record, without secrets."""
        _check_id(kind, id_)
        stored = _found(kind, self.store.read(platform_id, lambda records: records.get(kind, id_)))
        return Shown(_shown(kind, stored), stored["revision"])

    def safety_state(self, platform_id: str, today: date) -> dict[str, Any]:
        """What the tenant's configuration lacks for patients in danger, without any text."""
        return self.store.read(platform_id, lambda records: safety.state_of(records, platform_id, today))

    def put(
        self,
        kind: RecordKind,
        platform_id: str,
        id_: str,
        body: Any,
        *,
        actor: str,
        expected: Expected = None,
        is_owner: bool = False,
    ) -> tuple[bool, Shown]:
        """Write a whole record. Returns whether it is a new one, and the record without secrets.

        A field that the body leaves out gets its default. A secret given as `***` stays as it is stored. Only the
        deployment's owner changes a rate limit. Raises PreconditionFailed, and changes nothing, if the record is not as
        `expected`.
        """
        _check_id(kind, id_)
        if kind == "platforms" and id_ != platform_id:
            raise NotFound("there is no such platform", field="platform_id")
        ids = {KINDS[kind].id_field: id_} | ({"platform_id": platform_id} if kind == "bots" else {})
        record = parse_record(kind, body, ids)
        if kind == "core_ai":
            self._check_address(provider_of(record).url(record), "api_endpoint")
        if kind == "platforms":
            self._check_address(record["base_url"], "base_url")

        def step(records: Records) -> tuple[bool, dict[str, Any], list[str]]:
            if kind != "platforms" and records.get("platforms", platform_id) is None:
                raise Conflict("your platform has no record yet: write that first", field="platform_id")
            was = records.get(kind, id_)
            check_expected(was, expected)
            whole = _complete(kind, record, was, records)
            if kind == "platforms" and not is_owner:
                whole = _with_stored_limit(whole, was)
            self._check_secrets(whole, platform_id)
            if self.requires_safety and kind == "bots":
                safety.check_bot(whole, records, platform_id)
            if self.requires_safety and kind == "platforms":
                safety.check_platform(whole, was, records)
            created = records.put(kind, whole)
            if expected == "new" and not created:
                # Two writers at the same moment: both saw no record, because a platform that is not there has no row
                # to lock.
                raise PreconditionFailed("it exists already")
            stored = _found(kind, records.get(kind, id_))
            records.note(AuditEntry(actor, "put", kind, id_, was and _shown(kind, was), _noted(kind, stored, was)))
            return created, stored, bots_with(kind, id_, records)

        created, stored, bot_ids = self.store.change(platform_id, step)
        self.refresh(platform_id, bot_ids)
        return created, Shown(_shown(kind, stored), stored["revision"])

    def delete(
        self,
        kind: RecordKind,
        platform_id: str,
        id_: str,
        *,
        actor: str,
        expected: Expected = None,
        is_owner: bool = False,
    ) -> None:
        """Delete a record. Raises Conflict if another record refers to it, or PreconditionFailed."""
        _check_id(kind, id_)

        def step(records: Records) -> None:
            was = _found(kind, records.get(kind, id_))
            check_expected(was, expected)
            if reason := _why_kept(kind, id_, records):
                raise Conflict(reason, field=KINDS[kind].id_field)
            if kind == "platforms" and not is_owner and _limit_of(was) is not None:
                # A new record without it would have the deployment's limit.
                raise Forbidden(
                    "has a limit that only the deployment's owner removes", lacks="scope", field=_LIMIT_FIELD
                )
            records.delete(kind, id_)
            records.note(AuditEntry(actor, "delete", kind, id_, _shown(kind, was)))

        self.store.change(platform_id, step)
        # No bot refers to a core or a platform that may be deleted, so only a deleted bot changes what is shared.
        self.refresh(platform_id, [id_] if kind == "bots" else [])

    def _check_address(self, url: str | None, field: str) -> None:
        if url is None:
            return
        try:
            self.egress.check(url)
        except EgressRefused as refused:
            raise InvalidRequest(str(refused), field=field) from None

    def _check_secrets(self, record: dict[str, Any], platform_id: str) -> None:
        """Check all secrets, also those that stay as stored: they may be older than a rule that forbids them."""
        secrets = [("auth_token", record.get("auth_token"))]
        secrets += [("meta_data.webhook_secrets", each) for each in record["meta_data"].get("webhook_secrets") or ()]
        for field, secret in secrets:
            try:
                self.secrets.check(secret or "", platform_id)
            except SecretRefused as refused:
                if secret:
                    raise InvalidRequest(str(refused), field=field) from None


def _shown(kind: RecordKind, record: dict[str, Any]) -> dict[str, Any]:
    """The record as operators see it: without secrets, and without values that can't be used.

    Such values were written past the API, and may hold anything, also secrets.
    """
    return _visible(redacted(_known(kind, record)))


def _noted(kind: RecordKind, record: dict[str, Any], was: dict[str, Any] | None) -> dict[str, Any]:
    """As `_shown`, but it says which secrets are new."""
    return _visible(redacted_change(_known(kind, record), was and _known(kind, was)))


def _known(kind: RecordKind, record: dict[str, Any]) -> dict[str, Any]:
    known, _ = usable(kind, record["meta_data"])
    return record | {"meta_data": known}


def _visible(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("auth_host", "revision")}


def check_expected(stored: dict[str, Any] | None, expected: Expected) -> None:
    """Check all but "new", which only the write itself can tell."""
    if expected == "there" and stored is None:
        raise PreconditionFailed("it does not exist")
    if isinstance(expected, int) and (stored is None or stored["revision"] != expected):
        raise PreconditionFailed("it has been changed since you read it: read it again")


def _check_id(kind: RecordKind, id_: str) -> None:
    if not is_identifier(id_):
        raise InvalidRequest(IDENTIFIER_RULE, field=KINDS[kind].id_field)


def _found(kind: RecordKind, record: dict[str, Any] | None) -> dict[str, Any]:
    if record is None:
        raise NotFound(f"there is no such {KINDS[kind].noun}", field=KINDS[kind].id_field)
    return record


# Complete a record with its stored secrets, and check it against the others.


def _complete(
    kind: RecordKind, record: dict[str, Any], stored: dict[str, Any] | None, records: Records
) -> dict[str, Any]:
    if kind == "platforms":
        return _with_webhook_secrets(record, stored)
    if kind == "core_ai":
        _check_fallback(record, records)
        return _with_token(record, stored)
    if record["core_ai_id"] is not None and not records.get("core_ai", record["core_ai_id"]):
        raise InvalidRequest("there is no such AI core", field="core_ai_id")
    return record


def _check_fallback(record: dict[str, Any], records: Records) -> None:
    """A fallback has no fallback of its own: so a call has an end, and cores can't form a circle."""
    own, fallback_id, field = record["core_ai_id"], record["meta_data"].get(_FALLBACK), f"meta_data.{_FALLBACK}"
    if fallback_id is None:
        return
    fallback = records.get("core_ai", fallback_id)
    if fallback_id == own:
        raise InvalidRequest("must be another AI core", field=field)
    if fallback is None:
        raise InvalidRequest("there is no such AI core", field=field)
    if _fallback_of(fallback):
        raise InvalidRequest("must be an AI core that has no fallback of its own", field=field)
    if any(_fallback_of(core_ai) == own for core_ai in records.all("core_ai")):
        raise InvalidRequest("must be left out: this AI core is the fallback of another one", field=field)


def _with_token(record: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any]:
    """The record with its token, and the host that the token is for."""
    token = record["auth_token"]
    url = provider_of(record).url(record)
    host = host_of(url) if token and url else None
    if token == REDACTED:
        if stored is None or stored["auth_token"] is None:
            raise InvalidRequest("is ***, but no token is stored: give the token", field="auth_token")
        if stored["auth_host"] != host:
            raise InvalidRequest("was stored for another host: give the token again", field="auth_token")
        token = stored["auth_token"]
    return record | {"auth_token": token, "auth_host": host}


def _with_webhook_secrets(record: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any]:
    """The record with its secrets. The first `***` is the first stored secret, and the second `***` the second.

    So an operator can put a new secret before an old one.
    """
    secrets = record["meta_data"].get("webhook_secrets") or ()
    if REDACTED not in secrets:
        return record
    known = iter(usable("platforms", stored["meta_data"] if stored else None)[0].get("webhook_secrets", ()))
    kept = [next(known, None) if secret == REDACTED else secret for secret in secrets]
    if None in kept:
        raise InvalidRequest(
            "has more *** than secrets are stored: give the secrets", field="meta_data.webhook_secrets"
        )
    return record | {"meta_data": record["meta_data"] | {"webhook_secrets": kept}}


def _with_stored_limit(record: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any]:
    """The record with the rate limit that is stored. It may repeat the limit or leave it out. Raises Forbidden."""
    own, given = _limit_of(stored), record["meta_data"].get(_LIMIT)
    if given not in (None, own):
        raise Forbidden("is changed by the deployment's owner only", lacks="scope", field=_LIMIT_FIELD)
    return record | {"meta_data": record["meta_data"] | {_LIMIT: own}} if own is not None else record


def _limit_of(stored: dict[str, Any] | None) -> int | None:
    limit: int | None = usable("platforms", stored["meta_data"] if stored else None)[0].get(_LIMIT)
    return limit


# Which record refers to which.


def _fallback_of(core_ai: dict[str, Any]) -> Any:
    meta_data = core_ai["meta_data"]
    return meta_data.get(_FALLBACK) if isinstance(meta_data, dict) else None


def _why_kept(kind: RecordKind, id_: str, records: Records) -> str | None:
    """Why a record must not be deleted. None: it may be."""
    if kind == "core_ai":
        if any(bot["core_ai_id"] == id_ for bot in records.all("bots")):
            return "a bot answers with it: change that bot first"
        if any(_fallback_of(core_ai) == id_ for core_ai in records.all("core_ai")):
            return "it is the fallback of another AI core: change that AI core first"
    if kind == "platforms":
        if id_ == DEFAULT_PLATFORM:
            return "the default platform can't be deleted"
        if records.all("bots") or records.all("core_ai"):
            return "it has bots or AI cores: delete these first"
    return None


def bots_with(kind: RecordKind, id_: str, records: Records) -> list[str]:
    """The ids of the bots whose configuration contains the record, and so is shared anew."""
    if kind == "bots":
        return [id_]
    bots = records.all("bots")
    if kind == "core_ai":
        cores = {id_} | {core_ai["core_ai_id"] for core_ai in records.all("core_ai") if _fallback_of(core_ai) == id_}
        return [bot["bot_id"] for bot in bots if bot["core_ai_id"] in cores]
    return list(dict.fromkeys([*(bot["bot_id"] for bot in bots), DEFAULT_BOT]))
