"""Guards of the template: access rights, logs, alarms and deployments."""

from __future__ import annotations

from tests.guards.guard import Guard, Removal

TEMPLATE = "../../../../template.yaml"  # relative to the package
ACCESS = "template/test_access.py"
HIPAA = "template/test_hipaa.py"
ALARMS = "template/test_alarms.py"


def _guard(name: str, rule: str, test: str, old: str, new: str = "") -> Guard:
    return Guard(name, rule, test, (Removal(TEMPLATE, old, new),))


_SHOW_JOB = """            Path: /jobs/{job_id}
            Auth: {Authorizer: Tokens, AuthorizationScopes: [message-handler/messages]}

  StatusLogGroup:"""

GUARDS = (
    _guard(
        "a route asks for a token",
        "scopes",
        f"{ACCESS}::TestRoutes::test_each_but_health_and_the_page_asks_for_a_token_with_its_scope",
        _SHOW_JOB,
        _SHOW_JOB.replace("Authorizer: Tokens, AuthorizationScopes: [message-handler/messages]", "Authorizer: NONE"),
    ),
    _guard(
        "a token has the route's scope",
        "scopes",
        f"{ACCESS}::TestRoutes::test_each_but_health_and_the_page_asks_for_a_token_with_its_scope",
        _SHOW_JOB,
        _SHOW_JOB.replace("Authorizer: Tokens, AuthorizationScopes: [message-handler/messages]", "Authorizer: Tokens"),
    ),
    _guard(
        "a platform gets no token for administration",
        "scopes",
        f"{ACCESS}::TestClients::test_a_platform_gets_tokens_for_its_own_messages_only",
        "AllowedOAuthScopes: [message-handler/messages, tenant/default]",
        "AllowedOAuthScopes: [message-handler/messages, message-handler/admin, tenant/default]",
    ),
    _guard(
        "intake can't read dead letters",
        "least privilege",
        f"{ACCESS}::TestRoles::test_the_queues_are_for_who_needs_them",
        """          - Sid: HandOverAcceptedMessages
            Effect: Allow
            Action: sqs:SendMessage
            Resource: !GetAtt JobQueue.Arn""",
        """          - Sid: HandOverAcceptedMessages
            Effect: Allow
            Action: [sqs:SendMessage, sqs:ReceiveMessage]
            Resource: [!GetAtt JobQueue.Arn, !GetAtt DeadLetterQueue.Arn]""",
    ),
    _guard(
        "no statement names everything",
        "least privilege",
        f"{ACCESS}::TestRoles::test_no_statement_is_wider_than_it_must_be",
        "            Resource: !GetAtt FailedInvocationQueue.Arn",
        "            Resource: '*'",
    ),
    _guard(
        "the worker alone has the way out",
        "network",
        f"{HIPAA}::test_only_the_worker_gets_out",
        "          - !Ref AdminSecurityGroup",
        "          - !Ref WorkerSecurityGroup",
    ),
    _guard(
        "the private subnets have no way out",
        "network",
        f"{HIPAA}::test_only_the_worker_gets_out",
        "SubnetId: !Ref PrivateSubnetA, RouteTableId: !Ref PrivateRoutes",
        "SubnetId: !Ref PrivateSubnetA, RouteTableId: !Ref OutgoingRoutesA",
    ),
    _guard(
        "the proxy asks for IAM",
        "no passwords",
        f"{HIPAA}::test_postgres_is_reached_through_a_proxy_with_tls_and_iam_only",
        "IAMAuth: REQUIRED",
        "IAMAuth: DISABLED",
    ),
    _guard(
        "Postgres' log has no rows",
        "invariant 11",
        f"{HIPAA}::test_postgres_writes_no_rows_and_values_into_its_log",
        "        log_error_verbosity: terse\n",
    ),
    _guard(
        "access logs have no path",
        "invariant 11",
        f"{HIPAA}::test_access_logs_name_no_conversation",
        '"route":"$context.resourcePath"',
        '"route":"$context.path"',
    ),
    _guard(
        "the firewall's log has no path",
        "invariant 11",
        f"{HIPAA}::test_the_firewall_keeps_no_patients_words",
        "        - UriPath: {}\n",
    ),
    _guard(
        "the firewall refuses no request for its text",
        "invariant 1",
        f"{HIPAA}::test_the_firewall_refuses_no_patient_for_a_text",
        "                - {Name: CrossSiteScripting_BODY, ActionToUse: {Count: {}}}\n",
    ),
    _guard(
        "a full Redis forgets nothing",
        "invariant 2",
        f"{HIPAA}::test_redis_forgets_no_lock_to_make_room",
        "maxmemory-policy: noeviction",
        "maxmemory-policy: volatile-lru",
    ),
    _guard(
        "the user of Redis may run scripts",
        "no passwords",
        "template/test_stores.py::test_the_user_of_redis_may_do_all_that_the_service_does",
        "+@write +@scripting",
        "+@write",
    ),
    _guard(
        "the user of Redis may do nothing dangerous",
        "no passwords",
        "template/test_stores.py::test_the_user_of_redis_may_do_nothing_else[FLUSHALL]",
        "+time -@dangerous",
        "+time",
    ),
    _guard(
        "tables come before the code that needs them",
        "migrations",
        f"{ACCESS}::TestVersions::test_the_tables_come_before_the_code_that_needs_them",
        "      Tags: {migration: !If [HasDatabase, !Ref Migration, none]}  # the migration first",
        "      Tags: {migration: none}  # the migration first",
    ),
    _guard(
        "a parameter alone makes a version",
        "canary",
        f"{ACCESS}::TestVersions::test_each_parameter_of_a_function_makes_a_new_version_of_it",
        "${RateLimitPerMinute} ${MaxWaitSeconds} ${MaxWaitsPerTenant}",
        "${RateLimitPerMinute} ${MaxWaitsPerTenant}",
    ),
    _guard(
        "an alarm looks at what the functions print",
        "alarms",
        f"{ALARMS}::TestOwnMetrics::test_a_run_on_a_lower_tier",
        "MetricName: Tier, Dimensions: [{Name: service, Value: worker}]}",
        "MetricName: Tier, Dimensions: [{Name: Service, Value: worker}]}",
    ),
    _guard(
        "an alarm looks at the function that prints it",
        "alarms",
        f"{ALARMS}::TestOwnMetrics::test_a_reply_that_never_had_its_turn",
        "MetricName: DeliveriesDead, Dimensions: [{Name: service, Value: admin}]}",
        "MetricName: DeliveriesDead, Dimensions: [{Name: service, Value: intake}]}",
    ),
    _guard(
        "the silence of the sweep is the alarm",
        "invariant 7",
        f"{ALARMS}::TestEveryAlarm::test_has_thought_of_silence",
        "TreatMissingData: breaching",
        "TreatMissingData: notBreaching",
    ),
    _guard(
        "a bad version is taken back",
        "canary",
        f"{ALARMS}::TestEveryAlarm::test_of_a_deployment_takes_it_back",
        "        Alarms: [!Ref WorkerErrorsAlarm]",
        "        Alarms: [!Ref DeadLettersAlarm]",
    ),
)
