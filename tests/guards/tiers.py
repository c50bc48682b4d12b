"""Guards of each store of lines, and of the failover between tiers. Most guards of steps are marked in the source."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, each_in, function, statement

SAVE = "tiers/lua/save.lua"
FUNCTION = function("save_lines_v2")
_ENDED = "select from ended_jobs where ended_jobs.job_id = any(save.unknown_names)"


def compared(what: str, test: str, in_redis: tuple[str, str], in_postgres: tuple[str, str]) -> tuple[Guard, ...]:
    """Guards of what a save compares before it writes. In memory these are marked."""
    file, name = test.split("::", 1)
    removals = Removal(SAVE, *in_redis), Removal(FUNCTION, *in_postgres)
    return each_in(f"contract/{file}", "redis", "postgres")(
        f"a save compares {what}", "one atomic step", name, *removals
    )


COMPARED = (
    *compared(
        "the version, or the holder",
        "test_meeting.py::TestTwo::test_a_step_between_the_load_and_the_save_of_another_is_seen_by_it",
        ("(stored[1] or '') == expected", "true"),
        ("coalesce(line.fields ->> save.compared, '') <> save.seen", "false"),
    ),
    *compared(
        "the heartbeat",
        "test_meeting.py::TestTwo::test_a_holder_that_comes_to_life_meanwhile_keeps_its_claim",
        ("(heartbeat_at == '*' or (stored[2] or '-') == heartbeat_at)", "true"),
        ("coalesce(line.fields ->> 'heartbeat_at', '') <> save.heartbeat_at", "false"),
    ),
    *compared(
        "the time",
        "test_line_tier.py::TestAClockThatIsWrong::test_a_host_that_is_ahead_does_not_take_a_live_holders_lock",
        ("math.abs(time - now) <= tonumber(margin)", "true"),
        ("abs(server_time - save.now) > save.margin", "false"),
    ),
    *compared(
        "what is remembered",
        "steps/test_finish.py::TestFinish::test_a_late_duplicate_starts_nothing_for_an_hour",
        ("allowed and not found[index]", "allowed"),
        ("line.remembered ?| save.unknown_ids", "false"),
    ),
    *compared(
        "the names of jobs that have ended",
        "steps/test_accept_again.py::TestAcceptAgain::test_a_promised_name_that_is_taken_gives_way_to_a_spare",
        ("(taken[index] == 0 or index > tonumber(unknown_names))", "true"),
        (_ENDED, f"{_ENDED} and false"),
    ),
    *compared(
        "whether it is repeated",
        "test_line_tier.py::TestASaveThatIsRepeated::test_a_repeated_save_is_known_for_the_same",
        ("local repeated = stored[3] == version", "local repeated = false"),
        ("(line.fields ->> 'version') is distinct from save.version or", "true or"),
    ),
)

ALONE = (
    Guard(
        "a release and the sweep keep what may be committed",
        "counterexample 10",
        "contract/steps/test_release.py::TestForceRelease::test_what_may_be_committed_is_remembered[memory]",
        (
            Removal(
                "protocol/steps.py",
                "replace(line.current, status=status, sealed=False)",
                "replace(line.current, status=status, sealed=False, maybe_committed=False)",
            ),
        ),
    ),
    Guard(
        "what was answered on another tier leaves the line",
        "invariant 7",
        "contract/test_postgres_tier.py::TestSweep::test_a_line_that_was_answered_on_another_tier_wakes_no_worker",
        (
            Removal(
                "tiers/postgres.py",
                'self._execute("drop_ended", heartbeat_stale=self._settings.heartbeat_stale, platform_id=platform_id)',
                "pass",
            ),
        ),
    ),
    Guard(
        "what a live worker holds stays in the line",
        "invariant 7",
        "contract/test_postgres_tier.py::TestSweep::test_a_line_that_a_live_worker_holds_is_left_to_it",
        (
            Removal(
                statement("drop_ended"),
                "cast(fields ->> 'heartbeat_at' as float8), 0) <= now.at -",
                "cast(fields ->> 'heartbeat_at' as float8), 0) <= now.at +",
            ),
        ),
    ),
    Guard(
        "what a tier that is away may know is not unknown",
        "invariant 1",
        "unit/test_failover.py::TestFailover::test_what_the_tier_that_is_away_may_know_is_not_unknown",
        (
            Removal(
                "tiers/failover.py",
                "        if away:\n            raise away\n        return None\n",
                "        return None\n",
            ),
        ),
    ),
    Guard(
        "a breaker opens",
        "Redis away",
        "unit/test_failover.py::TestCircuitBreaker::test_a_store_that_went_away_is_called_once",
        (Removal("drivers/breaker.py", "if now < self._probe_at:", "if False:"),),
    ),
    Guard(
        "only one call at a time probes a store",
        "Redis away",
        "unit/test_failover.py::TestCircuitBreaker::test_while_a_probe_is_under_way_no_other_call_waits",
        (Removal("drivers/breaker.py", "self._probe_at = now + self.retry_after", "pass"),),
    ),
)

_POSTGRES = "contract/test_half_there.py::TestPostgres::"
HALF_THERE = (
    Guard(
        "a Postgres that refuses writes counts as away for them",
        "half there",
        "contract/test_postgres.py::TestReadOnly::test_a_migration_says_so",
        (Removal("drivers/postgres.py", "if reason := READ_ONLY.get(refused.code):", "if reason := None:"),),
    ),
    Guard(
        "a write that an old connection's server refuses is tried on a new one",
        "half there",
        f"{_POSTGRES}test_a_write_that_an_old_connections_server_refuses_is_done_on_a_new_one",
        (Removal("drivers/postgres.py", "if refused.code != REPLICA or self._writes.is_open:", "if True:"),),
    ),
    Guard(
        "whether a new primary has the name is asked on a new connection",
        "half there",
        f"{_POSTGRES}test_another_one_that_was_promoted_behind_its_name",
        (
            Removal(
                "drivers/postgres.py",
                "self._reach(migrations.is_up_to_date, anew=True)",
                "self._reach(migrations.is_up_to_date)",
            ),
        ),
    ),
    Guard(
        "the new primary is not asked for on a connection that another thread puts back",
        "half there",
        "contract/test_postgres.py::TestReadOnly::test_a_connection_that_is_put_back_meanwhile_is_not_asked",
        (Removal("drivers/postgres.py", "if self._idle and not anew else", "if self._idle else"),),
    ),
    Guard(
        "a process that only reads says that Postgres refuses writes",
        "half there",
        f"{_POSTGRES}test_a_process_that_only_reads_follows_too_and_says_meanwhile_that_it_is_degraded",
        (
            Removal(
                "drivers/postgres.py",
                "        if _refuses_writes(connection) and not self._writes.is_open:",
                "        if False:",
            ),
        ),
    ),
    Guard(
        "a process that only reads leaves a server that has become a replica",
        "half there",
        f"{_POSTGRES}test_a_reader_leaves_a_server_that_has_become_a_replica",
        (
            Removal(
                "drivers/postgres.py",
                "if alive and _refuses_writes(connection) and not self._writes.is_open:",
                "if False:",
            ),
        ),
    ),
    Guard(
        "a probe of Redis goes to a new connection",
        "half there",
        "contract/test_redis.py::TestAway::test_a_probe_goes_to_the_server_that_the_name_leads_to_then",
        (Removal("tiers/redis.py", " or self._breaker.is_open:", ":"),),
    ),
    Guard(
        "Postgres' ping writes",
        "half there",
        f"{_POSTGRES}test_a_ping_finds_refused_writes_although_a_proxy_hides_the_servers_state",
        (Removal("sql/migrations.py", "with written as (update schema_functions set name = name where false)"),),
    ),
    Guard(
        "while writes are refused for want of room, a ping that needs none closes nothing",
        "half there",
        f"{_POSTGRES}test_a_server_whose_disk_is_full",
        (
            Removal(
                "drivers/postgres.py",
                "if refused.code != REPLICA or not self._writes.is_open:",
                "if not self._writes.is_open:",
            ),
        ),
    ),
    Guard(
        "errors that old servers wrap are read",
        "half there",
        "contract/test_redis.py::TestAway::test_an_error_inside_of_a_script_is_read_also_as_old_servers_wrap_it",
        (Removal("drivers/redis.py", r"(?:(?:ERR )?Error running script .*?: ?-?)?", ""),),
    ),
    Guard(
        "a statement that the server ended opens no breaker",
        "half there",
        "contract/test_postgres.py::TestBreaker::test_a_statement_that_the_server_or_an_operator_ends_opens_no_breaker",
        (
            Removal(
                "drivers/postgres_errors.py", "code[:2] in _PASSING and code != SLOW and", "code[:2] in _PASSING and"
            ),
        ),
    ),
    Guard(
        "a silent Postgres is asked whether it is alive",
        "half there",
        "contract/test_postgres.py::TestBreaker::test_a_slow_statement_opens_no_breaker",
        (Removal("drivers/postgres.py", "if self._is_alive():", "if False:"),),
    ),
    Guard(
        "a silent Redis is asked whether it is alive",
        "half there",
        "contract/test_redis.py::TestAway"
        "::test_a_command_that_takes_too_long_opens_no_breaker_where_the_server_is_alive",
        (Removal("drivers/redis.py", "if isinstance(error, redis.TimeoutError) and self._answers():", "if False:"),),
    ),
)

GUARDS = (*COMPARED, *ALONE, *HALF_THERE)
