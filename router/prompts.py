"""What a caller hands in, made ready: the text that is classified and logged, and the messages that are sent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from os import PathLike
from typing import Any

from router.errors import InputError
from router.types import Prompt

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt made ready: what is classified and logged, and what is sent to a model."""

    text: str = field(repr=False)
    messages: list[dict[str, Any]] = field(repr=False)
    sha256: str = field(repr=False)
    chars: int
    replaced: int


def ready(prompt: Prompt | Any) -> Asked:
    """Check a prompt and take out what is classified: the text, or the last user turn of a message list.

    Lone surrogates, which no encoding can carry, are replaced by U+FFFD and counted.
    """
    if isinstance(prompt, str):
        text, messages = prompt, list[dict[str, Any]]()
    elif isinstance(prompt, bytes | bytearray) or not isinstance(prompt, Sequence):
        raise InputError(f"the prompt is a {type(prompt).__name__}; expected text or a list of messages")
    else:
        text, messages = _last_user_turn(prompt)
    replaced, chars = 0, len(text)
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        replaced = len(_SURROGATE.findall(text))
        text = whole(text)
        encoded = text.encode()
    if isinstance(prompt, str):
        messages = [{"role": "user", "content": text}]
    return Asked(text, messages, hashlib.sha256(encoded).hexdigest(), chars, replaced)


def whole(value: Any) -> Any:
    """The value with lone surrogates in its texts replaced: no provider could be sent them."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [whole(item) for item in value]
    return value


def not_sendable(value: Any) -> str | None:
    """What no API can be sent (bytes, a set, a key that is no text), by its type; None where there is nothing of it.

    Objects that an SDK can write out stay: its own models, dates, and files.
    """
    if value is None or isinstance(value, str | int | float):
        return None
    if isinstance(value, Mapping):
        if (key := next((key for key in value if not isinstance(key, str)), None)) is not None:
            return f"a key of type {type(key).__name__}"
        return next((found for item in value.values() if (found := not_sendable(item)) is not None), None)
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := not_sendable(item)) is not None), None)
    written = isinstance(value, date | PathLike) or hasattr(value, "model_dump") or hasattr(value, "read")
    return None if written else f"a value of type {type(value).__name__}"


def _last_user_turn(prompt: Sequence[Any]) -> tuple[str, list[dict[str, Any]]]:
    messages = []
    text: str | None = None
    for number, message in enumerate(prompt, 1):
        if not isinstance(message, Mapping) or "role" not in message:
            raise InputError(f"message {number} is not a mapping with a role and content")
        if (found := not_sendable(message)) is not None:
            raise InputError(f"message {number} holds {found}; expected text, numbers, lists and mappings")
        messages.append({key: whole(value) for key, value in message.items()})
        if message["role"] == "user" and not _only_tool_results(message.get("content")):
            text = _content_text(message.get("content"), number)
    if text is None:
        raise InputError(f"none of {len(messages)} messages has role 'user'; expected at least one")
    return text, messages


def _only_tool_results(content: Any) -> bool:
    """Whether a user message is the answer of a tool, which no person said."""
    if not isinstance(content, list) or not content:
        return False
    return all(isinstance(part, Mapping) and part.get("type") == "tool_result" for part in content)


def _content_text(content: Any, number: int) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes | bytearray):
        return "\n".join(
            str(part["text"])
            for part in content
            if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        )
    raise InputError(
        f"message {number} has content of type {type(content).__name__}; expected text or a list of parts"
    )
