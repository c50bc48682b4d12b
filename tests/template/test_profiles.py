"""samconfig.toml: the parameters of each profile, and that production is no weaker than the defaults."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from typing import Any, ClassVar

import pytest

from message_handler.drivers.postgres_connection import connector
from message_handler.settings import Settings
from tests.template.conftest import TEMPLATE, Expanded

PROFILES = ("default", "staging", "prod")
GROUPS = "AWS::CloudFormation::Interface"


@pytest.fixture(scope="module")
def samconfig() -> dict[str, Any]:
    return tomllib.loads((TEMPLATE.parent / "samconfig.toml").read_text())


def overrides(samconfig: dict[str, Any], profile: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in samconfig[profile]["deploy"]["parameters"]["parameter_overrides"])


@pytest.mark.parametrize("profile", PROFILES)
class TestEachProfile:
    def test_names_parameters_that_exist_with_values_that_are_allowed(
        self, samconfig: dict[str, Any], parameters: dict[str, Any], profile: str
    ) -> None:
        for name, value in overrides(samconfig, profile).items():
            parameter = parameters[name]
            if allowed := parameter.get("AllowedValues"):
                assert value in map(str, allowed), name
            if pattern := parameter.get("AllowedPattern"):
                assert re.fullmatch(pattern, value), name
            if parameter["Type"] == "Number":
                assert parameter.get("MinValue", 0) <= int(value) <= parameter.get("MaxValue", int(value)), name

    def test_reserves_as_many_workers_as_may_run(
        self, samconfig: dict[str, Any], parameters: dict[str, Any], profile: str
    ) -> None:
        chosen = {name: it.get("Default") for name, it in parameters.items()} | overrides(samconfig, profile)
        running = int(chosen["WorkerMaximumConcurrency"]) + int(chosen["DeliveryMaximumConcurrency"])
        assert int(chosen["WorkerReservedConcurrency"]) >= running

    def test_may_make_the_roles_that_the_template_has(
        self, samconfig: dict[str, Any], expanded: Expanded, profile: str
    ) -> None:
        """CAPABILITY_IAM allows only roles and policies that CloudFormation names."""
        assert samconfig[profile]["deploy"]["parameters"]["capabilities"] == "CAPABILITY_IAM"
        for kind, name in (("Role", "RoleName"), ("ManagedPolicy", "ManagedPolicyName")):
            assert all(name not in it for it in expanded.of_type(f"AWS::IAM::{kind}").values())

    def test_keeps_secrets_and_people_s_data_encrypted(
        self, samconfig: dict[str, Any], expanded: Expanded, profile: str
    ) -> None:
        """It holds for development too, which is smaller but as safe."""
        chosen = overrides(samconfig, profile)
        (database,) = expanded.resolved("AWS::RDS::DBInstance", **chosen).values()
        (cache,) = expanded.resolved("AWS::ElastiCache::ReplicationGroup", **chosen).values()
        assert database["StorageEncrypted"] is cache["AtRestEncryptionEnabled"] is True
        assert database["PubliclyAccessible"] is False
        assert cache["TransitEncryptionMode"] == "required"
        for function in expanded.resolved("AWS::Lambda::Function", **chosen).values():
            assert function["Environment"]["Variables"]["AUTH_REQUIRED"] == "true"


class TestProduction:
    def test_alone_requires_that_patients_in_danger_get_help(
        self, samconfig: dict[str, Any], expanded: Expanded
    ) -> None:
        for profile in PROFILES:
            functions = expanded.resolved("AWS::Lambda::Function", **overrides(samconfig, profile))
            settings = functions["AdminFunction"]["Environment"]["Variables"]
            assert settings["REQUIRE_SAFETY"] == ("true" if profile == "prod" else "false")

    def test_no_simulated_ai_answers_a_patient_except_in_development(
        self, samconfig: dict[str, Any], expanded: Expanded
    ) -> None:
        for profile in PROFILES:
            functions = expanded.resolved("AWS::Lambda::Function", **overrides(samconfig, profile))
            variables = functions["WorkerFunction"]["Environment"]["Variables"]
            assert variables["SIMULATED_AI"] == ("true" if profile == "default" else "false")

    def test_is_the_default_but_for_the_way_out(self, samconfig: dict[str, Any]) -> None:
        assert overrides(samconfig, "prod") == {"NatGateways": "true", "RequireSafety": "true"}

    def test_has_two_of_everything_that_may_fail(self, samconfig: dict[str, Any], expanded: Expanded) -> None:
        chosen = overrides(samconfig, "prod")
        (database,) = expanded.resolved("AWS::RDS::DBInstance", **chosen).values()
        (cache,) = expanded.resolved("AWS::ElastiCache::ReplicationGroup", **chosen).values()
        assert (database["MultiAZ"], cache["MultiAZEnabled"], cache["NumCacheClusters"]) == (True, True, 2)
        assert len(expanded.resolved("AWS::EC2::NatGateway", **chosen)) == 2
        for name, endpoint in expanded.resolved("AWS::EC2::VPCEndpoint", **chosen).items():
            assert len(endpoint.get("SubnetIds", "AB")) == 2, name

    def test_moves_calls_by_and_by(self, expanded: Expanded, parameters: dict[str, Any]) -> None:
        assert parameters["DeploymentType"]["Default"] == "Canary10Percent5Minutes"
        for group in expanded.resolved("AWS::CodeDeploy::DeploymentGroup").values():
            assert group["DeploymentConfigName"] == "CodeDeployDefault.LambdaCanary10Percent5Minutes"


def test_development_has_one_of_everything_and_nothing_that_it_can_do_without(
    samconfig: dict[str, Any], expanded: Expanded
) -> None:
    """samconfig.toml's estimate of the cost counts on this."""
    chosen = overrides(samconfig, "default")
    assert not expanded.resolved("AWS::EC2::NatGateway", **chosen)
    assert not expanded.resolved("AWS::WAFv2::WebACL", **chosen)
    endpoints = expanded.resolved("AWS::EC2::VPCEndpoint", **chosen)
    paid = {name: it["SubnetIds"] for name, it in endpoints.items() if it["VpcEndpointType"] == "Interface"}
    assert paid == {"SqsEndpoint": ["PrivateSubnetA"], "SecretsEndpoint": ["PrivateSubnetA"]}
    (cache,) = expanded.resolved("AWS::ElastiCache::ReplicationGroup", **chosen).values()
    (database,) = expanded.resolved("AWS::RDS::DBInstance", **chosen).values()
    assert (cache["CacheNodeType"], cache["NumCacheClusters"]) == ("cache.t4g.micro", 1)
    assert (database["DBInstanceClass"], database["MultiAZ"]) == ("db.t4g.micro", False)


SAM = TEMPLATE.parent / ".venv-sam" / "bin" / "python"
DEPLOY = (TEMPLATE.parent / "docs" / "deploy.md").read_text()
#: What sam makes of its configuration for a command, and of a list of overrides.
READ = """
import json, sys
from samcli.cli.types import CfnParameterOverridesType
from samcli.lib.config.samconfig import SamConfig
folder, command, *given = sys.argv[1:]
found = SamConfig(folder).get_all(["local", command], "parameters", env="default")["parameter_overrides"]
print(json.dumps([CfnParameterOverridesType().convert(each, None, None) for each in (list(found), given)]))
"""


class TestSamLocal:
    """`sam local invoke` and `sam local start-api`: their parameters are configured, and stores can be given."""

    LOCAL: ClassVar = {
        "CreateVpc": "false",
        "CreateRedis": "false",
        "CreateDatabase": "false",
        "RequireSafety": "false",
        "SimulatedAi": "true",
        "Architecture": "x86_64",
    }
    STORES: ClassVar = {
        "RedisUrl": "redis://host.docker.internal:6379/0",
        "DatabaseUrl": "postgresql://user:password@host.docker.internal:5432/database?sslmode=disable",
    }

    @pytest.mark.parametrize("command", ["local_invoke", "local_start_api"])
    def test_the_overrides_are_configured(
        self, samconfig: dict[str, Any], parameters: dict[str, Any], command: str
    ) -> None:
        pairs = samconfig["default"][command]["parameters"]["parameter_overrides"]
        assert dict(pair.split("=") for pair in pairs) == self.LOCAL
        for name, value in self.LOCAL.items():
            assert value in map(str, parameters[name]["AllowedValues"])

    def test_with_them_nothing_of_the_stacks_own_is_expected(self, expanded: Expanded) -> None:
        for kind in ("EC2::VPC", "RDS::DBInstance", "ElastiCache::ReplicationGroup"):
            assert not expanded.resolved(f"AWS::{kind}", **self.LOCAL)
        for function in expanded.resolved("AWS::Lambda::Function", **self.LOCAL).values():
            assert function["Architectures"] == ["x86_64"]
            variables = function["Environment"]["Variables"]
            assert (variables["REDIS_URL"], variables["DATABASE_URL"], variables["DATABASE_IAM"]) == ("", "", "false")

    def test_the_page_gives_stores_that_the_functions_take(self, expanded: Expanded) -> None:
        (command,) = re.findall(r"sam local start-api [^\n]*--parameter-overrides ((?:\\\n[^\n\\]+)+)", DEPLOY)
        given = dict(pair.split("=", 1) for pair in shlex.split(command.replace("\\\n", " ")))
        assert given == self.LOCAL | self.STORES
        for function in expanded.resolved("AWS::Lambda::Function", **given).values():
            variables = {name: str(value) for name, value in function["Environment"]["Variables"].items()}
            settings = Settings.from_environment(variables | {"AWS_SAM_LOCAL": "true"})
            assert settings.redis_url
            assert settings.redis_url.get_secret_value() == self.STORES["RedisUrl"]
            assert settings.database_url
            assert settings.database_url.get_secret_value() == self.STORES["DatabaseUrl"]
            connector(settings)

    @pytest.mark.skipif(not SAM.exists(), reason="sam is not set up: make build")
    @pytest.mark.parametrize("command", ["invoke", "start-api"])
    def test_sam_reads_both(self, command: str) -> None:
        pairs = [f"{name}={value}" for name, value in (self.LOCAL | self.STORES).items()]
        result = subprocess.run(
            [SAM, "-c", READ, TEMPLATE.parent, command, *pairs], capture_output=True, text=True, check=True
        )
        assert json.loads(result.stdout) == [self.LOCAL, self.LOCAL | self.STORES]


class TestParameters:
    def test_each_has_a_default_and_all_but_the_plain_ones_a_description(self, parameters: dict[str, Any]) -> None:
        """`sam deploy --guided` works with the Enter key alone."""
        assert [name for name, it in parameters.items() if "Default" not in it] == []
        assert {name for name, it in parameters.items() if not it.get("Description")} <= {
            "LogLevel",
            "DatabaseStorageGb",
        }

    def test_each_is_in_one_group(self, expanded: Expanded, parameters: dict[str, Any]) -> None:
        groups = expanded.document["Metadata"][GROUPS]["ParameterGroups"]
        grouped = [name for group in groups for name in group["Parameters"]]
        assert sorted(grouped) == sorted(parameters)

    def test_each_default_is_allowed(self, parameters: dict[str, Any]) -> None:
        for name, parameter in parameters.items():
            default = str(parameter["Default"])
            assert default in map(str, parameter.get("AllowedValues", [default])), name
            assert re.fullmatch(parameter.get("AllowedPattern", ".*"), default), name
