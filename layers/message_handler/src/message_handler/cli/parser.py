"""What the command line understands: nouns, verbs, and their help."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from message_handler.cli import login, verbs
from message_handler.cli.client import DEFAULT_URL
from message_handler.cli.verbs import Verb

_ABOUT = """\
sign in by `message-handler login`, or by the environment (arguments are shown to every user of a machine):
  MESSAGE_HANDLER_TOKEN           an access token, or
  MESSAGE_HANDLER_CLIENT_ID, MESSAGE_HANDLER_CLIENT_SECRET, MESSAGE_HANDLER_TOKEN_URL
                                  for client credentials

exit codes:
  0  done            3  the API can't be reached
  1  refused, failed, or `status` found it unhealthy
  2  wrong usage     4  not signed in

examples:
  message-handler login --sign-in-url https://….amazoncognito.com/oauth2/authorize --client-id 4fqp…
  message-handler status
  message-handler jobs list --status failed
  message-handler bots edit pharmacy
"""
_CONVERSATION = ("conversation_id", {"help": "the platform's id of the conversation"})
_JOB = ("job_id", {"help": "the job's id"})
_YES = ("--yes", {"action": "store_true", "help": "don't ask"})
_PAGE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--limit", {"type": int, "metavar": "N", "help": "so many at most, 1 to 100 (default 50)"}),
    ("--next", {"metavar": "CURSOR", "help": "the next page, as the one before named it"}),
)
_IF_MATCH = ("--if-match", {"type": int, "metavar": "REVISION", "help": "only if it is still at this revision"})


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command, with its `run`. Exits with 2, and says why, where it is none."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", default=argparse.SUPPRESS, help=f"the API (MESSAGE_HANDLER_URL, else {DEFAULT_URL})")
    common.add_argument("--platform", default=argparse.SUPPRESS, help="the tenant, for who may act in several")
    common.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="for machines: what the API says"
    )
    parser = argparse.ArgumentParser(
        prog="message-handler",
        description="Administer a MessageHandler.",
        epilog=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    nouns = _Nouns(parser.add_subparsers(metavar="COMMAND", required=True), common)
    _login(nouns)
    nouns.verb("status", verbs.status, "how each part is; exits with 1 if patients wait in vain", "status --json")
    nouns.verb("health", verbs.health, "whether messages are taken; needs no token", "health")
    _locks(nouns.noun("locks", "conversations that are being answered, or wait"))
    _jobs(nouns.noun("jobs", "answers in the making, and how they ended"))
    _dead_letters(nouns.noun("dead-letters", "deliveries that were given up"))
    for noun, what in (
        ("bots", "who answers patients"),
        ("core-ai", "the AI cores that bots answer with"),
        ("platforms", "tenants"),
    ):
        _records(nouns.noun(noun, what), noun)
    _conversations(nouns.noun("conversations", "what patients and bots said"))
    to = ("to", {"choices": ("human", "bot"), "help": "who answers from now on"})
    nouns.verb(
        "handoff", verbs.hand_off, "let a human answer, or the bot again", "handoff c-1 human", _CONVERSATION, to
    )
    audit = nouns.noun("audit", "who did what")
    kind = ("--kind", {"help": "bots, core_ai, platforms, locks, jobs, dead_letters or conversations"})
    audit.verb("list", verbs.list_audit, "the newest first", "audit list --kind bots", kind, *_PAGE)
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
        ("--sign-in-url", {"metavar": "URL", "help": "the stack's output SignInUrl (MESSAGE_HANDLER_SIGN_IN_URL)"}),
        ("--client-id", {"metavar": "ID", "help": "its OperatorClientId (MESSAGE_HANDLER_CLIENT_ID without a secret)"}),
        (
            "--callback-url",
            {
                "metavar": "URL",
                "default": login.CALLBACK_URL,
                "help": f"one of its OperatorCallbackUrls (default {login.CALLBACK_URL})",
            },
        ),
        ("--no-browser", {"action": "store_true", "help": "only print the address to sign in at"}),
    )
    nouns.verb("logout", login.log_out, "forget who signed in at this API, and end it there", "logout")


def _locks(locks: _Nouns) -> None:
    hours = ("--max-age-hours", {"type": float, "default": 24.0, "metavar": "H", "help": "(default 24)"})
    locks.verb("list", verbs.list_locks, "the oldest first", "locks list")
    locks.verb("show", verbs.show_lock, "one conversation's", "locks show c-1", _CONVERSATION)
    locks.verb(
        "release", verbs.release_lock, "let another worker answer", "locks release c-1 --yes", _CONVERSATION, _YES
    )
    locks.verb("cleanup", verbs.clean_up_locks, "free old ones", "locks cleanup --max-age-hours 1 --yes", hours, _YES)


def _jobs(jobs: _Nouns) -> None:
    status = ("--status", {"choices": ("processing", "completed", "failed", "cancelled"), "help": "only these"})
    conversation = ("--conversation", {"metavar": "ID", "help": "only this conversation's"})
    jobs.verb("list", verbs.list_jobs, "the newest first", "jobs list --status failed", status, conversation, *_PAGE)
    jobs.verb("show", verbs.show_job, "status and reply", "jobs show 361f1a3a-0dbe-8854-9d6e-3cf972894b32", _JOB)
    jobs.verb(
        "retry",
        verbs.retry_job,
        "let another job answer what a failed one did not",
        "jobs retry 361f1a3a-0dbe-8854-9d6e-3cf972894b32",
        _JOB,
    )
    jobs.verb(
        "cancel", verbs.cancel_job, "stop one", "jobs cancel 361f1a3a-0dbe-8854-9d6e-3cf972894b32 --yes", _JOB, _YES
    )


def _dead_letters(letters: _Nouns) -> None:
    letters.verb("list", verbs.list_dead_letters, "without any text", "dead-letters list")
    letters.verb("redrive", verbs.redrive_dead_letters, "try them for another day", "dead-letters redrive --yes", _YES)


def _records(records: _Nouns, noun: str) -> None:
    record = ("id", {"help": "the record's id"})
    file = ("file", {"metavar": "FILE", "help": "the whole record as JSON; - is the standard input"})
    new = ("--new", {"action": "store_true", "help": "only if there is none yet"})
    records.verb("list", verbs.list_records, "all", f"{noun} list", noun=noun)
    records.verb("show", verbs.show_record, "one, and its revision", f"{noun} show x --json", record, noun=noun)
    records.verb(
        "put", verbs.put_record, "write one", f"{noun} put x x.json --new", record, file, new, _IF_MATCH, noun=noun
    )
    records.verb(
        "edit", verbs.edit_record, "change one in $EDITOR, if nobody else does", f"{noun} edit x", record, noun=noun
    )
    records.verb("delete", verbs.delete_record, "delete one", f"{noun} delete x", record, _YES, _IF_MATCH, noun=noun)


def _conversations(conversations: _Nouns) -> None:
    output = ("--output", {"metavar": "FILE", "help": "a new file, for nobody else's eyes; else the standard output"})
    conversations.verb("show", verbs.show_conversation, "its turns", "conversations show c-1", _CONVERSATION)
    conversations.verb(
        "export",
        verbs.export_conversation,
        "all that is kept of a patient, as JSON",
        "conversations export c-1 --output c-1.json",
        _CONVERSATION,
        output,
    )
    conversations.verb(
        "erase", verbs.erase_conversation, "for good, everywhere", "conversations erase c-1", _CONVERSATION, _YES
    )


class _Nouns:
    """Where commands are added, each with the options that all have, and an example."""

    def __init__(self, parsers: Any, common: argparse.ArgumentParser) -> None:
        self._parsers = parsers
        self._common = common

    def noun(self, name: str, about: str) -> _Nouns:
        """A command of commands."""
        parser = self._parsers.add_parser(name, help=about, description=f"{about[:1].upper()}{about[1:]}.")
        return _Nouns(parser.add_subparsers(metavar="COMMAND", required=True), self._common)

    def verb(
        self, name: str, run: Verb, about: str, example: str, *arguments: tuple[str, dict[str, Any]], **known: Any
    ) -> None:
        """A command that does something."""
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
