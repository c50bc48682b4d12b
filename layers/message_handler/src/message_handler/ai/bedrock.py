"""Models of Amazon Bedrock, through boto3's Converse API, streamed.

botocore signs the request and reads the event stream. Its `before-send` event sends the request through our own
connection, because no other thread can end a call of botocore's own before its answer begins.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.eventstream import ParserError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    TokenRetrievalError,
)
from urllib3.exceptions import HTTPError

from message_handler.ai.failures import ProviderFailure, of_response
from message_handler.ai.messages import system_of, turns_of
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.reply import Reply, usage_of
from message_handler.ai.watched import Connection, Known, Limits, Producer, attend
from message_handler.domain.errors import EgressFailed, EgressRefused, MessageHandlerError
from message_handler.domain.jobs import Usage
from message_handler.drivers import aws
from message_handler.drivers.egress import exchange, parse, resolve

_log = logging.getLogger(__name__)

_STOPS = {
    "end_turn": None,
    "stop_sequence": None,
    "max_tokens": "ai_truncated",
    "model_context_window_exceeded": "ai_truncated",
    "content_filtered": "ai_refused",
    "guardrail_intervened": "ai_refused",
}
#: What the model itself spoilt: its next try may be whole.
_MALFORMED = ("malformed_model_output", "malformed_tool_use")
#: An error within a stream has a name, and no status of its own.
_STATUS = {
    "throttlingException": 429,
    "modelTimeoutException": 408,
    "modelStreamErrorException": 424,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
    "validationException": 400,
}
#: AWS' codes for credentials that are missing, unknown or expired.
_BAD_CREDENTIALS = (
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "UnrecognizedClientException",
)
_NO_ACCESS = "AWS refused the model: check the worker's role, and the model's access in this account and region."
#: The call that this thread is in: its connection, its limits, and the stack that closes its exchange.
_current = threading.local()
_creating_client = threading.Lock()


@dataclass(frozen=True, slots=True)
class Bedrock:
    """One AI core. `model` is a model's id or an inference profile's ARN. `region` None means the function's region.

    It uses the function's own credentials.
    """

    model: str
    region: str | None
    meta_data: dict[str, Any]

    def ask(self, prompt: Prompt, watch: Watch, limits: Limits) -> Completion:
        """One try. Raises ProviderFailure."""
        return attend(lambda connection: self._answer(prompt, connection, limits), watch, limits)

    def _answer(self, prompt: Prompt, connection: Connection, limits: Limits) -> Producer[Completion]:
        try:
            with ExitStack() as exchanges:
                _current.call = (connection, limits, exchanges)
                with _creating_client:
                    bedrock = _client(self.region)
                answer = bedrock.converse_stream(**self._request(prompt))
                yield ""
                try:
                    return (yield from self._read(answer["stream"]))
                except (MessageHandlerError, HTTPError, ClientError, BotoCoreError, ParserError):
                    raise
                except Exception:  # noqa: BLE001  data that is no event can fail in any way
                    # The error's text would quote the answer.
                    raise ProviderFailure("ai_protocol", again=True) from None
        except EgressRefused:
            raise ProviderFailure("ai_address_refused") from None
        except EgressFailed:
            raise ProviderFailure("ai_unreachable", again=True) from None
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, TokenRetrievalError) as error:
            raise _without_credentials(type(error).__name__) from None
        except ClientError as error:
            raise _failure_of(error.response) from None
        except ParserError:
            raise ProviderFailure("ai_protocol", again=True) from None
        except BotoCoreError as error:
            # The error's text would quote the prompt.
            raise ProviderFailure("ai_refused_request", name=type(error).__name__) from None

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        meta_data = self.meta_data
        inference = {
            "maxTokens": meta_data.get("max_completion_tokens") or meta_data.get("max_tokens"),
            "temperature": meta_data.get("temperature"),
            "topP": meta_data.get("top_p"),
        }
        system, in_a_turn = system_of(prompt, meta_data), meta_data.get("system_role") == "user"
        turns = turns_of(prompt, meta_data, instructions=system if in_a_turn else None)
        request = {
            "modelId": self.model,
            "messages": [{"role": role, "content": [{"text": text}]} for role, text in turns],
            "inferenceConfig": {name: value for name, value in inference.items() if value is not None},
        }
        if not in_a_turn:
            request["system"] = [{"text": system}]
        if guardrail := meta_data.get("guardrail"):
            request["guardrailConfig"] = {
                "guardrailIdentifier": guardrail["id"],
                "guardrailVersion": guardrail["version"],
            }
        return request

    def _read(self, events: Any) -> Producer[Completion]:
        reply, events = Reply(self.meta_data), iter(events)
        for event in events:
            reply.add(event.get("contentBlockDelta", {}).get("delta", {}).get("text", ""))
            yield reply.text
            if "messageStop" in event:
                _check_stop(event["messageStop"].get("stopReason"))
                yield Known(reply.whole(None))
                return reply.whole(_usage_in(events))
        raise ProviderFailure("ai_unreachable", again=True)


def _check_stop(reason: Any) -> None:
    if not isinstance(reason, str):
        raise TypeError("stopReason is not a text")
    if reason in _MALFORMED:
        raise ProviderFailure("ai_protocol", again=True, name=reason)
    if code := _STOPS.get(reason, "ai_protocol"):
        raise ProviderFailure(code, name=reason if code == "ai_protocol" else None)


def _usage_in(events: Iterator[Any]) -> Usage | None:
    """What the reply cost, by the events after its end; None if they don't come, or are damaged."""
    try:
        for event in events:
            if usage := event.get("metadata", {}).get("usage"):
                return usage_of(usage.get("inputTokens"), usage.get("outputTokens"))
    except Exception as error:  # noqa: BLE001  the reply is whole, even if its price is lost
        _log.info("what a reply cost could not be read", extra={"error": type(error).__name__})
    return None


def _failure_of(response: dict[str, Any]) -> ProviderFailure:
    """What an error of AWS means, in place of an answer or within it."""
    error, metadata = response["Error"], response.get("ResponseMetadata", {})
    name = error["Code"]
    if name in _BAD_CREDENTIALS:
        return _without_credentials(name)
    status = _STATUS.get(name) or metadata.get("HTTPStatusCode", 500)
    headers = {header.lower(): value for header, value in metadata.get("HTTPHeaders", {}).items()}
    failure = of_response(status, headers, json.dumps({"message": error.get("Message")}).encode())
    failure.name = name
    return (
        ProviderFailure(failure.code, status=status, name=name, message=_NO_ACCESS) if status in (403, 404) else failure
    )


def _without_credentials(name: str) -> ProviderFailure:
    """Forget the client, and the session that keeps the credentials that it found. The next try looks for them anew."""
    with _creating_client:
        _client.cache_clear()
        aws.session.cache_clear()
    return ProviderFailure("ai_credentials_missing", name=name)


@cache
def _client(region: str | None) -> Any:
    # Without the mode, AWS_RETRY_MODE=adaptive would let the client wait before it asks.
    config = Config(retries={"mode": "standard", "total_max_attempts": 1})
    client = aws.client("bedrock-runtime", region_name=region, config=config)
    client.meta.events.register("before-send.bedrock-runtime.*", _send)
    return client


def _send(request: Any, **_: Any) -> Any:
    """Send a request that botocore has signed. Its host belongs to AWS, but may have a private endpoint's address."""
    connection, limits, exchanges = _current.call
    target = parse(request.url)
    response = exchanges.enter_context(
        exchange(
            request.method,
            target,
            resolve(target.host, target.port),
            headers={
                name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()
            },
            body=request.body,
            connect_timeout=limits.connect,
            read_timeout=limits.total + 1,
            connected=connection.opened,
        )
    )
    return AWSResponse(request.url, response.status, response.headers, response)
