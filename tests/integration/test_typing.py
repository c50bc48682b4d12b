"""A patient types many messages in one go, over all deployed parts with their default settings and the default bot."""

from __future__ import annotations

import threading
import time
import uuid
from itertools import pairwise

from tests.integration.conftest import CANARY, Api

MESSAGES = 20
PAUSE_SECONDS = 0.06
QUIET_SECONDS = 0.5


def test_twenty_messages_typed_in_one_go_cost_one_ai_call_and_one_reply(api: Api) -> None:
    conversation_id = f"typing_{uuid.uuid4().hex}"
    promised, sent, taken = dict[int, str](), dict[int, float](), dict[int, float]()

    def post(number: int) -> None:
        sent[number] = time.monotonic()
        message = {"history": f"<USER>{number} of twenty {CANARY}</USER><br>", "message_id": f"m-{number}"}
        promised[number] = api.post(conversation_id, **message)["ai_job_id"]
        taken[number] = time.monotonic()

    post(0)
    threads = [threading.Thread(target=post, args=(number,)) for number in range(1, MESSAGES)]
    for thread in threads:
        time.sleep(PAUSE_SECONDS)
        thread.start()
    for thread in threads:
        thread.join()
    # On a busy machine the typing may be slow, with a pause that counts as quiet.
    order = sorted(sent)
    pauses = sum(1 for one, other in pairwise(order) if taken[other] - sent[one] >= QUIET_SECONDS)

    (job_id,) = set(promised.values())
    job = api.ended(job_id)
    assert (job["status"], job["consolidated_messages"], job["attempts"]) == ("completed", MESSAGES, 1)
    assert job["restarts"] <= pauses
    replies = [turn for turn in api.turns(conversation_id) if turn["role"] == "assistant"]
    assert [reply["content"] for reply in replies] == [job["reply"]["content"]]
