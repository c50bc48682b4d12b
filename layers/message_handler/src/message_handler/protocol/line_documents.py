"""Lines as stores keep them: a hash of fields whose texts a store does not read. A save writes the changed ones.

`version`: the random token of the last save.
`line`: the line with its jobs as JSON, without any text.
`holder`: the `lock_id` of the lease, which a heartbeat compares.
`heartbeat_at`: when the worker with the lease was last heard of (Unix seconds).
`acquired_at`, `progress`: for operators and readers.
`text:<digest>`: a content, context or resources. It is written once, and removed with the last job that has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.documents import as_text, from_text, job_fields, job_of, turns_from_json, turns_to_json
from message_handler.domain.identifiers import digest_of
from message_handler.domain.jobs import Job, Progress, TextRef
from message_handler.domain.messages import Message
from message_handler.protocol.line import AnsweredMessage, LastAnswered, Lease, Line
from message_handler.protocol.results import Accepted, Claim, Sealed

#: The fields of a line without its texts. Every step needs them.
STRUCTURE = ("version", "line", "holder", "heartbeat_at", "acquired_at", "progress")

#: What a save writes: the new text of each field, or None to remove it.
type Fields = dict[str, str | None]


def line_of(key: ConversationKey, fields: Mapping[str, str]) -> Line:
    """The line that a store's `fields` describe; an empty line if there are none."""
    value = from_text(fields.get("line", "{}"))
    line = Line(
        key,
        bot_id=value.get("bot_id", ""),
        lock_id=value.get("lock_id", ""),
        acquired_at=float(fields.get("acquired_at", 0.0)),
        lease=Lease(value["claimed_at"], float(fields["heartbeat_at"])) if "heartbeat_at" in fields else None,
        progress=Progress(*from_text(fields["progress"])) if "progress" in fields else None,
        due_at=value.get("due_at", 0.0),
        wakes=value.get("wakes", 0),
        handed_off=value.get("handed_off", False),
        posts=value.get("posts", {}),
        interrupted=value.get("interrupted", ""),
    )
    line.current, line.next = (_job_of(line, value.get(name)) for name in ("current", "next"))
    if last := value.get("last"):
        job_id, ids, digests, ended_at = last
        line.last_answered = LastAnswered(job_id, tuple(ids), tuple(digests), ended_at)
    return line


def line_to_text(line: Line) -> str:
    """The text of the field `line`: all values that have no field of their own. Empty values are left out."""
    value = {
        "bot_id": line.bot_id,
        "lock_id": line.lock_id,
        "claimed_at": line.lease.claimed_at if line.lease else None,
        "due_at": line.due_at,
        "wakes": line.wakes,
        "handed_off": line.handed_off,
        "posts": line.posts,
        "interrupted": line.interrupted,
        "last": line.last_answered,
        "current": _job_to_json(line.current) if line.current else None,
        "next": _job_to_json(line.next) if line.next else None,
    }
    return as_text({name: item for name, item in value.items() if item})


def changed_fields(before: Line, text: str, after: Line) -> Fields:
    """The fields that a save writes, apart from the version. `text` is the field `line` of `before`."""
    fields: Fields = {}
    if (new_text := line_to_text(after)) != text:
        fields["line"] = new_text
        stored, needed = _texts(before), _texts(after)
        fields |= {text_field(digest): needed[digest] for digest in needed if digest not in stored}
        fields |= {text_field(digest): None for digest in stored if digest not in needed}
    if after.lease != before.lease:
        fields["holder"] = after.lock_id if after.lease else None
        fields["heartbeat_at"] = repr(after.lease.heartbeat_at) if after.lease else None
    if after.acquired_at != before.acquired_at:
        fields["acquired_at"] = repr(after.acquired_at)
    if after.progress != before.progress or after.lease != before.lease:
        fields["progress"] = progress_to_text(after.progress)
    return fields


def progress_to_text(progress: Progress | None) -> str | None:
    """The text of the field `progress`."""
    return as_text([progress.characters, progress.text]) if progress else None


def answered_to_text(message: AnsweredMessage) -> str:
    """What a store remembers of a message, as text: four values, as the previous release reads them."""
    job_id, message_id, ended_at, *others = message
    return as_text([job_id, message_id, ended_at, others])


def answered_of(text: str) -> AnsweredMessage:
    """See `answered_to_text`. The previous release has written only the first of the last values, as a number."""
    job_id, message_id, ended_at, others = from_text(text)
    return AnsweredMessage(job_id, message_id, ended_at, *(others if isinstance(others, list) else [others]))


def _job_to_json(job: Job) -> dict[str, Any]:
    value = job_fields(job, "line")
    value["messages"] = [(m.message_id, m.digest, m.given, m.aliases, m.accepted_at) for m in job.messages]
    # The digests of the words, by the digests of the contents. Those of most texts are equal, and are left out.
    if words := {m.digest: m.words_digest for m in job.messages if m.words_digest != m.digest}:
        value["words"] = words
    if promises := job.promises:
        value["promises"] = promises
    if edited := {m.message_id: m.edited_at for m in job.messages if m.edited_at}:
        value["edited"] = edited
    if earlier := [m.message_id for m in job.messages if m.earlier]:
        value["earlier"] = earlier
    if job.context_ref:
        value["context"] = job.context_ref
    if job.resources_ref:
        value["resources"] = job.resources_ref
    return value


def _job_of(line: Line, value: dict[str, Any] | None) -> Job | None:
    if value is None:
        return None
    context, resources = value.pop("context", None), value.pop("resources", None)
    words: dict[str, str] = value.get("words", {})
    edited: dict[str, float] = value.get("edited", {})
    earlier = frozenset[str](value.get("earlier", ()))
    promised: dict[str, tuple[str, ...]] = {}
    for job_id, message_ids in value.get("promises", {}).items():
        for message_id in message_ids:
            promised[message_id] = (*promised.get(message_id, ()), job_id)
    return job_of(
        line.key,
        [
            Message(
                id_,
                "",
                given,
                tuple(aliases),
                at,
                known_digest=digest,
                promised=promised.get(id_, ()),
                known_words_digest=words.get(digest, ""),
                edited_at=edited.get(id_, 0.0),
                earlier=id_ in earlier,
            )
            for id_, digest, given, aliases, at in value.get("messages", ())
        ],
        value,
        bot_id=line.bot_id,
        context_ref=TextRef(*context) if context else None,
        resources_ref=TextRef(*resources) if resources else None,
    )


# Texts: contents, contexts and resources.


def text_field(digest: str) -> str:
    """The name of the field that has the text with this digest."""
    return f"text:{digest}"


def texts_of(fields: Mapping[str, str]) -> dict[str, str]:
    """The texts among a line's fields, by their digests."""
    return {name.removeprefix("text:"): text for name, text in fields.items()}


def _texts(line: Line) -> dict[str, str]:
    """The texts of the line's jobs, by their digests. A text that was not read is empty."""
    texts = {}
    for job in line.jobs():
        for message in job.messages:
            texts[message.digest] = message.content
        if job.context_ref:
            texts[job.context_ref.digest] = as_text(turns_to_json(job.context))
        if job.resources_ref:
            texts[job.resources_ref.digest] = as_text(job.resources)
    return texts


def add_references(line: Line) -> None:
    """Add references to the contexts and resources that a step has brought."""
    line.current, line.next = (job and _with_references(job) for job in (line.current, line.next))


def _with_references(job: Job) -> Job:
    if job.context and not job.context_ref:
        job = replace(job, context_ref=_reference(turns_to_json(job.context)))
    if job.resources and not job.resources_ref:
        job = replace(job, resources_ref=_reference(job.resources))
    return job


def _reference(value: list[Any] | dict[str, Any]) -> TextRef:
    return TextRef(digest_of(as_text(value)), len(value))


def digests_of(result: object) -> Iterator[str]:
    """The digests in a step's result whose texts were not read. The step's caller needs these texts."""
    match result:
        case Job():
            yield from digests_of(result.messages)
            if result.context_ref and not result.context:
                yield result.context_ref.digest
            if result.resources_ref and not result.resources:
                yield result.resources_ref.digest
        case Message():
            if result.known_digest and not result.content:
                yield result.known_digest
        case Accepted():
            yield from digests_of((*result.pending, *filter(None, [result.interrupted])))
        case Claim(job=job) | Sealed(job=job):
            yield from digests_of(job)
        case tuple() | list():
            for item in result:
                yield from digests_of(item)


def with_texts(result: Any, texts: Mapping[str, str]) -> Any:
    """A step's result, with the texts put in for their digests. `texts` must have every digest of `digests_of`."""
    match result:
        case Job():
            changes: dict[str, Any] = {"messages": with_texts(result.messages, texts)}
            if (context := result.context_ref) and not result.context:
                changes["context"] = turns_from_json(from_text(texts[context.digest]))
            if (resources := result.resources_ref) and not result.resources:
                changes["resources"] = from_text(texts[resources.digest])
            return replace(result, **changes)
        case Message():
            return (
                replace(result, content=texts[result.known_digest])
                if result.known_digest and not result.content
                else result
            )
        case Accepted():
            interrupted = with_texts(result.interrupted, texts)
            return replace(result, pending=with_texts(result.pending, texts), interrupted=interrupted)
        case Claim(job=job) | Sealed(job=job):
            return replace(result, job=with_texts(job, texts))
        case tuple():
            return tuple([with_texts(item, texts) for item in result])
    return result
