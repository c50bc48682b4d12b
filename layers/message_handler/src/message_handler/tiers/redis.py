"""Lines in Redis: each is a hash that one script compares and sets. All keys of a conversation are in one cluster slot.

    mh:{17}:state:<platform>/<conversation>   the line's fields (see line_documents.py)
    mh:{17}:ended:<platform>/<conversation>   what is remembered of ended messages, to recognise duplicates
    mh:{17}:sweep                             the shard's index for the sweep
    mh:{17}:sweep:<platform>                  the same, of one tenant
    mh:{17}:unarchived                        the shard's index of ends that Postgres lacks
    mh:{17}:job:<job id>                      ">" + the conversation while the job lives, its end afterwards
    mh:{<platform>}:rate                      how many messages the tenant may still send, if it has a limit
    mh:{reads of <platform>}:rate             the same for each other kind of request
    mh:{<platform>}:waits                     the tenant's clients that wait for a job, each with the end of its count
    mh:waits                                  those of all tenants

Each script declares all keys that it uses, because ElastiCache Serverless demands it. Times come from the server's
clock; those of waits, which need no script, from the processes' clocks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from hashlib import sha1
from pathlib import Path
from typing import Any, NamedTuple

import redis
from redis.exceptions import NoScriptError

from message_handler.domain.conversations import ConversationKey
from message_handler.domain.identifiers import SHARDS, shard_of_job
from message_handler.drivers.breaker import CircuitBreaker
from message_handler.drivers.redis import ReachingRedis
from message_handler.ports.line_store import CLOCK_MARGIN, LONGEST_WAIT, MOST_REMEMBERED, Save, Saved, Snapshot
from message_handler.protocol.line import LIVE_TTL_SECONDS
from message_handler.protocol.line_documents import STRUCTURE
from message_handler.protocol.results import TierName
from message_handler.settings import Settings
from message_handler.tiers.line_tier import LineTier

#: The number of slots that a ping writes to.
PINGED = 16
#: The index shows the oldest of a shard's unarchived ends, up to this number. The rest follow once these are archived.
MOST_UNARCHIVED = 50
#: Connections are replaced after this time without use (seconds): firewalls and load balancers drop idle ones silently.
IDLE_SECONDS = 60.0


class Script(NamedTuple):
    """A Lua script, and the SHA-1 by which Redis knows it."""

    sha: str
    text: str

    @staticmethod
    def named(name: str) -> Script:
        """The script in `lua/<name>.lua`."""
        text = (Path(__file__).with_name("lua") / f"{name}.lua").read_text()
        return Script(sha1(text.encode(), usedforsecurity=False).hexdigest(), text)


SAVE = Script.named("save")


class RedisLines:
    """See the port `LineStore`. `clock`: a test's own (Unix seconds), or None for the server's."""

    name: TierName = "redis"

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        clock: Callable[[], float] | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        self.client = client
        self._used_at = time.monotonic()
        self._breaker = breaker or CircuitBreaker("Redis", settings.store_retry_after)
        self._clock = clock
        self._reach = ReachingRedis(self._breaker, self._is_alive)

    def ping(self) -> None:
        """See the port. It writes to 16 slots, which lie on several nodes of a cluster."""
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(0, SHARDS, SHARDS // PINGED):
            pipeline.set(f"mh:{{{shard}}}:ping", 1, px=1000)
        with self._reaching(writes=True):
            pipeline.execute()

    def close(self) -> None:
        self.client.close()

    def save(self, saves: Sequence[Save]) -> list[Saved | Snapshot | Exception]:
        answers: list[Any]
        with self._reaching(writes=True):
            calls = [self._script_words(save) for save in saves]
            answers = [self._call(SAVE, calls[0])] if len(calls) == 1 else self._call_each(SAVE, calls)
            if all(isinstance(answer, redis.RedisError) for answer in answers):
                raise answers[0]
        return [self._answer(save, answer) for save, answer in zip(saves, answers, strict=True)]

    def _script_words(self, save: Save) -> list[str]:
        """The words that follow the script in a call: the number of keys, the keys and the arguments (lua/save.lua)."""
        shard, member = save.key.shard, _member(save.key)
        keys = [_line_key(save.key), _ended_key(save.key), _sweep_key(shard), _index_key(shard)]
        keys.append(_sweep_key(shard, save.key.platform_id))
        keys += [_job_key(shard, job_id) for job_id in (*save.names, *save.jobs)]
        if save.erases:
            keys.append(f"mh:{{{shard}}}:line:{member}")  # the line as an earlier release kept it
        set_, gone = _set_and_gone(save.fields)
        remembered, forgotten = _set_and_gone(save.remembered)
        jobs: list[str] = []
        for job_id, end in save.jobs.items():
            document, seconds = end or (f">{member}", LIVE_TTL_SECONDS)
            indexed = save.erases or job_id in save.unarchived
            jobs += document, str(math.ceil(seconds)), f"{job_id} {member}" if indexed else "-"
        due_at = "-" if save.due_at is None else "=" if save.due_at == "as it is" else repr(save.due_at)
        return [
            str(len(keys)),
            *keys,
            member,
            save.expected,
            f"{save.compared} {save.fields.get('version') or '-'}"
            f" {'*' if save.heartbeat_at is None else save.heartbeat_at or '-'} {save.now!r}"
            f" {repr(self._clock()) if self._clock else '-'} {due_at}"
            f" {'-' if save.ttl is None else math.ceil(save.ttl)}"
            f" {math.ceil(save.remembered_ttl)} {CLOCK_MARGIN} {MOST_REMEMBERED}",
            f"{len(save.ids)} {len(save.unknown_ids)} {len(save.names)} {len(save.unused_names)} {len(save.wanted)}"
            f" {len(set_)} {len(gone)} {len(remembered)} {len(forgotten)} {len(save.jobs)} {save.erases:d}",
            *save.ids,
            *save.wanted,
            *set_,
            *gone,
            *remembered,
            *forgotten,
            *jobs,
        ]

    def _answer(self, save: Save, answer: Any) -> Saved | Snapshot | Exception:
        match answer:
            case "saved":
                return Saved({})
            case ["saved", values]:
                return Saved(_present(save.wanted, values))
            case ["met", now, structure, remembered, taken]:
                names = frozenset(name for name, is_taken in zip(save.names, taken, strict=True) if is_taken)
                return Snapshot(_present(STRUCTURE, structure), float(now), _present(save.ids, remembered), names)
        error: Exception = self._reach.meaning(answer)
        return error

    def read(self, keys: Sequence[ConversationKey], names: Sequence[str] | None = None) -> list[dict[str, str]]:
        pipeline = self.client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(_line_key(key)) if names is None else pipeline.hmget(_line_key(key), list(names))
        with self._reaching():
            lines = pipeline.execute()
        return lines if names is None else [_present(names, line) for line in lines]

    def remembered(self, key: ConversationKey, message_id: str | None = None) -> dict[str, str]:
        with self._reaching():
            if message_id is None:
                every: Any = self.client.hgetall(_ended_key(key))
                return dict(every)
            text: Any = self.client.hget(_ended_key(key), message_id)
        return {} if text is None else {message_id: text}

    def find(self, job_id: str) -> ConversationKey | str | None:
        shard = shard_of_job(job_id)
        found = None if shard is None else self._text(_job_key(shard, job_id))
        return _key_of(found[1:]) if found and found.startswith(">") else found

    def archived(self, key: ConversationKey, job_id: str, document: str | None, seconds: float) -> None:
        pipeline = self.client.pipeline(transaction=False)
        if document is not None:
            pipeline.set(_job_key(key.shard, job_id), document, ex=math.ceil(seconds), xx=True)
        pipeline.zrem(_index_key(key.shard), f"{job_id} {_member(key)}")
        with self._reaching():
            pipeline.execute()

    def unarchived(self) -> list[tuple[ConversationKey, str]]:
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(SHARDS):
            pipeline.zrange(_index_key(shard), 0, MOST_UNARCHIVED - 1)
        with self._reaching():
            entries = [entry.split(" ", 1) for shard in pipeline.execute() for entry in shard]
        return [(_key_of(member), job_id) for job_id, member in entries]

    def live(self, platform_id: str) -> list[ConversationKey]:
        return self._indexed(math.inf, platform_id)

    def due(self, older_than: float, platform_id: str | None = None) -> list[ConversationKey]:
        now, live = self._now(), self._indexed(math.inf, platform_id)
        ages = self.read(live, ["acquired_at"])
        old = [key for key, at in zip(live, ages, strict=True) if at and float(at["acquired_at"]) + older_than <= now]
        return list(dict.fromkeys([*self._indexed(now, platform_id), *old]))

    def _indexed(self, until: float, platform_id: str | None) -> list[ConversationKey]:
        """The conversations that the sweep should look at until `until` (Unix seconds), over all shards.

        With `platform_id`, those of that tenant: no other's are read.
        """
        pipeline = self.client.pipeline(transaction=False)
        for shard in range(SHARDS):
            pipeline.zrangebyscore(_sweep_key(shard, platform_id), "-inf", until)
        with self._reaching():
            members = pipeline.execute()
        return [_key_of(member) for shard in members for member in shard]

    def cached(self, name: str) -> str | None:
        return self._text(f"mh:cache:{name}")

    def cache(self, name: str, text: str, seconds: float) -> None:
        with self._reaching():
            self.client.set(f"mh:cache:{name}", text, px=int(seconds * 1000))

    def admit(self, name: str, per_minute: int, count: int = 1) -> float:
        clock = repr(self._clock()) if self._clock else ""
        with self._reaching(writes=True):
            words = ["1", f"mh:{{{name}}}:rate", str(per_minute), clock, str(count)]
            return float(self._call(Script.named("admit"), words))

    def begin_wait(self, platform_id: str, wait_id: str, *, most: int, most_in_all: int) -> bool:
        """See the port. Two clients that take the last place at the same moment may both be refused.

        A pipeline adds first and counts then: so no two clients get the last place, and it costs one round trip.
        """
        now = self._clock() if self._clock else time.time()
        pipeline = self.client.pipeline(transaction=False)
        for name in _wait_keys(platform_id):
            pipeline.zremrangebyscore(name, "-inf", now)
            pipeline.zadd(name, {wait_id: now + LONGEST_WAIT})
            pipeline.expire(name, math.ceil(LONGEST_WAIT))
            pipeline.zcard(name)
        with self._reaching(writes=True):
            *_, own, _, _, _, in_all = pipeline.execute()
        if own <= most and in_all <= most_in_all:
            return True
        self.end_wait(platform_id, wait_id)
        return False

    def end_wait(self, platform_id: str, wait_id: str) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for name in _wait_keys(platform_id):
            pipeline.zrem(name, wait_id)
        with self._reaching(writes=True):
            pipeline.execute()

    def _reaching(self, *, writes: bool = False) -> ReachingRedis:
        now = time.monotonic()
        if self._used_at + IDLE_SECONDS < now or self._breaker.is_open:
            # While the breaker is open, a failover may point Redis' name at another server. Idle connections may still
            # lead to the old one.
            self._drop_idle_connections()
        self._used_at = now
        if self._breaker.is_open and not writes:
            # A server that is full, or has just become a replica, still reads. Only a write proves that Redis is back.
            self.ping()
        return self._reach

    def _drop_idle_connections(self) -> None:
        """Close each connection that is not in use. The next command opens a new one."""
        for pool in getattr(self.client, "pools", [self.client.connection_pool]):
            pool.disconnect(inuse_connections=False)

    def _is_alive(self) -> bool:
        """Whether the server answers a ping on a new connection.

        False for a cluster: the ping may go to another node than the one that was silent.
        """
        if hasattr(self.client, "pools"):
            return False
        self._drop_idle_connections()
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def _text(self, name: str) -> str | None:
        with self._reaching():
            text = self.client.get(name)
        assert not isinstance(text, bytes), "the client decodes every answer"
        return text

    def _now(self) -> float:
        if self._clock:
            return self._clock()
        with self._reaching():
            seconds, microseconds = self.client.time()
        return float(seconds) + float(microseconds) / 1e6

    def _call(self, script: Script, words: list[str]) -> Any:
        try:
            return self.client.execute_command("EVALSHA", script.sha, *words)  # type: ignore[no-untyped-call]
        except NoScriptError:
            # The server does not have the script, or lost it (restart, failover). EVAL also gives it the script.
            return self.client.execute_command("EVAL", script.text, *words)  # type: ignore[no-untyped-call]

    def _call_each(self, script: Script, calls: list[list[str]]) -> list[Any]:
        """The answers to all calls, in one round trip. An error is an answer too."""
        pipeline = self.client.pipeline(transaction=False)
        for words in calls:
            pipeline.execute_command("EVALSHA", script.sha, *words)  # type: ignore[no-untyped-call]
        answers = pipeline.execute(raise_on_error=False)
        for number, words in enumerate(calls):
            if isinstance(answers[number], NoScriptError):
                try:
                    answers[number] = self._call(script, words)
                except redis.RedisError as error:
                    answers[number] = error
        return answers


def _member(key: ConversationKey) -> str:
    return f"{key.platform_id}/{key.conversation_id}"


def _line_key(key: ConversationKey) -> str:
    return f"mh:{{{key.shard}}}:state:{_member(key)}"


def _ended_key(key: ConversationKey) -> str:
    return f"mh:{{{key.shard}}}:ended:{_member(key)}"


def _job_key(shard: int, job_id: str) -> str:
    return f"mh:{{{shard}}}:job:{job_id}"


def _sweep_key(shard: int, platform_id: str | None = None) -> str:
    return f"mh:{{{shard}}}:sweep" + (f":{platform_id}" if platform_id else "")


def _index_key(shard: int) -> str:
    return f"mh:{{{shard}}}:unarchived"


def _wait_keys(platform_id: str) -> tuple[str, str]:
    return f"mh:{{{platform_id}}}:waits", "mh:waits"


def _key_of(member: str) -> ConversationKey:
    return ConversationKey(*member.split("/", 1))


def _set_and_gone(values: dict[str, str | None]) -> tuple[list[str], list[str]]:
    """The names and texts to set, as one flat list, and the names to remove."""
    set_: list[str] = []
    gone: list[str] = []
    for name, text in values.items():
        if text is None:
            gone.append(name)
        else:
            set_ += name, text
    return set_, gone


def _present(names: Sequence[str], values: Sequence[str | None]) -> dict[str, str]:
    """The values that are there, by their names."""
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


class RedisTier(LineTier):
    """A tier over lines in Redis. `clock`: a test's own (Unix seconds), or None for the server's."""

    def __init__(
        self,
        client: redis.Redis,
        settings: Settings,
        clock: Callable[[], float] | None = None,
        breaker: CircuitBreaker | None = None,
        *,
        together: bool = False,
    ) -> None:
        super().__init__(RedisLines(client, settings, clock, breaker), settings, clock or time.time, together=together)
