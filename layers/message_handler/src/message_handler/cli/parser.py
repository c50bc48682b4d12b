"""The commands: nouns, verbs, options and their help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from message_handler.cli import login, safety, verbs
from message_handler.cli.client import DEFAULT_URL
from message_handler.cli.verbs import Verb

_ABOUT = """\
sign in with `message-handler login`, or set in the environment (other users of a machine can see arguments):
  MESSAGE_HANDLER_TOKEN           an access token, or
  MESSAGE_HANDLER_CLIENT_ID, MESSAGE_HANDLER_CLIENT_SECRET, MESSAGE_HANDLER_TOKEN_URL
                                  for client credentials

exit codes:
  0  done            3  the API can't be reached
  1  refused or failed, or `status` says unhealthy
  2  wrong usage     4  not signed in

examples:
  message-handler login --sign-in-url https://….amazoncognito.com/oauth2/authorize --client-id 4fqp…
  message-handler status
  message-handler jobs list --status failed
  message-handler bots edit pharmacy
"""
_CONVERSATION = ("conversation_id", {"help": "the platform's id of the conversation"})
_JOB = ("job_id", {"help": "the job's id"})
_YES = ("--yes", {"action": "store_true", "help": "do not ask for confirmation"})
_PAGE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--limit", {"type": int, "metavar": "N", "help": "the most entries to show, 1 to 100 (default: 50)"}),
    ("--next", {"metavar": "CURSOR", "help": "show the page after this cursor, which the previous page printed"}),
)
_IF_MATCH = ("--if-match", {"type": int, "metavar": "REVISION", "help": "only if the record still has this revision"})


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command; `run` is its function. A wrong command exits with 2 and says why."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--url", default=argparse.SUPPRESS, help=f"the API's address (default: MESSAGE_HANDLER_URL, else {DEFAULT_URL})"
    )
    common.add_argument("--platform", default=argparse.SUPPRESS, help="the tenant, if your token holds several")
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print the API's answer as JSON")
    parser = argparse.ArgumentParser(
        prog="message-handler",
        description="Administer a MessageHandler.",
        epilog=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    nouns = _Nouns(parser.add_subparsers(metavar="COMMAND", required=True), common)
    _login(nouns)
    nouns.verb(
        "status", verbs.status, "show the state of the service; exits with 1 if it is unhealthy", "status --json"
    )
    nouns.verb("health", verbs.health, "say whether messages are accepted; needs no token", "health")
    _locks(nouns.noun("locks", "the locks of conversations that wait or are being answered"))
    _jobs(nouns.noun("jobs", "the jobs that answer messages"))
    _dead_letters(nouns.noun("dead-letters", "webhook deliveries that were given up"))
    for noun, one, about in (
        ("bots", "a bot", "the bots that answer patients"),
        ("core-ai", "an AI core", "the AI cores that bots answer with"),
        ("platforms", "a platform", "the tenant's platform"),
    ):
        _records(nouns.noun(noun, about), noun, one)
    _conversations(nouns.noun("conversations", "the conversations of patients"))
    to = ("to", {"choices": ("human", "bot"), "help": "who answers from now on"})
    nouns.verb(
        "handoff",
        verbs.hand_off,
        "hand a conversation to a human, or back to the bot",
        "handoff c-1 human",
        _CONVERSATION,
        to,
    )
    audit = nouns.noun("audit", "the record of who did what")
    kinds = "bots, core_ai, platforms, locks, jobs, dead_letters, conversations, raised or safety_rules"
    kind = ("--kind", {"help": f"only this kind: {kinds}"})
    audit.verb("list", verbs.list_audit, "list the entries, newest first", "audit list --kind bots", kind, *_PAGE)
    _raised(nouns.noun("raised", "the conversations in which danger was found"))
    _safety(nouns.noun("safety", "the rules that find danger in patients' messages, and the report on it"))
    options = parser.parse_args(arguments)
    options.url = getattr(options, "url", os.environ.get("MESSAGE_HANDLER_URL") or DEFAULT_URL)
    options.platform, options.json = getattr(options, "platform", None), getattr(options, "json", False)
    return options


def _login(nouns: _Nouns) -> None:
    nouns.verb(
        "login",
        login.log_in,
        "sign in with a browser, for the next commands at this API",
        "login --url https://….amazonaws.com/v1 --client-id 4fqp… \\\n"
        "      --sign-in-url https://….amazoncognito.com/oauth2/authorize",
        (
            "--sign-in-url",
            {"metavar": "URL", "help": "the stack's output SignInUrl (default: MESSAGE_HANDLER_SIGN_IN_URL)"},
        ),
        ("--client-id", {"metavar": "ID", "help": "its output OperatorClientId (default: MESSAGE_HANDLER_CLIENT_ID)"}),
        (
            "--callback-url",
            {
                "metavar": "URL",
                "default": login.CALLBACK_URL,
                "help": f"an address of its parameter OperatorCallbackUrls (default: {login.CALLBACK_URL})",
            },
        ),
        ("--no-browser", {"action": "store_true", "help": "only print the address to sign in at"}),
    )
    nouns.verb("logout", login.log_out, "end the session at this API and delete it here", "logout")


def _locks(locks: _Nouns) -> None:
    about_hours = "release the locks that are older than H hours (default: 24)"
    hours = ("--max-age-hours", {"type": float, "default": 24.0, "metavar": "H", "help": about_hours})
    locks.verb("list", verbs.list_locks, "list the locks, oldest first", "locks list")
    locks.verb("show", verbs.show_lock, "show a conversation's lock", "locks show c-1", _CONVERSATION)
    locks.verb(
        "release",
        verbs.release_lock,
        "release a lock, so that another worker answers",
        "locks release c-1 --yes",
        _CONVERSATION,
        _YES,
    )
    locks.verb(
        "cleanup",
        verbs.clean_up_locks,
        "release locks that are old or whose worker is silent, and wake what waits",
        "locks cleanup --max-age-hours 1 --yes",
        hours,
        _YES,
    )


def _jobs(jobs: _Nouns) -> None:
    status = (
        "--status",
        {"choices": ("processing", "completed", "failed", "cancelled"), "help": "only jobs with this status"},
    )
    conversation = ("--conversation", {"metavar": "ID", "help": "only jobs of this conversation"})
    jobs.verb(
        "list",
        verbs.list_jobs,
        "list the jobs, newest first",
        "jobs list --status failed",
        status,
        conversation,
        *_PAGE,
    )
    jobs.verb(
        "show", verbs.show_job, "show a job's status and reply", "jobs show 361f1a3a-0dbe-8854-9d6e-3cf972894b32", _JOB
    )
    jobs.verb(
        "retry",
        verbs.retry_job,
        "let a new job answer the messages of a failed one",
        "jobs retry 361f1a3a-0dbe-8854-9d6e-3cf972894b32",
        _JOB,
    )
    jobs.verb(
        "cancel",
        verbs.cancel_job,
        "cancel a job: its messages get no answer",
        "jobs cancel 361f1a3a-0dbe-8854-9d6e-3cf972894b32 --yes",
        _JOB,
        _YES,
    )


def _dead_letters(letters: _Nouns) -> None:
    letters.verb("list", verbs.list_dead_letters, "list these deliveries, without any text", "dead-letters list")
    letters.verb(
        "redrive",
        verbs.redrive_dead_letters,
        "try all of these deliveries again, for another day",
        "dead-letters redrive --yes",
        _YES,
    )


def _records(records: _Nouns, noun: str, one: str) -> None:
    record = ("id", {"help": "the record's id"})
    file = ("file", {"metavar": "FILE", "help": "the whole record as JSON; - reads standard input"})
    new = ("--new", {"action": "store_true", "help": "only if the record does not exist yet"})
    records.verb("list", verbs.list_records, f"list the {noun}", f"{noun} list", noun=noun)
    records.verb("show", verbs.show_record, f"show {one} with its revision", f"{noun} show x --json", record, noun=noun)
    records.verb(
        "put", verbs.put_record, f"write {one}", f"{noun} put x x.json --new", record, file, new, _IF_MATCH, noun=noun
    )
    records.verb(
        "edit",
        verbs.edit_record,
        f"change {one} in $EDITOR; refused if it was changed meanwhile",
        f"{noun} edit x",
        record,
        noun=noun,
    )
    records.verb("delete", verbs.delete_record, f"delete {one}", f"{noun} delete x", record, _YES, _IF_MATCH, noun=noun)


def _conversations(conversations: _Nouns) -> None:
    output = ("--output", {"metavar": "FILE", "help": "a new file that only you can read (default: standard output)"})
    conversations.verb(
        "show", verbs.show_conversation, "show a conversation's turns", "conversations show c-1", _CONVERSATION
    )
    conversations.verb(
        "export",
        verbs.export_conversation,
        "print all that is stored about a conversation, as JSON",
        "conversations export c-1 --output c-1.json",
        _CONVERSATION,
        output,
    )
    conversations.verb(
        "erase",
        verbs.erase_conversation,
        "erase a conversation from every store, for good",
        "conversations erase c-1",
        _CONVERSATION,
        _YES,
    )


def _days(what: str) -> tuple[tuple[str, dict[str, Any]], ...]:
    """The options for the first and the last day."""
    day = {"metavar": "DAY"}
    return (
        ("--from", day | {"dest": "first", "help": f"the first day {what}, in UTC, such as 2026-01-01"}),
        ("--to", day | {"dest": "last", "help": f"the last day {what}"}),
    )


def _raised(raised: _Nouns) -> None:
    state = ("--state", {"choices": ("raised", "taken", "closed"), "help": "only those in this state"})
    level = ("--level", {"choices": ("emergency", "crisis", "urgent"), "help": "only those of this level"})
    conversation = ("--conversation", {"metavar": "ID", "help": "only those of this conversation"})
    notice = ("job_id", {"help": "the id of the notice's job"})
    why = {"required": True, "metavar": "TEXT", "help": "why it needs no more care: your own word, never a patient's"}
    raised.verb(
        "list",
        verbs.list_raised,
        "list them, newest first, without any text of a patient",
        "raised list --state raised",
        state,
        level,
        conversation,
        *_days("on which they were raised"),
        *_PAGE,
    )
    job_id = "361f1a3a-0dbe-8854-9d6e-3cf972894b32"
    raised.verb("take", verbs.take_raised, "say that you care for the patient", f"raised take {job_id}", notice)
    raised.verb(
        "close",
        verbs.close_raised,
        "say that a taken conversation needs no more care",
        f'raised close {job_id} --why "The nurse has called."',
        notice,
        ("--why", why),
    )
    raised.verb(
        "drill",
        verbs.raise_drill,
        "raise a conversation for practice, marked as a drill",
        "raised drill drill-1 --yes",
        _CONVERSATION,
        _YES,
    )


def _safety(rules: _Nouns) -> None:
    text = ("text", {"metavar": "TEXT", "help": "the text; - reads standard input"})
    files = ("files", {"metavar": "FILE", "nargs": "+", "help": "files of rules in YAML"})
    own_file = {"metavar": "FILE", "help": "also try the tenant's own rules in this YAML file"}
    own_files = {"action": "store_true", "help": "the files have a tenant's own rules, which use shipped words"}
    rules.verb(
        "check",
        safety.check,
        "show what the shipped rules find in a text",
        'safety check "I can\'t breathe"',
        text,
        ("--own", own_file),
    )
    rules.verb("lint", safety.lint, "check files of rules", "safety lint --own own.yaml", files, ("--own", own_files))
    settings = {"action": "store_true", "help": "print only what the tenant has written, as JSON to edit and set"}
    rules.verb(
        "show",
        verbs.show_rules,
        "show the rules in force, how they were reviewed, and which do not apply",
        "safety show",
        ("--settings", settings),
    )
    file = {"metavar": "FILE", "help": "all of the settings as JSON, or as YAML if it ends in .yaml; - reads JSON"}
    rules.verb(
        "set",
        verbs.set_rules,
        "replace what the tenant has written about the rules",
        "safety set rules.json --if-match 1790000000000",
        ("file", file),
        _IF_MATCH,
    )
    rules.verb(
        "report",
        verbs.report_safety,
        "count what was raised and what followed, without any text",
        "safety report --from 2026-01-01 --to 2026-12-31 --csv",
        *_days("of the report"),
        ("--csv", {"action": "store_true", "help": "print the rows as CSV"}),
    )


class _Nouns:
    """Adds commands, each with the common options and an example."""

    def __init__(self, parsers: Any, common: argparse.ArgumentParser) -> None:
        self._parsers = parsers
        self._common = common

    def noun(self, name: str, about: str) -> _Nouns:
        """Add a command that has commands of its own."""
        parser = self._parsers.add_parser(name, help=about, description=f"{about[:1].upper()}{about[1:]}.")
        return _Nouns(parser.add_subparsers(metavar="COMMAND", required=True), self._common)

    def verb(
        self, name: str, run: Verb, about: str, example: str, *arguments: tuple[str, dict[str, Any]], **known: Any
    ) -> None:
        """Add a command that calls `run`."""
        parser = self._parsers.add_parser(
            name,
            help=about,
            description=f"{about[:1].upper()}{about[1:]}.",
            epilog=f"example:\n  message-handler {example}\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[self._common],
        )
        for flag, details in arguments:
            parser.add_argument(flag, **details)
        parser.set_defaults(run=run, **known)
