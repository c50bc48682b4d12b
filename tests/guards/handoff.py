"""Guards of a conversation that a human answers."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, each_in, function, statement

HANDOFF = "operations/handoff.py"
ENDING = "worker/ending.py"
MEMORY = "archive/memory.py"
POSTGRES = "archive/postgres_handoff.py"
TEST = "contract/test_handoff.py"


#: Makes guards that the memory stores and the servers both have.
in_both = each_in(TEST, "memory", "redis and postgres")

SILENCE = (
    Guard(
        "no run while a human answers",
        "step hand off",
        f"{TEST}::TestTheArchive::test_a_handed_off_conversation_permits_no_run_and_parks_open_messages[memory]",
        (
            Removal(
                MEMORY,
                "            if archived.handoff.human:\n                parked",
                "            if False:\n                parked",
            ),
        ),
    ),
    Guard(
        "no run while a human answers",
        "step hand off",
        f"{TEST}::TestTheArchive::test_a_handed_off_conversation_permits_no_run_and_parks_open_messages[postgres]",
        (Removal(function("take_fences_v3"), "not human\n           and "),),
    ),
    *in_both(
        "a hand-off shuts out the run that goes on",
        "invariant 3",
        "TestHandingOff::test_a_reply_that_is_sealed_but_not_committed_is_held_back",
        Removal(
            MEMORY, "archived.handoff.human, archived.fence = True, archived.fence + 1", "archived.handoff.human = True"
        ),
        Removal(statement("hand_off"), "fence = fence + 1, "),
    ),
    Guard(
        "a hand-off stops the AI call",
        "step hand off",
        f"{TEST}::TestHandingOff::test_the_ai_call_is_ended[memory]",
        (Removal("intake/silence.py", "tiers.each(lambda tier: tier.force_release(key))", "()"),),
    ),
    Guard(
        "a tier that forgot is told",
        "step fence",
        f"{TEST}::TestHandingOff::test_a_tier_that_forgot_is_told_by_the_worker[memory]",
        (Removal(ENDING, "        self.tier.hand_off(job.key, human=True)\n"),),
    ),
    Guard(
        "a record is deleted once its message is parked",
        "step check",
        f"{TEST}::TestHandingOff::test_the_job_is_cancelled_and_its_message_waits[memory-tier.claim]",
        (Removal("worker/worker.py", "return any(name.message_id in message.ids for message in parked) or", "return"),),
    ),
)

HOLDING = (
    Guard(
        "a message that the bot answered is not parked",
        "invariant 5",
        f"{TEST}::TestDuplicates::test_an_older_history_of_answered_messages_is_a_duplicate[memory]",
        (Removal("intake/intake.py", "request.messages[handed_off.answered :]", "request.messages"),),
    ),
    Guard(
        "a settled message is not parked",
        "invariant 5",
        f"{TEST}::TestDuplicates::test_a_duplicate_of_an_answered_message_is_told_so[memory]",
        (
            Removal(
                "archive/parking.py",
                "[(id_, new) for id_, new in came if settled.keys().isdisjoint(new.message.ids)]",
                "list(came)",
            ),
        ),
    ),
    Guard(
        "parking counts only while a human answers",
        "invariant 1",
        f"{TEST}::TestTheArchive::test_a_message_counts_as_parked_under_all_its_ids_while_a_human_answers[memory]",
        (Removal(MEMORY, " if archived and archived.handoff.human else ()", " if archived else ()"),),
    ),
    Guard(
        "parking counts only while a human answers",
        "invariant 1",
        f"{TEST}::TestTheArchive::test_a_message_counts_as_parked_under_all_its_ids_while_a_human_answers[postgres]",
        (Removal(statement("parked_under"), " and handed_off"),),
    ),
    Guard(
        "messages that come at the same moment are compared under the row lock",
        "invariant 5",
        f"{TEST}::TestTheArchive::test_messages_that_come_at_once_are_each_parked_once[postgres]",
        (Removal(statement("handoff_state"), "\nfor update"),),
    ),
)

BACK = (
    Guard(
        "a resumed message stays parked until a record carries it",
        "invariant 1",
        f"{TEST}::TestHandingBack::test_a_message_that_no_record_carries_stays_parked[memory]",
        (
            Removal(
                HANDOFF,
                "tuple(parked for parked in found.parked if not carried.isdisjoint(parked.message.ids))",
                "found.parked",
            ),
        ),
    ),
    *in_both(
        "no parked message is deleted after a second handoff",
        "invariant 1",
        "TestHandingBack::test_a_message_stays_parked_if_it_is_handed_off_again_meanwhile",
        Removal(
            MEMORY,
            "if archived.handoff.human or archived.handoff.handoffs != back.handoffs:",
            "if False:",
        ),
        Removal(POSTGRES, "if human or handoffs != back.handoffs:", "if False:"),
    ),
    *in_both(
        "no parked message is deleted that was parked again after a resume",
        "invariant 1",
        "TestHandingBack::test_a_message_stays_parked_until_a_second_resume_sends_it",
        Removal(MEMORY, " or archived.handoff.handoffs != back.handoffs:", ":"),
        Removal(POSTGRES, "if human or handoffs != back.handoffs:", "if human:"),
    ),
    *in_both(
        "the promised job leads to the one that answers",
        "counterexample 5",
        "TestHandingBack::test_one_job_answers_all_that_waited_in_order",
        Removal(MEMORY, "self._jobs.link(Job(parked.job_id, key, JobStatus.PENDING, (), back.bot_id), job_id)", "pass"),
        Removal(
            POSTGRES,
            '{"job_ids": _promised(back.parked), "successor_id": job_id, "message_ids": ids}',
            '{"job_ids": [], "successor_id": job_id, "message_ids": ids}',
        ),
    ),
    Guard(
        "a tier's claim that a human still answers is checked",
        "step hand back",
        f"{TEST}::TestHandingBack::test_a_tier_that_still_believes_in_the_handoff_rejects_no_message[memory]",
        (Removal(MEMORY, "for_a_human=None if human else request.for_a_human", "for_a_human=None"),),
    ),
    Guard(
        "the sweep completes a resume that was broken off",
        "invariant 7",
        "unit/test_handoff.py::test_the_sweep_hands_back_what_a_process_left_behind",
        (Removal(HANDOFF, "for key in archive.to_unpark():", "for key in ():"),),
    ),
)

SPEAKING = (
    Guard(
        "a human's turn hands off",
        "step hand off",
        f"{TEST}::TestAHumanSpeaks::test_a_tier_that_has_forgotten_it_takes_nothing_in[memory]",
        (Removal("intake/intake.py", "            if human:\n", "            if False:\n"),),
    ),
    Guard(
        "a human's turn counts once",
        "step hand off",
        f"{TEST}::TestAHumanSpeaks"
        "::test_the_same_history_after_a_resume_does_not_silence_the_bot_again[memory-with an id]",
        (Removal("archive/parking.py", 'if said[n].role == "sale" and noted(said[n])', "if False"),),
    ),
    Guard(
        "what a human answered is found under its other id",
        "invariant 2",
        f"{TEST}::TestAHumanSpeaks::test_what_the_human_answered_is_not_answered_by_the_bot[memory]",
        (Removal("archive/parking.py", "if moved or not each.answered_by", "if not each.answered_by"),),
    ),
    Guard(
        "the same words said again are parked",
        "invariant 1",
        f"{TEST}::TestAHumanSpeaks::test_the_same_words_again_are_new[memory]",
        (Removal("archive/parking.py", "[each for each in parked if moved or not each.answered_by]", "list(parked)"),),
    ),
    Guard(
        "the human's answer settles parked messages",
        "invariant 2",
        f"{TEST}::TestAHumanSpeaks::test_a_parked_message_that_the_human_answered_is_not_answered_by_the_bot[memory]",
        (
            Removal(
                "archive/parking.py",
                "message = with_alias(waiting[index].message, message)",
                "pass",
            ),
        ),
    ),
)

GUARDS = (*SILENCE, *HOLDING, *BACK, *SPEAKING)
