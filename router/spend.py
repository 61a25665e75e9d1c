"""Caps on spend: what a call could cost at most is held before it is made, and settled with what it did cost."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.errors import SpendCapError
from router.spend_caps import SpendCaps
from router.spend_day import FILE, LOCK_SECONDS, Day, DayLedger, dollars
from router.types import Tools, Usage

if TYPE_CHECKING:
    from router.prices import PriceBook

__all__ = ["FILE", "Day", "DayLedger", "SpendMeter", "most"]

MESSAGE_TOKENS = 32
"""Tokens of a message's frame (role, separators), on the safe side."""


TOOLS_TOKENS = 1_024
"""Tokens of the instructions that a provider adds where tools are offered, on the safe side: Anthropic states up to some 800."""

_TEXT_PARTS = frozenset(
    {
        "text",
        "input_text",
        "output_text",
        "refusal",
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
    }
)
_OTHER_PARTS = frozenset(
    {
        "image_url",
        "input_image",
        "image",
        "file",
        "input_file",
        "input_audio",
        "audio",
        "video_url",
        "document",
        "search_result",
    }
)
_TEXT_TOOLS = frozenset({"function", "custom"})

_ZERO = Decimal(0)
_CLASSIFIER = ""
"""Key, in place of a decision's id, of what classifying cost."""

_logger = logging.getLogger("routescope")


@dataclass(slots=True)
class _Hold:
    """What is held for one model of a call: the most of one request, and of all requests so far."""

    one: Decimal
    usd: Decimal = _ZERO


class SpendMeter:
    """The caps of one router. Thread-safe."""

    def __init__(self, caps: SpendCaps, data: Path, *, ledger: DayLedger | None = None) -> None:
        self.caps = caps
        self.ledger = ledger or (DayLedger(data) if caps.per_day_usd is not None else None)
        self._lock = threading.Lock()
        self._spent = _ZERO
        self._held: dict[str, dict[str, _Hold]] = {}
        self._late: list[tuple[str, Decimal, Decimal, int]] = []
        self._classified = _ZERO
        self._told = False

    @property
    def spent_usd(self) -> Decimal:
        """What this router's ended calls and its classifier cost; unknown costs of calls count as the most they could be."""
        return self._spent

    def add_classifier(self, usd: Decimal | None) -> None:
        """Count what a classification cost; None, unknown, counts as nothing: nobody states the most that it could be.

        The day's file is written with the next hold, or by ``write_classifier``.
        """
        if usd:
            with self._lock:
                self._spent += usd
                self._classified += usd

    def write_classifier(self, wait_s: float) -> None:
        """Write classifications that no model call followed to the day's file."""
        if self._classified:
            self._settle_late(wait_s)

    def hold(self, key: str, usd: Decimal | None, model: str, wait_s: float = LOCK_SECONDS) -> None:
        """Hold what a call can cost at most, before it is made.

        Parameters
        ----------
        key : the decision's id. More models for one decision (a failover) add up.
        usd : see ``most``; None when the model has no known price.
        wait_s : longest wait for the day's file, should another process have it.

        Raises
        ------
        SpendCapError
            A cap could be passed, or the price is not known.
        """
        if usd is None:
            raise SpendCapError(
                f"no price is known for {model!r}, so its cost cannot be held against the cap; the call was not made. Add "
                f'[models."{model}"] price = {{ input = ..., output = ... }} to the policy, or take the cap away.'
            )
        cap = self.caps.per_run_usd
        with self._lock:
            taken = self._spent + sum((x.usd for held in self._held.values() for x in held.values()), _ZERO)
            if cap is not None and taken + usd > cap:
                raise SpendCapError(
                    f"this run's cap of {dollars(cap)} leaves {dollars(max(cap - taken, _ZERO))}, and this call could cost {dollars(usd)} "
                    f"(spent {dollars(self._spent)}). Lower max_tokens or raise the cap."
                )
            held = self._held.setdefault(key, {})
            hold = held.setdefault(model, _Hold(usd))
            hold.usd += usd
        until = time.monotonic() + wait_s
        try:
            self._settle_late(wait_s)
            if self.ledger is not None and self.caps.per_day_usd is not None:
                self.ledger.hold(key, usd, self.caps.per_day_usd, max(until - time.monotonic(), 0.0))
        except BaseException:
            with self._lock:
                hold.usd -= usd
                if not any(x.usd for x in held.values()):
                    self._held.pop(key, None)
            raise

    def hold_all(
        self, key: str, models: Sequence[tuple[str, Decimal | None]], wait_s: float = LOCK_SECONDS
    ) -> None:
        """Hold for every model that may be asked in turn, or for none of them; see ``hold``. ``wait_s`` is for all."""
        until = time.monotonic() + wait_s
        try:
            for model, usd in models:
                self.hold(key, usd, model, max(until - time.monotonic(), 0.0))
        except SpendCapError:
            self.settle(key, [], max(until - time.monotonic(), 0.0))
            raise

    def hold_again(self, key: str, model: str, wait_s: float = LOCK_SECONDS) -> bool:
        """Hold for one more request of a call, as the last one may have been charged; False where a cap could be passed."""
        with self._lock:
            hold = self._held.get(key, {}).get(model)
        if hold is None:
            return False  # the call was given up and settled meanwhile
        try:
            self.hold(key, hold.one, model, wait_s)
        except SpendCapError:
            return False
        with self._lock:
            if self._held.get(key, {}).get(model) is hold:
                return True
            self._held.pop(key, None)
        self._settle_day(key, _ZERO, _ZERO, wait_s, n=0)  # given up while the file was waited for
        return False

    def settle(
        self, key: str, calls: Sequence[tuple[str, Decimal | None]], wait_s: float = LOCK_SECONDS
    ) -> None:
        """Count what a decision's calls cost, each by (model, cost); one of unknown cost counts as the most it could be.

        Never raises: the reply is there, and its hold stays until the file can be written.
        """
        with self._lock:
            held = self._held.pop(key, None)
            if held is None:
                return
            paid = assumed = _ZERO
            for model, cost in calls:
                if cost is not None:
                    paid += cost
                else:
                    assumed += held[model].one if model in held else _ZERO
            self._spent += paid + assumed
        self._settle_day(key, paid + assumed, assumed, wait_s, n=1 if calls else 0)

    def close(self) -> None:
        """Write what could not be written yet. Idempotent."""
        self._settle_late(LOCK_SECONDS)

    def _settle_late(self, wait_s: float) -> None:
        with self._lock:
            late, self._late = self._late, []
            if self._classified:
                late.append((_CLASSIFIER, self._classified, _ZERO, 0))
                self._classified = _ZERO
        until = time.monotonic() + wait_s
        for key, cost, assumed, n in late:
            self._settle_day(key, cost, assumed, max(until - time.monotonic(), 0.0), n=n)

    def _settle_day(self, key: str, cost: Decimal, assumed: Decimal, wait_s: float, n: int = 1) -> None:
        if self.ledger is None:
            return
        try:
            self.ledger.settle(key, cost, assumed, wait_s, n=n)
        except SpendCapError as error:
            if key == _CLASSIFIER:
                self._keep_classified(cost, error)
                return
            _logger.warning("routescope: a call's cost is still held against the cap: %s", error)
            with self._lock:
                self._late.append((key, cost, assumed, n))

    def _keep_classified(self, usd: Decimal, error: SpendCapError) -> None:
        """One sum, however often it could not be written, and one warning: each decision comes by here."""
        with self._lock:
            self._classified += usd
            told, self._told = self._told, True
        if not told:
            _logger.warning("routescope: what classifying cost is not yet in today's sum: %s", error)


def most(
    messages: Sequence[Mapping[str, Any]],
    system: str | None,
    max_tokens: int,
    model: str,
    prices: PriceBook,
    day: date,
    tools: Tools = (),
) -> Decimal | None:
    """USD that a call can cost at most; None when the model has no known price.

    A token is at least one byte of text, so the bytes of the messages bound the input; the output is bounded by
    ``max_tokens``. Where writing to the cache costs more than plain input, all input is taken to be written. The provider chooses
    the service tier (a project's setting at OpenAI), so the dearest one with known rates is taken.

    Raises
    ------
    SpendCapError
        A part that is not text (an image, a file, audio), or a tool that the provider runs itself: what either costs has no
        bound that is known here. Or an hour in the cache is asked for, and the model's price does not say what that costs.
    """
    _check_bounded(messages, tools)
    if prices.rate(model, day) is None:
        return None
    rates = [prices.rate(model, day, tier=tier) for tier in prices.tiers(model, day)]
    size = len((system or "").encode("utf-8", "replace")) + sum(_size(x) + MESSAGE_TOKENS for x in messages)
    size += TOOLS_TOKENS + sum(_size(x) + MESSAGE_TOKENS for x in tools) if tools else 0
    plain = Usage(size + MESSAGE_TOKENS, max_tokens)
    long = size + MESSAGE_TOKENS if any(_keeps_an_hour(x) for x in (*messages, *tools)) else None
    written = Usage(0, max_tokens, None, size + MESSAGE_TOKENS, cache_write_1h_tokens=long)
    if long is not None and any(rate is not None and rate.cost(written) is None for rate in rates):
        raise SpendCapError(
            f"the price of {model!r} has no cache_write_1h, and the request asks for an hour in the cache, so its cost cannot be "
            f'held against the cap; the call was not made. Add cache_write_1h to price in [models."{model}"] of the policy (and to '
            "its service tiers and long rates), ask for the short life, or take the cap away."
        )
    costs = [rate.cost(usage) for rate in rates if rate is not None for usage in (plain, written)]
    known = [cost for cost in costs if cost is not None]
    return max(known) if known and len(known) == len(costs) else None


def _keeps_an_hour(value: Any) -> bool:
    """Whether a message or tool asks for the cache's long life, whose writes cost more."""
    if isinstance(value, Mapping):
        return value.get("ttl") == "1h" or any(_keeps_an_hour(item) for item in value.values())
    return isinstance(value, list | tuple) and any(_keeps_an_hour(item) for item in value)


def _check_bounded(messages: Sequence[Mapping[str, Any]], tools: Tools) -> None:
    for message in messages:
        kind = "audio" if message.get("audio") else _unbounded(message.get("content"))
        if kind is not None:
            found = (
                f"the messages hold a part of type {kind!r}"
                if kind in _OTHER_PARTS
                else "the messages hold a part"
            )
            raise SpendCapError(
                f"{found} that is not text, and what it costs has no bound that is known, so it cannot be held against the "
                "cap; the call was not made. Send text alone, or take the cap away."
            )
    if any(
        isinstance(tool, Mapping) and str(tool.get("type", "custom")) not in _TEXT_TOOLS for tool in tools
    ):
        raise SpendCapError(
            "a tool is one that the provider runs or brings itself, and what it costs has no bound that is known, so it cannot "
            "be held against the cap; the call was not made. Offer functions alone, or take the cap away."
        )


def _unbounded(content: Any) -> str | None:
    """The type of the first part that is not text; None where all are."""
    for part in content if isinstance(content, list | tuple) else ():
        if not isinstance(part, Mapping):
            continue
        kind = part.get("type", "text")
        if not isinstance(kind, str) or kind not in _TEXT_PARTS:
            return str(kind)
        if kind == "tool_result" and (inner := _unbounded(part.get("content"))) is not None:
            return inner
    return None


def _size(value: Any) -> int:
    """Bytes of every text in a message, names of parts included; of what is nested in it also JSON's marks: each may be a token."""
    if isinstance(value, Mapping):
        return sum(_size(key) + _json_size(item) for key, item in value.items())
    return _json_size(value)


def _json_size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "replace"))
    if isinstance(value, Mapping):  # {"key": "value", ...}
        return 2 + sum(_size(key) + _json_size(item) + 8 for key, item in value.items())
    if isinstance(value, list | tuple):  # ["item", ...]
        return 2 + sum(_json_size(item) + 4 for item in value)
    return len(str(value))
