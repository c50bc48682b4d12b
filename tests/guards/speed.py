"""Guards of shortcuts: the quick way must keep every check of the slow one."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

TEXTS = tuple(
    Guard(
        f"the short way to turns refuses {what}",
        "shortcuts; bad input",
        "unit/test_texts.py::test_both_ways_take_and_refuse_the_same",
        (Removal("intake/requests.py", *removal),),
    )
    for what, *removal in (
        ("U+0000", ' or "\\x00" in text or is_wordless(text)', " or is_wordless(text)"),
        ("texts without words", " in text or is_wordless(text):", " in text:"),
        (
            "lone surrogates",
            "            size += len(text.encode())\n",
            '            size += len(text.encode("utf-8", "replace"))\n',
        ),
        ("too many", "not 0 < len(messages) <= MAX_UNANSWERED", "not messages"),
        ("too much", "return size <= MAX_HISTORY_BYTES", "return True"),
        (
            "a bot that can't be",
            "if _are_plain(messages) and (bot_id is None or is_identifier(bot_id)):",
            "if _are_plain(messages):",
        ),
    )
)

STARTS = (
    Guard(
        "a restored environment draws its own jitter",
        "SnapStart",
        "contract/test_starts.py::test_two_functions_that_are_restored_from_one_snapshot_draw_differently",
        (Removal("cold_start.py", "    random.seed()\n"),),
    ),
    *(
        Guard(
            f"a restored environment connects to {what} anew",
            "SnapStart",
            "contract/test_starts.py::test_every_connection_is_made_anew_after_a_restore",
            (Removal("wiring.py", text, new),),
        )
        for what, text, new in (
            ("the stores", "self.tiers.close()  # this closes Postgres too", "pass"),
            ("SQS", "if not self.queue.in_process:", "if False:"),
        )
    ),
    Guard(
        "the collector works after a start",
        "a start's imports",
        "contract/test_starts.py::test_in_lambda_the_parts_are_there_before_the_first_call",
        (Removal("cold_start.py", "    gc.freeze()\n    gc.enable()\n", "    gc.freeze()\n"),),
    ),
    Guard(
        "a bad setting doesn't end a start",
        "SnapStart",
        "contract/test_starts.py::test_a_bad_setting_is_told_by_the_first_call[{'AWS_ENDPOINT_URL': 'nowhere'}]",
        (
            Removal(
                "cold_start.py",
                "        with suppress(Exception):\n            parts()\n",
                "        with suppress(TypeError):\n            parts()\n",
            ),
        ),
    ),
)

CLIENT = (
    Guard(
        "nothing but texts is sent the short way",
        "shortcuts",
        "contract/test_redis_client.py::TestCommands::test_what_redis_py_refuses_is_refused",
        (
            Removal(
                "drivers/redis_client.py", "        if type(word) is not str:\n", "        if type(word) is bytes:\n"
            ),
        ),
    ),
)

GUARDS = (*TEXTS, *STARTS, *CLIENT)
