"""Answers to a chat completion as servers of many kinds send them, byte by byte, composed at random from a seed.

Each variation was seen in a server, a proxy or a bug report. `Transcript.traits` names the ones in it.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

#: Words that a patient gets: none of them is blank, and some are several bytes or UTF-16 units long.
TEXTS = (
    ("Uống ", "nhiều ", "nước."),
    ("Good day. ", "How are you?"),
    ("Hello 👋", " – take 2×500 mg", "\n\n* daily\n* with food"),
    ("Gọi 115", " ngay", "!"),
    ("{", '"a": 1', "}"),
    ("data: x", "\n\ndata: [DONE]\n\n", "."),
    ("…",),
)
WHOLE_WORDS = ("stop", "eos", "end", "STOP", "end_turn", "stop_sequence", "tool_calls", "function_call", "bored")
SHORT_WORDS = ("length", "max_tokens", "MAX_TOKENS", "content_filter", "sensitive", "SAFETY", "error", "abort")
USAGES: tuple[Any, ...] = (
    {"prompt_tokens": 7, "completion_tokens": 5},
    {"prompt_tokens": "7"},
    {"prompt_tokens": -1, "completion_tokens": None},
    {},
    None,
    "7",
    [7, 5],
    12,
)


@dataclass(frozen=True)
class Transcript:
    """The bytes of an HTTP answer. `closes`: the server ends the connection after them; else it stays silent."""

    number: int
    raw: bytes
    traits: frozenset[str]
    closes: bool = True


@dataclass
class _Composer:
    random: random.Random
    traits: set[str] = field(default_factory=set)

    def chance(self, probability: float, trait: str) -> bool:
        if self.random.random() >= probability:
            return False
        self.traits.add(trait)
        return True

    def one_of[T](self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    # One answer's chunks.

    def chunks(self) -> list[Any]:
        """The chunks of one answer, as JSON values."""
        texts = self.one_of(TEXTS)
        index = 0
        if self.chance(0.1, "another index"):
            index = self.one_of((1, 2, 7))
        chunks: list[Any] = []
        if self.chance(0.6, "role first"):
            chunks.append(self.chunk(index, {"role": "assistant", "content": self.one_of(("", None))}))
        if self.chance(0.1, "reasoning field"):
            chunks.append(self.chunk(index, {"reasoning_content": "She is afraid.", "content": None}))
        as_parts = self.chance(0.12, "parts")
        for text in texts:
            chunks.append(self.chunk(index, {"content": self.parts(text) if as_parts else text}))
            if self.chance(0.05, "empty delta"):
                chunks.append(self.chunk(index, self.one_of(({}, {"content": None}, {"content": ""}, None))))
        if self.chance(0.06, "no choices"):
            chunks.insert(self.random.randrange(len(chunks)), {"choices": self.one_of(([], None)), "id": "x"})
        if self.chance(0.04, "a second choice"):
            chunks.append(self.chunk(index + 1, {"content": "Another reply."}))
        self.finish(chunks, index)
        if self.chance(0.6, "usage"):
            chunks.append({"choices": self.one_of(([], None)), "usage": self.one_of(USAGES)})
        return chunks

    def finish(self, chunks: list[Any], index: int) -> None:
        if self.chance(0.12, "no finish_reason"):
            return
        word = self.one_of(WHOLE_WORDS)
        if self.chance(0.12, "cut short by its word"):
            word = self.one_of(SHORT_WORDS)
        if word == "bored":
            self.traits.add("unknown word")
        if self.chance(0.3, "finish_reason beside text"):
            own = lambda chunk: chunk.get("choices") and chunk["choices"][0].get("index", 0) == index  # noqa: E731
            last = next(filter(own, reversed(chunks)))
            last["choices"][0]["finish_reason"] = word
        else:
            chunks.append(self.chunk(index, self.one_of(({}, {"content": ""}, {"content": None})), word))

    def chunk(self, index: int, delta: Any, finish_reason: str | None = None) -> dict[str, Any]:
        choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish_reason}
        if index == 0 and self.chance(0.03, "no index"):
            del choice["index"]
        if finish_reason is None and self.chance(0.2, "no finish_reason key"):
            del choice["finish_reason"]
        chunk = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        if self.chance(0.05, "odd usage in each chunk"):
            chunk["usage"] = self.one_of(USAGES)
        if self.chance(0.03, "other fields"):
            choice["logprobs"], chunk["error"], chunk["x_groq"] = None, None, {"id": "1"}
        return chunk

    def parts(self, text: str) -> list[Any]:
        half = len(text) // 2
        parts: list[Any] = [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}]
        if self.chance(0.5, "thinking part"):
            parts.insert(0, {"type": "thinking", "thinking": [{"type": "text", "text": "She is afraid."}]})
        return parts

    # The stream that carries them.

    def stream(self) -> bytes:
        end = self.one_of(("\n", "\n", "\n", "\r\n", "\r"))
        frames = [self.frame(chunk, end) for chunk in self.chunks()]
        if self.chance(0.12, "frames that say nothing"):
            for _ in range(self.random.randint(1, 3)):
                frames.insert(self.random.randrange(len(frames) + 1), self.silent_frame(end))
        if self.chance(0.05, "error in the stream"):
            frames.insert(self.random.randrange(len(frames) + 1), self.error_frame(end))
        if self.chance(0.03, "malformed chunk"):
            broken = self.one_of(('data: {"choices": [', "data: <html>", "data: {'choices': []}"))
            frames.insert(self.random.randrange(len(frames) + 1), broken + end + end)
        if self.chance(0.75, "done"):
            mark = self.one_of(("[DONE]", "[DONE]", "[DONE]", "[DONE] "))
            frames.append(f"data: {mark}{end}{end}")
            if self.chance(0.05, "more after done"):
                frames.append(f"data: {{{end}{end}")
        if self.chance(0.06, "comments"):
            frames.insert(self.random.randrange(len(frames) + 1), f": OPENROUTER PROCESSING{end}{end}")
        body = "".join(frames).encode()
        if self.chance(0.02, "bytes that are no UTF-8"):
            at = self.random.randrange(len(body))
            body = body[:at] + b"\xff" + body[at:]
        if self.chance(0.03, "BOM"):
            body = b"\xef\xbb\xbf" + body
        return body

    def frame(self, chunk: Any, end: str) -> str:
        document = json.dumps(chunk, ensure_ascii=self.random.random() < 0.5)
        name = f"event: {self.one_of(('message', 'chunk'))}{end}" if self.chance(0.04, "named event") else ""
        field_ = "data:" if self.chance(0.2, "no blank after the colon") else "data: "
        if self.chance(0.03, "several data lines"):
            document = json.dumps(chunk, indent=1).replace("\n", f"{end}{field_}")
        return f"{name}{field_}{document}{end}{end}"

    def silent_frame(self, end: str) -> str:
        return self.one_of(
            (
                f"data:{end}{end}",
                f"data: {end}{end}",
                f"event: ping{end}data: still here{end}{end}",
                f"event: ping{end}{end}",
                f"event: heartbeat{end}data:{end}{end}",
                f"data: null{end}{end}",
                f"retry: 3000{end}{end}",
                f"id: 7{end}{end}",
            )
        )

    def error_frame(self, end: str) -> str:
        errors = ({"message": "overloaded", "code": 503}, {"message": "x", "type": "server_error"}, "overloaded")
        if self.chance(0.3, "named error"):
            return f'event: error{end}data: {{"message": "overloaded"}}{end}{end}'
        return f"data: {json.dumps({'error': self.one_of(errors)})}{end}{end}"

    # The answer around it.

    def object(self) -> bytes:
        self.traits.add("one object")
        text = "".join(self.one_of(TEXTS))
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self.chance(0.2, "parts"):
            message["content"] = self.parts(text)
        answer = {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": message, "finish_reason": self.one_of(("stop", "eos", None))}],
            "usage": self.one_of(USAGES),
        }
        if self.chance(0.2, "error in the object"):
            answer = {"error": {"message": "overloaded"}}
        return json.dumps(answer, indent=self.one_of((None, 2))).encode()

    def answer(self, number: int) -> Transcript:
        body = self.object() if self.random.random() < 0.05 else self.stream()
        headers = [f"Content-Type: {self.content_type()}"]
        body = self.coded(body, headers)
        status = "201 Created" if self.chance(0.02, "201") else "200 OK"
        head_of = lambda: "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()  # noqa: E731
        before = b""
        if self.chance(0.06, "1xx"):
            before = b"".join(
                self.one_of((b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"))
                for _ in range(self.random.randint(1, 2))
            )
        framing = self.one_of(("chunked", "chunked", "length", "close"))
        self.traits.add(framing)
        if framing == "length":
            headers.append(f"Content-Length: {len(body)}")
        elif framing == "chunked":
            headers.append("Transfer-Encoding: chunked")
            body = self.in_chunks(body)
        closes = True
        if self.chance(0.12, "cut"):
            body = body[: self.random.randrange(len(body) + 1)]
        elif self.chance(0.01, "stays open"):
            body, closes = (body.removesuffix(b"0\r\n\r\n") if framing == "chunked" else body), framing == "length"
        return Transcript(number, before + head_of() + body, frozenset(self.traits), closes)

    def content_type(self) -> str:
        if self.chance(0.15, "odd media type"):
            return self.one_of(("application/json", "text/plain", "application/octet-stream", "TEXT/EVENT-STREAM", ""))
        return self.one_of(("text/event-stream", "text/event-stream; charset=utf-8"))

    def coded(self, body: bytes, headers: list[str]) -> bytes:
        """The body in the coding that a header names."""
        codings: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
        if self.chance(0.06, "compressed"):
            name = self.one_of(tuple(codings))
            headers.append(f"Content-Encoding: {name}")
            return codings[name](body)
        if self.chance(0.05, "no coding by another name"):
            headers.append(f"Content-Encoding: {self.one_of(('none', '', 'identity', 'Identity', 'IDENTITY'))}")
        return body

    def in_chunks(self, body: bytes) -> bytes:
        pieces = []
        while body:
            size = self.random.randint(1, 400)
            piece, body = body[:size], body[size:]
            pieces.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        return b"".join(pieces) + b"0\r\n\r\n"


def transcripts(seed: int, count: int) -> list[Transcript]:
    """`count` answers. The same seed gives the same ones."""
    return [_Composer(random.Random(f"{seed}/{number}")).answer(number) for number in range(count)]
