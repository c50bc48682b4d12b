"""Guards of intake, of cancels and of operators' releases."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

ENDING = "worker/ending.py"
JOBS = "jobs.py"

ACCEPTING = (
    Guard(
        "the record is sent for a duplicate too",
        "counterexample 1",
        "contract/test_counterexamples.py::TestCounterexamples::test_1_a_duplicate_sends_the_record_again[memory]",
        (
            Removal(
                "intake/intake.py",
                "            self.queue.send(record",
                "            accepted.duplicate or self.queue.send(record",
            ),
        ),
    ),
    Guard(
        "a refused send is undone",
        "step undo",
        "contract/test_intake.py::TestIntake::test_a_refused_record_leaves_nothing_behind[memory]",
        (Removal("intake/intake.py", "tier.undo(key, accepted.posted)", "pass"),),
    ),
    Guard(
        "a record brings all that waits",
        "counterexample 6",
        "contract/test_counterexamples.py::TestCounterexamples::test_6_a_later_record_brings_the_earlier_messages_along[memory]",
        (Removal("intake/intake.py", "messages=pending or (own,)", "messages=(own,)"),),
    ),
    Guard(
        "a job has the same id on every tier",
        "counterexample 5",
        "contract/outages/test_redis_away.py::TestRedisAway"
        "::test_an_accept_that_was_applied_but_unheard_promises_the_same_job_on_the_next_tier[memory]",
        (
            Removal(
                "intake/intake.py",
                "tier.accept(request, job_id=job_id, lock_id=lock_id)",
                "tier.accept(request, job_id=key.new_job_id(), lock_id=lock_id)",
            ),
        ),
    ),
)

ANSWERING = (
    Guard(
        "errors carry the correlation id too",
        "the HTTP contract",
        "unit/test_correlation.py::TestErrorAnswersCarryTheCorrelationId::test_of_a_refusal",
        (
            Removal(
                "http/rest.py",
                'response["headers"]["X-Correlation-ID"] = correlation_id_of(event)',
                'if response["statusCode"] < 400: response["headers"]["X-Correlation-ID"] = correlation_id_of(event)',
            ),
        ),
    ),
    Guard(
        "a correlation id that the caller sent is checked",
        "the HTTP contract",
        "unit/test_correlation.py::TestErrorAnswersCarryTheCorrelationId"
        "::test_an_id_that_is_none_is_replaced_by_the_gateways",
        (Removal("http/rest.py", "own if is_identifier(own) else", "own if own is not None else"),),
    ),
    Guard(
        "a bad setting is named in the log",
        "the HTTP contract",
        "unit/test_settings.py::test_a_bad_setting_names_its_variable_in_the_log_of_every_function",
        (
            Removal(
                "http/rest.py",
                '{"reason": str(error)} if isinstance(error, MessageHandlerError) else {}',
                '{"reason": ""}',
            ),
        ),
    ),
    Guard(
        "a line about a record has the record's correlation id",
        "the HTTP contract",
        "unit/test_correlation.py::TestEveryLineHasACorrelationId::test_of_each_record_of_a_batch_its_own",
        (
            Removal(
                "../../../../functions/worker/app.py",
                "logger.thread_safe_append_keys(correlation_id=decoded.correlation_id)",
                "pass",
            ),
        ),
    ),
)

OPERATING = (
    Guard(
        "Postgres decides a cancel",
        "counterexample 4",
        "contract/test_cancelling.py::TestCancel::test_a_pending_job_is_never_run[memory]",
        (
            Removal(
                JOBS,
                "verdict = self._archive.cancel(cancelling)",
                "from message_handler.ports.archive import Verdict; "
                "verdict = Verdict(replace(cancelling, status=JobStatus.CANCELLED), True)",
            ),
        ),
    ),
    Guard(
        "a worker that completes a cancel asks Postgres too",
        "counterexample 4",
        "contract/test_cancelling.py::TestCancel::test_a_worker_completes_a_cancel_that_was_begun[memory]",
        (
            Removal(
                ENDING,
                "ended = replace(self.archive.cancel(job).job, messages=job.messages)",
                "ended = replace(job, status=JobStatus.CANCELLED)",
            ),
        ),
    ),
    Guard(
        "Postgres is asked for what the cancel covers alone",
        "step cancel",
        "contract/test_cancelling.py::TestCancel::test_a_message_after_the_beginning_of_a_cancel_is_answered[memory]",
        (
            Removal(
                "domain/jobs.py",
                "return replace(self, messages=tuple(m for m in self.messages if m.message_id in self.cancelled))",
                "return self",
            ),
        ),
    ),
    Guard(
        "a worker that completes a cancel shows no other end",
        "invariant 6",
        "contract/outages/test_redis_away.py::TestRedisAway::test_a_worker_that_completes_a_cancel_does_not_show_an_end_again[memory]",
        (
            Removal(
                ENDING,
                "RunResult(ended if ended.status is JobStatus.CANCELLED else None, waiting)",
                "RunResult(ended, waiting)",
            ),
        ),
    ),
    Guard(
        "what the tier lost is not cancelled",
        "counterexample 4",
        "contract/test_cancelling.py::TestCancel::test_a_cancel_of_a_lost_job_is_unknown_because_its_record_brings_it_back[memory]",
        (Removal(JOBS, '            raise Unavailable("the job")\n', "            pass\n"),),
    ),
    Guard(
        "what waits behind a cancelled job is woken",
        "invariant 7",
        "contract/test_cancelling.py::TestCancel::test_a_job_that_waits_behind_a_cancelled_one_is_woken[memory]",
        (Removal(JOBS, "        if finished.waiting:\n", "        if False:\n"),),
    ),
    Guard(
        "a refused record keeps no other conversation asleep",
        "invariant 7",
        "contract/test_sweeping.py::TestTheSweep::test_a_refused_record_does_not_keep_the_others_asleep[memory]",
        (Removal("operations/sweeping.py", "            refused = error\n", "            raise\n"),),
    ),
    Guard(
        "a release raises the fence",
        "step admin release",
        "contract/test_stale_workers.py::TestAStaleWorker::test_a_worker_whose_lock_an_operator_released_commits_nothing[memory]",
        (Removal("operations/interventions.py", "    archive.raise_fence(key)\n"),),
    ),
    Guard(
        "a release raises the fence before it empties the holder",
        "step admin release",
        "contract/test_sweeping.py::TestTheSweep::test_without_postgres_nothing_is_released[memory]",
        (
            Removal(
                "operations/interventions.py",
                "    archive.raise_fence(key)\n"
                "    released = [job for job in tiers.each(lambda tier: tier.force_release(key)) if job]\n",
                "    released = [job for job in tiers.each(lambda tier: tier.force_release(key)) if job]\n"
                "    archive.raise_fence(key)\n",
            ),
        ),
    ),
)

GUARDS = (*ACCEPTING, *ANSWERING, *OPERATING)
