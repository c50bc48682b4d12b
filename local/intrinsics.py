"""Resolves CloudFormation's intrinsic functions for one machine.

A template refers to things that do not exist here, so they get made-up values. ARNs are in account 123456789012 and
region us-east-1. An attribute that the host does not know, such as `Cache.RedisEndpoint.Address`, is its own name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from local.errors import TemplateError

ACCOUNT = "123456789012"  # moto's
REGION = "us-east-1"
_NO_VALUE = object()

_PSEUDO_PARAMETERS: Mapping[str, object] = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": "local",
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/local/0",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NotificationARNs": [],
    "AWS::NoValue": _NO_VALUE,
}
_ARN_KINDS = {"AWS::SQS::Queue": "sqs", "AWS::Lambda::Function": "lambda"}


class Resolver:
    """Resolves the values of a transformed template. `values` replace the defaults of its parameters."""

    def __init__(self, template: Mapping[str, Any], values: Mapping[str, str], queue_url_prefix: str) -> None:
        self._resources: Mapping[str, Any] = template.get("Resources", {})
        self._parameters: Mapping[str, Any] = template.get("Parameters", {})
        self._conditions: Mapping[str, Any] = template.get("Conditions", {})
        self._mappings: Mapping[str, Any] = template.get("Mappings", {})
        self._values = values
        self._queue_url_prefix = queue_url_prefix

    def exists(self, resource: Mapping[str, Any]) -> bool:
        """Whether a resource's `Condition` is true here."""
        name = resource.get("Condition")
        return name is None or self._condition(name)

    def resolve(self, value: Any) -> Any:
        """The value with every intrinsic function applied. Raises TemplateError on an unknown name or function."""
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, argument), *_ = value.items()
            if name == "Ref" or name.startswith("Fn::"):
                return self._apply(name, argument)
        resolved = {key: self.resolve(item) for key, item in value.items()}
        return {key: item for key, item in resolved.items() if item is not _NO_VALUE}

    def arn(self, resource: str) -> str:
        """The made-up ARN of a resource of this template."""
        kind = _ARN_KINDS.get(self._resources[resource]["Type"], "local")
        separator = "function:" if kind == "lambda" else ""
        return f"arn:aws:{kind}:{REGION}:{ACCOUNT}:{separator}{resource}"

    def _apply(self, name: str, argument: Any) -> Any:
        match name:
            case "Ref":
                return self._reference(argument)
            case "Fn::GetAtt":
                parts = argument.split(".", 1) if isinstance(argument, str) else argument
                return self._attribute(parts[0], ".".join(self.resolve(part) for part in parts[1:]))
            case "Fn::Sub":
                text, names = argument if isinstance(argument, list) else (argument, {})
                return re.sub(r"\$\{(!?)([^}]+)\}", lambda match: self._substitute(match, names), text)
            case "Fn::Join":
                separator, items = argument
                return separator.join(str(item) for item in self.resolve(items))
            case "Fn::Select":
                index, items = argument
                return self.resolve(items)[int(self.resolve(index))]
            case "Fn::Split":
                separator, text = argument
                return self.resolve(text).split(separator)
            case "Fn::FindInMap":
                found: Any = self._mappings
                for key in argument:
                    found = found[self.resolve(key)]
                return found
            case "Fn::If":
                condition, then, otherwise = argument
                return self.resolve(then if self._condition(condition) else otherwise)
            case "Fn::GetAZs":
                return [f"{REGION}a", f"{REGION}b", f"{REGION}c"]
        raise TemplateError(f"the local host doesn't know the function {name}")

    def _reference(self, name: str) -> Any:
        if name in _PSEUDO_PARAMETERS:
            return _PSEUDO_PARAMETERS[name]
        if name in self._parameters:
            value = self._values.get(name, self._parameters[name].get("Default"))
            if value is None:
                raise TemplateError(f"the parameter {name} has no default")
            return str(value).split(",") if self._parameters[name].get("Type") == "CommaDelimitedList" else value
        if name not in self._resources:
            raise TemplateError(f"the template has no parameter or resource {name}")
        resource = self._resources[name]
        if resource["Type"] == "AWS::SQS::Queue":
            return f"{self._queue_url_prefix}{name}" if self._queue_url_prefix else ""
        if resource["Type"] == "AWS::Lambda::Alias":  # a function has only one version here
            properties = self.resolve(resource["Properties"])
            return f"{self.arn(properties['FunctionName'])}:{properties['Name']}"
        return name

    def _attribute(self, resource: str, attribute: str) -> str:
        if resource not in self._resources:
            raise TemplateError(f"the template has no resource {resource}")
        if attribute == "Arn":
            return self.arn(resource)
        return resource if attribute == "QueueName" else f"{resource}.{attribute}"

    def _substitute(self, match: re.Match[str], names: Mapping[str, Any]) -> str:
        literal, name = match[1], match[2]
        if literal:
            return f"${{{name}}}"
        if name in names:
            return str(self.resolve(names[name]))
        return str(self._attribute(*name.split(".", 1)) if "." in name else self._reference(name))

    def _condition(self, condition: Any) -> bool:
        if isinstance(condition, str):
            if condition not in self._conditions:
                raise TemplateError(f"the template has no condition {condition}")
            return self._condition(self._conditions[condition])
        (name, argument), *_ = condition.items()
        match name:
            case "Condition":
                return self._condition(argument)
            case "Fn::Equals":
                left, right = (self.resolve(side) for side in argument)
                return str(left) == str(right)
            case "Fn::Not":
                return not self._condition(argument[0])
            case "Fn::And":
                return all(self._condition(item) for item in argument)
            case "Fn::Or":
                return any(self._condition(item) for item in argument)
        raise TemplateError(f"the local host doesn't know the condition function {name}")
