"""The local host reads the template as a deployment would."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.errors import TemplateError
from local.intrinsics import Resolver
from local.stack import WITHOUT_AWS
from local.template import EventSource, Route, Schedule, Template, TemplateSource

ROOT = Path(__file__).parents[2]


def read(path: Path, **parameters: str) -> Template:
    return TemplateSource(path).resolve(parameters, "http://queues/")


def test_functions_have_their_code_layer_timeout_and_environment(app: Path) -> None:
    function = read(app / "template.yaml", RedisUrl="redis://here", Greeting="hi").functions["EchoFunction"]
    assert function.handler == "app.handler"
    assert function.code == app / "functions" / "echo"
    assert function.layers == (app / "layer",)
    assert (function.timeout_seconds, function.memory_mb) == (1, 256)
    assert function.environment == {
        "REDIS_URL": "redis://here",
        "DATABASE_URL": "",
        "JOB_QUEUE_URL": "http://queues/JobQueue",
        "GREETING": "hi",
        "WHERE": "us-east-1/arn:aws:sqs:us-east-1:123456789012:JobQueue",
    }


def test_conditions_decide_what_exists(app: Path) -> None:
    without, with_redis = read(app / "template.yaml"), read(app / "template.yaml", RedisUrl="redis://here")
    assert without.functions["EchoFunction"].environment["WHERE"] == "nowhere"
    assert "NeverFunction" not in without.functions
    assert "NeverFunction" in with_redis.functions


def test_queues_mappings_and_schedules(app: Path) -> None:
    template = read(app / "template.yaml", Batch="7")
    queue = template.queues["JobQueue"]
    assert queue.attributes == {"VisibilityTimeout": "1"}
    assert (queue.dead_letter_arn, queue.maximum_receives) == (template.queues["DeadLetterQueue"].arn, 2)
    assert template.event_sources == (EventSource("JobQueue", "WorkerFunction", 7, True, 4),)
    assert template.schedules == (Schedule("AdminFunctionTick", "AdminFunction", 300, '{"action": "tick"}'),)


def test_routes_stage_and_gateway_responses(app: Path) -> None:
    template = read(app / "template.yaml", StageName="v7")
    assert template.stage == "v7"
    assert set(template.routes) == {
        Route("GET", "/echo/{name}", "EchoFunction"),
        Route("POST", "/echo/{name}", "EchoFunction"),
        Route("GET", "/echo/fixed", "EchoFunction"),
        Route("GET", "/guarded", "EchoFunction", ("app/read", "app/write")),
        Route("GET", "/unscoped", "EchoFunction", ()),
    }
    too_large = template.gateway_responses["REQUEST_TOO_LARGE"]
    assert (too_large.status, dict(too_large.headers)) == (413, {"X-Limit": "10 MB"})


def test_the_project_s_own_template_can_be_run() -> None:
    template = read(ROOT / "template.yaml")
    assert {"IntakeFunction", "StatusFunction", "WorkerFunction", "AdminFunction"} <= set(template.functions)
    accepting = ("POST", "/conversations/{conversation_id}/messages", "IntakeFunction")
    assert accepting in {(route.method, route.path, route.function) for route in template.routes}
    assert template.gateway_responses["MISSING_AUTHENTICATION_TOKEN"].status == 404


def test_what_goes_to_an_alias_runs_its_function(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text("""
Transform: AWS::Serverless-2016-10-31
Resources:
  Queue: {Type: AWS::SQS::Queue}
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Runtime: python3.13
      Handler: app.handler
      AutoPublishAlias: live
      Events:
        Get: {Type: Api, Properties: {Method: GET, Path: /get}}
        Records: {Type: SQS, Properties: {Queue: !GetAtt Queue.Arn}}
        Tick: {Type: Schedule, Properties: {Schedule: rate(1 minute)}}
""")
    template = read(path)
    assert template.routes == (Route("GET", "/get", "F"),)
    assert [source.function for source in template.event_sources] == ["F"]
    assert [schedule.function for schedule in template.schedules] == ["F"]


def test_the_project_s_own_template_names_no_store_of_aws_here() -> None:
    given = {"RedisUrl": "redis://here", "DatabaseUrl": "postgresql://here/db"}
    for function in read(ROOT / "template.yaml", **WITHOUT_AWS, **given).functions.values():
        found = {name: function.environment[name] for name in ("REDIS_URL", "DATABASE_URL", "DATABASE_IAM")}
        assert found == {"REDIS_URL": "redis://here", "DATABASE_URL": "postgresql://here/db", "DATABASE_IAM": "false"}
        assert function.environment["REDIS_IAM_CACHE"] == ""


BROKEN = {
    "no such file": None,
    "line 3": "Resources:\n  A: [\n",
    "has no Resources": "just text",
    "can't be read": b"\xff\xfe\x00",
    "has no function": "Resources: {Q: {Type: AWS::SQS::Queue}}",
    "no folder nowhere": "Resources: {F: {Type: AWS::Serverless::Function, Properties: {CodeUri: nowhere}}}",
    "CodeUri is not a folder": "Resources: {F: {Type: AWS::Serverless::Function}}",
    "Handler": "Resources: {F: {Type: AWS::Serverless::Function, Properties: {CodeUri: ., Runtime: python3.13}}}",
    "the template has no parameter or resource Ghost": """
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      {CodeUri: ., Runtime: python3.13, Handler: app.handler, Environment: {Variables: {A: !Ref Ghost}}}
""",
    "wrong kind": """
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: ., Runtime: python3.13, Handler: app.handler, Timeout: soon}
""",
    "the local host runs only rate(...) schedules": """
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Runtime: python3.13
      Handler: app.handler
      Events: {Nightly: {Type: Schedule, Properties: {Schedule: 'cron(0 3 * * ? *)'}}}
""",
    "no authorizer like Key": """
Transform: AWS::Serverless-2016-10-31
Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties: {StageName: v1, Auth: {Authorizers: {Key: {FunctionArn: 'arn:aws:lambda:us-east-1:1:function:K'}}}}
  F:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: .
      Runtime: python3.13
      Handler: app.handler
      Events:
        Get: {Type: Api, Properties: {RestApiId: !Ref Api, Method: GET, Path: /a, Auth: {Authorizer: Key}}}
""",
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_template_is_one_clear_line(tmp_path: Path, reason: str) -> None:
    path, text = tmp_path / "template.yaml", BROKEN[reason]
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TemplateError, match=r"^[^\n]+$") as caught:
        read(path)
    assert reason in str(caught.value)


RESOURCES = {"Queue": {"Type": "AWS::SQS::Queue"}, "F": {"Type": "AWS::Lambda::Function"}, "Other": {"Type": "X"}}
CONDITIONS = {
    "Yes": {"Fn::Equals": ["1", 1]},
    "No": {"Fn::Not": [{"Condition": "Yes"}]},
    "Both": {"Fn::And": [{"Condition": "Yes"}, {"Condition": "No"}]},
    "Either": {"Fn::Or": [{"Condition": "Yes"}, {"Condition": "No"}]},
}


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        ({"Ref": "P"}, "given"),
        ({"Ref": "D"}, "default"),
        ({"Ref": "AWS::Region"}, "us-east-1"),
        ({"Ref": "Queue"}, "http://queues/Queue"),
        ({"Ref": "Other"}, "Other"),
        ({"a": {"Ref": "AWS::NoValue"}, "b": [{"Ref": "AWS::NoValue"}, 1]}, {"b": [1]}),
        ({"Fn::GetAtt": ["F", "Arn"]}, "arn:aws:lambda:us-east-1:123456789012:function:F"),
        ({"Fn::GetAtt": "Queue.QueueName"}, "Queue"),
        ({"Fn::GetAtt": ["Other", "Redis.Address"]}, "Other.Redis.Address"),
        ({"Fn::Sub": "${P}-${!literal}-${F.Arn}"}, "given-${literal}-arn:aws:lambda:us-east-1:123456789012:function:F"),
        ({"Fn::Sub": ["${x}/${D}", {"x": {"Ref": "P"}}]}, "given/default"),
        ({"Fn::Join": [":", ["a", {"Ref": "P"}]]}, "a:given"),
        ({"Fn::Select": ["1", {"Fn::Split": [",", "a,b"]}]}, "b"),
        ({"Fn::FindInMap": ["M", {"Ref": "AWS::Region"}, "k"]}, "mapped"),
        ({"Fn::If": ["Both", 1, {"Fn::If": ["Either", 2, 3]}]}, 2),
    ],
)
def test_intrinsic_functions(value: object, resolved: object) -> None:
    template = {
        "Parameters": {"P": {"Type": "String"}, "D": {"Type": "String", "Default": "default"}},
        "Conditions": CONDITIONS,
        "Mappings": {"M": {"us-east-1": {"k": "mapped"}}},
        "Resources": RESOURCES,
    }
    assert Resolver(template, {"P": "given"}, "http://queues/").resolve(value) == resolved


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"Ref": "P"}, "the parameter P has no default"),
        ({"Fn::GetAtt": ["Ghost", "Arn"]}, "the template has no resource Ghost"),
        ({"Fn::If": ["Ghost", 1, 2]}, "the template has no condition Ghost"),
        ({"Fn::ImportValue": "x"}, "doesn't know the function Fn::ImportValue"),
    ],
)
def test_what_cannot_be_resolved_is_named(value: object, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        Resolver({"Parameters": {"P": {"Type": "String"}}}, {}, "").resolve(value)
