"""moto creates the expanded template, as far as it knows the types.

The types that it does not know are listed here. Their resources are left out, and references to them become texts. Only
cfn-lint, checkov and the other tests here check these resources.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from ipaddress import ip_network
from itertools import islice
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.cloudformation.parsing import resource_class_from_type

from local.intrinsics import Resolver
from tests.template.conftest import FUNCTIONS, Expanded

#: moto's CloudFormation does not support these.
NOT_IN_MOTO = {
    "AWS::ApiGateway::Account", "AWS::ApiGateway::BasePathMapping", "AWS::ApiGateway::DomainName",
    "AWS::ApiGateway::Stage", "AWS::CloudWatch::Alarm", "AWS::CodeDeploy::Application", "AWS::Logs::MetricFilter",
    "AWS::CodeDeploy::DeploymentGroup", "AWS::Cognito::UserPool", "AWS::Cognito::UserPoolClient",
    "AWS::Cognito::UserPoolDomain", "AWS::Cognito::UserPoolGroup", "AWS::Cognito::UserPoolResourceServer",
    "AWS::ElastiCache::ParameterGroup", "AWS::ElastiCache::ReplicationGroup", "AWS::ElastiCache::SubnetGroup",
    "AWS::ElastiCache::User", "AWS::ElastiCache::UserGroup", "AWS::Lambda::Alias", "AWS::Lambda::EventInvokeConfig",
    "AWS::RDS::DBProxy", "AWS::RDS::DBProxyTargetGroup", "AWS::SNS::Subscription", "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy", "AWS::WAFv2::LoggingConfiguration", "AWS::WAFv2::WebACL",
    "AWS::WAFv2::WebACLAssociation",
}  # fmt: skip
#: moto knows these types, and fails to make them.
MISTAKEN = {
    "Custom::Migration": "would run the function in Docker",
    "AWS::ApiGateway::Deployment": "finds no methods, for it doesn't look into the API's Body",
    "AWS::RDS::DBParameterGroup": "what a Ref to it gives is no text",
}
#: An attribute that moto doesn't give.
NO_ATTRIBUTE = {"MasterUserSecret.SecretArn"}
REGION = "us-east-1"


def without_nothing(value: Any) -> Any:
    """The value without AWS::NoValue in lists: moto would make null of it."""
    if isinstance(value, list):
        return [without_nothing(item) for item in value if item != {"Ref": "AWS::NoValue"}]
    return {key: without_nothing(item) for key, item in value.items()} if isinstance(value, dict) else value


def chosen_of(value: Any, resolver: Resolver) -> Any:
    """The value with each Fn::If decided, and with the networks of each Fn::Cidr: moto doesn't know that function."""
    if isinstance(value, list):
        return [chosen_of(item, resolver) for item in value]
    if not isinstance(value, dict):
        return value
    if "Fn::If" in value:
        condition, then, otherwise = value["Fn::If"]
        return chosen_of(then if resolver.exists({"Condition": condition}) else otherwise, resolver)
    if "Fn::Cidr" in value:
        whole, count, bits = resolver.resolve(value["Fn::Cidr"])
        parts = ip_network(whole).subnets(new_prefix=32 - bits)
        return [str(network) for network in islice(parts, count)]
    return {key: chosen_of(item, resolver) for key, item in value.items()}


def made_up(value: Any, missing: dict[str, str | None]) -> Any:
    """The value with a text for each reference to a missing resource, or with the function for an alias."""
    if isinstance(value, list):
        return [made_up(item, missing) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("Ref") in missing:
        function = missing[value["Ref"]]
        return {"Fn::GetAtt": [function, "Arn"]} if function else value["Ref"]
    if "Fn::GetAtt" in value:
        resource, *attribute = value["Fn::GetAtt"]
        name = ".".join(attribute)
        if resource in missing or name in NO_ATTRIBUTE:
            return (
                f"arn:aws:none:{REGION}:123456789012:{resource}:x-1" if name.endswith("Arn") else f"{resource}.{name}"
            )
    if "Fn::Sub" in value:
        text, names = value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})
        text = re.sub(r"\$\{(\w+)(\.\w+)*\}", lambda match: in_text(match, missing), text)
        return {"Fn::Sub": [text, made_up(names, missing)] if names else text}
    return {key: made_up(item, missing) for key, item in value.items()}


def in_text(match: re.Match[str], missing: dict[str, str | None]) -> str:
    if match[1] not in missing:
        return match[0]
    function = missing[match[1]]
    return f"${{{function}.Arn}}" if function else match[1]


def is_known(kind: str) -> bool:
    return kind not in MISTAKEN and resource_class_from_type(kind) is not None


def known(document: dict[str, Any], **parameters: str) -> tuple[dict[str, Any], set[str]]:
    """The template without the resources that moto doesn't know, and their types."""
    unknown = {
        name: it["Properties"]["FunctionName"]["Ref"] if it["Type"] == "AWS::Lambda::Alias" else None
        for name, it in document["Resources"].items()
        if not is_known(it["Type"])
    }
    resources = {name: it for name, it in document["Resources"].items() if name not in unknown}
    outputs = document["Outputs"]
    left = {key: value for key, value in document.items() if key not in ("Resources", "Outputs", "Transform", "Rules")}
    resolver = Resolver(document, parameters, "")
    kept = without_nothing(chosen_of({"Resources": resources, "Outputs": outputs}, resolver))
    found = left | made_up(kept, unknown)
    for resource in found["Resources"].values():
        if "DependsOn" in resource:
            names = resource["DependsOn"] if isinstance(resource["DependsOn"], list) else [resource["DependsOn"]]
            resource["DependsOn"] = [name for name in names if name not in unknown]
    return found, {document["Resources"][name]["Type"] for name in unknown}


def empty_zip() -> bytes:
    written = io.BytesIO()
    zipfile.ZipFile(written, "w").close()
    return written.getvalue()


@pytest.fixture
def cloudformation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    with mock_aws():
        s3 = boto3.client("s3", region_name=REGION)
        s3.create_bucket(Bucket="local")  # the expanded template refers to code in it
        for name in (*FUNCTIONS, "MessageHandlerLayer"):
            s3.put_object(Bucket="local", Key=name, Body=empty_zip())
        rds = boto3.client("rds", region_name=REGION)
        rds.create_db_parameter_group(
            DBParameterGroupName="DatabaseParameters", DBParameterGroupFamily="postgres17", Description="see MISTAKEN"
        )
        yield boto3.client("cloudformation", region_name=REGION)


def test_what_moto_does_not_make_is_listed(expanded: Expanded) -> None:
    assert known(expanded.document)[1] == NOT_IN_MOTO | MISTAKEN.keys()
    assert not [kind for kind in MISTAKEN if resource_class_from_type(kind) is None]


@pytest.mark.filterwarnings("ignore")  # warnings of moto
@pytest.mark.parametrize(
    ("chosen", "nat_gateways"),
    [({}, 0), ({"NatGateways": "true", "MultiAz": "false"}, 1), ({"NatGateways": "true"}, 2)],
    ids=["default", "one zone", "two zones"],
)
def test_the_template_creates(
    expanded: Expanded, cloudformation: Any, chosen: dict[str, str], nat_gateways: int
) -> None:
    template, _ = known(expanded.document, **chosen)
    parameters = [{"ParameterKey": name, "ParameterValue": value} for name, value in chosen.items()]
    cloudformation.create_stack(
        StackName="trial", TemplateBody=json.dumps(template), Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
    )
    (stack,) = cloudformation.describe_stacks(StackName="trial")["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    found = cloudformation.describe_stack_resources(StackName="trial")["StackResources"]
    made = {it.get("LogicalResourceId") for it in found}
    resolver = Resolver(expanded.document, chosen, "")
    expected = {name for name, it in template["Resources"].items() if resolver.exists(it)}
    assert expected - made <= {"InternetGatewayAttachment"}  # made, but not listed
    assert len([name for name in made if name and name.startswith("NatGateway")]) == nat_gateways
    functions = boto3.client("lambda", region_name=REGION).list_functions()["Functions"]
    assert sorted(it["FunctionName"].split("-")[1] for it in functions) == sorted(FUNCTIONS)
    (queue,) = [
        url for url in boto3.client("sqs", region_name=REGION).list_queues()["QueueUrls"] if "-JobQueue-" in url
    ]
    asked = boto3.client("sqs", region_name=REGION).get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])
    assert "DeadLetterQueue" in asked["Attributes"]["RedrivePolicy"]
    (address,) = [it["OutputValue"] for it in stack["Outputs"] if it["OutputKey"] == "ApiUrl"]
    assert address.endswith(".execute-api.us-east-1.amazonaws.com/v1")
