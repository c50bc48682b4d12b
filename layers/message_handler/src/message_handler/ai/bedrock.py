"""Models of Amazon Bedrock, through boto3's Converse API, streamed.

boto3 signs the request and reads the event stream. What goes over the network goes through our own connection, by its
`before-send` event: a call of botocore's own can be ended by nobody before its answer begins.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any

from message_handler.ai.failures import ProviderFailure, of_status
from message_handler.ai.messages import system_of, turns_of
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.reply import Reply, usage_of
from message_handler.ai.watched import Limits, Line, attend
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
#: In the midst of a stream an error has a name and no status of its own.
_STATUS = {
    "throttlingException": 429,
    "modelStreamErrorException": 424,
    "internalServerException": 500,
    "serviceUnavailableException": 503,
    "validationException": 400,
}
_current = threading.local()
_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class Bedrock:
    """One AI core. `model` is a model's id or an inference profile's ARN.

    Credentials are the function's own, and so is the region unless `meta_data` names one.
    """

    model: str
    meta_data: dict[str, Any]

    def ask(self, prompt: Prompt, watch: Watch, limits: Limits) -> Completion:
        """One try. Raises ProviderFailure."""
        return attend(lambda line: self._answer(prompt, line, limits), watch, limits)

    def _answer(self, prompt: Prompt, line: Line, limits: Limits) -> Generator[str, None, Completion]:
        from botocore.eventstream import ParserError
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
        from urllib3.exceptions import HTTPError

        try:
            with ExitStack() as connection:
                _current.call = (line, limits, connection)
                with _making:  # boto3's own session is for one thread
                    bedrock = _client(self.meta_data.get("region"))
                answer = bedrock.converse_stream(**self._request(prompt))
                yield ""
                try:
                    return (yield from self._read(answer["stream"]))
                except (MessageHandlerError, HTTPError, ClientError, BotoCoreError, ParserError):
                    raise
                except Exception:  # noqa: BLE001  nobody knows all shapes that are no event's
                    # Its text would quote the answer.
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
            # Its text would quote the prompt.
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
                raise TypeError("stopReason is no text")
            if cost := event.get("metadata", {}).get("usage"):
                usage = usage_of(cost.get("inputTokens"), cost.get("outputTokens"))
        if stopped is None:
            raise ProviderFailure("ai_unreachable", again=True)
        if code := _STOPS.get(stopped, "ai_protocol"):
            raise ProviderFailure(code)
        return reply.whole(usage)


@cache
def _client(region: str | None) -> Any:
    from botocore.config import Config

    client = aws.client("bedrock-runtime", region_name=region, config=Config(retries={"total_max_attempts": 1}))
    client.meta.events.register("before-send.bedrock-runtime.*", _send)
    return client


def _send(request: Any, **_: Any) -> Any:
    """Send what botocore has signed; the host is AWS's own, and may be a private endpoint of it."""
    from botocore.awsrequest import AWSResponse

    line, limits, connection = _current.call
    target = parse(request.url)
    response = connection.enter_context(
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
            connected=line.hold,
        )
    )
    return AWSResponse(request.url, response.status, response.headers, response)
