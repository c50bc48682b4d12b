"""Jobs as parameters of SQL statements: values by name."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from message_handler.archive.versions import SaidTurn, edits_of, turns_of
from message_handler.domain.conversations import ConversationKey, Turn
from message_handler.domain.documents import as_text, job_document
from message_handler.domain.jobs import Job
from message_handler.domain.messages import Message
from message_handler.domain.raised import Raised
from message_handler.ports.archive import Settled

type Values = dict[str, Any]


def key_values(key: ConversationKey) -> Values:
    return {"platform_id": key.platform_id, "conversation_id": key.conversation_id, "name_hash": key.name_hash}


def job_values(job: Job) -> Values:
    return key_values(job.key) | {
        "job_id": job.job_id,
        "bot_id": job.bot_id,
        "oldest": job.accepted_at,
        "message_ids": [message.message_id for message in job.messages],
        "ids": [id_ for message in job.messages for id_ in message.possible_ids],
        "created_at": job.created_at,
        "started_at": job.started_at,
        "document": job_document(job),
        "promises": job.promises or None,
    }


def end_values(
    job: Job,
    messages: Sequence[Message] | None = None,
    *,
    settled: Container[str] = (),
    said: Sequence[SaidTurn] | None = None,
) -> Values:
    """An ended job as a parameter of `end_jobs`. It settles these of the job's messages, by default all.

    Ids in `settled` are left out: they stay with the job that settled them. `said` are its turns, by default those of
    the messages and the reply.
    """
    messages = job.messages if messages is None else messages
    if said is None:
        reply = [] if job.reply is None else [SaidTurn(Turn("assistant", job.reply))]
        said = [*turns_of(messages), *reply]
    own = {message.message_id for message in messages}
    ended = [(id_, message) for message in messages for id_ in message.ids if id_ not in settled]
    return (
        job_values(job)
        | {
            "run_id": job.job_id,
            "status": job.status.value,
            "finished_at": job.finished_at,
            "ids": [id_ for id_, _ in ended],
            "words": [message.words_digest for _, message in ended],
            "accepted_ats": [message.accepted_at for _, message in ended],
            "edits": [edit._asdict() for edit in edits_of(messages)] or None,
            "given_ids": list(job.given_ids),
            "edited_ids": list(job.edited_ids),
            "findings": [asdict(found) for found in job.findings if found.message_id in own] or None,
        }
        | turn_values(said)
    )


def turn_values(said: Sequence[SaidTurn]) -> Values:
    """Turns as parameters of `end_jobs` or `add_turns`."""
    return {
        "roles": [turn.role for turn, _, _ in said],
        "contents": [turn.content for turn, _, _ in said],
        "turn_ids": [turn.message_id for turn, _, _ in said],
        "edited_ats": [edited_at for _, edited_at, _ in said],
        "earlier": [json.dumps(earlier) if earlier else None for _, _, earlier in said],
    }


def settle_values(ends: Iterable[tuple[str, Settled]]) -> Values:
    """Ids and their ends as parameters of `settle_also`."""
    ends = list(ends)
    return {
        "ids": [id_ for id_, _ in ends],
        "job_ids": [end.job_id for _, end in ends],
        "kinds": [end.kind for _, end in ends],
        "words": [end.words for _, end in ends],
        "accepted_ats": [end.accepted_at for _, end in ends],
    }


def raised_values(raised: Raised) -> Values:
    """Found danger as a parameter of `note_raised`, with its notice as an ended job."""
    return key_values(raised.key) | {
        "job_id": raised.job_id,
        "bot_id": "",  # of the conversation's row, if it is missing
        "document": job_document(raised.job),
        "level": raised.level,
        "rule": raised.rule,
        "rules_version": raised.rules_version,
        "message_ids": list(raised.message_ids),
        "raised_at": raised.raised_at,
        "correlation_id": raised.correlation_id,
        "drill": raised.drill,
        "webhook_id": raised.webhook_id,
    }


def numbered(jobs: Sequence[Values]) -> Values:
    """Several jobs as one parameter of an SQL function. JSON has no infinity, so `oldest` is a text."""
    rows = [job | {"number": number, "oldest": str(job["oldest"])} for number, job in enumerate(jobs)]
    return {"jobs": as_text(rows)}


def settled_in(rows: Iterable[Sequence[Any]]) -> dict[str, Settled]:
    """What is settled, by id, from rows of the statement `settled_of`."""
    return {id_: Settled(job_id, kind, words or "", at or 0.0) for id_, job_id, kind, words, at in rows}
