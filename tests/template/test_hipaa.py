"""The rules of cdk-nag's pack HIPAA.Security that apply to this stack, over the expanded template.

The names are the pack's own. Each rule on a kind of resource in this stack is here. It is a check of all resources of
the kind, or an exception with its reason. The template is resolved as for production, with NAT gateways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from tests.template.conftest import Expanded

Properties = Mapping[str, Any]
YEAR = 365


def every(kind: str, holds: Callable[[Properties], bool]) -> Callable[[Expanded], Iterable[str]]:
    """A check that names the resources of a kind that break the rule. There must be at least one of the kind."""

    def broken(expanded: Expanded) -> Iterable[str]:
        found = expanded.resolved(kind, NatGateways="true")
        assert found, f"there is no {kind} to look at"
        return [name for name, properties in found.items() if not holds(properties)]

    return broken


def settings(stage: Properties) -> list[Any]:
    assert stage["MethodSettings"]
    return list(stage["MethodSettings"])


def allows_everything(policy: Properties) -> bool:
    statements = [it for it in policy["PolicyDocument"]["Statement"] if it["Effect"] == "Allow"]
    actions = [action for it in statements for action in listed(it["Action"])]
    return any(action == "*" or action.endswith(":*") for action in actions)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def is_closed(group: Properties) -> bool:
    """Whether the group lets in no address. Separate resources let named groups in."""
    return not group.get("SecurityGroupIngress")


def is_from_a_group(rule: Properties) -> bool:
    return "SourceSecurityGroupId" in rule and not {"CidrIp", "CidrIpv6"} & rule.keys()


RULES: dict[str, Callable[[Expanded], Iterable[str]]] = {
    "APIGWExecutionLoggingEnabled": every(
        "AWS::ApiGateway::Stage", lambda it: all(method["LoggingLevel"] in ("ERROR", "INFO") for method in settings(it))
    ),
    "CloudWatchAlarmAction": every("AWS::CloudWatch::Alarm", lambda it: bool(it["AlarmActions"])),
    "CloudWatchLogGroupEncrypted": every("AWS::Logs::LogGroup", lambda it: it["KmsKeyId"].endswith(":Key")),
    "CloudWatchLogGroupRetentionPeriod": every("AWS::Logs::LogGroup", lambda it: int(it["RetentionInDays"]) >= YEAR),
    "EC2RestrictedCommonPorts": every("AWS::EC2::SecurityGroup", is_closed),
    "EC2RestrictedSSH": every("AWS::EC2::SecurityGroupIngress", is_from_a_group),
    "ElastiCacheRedisClusterAutomaticBackup": every(
        "AWS::ElastiCache::ReplicationGroup", lambda it: it["SnapshotRetentionLimit"] >= 1
    ),
    "IAMNoInlinePolicy": every("AWS::IAM::Role", lambda it: not it.get("Policies")),
    "IAMPolicyNoStatementsWithAdminAccess": every("AWS::IAM::ManagedPolicy", lambda it: not allows_everything(it)),
    "IAMPolicyNoStatementsWithFullAccess": every("AWS::IAM::ManagedPolicy", lambda it: not allows_everything(it)),
    "LambdaConcurrency": every("AWS::Lambda::Function", lambda it: int(it["ReservedConcurrentExecutions"]) > 0),
    "LambdaDLQ": every("AWS::Lambda::Function", lambda it: bool(it["DeadLetterConfig"]["TargetArn"])),
    "LambdaInsideVPC": every(
        "AWS::Lambda::Function",
        lambda it: len(it["VpcConfig"]["SubnetIds"]) == 2 and it["VpcConfig"]["SecurityGroupIds"],
    ),
    "RDSAutomaticMinorVersionUpgradeEnabled": every(
        "AWS::RDS::DBInstance", lambda it: it["AutoMinorVersionUpgrade"] is True
    ),
    "RDSEnhancedMonitoringEnabled": every("AWS::RDS::DBInstance", lambda it: it["MonitoringInterval"] > 0),
    "RDSInstanceBackupEnabled": every("AWS::RDS::DBInstance", lambda it: int(it["BackupRetentionPeriod"]) > 0),
    "RDSInstanceDeletionProtectionEnabled": every("AWS::RDS::DBInstance", lambda it: it["DeletionProtection"] is True),
    "RDSInstancePublicAccess": every("AWS::RDS::DBInstance", lambda it: it["PubliclyAccessible"] is False),
    "RDSLoggingEnabled": every(
        "AWS::RDS::DBInstance", lambda it: it["EnableCloudwatchLogsExports"] == ["postgresql", "upgrade"]
    ),
    "RDSMultiAZSupport": every("AWS::RDS::DBInstance", lambda it: it["MultiAZ"] is True),
    "RDSStorageEncrypted": every("AWS::RDS::DBInstance", lambda it: it["StorageEncrypted"] and it["KmsKeyId"]),
    "SNSEncryptedKMS": every("AWS::SNS::Topic", lambda it: it["KmsMasterKeyId"] == "Key"),
    "VPCFlowLogsEnabled": every(
        "AWS::EC2::FlowLog",
        lambda it: (it["ResourceId"], it["ResourceType"], it["TrafficType"]) == ("Vpc", "VPC", "ALL"),
    ),
    "VPCSubnetAutoAssignPublicIpDisabled": lambda expanded: [
        name for name, it in expanded.of_type("AWS::EC2::Subnet").items() if it["MapPublicIpOnLaunch"] is not False
    ],
    "WAFv2LoggingEnabled": lambda expanded: (
        expanded.resolved("AWS::WAFv2::WebACL").keys()
        - {
            it["ResourceArn"].rpartition(":")[2]
            for it in expanded.resolved("AWS::WAFv2::LoggingConfiguration").values()
        }
    ),
}

EXCEPTIONS = {
    "APIGWCacheEnabledAndEncrypted": "a cache would keep patients' replies; no route may be answered from one",
    "APIGWSSLEnabled": "a client certificate tells an HTTP backend who asks; functions are asked by their permissions",
    "APIGWXrayEnabled": "a trace has the path of a request, and a conversation's id may be a telephone number",
    "RDSInBackupPlan": "RDS' own backups restore to any second of 35 days; a plan of AWS Backup is the account's",
    "SecretsManagerRotationEnabled": "the only secret is RDS' own, which RDS replaces every week",
    "SecretsManagerUsingKMSKey": "the only secret is RDS' own, made with the stack's key (MasterUserSecret)",
    "VPCDefaultSecurityGroupClosed": "CloudFormation can't change a network's default group; nothing is in it",
    "VPCNoUnrestrictedRouteToIGW": "the public subnets have one, and nothing but the NAT gateways in them",
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds(expanded: Expanded, rule: str) -> None:
    assert list(RULES[rule](expanded)) == []


def test_no_rule_is_both_kept_and_excepted() -> None:
    assert not RULES.keys() & EXCEPTIONS.keys()


class TestExceptions:
    """The reasons of the exceptions are true."""

    def test_no_route_is_answered_from_a_cache(self, expanded: Expanded) -> None:
        (stage,) = expanded.resolved("AWS::ApiGateway::Stage").values()
        assert stage["CacheClusterEnabled"] is False
        assert all(method["CachingEnabled"] is False for method in settings(stage))

    def test_a_database_can_be_restored_to_any_second_of_35_days(self, expanded: Expanded) -> None:
        (database,) = expanded.resolved("AWS::RDS::DBInstance").values()
        assert int(database["BackupRetentionPeriod"]) == 35
        assert {it["DeletionPolicy"] for it in expanded.resources.values() if it["Type"] == "AWS::RDS::DBInstance"} == {
            "Snapshot"
        }

    def test_the_only_secret_is_rds_own(self, expanded: Expanded) -> None:
        assert not expanded.of_type("AWS::SecretsManager::Secret")
        (database,) = expanded.resolved("AWS::RDS::DBInstance").values()
        assert database["ManageMasterUserPassword"] is True
        assert "MasterUserPassword" not in database
        assert database["MasterUserSecret"]["KmsKeyId"].endswith(":Key")

    def test_only_nat_gateways_are_in_public_subnets(self, expanded: Expanded) -> None:
        to_the_internet = {
            route["RouteTableId"]
            for route in expanded.resolved("AWS::EC2::Route", NatGateways="true").values()
            if "GatewayId" in route
        }
        associations = expanded.resolved("AWS::EC2::SubnetRouteTableAssociation", NatGateways="true").values()
        public = {it["SubnetId"] for it in associations if it["RouteTableId"] in to_the_internet}
        assert public == {"PublicSubnetA", "PublicSubnetB"}
        users = {
            name
            for name, resource in expanded.resources.items()
            if any(f'"Ref": "{subnet}"' in str(resource).replace("'", '"') for subnet in public)
        }
        assert users == {"NatGatewayA", "NatGatewayB", "PublicSubnetARoutes", "PublicSubnetBRoutes"}


# ── Beyond the pack ──────────────────────────────────────────────────────────────────────────────


def test_the_key_is_replaced_every_year(expanded: Expanded) -> None:
    (key,) = expanded.resolved("AWS::KMS::Key").values()
    assert key["EnableKeyRotation"] is True


def test_the_key_is_used_by_no_service_of_another_account(expanded: Expanded) -> None:
    (key,) = expanded.resolved("AWS::KMS::Key").values()
    services = [it for it in key["KeyPolicy"]["Statement"] if "Service" in it["Principal"]]
    assert len(services) == 2
    assert all("123456789012" in str(it["Condition"]) for it in services)


def test_redis_is_encrypted_wherever_it_is_and_opens_for_one_user(expanded: Expanded) -> None:
    (cache,) = expanded.resolved("AWS::ElastiCache::ReplicationGroup").values()
    assert cache["TransitEncryptionEnabled"] is True
    assert cache["TransitEncryptionMode"] == "required"
    assert cache["AtRestEncryptionEnabled"] is True
    assert cache["KmsKeyId"].endswith(":Key")
    assert (cache["AutomaticFailoverEnabled"], cache["MultiAZEnabled"], cache["NumCacheClusters"]) == (True, True, 2)
    assert cache["UserGroupIds"] == ["CacheUserGroup"]
    (group,) = expanded.resolved("AWS::ElastiCache::UserGroup").values()
    assert group["UserIds"] == ["CacheUser"]
    (user,) = expanded.resolved("AWS::ElastiCache::User").values()
    assert user["AuthenticationMode"] == {"Type": "iam"}
    assert user["UserId"] == user["UserName"]


def test_redis_forgets_no_lock_to_make_room(expanded: Expanded) -> None:
    (group,) = expanded.resolved("AWS::ElastiCache::ParameterGroup").values()
    assert group["Properties"] == {"maxmemory-policy": "noeviction"}


def test_postgres_is_reached_through_a_proxy_with_tls_and_iam_only(expanded: Expanded) -> None:
    (proxy,) = expanded.resolved("AWS::RDS::DBProxy").values()
    assert proxy["RequireTLS"] is True
    assert proxy["DebugLogging"] is False
    assert [it["IAMAuth"] for it in proxy["Auth"]] == ["REQUIRED"]
    ingress = expanded.resolved("AWS::EC2::SecurityGroupIngress").values()
    assert [it["SourceSecurityGroupId"] for it in ingress if it["GroupId"] == "DatabaseSecurityGroup"] == [
        "DatabaseProxySecurityGroup"
    ]


def test_postgres_writes_no_rows_and_values_into_its_log(expanded: Expanded) -> None:
    (group,) = expanded.resolved("AWS::RDS::DBParameterGroup").values()
    quiet = {"log_error_verbosity": "terse", "log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0"}
    assert group["Parameters"].items() >= {"rds.force_ssl": "1", **quiet}.items()


def test_logs_of_aws_are_ours_too(expanded: Expanded) -> None:
    """A service that finds no log group makes one, without the key and without an end."""
    groups = {it["LogGroupName"] for it in expanded.resolved("AWS::Logs::LogGroup").values()}
    (database,) = expanded.resolved("AWS::RDS::DBInstance").values()
    (proxy,) = expanded.resolved("AWS::RDS::DBProxy").values()
    for export in database["EnableCloudwatchLogsExports"]:
        assert f"/aws/rds/instance/{database['DBInstanceIdentifier']}/{export}" in groups
    assert f"/aws/rds/proxy/{proxy['DBProxyName']}" in groups
    assert "API-Gateway-Execution-Logs_Api/v1" in groups
    stage = expanded.resources["ApiStage"]["Properties"]
    assert stage["Variables"]["executionLogGroup"] == {"Ref": "ApiExecutionLogGroup"}  # the group first


def test_queues_and_topic_are_reached_by_tls_only(expanded: Expanded) -> None:
    (policy,) = expanded.resolved("AWS::SQS::QueuePolicy").values()
    assert {url.rpartition("/")[2] for url in policy["Queues"]} == set(expanded.of_type("AWS::SQS::Queue"))
    (topic,) = expanded.resolved("AWS::SNS::TopicPolicy").values()
    for document in (policy["PolicyDocument"], topic["PolicyDocument"]):
        (denied,) = [it for it in document["Statement"] if it["Effect"] == "Deny"]
        assert (denied["Principal"], denied["Condition"]) == ("*", {"Bool": {"aws:SecureTransport": "false"}})


def test_no_trace_has_the_path_of_a_request(expanded: Expanded) -> None:
    (stage,) = expanded.resolved("AWS::ApiGateway::Stage").values()
    assert stage["TracingEnabled"] is False


def test_access_logs_name_no_conversation(expanded: Expanded) -> None:
    """`$context.path` and the like would: a path has the conversation's id, and a query may have any text."""
    (stage,) = expanded.resolved("AWS::ApiGateway::Stage").values()
    logged = set(re.findall(r"\$context\.[A-Za-z_.]+", stage["AccessLogSetting"]["Format"]))
    assert logged == {
        "$context.requestId", "$context.requestTime", "$context.httpMethod", "$context.resourcePath", "$context.status",
        "$context.error.responseType", "$context.authorizer.claims.client_id", "$context.authorizer.claims.sub",
        "$context.identity.sourceIp", "$context.responseLatency", "$context.integrationLatency",
        "$context.wafResponseCode",
    }  # fmt: skip
    assert "\n" not in stage["AccessLogSetting"]["Format"]
    assert all(method["DataTraceEnabled"] is False for method in settings(stage))
    assert all(method["LoggingLevel"] == "ERROR" for method in settings(stage))  # INFO has the paths


def test_the_firewall_keeps_no_patients_words(expanded: Expanded) -> None:
    (acl,) = expanded.resolved("AWS::WAFv2::WebACL").values()
    visible = [acl["VisibilityConfig"], *[rule["VisibilityConfig"] for rule in acl["Rules"]]]
    assert all(it["SampledRequestsEnabled"] is False for it in visible)
    (logging,) = expanded.resolved("AWS::WAFv2::LoggingConfiguration").values()
    redacted = [next(iter(field)) for field in logging["RedactedFields"]]
    assert redacted == ["UriPath", "QueryString", "SingleHeader"]
    assert logging["RedactedFields"][2] == {"SingleHeader": {"Name": "authorization"}}


def test_the_firewall_refuses_no_patient_for_a_text(expanded: Expanded) -> None:
    """A patient who sends `<script>` or 100 kB gets an answer, and no 403."""
    (acl,) = expanded.resolved("AWS::WAFv2::WebACL").values()
    (common,) = [rule for rule in acl["Rules"] if rule["Name"] == "Common"]
    overrides = common["Statement"]["ManagedRuleGroupStatement"]["RuleActionOverrides"]
    counted = {it["Name"] for it in overrides if it["ActionToUse"] == {"Count": {}}}
    # All rules of AWSManagedRulesCommonRuleSet on bodies, from AWS WAF's page "Baseline rule groups".
    assert counted >= {
        "SizeRestrictions_BODY", "CrossSiteScripting_BODY", "GenericLFI_BODY", "GenericRFI_BODY",
        "EC2MetaDataSSRF_BODY",
    }  # fmt: skip
    (rate,) = [rule["Statement"]["RateBasedStatement"] for rule in acl["Rules"] if "Block" in rule.get("Action", {})]
    assert (rate["AggregateKeyType"], rate["Limit"]) == ("IP", 30000)


def test_the_firewall_stands_before_the_stage(expanded: Expanded) -> None:
    (association,) = expanded.resolved("AWS::WAFv2::WebACLAssociation").values()
    assert association["ResourceArn"] == "arn:aws:apigateway:us-east-1::/restapis/Api/stages/ApiStage"


def test_only_the_worker_gets_out(expanded: Expanded) -> None:
    """Its security group and its subnets' route let it out. The others' routes lead only to S3."""
    functions = expanded.resolved("AWS::Lambda::Function", NatGateways="true")
    routes = expanded.resolved("AWS::EC2::Route", NatGateways="true").values()
    leading_out = {route["RouteTableId"] for route in routes if route["DestinationCidrBlock"] == "0.0.0.0/0"}
    associations = expanded.resolved("AWS::EC2::SubnetRouteTableAssociation", NatGateways="true").values()
    outside = {it["SubnetId"] for it in associations if it["RouteTableId"] in leading_out}
    for name, function in functions.items():
        assert (set(function["VpcConfig"]["SubnetIds"]) <= outside) == (name == "WorkerFunction")
        assert bool(set(function["VpcConfig"]["SubnetIds"]) & outside) == (name == "WorkerFunction")
    groups = expanded.resolved("AWS::EC2::SecurityGroup", NatGateways="true", S3PrefixListId="pl-63a5400a")
    anywhere = {
        name
        for name, group in groups.items()
        if any(
            rule.get("CidrIp") == "0.0.0.0/0" for rule in group.get("SecurityGroupEgress") or [{"CidrIp": "0.0.0.0/0"}]
        )
    }
    assert anywhere == {"WorkerSecurityGroup"}
    in_it = {name for name, it in functions.items() if "WorkerSecurityGroup" in it["VpcConfig"]["SecurityGroupIds"]}
    assert in_it == {"WorkerFunction"}


def test_without_nat_gateways_no_function_gets_out(expanded: Expanded) -> None:
    assert expanded.resolved("AWS::EC2::Route") == {}
    groups = expanded.resolved("AWS::EC2::SecurityGroup", S3PrefixListId="pl-63a5400a").values()
    assert not [rule for group in groups for rule in group["SecurityGroupEgress"] if rule.get("CidrIp") == "0.0.0.0/0"]


def test_redis_and_postgres_let_in_the_functions_alone(expanded: Expanded) -> None:
    let_in = {
        (it["GroupId"], it["SourceSecurityGroupId"], it["FromPort"], it["ToPort"])
        for it in expanded.resolved("AWS::EC2::SecurityGroupIngress").values()
    }
    assert let_in == {
        ("CacheSecurityGroup", "FunctionSecurityGroup", 6379, 6379),
        ("DatabaseProxySecurityGroup", "FunctionSecurityGroup", 5432, 5432),
        ("DatabaseSecurityGroup", "DatabaseProxySecurityGroup", 5432, 5432),
        ("SqsEndpointSecurityGroup", "FunctionSecurityGroup", 443, 443),
        ("SecretsEndpointSecurityGroup", "WorkerSecurityGroup", 443, 443),
    }


def test_what_a_security_group_says_is_what_ec2_accepts(expanded: Expanded) -> None:
    """EC2 refuses an apostrophe in a description, and no scanner checks that."""
    accepted = re.compile(r"[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}")
    groups = expanded.resolved("AWS::EC2::SecurityGroup", NatGateways="true", BedrockModelArns="arn")
    texts = [group["GroupDescription"] for group in groups.values()]
    texts += [rule["Description"] for group in groups.values() for rule in group["SecurityGroupEgress"]]
    texts += [rule["Description"] for rule in expanded.resolved("AWS::EC2::SecurityGroupIngress").values()]
    assert [text for text in texts if not accepted.fullmatch(text)] == []


def test_operators_sign_in_with_long_passwords_and_a_second_factor(expanded: Expanded) -> None:
    (pool,) = expanded.resolved("AWS::Cognito::UserPool").values()
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool["MfaConfiguration"] == "ON"
    assert pool["DeletionProtection"] == "ACTIVE"
    assert (pool["UserPoolTier"], pool["UserPoolAddOns"]) == ("PLUS", {"AdvancedSecurityMode": "ENFORCED"})
    assert pool["Policies"]["PasswordPolicy"]["MinimumLength"] >= 14


OWN_STORES = {"CreateRedis": "false", "CreateDatabase": "false"}
OWN_NETWORK = {
    "CreateVpc": "false", "VpcId": "vpc-1", "PrivateSubnetIds": "subnet-1,subnet-2", "VpcCidr": "10.9.0.0/16",
    "OutgoingSubnetIds": "subnet-3", "StoresSecurityGroupId": "sg-1",
}  # fmt: skip


class TestBroughtAlong:
    """With the customer's own network and stores, the stack makes none."""

    def test_no_network_is_made(self, expanded: Expanded) -> None:
        for kind in ("VPC", "Subnet", "RouteTable", "VPCEndpoint", "NatGateway", "FlowLog"):
            assert expanded.resolved(f"AWS::EC2::{kind}", NatGateways="true", **OWN_NETWORK) == {}

    def test_functions_are_in_its_subnets_and_in_the_stores_group(self, expanded: Expanded) -> None:
        functions = expanded.resolved("AWS::Lambda::Function", **OWN_NETWORK)
        assert {name: it["VpcConfig"]["SubnetIds"] for name, it in functions.items()} == {
            "IntakeFunction": ["subnet-1", "subnet-2"],
            "StatusFunction": ["subnet-1", "subnet-2"],
            "AdminFunction": ["subnet-1", "subnet-2"],
            "WorkerFunction": ["subnet-3"],
        }
        assert all("sg-1" in it["VpcConfig"]["SecurityGroupIds"] for it in functions.values())

    def test_functions_reach_its_endpoints_and_only_the_worker_more(self, expanded: Expanded) -> None:
        groups = expanded.resolved("AWS::EC2::SecurityGroup", S3PrefixListId="pl-1", **OWN_NETWORK, **OWN_STORES)
        assert all(group["VpcId"] == "vpc-1" for group in groups.values())
        out = {
            name: {rule.get("CidrIp") or rule["DestinationPrefixListId"] for rule in group["SecurityGroupEgress"]}
            for name, group in groups.items()
        }
        assert out == {
            "FunctionSecurityGroup": {"10.9.0.0/16"},
            "WorkerSecurityGroup": {"10.9.0.0/16", "0.0.0.0/0"},
            "AdminSecurityGroup": {"pl-1"},
        }

    def test_no_store_is_made(self, expanded: Expanded) -> None:
        kinds = {it["Type"] for it in expanded.resources.values()}
        of_stores = {kind for kind in kinds if kind.startswith(("AWS::RDS", "AWS::ElastiCache"))}
        assert len(of_stores) == 10
        assert [kind for kind in sorted(of_stores) if expanded.resolved(kind, **OWN_STORES)] == []

    def test_tables_are_made_where_there_is_a_database(self, expanded: Expanded) -> None:
        assert expanded.resolved("Custom::Migration")
        assert expanded.resolved("Custom::Migration", DatabaseUrl="postgresql://here/db", **OWN_STORES)
        assert not expanded.resolved("Custom::Migration", **OWN_STORES)
