"""Models of Amazon Bedrock, through boto3's Converse API, streamed.

botocore signs the request and reads the event stream. Its `before-send` event sends the request through our own
connection, because no other thread can end a call of botocore's own before its answer begins.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.eventstream import ParserError
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from urllib3.exceptions import HTTPError

from message_handler.ai.failures import ProviderFailure, of_status
from message_handler.ai.messages import system_of, turns_of
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.reply import Reply, usage_of
from message_handler.ai.watched import Connection, Limits, attend
from message_handler.domain.errors import EgressFailed, EgressRefused, MessageHandlerError
from message_handler.drivers import aws
from message_handler.drivers.egress import exchange, parse, resolve

_STOPS = {
    "end_turn": None,
    "stop_sequence": None,
    "max_tokens": "ai_truncated",
    "model_context_window_exceeded": "ai_truncated",
    "content_filtered": "ai_refused",
    "guardrail_intervened": "ai_refused",
}
#: An error within a stream has a name, and no status of its own.
_STATUS = {
    "throttlingException": 429,
    "modelStreamErrorException": 424,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
    "validationException": 400,
}
#: The call that this thread is in: its connection, its limits, and the stack that closes its exchange.
_current = threading.local()
_creating_client = threading.Lock()


@dataclass(frozen=True, slots=True)
class Bedrock:
    """One AI core. `model` is a model's id or an inference profile's ARN.

    Credentials are the function's own, and so is the region unless `meta_data` names one.
    """

    model: str
    meta_data: dict[str, Any]

    def ask(self, prompt: Prompt, watch: Watch, limits: Limits) -> Completion:
        """One try. Raises ProviderFailure."""
        return attend(lambda connection: self._answer(prompt, connection, limits), watch, limits)

    def _answer(self, prompt: Prompt, connection: Connection, limits: Limits) -> Generator[str, None, Completion]:
        try:
            with ExitStack() as exchanges:
                _current.call = (connection, limits, exchanges)
                with _creating_client:
                    bedrock = _client(self.meta_data.get("region"))
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
        except NoCredentialsError:
            raise ProviderFailure("ai_credentials_missing") from None
        except ClientError as error:
            answered = error.response.get("ResponseMetadata", {})
            status = _STATUS.get(error.response["Error"]["Code"]) or answered.get("HTTPStatusCode", 500)
            raise of_status(status, answered.get("HTTPHeaders", {}).get("retry-after")) from None
        except ParserError:
            raise ProviderFailure("ai_protocol", again=True) from None
        except BotoCoreError:
            # The error's text would quote the prompt.
            raise ProviderFailure("ai_refused_request") from None

    def _request(self, prompt: Prompt) -> dict[str, Any]:
        meta_data = self.meta_data
        inference = {
            "maxTokens": meta_data.get("max_completion_tokens") or meta_data.get("max_tokens"),
            "temperature": meta_data.get("temperature"),
            "topP": meta_data.get("top_p"),
        }
        return {
            "modelId": self.model,
            "system": [{"text": system_of(prompt, meta_data)}],
            "messages": [{"role": role, "content": [{"text": text}]} for role, text in turns_of(prompt)],
            "inferenceConfig": {name: value for name, value in inference.items() if value is not None},
        }

    def _read(self, events: Any) -> Generator[str, None, Completion]:
        reply = Reply.limited(self.meta_data)
        stopped, usage = None, None
        for event in events:
            text = event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")
            yield reply.add(text)
            stopped = event.get("messageStop", {}).get("stopReason", stopped)
            if not isinstance(stopped, str | None):
                raise TypeError("stopReason is not a text")
            if cost := event.get("metadata", {}).get("usage"):
                usage = usage_of(cost.get("inputTokens"), cost.get("outputTokens"))
        if stopped is None:
            raise ProviderFailure("ai_unreachable", again=True)
        if code := _STOPS.get(stopped, "ai_protocol"):
            raise ProviderFailure(code)
        return reply.whole(usage)


@cache
def _client(region: str | None) -> Any:
    client = aws.client("bedrock-runtime", region_name=region, config=Config(retries={"total_max_attempts": 1}))
    client.meta.events.register("before-send.bedrock-runtime.*", _send)
    return client


def _send(request: Any, **_: Any) -> Any:
    """Send a request that botocore has signed. Its host is AWS's own, maybe at a private endpoint's inner address."""
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
            read_timeout=limits.gap + 1,
            connected=connection.opened,
        )
    )
    return AWSResponse(request.url, response.status, response.headers, response)
