"""Configuration records without their secrets: as they may be shown, and as they may be shared with other processes."""

from __future__ import annotations

from typing import Any

from message_handler.domain.identifiers import is_arn

#: Stands for a secret wherever a record is shown or shared.
REDACTED = "***"
#: Stands for one in the audit that was not there before.
NEW_SECRET = "*** (new)"  # noqa: S105


def redacted(record: dict[str, Any]) -> dict[str, Any]:
    """A copy that may be shown: of an AI core, a platform, or a bot with both inside."""
    return _without_secrets(record, arns=False)


def redacted_change(record: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """A copy that may be kept of a changed AI core, platform or bot: tells which secrets are new, and none of them."""
    known, copy = (_secrets(before) if before else set()), redacted(record)
    if record.get("auth_token") and record["auth_token"] not in known:
        copy["auth_token"] = NEW_SECRET
    if secrets := record["meta_data"].get("webhook_secrets"):
        marks = [REDACTED if secret in known else NEW_SECRET for secret in secrets]
        copy["meta_data"]["webhook_secrets"] = marks
    return copy


def _secrets(record: dict[str, Any]) -> set[str]:
    return {*filter(None, [record.get("auth_token")]), *(record["meta_data"].get("webhook_secrets") or ())}


def shareable(configuration: dict[str, Any]) -> dict[str, Any]:
    """A copy that may leave the process: without literal secrets. A secret's ARN is none."""
    return _without_secrets(configuration, arns=True)


def unredacted(configuration: dict[str, Any]) -> dict[str, Any]:
    """A copy of a shared configuration that claims no secret which it doesn't hold."""
    copy = copied(configuration)
    for record in _secretive(copy):
        if record.get("auth_token") == REDACTED:
            record.update(auth_token=None, auth_required=True)
        if secrets := record["meta_data"].get("webhook_secrets"):
            record["meta_data"]["webhook_secrets"] = [secret for secret in secrets if secret != REDACTED]
    return copy


def is_complete(configuration: dict[str, Any]) -> bool:
    """Whether no secret was left out of it."""
    return unredacted(configuration) == configuration


def _without_secrets(record: dict[str, Any], *, arns: bool) -> dict[str, Any]:
    def hidden(secret: str | None) -> str | None:
        return secret if secret is None or (arns and is_arn(secret)) else REDACTED

    copy = copied(record)
    for part in _secretive(copy):
        if "auth_token" in part:
            part["auth_token"] = hidden(part["auth_token"])
        secrets = part["meta_data"].get("webhook_secrets")
        if secrets is not None:
            part["meta_data"]["webhook_secrets"] = [hidden(secret) for secret in secrets]
    return copy


def _secretive(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The records that may hold secrets: this one, and those inside."""
    core_ai = record.get("core_ai") or {}
    return [part for part in (record, core_ai, core_ai.get("fallback"), record.get("platform")) if part]


def copied[T](value: T) -> T:
    """A copy of what JSON can hold, in a sixth of `deepcopy`'s time: each request and each job needs one."""
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}  # type: ignore[return-value]
    return [copied(item) for item in value] if isinstance(value, list) else value  # type: ignore[return-value]
