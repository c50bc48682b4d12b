"""Copies of configuration records without their secrets: to show them, and to share them with other processes."""

from __future__ import annotations

from typing import Any

from message_handler.domain.identifiers import is_arn

#: Stands for a secret wherever a record is shown or shared.
REDACTED = "***"
#: Stands for a secret in the audit that was not there before.
NEW_SECRET = "*** (new)"  # noqa: S105


def redacted(record: dict[str, Any]) -> dict[str, Any]:
    """A copy that may be shown, of an AI core, a platform, or a bot with both inside."""
    return _without_secrets(record, arns=False)


def redacted_change(record: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """A copy for the audit, of a changed AI core, platform or bot. It says which secrets are new, but shows none."""
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
    """A copy that may leave the process. It has no literal secrets; the ARN of a secret stays."""
    return _without_secrets(configuration, arns=True)


def unredacted(configuration: dict[str, Any]) -> dict[str, Any]:
    """A copy of a shared configuration, without the marks of secrets that were left out."""
    copy = copied(configuration)
    for record in _records_with_secrets(copy):
        if record.get("auth_token") == REDACTED:
            record.update(auth_token=None, auth_required=True)
        if secrets := record["meta_data"].get("webhook_secrets"):
            record["meta_data"]["webhook_secrets"] = [secret for secret in secrets if secret != REDACTED]
    return copy


def is_complete(configuration: dict[str, Any]) -> bool:
    """Whether the shared configuration has all of its secrets."""
    return unredacted(configuration) == configuration


def _without_secrets(record: dict[str, Any], *, arns: bool) -> dict[str, Any]:
    def hidden(secret: str | None) -> str | None:
        return secret if secret is None or (arns and is_arn(secret)) else REDACTED

    copy = copied(record)
    for each in _records_with_secrets(copy):
        if "auth_token" in each:
            each["auth_token"] = hidden(each["auth_token"])
        secrets = each["meta_data"].get("webhook_secrets")
        if secrets is not None:
            each["meta_data"]["webhook_secrets"] = [hidden(secret) for secret in secrets]
    return copy


def _records_with_secrets(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The records that may hold secrets: this one, and those inside it."""
    core_ai = record.get("core_ai") or {}
    return [each for each in (record, core_ai, core_ai.get("fallback"), record.get("platform")) if each]


def copied[T](value: T) -> T:
    """A copy of a JSON value. It takes a sixth of `deepcopy`'s time, and each request and each job needs one."""
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}  # type: ignore[return-value]
    return [copied(item) for item in value] if isinstance(value, list) else value  # type: ignore[return-value]
