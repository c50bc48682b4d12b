"""Continuous load: patients type in bursts, and the platform repeats, reorders and sometimes cancels."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.deployment import Deployment

LONGEST_PAUSE_SECONDS = 4
_DUPLICATES = 0.1
_REORDERED_BURSTS = 0.3
_CANCELS = 0.03
_LOOKS = 0.3
#: The probability that a patient's next message begins a new conversation.
_NEW_CONVERSATION = 0.06
#: Words that the simulated AI obeys, as often as here.
_WORDS = ("",) * 90 + ("[slow:2.5]",) * 6 + ("[slow:0.1]",) * 3 + ("[fail]",)


class Patients:
    """`count` patients, each a thread, who type until `stop`. The seed decides what they type."""

    def __init__(self, deployment: Deployment, count: int, seed: int) -> None:
        self._deployment = deployment
        self._stopping = threading.Event()
        self._generation = 0
        self._platform = ThreadPoolExecutor(2 * count, thread_name_prefix="platform")
        self._threads = [
            threading.Thread(target=self._chat, args=(number, random.Random(f"{seed}/{number}")), daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def begin_new_conversations(self) -> None:
        """Let each patient begin a new conversation with the next burst."""
        self._generation += 1

    def stop(self) -> None:
        """Stop. Returns when the last message is accepted or given up."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._platform.shutdown()

    def _chat(self, number: int, rng: random.Random) -> None:
        chat, said, generation = 0, 0, 0
        ids: list[str] = []
        while not self._stopping.wait(rng.uniform(0.5, LONGEST_PAUSE_SECONDS)):
            if rng.random() < _NEW_CONVERSATION or generation != self._generation:
                chat, ids, generation = chat + 1, [], self._generation
            conversation = f"p{number}-{chat}"
            burst = [(f"{conversation}-{said + n}", rng.choice(_WORDS)) for n in range(rng.choice((1, 1, 2, 3, 5)))]
            said += len(burst)
            ids += [message_id for message_id, _ in burst]
            posts = [*burst, *((id_, "") for id_ in ids if rng.random() < _DUPLICATES / max(1, len(ids) / 5))]
            reordered = rng.random() < _REORDERED_BURSTS
            if reordered:
                rng.shuffle(posts)
            accepted = self._hand_in(conversation, posts, reordered=reordered)
            job_id = next((job_id for job_id in accepted if job_id), None)
            if job_id and rng.random() < _CANCELS:
                self._deployment.platform.cancel(conversation, job_id)
            if job_id and rng.random() < _LOOKS:
                asked_for = rng.choice((None, burst[0][0])) if accepted[0] == job_id and not reordered else None
                self._deployment.platform.job(conversation, job_id, rng.choice((0, 0, 2)), asked_for)

    def _hand_in(self, conversation: str, posts: list[tuple[str, str]], *, reordered: bool) -> list[str | None]:
        """Post one after the other, or all at the same time if `reordered`. Returns the promised jobs."""

        def hand_in(post: tuple[str, str]) -> str | None:
            return self._deployment.platform.hand_in(conversation, *post).job_id

        return list(self._platform.map(hand_in, posts) if reordered else map(hand_in, posts))
