"""Permissions: the scopes of routes, the scopes of clients, and the roles of functions."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import pytest

from local.intrinsics import Resolver
from message_handler.cli import login
from message_handler.http.console import SCOPES
from message_handler.settings import Settings
from tests.template.conftest import TEMPLATE, Expanded

MESSAGES, ADMIN = "message-handler/messages", "message-handler/admin"
OWNER = "message-handler/deployment"

#: Statements for all resources, each with the reason why AWS has no narrower one.
WITHOUT_A_NARROWER_RESOURCE = {
    "SendTraces": "X-Ray has no resources for it",
    "LetLambdaEnterTheNetwork": "network interfaces that don't exist yet",
    "LookAtAlarms": "lists",
    "FindTheFlowLog": "lists",
}
#: Statements whose resource ends with a wildcard.
OPEN_ENDED = {
    "ReadTokensOfProviders": "secrets that operators make later, by their prefix",
    "MoveAliases": "a function's own versions and aliases",
}


#: These routes have no tenant's data.
OPEN = {"/health", "/console", "/console/settings.json", "/console/{file}"}


def operations(expanded: Expanded) -> dict[tuple[str, str], list[dict[str, list[str]]]]:
    (api,) = expanded.of_type("AWS::ApiGateway::RestApi").values()
    return {
        (method.upper(), path): operation.get("security", [])
        for path, methods in api["Body"]["paths"].items()
        for method, operation in methods.items()
    }


class TestRoutes:
    def test_each_but_health_and_the_page_asks_for_a_token_with_its_scope(self, expanded: Expanded) -> None:
        for (method, path), security in operations(expanded).items():
            if path in OPEN:
                assert (method, security) == ("GET", [{"NONE": []}])
            else:
                scope = ADMIN if path.startswith("/admin/") else MESSAGES
                assert security == [{"Tokens": [scope]}], (method, path)

    def test_the_authoriser_is_the_user_pool(self, expanded: Expanded) -> None:
        (api,) = expanded.of_type("AWS::ApiGateway::RestApi").values()
        schemes = api["Body"]["components"]["securitySchemes"]
        assert list(schemes) == ["Tokens"]
        authoriser = schemes["Tokens"]
        assert authoriser["x-amazon-apigateway-authtype"] == "cognito_user_pools"
        assert authoriser["x-amazon-apigateway-authorizer"]["providerARNs"] == [{"Fn::GetAtt": ["UserPool", "Arn"]}]
        assert authoriser["name"] == "Authorization"

    def test_the_functions_ask_for_it_too(self, expanded: Expanded) -> None:
        for function in expanded.resolved("AWS::Lambda::Function").values():
            assert function["Environment"]["Variables"]["AUTH_REQUIRED"] == "true"


def address_of(expanded: Expanded, output: str, **parameters: str) -> str:
    return str(Resolver(expanded.document, parameters, "").resolve(expanded.document["Outputs"][output]["Value"]))


class TestAddress:
    OWN: ClassVar = {
        "ApiDomainName": "api.clinic.example",
        "ApiCertificateArn": "arn:aws:acm:eu-central-1:123456789012:certificate/4f3c",
    }

    def test_no_address_accepts_a_handshake_below_tls_1_2(self, expanded: Expanded) -> None:
        (api,) = expanded.resolved("AWS::ApiGateway::RestApi").values()
        (domain,) = expanded.resolved("AWS::ApiGateway::DomainName", **self.OWN).values()
        for address in (api, domain):
            assert address["SecurityPolicy"].startswith("SecurityPolicy_TLS13_1_2_")
            assert address["EndpointAccessMode"] == "STRICT"
            assert address["EndpointConfiguration"]["Types"] == ["REGIONAL"]

    def test_with_a_domain_of_ones_own_api_gateways_address_is_off(self, expanded: Expanded) -> None:
        for parameters, off in (({}, False), (self.OWN, True)):
            (api,) = expanded.resolved("AWS::ApiGateway::RestApi", **parameters).values()
            (server,) = api["Body"]["servers"]
            configured = server["x-amazon-apigateway-endpoint-configuration"]
            assert configured["disableExecuteApiEndpoint"] is off

    def test_a_domain_of_ones_own_is_the_stage_and_the_console_is_there(self, expanded: Expanded) -> None:
        assert not expanded.resolved("AWS::ApiGateway::DomainName")
        (domain,) = expanded.resolved("AWS::ApiGateway::DomainName", **self.OWN).values()
        assert (domain["DomainName"], domain["RegionalCertificateArn"]) == tuple(self.OWN.values())
        (mapping,) = expanded.resolved("AWS::ApiGateway::BasePathMapping", **self.OWN).values()
        assert mapping == {"DomainName": "ApiDomain", "RestApiId": "Api", "Stage": "ApiStage"}
        assert address_of(expanded, "ApiUrl", **self.OWN) == "https://api.clinic.example"
        client = expanded.resolved("AWS::Cognito::UserPoolClient", **self.OWN)["OperatorClient"]
        assert address_of(expanded, "ConsoleUrl", **self.OWN) == client["CallbackURLs"][0] == client["LogoutURLs"][0]
        assert client["CallbackURLs"][0] == "https://api.clinic.example/console"

    def test_domain_and_certificate_need_each_other(self, expanded: Expanded) -> None:
        rule = expanded.document["Rules"]["YourOwnDomainHasACertificate"]["Assertions"][0]["Assert"]
        conditions = expanded.document | {"Conditions": {"Holds": rule}}
        for given in ({}, self.OWN, *({name: value} for name, value in self.OWN.items())):
            holds = Resolver(conditions, given, "").exists({"Condition": "Holds"})
            assert holds is (len(given) != 1), given


class TestRefusals:
    def test_the_gateways_own_are_counted_by_their_reason(self, expanded: Expanded) -> None:
        (refusals,) = expanded.resolved("AWS::Logs::MetricFilter").values()
        assert refusals["LogGroupName"] == "ApiAccessLogGroup"
        assert refusals["FilterPattern"] == '{ ($.status = "401" || $.status = "403") && $.responseType != "-" }'
        (metric,) = refusals["MetricTransformations"]
        assert (metric["MetricName"], metric["Dimensions"]) == (
            "GatewayRefusals",
            [{"Key": "reason", "Value": "$.responseType"}],
        )
        (stage,) = expanded.of_type("AWS::ApiGateway::Stage").values()
        assert '"status":"$context.status"' in stage["AccessLogSetting"]["Format"]
        assert '"responseType":"$context.error.responseType"' in stage["AccessLogSetting"]["Format"]


class TestClients:
    def test_a_platform_gets_tokens_for_its_own_messages_only(self, expanded: Expanded) -> None:
        client = expanded.resolved("AWS::Cognito::UserPoolClient")["PlatformClient"]
        assert client["GenerateSecret"] is True
        assert client["AllowedOAuthFlows"] == ["client_credentials"]
        assert client["AllowedOAuthScopes"] == [MESSAGES, "tenant/default"]

    def test_operators_sign_in_with_a_code_and_no_secret(self, expanded: Expanded) -> None:
        client = expanded.resolved("AWS::Cognito::UserPoolClient")["OperatorClient"]
        assert client["GenerateSecret"] is False
        assert client["AllowedOAuthFlows"] == ["code"]
        assert client["AllowedOAuthScopes"] == ["openid", ADMIN, MESSAGES]

    def test_the_operators_client_has_the_scopes_and_address_of_the_command_line(self, expanded: Expanded) -> None:
        client = expanded.resolved("AWS::Cognito::UserPoolClient")["OperatorClient"]
        assert login.CALLBACK_URL in client["CallbackURLs"]
        assert login.SCOPES.split() == client["AllowedOAuthScopes"]

    def test_the_operators_client_has_the_scopes_and_address_of_the_console(self, expanded: Expanded) -> None:
        client = expanded.resolved("AWS::Cognito::UserPoolClient", OperatorCallbackUrls="https://a/x,https://b/y")
        address = "https://Api.execute-api.us-east-1.amazonaws.com/v1/console"
        assert client["OperatorClient"]["CallbackURLs"] == [address, "https://a/x", "https://b/y"]
        assert client["OperatorClient"]["LogoutURLs"] == client["OperatorClient"]["CallbackURLs"]
        assert list(SCOPES) == client["OperatorClient"]["AllowedOAuthScopes"]
        (stage,) = expanded.of_type("AWS::ApiGateway::Stage").values()
        assert stage["Variables"]["operatorClient"] == {"Ref": "OperatorClient"}
        (stage,) = expanded.resolved("AWS::ApiGateway::Stage", SignInDomainPrefix="clinic").values()
        assert stage["Variables"]["signIn"] == "https://SignInDomain.auth.us-east-1.amazoncognito.com"
        assert address_of(expanded, "ConsoleUrl") == address

    def test_operators_sign_in_again_after_a_shift_and_can_sign_out(self, expanded: Expanded) -> None:
        client = expanded.resolved("AWS::Cognito::UserPoolClient")["OperatorClient"]
        assert (client["RefreshTokenValidity"], client["TokenValidityUnits"]["RefreshToken"]) == (12, "hours")
        assert client["EnableTokenRevocation"] is True

    @pytest.mark.parametrize("client", ["PlatformClient", "OperatorClient"])
    def test_no_client_gets_a_token_for_a_password_alone(self, expanded: Expanded, client: str) -> None:
        found = expanded.resolved("AWS::Cognito::UserPoolClient")[client]
        assert found["ExplicitAuthFlows"] == ["ALLOW_REFRESH_TOKEN_AUTH"]

    def test_no_client_changes_limits_before_the_owner_makes_one(self, expanded: Expanded) -> None:
        for client in expanded.resolved("AWS::Cognito::UserPoolClient").values():
            assert OWNER not in client["AllowedOAuthScopes"]

    def test_the_scopes_exist(self, expanded: Expanded) -> None:
        servers = expanded.resolved("AWS::Cognito::UserPoolResourceServer").values()
        defined = {f"{server['Identifier']}/{scope['ScopeName']}" for server in servers for scope in server["Scopes"]}
        assert defined == {MESSAGES, ADMIN, OWNER, "tenant/default"}
        (group,) = expanded.resolved("AWS::Cognito::UserPoolGroup").values()
        assert group["GroupName"] in defined  # people are members of what servers have as a scope


def statements(expanded: Expanded, role: str) -> list[dict[str, Any]]:
    """The statements of our policies for a role."""
    parameters = {"BedrockModelArns": "arn:aws:bedrock:us-east-1::foundation-model/m"}
    policies = expanded.resolved("AWS::IAM::ManagedPolicy", **parameters)
    attached = expanded.resolved("AWS::IAM::Role", **parameters)[role]["ManagedPolicyArns"]
    found = [it for policy in attached if policy in policies for it in policies[policy]["PolicyDocument"]["Statement"]]
    return [it for it in found if it["Effect"] == "Allow"]


def allowed(expanded: Expanded, function: str, service: str) -> set[tuple[str, str]]:
    """The resources and actions of an AWS service that a function may use."""
    role = expanded.of_type("AWS::Lambda::Function")[function]["Role"]["Fn::GetAtt"][0]
    return {
        (resource.rpartition(":")[2], action)
        for it in statements(expanded, role)
        for action in _listed(it["Action"])
        for resource in _listed(it["Resource"])
        if action.startswith(f"{service}:")
    }


def _listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


class TestRoles:
    def test_each_function_has_its_own(self, expanded: Expanded) -> None:
        roles = {it["Role"]["Fn::GetAtt"][0] for it in expanded.of_type("AWS::Lambda::Function").values()}
        assert roles == {"IntakeFunctionRole", "StatusFunctionRole", "WorkerFunctionRole", "AdminFunctionRole"}

    def test_the_queues_are_for_who_needs_them(self, expanded: Expanded) -> None:
        aside = {("FailedInvocationQueue", "sqs:SendMessage")}
        assert allowed(expanded, "IntakeFunction", "sqs") == aside | {
            ("JobQueue", "sqs:SendMessage"),
            ("DeliveryQueue", "sqs:SendMessage"),
        }
        assert allowed(expanded, "StatusFunction", "sqs") == aside
        assert allowed(expanded, "WorkerFunction", "sqs") == aside | {
            ("JobQueue", "sqs:ReceiveMessage"),
            ("JobQueue", "sqs:DeleteMessage"),
            ("JobQueue", "sqs:GetQueueAttributes"),
            ("JobQueue", "sqs:SendMessage"),
            ("JobQueue", "sqs:ChangeMessageVisibility"),
            ("DeliveryQueue", "sqs:ReceiveMessage"),
            ("DeliveryQueue", "sqs:DeleteMessage"),
            ("DeliveryQueue", "sqs:GetQueueAttributes"),
            ("DeliveryQueue", "sqs:SendMessage"),
            ("DeliveryQueue", "sqs:ChangeMessageVisibility"),
        }
        assert allowed(expanded, "AdminFunction", "sqs") == aside | {
            ("JobQueue", "sqs:SendMessage"),
            ("JobQueue", "sqs:GetQueueAttributes"),
            ("DeliveryQueue", "sqs:SendMessage"),
            ("DeadLetterQueue", "sqs:ReceiveMessage"),
            ("DeadLetterQueue", "sqs:DeleteMessage"),
            ("DeadLetterQueue", "sqs:GetQueueAttributes"),
        }

    def test_the_worker_alone_asks_providers_and_reads_their_tokens(self, expanded: Expanded) -> None:
        for function in ("IntakeFunction", "StatusFunction", "AdminFunction"):
            assert allowed(expanded, function, "bedrock") == set()
            assert allowed(expanded, function, "secretsmanager") == set()
        assert allowed(expanded, "WorkerFunction", "secretsmanager") == {
            ("message-handler/*", "secretsmanager:GetSecretValue")
        }
        assert allowed(expanded, "WorkerFunction", "bedrock") == {
            ("foundation-model/m", "bedrock:InvokeModelWithResponseStream"),
            ("guardrail/*", "bedrock:ApplyGuardrail"),
            ("guardrail-profile/*", "bedrock:ApplyGuardrail"),
        }

    def test_a_model_of_bedrock_may_be_asked_only_where_one_is_named(self, expanded: Expanded) -> None:
        policy = expanded.resolved("AWS::IAM::ManagedPolicy")["WorkerPolicy"]
        assert "bedrock" not in str(policy)
        assert "AskModels" in str(expanded.resolved("AWS::IAM::ManagedPolicy", BedrockModelArns="arn")["WorkerPolicy"])
        assert "BedrockEndpoint" not in expanded.resolved("AWS::EC2::SecurityGroup")

    def test_each_function_signs_in_to_the_stores_as_one_user_of_one_store(self, expanded: Expanded) -> None:
        for function in expanded.of_type("AWS::Lambda::Function"):
            assert allowed(expanded, function, "elasticache") == {
                ("Cache", "elasticache:Connect"),
                ("CacheUser", "elasticache:Connect"),
            }
            (sign_in,) = allowed(expanded, function, "rds-db")
            assert sign_in == ("prx-0123/message_handler", "rds-db:connect")
        (function, *_) = expanded.resolved("AWS::Lambda::Function").values()
        assert function["Environment"]["Variables"]["DATABASE_URL"].startswith("postgresql://message_handler@")

    def test_passwords_of_stores_brought_along_are_read_where_they_are_named(self, expanded: Expanded) -> None:
        arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:redis-AbCdEf"
        own = {"CreateRedis": "false", "CreateDatabase": "false", "RedisSecretArn": arn}
        policy = expanded.resolved("AWS::IAM::ManagedPolicy", **own)["FunctionPolicy"]
        (read,) = [it for it in policy["PolicyDocument"]["Statement"] if "secretsmanager" in str(it["Action"])]
        assert read["Resource"] == arn
        assert "connect" not in str(policy).lower()

    def test_no_statement_is_wider_than_it_must_be(self, expanded: Expanded) -> None:
        """A wide statement has its reason, here and in the template."""
        lines = TEMPLATE.read_text(encoding="utf-8").splitlines()
        for name, policy in expanded.resolved("AWS::IAM::ManagedPolicy", NatGateways="true").items():
            for statement in policy["PolicyDocument"]["Statement"]:
                sid = statement["Sid"]
                assert not [action for action in _listed(statement["Action"]) if "*" in action], (name, sid)
                if statement["Effect"] == "Deny":
                    continue
                resources = [str(resource) for resource in _listed(statement["Resource"])]
                if "*" in resources:
                    assert sid in WITHOUT_A_NARROWER_RESOURCE
                    (begin,) = [n for n, line in enumerate(lines) if line.strip().startswith(f"- Sid: {sid}")]
                    (said,) = [line for line in lines[begin : begin + 12] if "Resource: '*'" in line][:1]
                    assert "#" in said, sid
                elif any("*" in resource for resource in resources):
                    assert sid in OPEN_ENDED

    def test_what_lambda_may_do_with_the_network_its_code_may_not(self, expanded: Expanded) -> None:
        policy = expanded.resolved("AWS::IAM::ManagedPolicy")["FunctionPolicy"]
        found = {it["Sid"]: it for it in policy["PolicyDocument"]["Statement"]}
        denied = found["ButNotTheCodeItself"]
        assert denied["Effect"] == "Deny"
        assert denied["Action"] == found["LetLambdaEnterTheNetwork"]["Action"]
        assert "lambda:SourceFunctionArn" in str(denied["Condition"])

    def test_policies_of_aws_own_are_for_aws_own_services(self, expanded: Expanded) -> None:
        foreign = {
            (name, arn.rpartition("/")[2])
            for name, role in expanded.resolved("AWS::IAM::Role").items()
            for arn in role.get("ManagedPolicyArns", ())
            if "iam::aws" in arn
        }
        assert foreign == {
            ("ApiGatewayLogRole", "AmazonAPIGatewayPushToCloudWatchLogs"),
            ("DatabaseMonitoringRole", "AmazonRDSEnhancedMonitoringRole"),
        }


class TestEnvironment:
    @pytest.mark.parametrize("own", [{}, {"CreateRedis": "false", "CreateDatabase": "false"}])
    def test_holds_nothing_secret(self, expanded: Expanded, own: dict[str, str]) -> None:
        for function in expanded.resolved("AWS::Lambda::Function", **own).values():
            variables = function["Environment"]["Variables"]
            assert not [name for name in variables if re.search("PASSWORD|TOKEN|CREDENTIAL|KEY$", name)]
            for name, value in variables.items():
                if "SECRET" in name:
                    assert name in (
                        "REDIS_SECRET_ARN",
                        "DATABASE_SECRET_ARN",
                        "ALLOW_LITERAL_SECRETS",
                        "SECRETS_PREFIX",
                        "SECRETS_ARN_PREFIX",
                    )
                assert not re.match(r"\w+://[^/@]*:[^/@]*@", str(value)), name  # user:password@

    def test_no_parameter_asks_for_a_secret(self, expanded: Expanded) -> None:
        for name, parameter in expanded.document["Parameters"].items():
            assert "NoEcho" not in parameter, name
            assert not re.search("Password|Token", name), name

    def test_a_store_brought_along_needs_its_secret_beside_its_address(self, expanded: Expanded) -> None:
        (assertions,) = [it["Assertions"] for name, it in expanded.document["Rules"].items() if "Passwords" in name]
        needed = {it["Assert"]["Fn::Or"][2]["Fn::Not"][0]["Fn::Equals"][0]["Ref"] for it in assertions}
        assert needed == {"DatabaseSecretArn", "RedisSecretArn"}

    def test_literal_secrets_are_refused(self, expanded: Expanded) -> None:
        for function in expanded.resolved("AWS::Lambda::Function").values():
            assert function["Environment"]["Variables"]["ALLOW_LITERAL_SECRETS"] == "false"

    def test_can_be_read_by_the_functions(self, expanded: Expanded) -> None:
        for function in expanded.resolved("AWS::Lambda::Function").values():
            variables = function["Environment"]["Variables"]
            cache = variables["REDIS_IAM_CACHE"].lower()  # ElastiCache makes the name lower case
            settings = Settings.from_environment(variables | {"REDIS_IAM_CACHE": cache})
            assert settings.job_queue_url == "https://sqs/JobQueue"
            assert settings.redis_url is not None
            assert settings.redis_url.get_secret_value() == "rediss://CacheUser@Cache.PrimaryEndPoint.Address:6379/0"


#: Addresses of the customer's own stores. A change of one makes no new version: it is live with the next release.
LATER = {"RedisUrl", "RedisCluster", "RedisSecretArn", "DatabaseUrl", "DatabaseSecretArn"}


class TestVersions:
    """Calls go to an alias. A change of a parameter alone must make a new version, or it would never be live."""

    def test_each_parameter_of_a_function_makes_a_new_version_of_it(self, expanded: Expanded) -> None:
        versions = expanded.of_type("AWS::Lambda::Version")
        for name, function in expanded.of_type("AWS::Lambda::Function").items():
            (version,) = [it for it in versions.values() if it["FunctionName"] == {"Ref": name}]
            described = set(re.findall(r"\$\{(\w+)\}", version["Description"]["Fn::Sub"]))
            used = set(re.findall(r"'Ref': '(\w+)'", str(function["Environment"])))
            used &= expanded.document["Parameters"].keys() - LATER
            assert used <= described, name

    def test_a_description_fits(self, expanded: Expanded) -> None:
        longest = {"LogLevel": 8, "MaxWaitSeconds": 2, "SimulatedAiDelayMs": 13, "RequireSafety": 5, "SimulatedAi": 5}
        longest |= {"MaxWaitsPerTenant": 5, "MaxWaits": 5, "RateLimitPerMinute": 7}
        parameters = expanded.document["Parameters"]
        assert max(map(len, parameters["LogLevel"]["AllowedValues"])) == longest["LogLevel"]
        for version in expanded.of_type("AWS::Lambda::Version").values():
            text = version["Description"]["Fn::Sub"]
            for name in re.findall(r"\$\{(\w+)\}", text):
                text = text.replace(f"${{{name}}}", "x" * longest.get(name, parameters[name].get("MaxLength", 0)))
            assert len(text) <= 256

    def test_the_tables_come_before_the_code_that_needs_them(self, expanded: Expanded) -> None:
        migration = expanded.resources["Migration"]
        assert migration["Properties"]["ServiceToken"] == {"Fn::GetAtt": ["AdminFunction", "Arn"]}
        (layer,) = expanded.of_type("AWS::Lambda::LayerVersion")
        assert migration["Properties"]["Release"] == {"Ref": layer}
        functions = expanded.of_type("AWS::Lambda::Function")
        waiting = {name for name, it in functions.items() if "{'Ref': 'Migration'}" in str(it["Tags"])}
        assert waiting == {
            "IntakeFunction",
            "StatusFunction",
            "WorkerFunction",
        }  # the admin function updates the tables itself

    def test_the_way_to_the_database_is_there_before_the_tables(self, expanded: Expanded) -> None:
        named = set(re.findall(r"'Ref': '(\w+)'", str(expanded.resources["Migration"]["Properties"])))
        assert named >= {
            "DatabaseProxyTargets", "DatabaseProxyFromFunctions", "DatabaseFromProxy", "S3Endpoint",
            "PrivateSubnetARoutes", "PrivateSubnetBRoutes",
        }  # fmt: skip
