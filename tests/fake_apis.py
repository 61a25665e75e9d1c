"""A loopback server that speaks OpenAI chat completions and Responses, Anthropic messages and ScaleDown classify.

It answers well until told otherwise::

    with FakeApis() as fake:
        fake.then("429", "ok")            # the next requests, one name each
        fake.always("hang")               # every request after those
        fake.by_model["slow-one"] = "drip"
        fake.openai_url, fake.anthropic_url, fake.scaledown_url
        fake.requests[0].body["messages"]

``FAULTS`` names what it can do. Faults that need no wire format (statuses, cuts, hangs) work on all three.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fake_responses

STATUSES: dict[str, tuple[int, dict[str, str]]] = {
    "301": (301, {"Location": "/elsewhere"}),
    "307": (307, {"Location": "http://127.0.0.1:9/elsewhere"}),
    "400": (400, {}),
    "401": (401, {}),
    "402": (402, {}),
    "403": (403, {}),
    "404": (404, {}),
    "408": (408, {}),
    "409": (409, {}),
    "413": (413, {}),
    "422": (422, {}),
    "429": (429, {"Retry-After": "0"}),
    "429-after-1": (429, {"Retry-After": "1"}),
    "429-after-3": (429, {"Retry-After": "3"}),
    "429-after-200": (429, {"Retry-After": "200"}),
    "429-after-minus": (429, {"Retry-After": "-5"}),
    "429-after-nan": (429, {"Retry-After": "NaN"}),
    "429-after-huge": (429, {"Retry-After": "1e400"}),
    "429-after-past": (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "500": (500, {}),
    "502": (502, {}),
    "503": (503, {"Retry-After": "0"}),
    "529": (529, {}),
}
BODIES: dict[str, tuple[str, bytes]] = {
    "cut_json": ("application/json", b'{"id": "x", "choices": [{"mess'),
    "empty_body": ("application/json", b""),
    "html": ("text/html", b"<html><body>Please log in</body></html>"),
    "null": ("application/json", b"null"),
    "object": ("application/json", b"{}"),
    "list": ("application/json", b"[]"),
    "text_body": ("application/json", b'"hello"'),
    "not_utf8": ("application/json", b'{"id": "\xff\xfe"}'),
}
WIRE = ("closed", "hang", "drip", "drip_headers", "huge", "gzip", "gzip_error", "short_body")
REPLIES = (
    "ok",
    "no_choices",
    "empty_content",
    "null_content",
    "refusal",
    "tool_call",
    "thinking_first",
    "no_usage",
    "bad_usage",
    "length",
    "content_filter",
    "whitespace",
    "surrogate",
    "tool_named",  # a call of the tool that the caller named: OpenAI's finish reason is then "stop"
    "failed_reply",  # these two are the Responses API's own: others answer well
    "failed_image",
)
STREAMS = (
    "cut_stream",
    "cut_chunk",
    "cut_before",
    "error_event",
    "bad_json_event",
    "stall",
    "silent_end",
    "stall_at_end",
    "error_first",
)
PARAMETERS = ("reject_max_tokens", "reject_max_completion_tokens", "reject_stream_options", "too_many_tokens")
FAULTS = (*STATUSES, *BODIES, *WIRE, *REPLIES, *STREAMS, *PARAMETERS)


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived; header names in lower case."""

    api: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: Any = field(repr=False)


class FakeApis:
    """The server; use it as a context manager. Everything may be changed while it runs."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.by_model: dict[str, str] = {}
        self.text = "The capital of Japan is Tokyo."
        self.drip_s = 0.03
        self.usage: dict[str, Any] = {"input": 12, "output": 7}
        self.service_tier: str | None = None
        """How it says that it serves calls, in each API's own place."""
        self.beside: dict[str, Any] = {}
        """What it says of charges beside tokens of text: fields of the usage, or of an output item of the Responses API."""
        self.verbatim: Any = None
        """What is sent as it stands in place of a good reply: a whole one, or the events of a stream."""
        self.running_usage = False
        """Whether each chunk of a chat stream tells the tokens so far, as vLLM can: here always one of output."""
        self.scores: dict[str, Any] | Callable[[dict[str, Any]], Any] | None = None
        """Label to score; or a function of the classify request that gives the whole reply; None: first label 0.7."""
        self.stopping = threading.Event()
        self._script: deque[str] = deque()
        self._default = "ok"
        self._lock = threading.Lock()

    def __enter__(self) -> FakeApis:
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        return self.url + "/v1"

    @property
    def anthropic_url(self) -> str:
        return self.url

    @property
    def scaledown_url(self) -> str:
        return self.url

    def then(self, *names: str) -> None:
        """Answer the next requests like this, one name each."""
        self._check(names)
        self._script.extend(names)

    def always(self, name: str) -> None:
        """Answer every request like this once the script is used up."""
        self._check((name,))
        self._default = name

    def reset(self) -> None:
        """Answer well again and forget the requests so far."""
        with self._lock:
            self._script.clear()
            self._default = "ok"
            self.by_model.clear()
            self.requests.clear()
            self.scores = None
            self.running_usage, self.service_tier, self.beside = False, None, {}
            self.verbatim = None

    def _check(self, names: tuple[str, ...]) -> None:
        if unknown := set(names) - set(FAULTS):
            raise ValueError(f"unknown faults: {sorted(unknown)}")

    def record(self, request: Recorded) -> str:
        """Keep a request and say how to answer it."""
        with self._lock:
            self.requests.append(request)
            model = request.body.get("model") if isinstance(request.body, dict) else None
            if model in self.by_model:
                return self.by_model[model]
            return self._script.popleft() if self._script else self._default


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what many tests are about: not worth a traceback."""


class _Handler(BaseHTTPRequestHandler):
    fake: FakeApis
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = (
        True  # head and body are two writes: with it each reply would wait 40 ms for an ACK
    )

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with contextlib.suppress(ValueError):
            raw = json.loads(raw)
        path = self.path.split("?")[0]
        api = _APIS.get(path, "")
        headers = {name.lower(): value for name, value in self.headers.items()}
        name = self.fake.record(Recorded(api, self.path, headers, raw))
        if not api:
            name = "404"
        elif not headers.get("authorization", "").removeprefix("Bearer ") and not headers.get("x-api-key"):
            name = "401"
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._answer(api, name, raw if isinstance(raw, dict) else {})

    def _answer(self, api: str, name: str, body: dict[str, Any]) -> None:
        if name in STATUSES:
            status, extra = STATUSES[name]
            self._send(status, json.dumps(_error(api, status, f"scripted {name}")).encode(), headers=extra)
        elif name in BODIES:
            kind, content = BODIES[name]
            self._send(200, content, kind)
        elif name in WIRE:
            self._misbehave(name)
        elif name in PARAMETERS and (message := _parameter_error(name, body)):
            parameter, text = message
            reply = _error(api, 400, text)
            reply["error"] |= {
                "param": parameter,
                "code": "unsupported_parameter" if "too" not in name else "too_large",
            }
            self._send(400, json.dumps(reply).encode())
        elif api == "scaledown":
            self._send(200, json.dumps(_classify(self.fake, body)).encode())
        elif body.get("stream"):
            self._stream(api, name, body)
        else:
            self._send(200, json.dumps(_reply(api, self.fake, name, body)).encode())

    def _send(
        self,
        status: int,
        content: bytes,
        kind: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _misbehave(self, name: str) -> None:
        self.close_connection = True
        stopping = self.fake.stopping
        if name == "hang":
            stopping.wait(60)
        elif name == "drip_headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not stopping.wait(self.fake.drip_s):
                self.wfile.write(b"a")
        elif name in ("drip", "huge"):
            self._head({"Content-Type": "application/json"})
            self.wfile.write(b'{"id": "')
            while not stopping.wait(self.fake.drip_s if name == "drip" else 0):
                self.wfile.write(b"a" * (1 if name == "drip" else 1_000_000))
        elif name == "gzip":  # says gzip although the client asked for identity
            self._head(
                {"Content-Type": "application/json", "Content-Encoding": "gzip", "Content-Length": "20"}
            )
            self.wfile.write(b"\x1f\x8b" + b"\0" * 18)
        elif name == "gzip_error":
            self.send_response(429)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif name == "short_body":
            self._head({"Content-Type": "application/json", "Content-Length": "500"})
            self.wfile.write(b'{"id": "x"')

    def _head(self, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _stream(self, api: str, name: str, body: dict[str, Any]) -> None:
        if self.fake.verbatim is not None:
            events = [(event.get("type", ""), event) for event in self.fake.verbatim]
            events += [("", "[DONE]")] if api == "openai" else []
        elif api == "responses":
            events = list(fake_responses.events(_reply(api, self.fake, name, body)))
        elif api == "openai":
            events = list(_openai_events(self.fake, name, body))
        else:
            events = list(_anthropic_events(self.fake, name))
        before = {"openai": 3, "anthropic": 4, "responses": fake_responses.KEPT_EVENTS}[api]
        self._head({"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        if name in ("cut_stream", "cut_chunk", "stall"):
            events = events[:before]
        elif name in ("cut_before", "silent_end"):
            events = []
        elif name == "stall_at_end":  # the reply is complete, but its end never comes
            events = events[: -2 if api == "openai" else -1]
        elif name in ("error_event", "error_first"):
            error = _error(api, 529, "scripted error event")
            if api == "responses":
                error = fake_responses.error_event("server_error")
            events = [*events[: 1 if name == "error_first" else before], ("error", error)]
        elif name == "bad_json_event":
            events = [*events[:before], ("content_block_delta", '{"choices": [{"del')]
        for kind, data in events:
            content = data if isinstance(data, str) else json.dumps(data)
            self._chunk((f"event: {kind}\n" if api != "openai" else "") + f"data: {content}\n\n")
        if name in ("stall", "stall_at_end"):
            self.fake.stopping.wait(60)
        if name in ("stall", "stall_at_end", "cut_chunk", "cut_before"):
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, text: str) -> None:
        content = text.encode()
        self.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")


_APIS = {
    "/v1/chat/completions": "openai",
    "/v1/responses": "responses",
    "/v1/messages": "anthropic",
    "/classify": "scaledown",
}


def _reply(api: str, fake: FakeApis, name: str, body: dict[str, Any]) -> dict[str, Any]:
    if fake.verbatim is not None:
        return fake.verbatim
    if api == "responses":
        reply = fake_responses.response(fake.text, fake.usage, name, body.get("model"))
        if fake.beside:
            reply["output"] = [fake.beside, *reply["output"]]
        return reply if fake.service_tier is None else {**reply, "service_tier": fake.service_tier}
    return _openai(fake, name, body) if api == "openai" else _anthropic(fake, name, body)


def _error(api: str, status: int, message: str) -> dict[str, Any]:
    kinds = {
        401: "authentication_error",
        404: "not_found_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    kind = kinds.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": message, "code": None, "param": None}}


def _parameter_error(name: str, body: dict[str, Any]) -> tuple[str, str] | None:
    parameter = name.removeprefix("reject_")
    if name == "too_many_tokens":
        parameter = next((x for x in ("max_tokens", "max_completion_tokens") if x in body), "max_tokens")
        return parameter, f"{parameter} is too large: 9. This model supports at most 5 tokens."
    if parameter in body:
        return parameter, f"Unsupported parameter: '{parameter}' is not supported with this model."
    return None


def _classify(fake: FakeApis, body: dict[str, Any]) -> Any:
    labels = [label["name"] for label in body.get("labels", [])]
    if callable(fake.scores):
        return fake.scores(body)
    rest = 0.3 / max(len(labels) - 1, 1)
    scores = fake.scores or {name: 0.7 if i == 0 else rest for i, name in enumerate(labels)}
    rubric = {label["name"]: label.get("rubric") for label in body.get("labels", [])}
    return {
        "top_label": max(scores, key=lambda name: scores[name]) if scores else None,
        "scores": scores,
        "labels": [
            {"label": name, "score": score, "rubric": rubric.get(name)} for name, score in scores.items()
        ],
    }


def _openai(fake: FakeApis, name: str, body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": fake.text}
    finish = {"length": "length", "content_filter": "content_filter", "tool_call": "tool_calls"}.get(
        name, "stop"
    )
    if name in ("null_content", "refusal", "tool_call", "tool_named"):
        message["content"] = None
    if name in _TEXTS:
        message["content"] = _TEXTS[name]
    if name == "refusal":
        message["refusal"] = "I cannot help with that."
    if name in ("tool_call", "tool_named"):
        call = {
            "id": "c1",
            "type": "function",
            "function": {"name": "look_up", "arguments": '{"of": "Tokyo"}'},
        }
        message["tool_calls"] = [call]
    choices = [] if name == "no_choices" else [{"index": 0, "message": message, "finish_reason": finish}]
    reply = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model"),
        "choices": choices,
    }
    if fake.service_tier is not None:
        reply["service_tier"] = fake.service_tier
    return reply if name == "no_usage" else {**reply, "usage": _openai_usage(fake, name)}


_TEXTS = {"empty_content": "", "whitespace": "  \n", "surrogate": "half \ud83d of it"}


def _openai_usage(fake: FakeApis, name: str) -> dict[str, Any]:
    if name == "bad_usage":
        return {"prompt_tokens": -3, "completion_tokens": "many", "total_tokens": True}
    given, made = fake.usage["input"], fake.usage["output"]
    return {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}


def _anthropic(fake: FakeApis, name: str, body: dict[str, Any]) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": _TEXTS.get(name, fake.text)}]
    stop = {
        "length": "max_tokens",
        "refusal": "refusal",
        "content_filter": "refusal",
        "tool_call": "tool_use",
        "tool_named": "tool_use",
    }
    if name in ("no_choices", "empty_content", "refusal"):
        content = []
    if name == "null_content":
        content = None  # type: ignore[assignment]
    if name == "thinking_first":
        content.insert(0, {"type": "thinking", "thinking": "hm", "signature": "s"})
    if name in ("tool_call", "tool_named"):
        content = [{"type": "tool_use", "id": "c1", "name": "look_up", "input": {"of": "Tokyo"}}]
    reply = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": content,
        "stop_reason": stop.get(name, "end_turn"),
        "stop_sequence": None,
    }
    return reply if name == "no_usage" else {**reply, "usage": _anthropic_usage(fake, name)}


def _anthropic_usage(fake: FakeApis, name: str) -> dict[str, Any]:
    if name == "bad_usage":
        return {"input_tokens": -3, "output_tokens": "many"}
    told = {} if fake.service_tier is None else {"service_tier": fake.service_tier}
    return {"input_tokens": fake.usage["input"], "output_tokens": fake.usage["output"], **told, **fake.beside}


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [word if i == 0 else " " + word for i, word in enumerate(words)]


def _openai_events(fake: FakeApis, name: str, body: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    whole = _openai(fake, name, body)
    so_far = {"prompt_tokens": fake.usage["input"], "completion_tokens": 1}
    base = {**whole, "object": "chat.completion.chunk", "usage": so_far if fake.running_usage else None}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> tuple[str, Any]:
        return "", {**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": ""})
    for choice in whole["choices"]:
        message = choice["message"]
        if message.get("content"):
            for piece in _pieces(message["content"]):
                yield chunk({"content": piece})
        if "refusal" in message:
            yield chunk({"refusal": message["refusal"]})
        if "tool_calls" in message:
            call = message["tool_calls"][0]
            begun = {**call, "function": {"name": call["function"]["name"], "arguments": ""}}
            yield chunk({"tool_calls": [{"index": 0, **begun}]})
            for piece in (call["function"]["arguments"][:4], call["function"]["arguments"][4:]):
                yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield chunk({}, choice["finish_reason"])
    if "usage" in whole and (body.get("stream_options") or {}).get("include_usage"):
        yield "", {**base, "choices": [], "usage": whole["usage"]}
    yield "", "[DONE]"


def _anthropic_events(fake: FakeApis, name: str) -> Iterator[tuple[str, Any]]:
    whole = _anthropic(fake, name, {"model": "m"})
    usage = whole.get("usage")
    start = {**whole, "content": [], "stop_reason": None}
    if usage is not None:
        start["usage"] = {**usage, "output_tokens": 1}  # what the API sends first: a count that is soon stale
    yield "message_start", {"type": "message_start", "message": start}
    yield "ping", {"type": "ping"}
    for index, block in enumerate(whole["content"] or []):
        opened = {**block, "text": ""} if block["type"] == "text" else block
        if block["type"] == "tool_use":
            opened = {**block, "input": {}}
        yield "content_block_start", {"type": "content_block_start", "index": index, "content_block": opened}
        for piece in _pieces(block["text"]) if block["type"] == "text" else []:
            delta = {"type": "text_delta", "text": piece}
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
        given = json.dumps(block["input"]) if block["type"] == "tool_use" else ""
        for piece in (given[:4], given[4:]) if given else ():
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield "content_block_delta", {"type": "content_block_delta", "index": index, "delta": delta}
        yield "content_block_stop", {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    end: dict[str, Any] = {"type": "message_delta", "delta": delta}
    if usage is not None:
        end["usage"] = {"output_tokens": usage["output_tokens"]}
    yield "message_delta", end
    yield "message_stop", {"type": "message_stop"}
