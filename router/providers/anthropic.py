"""Anthropic's messages, and every server that speaks them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import anthropic
import httpx2

from router.providers.base import SdkProvider
from router.providers.call import Fault, Progress, Request, cleaned, get, status_fault
from router.providers.http import http_client, json_of, timeouts, unfit, was_sent
from router.providers.tools import messages_choice, messages_messages, messages_tools
from router.providers.usage import CHARGED_BESIDE, anthropic_usage

BASE_URL = "https://api.anthropic.com"


def _deprecated() -> Collection[str] | None:
    """Models that the SDK warns of; None where this version does not tell."""
    try:
        from anthropic._data import DEPRECATED_MODELS
    except ImportError:  # no part of its interface
        return None
    return frozenset(DEPRECATED_MODELS)


_DEPRECATED = _deprecated()

_MALFORMED = (ValueError, TypeError, AttributeError, LookupError)
_USAGE_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation",
    "output_tokens_details",
    "speed",
    "inference_geo",
    *CHARGED_BESIDE,
)


class AnthropicProvider(SdkProvider):
    """Messages over the ``anthropic`` SDK. Sends no temperature: the API takes none any more."""

    def _build(self) -> anthropic.AsyncAnthropic:
        # The SDK sends the key as a bearer token; compatible servers may look for the older header alone.
        compatible = {"X-Api-Key": self.endpoint.key} if self.endpoint.base_url else None
        return anthropic.AsyncAnthropic(
            api_key=self.endpoint.key,
            base_url=self.endpoint.base_url or BASE_URL,
            max_retries=0,
            default_headers=compatible,
            http_client=http_client(),
        )

    async def _send(self, client: Any, request: Request, progress: Progress) -> None:
        _expect_deprecation(request.model)
        arguments = _arguments(request, progress.left)
        if progress.emit is not None:
            async with await client.messages.create(**arguments, stream=True) as stream:
                await _read_stream(stream, progress)
            return
        reply = json_of(await client.messages.with_raw_response.create(**arguments))
        content, usage = get(reply, "content"), get(reply, "usage")
        if not isinstance(content, list):
            progress.end("malformed", "MalformedReply")
            return
        progress.usage = anthropic_usage(usage)
        progress.served(get(usage, "service_tier"))
        for index, block in enumerate(content):
            _read_block(block, index, progress)
        progress.finish(get(reply, "stop_reason"))
        progress.conclude()

    def _fault(self, error: Exception) -> Fault:
        name = type(error).__name__
        if (cause := unfit(error)) is not None:
            return Fault("malformed", type(cause).__name__)
        if isinstance(error, anthropic.APITimeoutError):
            sent = was_sent(error.__cause__ or error)
            return Fault("timeout", name) if sent else Fault("unreachable", name, True)
        if isinstance(error, anthropic.APIConnectionError | httpx2.HTTPError):
            return Fault("broken_off" if was_sent(error.__cause__ or error) else "unreachable", name, True)
        if isinstance(error, anthropic.APIStatusError):
            if error.status_code == 200:  # an error event inside a stream
                return _event_fault(error.type, name)
            return status_fault(error.status_code, error.response.headers, name, "")
        return Fault("malformed" if isinstance(error, _MALFORMED) else "error", name)


def _arguments(request: Request, left: float) -> dict[str, Any]:
    system, messages = lift_system(request.messages, request.system)
    arguments: dict[str, Any] = {
        "model": request.model,
        "messages": cleaned(messages_messages(messages)),
        "max_tokens": request.max_tokens,
        "timeout": timeouts(left),
    }
    if request.tools:
        arguments["tools"] = cleaned(messages_tools(request.tools))
        if request.tool_choice is not None:
            arguments["tool_choice"] = cleaned(messages_choice(request.tool_choice))
    if system:
        arguments["system"] = cleaned(system)
    return arguments


def lift_system(
    messages: Sequence[Mapping[str, Any]], system: str | None = None
) -> tuple[str | None, list[Mapping[str, Any]]]:
    """Instructions and the other messages apart: this API takes no system message in the list."""
    texts = [system] if system else []
    others = []
    for message in messages:
        if message.get("role") in ("system", "developer"):
            content = message.get("content")
            parts = content if isinstance(content, list) else [content]
            texts += [x if isinstance(x, str) else str(x.get("text", "")) for x in parts if x]
        else:
            others.append(message)
    return "\n\n".join(texts) or None, others


def _expect_deprecation(model: str) -> None:
    """Silence the SDK's own warning for this model alone; the policy announces ends of life with more notice.

    A filter rather than ``catch_warnings``, which would swap the filters of all threads; set only where it is missing,
    because every change of the filters makes Python show again what it had shown once.
    """
    if _DEPRECATED is not None and model not in _DEPRECATED:
        return
    text = f"The model '{re.escape(model)}' is deprecated"
    if ("ignore", re.compile(text, re.IGNORECASE), DeprecationWarning, None, 0) not in warnings.filters:
        warnings.filterwarnings("ignore", message=text, category=DeprecationWarning)


def _read_block(block: Any, index: Any, progress: Progress) -> None:
    kind = get(block, "type")
    if kind == "server_tool_use" or str(kind).endswith("_tool_result"):
        progress.ran_tools = True  # the usage may not tell: code execution is charged by time
    elif kind == "text":
        progress.add(get(block, "text"))
    elif kind == "tool_use":
        # The input is empty at the start of a streamed block: its pieces follow.
        progress.call_tool(index, get(block, "id"), get(block, "name"), get(block, "input"))


async def _read_stream(stream: Any, progress: Progress) -> None:
    events = False
    usage: dict[str, Any] = {}
    async for event in stream:
        events = True
        kind = get(event, "type")
        progress.begun = progress.begun or kind != "ping"
        if kind == "message_start":
            begun = get(get(event, "message"), "usage")
            usage |= _stated(begun)
            progress.served(get(begun, "service_tier"))
            # The output count of the first event is a placeholder: should the stream be cut, it was never told.
            progress.usage = anthropic_usage({**usage, "output_tokens": None})
        elif kind == "content_block_start":
            _read_block(get(event, "content_block"), get(event, "index"), progress)
        elif kind == "content_block_delta":
            delta = get(event, "delta")
            progress.add(get(delta, "text"))
            if get(delta, "type") == "input_json_delta":
                progress.call_tool(get(event, "index"), arguments=get(delta, "partial_json"))
        elif kind == "message_delta":
            told = _stated(get(event, "usage"))
            progress.usage = anthropic_usage({**usage, "output_tokens": None, **told})
            progress.served(get(get(event, "usage"), "service_tier"))
            progress.finish(get(get(event, "delta"), "stop_reason"))
    if progress.finish_reason is not None:
        progress.conclude()
    elif events or "text/event-stream" in stream.response.headers.get("content-type", ""):
        progress.end("cut_stream", "CutStream")
    else:
        progress.end("malformed", "MalformedReply")


def _stated(usage: Any) -> dict[str, Any]:
    return {name: value for name in _USAGE_FIELDS if (value := get(usage, name)) is not None}


def _event_fault(kind: str | None, name: str) -> Fault:
    if kind == "overloaded_error":
        return Fault("overloaded", name, True)
    if kind == "rate_limit_error":
        return Fault("rate_limited", name, True)
    return Fault("broken_off", name, True) if kind in ("api_error", "timeout_error") else Fault("error", name)
