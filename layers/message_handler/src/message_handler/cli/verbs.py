"""The functions of the commands. Each calls the API and prints its answer."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from message_handler.cli.client import Answer, Client
from message_handler.cli.rule_files import source_of
from message_handler.cli.tables import as_json, fields, printable, table
from message_handler.domain.safety_report import as_csv
from message_handler.domain.text import is_wordless

Verb = Callable[[Client, Namespace], int | None]

_ID_FIELDS = {"bots": "bot_id", "core-ai": "core_ai_id", "platforms": "platform_id"}
_RECORD_COLUMNS = {
    "bots": ("bot_id", "name", "language", "is_active", "core_ai_id"),
    "core-ai": ("core_ai_id", "name", "api_endpoint", "auth_required", "timeout_seconds"),
    "platforms": ("platform_id", "name", "base_url"),
}
#: Shown for a photo or a sticker that came without words.
_NO_WORDS = "[no words]"
_LOCK_COLUMNS = ("conversation_id", "ai_job_id", "acquired_at", "heartbeat_at", "consolidated_messages", "tier")
_JOB_COLUMNS = (
    "job_id",
    "conversation_id",
    "kind",
    "status",
    "created_at",
    "finished_at",
    "error_code",
    "superseded_by",
)
_DELIVERY_COLUMNS = ("webhook_id", "event", "conversation_id", "job_id", "attempts", "created_at", "last_error")
_RAISED_COLUMNS = (
    "job_id",
    "conversation_id",
    "drill",
    "state",
    "level",
    "rule",
    "raised_at",
    "taken_by",
    "closed_why",
)
_REPORT_COLUMNS = (
    "by",
    "name",
    "raised",
    "delivered",
    "delivered_median_seconds",
    "taken",
    "taken_median_seconds",
    "taken_p95_seconds",
    "closed",
    "closed_median_seconds",
)
_RULE_COLUMNS = ("id", "language", "level", "reviewed_by", "not_applicable", "about")
_AUDIT_COLUMNS = ("id", "at", "actor", "action", "kind", "record_id")


class Declined(Exception):
    """The operator declined, or changed nothing."""


class NoTerminal(Exception):
    """There is no terminal to ask the operator at."""


def confirm(options: Namespace, what: str) -> None:
    """Ask before an action that can't be undone. Raises Declined or NoTerminal."""
    if options.yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NoTerminal(f"{what}: there is no terminal to confirm this at; add --yes")
    sys.stderr.write(f"{printable(what)}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Declined("nothing was done")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


def show(options: Namespace, answer: Answer, text: str | None = None) -> None:
    """Print an answer, as JSON or for people."""
    say(as_json(answer.body) if options.json else text or fields(answer.body))


def page(options: Namespace, answer: Answer, name: str, columns: Sequence[str]) -> None:
    """Print a list, and how to get its next page."""
    show(options, answer, table(answer.body[name], columns))
    if not options.json and answer.body.get("next"):
        sys.stderr.write(f"there is more: add --next {printable(answer.body['next'])}\n")


def status(client: Client, options: Namespace) -> int:
    answer = client.call("GET", "admin", "status")
    show(options, answer)
    return 1 if answer.body.get("status") == "unhealthy" else 0


def health(client: Client, options: Namespace) -> int:
    answer = client.call("GET", "health", accept=(503,), signed_in=False)
    show(options, answer, printable(str(answer.body.get("status", "down"))))
    return 0 if answer.status == 200 else 1


# Locks.


def list_locks(client: Client, options: Namespace) -> None:
    page(options, client.call("GET", "admin", "locks"), "locks", _LOCK_COLUMNS)


def show_lock(client: Client, options: Namespace) -> None:
    show(options, client.call("GET", "admin", "locks", options.conversation_id))


def release_lock(client: Client, options: Namespace) -> None:
    confirm(options, f"Release the lock of {options.conversation_id}, so that another worker answers")
    show(options, client.call("DELETE", "admin", "locks", options.conversation_id))


def clean_up_locks(client: Client, options: Namespace) -> None:
    confirm(options, f"Release all locks that are older than {options.max_age_hours:g} hours")
    body = {"max_age_hours": options.max_age_hours}
    show(options, client.call("POST", "admin", "locks", "cleanup", body=body))


# Jobs.


def list_jobs(client: Client, options: Namespace) -> None:
    query = {
        "status": options.status,
        "conversation_id": options.conversation,
        "limit": options.limit,
        "next": options.next,
    }
    page(options, client.call("GET", "admin", "jobs", query=query), "jobs", _JOB_COLUMNS)


def show_job(client: Client, options: Namespace) -> None:
    show(options, client.call("GET", "jobs", options.job_id))


def retry_job(client: Client, options: Namespace) -> None:
    show(options, client.call("POST", "admin", "jobs", options.job_id, "retry"))


def cancel_job(client: Client, options: Namespace) -> None:
    confirm(options, f"Cancel the job {options.job_id} and leave its messages unanswered")
    show(options, client.call("DELETE", "jobs", options.job_id))


# Dead letters.


def list_dead_letters(client: Client, options: Namespace) -> None:
    answer = client.call("GET", "admin", "dead-letters")
    show(options, answer, table(answer.body["deliveries"], _DELIVERY_COLUMNS))


def redrive_dead_letters(client: Client, options: Namespace) -> None:
    confirm(options, "Try all dead deliveries again, for another day")
    show(options, client.call("POST", "admin", "dead-letters", "redrive"))


# Configuration.


def list_records(client: Client, options: Namespace) -> None:
    name = options.noun.replace("-", "_")
    page(options, client.call("GET", "admin", options.noun), name, _RECORD_COLUMNS[options.noun])


def show_record(client: Client, options: Namespace) -> None:
    answer = client.call("GET", "admin", options.noun, options.id)
    show(options, answer, fields(answer.body | {"revision": (answer.etag or "").strip('"')}))


def put_record(client: Client, options: Namespace) -> None:
    headers = {"If-None-Match": "*"} if options.new else _if_match(options)
    body = _record(_text_of(options.file))
    show(options, client.call("PUT", "admin", options.noun, options.id, body=body, headers=headers))


def delete_record(client: Client, options: Namespace) -> None:
    confirm(options, f"Delete the record {options.id} of {options.noun}")
    show(options, client.call("DELETE", "admin", options.noun, options.id, headers=_if_match(options)))


def edit_record(client: Client, options: Namespace) -> None:
    """Open a record in the user's editor. It is written back only if it was not changed meanwhile."""
    answer = client.call("GET", "admin", options.noun, options.id)
    before = json.dumps(answer.body, ensure_ascii=False, indent=2) + "\n"
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as directory:  # only this user can read it
        file = Path(directory) / f"{_ID_FIELDS[options.noun]}.json"
        file.write_text(before, encoding="utf-8")
        if subprocess.run([*shlex.split(editor), str(file)], check=False).returncode != 0:  # noqa: S603  the user's own
            raise Declined("the editor failed, nothing was done")
        after = file.read_text(encoding="utf-8")
    if after == before:
        raise Declined("nothing was changed")
    headers = {"If-Match": answer.etag} if answer.etag else {}
    show(options, client.call("PUT", "admin", options.noun, options.id, body=_record(after), headers=headers))


def _text_of(file: str) -> str:
    return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")


def _record(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        # Not chained, and without the text, which may hold a token.
        raise ValueError("the record is not JSON") from None


def _if_match(options: Namespace) -> dict[str, str]:
    return {} if options.if_match is None else {"If-Match": f'"{options.if_match}"'}


# Conversations.


def show_conversation(client: Client, options: Namespace) -> None:
    answer = client.call("GET", "conversations", options.conversation_id)
    said = [turn | {"content": _NO_WORDS} if is_wordless(turn["content"]) else turn for turn in answer.body["turns"]]
    turns = table(said, ("created_at", "role", "content"))
    about = {name: value for name, value in answer.body.items() if name != "turns"}
    show(options, answer, f"{fields(about)}\n\n{turns}")


def export_conversation(client: Client, options: Namespace) -> None:
    """Print all pages as one JSON document, also without --json: it is for the patient, or for another system."""
    records: list[Any] = []
    query: dict[str, Any] = {}
    while True:
        found = client.call("GET", "admin", "conversations", options.conversation_id, "export", query=query).body
        records += found["records"]
        if found["next"] is None:
            break
        query = {"after": found["next"]}
    document = {"conversation_id": options.conversation_id, "records": records}
    text = as_json(document) + "\n"
    if options.output is None:
        sys.stdout.write(text)
        return
    # It is a patient's data: only this user can read the file, and no file is overwritten.
    file = os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)


def erase_conversation(client: Client, options: Namespace) -> None:
    confirm(options, f"Erase the conversation {options.conversation_id} from every store, for good")
    show(options, client.call("DELETE", "admin", "conversations", options.conversation_id))


def hand_off(client: Client, options: Namespace) -> None:
    body = {"to": options.to}
    show(options, client.call("POST", "conversations", options.conversation_id, "handoff", body=body))


def list_audit(client: Client, options: Namespace) -> None:
    query = {"kind": options.kind, "limit": options.limit, "next": options.next}
    page(options, client.call("GET", "admin", "audit", query=query), "entries", _AUDIT_COLUMNS)


# Raised conversations.


def list_raised(client: Client, options: Namespace) -> None:
    query = {
        "state": options.state,
        "level": options.level,
        "conversation_id": options.conversation,
        "from": options.first,
        "to": options.last,
        "limit": options.limit,
        "next": options.next,
    }
    page(options, client.call("GET", "admin", "safety", "raised", query=query), "raised", _RAISED_COLUMNS)


def take_raised(client: Client, options: Namespace) -> None:
    show(options, client.call("POST", "admin", "safety", "raised", options.job_id, "take"))


def close_raised(client: Client, options: Namespace) -> None:
    body = {"why": options.why}
    show(options, client.call("POST", "admin", "safety", "raised", options.job_id, "close", body=body))


def raise_drill(client: Client, options: Namespace) -> None:
    confirm(options, f"Raise a drill in {options.conversation_id}, of which its platform is told")
    body = {"conversation_id": options.conversation_id}
    show(options, client.call("POST", "admin", "safety", "drill", body=body))


def show_rules(client: Client, options: Namespace) -> None:
    answer = client.call("GET", "admin", "safety")
    settings, shipped = answer.body["settings"], answer.body["shipped"]
    if options.settings:
        say(as_json(settings))
        return
    own = [rule.get("id") for language in settings["rules"] for rule in language.get("rules", ())]
    revision = (answer.etag or "").strip('"')
    reviewed = {name: settings["review"] and settings["review"][name] for name in ("reviewed_by", "reviewed_at")}
    about = answer.body["in_force"] | reviewed | {"own_rules": own, "revision": revision}
    show(options, answer, f"{fields(about)}\n\n{table(shipped['rules'], _RULE_COLUMNS)}")


def set_rules(client: Client, options: Namespace) -> None:
    body = (
        source_of(Path(options.file)) if options.file.endswith((".yaml", ".yml")) else _record(_text_of(options.file))
    )
    answer = client.call("PUT", "admin", "safety", body=body, headers=_if_match(options))
    show(options, answer, fields(answer.body["in_force"] | {"revision": (answer.etag or "").strip('"')}))


def report_safety(client: Client, options: Namespace) -> None:
    answer = client.call("GET", "admin", "safety", "report", query={"from": options.first, "to": options.last})
    if options.csv:
        sys.stdout.write(as_csv(answer.body))
        return
    about = {name: answer.body[name] for name in ("from", "to", "drills")}
    rows = [row | {"name": row["name"] or ""} for row in answer.body["rows"]]
    show(options, answer, f"{fields(about)}\n\n{table(rows, _REPORT_COLUMNS)}")
