"""Guards of replies: what a bot says about itself, and what no reply may say."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

DISCLOSURE = "unit/test_disclosure.py"
REPLIES = "worker/replies.py"
ASKING = "worker/asking.py"


def guard(name: str, test: str, place: str, old: str, new: str = "") -> Guard:
    return Guard(name, "replies, danger first", test, (Removal(place, old, new),))


TOLD = (
    guard(
        "a conversation begins with the disclosure",
        f"{DISCLOSURE}::test_a_conversation_begins_with_it",
        ASKING,
        "text=with_disclosure(reply, _known(job, fence), config)",
        "text=reply",
    ),
    guard(
        "the disclosure comes again",
        f"{DISCLOSURE}::TestWhen::test_in_the_first_reply_and_again_after_that_many",
        REPLIES,
        "[: every - 1]",
    ),
    guard(
        "after a human the disclosure comes again",
        f"{DISCLOSURE}::TestWhen::test_again_after_a_human",
        REPLIES,
        '        if turn.role == "sale":\n            break\n',
    ),
    guard(
        "a patient's words are no disclosure",
        f"{DISCLOSURE}::TestWhen::test_what_a_patient_writes_does_not_count",
        REPLIES,
        '        if turn.role == "assistant":\n            replies',
        "        if True:\n            replies",
    ),
)

GUARDS = TOLD
