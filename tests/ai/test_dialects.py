"""Answers to a chat completion are read as openai's own Python client reads them.

Both read the same transcripts (`transcripts.py`) over a real connection. A reply is whole if the client's iteration
ends without an error, and a `finish_reason` or `[DONE]` was seen. `DIFFERENCES` lists where we read otherwise, and why.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
import pytest

from message_handler.ai.chat_completions import ChatCompletions
from message_handler.ai.failures import ProviderFailure
from message_handler.ai.watched import Limits
from message_handler.drivers.egress import Egress
from message_handler.drivers.secrets import Secrets
from tests.ai.conftest import prompt
from tests.ai.transcripts import Transcript, transcripts

COUNT = int(os.environ.get("TRANSCRIPTS", "1200"))
SEED = int(os.environ.get("TRANSCRIPTS_SEED", "17"))
#: Longer than an answer on this machine takes, and short enough for the transcripts that never end.
PATIENCE_SECONDS = 2.0


class Replay:
    """A server that answers each request with the next transcript, byte by byte as it was written."""

    def __init__(self) -> None:
        self.next: Transcript
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._answer(connection)
                except OSError:
                    continue  # the client has read enough

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(10 * PATIENCE_SECONDS)
        with connection.makefile("rb") as request:
            length = 0
            while (line := request.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            request.read(length)
            connection.sendall(self.next.raw)
            if self.next.closes:
                connection.shutdown(socket.SHUT_WR)
            request.read()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


class Tee(httpx2.SyncByteStream):
    """The body of an answer. It keeps what was read of it."""

    def __init__(self, response: httpx2.Response) -> None:
        self._stream = response.stream
        coding = response.headers.get("content-encoding")
        self._read = bytearray()
        self._decoder = {"gzip": zlib.decompressobj(31), "deflate": zlib.decompressobj()}.get(coding or "")
        response.stream = self

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._stream, httpx2.SyncByteStream)
        for piece in self._stream:
            self._read += piece
            yield piece

    def close(self) -> None:
        assert isinstance(self._stream, httpx2.SyncByteStream)
        self._stream.close()

    @property
    def has_the_mark_of_its_end(self) -> bool:
        body = self._decoder.decompress(bytes(self._read)) if self._decoder else bytes(self._read)
        return re.search(rb"data: ?\[DONE\] ?(\r\n\r\n|\r\r|\n\n)", body) is not None


@dataclass(frozen=True)
class Outcome:
    """A reader's result for a transcript. `reply` is None if it read no whole reply: then `why` has the reason."""

    reply: str | None
    why: str = ""
    finish_reason: str | None = None


class Yardstick:
    """openai's own client."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._tee: Tee
        hooks = {"response": [self._hook]}
        http = httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0), event_hooks=hooks)
        self.client = openai.OpenAI(
            base_url=replay.url, api_key="k", max_retries=0, timeout=PATIENCE_SECONDS, http_client=http
        )

    def _hook(self, response: httpx2.Response) -> None:
        self._tee = Tee(response)

    def read(self, transcript: Transcript) -> Outcome:
        self._replay.next = transcript
        texts: dict[Any, str] = {}
        finish_reason = None
        question: Any = [{"role": "user", "content": "Hi"}]
        try:
            with self.client.chat.completions.create(model="m", messages=question, stream=True) as stream:
                for chunk in stream:
                    for choice in (chunk.choices if chunk is not None else None) or ():
                        index = getattr(choice, "index", None) or 0
                        content: Any = getattr(choice.delta, "content", None)
                        texts[index] = texts.get(index, "") + _text_of(content)
                        finish_reason = getattr(choice, "finish_reason", None) or finish_reason
        except (openai.APIError, ValueError) as error:
            return Outcome(None, type(error).__name__)
        if finish_reason is None and not self._tee.has_the_mark_of_its_end:
            return Outcome(None, "no end")
        return Outcome(next(iter(texts.values()), ""), finish_reason=finish_reason)


def _text_of(content: Any) -> str:
    parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    return "".join(part["text"] for part in parts if part["type"] == "text")


class Ours:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        record = {
            "core_ai_id": "trial",
            "api_endpoint": f"{replay.url}/chat/completions",
            "auth_required": False,
            "auth_token": None,
            "timeout_seconds": 10,
            "meta_data": {"model": "m"},
        }
        self._provider = ChatCompletions(
            record, record["api_endpoint"], Egress([], allow_loopback=True), Secrets(literals=True)
        )

    def read(self, transcript: Transcript) -> Outcome:
        self._replay.next = transcript
        try:
            completion = self._provider.ask(prompt(), lambda _: None, Limits.of(PATIENCE_SECONDS, PATIENCE_SECONDS))
        except ProviderFailure as failure:
            return Outcome(None, failure.code)
        return Outcome(completion.text)


@dataclass(frozen=True)
class Difference:
    """A reason to read transcripts differently from the yardstick, and the transcripts that it covers."""

    reason: str
    applies: Callable[[Transcript, Outcome, Outcome], bool]


def _more(*traits: str) -> Callable[[Transcript, Outcome, Outcome], bool]:
    """We read a reply where the client's iteration ends with an error, for one of these traits."""
    return lambda transcript, ours, theirs: bool(
        ours.reply is not None and theirs.reply is None and transcript.traits & set(traits)
    )


DIFFERENCES = (
    Difference(
        "A frame that says nothing is passed over. The client takes an empty or named frame for JSON.",
        _more("frames that say nothing", "bytes that are no UTF-8"),
    ),
    Difference(
        "The answer is whole once its end has been said. The client waits for the connection's end too.",
        _more("cut", "stays open", "chunked", "length"),
    ),
    Difference(
        "One object in place of a stream is read as the reply that it holds. The client finds no event in it.",
        _more("one object"),
    ),
    Difference(
        "A byte order mark is no part of the first field's name. The client loses the first chunk with it.",
        lambda transcript, ours, theirs: "BOM" in transcript.traits,
    ),
    Difference(
        "What was cut at a limit, filtered, or broken off by the server is no reply, whatever was said until then.",
        lambda _, ours, theirs: (
            ours.why in ("ai_truncated", "ai_refused", "ai_unavailable")
            and (theirs.finish_reason or "").lower()
            in ("length", "max_tokens", "content_filter", "sensitive", "safety", "error", "abort")
        ),
    ),
    Difference(
        "`event: error` is an error, whatever its data says. The client wants an `error` in the data.",
        lambda transcript, ours, _: "named error" in transcript.traits and ours.why == "ai_unavailable",
    ),
)


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    replay = Replay()
    yield replay
    replay.stop()


def test_what_openais_client_reads_as_a_whole_reply_a_patient_gets_as_that_reply(replay: Replay) -> None:
    yardstick, ours = Yardstick(replay), Ours(replay)
    seen: Counter[str] = Counter()
    unexplained = []
    traits: Counter[str] = Counter()
    for transcript in transcripts(SEED, COUNT):
        read, expected = ours.read(transcript), yardstick.read(transcript)
        traits.update(transcript.traits)
        if read.reply == expected.reply:
            seen["the same reply" if read.reply is not None else "no reply for both"] += 1
            continue
        reason = next((known.reason for known in DIFFERENCES if known.applies(transcript, read, expected)), None)
        if reason is None:
            unexplained.append((transcript.number, read, expected, sorted(transcript.traits)))
        seen[reason or "unexplained"] += 1
    print(*seen.most_common(), sep="\n")
    assert unexplained == []
    # Each variation and each reason occurs, and most transcripts are whole: the test compares something.
    assert {known.reason for known in DIFFERENCES} <= set(seen)
    assert seen["the same reply"] > COUNT / 2
    assert len(DIFFERENCES) < 10
