"""Guards of raised conversations: one person takes each, all that is done is audited, and a drill stays a drill."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, statement

TAKEN = "contract/test_taking.py"
ROUTES = "unit/test_raised.py"
TOLD = "contract/delivery/test_danger.py"
MEMORY = "archive/memory_raised.py"
POSTGRES = "archive/postgres_raised.py"
USE_CASE = "operations/raised.py"
TAKE, CLOSE, LIST = statement("take_raised"), statement("close_raised"), statement("raised")
REPORT = statement("safety_report")


def guard(name: str, test: str, place: str, old: str, new: str = "", *, rule: str = "raised") -> Guard:
    return Guard(name, f"{rule}, invariant 16", test, (Removal(place, old, new),))


TAKING = (
    guard(
        "in Postgres, one person takes a raised conversation",
        f"{TAKEN}::TestTaking::test_of_people_who_take_it_at_the_same_moment_one_does[postgres]",
        TAKE,
        " and taken_by is null",
    ),
    guard(
        "in memory, one person takes a raised conversation",
        f"{TAKEN}::TestTaking::test_of_people_who_take_it_at_the_same_moment_one_does[memory]",
        MEMORY,
        'if found is None or found.state != "raised":',
        "if found is None:",
    ),
    guard(
        "in Postgres, only what is taken is closed",
        f"{TAKEN}::TestTaking::test_only_what_is_taken_can_be_closed[postgres-raised]",
        CLOSE,
        " and taken_by is not null",
    ),
    guard(
        "in Postgres, the first word why stays",
        f"{TAKEN}::TestTaking::test_only_what_is_taken_can_be_closed[postgres-closed]",
        CLOSE,
        " and closed_by is null",
    ),
    guard(
        "in memory, only what is taken is closed",
        f"{TAKEN}::TestTaking::test_only_what_is_taken_can_be_closed[memory-raised]",
        MEMORY,
        'if found is None or found.state != "taken":',
        "if found is None:",
    ),
    guard(
        "in Postgres, who takes it is in the audit",
        f"{TAKEN}::TestTaking::test_it_is_taken_then_closed_with_a_word_why[postgres]",
        POSTGRES,
        "                    postgres_audit.note(connection, platform_id, entry)\n",
        "                    pass\n",
        rule="audit",
    ),
    guard(
        "in Postgres, a change that the audit lacks is undone",
        f"{TAKEN}::TestInPostgres::test_a_change_that_the_audit_lacks_is_undone",
        POSTGRES,
        "            with transaction(connection):\n",
        "            if connection:\n",
        rule="audit",
    ),
    guard(
        "in Postgres, a tenant takes only its own",
        f"{TAKEN}::TestTaking::test_another_tenants_is_unknown[postgres-tenant]",
        TAKE,
        "platform_id = :platform_id and ",
        rule="invariant 13",
    ),
    guard(
        "in Postgres, a tenant closes only its own",
        f"{TAKEN}::TestTaking::test_another_tenants_is_unknown[postgres-tenant]",
        CLOSE,
        "platform_id = :platform_id and ",
        rule="invariant 13",
    ),
    guard(
        "in Postgres, a tenant sees only its own",
        f"{TAKEN}::TestTheList::test_a_filter_leaves_out_what_differs[postgres]",
        LIST,
        "where platform_id = :platform_id\n  and",
        "where",
        rule="invariant 13",
    ),
    guard(
        "in memory, an erasure takes the word why along",
        f"{TAKEN}::TestTaking::test_an_erasure_takes_it_along_with_the_word_why[memory]",
        "archive/memory.py",
        "            self.raised.forget(key)\n",
        rule="erasure",
    ),
    guard(
        "in Postgres, a report counts no drill",
        f"{TAKEN}::TestTheReport::test_counts_what_was_raised_and_what_followed[postgres]",
        REPORT,
        "where not drill\n",
        "where true\n",
        rule="report",
    ),
    guard(
        "in memory, a report counts no drill",
        f"{TAKEN}::TestTheReport::test_counts_what_was_raised_and_what_followed[memory]",
        "domain/safety_report.py",
        "if not each.drill:",
        "if each:",
        rule="report",
    ),
    guard(
        "the report has the time of the first delivery",
        "contract/delivery/test_danger.py::TestTheEvent::test_the_time_of_its_first_arrival_is_kept_for_the_report",
        statement("delivered"),
        "coalesce(raised.delivered_at, to_timestamp(cast(:now as float8)))",
        "to_timestamp(cast(:now as float8))",
        rule="report",
    ),
    guard(
        "a drill never takes the place of a notice for real danger",
        f"{ROUTES}::TestADrill::test_it_takes_no_place_of_a_notice_for_real_danger[memory]",
        USE_CASE,
        "key.new_job_id(),",
        'key.notice_job_id("emergency", int(now // 3600)),',
    ),
    guard(
        "a drill is noted before it is raised",
        f"{ROUTES}::TestADrill::test_it_is_in_the_audit_or_refused[memory]",
        USE_CASE,
        '    audit.note(key.platform_id, AuditEntry(actor, "drill", "raised", raised.job_id))\n',
        rule="audit",
    ),
    guard(
        "the job of a drill says that it is one",
        f"{ROUTES}::TestADrill::test_everybody_can_see_that_it_is_one[memory]",
        "domain/raised.py",
        "            drill=self.drill,\n",
    ),
    guard(
        "a bot's turn that repeats a drill's notice answers nothing",
        f"{ROUTES}::TestADrill::test_a_bots_turn_that_repeats_its_notice_answers_nothing",
        "safety/notices.py",
        "for text_of in (notice_of, drill_notice_of)",
        "for text_of in (notice_of,)",
        rule="invariant 2",
    ),
)
REMIND = statement("remind_raised")
REMINDERS = (
    guard(
        "in Postgres, there are at most three reminders",
        f"{TAKEN}::TestReminders::test_come_every_ten_minutes_until_there_were_three[postgres]",
        REMIND,
        " and reminders < cast(:reminders as integer)\n",
        "\n",
        rule="reminders",
    ),
    guard(
        "in memory, there are at most three reminders",
        f"{TAKEN}::TestReminders::test_come_every_ten_minutes_until_there_were_three[memory]",
        MEMORY,
        "                and each.reminders < reminders\n",
        rule="reminders",
    ),
    guard(
        "in Postgres, reminders keep their distance",
        f"{TAKEN}::TestReminders::test_that_come_late_do_not_come_all_at_once[postgres]",
        REMIND,
        "coalesce(reminded_at, raised_at) <=",
        "raised_at <=",
        rule="reminders",
    ),
    guard(
        "in Postgres, a person who takes it ends the reminders",
        f"{TAKEN}::TestReminders::test_end_when_a_person_takes_it[postgres-False]",
        REMIND,
        "where taken_by is null and closed_by is null and reminders",
        "where reminders",
        rule="reminders",
    ),
    guard(
        "in Postgres, two sweeps remind once",
        f"{TAKEN}::TestReminders::test_of_two_sweeps_at_the_same_moment_one_reminds[postgres]",
        REMIND,
        "    for update of raised skip locked\n",
        rule="reminders",
    ),
    guard(
        "a sweep waits for no conversation that is locked",
        f"{TAKEN}::TestInPostgres::test_a_conversation_that_is_locked_is_left_to_the_next_sweep",
        REMIND,
        "    for key share of conversations skip locked\n",
        rule="reminders",
    ),
    guard(
        "a platform is reminded three times at most",
        f"{TOLD}::TestReminders::test_tell_the_platform_again_under_an_id_of_their_own",
        "operations/raised.py",
        "MOST_REMINDERS = 3",
        "MOST_REMINDERS = 4",
        rule="reminders",
    ),
    guard(
        "a sweep goes on without reminders while their store is away",
        f"{ROUTES}::TestReminders::test_wait_while_postgres_is_away_and_the_sweep_goes_on",
        "operations/raised.py",
        "    except MessageHandlerError as error:\n        _log.info",
        "    except ZeroDivisionError as error:\n        _log.info",
        rule="reminders",
    ),
)

CONSOLE = (
    guard(
        "the console closes a conversation only with a word why",
        "console/test_safety.py::test_a_raised_conversation_is_taken_and_closed_by_keyboard",
        "../../../../functions/admin/console/dom.js",
        "if (!asks || asks.checkValidity()) return",
        "if (dialog) return",
        rule="console",
    ),
    guard(
        "an Enter that closes a question presses no other button",
        "console/test_safety.py::test_a_raised_conversation_is_taken_and_closed_by_keyboard",
        "../../../../functions/admin/console/dom.js",
        "      event.preventDefault(); // or this Enter would press the button that gets the focus back\n",
        rule="console",
    ),
)
GUARDS = (*TAKING, *REMINDERS, *CONSOLE)
