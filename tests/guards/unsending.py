"""Unsent messages: no reply answers them, and no record brings them back."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, statement

RULE = "step unsend"
TEST, HTTP, TIER = "contract/test_unsending.py", "unit/test_unsending.py", "contract/steps/test_unsend.py"
OUTCOMES, ARCHIVE = f"{TEST}::TestOutcomes", f"{TEST}::TestTheArchive"


def guard(name: str, test: str, *removal: str) -> Guard:
    return Guard(name, RULE, test, (Removal(*removal),))


GUARDS = (
    guard(
        "an edit that the tier took for a new message is dropped",
        f"{OUTCOMES}::test_an_edit_that_the_tier_took_for_a_new_message_is_dropped[memory]",
        "archive/versions.py",
        "(*self.edits, *(id_ for message in self.open for id_ in message.ids))",
        "tuple(id_ for message in self.open for id_ in message.ids)",
    ),
    guard(
        "a run looks whether a message has left",
        f"{TIER}::TestUnsend::test_a_run_notices_that_it_left[memory]",
        "protocol/steps.py",
        "len(line.current.messages) != seen",
        "len(line.current.messages) > seen",
    ),
    guard(
        "a seal looks whether a message has left",
        f"{TIER}::TestUnsend::test_a_run_notices_that_it_left[memory]",
        "protocol/steps.py",
        "(newer or gone)",
        "newer",
    ),
    guard(
        "a tier remembers it",
        f"{TIER}::TestUnsend::test_it_is_a_duplicate_afterwards[memory]",
        "protocol/steps.py",
        "    _remember(line, gone, job_id, len(newest_versions(gone)), now)\n",
        "",
    ),
    guard(
        "Postgres decides before a tier drops it",
        f"{OUTCOMES}::test_without_postgres_nothing_is_decided[memory]",
        "intake/unsending.py",
        "    unsent = archive.unsend(key, message_id, waiting, at=clock())\n",
        "    tiers.each(lambda tier: tier.unsend(key, [message_id], waiting[0].job_id))\n"
        "    unsent = archive.unsend(key, message_id, waiting, at=clock())\n",
    ),
    guard(
        "a tier that is away may have it",
        f"{OUTCOMES}::test_a_tier_that_is_away_may_have_it[memory]",
        "intake/unsending.py",
        "        if away:\n",
        "        if False:\n",
    ),
    guard(
        "an answer that Postgres lacks is waited for",
        f"{OUTCOMES}::test_an_answer_that_postgres_does_not_have_yet_is_waited_for[memory]",
        "intake/unsending.py",
        "        if tiers.find(lambda tier: tier.ended_by(key, message_id)):\n",
        "        if False:\n",
    ),
    guard(
        "what waits with it is woken",
        f"{HTTP}::test_what_waits_with_it_is_woken",
        "intake/unsending.py",
        "            wake(queue, found[1])\n",
        "            pass\n",
    ),
    guard(
        "no later context has it",
        f"{OUTCOMES}::test_an_answered_one_stays_answered_and_leaves_later_contexts[memory]",
        "worker/asking.py",
        "[turn for turn in known if not turn.unsent]",
        "known",
    ),
    guard(
        "a turn has the platform's id, not the one that intake minted first",
        f"{OUTCOMES}::test_a_message_that_got_its_id_later_leaves_later_contexts[memory]",
        "domain/messages.py",
        " if not _MINTED.fullmatch(id_)",
        "",
    ),
    guard(
        "its turns are marked in Postgres",
        f"{OUTCOMES}::test_an_answered_one_stays_answered_and_leaves_later_contexts[postgres alone]",
        statement("mark_unsent"),
        "set unsent_at = coalesce(unsent_at, now())",
        "set unsent_at = unsent_at",
    ),
    guard(
        "an edit that was answered is the message's own",
        f"{ARCHIVE}::test_an_edit_that_was_answered_is_found[postgres]",
        statement("settled_versions"),
        "\n       or starts_with(message_id, :message_id || ' edit ')",
    ),
    guard(
        "a job without another message ends",
        f"{ARCHIVE}::test_two_tiers_may_have_it[postgres]",
        "archive/postgres_steps.py",
        "        for left in without_others(waiting, stand.open_ids):\n",
        "        for left in ():\n",
    ),
    guard(
        "a parked message waits no longer",
        f"{OUTCOMES}::test_while_a_human_answers_it_waits_no_longer[memory]",
        "archive/versions.py",
        "    messages += [each.message for each in parked if not each.answered_by]\n",
        "",
    ),
    guard(
        "no row is left of an unknown message's conversation",
        f"{OUTCOMES}::test_an_unknown_one_is_not_found[postgres alone]",
        "archive/postgres_steps.py",
        '        execute(connection, values, "drop_new_conversation")\n',
        "",
    ),
    guard(
        "what was erased stays erased",
        f"{ARCHIVE}::test_what_was_erased_is_unknown[postgres]",
        "archive/versions.py",
        " and not is_void(erased_until, message.accepted_at)\n    }",
        "\n    }",
    ),
    guard(
        "a version that turns up later counts as replaced",
        f"{ARCHIVE}::test_a_version_that_turns_up_later_is_settled[postgres]",
        "archive/postgres_steps.py",
        '    execute(connection, values | {"edits": as_text([unsent._asdict()])}, "note_edits")\n',
        "",
    ),
)
