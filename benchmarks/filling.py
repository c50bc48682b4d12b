"""Fill the stores as years of traffic would: one conversation goes through the product, the others are its copies.

A copy has the keys, fields, rows and times to live that accept and commit leave, under its own names. The product must
read the last copy as one of its own.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import redis

from benchmarks.history import conversation
from message_handler.domain.conversations import ConversationKey
from message_handler.domain.jobs import Job, JobStatus, Usage
from message_handler.domain.messages import Message, Request, new_message
from message_handler.drivers.postgres import Database
from message_handler.ports.archive import Archive
from message_handler.ports.tier import Tier
from message_handler.protocol.results import Claim

QUESTION = "Dạ bác sĩ ơi, tôi bị đau đầu từ hôm qua, uống thuốc này mấy lần một ngày?"
REPLY = "Dạ, anh/chị uống mỗi ngày hai lần, sau khi ăn no. Nếu sau ba ngày không đỡ thì đến khám. " * 4
#: The earlier turns that a request contains.
CONTEXT = tuple(conversation(4))
#: Lines written in one round trip.
AT_ONCE = 500


def request(name: str) -> tuple[Request, str]:
    """A patient's message in a conversation of this name, and the id of its job."""
    key = ConversationKey("default", name)
    message = new_message(QUESTION, f"m-{name}", time.time())
    return Request(key, (message,), CONTEXT, "default", {"user_id": "user_456"}, "c-1"), key.new_job_id()


def accept(tier: Tier, name: str) -> ConversationKey:
    asked, job_id = request(name)
    accepted = tier.accept(asked, job_id=job_id, lock_id=f"lock-{name}")
    assert accepted.lock_id
    return asked.key


def answer(tier: Tier, key: ConversationKey, lock_id: str = "worker") -> Job:
    """The steps of a worker in the tier: claim, seal, finish. Returns the ended job."""
    claim = tier.claim(key, lock_id)
    assert isinstance(claim, Claim)
    job = claim.job
    ids = [message.message_id for message in job.messages]
    sealed = tier.seal(key, lock_id, ids, next_id=key.new_job_id(), fenced=True)
    assert sealed.verdict == "sealed"
    ended = ended_now(job)
    assert tier.finish(key, lock_id, ended).done
    return ended


def ended_now(job: Job) -> Job:
    usage = Usage(180, 120)
    return replace(job, status=JobStatus.COMPLETED, reply=REPLY, usage=usage, finished_at=time.time())


def fill_lines(client: redis.Redis, tier: Tier, count: int) -> None:
    """Add `count` conversations with a waiting message: the line, the entry in the sweep's index, the job's pointer."""
    model = accept(tier, "filled-model")
    (held,) = tier.jobs(model)
    line, pointer = (
        f"mh:{{{model.shard}}}:{name}" for name in (f"state:default/{model.conversation_id}", f"job:{held.job_id}")
    )
    due = client.zscore(f"mh:{{{model.shard}}}:sweep", f"default/{model.conversation_id}")
    lives, fields = client.ttl(line), dict[Any, Any](client.hgetall(line))
    assert due
    assert client.ttl(pointer) == lives
    key, job_id = model, held.job_id
    for first in range(0, count - 1, AT_ONCE):
        pipeline = client.pipeline(transaction=False)
        for number in range(first, min(first + AT_ONCE, count - 1)):
            key = ConversationKey("default", f"filled-{number:07}")
            job_id, shard = key.new_job_id(), key.shard
            document = fields["line"].replace(held.job_id, job_id).replace(model.conversation_id, key.conversation_id)
            member = f"default/{key.conversation_id}"
            line = f"mh:{{{shard}}}:state:{member}"
            pipeline.hset(line, mapping=fields | {"line": document})
            pipeline.expire(line, lives)
            pipeline.zadd(f"mh:{{{shard}}}:sweep", {member: due})
            pipeline.zadd(f"mh:{{{shard}}}:sweep:default", {member: due})
            pipeline.set(f"mh:{{{shard}}}:job:{job_id}", f">{member}", ex=lives)
        pipeline.execute()
    (copied,) = tier.jobs(key)
    assert tier.job(job_id) == copied
    assert copied.job_id == job_id
    assert copied.messages[0].content == QUESTION
    # The product answers the last copy and forgets it, like any conversation.
    assert answer(tier, key).job_id == job_id
    accept(tier, f"{key.conversation_id}-again")


#: A copy's own columns. All others are the model's.
_OWN = {
    "conversation_id": "'filled-' || number",
    "job_id": "md5(number::text)::uuid",
    "message_id": "message_id || '-' || number",
    "message_ids": "array[message_ids[1] || '-' || number]",
    # One second apart, so that each has its own place in an index over times.
    **{
        column: f"{column} - number * interval '1 second'"
        for column in ("created_at", "started_at", "finished_at", "settled_at", "updated_at")
    },
}


def fill_rows(database: Database, archive: Archive, count: int) -> None:
    """Add `count` answered conversations, each with its job, its settled message and two turns."""
    model = commit(archive, "filled-model")
    for table in ("conversations", "jobs", "settled", "turns"):
        rows = database.run(
            lambda connection, table=table: connection.run(  # type: ignore[misc]
                "select column_name from information_schema.columns"
                " where table_schema = 'public' and table_name = :name order by ordinal_position",
                name=table,
            )
        )
        columns = [name for (name,) in rows]
        copied = ", ".join(_OWN.get(column, column) for column in columns)
        database.run(
            lambda connection, table=table, columns=columns, copied=copied: connection.run(  # type: ignore[misc]
                f"insert into {table} ({', '.join(columns)}) select {copied} from {table},"
                f" generate_series(1, {count - 1}) as number where conversation_id = :model",
                model=model.conversation_id,
            )
        )
    database.run(lambda connection: connection.execute_simple("vacuum analyze"))
    if count > 1:
        found = archive.conversation(ConversationKey("default", f"filled-{count - 1}"))
        assert found
        assert [turn.content for turn, *_ in found.turns] == [QUESTION, REPLY]
        assert archive.job("default", str(found.turns[0][2]))


def commit(archive: Archive, name: str) -> ConversationKey:
    """Answer a message of a conversation: the fence, then the commit."""
    job, fence = fenced(archive, name)
    assert archive.commit(ended_now(job), fence)
    return job.key


def fenced(archive: Archive, name: str) -> tuple[Job, int]:
    asked, job_id = request(name)
    message: Message = asked.messages[0]
    now = time.time()
    job = Job(job_id, asked.key, JobStatus.PROCESSING, (message,), "default", created_at=now, started_at=now)
    fence = archive.fence(job, successor_id=asked.key.new_job_id(), turns=100)
    assert fence.number is not None
    return job, fence.number
