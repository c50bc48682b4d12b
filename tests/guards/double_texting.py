"""Guards of messages that come while another is answered: which run may be interrupted, rejected or waited for."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, statement

TEST = "contract/test_double_texting.py"

QUIET = f"{TEST}::TestQuiet"

GUARDS = (
    Guard(
        "a run that was stopped waits for the patient to be quiet",
        "debounce_ms",
        f"{QUIET}::test_it_asks_again_when_the_patient_is_quiet[memory]",
        (Removal("worker/run.py", "job = self._until_quiet(job, self.deadline - answer.needs)", "pass"),),
    ),
    Guard(
        "a run that waits for the patient leaves the time for an answer",
        "invariant 9",
        f"{QUIET}::test_it_leaves_the_time_for_an_answer[memory]",
        (Removal("worker/run.py", "min(job.ready_at, latest)", "job.ready_at"),),
    ),
    Guard(
        "a run that waits for the patient is alive",
        "step heartbeat",
        f"{QUIET}::test_its_worker_lives_while_it_waits[memory]",
        (
            Removal(
                "worker/run.py",
                "lease = self.tier.heartbeat(job.key, self.lock_id, seen=len(job.messages))",
                "lease = self.tier.look(job.key, self.lock_id, seen=len(job.messages))",
            ),
        ),
    ),
    Guard(
        "a tier that is away while a run waits costs no answer",
        "debounce_ms",
        f"{QUIET}::test_a_tier_that_is_away_meanwhile_costs_no_answer[memory]",
        (
            Removal(
                "worker/run.py",
                "with suppress(*TRANSIENT):\n                lease = self.tier.heartbeat(job.key",
                "with suppress():\n                lease = self.tier.heartbeat(job.key",
            ),
        ),
    ),
    Guard(
        "an interrupted job ends in Postgres",
        "policy interrupt",
        f"{TEST}::TestInterrupted::test_a_worker_that_slept_through_it_commits_nothing[memory]",
        (Removal("intake/intake.py", "self.archive.interrupt(accepted.interrupted)", "pass"),),
    ),
    Guard(
        "an ended job stays as it ended",
        "invariant 10",
        "contract/test_archive.py::TestInterrupt::test_one_that_has_ended_stays_as_it_is[postgres]",
        (Removal(statement("interrupt_job"), " and status = 'processing'"),),
    ),
    Guard(
        "a patient who types on uses up no deliveries",
        "debounce_ms",
        f"{TEST}::TestDebounce::test_it_uses_up_no_deliveries[memory]",
        (
            Removal(
                "worker/worker.py", "PATIENCE_SECONDS if receive_count < PATIENT_FROM else math.inf", "PATIENCE_SECONDS"
            ),
        ),
    ),
    Guard(
        "what waits for a patient to be quiet gets a record",
        "invariant 7",
        f"{TEST}::TestDebounce::test_what_waited_for_the_reply_is_answered_when_the_patient_is_quiet[memory]",
        (Removal("worker/worker.py", "wake(worker.queue, head, delay=math.ceil(claim.wait))", "pass"),),
    ),
    Guard(
        "nothing is linked behind a run",
        "policy interrupt",
        f"{TEST}::TestInterrupted::test_a_worker_that_slept_before_its_fence_leads_no_client_astray[memory]",
        (Removal("archive/memory.py", "self._jobs.running_successor(job) or "),),
    ),
    Guard(
        "nothing is linked behind a run",
        "policy interrupt",
        f"{TEST}::TestInterrupted::test_a_worker_that_slept_before_its_fence_leads_no_client_astray[postgres alone]",
        (Removal("archive/postgres_steps.py", "(running or execute(", "(execute("),),
    ),
)
