"""Guards of the archives: which run may commit, which messages may be settled, and where a promised job leads.

One guard is missing, because it can't be removed alone: in memory a circle of links would be followed for ever.
"""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, each_in, function, statement

MEMORY = "archive/memory.py"
POSTGRES, STEPS = "archive/postgres.py", "archive/postgres_steps.py"
FENCES, END = function("take_fences_v3"), function("end_jobs_v1")


#: Makes the guards of a transaction in memory and in Postgres.
in_both = each_in("contract/test_archive.py", "memory", "postgres")

COMMITTING = (
    *in_both(
        "the commit compares the fence",
        "invariant 3",
        "TestCommit::test_a_stale_fence_is_refused_and_nothing_has_changed",
        Removal(MEMORY, "if fence != archived.fence or any(", "if any("),
        Removal(END, "\n          and (job.fence is null or fence = job.fence)"),
    ),
    *in_both(
        "the commit looks whether a message is settled",
        "invariant 2",
        "TestCommit::test_a_message_that_another_settled_refuses_the_whole",
        Removal(MEMORY, " or any(id_ in archived.settled for id_ in ids)"),
        Removal(
            END,
            "as ended(message_id, words, accepted_at);",
            "as ended(message_id, words, accepted_at) on conflict do nothing;",
        ),
    ),
    *in_both(
        "the commit looks whether the job has ended",
        "invariant 10",
        "TestFence::test_a_run_that_it_ends_commits_nothing",
        Removal(MEMORY, "if known is None or known.status.ended:", "if known is None:"),
        Removal(END, "\n          and status = 'processing';", ";"),
    ),
    *in_both(
        "the same end again is a success",
        "step commit",
        "TestCommit::test_the_same_end_twice_under_one_fence_is_one_commit",
        Removal(MEMORY, "return Committed() if same_end else None", "return None"),
        Removal(POSTGRES, 'committed is None and self._database.execute(values, "was_committed")[0][0]', "False"),
    ),
)

FENCING = (
    *in_both(
        "no run for a job with settled messages",
        "counterexample 2",
        "TestFence::test_a_job_of_which_another_answered_a_part_ends_for_its_successor",
        Removal(
            MEMORY,
            "if not known.status.ended and len(open_) == len(job.messages) and not stand.edits:",
            "if not known.status.ended:",
        ),
        Removal(FENCES, "\n           and is_settled is not true"),
    ),
    *in_both(
        "no run for a job that has ended",
        "invariant 10",
        "TestFence::test_an_ended_job_never_runs_again",
        Removal(
            MEMORY,
            "if not known.status.ended and len(open_) == len(job.messages) and not stand.edits:",
            "if len(open_) == len(job.messages) and not stand.edits:",
        ),
        Removal(FENCES, "\n           and has_ended is not true"),
    ),
)

CANCELLING = (
    *in_both(
        "a cancel raises the fence",
        "counterexample 4",
        "TestCancel::test_the_run_that_goes_on_commits_nothing",
        Removal(MEMORY, "if open_:\n                archived.fence += 1\n", "if open_:\n"),
        Removal(END, "coalesce(job.fence, fence + 1)", "fence"),
    ),
    *in_both(
        "a cancel settles what is open alone",
        "step cancel",
        "TestCancel::test_an_open_alias_of_an_answered_message_is_not_cancelled",
        Removal(
            MEMORY,
            "open_ = standing(live, archived.settled).open",
            "open_ = live",
        ),
        Removal(STEPS, "open_ = standing(live, settled).open", "open_ = live"),
    ),
    *in_both(
        "a cancel ends the successor that waited for a run",
        "step cancel",
        "TestCancel::test_a_successor_that_waited_for_a_run_ends_with_it",
        Removal(
            MEMORY,
            "            self._end_settled(archived, job)\n            return Verdict",
            "            return Verdict",
        ),
        Removal(STEPS, '"end_job", "end_settled", "job")', '"end_job", "job")'),
    ),
)

ARCHIVING = (
    *in_both(
        "the first answer stays",
        "step archive",
        "TestArchive::test_where_another_answered_all_the_first_answer_stays",
        Removal(MEMORY, "            if not open_:\n                return False\n"),
        Removal(STEPS, "    if not open_:\n        return False\n"),
    ),
    Guard(
        "an archived end shuts out the run that goes on",
        "step archive",
        "contract/test_archive.py::TestArchive::test_the_run_that_goes_on_is_shut_out_by_a_late_end[memory]",
        (Removal(MEMORY, "archived.fence += 1\n            end = ", "end = "),),
    ),
    Guard(
        "a late reply stands where it was given",
        "invariant 6",
        "contract/test_archive.py::TestArchive::test_its_turns_stand_before_what_was_said_later[memory]",
        (Removal(MEMORY, " if late and turn.created_at > at)", " if False)"),),
    ),
    Guard(
        "a late reply stands where it was given",
        "invariant 6",
        "contract/test_archive.py::TestArchive::test_its_turns_stand_before_what_was_said_later[postgres]",
        (Removal(END, "if said_later is not null then", "if false then"),),
    ),
)

LINKING = (
    *in_both(
        "a chain that ends with a mere name goes on",
        "counterexample 5",
        "TestSupersede::test_a_chain_that_ends_with_a_mere_name_is_linked_and_ended",
        Removal(
            MEMORY,
            "        self._jobs.note_end(job)\n        self._jobs.link(job, successor_id)\n",
            "        self._jobs.link(job, successor_id)\n",
        ),
        Removal(STEPS, '"note_promise", "note_end", "supersede_jobs"', '"note_promise", "supersede_jobs"'),
    ),
    *in_both(
        "a linked job ends with the last of its messages",
        "step commit",
        "TestSupersede::test_a_linked_job_ends_with_the_last_of_its_messages",
        Removal(
            MEMORY,
            "            self._end_superseded(archived, job.key)\n            return Committed()\n",
            "            return Committed()\n",
        ),
        Removal(END, "            perform end_superseded_v2(job.platform_id, job.conversation_id);\n"),
    ),
    *in_both(
        "where a link would close a circle a copy ends the chain",
        "counterexample 5",
        "TestSupersede::test_where_a_link_would_close_a_circle_the_chain_ends_with_a_copy",
        Removal(MEMORY, "        self._jobs.copy(job, successor_id)\n"),
        Removal(STEPS, ', "copy_successor")', ")"),
    ),
    *in_both(
        "a job whose messages are all settled ends",
        "step check",
        "TestSupersede::test_a_run_whose_messages_are_all_settled_ends",
        Removal(
            MEMORY,
            "self._jobs.copy(job, successor_id)\n        self._end_settled(archived, job)\n",
            "self._jobs.copy(job, successor_id)\n",
        ),
        Removal(STEPS, '*link, "end_settled")', "*link)"),
    ),
    *in_both(
        "a job that is needed goes on",
        "step check",
        "TestSupersede::test_a_run_that_goes_on_for_other_messages_may_still_commit",
        Removal(MEMORY, " and not archived.has_open(noted)"),
        Removal(
            statement("end_settled"),
            "\n  and not is_open_v1(jobs)",
        ),
    ),
)

in_promises = each_in("contract/test_promises.py", "memory", "postgres")
PROMISES = (
    *in_promises(
        "a fence leads the promised jobs to its run",
        "counterexample 5",
        "TestLinks::test_a_fence_leads_a_job_that_never_ran_to_the_run",
        Removal(
            MEMORY,
            "                self._link_promises(archived, job, job.job_id)\n                return Fence",
            "                return Fence",
        ),
        Removal(FENCES, "job.promises, job.job_id);", "job.promises, null);"),
    ),
    *in_promises(
        "a commit leads the promised jobs to itself",
        "counterexample 5",
        "TestLinks::test_a_commit_leads_to_itself_what_its_fence_did_not_know",
        Removal(
            MEMORY,
            "            self._link_promises(archived, job, job.job_id)\n"
            "            self._end_superseded(archived, job.key)\n"
            "            return Committed()",
            "            self._end_superseded(archived, job.key)\n            return Committed()",
        ),
        Removal(END, "job.promises, job.job_id);", "'{}', job.job_id);"),
    ),
)

MIXED = "contract/test_migrations.py::TestTheCodeBefore::test_each_reads_whole_what_the_other_has_ended"
DOCUMENTS = "sql/migrations/0013_job_documents.sql"
UPDATING = (
    Guard(
        "the release before reads what this one has ended",
        "update",
        f"{MIXED}[12-today's-completed]",
        (Removal(DOCUMENTS, "        new.reply := new.document ->> 'reply';\n"),),
    ),
    Guard(
        "this release reads what the one before has ended",
        "update",
        f"{MIXED}[12-the one before-completed]",
        (Removal(DOCUMENTS, " || job_document(new)", " || jsonb_build_object('bot_id', new.bot_id)"),),
    ),
    Guard(
        "a run of the release before leaves nothing of a run of this one",
        "update",
        "contract/test_migrations.py::TestTheCodeBefore::"
        "test_a_run_of_the_release_before_leaves_nothing_of_a_run_of_this_one[12]",
        (Removal(DOCUMENTS, "'restarts', 'attempts', 'reply', 'error', 'usage', 'correlation_id']", "'reply']"),),
    ),
    Guard(
        "what is archived late has a day from then on",
        "step archive",
        "contract/delivery/test_outbox.py::TestOutbox::test_a_late_archived_reply_has_a_day_from_then_on",
        (Removal(END, "case when job.fence is null then now() else ended_at end", "ended_at"),),
    ),
    Guard(
        "a job from before the documents keeps what its columns say",
        "update",
        "contract/test_migrations.py::TestUpdating::test_a_job_is_read_whole[12]",
        (Removal(DOCUMENTS, "        'reply', job.reply,\n"),),
    ),
)

OTHERS = (
    Guard(
        "the fence brings along what waits in the Postgres tier",
        "counterexample 8",
        "contract/test_postgres_tier.py::TestDrain::test_what_waits_comes_oldest_first_with_its_ids",
        (Removal(FENCES, "if job.drains then", "if false then"),),
    ),
    Guard(
        "the fence brings nothing along that is settled",
        "counterexample 8",
        "contract/test_postgres_tier.py::TestDrain::test_a_settled_message_stays_where_it_is",
        (Removal(STEPS, "message.message_id not in settled\n        and "),),
    ),
    Guard(
        "links never form a circle",
        "counterexample 5",
        "contract/test_archive.py::TestSupersede::test_links_never_form_a_circle[postgres]",
        (Removal(statement("supersede_jobs"), "\n  and job_id not in (select job_id from onward)"),),
    ),
)

GUARDS = (*COMMITTING, *FENCING, *CANCELLING, *ARCHIVING, *LINKING, *PROMISES, *UPDATING, *OTHERS)
