"""Guards of erasure and retention: what must not come back, and what must not be deleted."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, each_in, function, statement

MEMORY = "archive/memory.py"
POSTGRES, STEPS = "archive/postgres.py", "archive/postgres_steps.py"
ERASED = "contract/test_erasure.py"
KEPT = "contract/test_retention.py"

in_both = each_in(ERASED, "memory", "postgres")
in_each = each_in(ERASED, "memory", "redis and postgres")
in_each_at_once = each_in(ERASED, "memory-1", "redis and postgres-1")

_ERASED = "            if self._was_erased(job, job.accepted_at):\n                return\n"
_NOT_ERASED = "if not was_erased(connection, job, job.accepted_at):\n"
#: Steps after an erasure: their checks in memory and in Postgres, each with the code that follows.
LATE_STEPS = (
    (
        "supersede",
        (_ERASED, "            self._supersede(self._conversation(job), job, successor_id)\n"),
        (_NOT_ERASED, "        values = job_values(job)"),
    ),
    (
        "interrupt",
        (_ERASED, "            self._conversation(job)\n            noted = "),
        (_NOT_ERASED, "        execute(connection, job_values(job)"),
    ),
)

ERASING = (
    *in_both(
        "no run for what was erased",
        "erasure",
        "TestTheArchive::test_a_run_of_what_is_void_is_not_even_noted",
        Removal(
            MEMORY,
            "            if is_void(self._erased_until(job.key), job.accepted_at):\n"
            "                return Fence(None, {}, erased_until=self._erasures[job.key.name_hash][0])\n",
        ),
        Removal(function("take_fences_v3"), "\n           and erased.voids is not true"),
    ),
    *in_each(
        "a fence after an erasure exceeds all before it",
        "invariant 3",
        "TestErasing::test_a_new_run_has_a_greater_fence_than_any_before",
        Removal(MEMORY, "max(archived.fence, self._erasures.get(job.key.name_hash, (0.0, 0))[1])", "archived.fence"),
        Removal(
            function("take_fences_v3"),
            "greatest(fence, coalesce(erased.fence, 0)) + 1",
            "fence + 1",
        ),
    ),
    *in_both(
        "no late end of what was erased is archived",
        "erasure",
        "TestTheArchive::test_a_late_end_is_not_archived",
        Removal(
            MEMORY,
            "            if is_void(self._erased_until(job.key), job.accepted_at):\n                return False\n",
        ),
        Removal(
            STEPS,
            "if is_void(erased_until(connection, values), job.accepted_at):",
            "if False:",
        ),
    ),
    *(
        guard
        for step, (in_memory, kept_in_memory), (in_postgres, kept_in_postgres) in LATE_STEPS
        for guard in each_in(ERASED, f"memory-{step}", f"postgres-{step}")(
            f"no late step leaves a trace of what was erased: {step}",
            "erasure",
            "TestTheArchive::test_no_late_step_leaves_a_trace_of_an_erased_conversation",
            Removal(MEMORY, in_memory + kept_in_memory, kept_in_memory),
            Removal(STEPS, in_postgres + kept_in_postgres, "if True:\n" + kept_in_postgres),
        )
    ),
    *each_in(ERASED, "memory-cancel", "postgres-cancel")(
        "no late step leaves a trace of what was erased: cancel",
        "erasure",
        "TestTheArchive::test_no_late_step_leaves_a_trace_of_an_erased_conversation",
        Removal(MEMORY, "if self._was_erased(job, newest, is_void_by_its_own_time):", "if False:"),
        Removal(STEPS, "if was_erased(connection, job, newest, is_void_by_its_own_time):", "if False:"),
    ),
    *in_both(
        "a job of a new conversation is not taken for an erased one",
        "invariant 2",
        "TestTheArchive::test_a_job_of_a_new_conversation_is_linked_whatever_it_knows_of_its_age",
        Removal(MEMORY, "return not known and rule(self._erased_until", "return rule(self._erased_until"),
        Removal(
            STEPS,
            "accepted_at) and archived_job(connection, job) is None",
            "accepted_at)",
        ),
    ),
    *in_each(
        "a cancel archives no words that were erased",
        "erasure",
        "TestErasing::test_what_is_accepted_in_the_same_moment_ends_as_cancelled",
        Removal(
            MEMORY,
            "live = tuple(m for m in job.messages if not is_void(self._erased_until(job.key), m.accepted_at))",
            "live = job.messages",
        ),
        Removal(
            STEPS,
            "live = tuple(m for m in job.messages if not is_void(until, m.accepted_at))",
            "live = job.messages",
        ),
    ),
    *in_each(
        "no erased message is parked",
        "erasure",
        "TestOtherSteps::test_a_park_in_flight_keeps_no_words",
        Removal(
            MEMORY,
            "live = [m for m in messages if not is_void_on_any_clock(self._erased_until(key), m.accepted_at)]",
            "live = list(messages)",
        ),
        Removal(
            POSTGRES,
            "live = [message for message in messages if not is_void_on_any_clock(until, message.accepted_at)]",
            "live = list(messages)",
        ),
    ),
    *in_each_at_once(
        "a message that is parked right after an erasure is kept",
        "invariant 1",
        "TestOtherSteps::test_a_message_parked_right_after_an_erasure_is_answered_when_it_is_resumed",
        Removal(MEMORY, "not is_void_on_any_clock(", "not is_void("),
        Removal(POSTGRES, "not is_void_on_any_clock(", "not is_void("),
    ),
    *in_each_at_once(
        "a message that is parked right after an erasure is no longer void",
        "invariant 1",
        "TestOtherSteps::test_a_message_parked_right_after_an_erasure_is_answered_when_it_is_resumed",
        Removal(MEMORY, "accepted_at=max(m.accepted_at, until + 0.001)", "accepted_at=m.accepted_at"),
        Removal(statement("park_messages"), " + interval '2 milliseconds'", " - interval '5 seconds'"),
    ),
    Guard(
        "a failed message is no longer void when it is retried",
        "invariant 1",
        f"{ERASED}::TestOtherSteps::test_a_message_that_failed_right_after_an_erasure_can_be_retried[memory]",
        (Removal(MEMORY, "to_park(self._since_erased(job.key, messages),", "to_park(messages,"),),
    ),
    Guard(
        "a record of an earlier version is not void",
        "invariant 1",
        f"{ERASED}::TestEarlierVersions::test_an_earlier_versions_later_message_is_answered[redis and postgres]",
        (
            Removal(
                "queue/codec.py", "messages=dated(record.request.messages, sent_at)", "messages=record.request.messages"
            ),
        ),
    ),
    Guard(
        "a worker is told when a record was sent",
        "invariant 1",
        "unit/test_worker.py::test_a_record_of_an_earlier_version_was_accepted_when_it_was_sent",
        (Removal("../../../../functions/worker/app.py", ', sent_at(record["attributes"]))', ")"),),
    ),
    Guard(
        "a dead letter of an earlier version is redriven with its age",
        "invariant 1",
        "unit/test_queues.py::TestSqs::test_a_dead_letter_of_an_earlier_version_is_as_old_as_it_is",
        (Removal("queue/sqs.py", '            MessageSystemAttributeNames=["SentTimestamp"],\n'),),
    ),
    Guard(
        "a message that an earlier version accepted before is not woken as new",
        "erasure",
        f"{ERASED}::TestEarlierVersions::test_a_tiers_message_from_before_is_not_sent_as_new[redis and postgres]",
        (Removal("queue/wake.py", "dated(job.promised_messages, job.created_at)", "job.promised_messages"),),
    ),
    Guard(
        "a message that an earlier version accepted before is not new when another joins it",
        "erasure",
        f"{ERASED}::TestEarlierVersions::test_a_tiers_message_from_before_makes_no_newer_one_void[redis and postgres]",
        (Removal("queue/codec.py", "    if record.accepted_at:\n", "    if False:\n"),),
    ),
    *(
        Guard(
            f"no conversation is dropped with {what}",
            "invariant 1" if table == "held" else "retention",
            f"{ERASED}::TestTheArchive::{test}[postgres]",
            (
                Removal(
                    statement("drop_empty_conversation"),
                    f"  and not exists (select from {table} where"
                    " platform_id = :platform_id and conversation_id = :conversation_id)\n",
                ),
            ),
        )
        for what, table, test in (
            ("a parked message", "held", "test_a_message_parked_for_a_new_conversation_stays"),
            ("a job that ended", "jobs", "test_a_job_that_ended_with_an_erasure_keeps_its_conversation"),
        )
    ),
    Guard(
        "dropping an empty conversation waits for a process that parks a message",
        "invariant 1",
        f"{ERASED}::TestPostgres::test_dropping_an_empty_conversation_waits_for_a_message_that_is_being_parked",
        (
            Removal(
                POSTGRES,
                'execute(values, "lock_conversation", "drop_empty_conversation")',
                'execute(values, "drop_empty_conversation")',
            ),
        ),
    ),
    Guard(
        "a step that finds a message void leaves a new line alone",
        "erasure",
        f"{ERASED}::TestTheNewOnesWork::test_a_worker_that_was_slow_leaves_a_new_line_alone[redis and postgres]",
        (Removal("worker/worker.py", "if any(job.accepted_at <= until for job in tier.jobs(key)):", "if True:"),),
    ),
    Guard(
        "a late end that is void leaves a new line alone",
        "erasure",
        f"{ERASED}::TestTheNewOnesWork::test_a_late_end_leaves_a_new_line_alone[redis and postgres]",
        (Removal("worker/rescue.py", "tier.job(job.job_id) and tier.erase", "tier.erase"),),
    ),
    Guard(
        "an erasure waits for a process that takes a fence",
        "erasure",
        f"{ERASED}::TestPostgres::test_an_erasure_waits_for_a_fence_that_is_being_taken",
        (
            Removal(
                POSTGRES,
                '["lock_conversation", "note_erasure", "erase_conversation"]',
                '["note_erasure", "erase_conversation"]',
            ),
        ),
    ),
    Guard(
        "nothing that was erased is taken along",
        "erasure",
        f"{ERASED}::TestPostgres::test_a_run_takes_nothing_along_that_was_erased_and_waits_in_the_tier",
        (Removal(STEPS, "        and (erased_until is None or message.accepted_at > erased_until)\n"),),
    ),
    Guard(
        "a tier forgets what turns out to be erased",
        "erasure",
        f"{ERASED}::TestOutages::test_an_erased_line_that_the_sweep_finds_is_never_answered[redis and postgres]",
        (Removal("worker/worker.py", "            tier.erase(key)\n", "            pass\n"),),
    ),
    Guard(
        "a tier forgets an end that was erased",
        "erasure",
        f"{ERASED}::TestOutages::test_an_end_that_waits_to_be_archived_is_void[redis and postgres-before]",
        (
            Removal(
                "worker/rescue.py",
                "            if self.archive.erased(job.key, job.accepted_at):\n",
                "            if False:\n",
            ),
        ),
    ),
    Guard(
        "a dead letter of what was erased is removed",
        "erasure",
        f"{ERASED}::TestErasing::test_a_record_that_rests_in_the_dead_letters_is_not_redriven[redis and postgres]",
        (Removal("worker/worker.py", " or self.end_if_erased(record)"),),
    ),
    Guard(
        "a message that is accepted during an erasure ends visibly",
        "invariant 1",
        f"{ERASED}::TestErasing::test_what_is_accepted_in_the_same_moment_ends_as_cancelled[redis and postgres]",
        (
            Removal(
                "worker/worker.py",
                "            self.archive.cancel(_promised(record, self.clock()))\n",
                "            pass\n",
            ),
        ),
    ),
    Guard(
        "a message that is accepted again is no longer void",
        "invariant 1",
        f"{ERASED}::TestOutages::test_what_the_platform_sends_again_after_an_erasure_is_answered[redis and postgres]",
        (
            Removal(
                "intake/intake.py",
                "times |= {version.message_id: own.accepted_at + n / 1e6 for n, version in enumerate(versions)}",
                "pass",
            ),
        ),
    ),
    Guard(
        "a clock that is ahead keeps no erased message",
        "erasure",
        f"{ERASED}::TestTheArchive::test_what_was_accepted_at_the_same_time_elsewhere_is_void_too[postgres]",
        (Removal(statement("note_erasure"), " + make_interval(secs => cast(:margin as float8))"),),
    ),
    Guard(
        "no words of another tenant are erased",
        "invariant 13",
        f"{ERASED}::TestErasing::test_another_conversation_stays[redis and postgres]",
        (
            Removal(
                statement("erase_conversation"),
                "from turns where platform_id = :platform_id and",
                "from turns where",
            ),
        ),
    ),
    Guard(
        "no words of another tenant are shown",
        "invariant 13",
        f"{KEPT}::TestExport::test_another_tenants_is_not_found",
        (
            Removal(
                statement("export_conversation"),
                "from turns where platform_id = :platform_id and",
                "from turns where",
            ),
        ),
    ),
)

#: What keeps a conversation from being purged: the first line of each condition, which the guard makes false.
UNDER_WAY = {
    "a job that runs": "not exists (select from jobs where jobs.platform_id = conversations.platform_id\n",
    "a parked message": "not exists (select from held where held.platform_id = conversations.platform_id\n",
    "an event to be delivered": "not exists (select from deliveries"
    " where deliveries.platform_id = conversations.platform_id\n",
}

PURGING = (
    *(
        Guard(
            f"no conversation goes with {what}",
            "retention",
            f"{KEPT}::TestConversations::test_what_is_under_way_stays",
            (Removal(statement("idle_conversations"), text, text.replace("where ", "where false and ")),),
        )
        for what, text in UNDER_WAY.items()
    ),
    *(
        Guard(
            f"no conversation goes with {what} that came meanwhile",
            "retention",
            f"{KEPT}::TestConversations::test_what_is_under_way_stays",
            (Removal(statement("purge_conversations"), text, text.replace("where ", "where false and ")),),
        )
        for what, text in UNDER_WAY.items()
    ),
    Guard(
        "no conversation goes with messages that came meanwhile in the Postgres tier",
        "retention",
        f"{KEPT}::TestConversations::test_what_waits_in_the_postgres_tier_stays",
        (Removal(statement("purge_conversations"), "and due_at is not null", "and false"),),
    ),
    Guard(
        "a purge sees a message that is being parked",
        "retention",
        f"{KEPT}::TestConversations::test_a_message_that_is_parked_meanwhile_keeps_its_conversation",
        (Removal(statement("park_messages"), "set updated_at = now()", "set updated_at = updated_at"),),
    ),
    Guard(
        "a purge sees deliveries that are being redriven",
        "retention",
        f"{KEPT}::TestConversations::test_a_delivery_that_is_redriven_meanwhile_is_not_deleted_unsent",
        (Removal("archive/postgres_outbox.py", ' "touch_dead_deliveries",'),),
    ),
    Guard(
        "no conversation goes with messages in the Postgres tier",
        "retention",
        f"{KEPT}::TestConversations::test_what_waits_in_the_postgres_tier_stays",
        (Removal(statement("idle_conversations"), "and due_at is not null", "and false"),),
    ),
    Guard(
        "no conversation goes with messages in a tier",
        "retention",
        f"{KEPT}::TestConversations::test_what_is_under_way_stays",
        (
            Removal(
                "operations/retention.py",
                "keys = [conversation.key for conversation in batch if not _waits(tiers, conversation.key)]",
                "keys = [conversation.key for conversation in batch]",
            ),
        ),
    ),
    Guard(
        "no conversation goes that went on meanwhile",
        "retention",
        f"{KEPT}::TestConversations::test_a_message_that_is_parked_meanwhile_keeps_its_conversation",
        (Removal(statement("purge_conversations"), "updated_at < to_timestamp(cast(:before as float8))", "true"),),
    ),
    Guard(
        "a purge waits for no lock",
        "retention",
        f"{KEPT}::TestConversations::test_a_locked_conversation_is_left_alone_without_waiting",
        (Removal(statement("purge_conversations"), " skip locked"),),
    ),
    Guard(
        "a run's time is bounded",
        "retention",
        f"{KEPT}::TestConversations::test_it_goes_in_batches_and_the_next_run_goes_on",
        (
            Removal(
                "operations/retention.py", "    while clock() < until:\n        idle", "    while True:\n        idle"
            ),
        ),
    ),
)

ANSWERING = (
    Guard(
        "no answer goes to another host",
        "migrations",
        "contract/test_cloudformation.py::TestAnswering::test_an_address_that_is_none_of_cloudformations_is_not_contacted",
        (Removal("aws/cloudformation.py", " and host.endswith(_HOSTS)"),),
    ),
    Guard(
        "an answer comes before the time is up",
        "migrations",
        "contract/test_cloudformation.py::TestFailing::test_a_database_that_says_nothing_at_all_is_told_in_time",
        (
            Removal(
                "aws/cloudformation.py", "thread.join(max(0.0, seconds))", "thread.join(seconds + 2 * ANSWER_SECONDS)"
            ),
        ),
    ),
    Guard(
        "a migration without a database fails at once",
        "migrations",
        "unit/test_operations.py::test_a_migration_without_a_database_fails_at_once",
        (Removal("../../../../functions/admin/app.py", 'if parts().archive.name == "none":', "if False:"),),
    ),
    Guard(
        "a database that is away is waited for only as long as it may still be starting",
        "migrations",
        "contract/test_cloudformation.py::TestFailing::test_a_database_that_was_there_before_is_told_at_once",
        (Removal("aws/cloudformation.py", " or next_at >= patience()"),),
    ),
)

GUARDS = (*ERASING, *PURGING, *ANSWERING)
