"""The Redis tier: one script per step, one round trip, every key of a conversation in one cluster slot.

    mh:{17}:line:<platform>/<conversation>    the line (see lua/line.lua)
    mh:{17}:ended:<platform>/<conversation>   what duplicates of ended jobs are recognised by
    mh:{17}:due                               the shard's index for the sweep
    mh:{17}:job:<job id>                      ">" + the conversation while the job lives, its end afterwards
    mh:{<platform>}:rate                      how many messages the tenant may still send, if there is a limit

A script's keys are all declared, for ElastiCache Serverless insists on it. Times come from the server's clock.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

import redis
from redis.exceptions import NoScriptError

from message_handler.errors import HandedOff, OtherBot, Rejected, Unavailable
from message_handler.models import (
    SHARDS,
    Accepted,
    Claim,
    ConversationKey,
    Job,
    JobStatus,
    Lock,
    Message,
    Progress,
    Refused,
    Request,
    shard_of_job,
)
from message_handler.settings import Settings
from message_handler.stores.breaker import CircuitBreaker
from message_handler.stores.combiner import Combiner
from message_handler.stores.documents import as_text, job_from_json, job_to_json, message_to_json, turns_to_json
from message_handler.stores.port import Again, Finished, Held, Sealed, TierName
from message_handler.stores.redis_client import Reaching
from message_handler.stores.steps import sweep_each

#: Work in progress is kept as long as SQS keeps its records.
LIVE_TTL_SECONDS = 14 * 24 * 3600
#: Messages of ended jobs remembered per conversation; beyond it a duplicate costs a record, not an AI call.
ENDED_MAX = 2_000

#: Slots that a ping writes to.
PINGED = 16
#: A connection that nobody used for so many seconds is made anew: firewalls and balancers drop idle ones silently.
IDLE_SECONDS = 60.0

_LUA = Path(__file__).with_name("lua")

#: What the workers of a batch do at the same time: as many as come together are one round trip.
COMBINED = ("accept_and_claim", "adopt", "heartbeat", "look", "seal", "finish")

#: A script's keys, and its arguments as JSON.
type _Step = tuple[list[str], str]


class RedisTier:
    """The scripts of `lua/` behind the port. `clock`: None for the server's, or the test's own (Unix seconds).

    `together`: what threads ask at the same moment is one script. Only where no thread is ever interrupted.
    """

    name: TierName = "redis"

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        clock: Callable[[], float] | None = None,
        breaker: CircuitBreaker | None = None,
        *,
        together: bool = True,
    ) -> None:
        self._client = client
        self._used_at = time.monotonic()
        self._breaker = breaker or CircuitBreaker("Redis", settings.store_retry_after)
        self._settings = settings
        self._clock = clock
        self._reach = Reaching(self._breaker)
        #: The steps' scripts that were needed so far, by their names.
        self._scripts: dict[str, Script] = {}
        # In a cluster the keys of two conversations may be on two nodes.
        combined = COMBINED if together and not hasattr(client, "pools") else ()
        self._together = {step: Combiner[_Step, Any](partial(self._evaluate, step)) for step in combined}
        self._job_ttl = math.ceil(settings.job_ttl)
        limits = {
            "job_ttl": self._job_ttl,
            "live_ttl": LIVE_TTL_SECONDS,
            "ended_max": ENDED_MAX,
            "max_restarts": settings.max_restarts,
            "heartbeat_stale": settings.heartbeat_stale,
            "run_seconds": settings.run_seconds,
            "wake_after": settings.wake_after,
        }
        # In the scripts, for it need not be told at each call.
        told = ", ".join(f"{name} = {value}" for name, value in limits.items())
        self._told = f"local settings = {{{told}}}\n"

    def ping(self) -> None:
        """Whether it can be written to, on as many of a cluster's nodes as so many slots are on."""
        pipeline = self._client.pipeline(transaction=False)
        for shard in range(0, SHARDS, SHARDS // PINGED):
            pipeline.set(f"mh:{{{shard}}}:ping", 1, px=1000)
        with self._reaching(writes=True):
            pipeline.execute()

    def close(self) -> None:
        self._client.close()

    def accept(self, request: Request, *, job_id: str, lock_id: str) -> Accepted:
        answer = self._step("accept", request.key, (job_id,), job_id=job_id, lock_id=lock_id, **_accepting(request))
        if answer == "created":
            ids = tuple([message.message_id for message in request.messages])
            return Accepted(job_id, ids[-1], lock_id, False, len(ids), request.messages, ids)
        if other := answer.get("other_bot"):
            raise OtherBot(other)
        if "answered" in answer:
            raise HandedOff(answer["answered"], answer["waiting"])
        if running := answer.get("rejected_for"):
            raise Rejected(running)
        interrupted = job_from_json(answer["interrupted"]) if "interrupted" in answer else None
        if interrupted:
            # For its readers, who find it in the line until then: the script could not name its key.
            with suppress(Unavailable):
                self._keep(interrupted)
        return Accepted(
            job_id=answer["job_id"],
            message_id=answer["message_id"],
            lock_id=lock_id if answer.get("acquired") else None,
            duplicate=answer["duplicate"],
            consolidated_messages=answer["consolidated_messages"],
            pending=tuple(Message.from_json(message) for message in answer.get("pending", ())),
            posted=tuple(answer.get("posted", ())),
            interrupted=interrupted,
        )

    def accept_again(self, request: Request, *, job_id: str, spare_id: str) -> None:
        ids = (job_id, spare_id)
        self._step("accept", request.key, ids, job_id=job_id, spare_id=spare_id, **_accepting(request))

    def undo(self, key: ConversationKey, message_ids: Iterable[str]) -> None:
        self._step("undo", key, message_ids=list(message_ids))

    def claim(self, key: ConversationKey, lock_id: str, again: Again | None = None) -> Claim | Refused | None:
        if again:
            ids = {"job_id": again.job_id, "spare_id": again.spare_id, "lock_id": lock_id}
            job_ids = (again.job_id, again.spare_id)
            answer = self._step("accept_and_claim", key, job_ids, **_accepting(again.request), **ids)
        else:
            answer = self._step("claim", key, lock_id=lock_id)
        if "wait" in answer:
            return Refused(answer["wait"], answer["held"])
        return Claim(job_from_json(answer["job"]), lock_id) if "job" in answer else None

    def adopt(self, key: ConversationKey, lock_id: str, settled_ids: Iterable[str], ended: Job | None) -> Job | None:
        arguments: dict[str, Any] = {"lock_id": lock_id, "settled_ids": list(settled_ids)}
        job_ids = []
        if ended:
            assert ended.superseded_by is not None
            job_ids = [ended.job_id, ended.superseded_by]
            arguments |= {"successor_id": ended.superseded_by, "ended": json.dumps(job_to_json(ended))}
        return _job(self._step("adopt", key, job_ids, **arguments))

    def heartbeat(
        self, key: ConversationKey, lock_id: str, progress: Progress | None = None, *, seen: int | None = None
    ) -> Held:
        shown = {"progress": as_text(asdict(progress))} if progress else {}
        held: Held = self._step("heartbeat", key, lock_id=lock_id, **_given(seen=seen), **shown)
        return held

    def look(self, key: ConversationKey, lock_id: str, *, seen: int | None = None) -> Held:
        held: Held = self._step("look", key, lock_id=lock_id, **_given(seen=seen))
        return held

    def seal(
        self,
        key: ConversationKey,
        lock_id: str,
        answered: Iterable[str],
        *,
        next_id: str,
        fenced: bool,
        may_restart: bool = True,
        may_seal: bool = True,
    ) -> Sealed:
        answer = self._step(
            "seal",
            key,
            [next_id],
            lock_id=lock_id,
            answered=list(answered),
            next_id=next_id,
            fenced=fenced,
            may_restart=may_restart,
            may_seal=may_seal,
        )
        return Sealed(answer["verdict"], _job(answer))

    def finish(self, key: ConversationKey, lock_id: str | None, job: Job) -> Finished:
        spare_id = key.new_job_id()
        answer = self._step(
            "finish",
            key,
            [job.job_id, spare_id],
            job_id=job.job_id,
            ended=json.dumps(job_to_json(job)),
            ended_ttl=LIVE_TTL_SECONDS if job.unarchived else self._job_ttl,
            covered=[id_ for message in job.messages for id_ in message.ids],
            cancelled=job.status is JobStatus.CANCELLED,
            held=job.held,
            spare_id=spare_id,
            **({} if lock_id is None else {"lock_id": lock_id}),
        )
        return Finished(answer["done"], answer["waiting"])

    def give_back(self, key: ConversationKey, lock_id: str) -> bool:
        # Right for whoever took the lock; a worker's claim, or a successor, names another job: then it is told.
        job_id = key.job_id_under(lock_id)
        while True:
            answer = self._step("give_back", key, (job_id,), lock_id=lock_id, job_id=job_id)
            if isinstance(answer, str):
                return answer == "done"
            job_id = answer["missing"]

    def cancel(self, key: ConversationKey, job_id: str) -> Job | None:
        return _job(self._step("cancel", key, job_id=job_id))

    def forget(self, key: ConversationKey, message_id: str) -> None:
        with self._reaching():
            self._client.hdel(_ended_key(key), message_id)

    def ended_by(self, key: ConversationKey, message_id: str) -> str | None:
        with self._reaching():
            entry = self._client.hget(_ended_key(key), message_id)
        if not entry:
            return None
        job_id: str = json.loads(entry)[0]
        return job_id

    def archived(self, job_id: str) -> None:
        ended = self.job(job_id)
        if ended and ended.unarchived:
            self._keep(replace(ended, unarchived=False))

    def _keep(self, ended: Job) -> None:
        """The end of a job, in place of what its key holds."""
        end = json.dumps(job_to_json(ended))
        with self._reaching():
            self._client.set(_job_key(ended.key.shard, ended.job_id), end, ex=self._job_ttl, xx=True)

    def job(self, job_id: str) -> Job | None:
        shard = shard_of_job(job_id)
        if shard is None:
            return None
        # A job may end between the two reads: then its key holds its end at the second look.
        for _ in range(2):
            with self._reaching():
                found = self._text(_job_key(shard, job_id))
                if found is None:
                    return None
                if not found.startswith(">"):
                    return job_from_json(json.loads(found))
                *documents, progress = self._client.hmget(
                    _line_key(_key_of(found[1:])), ["current", "next", "interrupted", "progress"]
                )
            for document in documents:
                if document and (job := job_from_json(json.loads(document))).job_id == job_id:
                    if progress and document is documents[0]:
                        return replace(job, progress=Progress(**json.loads(progress)))
                    return job
        return None

    def waiting(self, key: ConversationKey) -> Job | None:
        with self._reaching():
            document = self._client.hget(_line_key(key), "current")
        return job_from_json(json.loads(document)) if document else None

    def jobs(self, key: ConversationKey) -> tuple[Job, ...]:
        with self._reaching():
            documents = self._client.hmget(_line_key(key), ["current", "next"])
        return tuple(job_from_json(json.loads(document)) for document in documents if document)

    def owner(self, key: ConversationKey, lock_id: str) -> str | None:
        with self._reaching():
            owner, document = self._client.hmget(_line_key(key), ["lock_id", "current"])
        return json.loads(document)["job_id"] if document and owner and owner == lock_id else None

    def lock(self, key: ConversationKey) -> Lock | None:
        return next(iter(self._locks([key])), None)

    def locks(self, platform_id: str) -> list[Lock]:
        keys = [key for key in self._due(math.inf) if key.platform_id == platform_id]
        return sorted(self._locks(keys), key=lambda lock: lock.acquired_at)

    def hand_off(self, key: ConversationKey, *, human: bool) -> None:
        self._step("hand_off", key, human=human)

    def erase(self, key: ConversationKey, job_ids: Iterable[str] = ()) -> bool:
        known = [job_id for job_id in job_ids if shard_of_job(job_id) == key.shard]
        while "found" not in (answer := self._step("erase", key, known, known=known)):
            known += answer["missing"]
        return bool(answer["found"])

    def release(self, key: ConversationKey) -> Job | None:
        return _job(self._step("release", key))

    def cached(self, name: str) -> str | None:
        with self._reaching():
            return self._text(f"mh:cache:{name}")

    def cache(self, name: str, text: str, seconds: float) -> None:
        with self._reaching():
            self._client.set(f"mh:cache:{name}", text, px=int(seconds * 1000))

    def admit(self, platform_id: str, per_minute: int) -> float:
        arguments: dict[str, Any] = {"per_minute": per_minute}
        return float(self._run("admit", [f"mh:{{{platform_id}}}:rate"], arguments))

    def sweep(self, *, older_than: float, platform_id: str | None = None) -> list[Job]:
        now = self._now()
        live = self._due(math.inf)
        pipeline = self._client.pipeline(transaction=False)
        for key in live:
            pipeline.hget(_line_key(key), "acquired_at")
        with self._reaching():
            ages = pipeline.execute()
        old = [key for key, at in zip(live, ages, strict=True) if at and float(at) + older_than <= now]
        due = [key for key in dict.fromkeys([*self._due(now), *old]) if platform_id in (None, key.platform_id)]
        return sweep_each(due, lambda key: _job(self._step("release", key, older_than=older_than)))

    def _reaching(self, *, writes: bool = False) -> Reaching:
        now = time.monotonic()
        if self._used_at + IDLE_SECONDS < now:
            for pool in getattr(self._client, "pools", [self._client.connection_pool]):
                pool.disconnect(inuse_connections=False)
        self._used_at = now
        if self._breaker.is_open and not writes:
            # One that is full, or a replica since a moment ago, still reads: only a write tells that it is back.
            self.ping()
        return self._reach

    def _text(self, name: str) -> str | None:
        """The client decodes every answer, which its types don't know."""
        text = self._client.get(name)
        assert not isinstance(text, bytes)
        return text

    def _now(self) -> float:
        if self._clock:
            return self._clock()
        with self._reaching():
            seconds, microseconds = self._client.time()
        return float(seconds) + float(microseconds) / 1e6

    def _due(self, until: float) -> list[ConversationKey]:
        """The conversations that the sweep's index has up to `until`, over all shards in one round trip."""
        pipeline = self._client.pipeline(transaction=False)
        for shard in range(SHARDS):
            pipeline.zrangebyscore(f"mh:{{{shard}}}:due", "-inf", until)
        with self._reaching():
            members = pipeline.execute()
        return [_key_of(member) for shard in members for member in shard]

    def _locks(self, keys: list[ConversationKey]) -> list[Lock]:
        pipeline = self._client.pipeline(transaction=False)
        for key in keys:
            pipeline.hmget(_line_key(key), ["current", "acquired_at", "heartbeat_at"])
        with self._reaching():
            rows = pipeline.execute()
        locks = []
        for key, (document, acquired_at, heartbeat_at) in zip(keys, rows, strict=True):
            if document:
                job = json.loads(document)
                beat = float(heartbeat_at) if heartbeat_at else None
                acquired = float(acquired_at)
                locks.append(
                    Lock(
                        key,
                        job["job_id"],
                        acquired,
                        beat,
                        (beat or acquired) + self._settings.lock_ttl,
                        len(job["messages"]),
                        self.name,
                    )
                )
        return locks

    def _step(self, name: str, key: ConversationKey, job_ids: Iterable[str] = (), **arguments: Any) -> Any:
        shard, member = f"mh:{{{key.shard}}}", f"{key.platform_id}/{key.conversation_id}"
        keys = [f"{shard}:line:{member}", f"{shard}:ended:{member}", f"{shard}:due"]
        keys += [f"{shard}:job:{job_id}" for job_id in job_ids]
        arguments["member"] = member
        answer = self._run(name, keys, arguments)
        return json.loads(answer) if isinstance(answer, str) and answer.startswith("{") else answer

    def _run(self, name: str, keys: list[str], arguments: dict[str, Any]) -> Any:
        if self._clock:
            arguments["now"] = self._clock()
        step: _Step = (keys, as_text(arguments))
        with self._reaching(writes=True):
            together = self._together.get(name)
            return together.ask(step) if together else self._call(name, *step)

    def _evaluate(self, name: str, steps: list[_Step]) -> list[Any]:
        """The answers to one step, taken for each of these keys and arguments; an error for each that failed."""
        if len(steps) == 1:
            ((keys, arguments),) = steps
            return [self._call(name, keys, arguments)]
        counts = as_text([len(keys) for keys, _ in steps])
        all_keys = [key for keys, _ in steps for key in keys]
        answers: list[Any] = self._call(f"each {name}", all_keys, counts, *(arguments for _, arguments in steps))
        return answers

    def _call(self, name: str, keys: list[str], *arguments: str) -> Any:
        script = self._scripts.get(name) or self.script(name)
        words = (str(len(keys)), *keys, *arguments)
        try:
            return self._client.execute_command("EVALSHA", script.sha, *words)  # type: ignore[no-untyped-call]
        except NoScriptError:
            # This server never had it, or lost it (restart, failover); from now on it has it.
            return self._client.execute_command("EVAL", script.text, *words)  # type: ignore[no-untyped-call]

    def script(self, name: str) -> Script:
        """Read from its files when it is needed: most functions need a few."""
        text = self._text_of(name)
        script = self._scripts[name] = Script(sha1(text.encode(), usedforsecurity=False).hexdigest(), text)
        return script

    def _text_of(self, name: str) -> str:
        if name == "admit":
            return _lua(name)
        if name.startswith("each "):
            return _lua("each").replace("STEP", self._text_of(name.removeprefix("each ")))
        text = _lua(name)
        if name == "accept_and_claim":
            text = text.replace("ACCEPT", _lua("accept")).replace("CLAIM", _lua("claim"))
        return self._told + _lua("line") + text


def _lua(name: str) -> str:
    return (_LUA / f"{name}.lua").read_text()


class Script(NamedTuple):
    """A script, and what Redis knows it by."""

    sha: str
    text: str


def _line_key(key: ConversationKey) -> str:
    return f"mh:{{{key.shard}}}:line:{key.platform_id}/{key.conversation_id}"


def _ended_key(key: ConversationKey) -> str:
    return f"mh:{{{key.shard}}}:ended:{key.platform_id}/{key.conversation_id}"


def _job_key(shard: int, job_id: str) -> str:
    return f"mh:{{{shard}}}:job:{job_id}"


def _key_of(member: str) -> ConversationKey:
    return ConversationKey(*member.split("/", 1))


def _accepting(request: Request) -> dict[str, Any]:
    """What an accept is told of a request."""
    told: dict[str, Any] = {
        "bot_id": request.bot_id,
        "context": as_text(turns_to_json(request.context)) if request.context else "[]",
        "context_size": len(request.context),
        "messages": [message_to_json(message) for message in request.messages],
        "policy": request.double_texting,
        "correlation_id": request.correlation_id,
    }
    if request.debounce > 0:
        told |= {"debounce": request.debounce, "debounce_max": request.debounce_max}
    if request.resources:
        told["resources"] = as_text(request.resources)
    return told


def _given(**arguments: Any) -> dict[str, Any]:
    """What a script is told: an absent value is none, for JSON's null is no nil in Lua."""
    return {name: value for name, value in arguments.items() if value is not None}


def _job(answer: dict[str, Any]) -> Job | None:
    return job_from_json(answer["job"]) if "job" in answer else None
