"""Edits: each version of a message is answered once or replaced, and replaced words never come back."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, function

RULE = "invariant 15, words are kept"
TEST, HTTP, TIER = "contract/test_edits.py", "unit/test_edits.py", "contract/steps/test_edits.py"
FENCE = f"{TEST}::TestTheFence"


def guard(name: str, test: str, *removal: str) -> Guard:
    return Guard(name, RULE, test, (Removal(*removal),))


GUARDS = (
    guard(
        "the AI is asked with the newest words alone",
        f"{TEST}::TestResponses::test_says_that_it_is_an_edit[memory-consolidate]",
        "worker/asking.py",
        "tuple(newest_versions(job.messages))",
        "job.messages",
    ),
    guard(
        "a late retry that says the same time is known",
        f"{HTTP}::test_a_late_retry_says_the_same_time_and_is_a_duplicate[edit-text]",
        "domain/messages.py",
        "aliases=message.edit_ids[1:]",
        "aliases=()",
    ),
    guard(
        "old words that no tier knew come back if the platform says when",
        f"{TIER}::TestWaiting::test_old_words_that_no_tier_knew_come_back_too[memory]",
        "domain/edits.py",
        "by_time if by_words_known else by_words",
        "by_words",
    ),
    guard(
        "an edit is forgotten under all ids",
        f"{TIER.replace('test_edits', 'test_finish')}::TestForget::test_an_edit_is_forgotten_under_all_ids[memory]",
        "protocol/steps.py",
        "    for message_id in message_ids:\n        was =",
        "    for message_id in tuple(message_ids)[:1]:\n        was =",
    ),
    guard(
        "a cancel that has begun covers an edit under its new id",
        f"{TIER}::TestAdopting::test_a_cancel_that_has_begun_covers_an_edit_under_its_new_id[memory]",
        "protocol/steps.py",
        "tuple(edits.get(id_, id_) for id_ in job.cancelled)",
        "job.cancelled",
    ),
    guard(
        "a clock that is behind makes no edit older",
        f"{TIER}::TestWaiting::test_a_clock_that_is_behind_makes_no_edit_older[memory]",
        "domain/edits.py",
        "max(message.accepted_at, newest.accepted_at)",
        "message.accepted_at",
    ),
    guard(
        "an earlier turn of a history is marked",
        f"{TEST}::TestTheTierHasForgotten::test_an_earlier_turn_with_other_words_is_not_answered_again[memory]",
        "intake/intake.py",
        ", earlier=number < last",
        "",
    ),
    guard(
        "a late retry makes no old version the newest",
        f"{TEST}::TestTheTierHasForgotten::test_a_late_retry_of_old_words_makes_no_version_newer_in_its_record[memory]",
        "intake/intake.py",
        "for n, version in enumerate(versions)}",
        "for n, version in enumerate(versions) if version.message_id in posted}",
    ),
    guard(
        "nor does a late retry of a message that came first without its id",
        f"{TEST}::TestTheTierHasForgotten::test_nor_one_of_a_message_that_came_first_without_its_id[memory]",
        "intake/intake.py",
        "for versions in versions_of(accepted.pending):",
        "for versions in [[message] for message in accepted.pending]:",
    ),
    guard(
        "a late retry keeps the order of versions",
        f"{TEST}::TestTheTierHasForgotten::test_nor_one_of_an_edit_that_stands_before_its_message[memory]",
        "intake/intake.py",
        "own.accepted_at + n / 1e6",
        "own.accepted_at",
    ),
    guard(
        "a drained edit is remembered as the newest version",
        "contract/outages/test_redis_away.py::TestDrain::test_an_edit_that_waits_there_is_the_newest_version_afterwards",
        "protocol/steps.py",
        "in sorted(messages, key=lambda message: message.accepted_at):",
        "in messages:",
    ),
    guard(
        "Postgres notes words that were replaced before it knew them",
        f"{TEST}::TestWhateverHappens::test_at_any_step[memory-twice-the tier is lost]",
        "worker/worker.py",
        "            self.archive.settle_also(key, replaced, own_end)\n",
        "            pass\n",
    ),
    guard(
        "an edit stands for a message that Postgres does not know",
        f"{FENCE}::test_an_edit_is_known_even_if_its_message_is_not[postgres]",
        function("note_edits_v1"),
        "settled.message_id = edit.message_id",
        "false",
    ),
    guard(
        "words that were replaced lead to the newest version's job",
        f"{FENCE}::test_words_that_were_replaced_lead_to_the_newest_version[postgres]",
        "domain/edits.py",
        "return ended.get(edit_id(name.message_id, end.words), end)",
        "return end",
    ),
    guard(
        "a reopened edit leaves the version before it the newest",
        f"{TEST}::TestRetried::test_an_edit_alone_is_answered[postgres alone]",
        "archive/postgres_steps.py",
        '        execute(connection, values | {"bases": bases}, "restore_versions")\n',
        "        pass\n",
    ),
    guard(
        "a settled edit is the newest version",
        f"{FENCE}::test_old_words_come_back_if_the_platform_says_when[postgres]",
        function("note_edits_v1"),
        "update settled set words = edit.words, accepted_at = edit.accepted_at",
        "update settled set words = words",
    ),
    guard(
        "the words that an edit replaced stay known",
        f"{FENCE}::test_known_words_are_a_duplicate[postgres- 2 pills-1]",
        function("note_edits_v1"),
        "message_id || ' edit ' || words, job_id",
        "message_id || ' gone ' || words, job_id",
    ),
    guard(
        "what waits in the Postgres tier is named by its version",
        "contract/outages/test_redis_away.py::TestDrain::test_an_edit_that_waits_there_replaces_the_first_version",
        "archive/postgres_steps.py",
        "in named(waiting, job.messages, settled, again=True)",
        "in waiting",
    ),
    guard(
        "a parked message is compared by its words",
        f"{TEST}::TestWhileAHumanAnswers::test_an_edit_of_what_the_bot_has_answered_waits[memory]",
        "archive/parking.py",
        "[replace(new, message=name) for new, name in zip(messages, names, strict=True)]",
        "list(messages)",
    ),
    guard(
        "a human answers all versions",
        f"{TEST}::TestWhileAHumanAnswers::test_a_humans_turn_answers_all_versions[memory]",
        "archive/parking.py",
        "index not in were_parked and base in exchange_of",
        "False",
    ),
    guard(
        "the archive keeps the old words",
        "contract/test_retention.py::TestExport::test_the_words_that_an_edit_replaced_are_shown_and_the_platforms_id_alone",
        "archive/versions.py",
        "tuple(v.content for v in versions[:-1])",
        "()",
    ),
    guard(
        "words that were answered before an edit are archived after it",
        f"{FENCE}::test_an_end_that_comes_after_that_of_an_edit_is_archived[postgres]",
        "archive/postgres_steps.py",
        "standing(job.messages, settled, ended=True)",
        "standing(job.messages, settled)",
    ),
    guard(
        "an end that comes late settles an edit as one",
        f"{FENCE}::test_an_end_that_comes_late_settles_an_edit_as_one[postgres]",
        "archive/postgres_steps.py",
        "    open_ = standing(job.messages, settled, ended=True).open\n    if not open_:",
        "    open_ = tuple(m for m in job.messages if m.message_id not in settled)\n    if not open_:",
    ),
    guard(
        "an export shows the platform's id alone",
        "contract/test_retention.py::TestExport::test_the_words_that_an_edit_replaced_are_shown_and_the_platforms_id_alone",
        "operations/export.py",
        'shown["message_id"] = shown_id(own_id)',
        'shown["message_id"] = own_id',
    ),
    guard(
        "what waits is counted without its versions",
        f"{HTTP}::test_what_waits_while_a_human_answers_counts_each_message_once",
        "intake/responses.py",
        "len({base_id(id_) for id_ in (*parked.message_ids, *waiting)})",
        "len({*parked.message_ids, *waiting})",
    ),
)
