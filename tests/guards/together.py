"""Guards of calls that go together: each gets the answer as if it were alone, and waits no longer than needed."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, function, statement

COMBINER = "drivers/combiner.py"
POSTGRES = "archive/postgres.py"
FREE = function("free_jobs_v2")
ARCHIVE = "contract/test_together.py::TestPostgres"
TIER = "contract/test_together.py::TestTier"
STEPPER = "tiers/stepper.py"
INTERRUPTS = "unit/test_combiner.py::TestInterrupts"
HELD = f"{ARCHIVE}::test_a_locked_conversation_keeps_no_other_waiting"
UNREAD = "TestAway::test_a_late_answer_is_never_taken_for_another_commands"
RELEASE = "unit/test_handler.py::TestMessageLockManager::test_only_the_owner_releases"
RECORDS = "contract/test_records.py::TestRecords"

GUARDS = (
    Guard(
        "two of one conversation never go together",
        "step fence",
        "unit/test_combiner.py::TestTogether::test_two_with_one_key_never_go_together",
        (Removal(COMBINER, " and entry.key not in keys"),),
    ),
    Guard(
        "no thread waits for a round trip that does not end",
        "invariant 9",
        "unit/test_combiner.py::test_a_round_trip_that_does_not_end_keeps_no_other_waiting",
        (Removal(COMBINER, "acquire(timeout=COMPANY_SECONDS)", "acquire()"),),
    ),
    Guard(
        "a thread that got no answer with the others asks alone",
        "step commit",
        f"{INTERRUPTS}::test_on_its_way_for_all",
        (Removal(COMBINER, "    answer: Any = ALONE\n", "    answer: Any = None\n"),),
    ),
    Guard(
        "a thread that is told to end leads no longer",
        "invariant 9",
        f"{INTERRUPTS}::test_at_any_line[leader]",
        (
            Removal(
                COMBINER,
                "            finally:\n"
                "                # Also if this thread is interrupted: no other thread may be left waiting for it.\n",
                "            except Exception:\n                raise\n            else:\n",
            ),
        ),
    ),
    Guard(
        "a thread that is told to end waits no longer",
        "invariant 9",
        f"{INTERRUPTS}::test_at_any_line[leader]",
        (
            Removal(
                COMBINER,
                "            if own in self._waiting:\n                self._waiting.remove(own)\n"
                "            if own not in self._leading:\n",
                "            if own not in self._leading:\n",
            ),
        ),
    ),
    Guard(
        "no thread waits without an end for the one that goes for it",
        "invariant 9",
        f"{INTERRUPTS}::test_a_thread_whose_leader_never_ends_goes_alone",
        (Removal(COMBINER, "acquire(timeout=TAKEN_SECONDS)", "acquire()"),),
    ),
    Guard(
        "where threads may be interrupted, each goes by itself",
        "speed",
        "unit/test_combiner.py::test_where_threads_may_be_interrupted_each_goes_by_itself",
        (Removal(COMBINER, "        if self._most > 1:\n", "        if True:\n"),),
    ),
    Guard(
        "only deployed functions combine calls",
        "speed",
        "contract/test_together.py::test_only_deployed_functions_combine_calls",
        (Removal("wiring.py", "PostgresArchive(database, together=deployed)", "PostgresArchive(database)"),),
    ),
    Guard(
        "a message that another settled keeps no other from its commit",
        "step commit",
        f"{ARCHIVE}::test_a_message_that_another_settled_keeps_no_other_job_from_its_commit",
        (Removal(POSTGRES, "            if len(jobs) == 1:\n", "            if True:\n"),),
    ),
    Guard(
        "a thread that was refused with the others asks by itself",
        "invariant 9",
        f"{ARCHIVE}::test_a_thread_that_is_refused_with_the_others_goes_alone_at_the_same_time",
        (
            Removal(
                POSTGRES,
                "        return [ALONE] * len(jobs)\n",
                "        return [answer for job in jobs for answer in self._together([job], work)]\n",
            ),
        ),
    ),
    Guard(
        "a fence waits only shortly for a new conversation's row",
        "step fence",
        f"{HELD}[new]",
        (Removal(FREE, "set lock_timeout = '100ms'\n"),),
    ),
    Guard(
        "a locked conversation keeps no group waiting: a fence",
        "step fence",
        f"{HELD}[fence]",
        (Removal(FREE, " skip locked"),),
    ),
    Guard(
        "a locked conversation leaves no other without a fence",
        "step fence",
        "contract/test_together.py::test_only_the_record_of_a_locked_conversation_runs_without_a_fence",
        (Removal(statement("take_fences"), "free_jobs_v2(cast(:jobs as json), true)", "cast(:jobs as json)"),),
    ),
    Guard(
        "a locked conversation keeps no group waiting: a commit",
        "step commit",
        f"{HELD}[commit]",
        (Removal(statement("commit_jobs"), "free_jobs_v2(cast(:jobs as json), false)", "cast(:jobs as json)"),),
    ),
    Guard(
        "what a group did not commit is no refusal yet",
        "step commit",
        f"{HELD}[commit]",
        (Removal("archive/postgres_steps.py", "ALONE if len(jobs) > 1 else None", "None"),),
    ),
    Guard(
        "a step that fails is no other step's concern: in a process",
        "step claim",
        "contract/test_line_tier.py::test_a_step_that_fails_is_no_other_steps_concern[memory]",
        (Removal(STEPPER, "answers[numbers[0]] = error if len(numbers) == 1 else ALONE", "raise"),),
    ),
    *(
        Guard(f"a step that fails is no other step's concern: in {store}", "step claim", f"{TIER}::{test}", (removal,))
        for store, test, removal in (
            (
                "Redis",
                "test_a_failed_step_is_no_others_concern[False]",
                Removal("tiers/redis.py", "        return error\n", "        raise error\n"),
            ),
            (
                "a cluster",
                "test_a_node_of_a_cluster_that_is_away_is_no_other_nodes_concern",
                Removal("drivers/redis_cluster.py", "received = [error] * len(numbers)", "raise"),
            ),
            (
                "Postgres",
                "test_what_postgres_refuses_of_one_is_no_others_concern",
                Removal("tiers/postgres.py", "return [refused] if len(saves) == 1 else", "raise\n            return"),
            ),
        )
    ),
    Guard(
        "a cluster without REDIS_CLUSTER=true is named",
        "speed",
        f"{TIER}::test_a_cluster_without_its_setting_is_away_and_says_what_to_set",
        (Removal("drivers/redis.py", "if isinstance(error, AskError):", "if False:"),),
    ),
    Guard(
        "a connection with an answer to come is never used again",
        "invariant 8",
        f"contract/test_redis.py::{UNREAD}[redis_tls_client]",
        (Removal("drivers/redis_client.py", "            connection.disconnect()  # type: ignore[no-untyped-call]\n"),),
    ),
    *(
        Guard(
            name,
            "public names of drivers",
            f"contract/test_drivers.py::TestSockets::{test}",
            (Removal(*removal),),
        )
        for name, test, *removal in (
            (
                "a connection that died gives its descriptor back",
                "test_one_whose_server_has_gone_is_closed_whole",
                "drivers/postgres_driver.py",
                "                    file.close()\n",
                "                    pass\n",
            ),
            (
                "what is sent to Postgres waits for no confirmation",
                "test_messages_leave_at_once",
                "drivers/postgres_connection.py",
                "        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n",
            ),
        )
    ),
    Guard(
        "only the owner releases a lock",
        "speed",
        RELEASE,
        (Removal("locks.py", "isinstance(lock_id, str) and "),),
    ),
    Guard(
        "a record is asked about unless its message was committed under the promised job",
        "counterexample 5",
        f"{RECORDS}::test_a_committed_job_is_known_to_have_settled_its_own_messages",
        (Removal("worker/ending.py", "job.job_id == job_id and any(", "any("),),
    ),
    Guard(
        "a record whose message was not committed is asked about",
        "step check",
        f"{RECORDS}::test_a_committed_job_is_known_to_have_settled_its_own_messages",
        (Removal("worker/ending.py", " and any(message_id in m.ids for m in job.messages)"),),
    ),
    Guard(
        "an end that is not archived is asked about",
        "step check",
        "contract/outages/test_postgres_away.py::TestPostgresAway::test_a_record_whose_end_is_not_archived_yet_is_kept[memory]",
        (Removal("worker/ending.py", "job = self.job if self.committed else None", "job = self.job"),),
    ),
)
