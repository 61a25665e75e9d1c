"""What the loopback server says on the Responses API: replies and events in the shapes of openai 3.54's own types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
TEXTS = {"empty_content": "", "whitespace": "  \n", "surrogate": "half \ud83d of it"}
KEPT_EVENTS = 5
"""Events before a cut: two pieces of text among them."""


def response(text: str, usage: dict[str, Any], name: str, model: Any) -> dict[str, Any]:
    """A whole response, as the fault ``name`` wants it."""
    part: dict[str, Any] = {"type": "output_text", "text": TEXTS.get(name, text), "annotations": []}
    if name == "refusal":
        part = {"type": "refusal", "refusal": "I cannot help with that."}
    message = {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [part]}
    output: list[dict[str, Any]] = [message]
    if name == "null_content":
        message["content"] = None
    elif name == "no_choices":
        output = []
    elif name == "thinking_first":
        output = [{"type": "reasoning", "id": "rs", "summary": []}, message]
    elif name in ("tool_call", "tool_named"):
        call = {"type": "function_call", "id": "fc", "call_id": "c1", "name": "look_up"}
        output = [{**call, "arguments": '{"of": "Tokyo"}', "status": "completed"}]
    status = "incomplete" if name in INCOMPLETE else "failed" if name.startswith("failed_") else "completed"
    code = {"failed_reply": "server_error", "failed_image": "invalid_image"}.get(name)
    return {
        "id": "resp",
        "object": "response",
        "created_at": 1,
        "model": model,
        "status": status,
        "error": None if code is None else {"code": code, "message": "scripted failure"},
        "incomplete_details": {"reason": INCOMPLETE[name]} if name in INCOMPLETE else None,
        "output": [] if status == "failed" else output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": None if name == "no_usage" else _usage(usage, name),
    }


def _usage(usage: dict[str, Any], name: str) -> dict[str, Any]:
    if name == "bad_usage":
        return {"input_tokens": -3, "output_tokens": "many", "total_tokens": True}
    given, made = usage["input"], usage["output"]
    return {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": given + made,
    }


def events(whole: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The same response as it is streamed: kind and data of each event."""
    made = list(_bare(whole))
    for number, (kind, data) in enumerate(made):
        yield kind, {"type": kind, "sequence_number": number, **data}


def error_event(code: str) -> dict[str, Any]:
    """An event that ends a stream, although its HTTP status was 200."""
    return {"type": "error", "sequence_number": 9, "code": code, "message": "scripted error", "param": None}


def _bare(whole: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "error": None}
    if "service_tier" in whole:
        begun["service_tier"] = "auto"  # at first the API repeats what was asked for
    yield "response.created", {"response": begun}
    for index, item in enumerate(whole["output"]):
        place = {"output_index": index}
        yield "response.output_item.added", {**place, "item": {**item, "content": []}}
        for part in item.get("content") or []:
            where = {**place, "item_id": item["id"], "content_index": 0}
            yield "response.content_part.added", {**where, "part": {**part, "text": ""}}
            kind = "refusal" if part["type"] == "refusal" else "output_text"
            text = part.get("refusal") or part.get("text") or ""
            for piece in [text[i : i + 5] for i in range(0, len(text), 5)]:
                yield f"response.{kind}.delta", {**where, "delta": piece, "logprobs": []}
        if item["type"] == "function_call":
            for piece in (item["arguments"][:4], item["arguments"][4:]):
                yield "response.function_call_arguments.delta", {**place, "item_id": "fc", "delta": piece}
        yield "response.output_item.done", {**place, "item": item}
    yield f"response.{whole['status']}", {"response": whole}
