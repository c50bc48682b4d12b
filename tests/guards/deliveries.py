"""Guards of deliveries: which replies are delivered, by which worker, in which order, and how often."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, function, statement

DELIVERY = "delivery/deliveries.py"
POSTING = "delivery/posting.py"
WEBHOOKS = "delivery/webhooks.py"
CLAIM = statement("claim_delivery")

_LEASE = """      and (claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8)))
"""
_CLAIMED = "claimed_until is null or claimed_until <= to_timestamp(cast(:now as float8))"
POISON = "contract/delivery/test_isolation.py::TestPoison"
OUTBOX = "archive/postgres_outbox.py"
EVENTS_TABLE = "sql/migrations/0015_message_events.sql"
CHANGES = "contract/delivery/test_changes.py"
END = function("end_jobs_v1")

EVENTS = (
    Guard(
        "the events of messages and the ends of jobs have one order",
        "invariant 6",
        f"{CHANGES}::TestEdits::test_an_edit_is_announced_after_the_reply_before_it",
        (Removal(EVENTS_TABLE, "default nextval('outbox_sequence_seq')", "default 0"),),
    ),
    Guard(
        "an edit that was cancelled is not announced",
        "deliveries",
        f"{CHANGES}::TestEdits::test_an_edit_that_is_cancelled_is_not_announced",
        (Removal(END, " and job.status <> 'cancelled' then", " then"),),
    ),
    Guard(
        "an edit is not announced without a webhook",
        "deliveries",
        f"{CHANGES}::TestEdits::test_no_event_without_a_webhook",
        (Removal(END, "\n              and base_url <> ''"),),
    ),
    Guard(
        "an unsent message is not announced without a webhook",
        "deliveries",
        f"{CHANGES}::TestEdits::test_no_event_without_a_webhook",
        (Removal(statement("note_unsent"), " and base_url <> ''"),),
    ),
    Guard(
        "an unsent message is announced once",
        "deliveries",
        f"{CHANGES}::TestUnsent::test_an_unsent_message_is_announced_once",
        (Removal(statement("note_unsent"), "digest_v1(talk", "cast(:job_id as text) || digest_v1(talk"),),
    ),
    Guard(
        "the edits of each end have ids of their own",
        "deliveries",
        f"{CHANGES}::TestEdits::test_another_end_of_a_job_announces_its_own_edit",
        (Removal(END, "'msg_edit_' || told_as", "'msg_edit_' || job.run_id"),),
    ),
    Guard(
        "an event says the same at each try, whatever its job says by then",
        "deliveries",
        f"{CHANGES}::TestEdits::test_each_try_has_the_same_body",
        (Removal(CLAIM, "message_events.bot_id", "job_document(jobs) ->> 'bot_id'"),),
    ),
    Guard(
        "while Postgres is away, no reply overtakes an edit that failed",
        "invariant 6",
        f"{CHANGES}::TestEdits::test_while_postgres_is_away_no_reply_overtakes_an_edit_that_failed",
        (
            Removal(
                DELIVERY, "or self._post(target, webhook_id, event):", "or not self._post(target, webhook_id, event):"
            ),
        ),
    ),
    Guard(
        "an erasure takes the events of messages along",
        "invariant 11",
        f"{CHANGES}::TestRetention::test_an_erased_conversation_has_no_events",
        (
            Removal(
                EVENTS_TABLE,
                ",\n    foreign key (platform_id, conversation_id) references conversations on delete cascade",
            ),
        ),
    ),
)

GUARDS = (
    *EVENTS,
    Guard(
        "a platform without a webhook has no deliveries",
        "step commit",
        "contract/delivery/test_outbox.py::TestOutbox::test_a_platform_without_a_webhook_has_no_deliveries[]",
        (Removal(function("end_jobs_v1"), "\n          and base_url <> ''"),),
    ),
    Guard(
        "what is archived late keeps the id of its run",
        "step archive",
        "contract/delivery/test_outbox.py::TestOutbox::test_a_late_archived_reply_is_delivered_under_the_id_of_its_run",
        (Removal(function("end_jobs_v1"), "else job.run_id end", "else job.job_id end"),),
    ),
    Guard(
        "the oldest delivery is claimed first",
        "invariant 6",
        "contract/delivery/test_events.py::TestEvents::test_the_replies_of_a_conversation_leave_in_the_order_of_their_commits",
        (Removal(CLAIM, "order by sequence limit 1", "order by sequence desc limit 1"),),
    ),
    Guard(
        "nothing overtakes one that waits for its next try",
        "invariant 6",
        "contract/delivery/test_failures.py::TestFailures::test_a_refused_delivery_holds_up_its_own_conversation_alone",
        (
            Removal(
                CLAIM,
                "kind <> 'raised'\n     order by",
                "kind <> 'raised' and next_attempt_at <= to_timestamp(cast(:now as float8))\n     order by",
            ),
        ),
    ),
    Guard(
        "a delivery that a worker has claimed is not claimed again",
        "invariant 6",
        "contract/delivery/test_races.py::TestRaces::test_no_reply_overtakes_one_that_is_being_delivered",
        (Removal(CLAIM, _LEASE),),
    ),
    Guard(
        "a delivery's lease ends",
        "invariant 1",
        "contract/delivery/test_races.py::TestRaces::test_after_a_dead_workers_lease_another_delivers",
        (Removal(CLAIM, _CLAIMED, "claimed_until is null"),),
    ),
    *(
        Guard(
            f"a worker past its lease reports nothing: {file}",
            "invariant 3",
            f"contract/delivery/test_races.py::TestRaces::test_a_worker_that_paused_past_its_lease_marks_nothing[{status}]",
            (Removal(statement(file), " and claim_id = cast(:claim_id as uuid)\n", " and :claim_id <> ''\n"),),
        )
        for file, status in (("delivered", 200), ("undelivered", 500))
    ),
    Guard(
        "one worker takes one delivery of a failing platform",
        "deliveries",
        "contract/delivery/test_failures.py::TestFailures::test_one_of_many_workers_asks_whether_a_platform_is_back",
        (Removal(CLAIM, " and refused_until is null and due.webhook_failures > 0", " and false"),),
    ),
    Guard(
        "a platform that fails is left alone for a while",
        "deliveries",
        "contract/delivery/test_failures.py::TestFailures::test_a_platform_that_is_down_is_asked_for_one_delivery_at_a_time",
        (Removal(DELIVERY, "retry_at=now + pause if failure.platform else None", "retry_at=None"),),
    ),
    Guard(
        "a refusal of one delivery's content is no failure of the platform",
        "deliveries",
        "contract/delivery/test_failures.py::TestFailures::test_a_refused_delivery_holds_up_its_own_conversation_alone",
        (Removal(POSTING, "platform=False, final=status == 410", "final=status == 410"),),
    ),
    Guard(
        "a delivery that asks whether its platform is back does so every five minutes",
        "deliveries",
        "contract/delivery/test_failures.py::TestFailures::test_100_replies_of_an_outage_arrive_when_the_platform_is_back",
        (Removal(DELIVERY, "wait = min(wait, MAX_ASKING_SECONDS)", "pass"),),
    ),
    Guard(
        "one server error alone is not its platform's",
        "deliveries",
        f"{POISON}::test_one_server_error_alone_pauses_no_platform[500-headers0-False]",
        (
            Removal(
                statement("undelivered"), "cast(:certain as boolean) or", "cast(:certain as boolean) is not null or"
            ),
        ),
    ),
    Guard(
        "server errors of two conversations in a row are the platform's",
        "deliveries",
        f"{POISON}::test_server_errors_of_two_conversations_in_a_row_pause_the_platform",
        (Removal(statement("undelivered"), " or webhook_suspect <> conversation_id as failing", " as failing"),),
    ),
    Guard(
        "a success in between clears the platform of server errors",
        "deliveries",
        f"{POISON}::test_a_success_between_two_server_errors_keeps_the_platform_going",
        (Removal(statement("delivered"), ", webhook_suspect = null\n", "\n"),),
    ),
    Guard(
        "an untried delivery is the first to ask whether a platform is back",
        "deliveries",
        f"{POISON}::test_an_untried_delivery_is_the_first_to_ask_whether_a_platform_is_back",
        (
            Removal(
                statement("due_deliveries"),
                "(partition by platform_id order by kind <> 'raised', next_attempt_at, sequence)",
                "(partition by platform_id order by kind <> 'raised', sequence)",
            ),
        ),
    ),
    Guard(
        "what a pause refuses is woken at its end",
        "deliveries",
        f"{POISON}::test_a_conversation_that_a_pause_refuses_is_woken_at_its_end",
        (
            Removal(
                DELIVERY, "        self._wake_after(key, claimed - now)\n        return None", "        return None"
            ),
        ),
    ),
    Guard(
        "the first success after a pause wakes the waiting deliveries",
        "deliveries",
        f"{POISON}::test_the_first_success_after_a_pause_wakes_the_waiting_conversations",
        (Removal(DELIVERY, "        if delivery.failures:\n", "        if False:\n"),),
    ),
    Guard(
        "a platform has at most MOST_AT_ONCE deliveries under way",
        "deliveries",
        "contract/delivery/test_isolation.py::TestIsolation::test_a_slow_platform_delays_no_other",
        (Removal(CLAIM, ">= cast(:most as integer)", ">= 100 * cast(:most as integer)"),),
    ),
    Guard(
        "a conversation whose platform is slow holds no worker",
        "deliveries",
        "contract/delivery/test_isolation.py::TestIsolation::test_a_conversation_whose_platform_is_slow_goes_to_the_queues_end",
        (Removal(DELIVERY, "if self.clock() - now > SLOW_SECONDS:", "if False:"),),
    ),
    *(
        Guard(
            f"each locks its platform before a delivery: {file}",
            "deliveries",
            f"contract/delivery/test_races.py::TestRaces::test_each_step_locks_the_platform_before_the_delivery[{step}]",
            (Removal(OUTBOX, f'"lock_platform", "{file}"', f'"{file}"'),),
        )
        for file, step in (("undelivered", "undelivered"), ("touch_dead_deliveries", "redrive"))
    ),
    Guard(
        "the time of a request begins with the look-up of its address",
        "invariant 9",
        "contract/delivery/test_races.py::TestRaces::test_the_time_of_a_request_begins_with_the_look_up_of_its_address",
        (Removal(POSTING, "max(0.0, self._end - time.monotonic())", "TOTAL_SECONDS"),),
    ),
    Guard(
        "a missing webhook is looked up each time",
        "invariant 7",
        "contract/delivery/test_workers.py::TestWorkers::test_the_first_reply_after_a_webhook_was_configured_wakes_at_once",
        (Removal("delivery/deliveries.py", "if found and found[1] and found[0]", "if found and found[0]"),),
    ),
    Guard(
        "a look-up of an address has a limit",
        "invariant 9",
        "unit/test_egress.py::test_a_resolver_that_says_nothing_is_not_waited_for",
        (Removal("drivers/egress.py", "answer.get(timeout=LOOK_UP_SECONDS)", "answer.get()"),),
    ),
    Guard(
        "a secret ends before its newline",
        "deliveries",
        "unit/test_secrets.py::test_the_newline_that_an_editor_left_at_its_end_is_none_of_it",
        (Removal("drivers/secrets.py", '["SecretString"]).strip()', '["SecretString"])'),),
    ),
    Guard(
        "another address or key ends its platform's pause",
        "deliveries",
        "contract/test_configuration.py::TestTokens"
        "::test_a_webhook_that_failed_is_tried_at_once_when_another_is_written",
        (
            Removal(
                statement("put_platforms"),
                "case when same then platforms.webhook_failures else 0 end",
                "platforms.webhook_failures",
            ),
        ),
    ),
    Guard(
        "the sweep wakes one conversation of a failing platform",
        "deliveries",
        "contract/delivery/test_isolation.py::TestIsolation::test_a_dead_platform_delays_no_other",
        (Removal(statement("due_deliveries"), "where place = 1 or webhook_failures = 0\n"),),
    ),
    Guard(
        "the sweep takes the platforms in turn",
        "deliveries",
        "contract/delivery/test_isolation.py::TestIsolation::test_the_sweep_takes_the_platforms_in_turn",
        (
            Removal(
                statement("due_deliveries"),
                "order by place, next_attempt_at, sequence\nlimit",
                "order by sequence\nlimit",
            ),
        ),
    ),
    Guard(
        "a delivery that is being made is not woken",
        "deliveries",
        "contract/delivery/test_races.py::TestRaces::test_after_a_dead_workers_lease_another_delivers",
        (Removal(statement("due_deliveries"), _LEASE),),
    ),
    Guard(
        "nothing is sent unsigned",
        "deliveries",
        "contract/delivery/test_signatures.py::TestKeys::test_nothing_is_sent_unsigned[secrets0]",
        (Removal(WEBHOOKS, "    if not keys:\n        raise Unsigned\n"),),
    ),
    Guard(
        "a key is as long as the specification wants it",
        "deliveries",
        "contract/delivery/test_signatures.py::TestKeys::test_nothing_is_sent_unsigned[secrets6]",
        (Removal(WEBHOOKS, "not 24 <= len(key) <= 64", "not key"),),
    ),
    Guard(
        "the whole answer has a limit",
        "invariant 9",
        "contract/delivery/test_failures.py::TestFailures::test_an_answer_byte_by_byte_gets_no_more_time[False]",
        (Removal(POSTING, "            if limit.exceeded:\n", "            if False:\n"),),
    ),
    Guard(
        "the whole answer has a limit over TLS too",
        "invariant 9",
        "contract/delivery/test_failures.py::TestFailures::test_an_answer_byte_by_byte_gets_no_more_time[True]",
        (Removal(POSTING, "self._connection = connection.dup()", "self._connection = connection"),),
    ),
    Guard(
        "a Retry-After is honoured for an hour at most",
        "deliveries",
        "contract/delivery/test_failures.py::TestFailures::test_a_retry_after_is_honoured_for_an_hour_at_most",
        (Removal(POSTING, "min(seconds, MAX_RETRY_AFTER_SECONDS)", "min(seconds, 1e9)"),),
    ),
    Guard(
        "a try that can't end in time is not begun",
        "invariant 9",
        "contract/delivery/test_races.py::TestRaces::test_without_time_left_another_worker_goes_on",
        (Removal(DELIVERY, "if deadline - now < TRY_SECONDS:", "if False:"),),
    ),
    Guard(
        "without time for a try, an unarchived reply is not posted",
        "invariant 9",
        "contract/delivery/test_workers.py::TestWorkers::test_without_time_left_the_archive_delivers_the_reply",
        (Removal(DELIVERY, "deadline - self.clock() < TRY_SECONDS or ", ""),),
    ),
)
