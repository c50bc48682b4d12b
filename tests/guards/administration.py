"""Guards of operators' steps: no change is overwritten or left out of the audit, and a job is retried once."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal, statement
from tests.guards.tenants import isolated

CONFIGURATION = "contract/test_configuration.py"
RETRY = "contract/test_retry.py"
LOGIN = "integration/test_login.py"
CACHE = "unit/test_bot_config.py::TestCache"
WHICH = "unit/test_bot_config.py::TestWhich"
UNIT = "unit/test_administration.py"
APART = f"{RETRY}::TestTheArchive::test_tenants_with_the_same_ids_are_reopened_apart[postgres]"
LISTED = f"{RETRY}::TestTheArchive::test_tenants_list_their_own[postgres]"
ADMIN = "configuration/admin.py"
STEPS = "archive/postgres_steps.py"
MEMORY = "archive/memory.py"
BOTS = "bot_config.py"
STORED = "archive/postgres_configuration.py"

CHANGES = (
    Guard(
        "only the revision that was seen is overwritten",
        "administration",
        f"{CONFIGURATION}::test_one_of_two_operators_who_change_the_same_revision_is_told_that_it_changed[postgres]",
        (
            Removal(
                ADMIN,
                'if isinstance(expected, int) and (stored is None or stored["revision"] != expected):',
                "if False:",
            ),
        ),
    ),
    Guard(
        "a record that is asked for as new overwrites none",
        "administration",
        f"{CONFIGURATION}::test_one_of_two_operators_who_want_a_new_platform_at_once_gets_it[postgres]",
        (Removal(ADMIN, 'if expected == "new" and not created:', "if False:"),),
    ),
    Guard(
        "no change without its entry in the audit",
        "administration",
        f"{CONFIGURATION}::TestTheAudit::test_a_change_that_can_not_be_noted_is_not_made[postgres]",
        (
            Removal(
                "archive/postgres_configuration.py",
                "postgres_audit.note(self.connection, self.platform_id, entry)",
                "...",
            ),
        ),
    ),
    Guard(
        "the entry is written in the transaction of the change",
        "administration",
        f"{CONFIGURATION}::TestTheAudit::test_a_change_that_can_not_be_noted_is_not_made[postgres]",
        (
            Removal(
                "archive/postgres_configuration.py",
                "            with transaction(connection):\n"
                '                execute(connection, {"platform_id": platform_id}, "lock_configuration")\n'
                "                return step(",
                "            if connection:\n"
                '                execute(connection, {"platform_id": platform_id}, "lock_configuration")\n'
                "                return step(",
            ),
        ),
    ),
    Guard(
        "no secret is in the audit",
        "invariant 11, administration",
        f"{CONFIGURATION}::TestTheAudit::test_no_secret_is_in_its_table[postgres]",
        (
            Removal(
                "configuration/redaction.py",
                '    if record.get("auth_token") and record["auth_token"] not in known:\n'
                '        copy["auth_token"] = NEW_SECRET\n',
                '    copy["auth_token"] = record.get("auth_token")\n',
            ),
        ),
    ),
    Guard(
        "a shared copy is used until what it says",
        "administration",
        f"{CACHE}::test_a_change_is_seen_within_the_time_to_live",
        (Removal(BOTS, 'until = shared["until"]', "until = now + self._ttl"),),
    ),
    Guard(
        "the age of shared configuration counts from the read's start",
        "administration",
        f"{CACHE}::test_a_change_is_seen_though_a_slow_reader_shares_the_old_one[False]",
        (
            Removal(
                BOTS,
                "self._share(platform_id, bot_id, value, until)\n",
                "self._share(platform_id, bot_id, value, self._clock() + self._ttl)\n",
            ),
        ),
    ),
)

ERASED = (
    Guard(
        "an erased conversation may begin again with another bot",
        "administration",
        f"{WHICH}::test_a_conversation_that_begins_again_after_an_erasure_has_its_new_bot",
        (Removal(BOTS, " and (not expected or found[1] in (None, expected))"),),
    ),
    Guard(
        "an erased conversation's bot is forgotten",
        "administration",
        f"{WHICH}::test_a_conversation_that_begins_again_without_a_bot_gets_the_default_within_a_minute",
        (Removal(BOTS, "_OWNER_SECONDS = 60.0", "_OWNER_SECONDS = 1e9"),),
    ),
    Guard(
        "an erasure forgets the conversation's bot at once",
        "administration",
        f"{WHICH}::test_a_conversation_that_begins_again_without_a_bot_gets_the_default_within_a_minute",
        (Removal(BOTS, "        self._conversations.pop(key, None)\n", "        ...\n"),),
    ),
    Guard(
        "each page of an export is in the audit",
        "administration",
        "unit/test_operations.py::test_an_export_is_shown_page_by_page",
        (
            Removal(
                "../../../../functions/admin/app.py",
                "    parts().audit.note(key.platform_id, entry)\n",
                "    if after is None:\n        parts().audit.note(key.platform_id, entry)\n",
            ),
        ),
    ),
)

MIGRATIONS = (
    Guard(
        "a migration whose time is up holds no table",
        "administration",
        "contract/test_postgres.py::TestMigrations::test_a_migration_that_takes_too_long_holds_no_table_when_its_time_is_up",
        (Removal("sql/migrations.py", "set local statement_timeout = {int(seconds * 1000)}", "select 1"),),
    ),
)

RETRIES = (
    Guard(
        "a job is retried once",
        "administration",
        f"{UNIT}::TestRetry::test_done_twice_it_is_done_once[memory]",
        (Removal(MEMORY, "if known is None or name in self._reopened:", "if known is None:"),),
    ),
    Guard(
        "a job is retried once",
        "administration",
        f"{UNIT}::TestRetry::test_done_twice_it_is_done_once[postgres]",
        (Removal(STEPS, "    if was_reopened:\n        return False\n"),),
    ),
    Guard(
        "a retry is in the audit",
        "administration",
        f"{UNIT}::TestRetry::test_done_twice_it_is_done_once[postgres]",
        (Removal(STEPS, "    postgres_audit.note(connection, job.key.platform_id, entry)\n"),),
    ),
    Guard(
        "only what has failed is retried",
        "invariant 10, administration",
        f"{RETRY}::test_a_message_that_was_answered_is_not_retried[memory]",
        (Removal("archive/parking.py", 'if status != "failed":', "if False:"),),
    ),
    Guard(
        "what a retry opened is no duplicate of the failure",
        "administration",
        f"{RETRY}::test_a_process_that_dies_during_a_retry_strands_nothing[memory-after archive.reopen-then the sweep]",
        (Removal("operations/handoff.py", "    _forget_failures(tiers, archive, key, found.parked)\n"),),
    ),
    Guard(
        "a failure that comes late does not undo a retry",
        "administration",
        f"{RETRY}::test_a_late_copy_of_the_archive_record_does_not_fail_the_job_again[memory]",
        (Removal(MEMORY, "if (job.key.platform_id, job.job_id) in self._reopened:", "if False:"),),
    ),
    Guard(
        "a failure that comes late does not undo a retry",
        "administration",
        f"{RETRY}::test_a_late_copy_of_the_archive_record_does_not_fail_the_job_again[redis and postgres]",
        (Removal(STEPS, ' and execute(connection, values, "was_reopened")[0][0]:', " and False:"),),
    ),
    Guard(
        "a page of the audit fits into one answer",
        "administration",
        "unit/test_administration.py::TestAudit::test_a_page_of_large_records_fits_into_one_answer",
        (Removal("http/paging.py", "if not number or size <= MOST_BYTES", "if True"),),
    ),
    Guard(
        "a failed job leads to the answer that was faster than its retry",
        "administration",
        f"{RETRY}::test_a_failed_job_that_is_answered_meanwhile_leads_to_that_answer[memory]",
        (Removal("operations/interventions.py", "        archive.supersede(job, answered_by)\n", "        pass\n"),),
    ),
)

TENANTS = (
    isolated("no job is looked at for a retry", "job_to_reopen", APART),
    Guard(
        "no job of another tenant is marked as retried",
        "invariant 13",
        APART,
        (
            Removal(
                statement("reopen_job"), "where platform_id = :platform_id and job_id = cast", "where job_id = cast"
            ),
        ),
    ),
    isolated("no message is opened again", "reopen_job", APART, "settled.platform_id = :platform_id and "),
    isolated("nothing that was said leaves the archive", "reopen_job", APART, "turns.platform_id = :platform_id and "),
    isolated("no retry is known", "was_reopened", APART),
    isolated("no job is listed", "jobs", LISTED),
    isolated("no job is taken for the last one", "last_end", LISTED, "where platform_id = :platform_id "),
    isolated(
        "nothing that was done is shown",
        "audit",
        f"{CONFIGURATION}::TestTheAudit::test_tenants_see_their_own[postgres]",
        "platform_id = :platform_id\n  and ",
    ),
)

SIGN_IN = (
    Guard(
        "only the browser that began a sign-in completes it",
        "administration, RFC 6749 10.12",
        f"{LOGIN}::TestWhatIsRefused::test_a_callback_of_another_sign_in_and_the_command_waits_for_its_own",
        (
            Removal(
                "cli/login.py",
                'return hmac.compare_digest(parse_qs(query).get("state", [""])[0].encode(), state.encode())',
                "return True",
            ),
        ),
    ),
    Guard(
        "only the program that asked for a code can use it",
        "administration, RFC 7636",
        f"{LOGIN}::TestLogin::test_no_two_share_a_state_or_a_challenge",
        (Removal("cli/login.py", "secrets.token_urlsafe(48)", '"a" * 64'),),
    ),
    Guard(
        "the program that asked for a code proves it",
        "administration, RFC 7636",
        f"{LOGIN}::TestLogin::test_a_person_signs_in_with_a_browser_and_is_signed_in",
        (Removal("cli/tokens.py", '            "code_verifier": verifier,\n'),),
    ),
    Guard(
        "no other user reads a token",
        "administration",
        f"{LOGIN}::TestLogin::test_only_this_user_can_read_what_is_kept",
        (Removal("cli/sessions.py", "os.O_EXCL, 0o600", "os.O_EXCL, 0o666"),),
    ),
    Guard(
        "no other user looks into its folder",
        "administration",
        f"{LOGIN}::TestLogin::test_only_this_user_can_read_what_is_kept",
        (Removal("cli/sessions.py", "        self._folder.chmod(0o700)  # it may have been there, open to others\n"),),
    ),
    Guard(
        "a token is refreshed once",
        "administration",
        f"{LOGIN}::TestAnEndedToken::test_that_no_refreshing_helps_is_said[0]",
        (Removal("cli/client.py", " and not self._is_refreshed:", ":"),),
    ),
)

GUARDS = (*CHANGES, *ERASED, *MIGRATIONS, *RETRIES, *TENANTS, *SIGN_IN)
