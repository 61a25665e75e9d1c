"""OpenAI's Responses API: its request, its reply and its events, as far as they differ from chat completions."""

from __future__ import annotations

from typing import Any

from router.providers.call import Fault, Progress, Request, cleaned, get
from router.providers.http import json_of, timeouts
from router.providers.tools import responses_choice, responses_input, responses_tools
from router.providers.usage import openai_usage


class FailedResponse(Exception):
    """A response that ended as failed although the HTTP status was 200; holds OpenAI's code for why, never its message."""

    def __init__(self, code: Any) -> None:
        self.code = code if isinstance(code, str) else ""
        super().__init__("the response failed")

    @property
    def fault(self) -> Fault:
        """What it comes to."""
        name = type(self).__name__
        if "rate_limit" in self.code:
            return Fault("rate_limited", name, True)
        if self.code in ("", "server_error"):
            return Fault("broken_off", name, True)
        refused = self.code.startswith(("invalid_", "image_", "empty_", "unsupported_"))
        return Fault("rejected" if refused else "error", name)


_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}
_CALLERS = frozenset(
    {"function_call", "custom_tool_call", "computer_call", "local_shell_call", "apply_patch_call"}
)
"""Calls that the caller runs; of every other "..._call" the provider has run a tool, and charges for it by use."""
_ENDS = ("response.completed", "response.incomplete", "response.failed")


def responses_arguments(request: Request, left: float) -> dict[str, Any]:
    """Arguments of ``responses.create``; OpenAI is asked to keep nothing, as with chat completions."""
    arguments: dict[str, Any] = {
        "model": request.model,
        "input": cleaned(responses_input(request.messages)),
        "max_output_tokens": request.max_tokens,
        "store": False,
        "timeout": timeouts(left),
    }
    if request.system is not None:
        arguments["instructions"] = cleaned(request.system)
    if request.tools:
        arguments["tools"] = cleaned(responses_tools(request.tools))
        if request.tool_choice is not None:
            arguments["tool_choice"] = cleaned(responses_choice(request.tool_choice))
    return arguments


async def send(client: Any, request: Request, progress: Progress) -> None:
    """One request; see ``SdkProvider._send``."""
    arguments = responses_arguments(request, progress.left)
    if progress.emit is not None:
        async with await client.responses.create(**arguments, stream=True) as stream:
            await _read_stream(stream, progress)
        return
    reply = json_of(await client.responses.with_raw_response.create(**arguments))
    progress.begun = True
    output = get(reply, "output")
    if not isinstance(output, list):
        progress.end("malformed", "MalformedReply")
        return
    _read_output(output, progress)
    _read_end(reply, progress)


def _read_output(output: Any, progress: Progress) -> None:
    """Text and calls of a whole response; of a stream's last one what its events did not give."""
    items = output if isinstance(output, list) else []
    text, calls = not progress.pieces, not progress.calls
    for index, item in enumerate(items):
        for part in _contents(item) if text else []:
            _read_part(part, progress)
        if calls:
            _read_call(item, index, progress)


def _contents(item: Any) -> list[Any]:
    found = get(item, "content")
    return found if get(item, "type") == "message" and isinstance(found, list) else []


def _read_part(part: Any, progress: Progress) -> None:
    if get(part, "type") == "output_text":
        progress.add(get(part, "text"))
    elif get(part, "type") == "refusal":
        progress.refused = True
        progress.add(get(part, "refusal"))


def _read_call(item: Any, index: Any, progress: Progress) -> None:
    """A tool call: the caller's to run, or one that the provider has run."""
    kind = get(item, "type")
    told = get(item, "call_id") or get(item, "id"), get(item, "name")
    if kind == "function_call":
        progress.call_tool(index, *told, get(item, "arguments"))
    elif kind == "custom_tool_call":
        progress.call_tool(index, *told, get(item, "input"), custom=True)
    _note_run(item, progress)


def _note_run(item: Any, progress: Progress) -> None:
    kind = str(get(item, "type"))
    if kind.endswith("_call") and kind not in _CALLERS:
        progress.ran_tools = True


def _read_end(reply: Any, progress: Progress) -> None:
    """Usage and ending out of the whole response, which a stream gives with its last event."""
    output = get(reply, "output")
    for item in output if isinstance(output, list) else []:
        _note_run(item, progress)
    progress.usage = openai_usage(get(reply, "usage"))
    progress.served(get(reply, "service_tier"))
    status = get(reply, "status")
    if status == "failed":
        _fail(get(get(reply, "error"), "code"), progress)
    elif status == "incomplete":
        why = str(get(get(reply, "incomplete_details"), "reason") or "")
        progress.finish(_INCOMPLETE.get(why, why or "incomplete"))
        progress.conclude(unfinished=True)
    elif status == "completed":
        progress.finish("stop")
        progress.conclude()
    else:  # queued, in progress, cancelled, nothing: no reply
        progress.end("malformed", "MalformedReply")


def _fail(code: Any, progress: Progress) -> None:
    """A failure: an exception, or the ending of a reply that a policy of OpenAI's forbids."""
    error = FailedResponse(code)
    if "policy" not in error.code:
        raise error
    progress.finish("content_filter")
    progress.conclude()


async def _read_stream(stream: Any, progress: Progress) -> None:
    """Read to the end, also behind the last event: the SDK's generators, left in the middle, would be closed by chance."""
    events, ended = False, False
    failed: FailedResponse | None = None
    async for event in stream:
        events = True
        kind = get(event, "type")
        progress.begun = progress.begun or kind != "error"
        if kind == "response.output_text.delta":
            progress.add(get(event, "delta"))
        elif kind == "response.refusal.delta":
            progress.refused = True
            progress.add(get(event, "delta"))
        elif kind == "response.output_item.added":
            _note_run(get(event, "item"), progress)
        elif kind == "response.output_item.done":  # calls are taken whole: their pieces name no tool
            _read_call(get(event, "item"), get(event, "output_index"), progress)
        elif kind in _ENDS or kind == "error":
            ended = True
            try:
                if kind == "error":
                    _fail(get(event, "code"), progress)
                else:
                    _read_last(get(event, "response"), progress)
            except FailedResponse as error:
                failed = error
        if failed is not None:
            progress.settle(failed.fault)
    if failed is not None:
        raise failed
    if ended:
        return
    if events or "text/event-stream" in stream.response.headers.get("content-type", ""):
        progress.end("cut_stream", "CutStream")
    else:
        progress.end("malformed", "MalformedReply")


def _read_last(reply: Any, progress: Progress) -> None:
    if get(reply, "status") != "failed":  # half a reply that was not shown yet is no reason not to ask again
        _read_output(get(reply, "output"), progress)
    _read_end(reply, progress)
