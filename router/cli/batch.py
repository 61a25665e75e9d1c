"""``route --jsonl``: a file of prompts, line by line; a broken line is reported and the rest goes on."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from router.cli.output import progress
from router.core import Router
from router.errors import ClassifierError, InputError
from router.prompts import ready
from router.types import Classification, Decision, Prompt

BATCH = 32
"""Prompts that are classified together: the local classifier works on two at a time."""

MAX_LINE_BYTES = 64_000_000
"""A longer line is reported as broken, so that a file without line breaks is never read whole."""

MAX_ID_CHARS = 200


@dataclass(slots=True)
class Row:
    """A line that could be read: its number, the prompt, and what goes into the decision's ``extra``."""

    line: int
    prompt: Prompt
    extra: dict[str, Any]


@dataclass(slots=True)
class Done:
    """What became of a file. ``broken`` holds (line number, reason), never the line's text."""

    lines: int = 0
    routed: int = 0
    fallback: int = 0
    unscored: int = 0
    undecodable: int = 0
    seconds: float = 0.0
    labels: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    errors: set[str] = field(default_factory=set)
    latencies: list[float] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)

    def add(self, decision: Decision) -> None:
        """Count one decision."""
        self.routed += 1
        self.fallback += decision.is_fallback
        self.models[decision.model_chosen] += 1
        self.labels[decision.top_label or "no scores"] += 1
        if decision.top_label is None:
            self.unscored += 1
            self.errors.add(decision.error_type or "unknown")
        if decision.classify_ms is not None:
            self.latencies.append(decision.classify_ms)

    def percentile(self, q: float) -> float | None:
        """Classifier latency in ms at a quantile (nearest rank); None without any."""
        ordered = sorted(self.latencies)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else None


class BatchRouter(Router):
    """A router that takes many prompts at once; each decision is what ``route`` would give."""

    def route_many(self, rows: list[Row], broken: list[tuple[int, str]]) -> list[Decision]:
        """Decide and log. A row that is no prompt is added to ``broken``."""
        asked, kept = [], []
        for row in rows:
            try:
                asked.append(ready(row.prompt))
                kept.append(row)
            except InputError as error:
                broken.append((row.line, str(error)))
        answers = self._classify_many(asked)
        decisions = []
        for row, one, answer in zip(kept, asked, answers, strict=True):
            decision = self._decide(one, answer, None, None)
            if row.extra:
                decision = replace(decision, extra={**decision.extra, **row.extra})
            self._log(decision)
            decisions.append(decision)
        return decisions

    def _classify_many(self, asked: list[Any]) -> list[Classification | ClassifierError]:
        texts = [one.text for one in asked if one.text.strip()]
        many = getattr(self.classifier, "classify_many", None)
        if many is None or len(texts) < 2:
            return [self._classify(one) for one in asked]
        try:
            found = iter(many(texts, self.policy.labels))
        except ClassifierError:
            return [self._classify(one) for one in asked]  # one by one: the prompt at fault alone gets none
        return [next(found) if one.text.strip() else self._classify(one) for one in asked]


def route_lines(router: BatchRouter, source: str) -> Done:
    """Route every line of a JSON Lines file, or of standard input for ``-``.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    done = Done()
    started = time.monotonic()
    with _opened(source) as (file, size), progress(f"routing {_name(source)}", size) as advance:
        batch: list[Row] = []
        for read, row in _rows(file, done):
            if row is not None:
                batch.append(row)
            if len(batch) == BATCH:
                _route_batch(router, batch, done)
                batch = []
            advance(read)
        _route_batch(router, batch, done)
    done.broken.sort()
    done.seconds = time.monotonic() - started
    return done


def _route_batch(router: BatchRouter, batch: list[Row], done: Done) -> None:
    if batch:
        for decision in router.route_many(batch, done.broken):
            done.add(decision)


def _rows(file: BinaryIO, done: Done) -> Iterator[tuple[int, Row | None]]:
    """(bytes read, row or None) for each line; what is wrong with a line goes to ``done``."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        read = len(line)
        if read == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
                read += len(more)
            done.lines += 1
            done.broken.append((number, f"longer than {MAX_LINE_BYTES:,} bytes"))
            yield read + len(more), None
            continue
        if not line.strip():
            yield read, None
            continue
        done.lines += 1
        try:
            row = _row(number, line, done)
        except InputError as error:
            done.broken.append((number, str(error)))
            yield read, None
        else:
            yield read, row


def _row(number: int, line: bytes, done: Done) -> Row:
    text = line.decode("utf-8", "replace")
    if "\ufffd" in text and "\ufffd".encode() not in line:
        done.undecodable += 1
    value = _parsed(text.removeprefix("\ufeff"))
    if not isinstance(value, dict):
        raise InputError(f"{_kind(value)}, expected an object with 'prompt' or 'messages'")
    if "prompt" not in value and "messages" not in value:
        raise InputError("no 'prompt' and no 'messages', expected one of them")
    if value.get("prompt") is not None and value.get("messages") is not None:
        raise InputError("both 'prompt' and 'messages', expected one of them")
    messages = value.get("messages")
    if messages is not None:
        if not isinstance(messages, list):
            raise InputError(f"'messages' is {_kind(messages)}, expected a list")
        return Row(number, messages, _extra(value))
    prompt = value.get("prompt")
    if not isinstance(prompt, str):
        raise InputError(f"'prompt' is {_kind(prompt)}, expected text")
    return Row(number, prompt, _extra(value))


def _parsed(text: str) -> Any:
    # Not orjson: it refuses lone surrogates, which the router replaces and counts.
    wrong = ""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        wrong = f"not valid JSON (column {error.pos + 1})"
    except RecursionError:
        wrong = "JSON nested too deeply"
    except ValueError:
        wrong = "a number with too many digits"
    # Outside the except blocks: a JSON error carries the line, so it must not be chained.
    raise InputError(wrong)


def _extra(value: dict[str, Any]) -> dict[str, Any]:
    given = value.get("id")
    if given is None or isinstance(given, dict | list):
        return {}
    if isinstance(given, float) or (isinstance(given, int) and abs(given) < 2**63):
        return {"id": given}
    # As text: a number that no JSON reader holds, and lone surrogates, which nothing can write.
    return {"id": str(given)[:MAX_ID_CHARS].encode("utf-8", "replace").decode()}


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _name(source: str) -> str:
    return "standard input" if source == "-" else os.path.basename(source)


@contextlib.contextmanager
def _opened(source: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The file and its size in bytes, None when that is not known."""
    if source == "-":
        yield sys.stdin.buffer, None
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 - closed below; only opening is to be caught here
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}; expected a JSON Lines file") from None
    with file:
        state = os.fstat(file.fileno())
        yield file, state.st_size if stat.S_ISREG(state.st_mode) else None
