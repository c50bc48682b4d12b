"""Guards of the worker: when a record may be deleted, and what a run may commit.

Two guards are missing, because they can't be removed alone. A claim takes the head of the line (counterexample 3), and
names no job. An unfenced run that gets no fence at its commit ends there, and the commit would refuse it too.
"""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, function

RUN, FENCING, ASKING, ENDING = (f"worker/{name}.py" for name in ("run", "fencing", "asking", "ending"))

RECORDS = (
    Guard(
        "a worker accepts the record again",
        "step re-accept",
        "contract/test_counterexamples.py::TestCounterexamples::test_5_a_job_that_the_tier_forgot_leads_to_the_answer[memory]",
        (
            Removal(
                "worker/worker.py",
                "again = AcceptAgain(record.request, record.job_id, key.new_job_id())",
                "again = None",
            ),
        ),
    ),
    Guard(
        "a record is deleted when its own message is settled",
        "counterexample 2",
        "contract/test_records.py::TestRecords::test_a_refused_record_is_deleted_if_its_own_message_is_settled[memory]",
        (
            Removal(
                "worker/worker.py",
                "None if settled else self._check(tier, wait)",
                "None",
            ),
        ),
    ),
    Guard(
        "a record is kept whatever the tier says about its job",
        "counterexample 2",
        "contract/test_records.py::TestRecords::test_a_record_is_kept_whatever_the_tier_says_about_its_job[memory]",
        (
            Removal(
                "worker/worker.py",
                "        tier.forget(key, record.own.possible_ids)\n        return wait\n",
                "        return None\n",
            ),
        ),
    ),
    Guard(
        "an end that Postgres doesn't know is forgotten",
        "step check",
        "contract/test_records.py::TestRecords::test_a_record_is_kept_whatever_the_tier_says_about_its_job[memory]",
        (Removal("worker/worker.py", "        tier.forget(key, record.own.possible_ids)\n"),),
    ),
    Guard(
        "only what had ended before Postgres was asked is forgotten",
        "step check",
        "contract/outages/test_postgres_away.py::TestRecordsThatMeet::test_an_end_that_came_while_postgres_was_asked_is_not_forgotten[memory]",
        (
            Removal(
                "worker/worker.py",
                "        if worker.check(record):\n            return None\n        tier.forget",
                "        tier.forget",
            ),
        ),
    ),
    Guard(
        "the promised job leads to the one that answered",
        "counterexample 5",
        "contract/test_counterexamples.py::TestCounterexamples::test_5_a_job_that_the_tier_forgot_leads_to_the_answer[memory]",
        (Removal("worker/worker.py", "if end.job_id != record.job_id:", "if False:"),),
    ),
    Guard(
        "the follow-up is run or woken",
        "invariant 7",
        "contract/test_answering.py::TestWhileTheAIRuns::test_with_too_little_time_left_the_next_job_gets_one_record[memory]",
        (Removal("worker/worker.py", "                    wake(worker.queue, head)\n", "                    pass\n"),),
    ),
    Guard(
        "a poison record's job is failed at its last delivery",
        "step fail",
        "contract/outages/test_failing_records.py::TestPoison::test_at_the_last_delivery_a_records_job_fails_visibly_and_the_lock_is_free[memory]",
        (Removal("worker/worker.py", "            if self.give_up:\n", "            if False:\n"),),
    ),
    Guard(
        "a dead letter that comes back again is failed",
        "step fail",
        "contract/outages/test_dead_letters.py::TestDeadLetters::test_a_dead_letter_that_comes_back_again_fails_visibly[memory]",
        (Removal("operations/dead_letters.py", " or record.redriven:\n", ":\n"),),
    ),
    Guard(
        "what waits with a dead letter is not failed untried",
        "step fail",
        "contract/outages/test_dead_letters.py::TestDeadLetters::test_a_later_message_is_not_failed_with_a_dead_letter[memory]",
        (
            Removal(
                "worker/worker.py",
                "if found and any(own.isdisjoint(message.ids)",
                "if False and any(own.isdisjoint(message.ids)",
            ),
        ),
    ),
)

RUNNING = (
    Guard(
        "a lost claim ends the AI call",
        "step heartbeat",
        "contract/test_answering.py::TestWhileTheAIRuns::test_a_lost_lock_ends_the_ai_call[memory]",
        (Removal(ASKING, "raise Stopped\n\n        return watch", "pass\n\n        return watch"),),
    ),
    Guard(
        "what is sealed by another is not committed",
        "step seal",
        "contract/test_stale_workers.py::TestAStaleWorker::test_a_stale_worker_leaves_its_successors_claim_alone[memory-tier.seal-archive.commit]",
        (Removal(RUN, 'if sealed.verdict == "lost":', "if False:"),),
    ),
    Guard(
        "a refused commit ends nothing",
        "step commit",
        "contract/test_stale_workers.py::TestAStaleWorker::test_a_job_that_was_not_committed_has_not_ended_in_the_tier_either[memory]",
        (Removal(ENDING, "if committed else self.fenced_out(job)"),),
    ),
    Guard(
        "a late id of a message is settled with it",
        "invariant 5",
        "contract/test_answering.py::TestWhileTheAIRuns::test_a_late_id_of_a_message_is_settled_with_it[memory]",
        (
            Removal(
                RUN,
                "messages=sealed.messages, restarts=sealed.restarts",
                "restarts=sealed.restarts",
            ),
        ),
    ),
    Guard(
        "what joined between the fence and the run is fenced too",
        "step fence",
        "contract/test_records.py::TestRecords"
        "::test_a_duplicate_that_joins_between_the_fence_and_the_run_is_not_answered_again[memory]",
        (Removal(FENCING, "elif fenced.issuperset(message.message_id for message in job.messages):", "else:"),),
    ),
    Guard(
        "what waits in the Postgres tier joins",
        "counterexample 8",
        "contract/outages/test_redis_away.py::TestDrain::test_8_the_first_reply_answers_both_in_order[servers]",
        (Removal(FENCING, 'drain=self.tier.name != "postgres"', "drain=False"),),
    ),
    Guard(
        "a committed end survives a tier that goes away",
        "step finish",
        "contract/outages/test_redis_away.py::TestRedisAway::test_a_committed_end_is_shown_although_redis_went_away_at_the_finish[memory]",
        (Removal(ENDING, "            if not committed:\n                raise\n", "            raise\n"),),
    ),
)

WITHOUT_POSTGRES = (
    Guard(
        "what may be committed waits for Postgres",
        "counterexample 10",
        "contract/outages/test_postgres_away.py::TestPostgresAway::test_a_job_that_an_earlier_owner_may_have_committed_waits_for_postgres[memory]",
        (
            Removal(
                FENCING,
                "                if job.maybe_committed:\n",
                "                job = replace(job, maybe_committed=False)\n                if False:\n",
            ),
        ),
    ),
    Guard(
        "an unfenced run takes a fence at its commit",
        "counterexample 9",
        "contract/outages/test_postgres_away.py::TestPostgresAway"
        "::test_a_run_that_began_without_postgres_takes_a_fence_at_its_commit[memory]",
        (
            Removal(
                ENDING,
                "late = self.archive.fence(job.before_its_end(), successor_id=job.key.new_job_id(), turns=0)",
                'raise Unavailable("Postgres")',
            ),
        ),
    ),
    Guard(
        "the owner is compared again after that fence",
        "counterexample 9",
        "contract/outages/test_postgres_away.py::TestPostgresAway::test_a_worker_that_lost_its_lock_while_it_took_its_fence_gives_nothing[memory]",
        (Removal(ENDING, 'if again.verdict != "sealed":', "if False:"),),
    ),
    Guard(
        "the tier compares the owner before an unarchived end counts",
        "step commit",
        "contract/outages/test_postgres_away.py::TestPostgresAway::test_an_unfenced_worker_that_lost_its_lock_gives_nothing[memory]",
        (Removal(ENDING, "if not finished.done:", "if False:"),),
    ),
    Guard(
        "an end that was not sent is archived from the tier",
        "step check",
        "contract/outages/test_postgres_away.py::TestPostgresAway::test_an_end_whose_archive_record_was_not_sent_stays_what_it_is[memory]",
        (Removal("worker/worker.py", "if ended and ended.unarchived:", "if False:"),),
    ),
)

#: Each covers for the other when another job's worker commits. A reply doubles only without both.
TOGETHER = (
    Guard(
        "the fence and what is settled, both",
        "invariant 2",
        "contract/test_stale_workers.py::TestAStaleWorker::test_a_stale_worker_does_not_answer_again_what_another_job_answered[memory]",
        (
            Removal(
                "archive/memory.py",
                "if fence != archived.fence or any(id_ in archived.settled for id_ in ids):",
                "if False:",
            ),
        ),
    ),
    Guard(
        "the fence and what is settled, both",
        "invariant 2",
        "contract/test_stale_workers.py::TestAStaleWorker"
        "::test_a_stale_worker_does_not_answer_again_what_another_job_answered[redis and postgres]",
        (
            Removal(function("end_jobs_v1"), "\n          and (job.fence is null or fence = job.fence)"),
            Removal(
                function("end_jobs_v1"),
                "as ended(message_id, words, accepted_at);",
                "as ended(message_id, words, accepted_at) on conflict do nothing;",
            ),
        ),
    ),
)

FUNCTION, QUEUE = "../../../../functions/worker/app.py", "unit/test_queues.py::TestHiding"
BATCH = "unit/test_worker.py"
SIGNS_OF_LIFE = (
    Guard(
        "a batch's records are hidden again and again",
        "invariant 9",
        f"{QUEUE}::test_all_records_of_a_batch_are_hidden_in_one_call_again_and_again_until_it_ends",
        (Removal("queue/hiding.py", "if self._ended.wait(EXTEND_SECONDS):", "if True:"),),
    ),
    Guard(
        "nothing is hidden any more when the batch has ended",
        "invariant 9",
        f"{QUEUE}::test_all_records_of_a_batch_are_hidden_in_one_call_again_and_again_until_it_ends",
        (Removal("queue/hiding.py", "        self._thread.join()\n\n    def return_after", "\n    def return_after"),),
    ),
    Guard(
        "a record that was handed on is not hidden anew",
        "step claim",
        f"{QUEUE}::test_a_record_that_is_handed_on_is_not_hidden_again",
        (Removal("queue/hiding.py", "            self._seconds.pop(receipt, None)\n"),),
    ),
    Guard(
        "a call under way does not hide a record that was handed on",
        "step claim",
        f"{QUEUE}::test_a_call_under_way_does_not_hide_what_is_handed_on",
        (Removal("queue/hiding.py", "with self._calling, suppress(Unavailable):\n", "with suppress(Unavailable):\n"),),
    ),
    Guard(
        "a failure of SQS itself lets no record go",
        "invariant 9",
        f"{QUEUE}::test_a_failure_of_sqs_itself_is_no_reason_to_let_a_record_go",
        (Removal("queue/sqs.py", ' if failure["SenderFault"]}', "}"),),
    ),
    Guard(
        "a record that came again and again is hidden for longer",
        "step fail",
        f"{QUEUE}::test_a_record_that_came_often_is_hidden_for_as_long_as_it_is_handed_on",
        (Removal("queue/hiding.py", " if count < ALONE_FROM else retry_delay(count)"),),
    ),
    Guard(
        "the function hides its records",
        "invariant 9",
        f"{BATCH}::test_all_of_a_batch_stay_hidden_until_the_last_is_answered",
        (Removal(FUNCTION, "    if queue:\n", "    if False:\n"),),
    ),
    Guard(
        "deliveries are not looked for in the queue of jobs",
        "invariant 9",
        "unit/test_delivery.py::test_a_delivery_that_crashes_is_left_to_the_sweep",
        (Removal(FUNCTION, "None if all(is_delivery(record", "built.single_try_queue if all(is_delivery(record"),),
    ),
    Guard(
        "a notice whose worker dies comes back after seconds",
        "notices, invariant 16",
        "unit/test_delivery.py::test_a_notice_that_fails_comes_back_after_seconds",
        (Removal(FUNCTION, 'if all(is_delivery(record["body"]) for record in records) else built.delivery_queue'),),
    ),
    Guard(
        "a suspect is worked on alone",
        "step fail",
        f"{BATCH}::test_a_record_is_worked_on_alone_from_its_third_delivery_on",
        (Removal(FUNCTION, "if receive_count(record) < ALONE_FROM]", "]"),),
    ),
    Guard(
        "records behind one that kills its worker come first the next time",
        "step fail",
        f"{BATCH}::test_what_kills_its_worker_leaves_its_mates_answered",
        (Removal(FUNCTION, ", reverse=backwards"),),
    ),
    Guard(
        "a last delivery comes first",
        "step fail",
        f"{BATCH}::test_a_records_last_delivery_does_not_wait_for_one_that_may_kill_its_worker",
        (Removal(FUNCTION, "receive_count(record) < MAX_RECEIVE_COUNT)", "0)"),),
    ),
    Guard(
        "a suspect is not begun with too little time",
        "invariant 9",
        f"{BATCH}::test_a_record_that_is_worked_on_alone_is_handed_on_if_too_little_time_is_left",
        (Removal(FUNCTION, "if time.time() + FOLLOW_UP_SECONDS <= deadline:", "if True:"),),
    ),
    Guard(
        "an overdue holder is waited for",
        "step claim",
        "contract/test_records.py::TestRecords"
        "::test_a_record_that_comes_before_its_dead_workers_claim_is_stale_waits_for_that[memory]",
        (Removal("worker/worker.py", "(claim.overdue, math.inf) if claim.leased", "(None, math.inf) if claim.leased"),),
    ),
    Guard(
        "a heartbeat that did not get through is sent again",
        "step heartbeat",
        "contract/test_records.py::TestRecords::test_a_heartbeat_that_did_not_get_through_is_sent_again_at_the_next_look[memory]",
        (
            Removal(
                ASKING,
                "                    progress = Progress(len(text)",
                "                    self._beaten_at = now\n                    progress = Progress(len(text)",
            ),
        ),
    ),
    Guard(
        "a store's absence is waited for whatever the staleness",
        "step check",
        "contract/outages/test_failing_records.py::TestBackOff"
        "::test_a_record_waits_ever_longer_for_a_store_however_soon_a_dead_worker_is_noticed[memory-60.0]",
        (
            Removal(
                "worker/worker.py", "self.settings.store_back_off * 4.0", "(2 * self.settings.heartbeat_stale) * 4.0"
            ),
        ),
    ),
)

GUARDS = (*RECORDS, *RUNNING, *WITHOUT_POSTGRES, *TOGETHER, *SIGNS_OF_LIFE)
