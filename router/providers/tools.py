"""Tools, the choice among them, and tool turns of a conversation, in the form that each API takes.

A router may send the same conversation to OpenAI or to Anthropic, so a caller writes tools in whichever form they have:
chat completions', the Responses API's or the messages API's. What is in none of these forms (a provider's own tools, parts
it alone knows) is passed on as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from router.types import ToolChoice, Tools

Message = Mapping[str, Any]


def chat_tools(tools: Tools) -> list[Any]:
    """Tools as chat completions take them."""
    return [
        tool if (found := _function(tool)) is None else {"type": "function", "function": found}
        for tool in tools
    ]


def responses_tools(tools: Tools) -> list[Any]:
    """Tools as the Responses API takes them."""
    # This API reads a missing "strict" as true, chat completions as false: the same tool is to mean the same.
    return [
        tool if (found := _function(tool)) is None else {"type": "function", "strict": False, **found}
        for tool in tools
    ]


def messages_tools(tools: Tools) -> list[Any]:
    """Tools as the messages API takes them."""
    return [tool if (found := _function(tool)) is None else _messages_tool(found) for tool in tools]


def chat_choice(choice: ToolChoice) -> Any:
    """``tool_choice`` as chat completions take it: which tool, or whether any."""
    kind, name = _choice(choice)
    if kind == "tool":
        return {"type": "function", "function": {"name": name}}
    return {"any": "required"}.get(kind, kind) if kind else choice


def responses_choice(choice: ToolChoice) -> Any:
    """``tool_choice`` as the Responses API takes it."""
    kind, name = _choice(choice)
    if kind == "tool":
        return {"type": "function", "name": name}
    return {"any": "required"}.get(kind, kind) if kind else choice


def messages_choice(choice: ToolChoice) -> Any:
    """``tool_choice`` as the messages API takes it."""
    kind, name = _choice(choice)
    if not kind or (isinstance(choice, Mapping) and choice.get("type") == kind):
        return choice  # its own form, with whatever else stands there
    return {"type": kind, "name": name} if kind == "tool" else {"type": kind}


def chat_messages(messages: Iterable[Message]) -> list[Message]:
    """Messages with tool turns as chat completions take them."""
    found: list[Message] = []
    for message in messages:
        parts = _parts(message)
        uses = [part for part in parts if part.get("type") == "tool_use"]
        results = [part for part in parts if part.get("type") == "tool_result"]
        rest = [part for part in parts if part.get("type") not in (*_TOOL_PARTS, *_THOUGHTS)]
        if uses:
            calls = [_chat_call(part) for part in uses]
            found.append({"role": "assistant", "content": rest or None, "tool_calls": calls})
        elif results:
            found += [
                {
                    "role": "tool",
                    "tool_call_id": part.get("tool_use_id"),
                    "content": _text_of(part.get("content")),
                }
                for part in results
            ]
            found += [{**message, "content": rest}] if rest else []
        else:
            found.append(message)
    return found


def messages_messages(messages: Iterable[Message]) -> list[Message]:
    """Messages with tool turns as the messages API takes them: results of one turn in one user message."""
    found: list[Message] = []
    results: list[Any] = []
    for message in messages:
        if message.get("role") == "tool":
            result = {"type": "tool_result", "tool_use_id": message.get("tool_call_id")}
            results.append({**result, "content": _text_of(message.get("content"))})
            continue
        if results:
            found.append({"role": "user", "content": results})
            results = []
        calls = message.get("tool_calls")
        if message.get("role") == "assistant" and isinstance(calls, Sequence) and calls:
            blocks = [_use(call) for call in calls if isinstance(call, Mapping)]
            found.append({"role": "assistant", "content": [*_blocks(message.get("content")), *blocks]})
        else:
            found.append(message)
    return [*found, {"role": "user", "content": results}] if results else found


def responses_input(messages: Iterable[Message]) -> list[Message]:
    """A conversation as the items that the Responses API takes."""
    items: list[Message] = []
    for message in chat_messages(messages):
        role, content = message.get("role"), message.get("content")
        if role == "tool":
            output = {"type": "function_call_output", "call_id": message.get("tool_call_id")}
            items.append({**output, "output": _text_of(content)})
            continue
        if content or not message.get("tool_calls"):
            spoken = "output_text" if role == "assistant" else "input_text"
            items.append({"role": role, "content": _items(content, spoken)})
        for call in message.get("tool_calls") or []:
            made = call.get("function") or {}
            one = {"type": "function_call", "call_id": call.get("id"), "name": made.get("name")}
            items.append({**one, "arguments": made.get("arguments")})
    return items


_TOOL_PARTS = ("tool_use", "tool_result")
_THOUGHTS = ("thinking", "redacted_thinking")
_CHOICES = {"required": "any", "any": "any", "auto": "auto", "none": "none"}


def _function(tool: Message) -> dict[str, Any] | None:
    """Name, description, parameters (JSON schema) and strictness of a tool; None when it is of no form known here."""
    if tool.get("type") == "function" and isinstance(made := tool.get("function"), Mapping):
        return dict(made)
    if tool.get("type") == "function" and "name" in tool:
        return {key: value for key, value in tool.items() if key != "type"}
    if "input_schema" in tool and tool.get("type") in (None, "custom"):
        known = {key: tool[key] for key in ("name", "description", "strict") if key in tool}
        return {**known, "parameters": tool["input_schema"]}
    return None


def _messages_tool(made: Message) -> dict[str, Any]:
    known = {key: made[key] for key in ("name", "description") if made.get(key) is not None}
    if made.get("strict"):
        known["strict"] = True
    return {**known, "input_schema": made.get("parameters") or {"type": "object", "properties": {}}}


def _choice(choice: ToolChoice) -> tuple[str, str | None]:
    """What a choice means ("auto", "none", "any", "tool") and which tool; "" when it is of no form known here."""
    if isinstance(choice, str):
        return _CHOICES.get(choice, ""), None
    kind = choice.get("type")
    made = choice.get("function")
    name = made.get("name") if isinstance(made, Mapping) else choice.get("name")
    if kind in ("function", "tool") and isinstance(name, str):
        return "tool", name
    return _CHOICES.get(str(kind), ""), None


def _parts(message: Message) -> list[Message]:
    content = message.get("content")
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def _chat_call(part: Message) -> dict[str, Any]:
    given = json.dumps(part.get("input") or {}, ensure_ascii=False)
    made = {"name": part.get("name"), "arguments": given}
    return {"id": part.get("id"), "type": "function", "function": made}


def _use(call: Message) -> dict[str, Any]:
    made = call.get("function") or {}
    try:
        given = json.loads(made.get("arguments") or "{}")
    except ValueError:
        given = None
    # This API takes objects alone; a model that wrote something else is shown its own words.
    given = given if isinstance(given, dict) else {"arguments": made.get("arguments")}
    return {"type": "tool_use", "id": call.get("id"), "name": made.get("name"), "input": given}


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return list(content) if isinstance(content, list) else []


def _text_of(content: Any) -> Any:
    """Content of a tool's result as text where it is nothing else; OpenAI's APIs take text alone."""
    if not isinstance(content, list):
        return "" if content is None else content
    if all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content):
        return "\n".join(part["text"] for part in content)
    return content


def _items(content: Any, spoken: str) -> Any:
    if not isinstance(content, list):
        return "" if content is None else content
    return [_item(part, spoken) if isinstance(part, Mapping) else part for part in content]


def _item(part: Message, spoken: str) -> Message:
    kind = part.get("type")
    if kind == "text":
        return {"type": spoken, "text": part.get("text")}
    if kind == "image_url" and isinstance(image := part.get("image_url"), Mapping):
        return {
            "type": "input_image",
            "image_url": image.get("url"),
            "detail": image.get("detail", "auto"),
        }
    return part
