"""Continuous load: patients type in bursts, edit and unsend, and the platform repeats, reorders, sometimes cancels."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.deployment import Deployment
from tests.chaos.history import DANGER, Posted
from tests.versions import version_of

LONGEST_PAUSE_SECONDS = 4
_DUPLICATES = 0.1
_REORDERED_BURSTS = 0.3
_CANCELS = 0.03
_LOOKS = 0.3
_EDITS = 0.05
_EDITED_TWICE = 0.3
#: Of the edited messages: how many come again with their first words, from a platform that is late.
_OLD_WORDS = 0.3
_UNSENT = 0.01
#: How long after a message it is edited or unsent, in seconds: before its run, in the middle, and after its reply.
_SECOND_THOUGHTS = ((0.0, 0.1), (0.3, 1.5), (2.0, 5.0))
#: The probability that a patient's next message begins a new conversation.
_NEW_CONVERSATION = 0.06
#: Words that the simulated AI obeys, or that tell of danger, as often as here.
_WORDS = ("",) * 87 + (DANGER,) * 3 + ("[slow:2.5]",) * 6 + ("[slow:0.1]",) * 3 + ("[fail]",)


class Patients:
    """`count` patients, each a thread, who type until `stop`. The seed decides what they type."""

    def __init__(self, deployment: Deployment, count: int, seed: int) -> None:
        self._deployment = deployment
        self._stopping = threading.Event()
        self._generation = 0
        self._platform = ThreadPoolExecutor(2 * count, thread_name_prefix="platform")
        self._thinking = ThreadPoolExecutor(2 * count, thread_name_prefix="second thoughts")
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
        self._thinking.shutdown()
        self._platform.shutdown()

    def _chat(self, number: int, rng: random.Random) -> None:
        chat, said, generation = 0, 0, 0
        words: dict[str, str] = {}  # of the conversation's messages
        while not self._stopping.wait(rng.uniform(0.5, LONGEST_PAUSE_SECONDS)):
            if rng.random() < _NEW_CONVERSATION or generation != self._generation:
                chat, words, generation = chat + 1, {}, self._generation
            conversation = f"p{number}-{chat}"
            burst = [(f"{conversation}-{said + n}", rng.choice(_WORDS)) for n in range(rng.choice((1, 1, 2, 3, 5)))]
            said += len(burst)
            words |= burst
            posts = [*burst, *(post for post in words.items() if rng.random() < _DUPLICATES / max(1, len(words) / 5))]
            reordered = rng.random() < _REORDERED_BURSTS
            if reordered:
                rng.shuffle(posts)
            answers = self._hand_in(conversation, posts, reordered=reordered)
            for post in burst:
                if any(answer.accepted for answer in answers if answer.version == post[0]):
                    self._think_again(conversation, *post, rng)
            job_id = next((answer.job_id for answer in answers if answer.job_id), None)
            if job_id and rng.random() < _CANCELS:
                self._deployment.platform.cancel(conversation, job_id)
            if job_id and rng.random() < _LOOKS:
                first = answers[0].job_id == job_id and not reordered
                asked_for = rng.choice((None, burst[0][0])) if first else None
                self._deployment.platform.job(conversation, job_id, rng.choice((0, 0, 2)), asked_for)

    def _hand_in(self, conversation: str, posts: list[tuple[str, str]], *, reordered: bool) -> list[Posted]:
        """Post one after the other, or all at the same time if `reordered`. Returns the answers."""

        def hand_in(post: tuple[str, str]) -> Posted:
            return self._deployment.platform.hand_in(conversation, *post)

        return list(self._platform.map(hand_in, posts) if reordered else map(hand_in, posts))

    def _think_again(self, conversation: str, message_id: str, words: str, rng: random.Random) -> None:
        """Let the patient edit or unsend an accepted message, by chance, while the conversation goes on."""
        steps: list[tuple[float, Callable[[], object]]] = []

        def add(step: Callable[..., object], *arguments: str) -> None:
            pause = rng.uniform(*rng.choice(_SECOND_THOUGHTS))
            steps.append((pause, lambda: step(conversation, *arguments)))

        platform = self._deployment.platform
        if rng.random() < _EDITS:
            for edit in (1, 2) if rng.random() < _EDITED_TWICE else (1,):
                add(platform.hand_in, version_of(message_id, edit), rng.choice(_WORDS))
            if rng.random() < _OLD_WORDS:
                add(platform.hand_in, message_id, words)
        if rng.random() < _UNSENT:
            add(platform.unsend, message_id)
        if steps:
            self._thinking.submit(self._do, steps, self._generation)

    def _do(self, steps: list[tuple[float, Callable[[], object]]], generation: int) -> None:
        """Take the steps, each after a pause, until the patients stop or begin new conversations."""
        for pause, step in steps:
            if self._stopping.wait(pause) or generation != self._generation:
                return
            step()
