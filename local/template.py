"""Reads a SAM template: functions, routes, queues, schedules, and the gateway's own answers.

`aws-sam-translator` expands it to CloudFormation, as a deployment does. The host then reads the parts that it runs.
This needs no network, no credentials and no configured region.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.errors import TemplateError
from local.intrinsics import REGION, Resolver


@dataclass(frozen=True)
class Function:
    """A Lambda function, named by its logical id. Each of `layers` is a folder with a `python` or `src` folder."""

    name: str
    handler: str
    code: Path
    layers: tuple[Path, ...]
    timeout_seconds: float
    memory_mb: int
    environment: Mapping[str, str]
    arn: str


@dataclass(frozen=True)
class Queue:
    """An SQS queue. `attributes` are those of CreateQueue, except the redrive policy."""

    name: str
    arn: str
    attributes: Mapping[str, str]
    dead_letter_arn: str | None
    maximum_receives: int | None


@dataclass(frozen=True)
class EventSource:
    """A mapping from a queue to a function."""

    queue: str
    function: str
    batch_size: int
    partial_failures: bool
    maximum_concurrency: int | None


@dataclass(frozen=True)
class Schedule:
    """A function that runs at a fixed interval. `input` is the event's JSON."""

    name: str
    function: str
    seconds: float
    input: str


@dataclass(frozen=True)
class Route:
    """A method and a path with `{parameters}`.

    `scopes`: the gateway requires a token with one of them; None means that it requires no token.
    """

    method: str
    path: str
    function: str
    scopes: tuple[str, ...] | None = None


#: API Gateway's mapping of a header to the id of the request.
REQUEST_ID = "context.requestId"


@dataclass(frozen=True)
class GatewayResponse:
    """One of the gateway's own answers; its bodies by content type. A header may be the mapping `REQUEST_ID`."""

    status: int | None
    templates: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Template:
    """All that the host runs."""

    functions: Mapping[str, Function]
    queues: Mapping[str, Queue]
    event_sources: tuple[EventSource, ...]
    schedules: tuple[Schedule, ...]
    routes: tuple[Route, ...]
    stage: str
    gateway_responses: Mapping[str, GatewayResponse]


class TemplateSource:
    """A template in steps: reading is fast, expanding takes a second, resolving needs the parameters."""

    def __init__(self, path: Path) -> None:
        """Read the file. Raises TemplateError, as all methods do."""
        self._path = path
        self._document = _parse(path)
        self._folders = _take_local_folders(self._document, path.parent)
        self._transformed: dict[str, Any] | None = None

    def transform(self) -> None:
        """Expand it to CloudFormation. `resolve` does so if this was not called before."""
        self._transformed = _transform(self._document, self._path)

    @property
    def transformed(self) -> dict[str, Any]:
        """The template that CloudFormation gets."""
        if self._transformed is None:
            self.transform()
        return self._transformed or {}

    @property
    def own_resources(self) -> Mapping[str, Any]:
        """The resources in the file itself, by name."""
        return dict(self._document["Resources"])

    def resolve(self, parameters: Mapping[str, str], queue_url_prefix: str) -> Template:
        """All that runs, with these parameter values. A queue's URL is the prefix followed by its name."""
        document = self.transformed
        resolver = Resolver(document, parameters, queue_url_prefix)
        try:
            return _Reader(document, resolver, self._folders).read()
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise TemplateError(f"{self._path}: a value is missing or of the wrong kind: {error!r}") from error


class _Reader:
    """Reads an expanded template. It resolves only the properties that it uses."""

    def __init__(self, document: Mapping[str, Any], resolver: Resolver, folders: Mapping[str, Path]) -> None:
        self._resolver = resolver
        self._folders = folders
        self._resources: Mapping[str, Any] = document.get("Resources", {})

    def read(self) -> Template:
        functions = {name: self._function(name, found) for name, found in self._each("AWS::Lambda::Function")}
        if not functions:
            raise TemplateError("the template has no function")
        api = next((found for _, found in self._each("AWS::ApiGateway::RestApi")), {})
        stage = next((found for _, found in self._each("AWS::ApiGateway::Stage")), {"StageName": "local"})
        body = api.get("Body", {})
        sources = self._each("AWS::Lambda::EventSourceMapping")
        rules = self._each("AWS::Events::Rule")
        return Template(
            functions=functions,
            queues={name: self._queue(name, found) for name, found in self._each("AWS::SQS::Queue")},
            event_sources=tuple(self._event_source(found) for _, found in sources),
            schedules=tuple(schedule for name, found in rules for schedule in self._schedules(name, found)),
            routes=tuple(self._routes(body)),
            stage=str(self._get(stage, "StageName")),
            gateway_responses=self._gateway_responses(body),
        )

    def _each(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for name, resource in self._resources.items():
            if resource["Type"] == kind and self._resolver.exists(resource):
                yield name, resource.get("Properties", {})

    def _get(self, properties: Mapping[str, Any], name: str, default: Any = None) -> Any:
        value = self._resolver.resolve(properties.get(name))
        return default if value is None else value

    def _function(self, name: str, properties: Mapping[str, Any]) -> Function:
        variables = self._get(properties, "Environment", {}).get("Variables", {})
        layers = [self._resources.get(layer) for layer in self._get(properties, "Layers", [])]
        return Function(
            name=name,
            handler=properties["Handler"],
            code=self._folders[properties["Code"]["S3Key"]],
            # A layer that is only an ARN belongs to another account: it has no folder here.
            layers=tuple(self._folders[layer["Properties"]["Content"]["S3Key"]] for layer in layers if layer),
            timeout_seconds=float(self._get(properties, "Timeout", 3)),
            memory_mb=int(self._get(properties, "MemorySize", 128)),
            environment={key: _text(value) for key, value in variables.items()},
            arn=self._resolver.arn(name),
        )

    def _queue(self, name: str, properties: Mapping[str, Any]) -> Queue:
        names = ("VisibilityTimeout", "DelaySeconds", "MessageRetentionPeriod")
        policy = self._get(properties, "RedrivePolicy", {})
        return Queue(
            name=name,
            arn=self._resolver.arn(name),
            attributes={key: _text(self._get(properties, key)) for key in names if key in properties},
            dead_letter_arn=policy.get("deadLetterTargetArn"),
            maximum_receives=int(policy["maxReceiveCount"]) if policy else None,
        )

    def _event_source(self, properties: Mapping[str, Any]) -> EventSource:
        concurrency = self._get(properties, "ScalingConfig", {}).get("MaximumConcurrency")
        return EventSource(
            queue=self._get(properties, "EventSourceArn").rsplit(":", 1)[1],
            function=_function_name(self._get(properties, "FunctionName")),
            batch_size=int(self._get(properties, "BatchSize", 10)),
            partial_failures="ReportBatchItemFailures" in self._get(properties, "FunctionResponseTypes", []),
            maximum_concurrency=None if concurrency is None else int(concurrency),
        )

    def _schedules(self, name: str, properties: Mapping[str, Any]) -> Iterator[Schedule]:
        expression = self._get(properties, "ScheduleExpression")
        match = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression or "")
        if match is None:
            raise TemplateError(f"{name}: the local host runs only rate(...) schedules, not {expression}")
        seconds = int(match[1]) * {"minute": 60.0, "hour": 3600.0, "day": 86400.0}[match[2]]
        for target in self._get(properties, "Targets"):
            yield Schedule(name, _function_name(target["Arn"]), seconds, target.get("Input", "{}"))

    def _routes(self, body: Mapping[str, Any]) -> Iterator[Route]:
        schemes = body.get("components", body).get("securitySchemes", body.get("securityDefinitions", {}))
        authorizers = {name: scheme.get("x-amazon-apigateway-authtype") for name, scheme in schemes.items()}
        for path, methods in body.get("paths", {}).items():
            for method, operation in methods.items():
                uri = self._get(operation["x-amazon-apigateway-integration"], "uri")
                function = re.search(r":function:([^/:]+)", uri)
                if function is None or method.startswith("x-") or "+}" in path:
                    raise TemplateError(f"the local host can't serve the route {method.upper()} {path}")
                scopes = _scopes(operation.get("security", ()), authorizers)
                yield Route(method.upper(), path, function[1], scopes)

    def _gateway_responses(self, body: Mapping[str, Any]) -> dict[str, GatewayResponse]:
        responses = self._get(body, "x-amazon-apigateway-gateway-responses", {})
        return {name: _gateway_response(found) for name, found in responses.items()}


def _scopes(security: Sequence[Mapping[str, Any]], authorizers: Mapping[str, str]) -> tuple[str, ...] | None:
    """The scopes of an operation; None for an open one, which SAM marks with NONE or with nothing."""
    required = {name: scopes for needs in security for name, scopes in needs.items() if name != "NONE"}
    if others := [name for name in required if authorizers.get(name) != "cognito_user_pools"]:
        raise TemplateError(f"the local host has no authorizer like {others[0]}, only one for Cognito")
    return tuple(scope for scopes in required.values() for scope in scopes) if required else None


def _gateway_response(found: Mapping[str, Any]) -> GatewayResponse:
    prefix = "gatewayresponse.header."
    headers = {
        name.removeprefix(prefix): str(value).strip("'")
        for name, value in found.get("responseParameters", {}).items()
        if name.startswith(prefix)
    }
    status = found.get("statusCode")
    return GatewayResponse(int(status) if status else None, found.get("responseTemplates", {}), headers)


def _function_name(named: str) -> str:
    """The name of a function, from its name, its ARN, or the ARN of an alias."""
    found = re.search(r":function:([^:]+)", named)
    return found[1] if found else named


def _text(value: Any) -> str:
    """A value as CloudFormation writes it to an environment variable or attribute."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parse(path: Path) -> dict[str, Any]:
    # Imported here, as in `_transform`: modules that need only the classes above start without the translator.
    import yaml
    from samtranslator.yaml_helper import yaml_parse

    try:
        document = yaml_parse(path.read_text())
    except FileNotFoundError:
        raise TemplateError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"{path}: can't be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" line {mark.line + 1}" if mark else ""
        raise TemplateError(f"{path}{place}: {getattr(error, 'problem', error)}") from error
    if not isinstance(document, dict) or not isinstance(document.get("Resources"), dict):
        raise TemplateError(f"{path}: this is not a template: it has no Resources")
    return document


def _take_local_folders(document: dict[str, Any], root: Path) -> dict[str, Path]:
    """Replace local code folders, which the translator refuses, by S3 addresses. Returns the folders by name."""
    properties_of = {"AWS::Serverless::Function": "CodeUri", "AWS::Serverless::LayerVersion": "ContentUri"}
    folders: dict[str, Path] = {}
    defaults = document.get("Globals", {}).get("Function", {})
    shared = defaults.pop("CodeUri", None)
    for name, resource in document["Resources"].items():
        if not isinstance(resource, dict) or resource.get("Type") not in properties_of:
            continue
        field_name = properties_of[resource["Type"]]
        properties = resource.setdefault("Properties", {})
        uri = properties.get(field_name, shared if field_name == "CodeUri" else None)
        if not isinstance(uri, str):
            raise TemplateError(f"{name}: {field_name} is not a folder")
        folders[name] = (root / uri).resolve()
        if not folders[name].is_dir():
            raise TemplateError(f"{name}: there is no folder {uri}")
        properties[field_name] = f"s3://local/{name}"
    return folders


def _transform(document: dict[str, Any], path: Path) -> dict[str, Any]:
    import boto3
    from samtranslator.model.exceptions import InvalidDocumentException
    from samtranslator.parser.parser import Parser
    from samtranslator.translator.translator import Translator

    logging.getLogger("samtranslator").setLevel(logging.ERROR)  # it warns about its own feature toggle
    translator = Translator({}, Parser(), boto_session=boto3.Session(region_name=REGION))
    try:
        return dict(translator.translate(document, {}))
    except InvalidDocumentException as error:
        causes = "; ".join(" ".join(cause.message.split()) for cause in error.causes)
        raise TemplateError(f"{path}: {causes}") from error
    except Exception as error:  # for some wrong shapes the translator raises any kind of error
        raise TemplateError(f"{path}: can't be translated: {error!r}") from error
