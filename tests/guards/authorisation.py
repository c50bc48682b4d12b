"""Guards of authorisation: what a token must have, whose data a caller sees, and how much a tenant may send."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

IDENTITY = "http/identity.py"
MATRIX = "unit/test_authorisation.py::test_each_caller_gets_only_what_it_may"
REFUSALS = "unit/test_identity.py::TestRefusals"
LIMIT = "unit/test_rate_limit.py::TestPosting"
OWNER = "unit/test_authorisation.py::TestTheOwnersLimits"


def asked(what: str, test: str, old: str, new: str = "if False:") -> Guard:
    """A guard of something that a token must have."""
    return Guard(f"a token is asked for {what}", "the HTTP contract", test, (Removal(IDENTITY, old, new),))


GUARDS = (
    asked(
        "at all",
        f"{REFUSALS}::test_without_claims_no_caller_is_known[event0]",
        "if not settings.auth_required:",
        "if True:",
    ),
    asked(
        "its use",
        f"{REFUSALS}::test_an_identity_token_is_no_access_token",
        'if claims.get("token_use") != "access":',
    ),
    asked("its end", f"{MATRIX}[GET /jobs/{{job_id}}]", 'if not time.time() < _seconds(claims.get("exp")):'),
    asked("its scope", f"{MATRIX}[DELETE /jobs/{{job_id}}]", "if API + scope not in scopes:"),
    asked(
        "the tenant that is named",
        f"{REFUSALS}::test_another_tenant_than_the_tokens_is_forbidden_whether_it_exists_or_not",
        "if named is not None and named not in allowed:",
    ),
    asked(
        "one tenant of several",
        f"{REFUSALS}::test_several_tenants_and_none_named_is_the_callers_to_mend",
        "if named is None and len(allowed) > 1:",
    ),
    asked(
        "a person's groups, not for the scopes of their client",
        "unit/test_identity.py::TestCallers::test_a_person_gets_no_tenant_by_asking_for_a_scope",
        "names = scopes if is_client else",
        "names = scopes or",
    ),
    Guard(
        "a job of another tenant is not found",
        "invariant 13",
        f"{MATRIX}[GET /jobs/{{job_id}}]",
        (Removal("jobs.py", "if job and job.key.platform_id == self._platform_id else None", ""),),
    ),
    Guard(
        "a tenant's clean-up is its own",
        "invariant 13",
        f"{MATRIX}[POST /admin/locks/cleanup]",
        (Removal("operations/sweeping.py", "older_than=seconds, platform_id=platform_id", "older_than=seconds"),),
    ),
    Guard(
        "a message over the limit is refused",
        "the HTTP contract",
        f"{LIMIT}::test_nothing_of_it_is_stored",
        (
            Removal(
                "intake/shares.py",
                "if per_minute and (wait := self._wait(platform_id, per_minute, count)) > 0:",
                "if (wait := 0) > 0:",
            ),
        ),
    ),
    Guard(
        "a request is counted once",
        "the HTTP contract",
        f"{LIMIT}::test_a_request_that_is_sent_round_to_the_conversations_bot_counts_once",
        (Removal("intake/intake.py", "counted = True", "counted = False"),),
    ),
    Guard(
        "while no tier can count, the rate limit blocks no request",
        "the HTTP contract",
        f"{LIMIT}::test_a_limit_that_can_not_be_kept_blocks_no_message[error1]",
        (
            Removal(
                "intake/shares.py",
                "except Exception as error:  # noqa: BLE001  a limit",
                "except Unavailable as error:  # a limit",
            ),
        ),
    ),
    Guard(
        "each message of a request counts",
        "invariant 13",
        f"{LIMIT}::test_each_message_of_a_request_counts",
        (Removal("intake/intake.py", "max(1, len(messages) + len(wordless))", "1"),),
    ),
    Guard(
        "a tenant without a limit of its own has the deployment's",
        "invariant 13",
        f"{LIMIT}::test_a_tenant_without_a_limit_of_its_own_has_the_deployments",
        (
            Removal(
                "intake/shares.py",
                "per_minute = own or self.settings.rate_limit_per_minute",
                "per_minute = own or 0",
            ),
        ),
    ),
    Guard(
        "a person is reached with any limit",
        "invariant 13",
        "unit/test_rate_limit.py::TestOtherRequests::test_a_tenant_with_few_messages_still_reaches_a_person",
        (Removal("intake/shares.py", "max(per_minute * PER_MESSAGE[kind], LEAST)", "per_minute * PER_MESSAGE[kind]"),),
    ),
    Guard(
        "each kind of request has a bucket",
        "invariant 13",
        "unit/test_rate_limit.py::TestOtherRequests::test_one_kind_takes_nothing_from_another",
        (Removal("intake/shares.py", 'f"{kind} of {platform_id}"', "platform_id"),),
    ),
    Guard(
        "a tenant's group is one that SQS takes",
        "invariant 1",
        "unit/test_queues.py::TestSqs::test_two_tenants_have_two_groups_that_sqs_takes[255]",
        (Removal("queue/sqs.py", "if len(platform_id) <= MAX_GROUP_CHARACTERS:", "if True:"),),
    ),
    Guard(
        "a tenant raises no limit of its own",
        "invariant 13",
        f"{OWNER}::test_a_tenant_sets_raises_and_removes_no_limit",
        (Removal("configuration/admin.py", "if given not in (None, own):", "if False:"),),
    ),
    Guard(
        "a tenant leaves its limit out and keeps it",
        "invariant 13",
        f"{OWNER}::test_a_tenant_sets_raises_and_removes_no_limit",
        (
            Removal(
                "configuration/admin.py",
                'return record | {"meta_data": record["meta_data"] | {_LIMIT: own}} if own is not None else record',
                "return record",
            ),
        ),
    ),
    Guard(
        "a tenant does not lose its limit with its record",
        "invariant 13",
        f"{OWNER}::test_a_tenant_does_not_lose_its_limit_with_its_record",
        (
            Removal(
                "configuration/admin.py",
                'if kind == "platforms" and not is_owner and _limit_of(was) is not None:',
                "if False:",
            ),
        ),
    ),
    Guard(
        "a person is no owner",
        "invariant 13",
        f"{OWNER}::test_a_person_is_no_owner_whatever_their_client_asks_for",
        (Removal(IDENTITY, "is_owner=is_client and OWNER in scopes", "is_owner=OWNER in scopes"),),
    ),
    Guard(
        "a bot's platform is there before it",
        "configuration",
        "unit/test_authorisation.py::test_a_bot_needs_its_platforms_record_first",
        (
            Removal(
                "configuration/admin.py",
                'if kind != "platforms" and records.get("platforms", platform_id) is None:',
                "if False:",
            ),
        ),
    ),
)
