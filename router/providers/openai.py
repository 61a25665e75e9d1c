"""OpenAI's two APIs, and every server that speaks chat completions (vLLM, Ollama, LM Studio, gateways)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from router.config import Endpoint
from router.providers import responses
from router.providers.base import SdkProvider
from router.providers.call import Fault, Progress, Request, cleaned, get, status_fault, without_output
from router.providers.http import http_client, json_of, timeouts, unfit, was_sent
from router.providers.tools import chat_choice, chat_messages, chat_tools
from router.providers.usage import openai_usage

BASE_URL = "https://api.openai.com/v1"

_LIMIT_NAMES = ("max_completion_tokens", "max_tokens")
_NOT_KNOWN = re.compile(
    r"unsupported|not supported|unrecognized|unrecognised|unknown|unexpected|not permitted|not allowed|extra (fields|inputs)"
)
_OUTPUT = ("content", "refusal", "tool_calls", "function_call", "reasoning_content", "reasoning")
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError)


@dataclass(slots=True)
class Dialect:
    """What of chat completions a server knows.

    Attributes
    ----------
    limit_name : "max_completion_tokens" (OpenAI, whose reasoning models refuse the older name) or "max_tokens"
        (compatible servers, many of which know no other).
    tells_usage : a stream may be asked for its token counts.
    """

    limit_name: str
    tells_usage: bool = True


class OpenAIProvider(SdkProvider):
    """Chat completions and, for models whose settings say ``api = "responses"``, the Responses API over the ``openai`` SDK.

    What a server's 400 taught about parameters is remembered per model, as its ``Dialect``.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        host = urlsplit(endpoint.base_url or BASE_URL).hostname or ""
        self._own_host = host == "openai.com" or host.endswith(".openai.com")
        self._dialects: dict[str, Dialect] = {}
        super().__init__(endpoint)

    def dialect(self, model: str) -> Dialect:
        """How this server is spoken to about a model; changes with what it refuses."""
        return self._dialects.setdefault(model, Dialect(_LIMIT_NAMES[0 if self._own_host else 1]))

    def _build(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(
            api_key=self.endpoint.key,
            base_url=self.endpoint.base_url or BASE_URL,
            max_retries=0,
            http_client=http_client(),
        )

    def _arguments(self, request: Request, left: float) -> dict[str, Any]:
        messages = cleaned(chat_messages(request.messages))
        if request.system is not None:
            messages = [{"role": "system", "content": cleaned(request.system)}, *messages]
        arguments = {
            "model": request.model,
            "messages": messages,
            self.dialect(request.model).limit_name: request.max_tokens,
            "timeout": timeouts(left),
        }
        if request.tools:
            arguments["tools"] = cleaned(chat_tools(request.tools))
            if request.tool_choice is not None:
                arguments["tool_choice"] = cleaned(chat_choice(request.tool_choice))
        return arguments

    async def _send(self, client: Any, request: Request, progress: Progress) -> None:
        if request.api == "responses":
            await responses.send(client, request, progress)
            return
        arguments = self._arguments(request, progress.left)
        if progress.emit is not None:
            if self.dialect(request.model).tells_usage:
                arguments["stream_options"] = {"include_usage": True}
            async with await client.chat.completions.create(**arguments, stream=True) as stream:
                await _read_stream(stream, progress)
            return
        reply = json_of(await client.chat.completions.with_raw_response.create(**arguments))
        choices = get(reply, "choices")
        if not isinstance(choices, list):
            progress.end("malformed", "MalformedReply")
            return
        progress.usage = openai_usage(get(reply, "usage"))
        progress.served(get(reply, "service_tier"))
        for choice in choices[:1]:
            _read_message(get(choice, "message"), progress)
            progress.finish(get(choice, "finish_reason"))
        progress.conclude()

    def _fault(self, error: Exception) -> Fault:
        name = type(error).__name__
        if isinstance(error, responses.FailedResponse):
            return error.fault
        if (cause := unfit(error)) is not None:
            return Fault("malformed", type(cause).__name__)
        if isinstance(error, openai.APITimeoutError):
            sent = was_sent(error.__cause__ or error)
            return Fault("timeout", name) if sent else Fault("unreachable", name, True)
        if isinstance(error, openai.APIConnectionError | httpx2.HTTPError):
            return Fault("broken_off" if was_sent(error.__cause__ or error) else "unreachable", name, True)
        if isinstance(error, openai.APIStatusError):
            said = f"{error.param or ''} {error.code or ''} {error.message}"[:4000].lower()
            spent = error.code == "insufficient_quota"
            return status_fault(error.status_code, error.response.headers, name, said, spent=spent)
        if isinstance(error, openai.APIError):  # an error event inside a stream; the HTTP status was 200
            return _event_fault(f"{error.type or ''} {error.code or ''}", name)
        return Fault("malformed" if isinstance(error, _MALFORMED) else "error", name)

    def _corrects(self, request: Request, fault: Fault, progress: Progress) -> bool:
        """Learn the other name of the token limit, or to ask for no usage, from a refusal that names the parameter."""
        if fault.outcome != "rejected" or request.api != "chat" or not _NOT_KNOWN.search(fault.said):
            return False
        dialect = self.dialect(request.model)
        if "stream_options" in fault.said and dialect.tells_usage:
            dialect.tells_usage = False
            return True
        sent = dialect.limit_name
        if re.search(rf"\b{sent}\b", fault.said) and "limit" not in progress.corrected:
            progress.corrected.add("limit")
            dialect.limit_name = _LIMIT_NAMES[1 - _LIMIT_NAMES.index(sent)]
            return True
        return False


async def _read_stream(stream: Any, progress: Progress) -> None:
    events = False
    async for chunk in stream:
        events = progress.begun = True
        usage, choices = get(chunk, "usage"), get(chunk, "choices")
        choices = choices[:1] if isinstance(choices, list) else []
        if usage is not None:
            progress.usage = openai_usage(usage)
        elif progress.usage is not None and any(_goes_on(get(choice, "delta")) for choice in choices):
            # What was told ran along with the text; no count after this means that the output's was never told.
            progress.usage = without_output(progress.usage)
        progress.served(get(chunk, "service_tier"))
        for choice in choices:
            _read_message(get(choice, "delta"), progress)
            progress.finish(get(choice, "finish_reason"))
    if progress.finish_reason is not None:
        progress.conclude()
    elif events or "text/event-stream" in stream.response.headers.get("content-type", ""):
        progress.end("cut_stream", "CutStream")
    else:
        progress.end("malformed", "MalformedReply")


def _goes_on(delta: Any) -> bool:
    """Whether a piece of a stream holds any output."""
    return any(get(delta, name) for name in _OUTPUT)


def _read_message(message: Any, progress: Progress) -> None:
    """A message, or the piece of one that a stream calls delta."""
    content = get(message, "content")
    for part in content if isinstance(content, list) else [content]:
        progress.add(part if isinstance(part, str) else get(part, "text"))
    refusal = get(message, "refusal")
    if isinstance(refusal, str) and refusal:
        progress.refused = True
        progress.add(refusal)
    calls = get(message, "tool_calls")
    for number, call in enumerate(calls if isinstance(calls, list) else []):
        index, function, free = get(call, "index"), get(call, "function"), get(call, "custom")
        where = number if index is None else index, get(call, "id")
        if function is None and free is not None:
            progress.call_tool(*where, get(free, "name"), get(free, "input"), custom=True)
        else:
            progress.call_tool(*where, get(function, "name"), get(function, "arguments"))
    older = get(message, "function_call")
    told = get(older, "name"), get(older, "arguments")
    if not calls and any(told):  # some servers send it empty beside text
        progress.call_tool(0, None, *told)


def _event_fault(kind: str, name: str) -> Fault:
    if "rate_limit" in kind:
        return Fault("rate_limited", name, True)
    if "overloaded" in kind or "unavailable" in kind:
        return Fault("overloaded", name, True)
    return Fault("broken_off", name, True) if "server_error" in kind else Fault("error", name)
