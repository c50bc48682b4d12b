"""Guards of the rescue: ends that were decided while Postgres was away reach it. Its index, pushes and bounds."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, each_in, function

RESCUE = "worker/rescue.py"
UNIT = "unit/test_rescue.py"
POSTGRES_IS_BACK = "contract/outages/test_postgres_back.py::TestPostgresIsBack"
SAVE = "tiers/lua/save.lua"

in_memory = each_in("contract/steps/test_finish.py", "memory")
in_redis = each_in("contract/steps/test_finish.py", "redis")
in_postgres = each_in("contract/steps/test_finish.py", "postgres")


def alone(name: str, test: str, old: str, new: str = "", *, file: str = RESCUE) -> Guard:
    return Guard(name, "step archive", test, (Removal(file, old, new),))


ENDS = (
    alone(
        "what a slow commit left is pushed with the next record",
        "contract/outages/test_postgres_away.py::TestPostgresAway::"
        "test_an_end_that_postgres_lacks_without_an_outage_is_archived_with_the_next_record[memory]",
        "        worker.rescue.due |= job.unarchived\n",
        file="worker/worker.py",
    ),
)

INDEX = (
    *in_redis(
        "an unarchived end is indexed",
        "step archive",
        "TestUnarchived::test_an_unarchived_end_is_listed_until_postgres_has_it",
        Removal(SAVE, "redis.call('ZADD', KEYS[4], time, entry)", ""),
    ),
    *in_postgres(
        "an unarchived end is indexed",
        "step archive",
        "TestUnarchived::test_an_unarchived_end_is_listed_until_postgres_has_it",
        Removal(function("save_lines_v2"), "= any(save.unarchived) then", "= any(save.unarchived) and false then"),
    ),
    *in_redis(
        "what is erased leaves the index",
        "erasure",
        "TestUnarchived::test_an_erased_end_is_in_no_index",
        Removal(SAVE, "    redis.call('ZREM', KEYS[4], ARGV[at + 3 * index])\n"),
    ),
    *in_memory(
        "what is erased leaves the index",
        "erasure",
        "TestUnarchived::test_an_erased_end_is_in_no_index",
        Removal(
            "tiers/memory.py",
            "                self.unarchived_ends.pop(job_id, None)\n            return",
            "            return",
        ),
    ),
    *in_postgres(
        "a tenant's many ends keep no other's out of sight",
        "invariant 13",
        "TestUnarchived::test_a_tenants_many_ends_hide_no_other_tenants",
        Removal("sql/lines.sql", "(partition by platform_id order by expires_at)", "(order by expires_at)"),
    ),
    *in_memory(
        "a job that has not ended is no end to be archived",
        "step archive",
        "TestUnarchived::test_a_job_that_lives_is_left_as_it_is",
        Removal("tiers/line_tier.py", "        if ended and ended.unarchived:\n", "        if ended:\n"),
    ),
)

WHO = (
    alone(
        "a worker pushes before it works on its record",
        f"{POSTGRES_IS_BACK}::test_an_unarchived_end_reaches_postgres_before_the_next_record_is_worked_on[memory]",
        "            self.rescue.push_if_due(deadline)\n",
        file="worker/worker.py",
    ),
    alone(
        "each sweep pushes",
        f"{POSTGRES_IS_BACK}::test_without_traffic_the_sweep_brings_an_unarchived_end_to_postgres[memory]",
        "return worker.rescue.push(worker.clock() + _RESCUE_SECONDS)",
        "return 0",
        file="operations/sweeping.py",
    ),
    alone(
        "an archive record comes back as a new one",
        f"{POSTGRES_IS_BACK}::test_an_archive_record_comes_back_until_postgres_has_the_end[memory]",
        "return self._send_again(record)",
        "return False",
    ),
    alone(
        "an archive record tells of others",
        f"{UNIT}::TestWhenItIsDue::test_an_archive_record_tells_of_others_that_wait",
        "        self.due |= isinstance(record, ArchiveRecord)\n",
        "",
    ),
    alone(
        "the records of a batch wait for the one that asks",
        f"{UNIT}::TestWhenItIsDue::test_the_records_of_a_batch_wait_for_the_one_that_asks",
        "with self._looking:",
        "if True:",
    ),
)

BOUNDS = (
    alone(
        "few of a tenant's archive records come back soon",
        f"{UNIT}::TestArchiveRecords::test_no_tenant_fills_the_queue_with_them",
        "delay=LATER_SECONDS if refused else wait",
        "delay=wait",
    ),
    alone(
        "a push ends in time",
        f"{UNIT}::TestPush::test_a_push_ends_by_its_deadline",
        "count >= MOST_PUSHED or self.clock() >= until",
        "count >= MOST_PUSHED",
    ),
    alone(
        "a push takes a bounded number",
        f"{UNIT}::TestPush::test_tenants_take_turns_and_what_is_left_goes_next",
        "count >= MOST_PUSHED or self.clock() >= until",
        "self.clock() >= until",
    ),
    alone(
        "a push takes the tenants in turn",
        f"{UNIT}::TestPush::test_tenants_take_turns_and_what_is_left_goes_next",
        "tenants[key.platform_id].setdefault",
        'tenants[""].setdefault',
    ),
    alone(
        "a worker looks seldom while Postgres is away",
        f"{UNIT}::TestWhenItIsDue::test_a_process_looks_no_more_often_than_it_may",
        "if now < self._next_look:",
        "if False:",
    ),
    alone(
        "no tier is asked while Postgres is away",
        f"{UNIT}::TestPush::test_while_postgres_is_away_no_tier_is_asked",
        "            self.archive.ping()\n            # A job that ends",
        "            # A job that ends",
    ),
    alone(
        "one thread pushes at a time",
        f"{UNIT}::TestPush::test_threads_do_not_do_the_same_at_the_same_time",
        "_pushing: threading.Lock = field(default_factory=threading.Lock)",
        "_pushing: threading.RLock = field(default_factory=threading.RLock)",
    ),
    alone(
        "what another process has archived is not asked again",
        f"{UNIT}::TestPush::test_what_another_process_has_archived_is_not_asked_again",
        "if ended is None or not ended.unarchived:",
        "if ended is None:",
    ),
    alone(
        "an entry whose end is gone is dropped",
        f"{UNIT}::TestPush::test_an_entry_whose_end_is_gone_is_dropped",
        "            tier.archived(key, job_id)\n",
    ),
    alone(
        "an end that can't be archived keeps no other from it",
        f"{UNIT}::TestPush::test_an_end_that_can_not_be_archived_keeps_no_other_waiting",
        "except Exception as error:",
        "except ZeroDivisionError as error:",
    ),
    alone(
        "what a push leaves makes the next one due",
        f"{UNIT}::TestPush::test_a_tier_that_is_away_is_asked_later_and_the_others_now",
        "            except TRANSIENT:\n                self.due = True\n                continue",
        "            except TRANSIENT:\n                continue",
    ),
    alone(
        "the same end again is no conflict",
        f"{UNIT}::TestTwiceIsOnce::test_the_same_end_again_is_no_conflict",
        "if any(end is None or end.job_id != job.job_id for end in ends):",
        "if True:",
    ),
)

GUARDS = (*ENDS, *INDEX, *WHO, *BOUNDS)
