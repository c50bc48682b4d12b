"""What every AI provider over HTTP needs: one streamed call, and a token that is renewed when it is refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from message_handler.ai.failures import ProviderFailure, of_response
from message_handler.ai.port import Completion, Prompt, Watch
from message_handler.ai.reply import Reply
from message_handler.ai.watched import Connection, Known, Limits, Producer, attend
from message_handler.domain.errors import EgressFailed, EgressRefused, SecretRefused, Unavailable
from message_handler.drivers.egress import Egress, is_at
from message_handler.drivers.secrets import Secrets

if TYPE_CHECKING:
    from urllib3 import HTTPResponse

_UNAUTHORIZED = 401
_NO_CONTENT = 204
#: How long the body of a refusal is waited for: it tells what would be accepted.
_REFUSAL_SECONDS = 5.0
#: Bytes of a refusal that are read.
_MOST_OF_AN_ERROR = 65536


class StreamedAnswer(Protocol):
    """One answer, as far as its bytes were read. Each method raises ProviderFailure once no whole reply can come."""

    reply: Reply
    #: Whether the answer's own mark of its end was read: nothing that follows belongs to it.
    done: bool

    def feed(self, piece: bytes) -> None:
        """Read the next bytes, decoded if they came in a content coding."""

    def whole(self) -> Completion | None:
        """The reply, if the provider has said that it is whole; None while more may come."""

    def close(self) -> Completion:
        """The reply, now that all bytes of the body have come."""


@dataclass(frozen=True, slots=True)
class HttpProvider(ABC):
    """One AI core that answers over HTTP.

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
        return attend(lambda connection: self._ask_again_if_curable(prompt, connection, limits), watch, limits)

    def _leave_out(self, unknown_fields: tuple[str, ...]) -> bool:
        """Leave out fields that the provider doesn't know, from the next request on. False: they can't be left out."""
        return False

    def _ask_again_if_curable(self, prompt: Prompt, connection: Connection, limits: Limits) -> Producer[Completion]:
        token = self._token(prompt.platform_id)
        renewed = left_out = False
        while True:
            try:
                return (yield from self._exchange(prompt, token, connection, limits))
            except ProviderFailure as failure:
                if failure.status == _UNAUTHORIZED and token is not None and not renewed:
                    yield None  # a secret takes longer to read than the rest of a refusal is waited for
                    # The token may have been rotated since it was read: providers then accept the new one alone.
                    token = self.secrets.renewed(
                        self.core_ai["auth_token"], prompt.platform_id, token, host=self.core_ai["auth_host"]
                    )
                    renewed = True
                    if token is None:
                        raise
                elif not left_out and self._leave_out(failure.unknown_fields):
                    yield None
                    left_out = True
                else:
                    raise
            connection.forget()

    def _exchange(
        self, prompt: Prompt, token: str | None, connection: Connection, limits: Limits
    ) -> Producer[Completion]:
        try:
            with self.egress.request(
                "POST",
                self.url,
                headers=self._headers(prompt, token),
                body=self._body(prompt),
                connect_timeout=limits.connect,
                read_timeout=limits.total + 1,  # `attend` is the first to notice that a limit is over
                connected=connection.opened,
            ) as response:
                yield ""
                if response.status // 100 != 2 or response.status == _NO_CONTENT:
                    raise (yield from self._refusal(response))
                return (yield from self._read(response))
        except EgressRefused:
            raise ProviderFailure("ai_address_refused") from None
        except EgressFailed:
            raise ProviderFailure("ai_unreachable", again=True) from None

    def _read(self, response: HTTPResponse) -> Producer[Completion]:
        answer = self._new_answer()
        while piece := response.read1(65536, decode_content=True):
            answer.feed(piece)
            yield answer.reply.text
            completion = answer.whole()
            if completion and answer.done:
                return completion
            if completion:
                yield Known(completion)
        return answer.close()

    def _refusal(self, response: HTTPResponse) -> Generator[Known[Completion], None, ProviderFailure]:
        """Why the provider gives no answer. Its status says most of it, and its body may never end."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        by_status = of_response(response.status, headers)
        if response.status == _UNAUTHORIZED:
            return by_status
        yield Known(by_status, _REFUSAL_SECONDS)
        body = b""
        while len(body) < _MOST_OF_AN_ERROR and (piece := response.read1(65536, decode_content=True)):
            body += piece
        return of_response(response.status, headers, body)

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
            token = self.secrets.reveal(stored, platform_id, host=self.core_ai["auth_host"]).strip()
        except (SecretRefused, Unavailable):
            raise ProviderFailure("ai_credentials_missing") from None
        if not (token and token.isascii() and token.isprintable()):
            raise ProviderFailure("ai_credentials_missing")  # it is empty, or no header can hold it
        return token
