"""What every AI provider over HTTP needs: one streamed call, and a token that is renewed when it is refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from message_handler.ai.events import Events
from message_handler.ai.failures import ProviderFailure, of_status
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.reply import Reply
from message_handler.ai.watched import Connection, Limits, attend
from message_handler.domain.errors import EgressFailed, EgressRefused, SecretRefused, Unavailable
from message_handler.drivers.egress import Egress, is_at
from message_handler.drivers.secrets import Secrets

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

_UNAUTHORIZED = 401


class StreamedAnswer(Protocol):
    """One answer, as far as its server-sent events were read."""

    reply: Reply
    #: Why the model stopped, once the provider has said so.
    stopped: str | None
    #: Whether the stream's own mark of its end was read.
    done: bool

    def take(self, data: str) -> str:
        """The text that one event adds. Raises ProviderFailure.

        Data of another shape raises ValueError, TypeError, AttributeError, RecursionError or OverflowError.
        """

    def completion(self) -> Completion:
        """The whole reply, once its stream has ended. Raises ProviderFailure if there is none."""


@dataclass(frozen=True, slots=True)
class HttpProvider(ABC):
    """One AI core that answers over HTTP with server-sent events.

    A subclass says what is sent and how an answer is read: `_credentials`, `_body` and `_new_answer`.
    """

    core_ai: dict[str, Any]
    url: str
    egress: Egress
    secrets: Secrets

    @abstractmethod
    def _credentials(self, token: str) -> dict[str, str]:
        """The headers that carry the token."""

    @abstractmethod
    def _body(self, prompt: Prompt) -> bytes:
        """The request, as JSON."""

    @abstractmethod
    def _new_answer(self) -> StreamedAnswer:
        """An answer of which nothing was read yet."""

    def ask(self, prompt: Prompt, watch: Watch, limits: Limits) -> Completion:
        """One try. Raises ProviderFailure."""
        return attend(lambda connection: self._ask_renewing_token(prompt, connection, limits), watch, limits)

    def _ask_renewing_token(
        self, prompt: Prompt, connection: Connection, limits: Limits
    ) -> Generator[str, None, Completion]:
        token = self._token(prompt.platform_id)
        try:
            return (yield from self._exchange(prompt, token, connection, limits))
        except ProviderFailure as failure:
            if failure.status != _UNAUTHORIZED or token is None:
                raise
            # The token may have been rotated since it was read: providers then accept the new one alone.
            renewed = self.secrets.renewed(self.core_ai["auth_token"], prompt.platform_id, token)
            if renewed is None:
                raise
        connection.forget()
        return (yield from self._exchange(prompt, renewed, connection, limits))

    def _exchange(
        self, prompt: Prompt, token: str | None, connection: Connection, limits: Limits
    ) -> Generator[str, None, Completion]:
        try:
            with self.egress.request(
                "POST",
                self.url,
                headers=self._headers(prompt, token),
                body=self._body(prompt),
                connect_timeout=limits.connect,
                read_timeout=limits.gap + 1,  # `attend` is the first to notice a gap that is too long
                connected=connection.opened,
            ) as response:
                yield ""
                return (yield from self._read(response))
        except EgressRefused:
            raise ProviderFailure("ai_address_refused") from None
        except EgressFailed:
            raise ProviderFailure("ai_unreachable", again=True) from None

    def _headers(self, prompt: Prompt, token: str | None) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream",
            "Idempotency-Key": prompt.request_id,
            "X-Correlation-ID": prompt.correlation_id,
        }
        if token:
            headers |= self._credentials(token)
        return {name: value for name, value in headers.items() if value}

    def _token(self, platform_id: str) -> str | None:
        """The tenant's token, for the host that it was stored for: the endpoint may have been changed since."""
        stored = self.core_ai["auth_token"]
        if not stored:
            if self.core_ai["auth_required"]:
                raise ProviderFailure("ai_credentials_missing")
            return None
        if not is_at(self.url, self.core_ai.get("auth_host")):
            raise ProviderFailure("ai_credentials_missing")
        try:
            # A token that was stored from a file may end with a newline.
            token = self.secrets.reveal(stored, platform_id).strip()
        except (SecretRefused, Unavailable):
            raise ProviderFailure("ai_credentials_missing") from None
        if not (token and token.isascii() and token.isprintable()):
            raise ProviderFailure("ai_credentials_missing")  # it is empty, or no header can hold it
        return token

    def _read(self, response: HTTPResponse) -> Generator[str, None, Completion]:
        if response.status != 200:
            raise of_status(response.status, response.headers.get("Retry-After"))
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "text/event-stream" or response.headers.get("Content-Encoding", "identity") != "identity":
            raise ProviderFailure("ai_protocol", status=200)
        answer, events = self._new_answer(), Events()
        while not answer.done and (piece := response.read1(65536)):
            answer.reply.count(len(piece))
            try:
                yield "".join(map(answer.take, events.feed(piece)))
            except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
                # The error's text would quote the answer.
                raise ProviderFailure("ai_protocol", again=True, status=200) from None
        # Without a length, a stream that ended looks like one that was cut.
        delimited = response.chunked or "Content-Length" in response.headers
        if answer.stopped is None or not (answer.done or delimited):
            raise ProviderFailure("ai_unreachable", again=True, status=200)
        return answer.completion()
