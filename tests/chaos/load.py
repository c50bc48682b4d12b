"""Many messages, duplicated, reordered and edited, through the whole stack: exactly one committed reply covers each."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.chaos.campaign import table, tell
from tests.chaos.checker import check
from tests.chaos.deployment import QUICK, Deployment
from tests.versions import version_of

_CLIENTS = 16
_PER_CONVERSATION = 10
_DUPLICATES = 0.1
_EDITS = 0.05
#: The most places by which a post may move.
_REORDERED_WITHIN = 200
_REST_SECONDS = 900


def run_load(messages: int, seed: int, template: Path) -> int:
    """Returns the exit code: 0 if exactly one committed reply covers each message."""
    rng = random.Random(seed)
    posts = [(f"load-{number // _PER_CONVERSATION}", f"load-{number}") for number in range(messages)]
    posts += rng.sample(posts, int(messages * _DUPLICATES))
    place = {post: int(post[1].split("-")[1]) for post in posts}
    posts.sort(key=lambda post: place[post] + rng.uniform(0, _REORDERED_WITHIN))
    edited = set(rng.sample(range(messages), int(messages * _EDITS)))
    settings = {**QUICK, "SIMULATED_AI_DELAY_MS": "100-300"}
    with Deployment(template=template, settings=settings, visibility=None) as deployment:
        began, done = time.monotonic(), threading.Event()
        telling = threading.Thread(target=_tell, args=(deployment, len(posts), done), daemon=True)
        telling.start()
        with ThreadPoolExecutor(_CLIENTS) as clients:
            for _ in clients.map(lambda post: _hand_in(deployment, post, edited), posts):
                pass
        accepted_after = time.monotonic() - began
        rest = deployment.await_rest(_REST_SECONDS)
        done.set()
        telling.join()
        took = time.monotonic() - began
        history = deployment.collect(rest)
    violations = check(history)
    answered = Counter(id_ for turn in history.turns if turn.role == "assistant" for id_ in turn.quotes)
    newest = [version_of(f"load-{number}", 1 if number in edited else 0) for number in range(messages)]
    exactly_once = sum(answered[version] == 1 for version in newest)
    tell(history, violations)
    print("\n" + table(history, violations))
    rate = len(posts) / accepted_after
    print(f"{len(posts)} posts in {accepted_after:.0f} s ({rate:.0f} a second), all answered after {took:.0f} s")
    print(f"{exactly_once} of {messages} messages are covered by exactly one committed reply", flush=True)
    return 1 if violations or exactly_once < messages else 0


def _hand_in(deployment: Deployment, post: tuple[str, str], edited: set[int]) -> None:
    """Post a message and, if it is one of those to be edited, its edit."""
    conversation, message_id = post
    deployment.platform.hand_in(conversation, message_id)
    if int(message_id.split("-")[1]) in edited:
        deployment.platform.hand_in(conversation, version_of(message_id, 1))


def _tell(deployment: Deployment, posts: int, done: threading.Event) -> None:
    for seconds in itertools.count(10, 10):
        if done.wait(10):
            return
        settled = deployment.postgres.query("select count(*) from settled")[0][0]
        print(f"{seconds:5} s  posts {len(deployment.history.posted)} of {posts}  settled {settled}", flush=True)
