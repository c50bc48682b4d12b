"""The guards of deliveries: what is to be told, by whom, in which order, and how often."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

DELIVERY = "delivery.py"
WEBHOOKS = "webhooks.py"
CLAIM = "stores/sql/claim_delivery.sql"
TESTS = "contract/test_delivery.py"

_LEASE = """      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
"""
_DUE = f"""    where next_attempt_at <= to_timestamp(cast(:now as float8))
{_LEASE}"""
_STILL_DUE = f"""and status = 'pending'
      and next_attempt_at <= to_timestamp(cast(:now as float8))
{_LEASE}"""

GUARDS = (
    Guard(
        "a platform without a webhook has no deliveries",
        "step commit",
        f"{TESTS}::TestOutbox::test_a_platform_without_a_webhook_has_no_deliveries[]",
        (
            Removal(
                "stores/sql/commit_job.sql",
                "on platform_id = :platform_id and base_url <> ''",
                "on platform_id = :platform_id",
            ),
        ),
    ),
    Guard(
        "what is archived late keeps the id of its run",
        "step archive",
        f"{TESTS}::TestOutbox::test_what_is_archived_late_is_delivered_under_the_id_of_the_run",
        (Removal("stores/sql/archive_job.sql", "else cast(:run_id as text) end", "else cast(:job_id as text) end"),),
    ),
    Guard(
        "the oldest delivery is claimed first",
        "invariant 6",
        f"{TESTS}::TestEvents::test_the_replies_of_a_conversation_leave_in_the_order_of_their_commits",
        (Removal(CLAIM, "order by sequence limit 1", "order by sequence desc limit 1"),),
    ),
    Guard(
        "nothing overtakes one that waits for its next try",
        "invariant 6",
        f"{TESTS}::TestFailures::test_one_delivery_that_is_refused_holds_up_its_own_conversation_alone",
        (
            Removal(
                CLAIM,
                "status = 'pending'\n    order by",
                "status = 'pending' and next_attempt_at <= to_timestamp(cast(:now as float8))\n    order by",
            ),
        ),
    ),
    Guard(
        "a delivery that somebody has is nobody else's",
        "invariant 6",
        f"{TESTS}::TestRaces::test_nobody_overtakes_a_reply_that_is_being_delivered",
        (Removal(CLAIM, _DUE, _DUE.replace(_LEASE, "")), Removal(CLAIM, _STILL_DUE, _STILL_DUE.replace(_LEASE, ""))),
    ),
    Guard(
        "a lease ends",
        "invariant 1",
        f"{TESTS}::TestRaces::test_a_worker_that_died_is_followed_after_its_lease",
        (
            Removal(
                CLAIM,
                _DUE,
                _DUE.replace(
                    "claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8))",
                    "claimed_until is null",
                ),
            ),
        ),
    ),
    *(
        Guard(
            f"a worker past its lease reports nothing: {file}",
            "invariant 3",
            f"{TESTS}::TestRaces::test_a_worker_that_paused_past_its_lease_marks_nothing[{status}]",
            (Removal(f"stores/sql/{file}.sql", " and claim_id = cast(:claim_id as uuid)\n", " and :claim_id <> ''\n"),),
        )
        for file, status in (("delivered", 200), ("undelivered", 500))
    ),
    Guard(
        "of a platform that fails one worker takes one delivery",
        "deliveries",
        f"{TESTS}::TestFailures::test_of_many_workers_one_asks_whether_a_platform_is_back",
        (Removal(CLAIM, "      and (webhook_failures = 0 or exists (select from probe))\n"),),
    ),
    Guard(
        "a platform that fails is left alone for a while",
        "deliveries",
        f"{TESTS}::TestFailures::test_a_platform_that_is_down_is_asked_for_one_delivery_at_a_time",
        (Removal(DELIVERY, "retry_at = now + pause if failure.platform else None", "retry_at = None"),),
    ),
    Guard(
        "what one delivery's content is refused for is not the platform's failure",
        "deliveries",
        f"{TESTS}::TestFailures::test_one_delivery_that_is_refused_holds_up_its_own_conversation_alone",
        (Removal(DELIVERY, "platform=False, final=status == 410", "final=status == 410"),),
    ),
    Guard(
        "a platform that is back gets at once what waited for a later try",
        "deliveries",
        f"{TESTS}::TestFailures::test_what_100_replies_found_down_arrives_when_the_platform_is_back",
        (
            Removal(
                "stores/sql/delivered.sql",
                "update outbox set next_attempt_at = '-infinity'",
                "update outbox set next_attempt_at = next_attempt_at",
            ),
        ),
    ),
    Guard(
        "of a platform that fails the sweep wakes one conversation",
        "deliveries",
        f"{TESTS}::TestIsolation::test_a_dead_platform_delays_no_other",
        (Removal("stores/sql/due_deliveries.sql", "where place = 1 or webhook_failures = 0\n"),),
    ),
    Guard(
        "the sweep takes the platforms in turn",
        "deliveries",
        f"{TESTS}::TestIsolation::test_the_sweep_takes_the_platforms_in_turn",
        (Removal("stores/sql/due_deliveries.sql", "order by place, sequence\nlimit", "order by sequence\nlimit"),),
    ),
    Guard(
        "a delivery that is being made is not woken",
        "deliveries",
        f"{TESTS}::TestRaces::test_a_worker_that_died_is_followed_after_its_lease",
        (Removal("stores/sql/due_deliveries.sql", _LEASE),),
    ),
    Guard(
        "nothing is sent unsigned",
        "deliveries",
        f"{TESTS}::TestKeys::test_nothing_is_sent_unsigned[secrets0]",
        (Removal(WEBHOOKS, "    if not keys:\n        raise Unsigned\n"),),
    ),
    Guard(
        "a key is as long as the specification wants it",
        "deliveries",
        f"{TESTS}::TestKeys::test_nothing_is_sent_unsigned[secrets6]",
        (Removal(WEBHOOKS, "not 24 <= len(key) <= 64", "not key"),),
    ),
    Guard(
        "the whole answer has a limit",
        "invariant 9",
        f"{TESTS}::TestFailures::test_an_answer_byte_by_byte_gets_no_more_time[False]",
        (Removal(DELIVERY, "                if limit.exceeded:\n", "                if False:\n"),),
    ),
    Guard(
        "also where TLS took the descriptor from its socket",
        "invariant 9",
        f"{TESTS}::TestFailures::test_an_answer_byte_by_byte_gets_no_more_time[True]",
        (Removal(DELIVERY, "self._connection = connection.dup()", "self._connection = connection"),),
    ),
    Guard(
        "a Retry-After is honoured for an hour at most",
        "deliveries",
        f"{TESTS}::TestFailures::test_but_not_for_longer_than_an_hour",
        (Removal(DELIVERY, "min(seconds, MAX_RETRY_AFTER_SECONDS)", "min(seconds, 1e9)"),),
    ),
    Guard(
        "a try that can't end in time is not begun",
        "invariant 9",
        f"{TESTS}::TestRaces::test_without_time_left_another_goes_on",
        (Removal(DELIVERY, "while deadline - self.clock() >= TRY_SECONDS:", "while True:"),),
    ),
    Guard(
        "nor is one for a reply that is not archived yet",
        "invariant 9",
        f"{TESTS}::TestWorkers::test_what_has_no_time_left_is_left_to_the_archive",
        (Removal(DELIVERY, "elif deadline - self.clock() >= TRY_SECONDS:", "else:"),),
    ),
)
