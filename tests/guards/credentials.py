"""Guards of secrets: which tenant may name which, where plain text is allowed, and how a rotation is noticed."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

RULE = "secrets"
SECRETS, LOGINS = "unit/test_secrets.py::", "contract/test_logins.py::"
RENEWAL = "test_a_rotated_password_costs_one_connection_and_no_request[json]"


def guard(name: str, test: str, file: str, old: str, new: str = "") -> Guard:
    return Guard(name, RULE, test, (Removal(file, old, new),))


GUARDS = (
    guard(
        "a plain-text secret in a table is not used in production",
        f"{SECRETS}TestWhose::test_a_secret_that_is_written_out_is_never_used[s3cr3t-t0k3n]",
        "drivers/secrets.py",
        "elif not self._literals:",
        "elif False:",
    ),
    guard(
        "a secret in a table is checked when it is used",
        "contract/delivery/test_signatures.py::TestKeys"
        "::test_a_secret_that_may_not_be_used_signs_nothing[of another tenant]",
        "drivers/secrets.py",
        "        self.check(value, platform_id)\n        if not is_arn(value):",
        "        if not is_arn(value):",
    ),
    guard(
        "no secret of another tenant is named",
        f"{SECRETS}TestWhose::test_no_tenant_names_a_secret_of_another[False-message-handler/other/openai]",
        "drivers/secrets.py",
        'names = f"{self._prefix}{platform_id}/"',
        "names = self._prefix",
    ),
    guard(
        "no secret is named of a tenant whose id begins like the caller's",
        f"{SECRETS}TestWhose::test_no_tenant_names_a_secret_of_another[False-message-handler/clinic-2/openai]",
        "drivers/secrets.py",
        'names = f"{self._prefix}{platform_id}/"',
        'names = f"{self._prefix}{platform_id}"',
    ),
    guard(
        "no record with a secret that may not be used is taken",
        "contract/test_configuration.py::TestTokens::test_in_production_only_the_arn_of_the_tenants_own_secret_is_taken"
        "[postgres-written out]",
        "configuration/admin.py",
        "            self._check_secrets(whole, platform_id)\n",
    ),
    guard(
        "a token goes to the host that its secret names",
        "ai/test_chat_completions.py::test_a_token_whose_secret_is_named_again_goes_to_no_other_host",
        "drivers/secrets.py",
        "if not token or named != host:",
        "if not token:",
    ),
    guard(
        "a part of an ARN names no secret",
        f"{SECRETS}TestWhose::test_a_part_of_an_arn_is_refused[-AbCdE]",
        "domain/identifiers.py",
        '-[A-Za-z0-9]{6}"',
        '"',
    ),
    guard(
        "a secret of another account or region is not named",
        f"{SECRETS}TestWhose::test_a_secret_of_another_account_or_region_is_refused",
        "drivers/secrets.py",
        "if not value.startswith(self._arn_prefix):",
        "if False:",
    ),
    guard(
        "a token that a provider refuses is asked for again",
        "ai/test_chat_completions.py::TestRotation::test_the_patient_notices_nothing",
        "ai/http_provider.py",
        "failure.status == _UNAUTHORIZED and",
        "False and",
    ),
    guard(
        "a token that a provider refuses for good is not read again each time",
        f"{SECRETS}TestRenewed::test_a_refused_secret_is_read_at_most_once_a_second",
        "drivers/secrets.py",
        "== refused and known.read_at + REREAD_SECONDS <= self._clock()",
        "== refused",
    ),
    guard(
        "a password that Redis refuses is asked for again",
        f"{LOGINS}TestRedis::{RENEWAL}",
        "drivers/redis.py",
        "if provider.used is None or provider.credentials.renewed(provider.used) is None:",
        "if True:",
    ),
    guard(
        "a password that Postgres refuses is asked for again",
        f"{LOGINS}TestPostgres::{RENEWAL}",
        "drivers/postgres_connection.py",
        "            if not sqlstate(error).startswith(LOGIN_REFUSED):\n",
        "            if True:\n",
    ),
    guard(
        "a login that a store refuses for good is not read again each time",
        f"{LOGINS}TestKept::test_a_login_that_is_refused_for_good_is_read_once_a_second_at_most",
        "drivers/credentials.py",
        " and self._clock() >= self._read_at + REREAD_SECONDS",
    ),
    guard(
        "a thread that waited for a failed read of a secret does not read too",
        f"{LOGINS}TestKept::test_a_thread_that_waited_for_a_failed_read_does_not_read_too",
        "drivers/credentials.py",
        "if self._known is None and self._clock() < self._read_at + REREAD_SECONDS:",
        "if False:",
    ),
    guard(
        "a login that Postgres refuses is an outage, not an error",
        f"{LOGINS}TestPostgres::test_a_store_that_refuses_the_login_is_away_and_says_what_to_do",
        "drivers/postgres_errors.py",
        "        if code.startswith(LOGIN_REFUSED):\n",
        "        if False:\n",
    ),
    guard(
        "Postgres is spoken to in TLS unless it is on this machine",
        "contract/test_postgres.py::TestTLS::test_without_an_sslmode_all_of_tls_is_verified",
        "drivers/postgres_connection.py",
        '"disable" if _is_loopback(host) else "verify-full"',
        '"disable"',
    ),
    guard(
        "no token of IAM goes over an open line to Postgres",
        f"{LOGINS}TestPostgres::test_a_token_never_goes_over_a_line_that_others_can_read",
        "drivers/postgres_connection.py",
        'if arguments["ssl_context"] is False:',
        "if False:",
    ),
    guard(
        "no token of IAM goes over an open line to Redis",
        "unit/test_settings.py::test_a_token_of_iam_is_sent_to_redis_in_tls_alone",
        "settings.py",
        "if self.redis_iam_cache and self.redis_url and ",
        "if False and self.redis_url and ",
    ),
    guard(
        "only one setting says how to log in",
        "unit/test_settings.py::test_two_ways_to_log_in_at_one_store_are_named[DATABASE_SECRET_ARN-DATABASE_IAM]",
        "settings.py",
        "    if len(given) > 1:",
        "    if False:",
    ),
)
