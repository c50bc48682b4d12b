"""Redis in cluster mode: each command goes to the node that serves its key's slot.

redis-py has a client for clusters too, but with it a step could take longer than its timeout:

- It connects when it is made.
- If a node is silent, it asks all nodes for the slots, one after the other and one thread after the other. Each may
  cost a timeout.
- It sends the failed commands of a pipeline again, one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.client import Pipeline
from redis.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError

from message_handler.drivers.redis_client import Client

#: A command is sent to at most 3 nodes: the one that had its slot, the one that has it, the one that will have it.
HOPS = 3

Command = tuple[tuple[Any, ...], dict[str, Any]]


class ClusterClient(redis.Redis):
    """A `redis.Redis` for commands whose keys are all in one slot.

    Each call of `pool` makes a new pool for the address in `REDIS_URL`. Commands without a key go there. So does the
    question which node serves which slots: at the first command, and after each failure, because the failed node may
    have been replaced. So the address must outlive a single node, as ElastiCache's endpoint does.

    Raises what `redis.Redis` raises. Raises ClusterDownError if no node serves the slot, or if the nodes don't agree
    on which one does.
    """

    def __init__(self, pool: Callable[[], ConnectionPool]) -> None:
        self._new_pool = pool
        super().__init__(connection_pool=pool())
        #: The node at the address in `REDIS_URL`.
        self._first_node = Client(connection_pool=self.connection_pool)
        options = self.connection_pool.connection_kwargs
        # ElastiCache Serverless is one node, under the URL's own name. It needs no second connection.
        self._nodes = {(options.get("host", "localhost"), options.get("port", 6379)): self._first_node}
        self._slots: dict[int, redis.Redis] = {}

    @property
    def pools(self) -> list[ConnectionPool]:
        """The connection pools, one for each node."""
        return [node.connection_pool for node in self._nodes.values()]

    def close(self) -> None:
        for pool in self.pools:
            pool.disconnect()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        slot = _slot(args)
        if slot is None:
            return _send(self._first_node, (args, options))
        with self._forgetting_slots_on_failure():
            return self._follow(self._serving(slot), (args, options))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        assert not transaction, "a transaction can't span nodes"
        return _ClusterPipeline(self)

    def execute_each(self, commands: list[Command], *, raise_on_error: bool) -> list[Any]:
        """The answers to `commands`, with one round trip to each node.

        If a node fails, only its own commands fail. With `raise_on_error` the first error is raised.
        """
        with self._forgetting_slots_on_failure():
            shares: dict[redis.Redis, list[int]] = defaultdict(list)
            for number, (args, _) in enumerate(commands):
                shares[self._serving(_slot(args))].append(number)
            answers: dict[int, Any] = {}
            for node, numbers in shares.items():
                try:
                    with self._forgetting_slots_on_failure():
                        received = _send_all(node, [commands[number] for number in numbers])
                except redis.RedisError as error:
                    received = [error] * len(numbers)
                answers |= zip(numbers, received, strict=True)
            for number, command in enumerate(commands):
                if isinstance(answers[number], AskError):
                    try:
                        answers[number] = self._follow(self._serving(_slot(command[0])), command)
                    except redis.RedisError as error:
                        answers[number] = error
                if raise_on_error and isinstance(answers[number], Exception):
                    raise answers[number]
            return [answers[number] for number in range(len(commands))]

    @contextmanager
    def _forgetting_slots_on_failure(self) -> Iterator[None]:
        """Forget the slots if a node fails inside: it may have been replaced. The next command asks for them again."""
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError, ClusterDownError):
            self._slots = {}
            raise

    def _serving(self, slot: int | None) -> redis.Redis:
        slots = self._slots
        if not slots:
            # Replaced as a whole, because other threads read it meanwhile.
            slots = self._slots = {
                number: self._node(host, port, self._first_node)
                for first, last, (host, port, *_), *_replicas in _send(self._first_node, (("CLUSTER SLOTS",), {}))
                for number in range(first, last + 1)
            }
        if slot not in slots:
            raise ClusterDownError(f"no node serves slot {slot}")
        return slots[slot]

    def _node(self, host: str | None, port: int, source: redis.Redis) -> redis.Redis:
        """The client of a node. Without a `host`, the node is on the host of `source`, which named it."""
        address = (host or source.connection_pool.connection_kwargs.get("host", "localhost"), port)
        if address not in self._nodes:
            pool = self._new_pool()
            pool.connection_kwargs.update(host=address[0], port=port)
            return self._nodes.setdefault(address, Client(connection_pool=pool))
        return self._nodes[address]

    def _follow(self, node: redis.Redis, command: Command) -> Any:
        """Send the command to the node, then to the nodes that it names: for good (MOVED), or for this once (ASK)."""
        asking = False
        for _ in range(HOPS):
            try:
                return _ask(node, command) if asking else _send(node, command)
            except AskError as redirection:
                asking = not isinstance(redirection, MovedError)
                if not asking:
                    self._slots = {}
                node = self._node(redirection.host, redirection.port, node)
        raise ClusterDownError("the nodes don't agree on which one serves the slot")


class _ClusterPipeline(Pipeline):
    """Collects commands as its parent does. The cluster's client sends them."""

    def __init__(self, client: ClusterClient) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction=False, shard_hint=None)
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        commands, self.command_stack = self.command_stack, []
        return self._client.execute_each(commands, raise_on_error=raise_on_error)


def _send(node: redis.Redis, command: Command) -> Any:
    args, options = command
    return node.execute_command(*args, **options)  # type: ignore[no-untyped-call]


def _send_all(node: redis.Redis, commands: list[Command]) -> list[Any]:
    """The answers of one node. Errors are among them: if the pipeline raised one, it would quote the command."""
    pipeline = node.pipeline(transaction=False)
    for args, options in commands:
        pipeline.execute_command(*args, **options)  # type: ignore[no-untyped-call]
    return pipeline.execute(raise_on_error=False)


def _ask(node: redis.Redis, command: Command) -> Any:
    """Send the command to a node that does not own the slot yet."""
    _, answer = _send_all(node, [(("ASKING",), {}), command])
    if isinstance(answer, Exception):
        raise answer
    return answer


def _slot(args: tuple[Any, ...]) -> int | None:
    match args:
        case ("EVAL" | "EVALSHA", _, _, str(key), *_) | (_, str(key), *_):
            return key_slot(key.encode())
    return None
