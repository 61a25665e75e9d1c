"""What a scenario assumes: checked, changed piece by piece, and in and out of TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from router.errors import InputError

MAX_REQUESTS = 10**15
MAX_TOKENS = 10_000_000
MAX_ROWS = 64
MAX_NAME = 128
_KEYS = (
    "name",
    "title",
    "requests",
    "baseline",
    "baseline_tokens",
    "classifier_usd",
    "prices_date",
    "assumptions",
    "rows",
)
_ROW_KEYS = ("label", "share", "model", "input", "output", "free", "batch")


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A share of the requests: what it is called, who answers it, and the tokens of each request."""

    label: str
    share: Decimal
    model: str
    input_tokens: int
    output_tokens: int
    free: bool = False
    batch: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What a scenario assumes.

    Attributes
    ----------
    requests : a day.
    baseline : the model that answers everything when nothing is routed.
    baseline_tokens : (input, output) of every request then; None: each row's own, the "same tokens" of the log's savings.
    classifier_usd : what classifying one request costs.
    prices_date : the day whose prices hold; None: today's.
    assumptions : in words; "": written from the values.

    Raises
    ------
    InputError
        Lists every fault, with what was found and expected.
    """

    requests: int
    baseline: str
    rows: tuple[PlanRow, ...]
    baseline_tokens: tuple[int, int] | None = None
    classifier_usd: Decimal = Decimal(0)
    prices_date: date | None = None
    name: str = "own"
    title: str = "Own scenario"
    assumptions: str = ""
    source: str = "scenario"

    def __post_init__(self) -> None:
        faults = _faults(self)
        if faults:
            raise InputError("\n".join(f"{self.source}: {fault}" for fault in faults))

    def to_toml(self) -> str:
        """The plan as TOML; reading it back gives an equal plan."""
        lines = [f"name = {_text(self.name)}", f"title = {_text(self.title)}", f"requests = {self.requests}"]
        lines.append(f"baseline = {_text(self.baseline)}")
        if self.baseline_tokens is not None:
            fresh, output = self.baseline_tokens
            lines.append(f"baseline_tokens = {{ input = {fresh}, output = {output} }}")
        if self.classifier_usd:
            lines.append(f"classifier_usd = {_text(f'{self.classifier_usd:f}')}")
        if self.prices_date is not None:
            lines.append(f"prices_date = {self.prices_date.isoformat()}")
        if self.assumptions:
            lines.append(f"assumptions = {_text(self.assumptions)}")
        lines.append("rows = [")
        for row in self.rows:
            cells = [
                f"label = {_text(row.label)}",
                f"share = {_text(f'{row.share:f}')}",
                f"model = {_text(row.model)}",
                f"input = {row.input_tokens}",
                f"output = {row.output_tokens}",
            ]
            cells += [f"{key} = true" for key in ("free", "batch") if getattr(row, key)]
            lines.append(f"  {{ {', '.join(cells)} }},")
        return "\n".join([*lines, "]"]) + "\n"


def read_plan(text: str, source: str) -> Plan:
    """Parse a scenario's TOML; ``source`` names it in errors.

    Raises
    ------
    InputError
        It is not TOML, or not a scenario; lists every fault.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{source}: not valid TOML: {error}") from None
    return plan_from(raw, source)


def plan_from(raw: Mapping[str, Any], source: str) -> Plan:
    """Build a plan of parsed TOML (or JSON).

    Raises
    ------
    InputError
        Lists every fault.
    """
    faults = [f"{key}: not a key of a scenario; known: {', '.join(_KEYS)}" for key in raw if key not in _KEYS]
    faults += [f"{key}: missing" for key in ("requests", "baseline", "rows") if key not in raw]
    rows = []
    for number, row in enumerate(raw.get("rows") or [], 1):
        if not isinstance(row, Mapping):
            faults.append(f"rows[{number}]: found a {type(row).__name__}, expected a table")
            continue
        lacking = [key for key in ("label", "share", "model") if key not in row]
        odd = [key for key in row if key not in _ROW_KEYS]
        faults += [f"rows[{number}].{key}: missing" for key in lacking]
        faults += [f"rows[{number}].{key}: not a key; known: {', '.join(_ROW_KEYS)}" for key in odd]
        share = _decimal(row.get("share", 0), f"rows[{number}].share", faults)
        rows.append(
            PlanRow(
                str(row.get("label", "")),
                share,
                str(row.get("model", "")),
                row.get("input", 0),
                row.get("output", 0),
                bool(row.get("free", False)),
                bool(row.get("batch", False)),
            )
        )
    tokens = raw.get("baseline_tokens")
    shape: tuple[int, int] | None = None
    if isinstance(tokens, Mapping) and set(tokens) == {"input", "output"}:
        shape = (tokens["input"], tokens["output"])
    elif tokens is not None:
        faults.append("baseline_tokens: expected { input = ..., output = ... }")
    day = raw.get("prices_date")
    if day is not None and not isinstance(day, date):
        faults.append(f"prices_date: found {str(day)[:40]!r}, expected a date like 2026-11-01 without quotes")
    classifier = _decimal(raw.get("classifier_usd", 0), "classifier_usd", faults)
    if faults:
        raise InputError("\n".join(f"{source}: {fault}" for fault in faults))
    return Plan(
        requests=raw["requests"],
        baseline=str(raw["baseline"]),
        rows=tuple(rows),
        baseline_tokens=shape,
        classifier_usd=classifier,
        prices_date=day,
        name=str(raw.get("name", "own")),
        title=str(raw.get("title", "Own scenario")),
        assumptions=str(raw.get("assumptions", "")),
        source=source,
    )


def changed(plan: Plan, **values: Any) -> Plan:
    """The plan with other values; its words no longer fit and are written anew."""
    return replace(plan, name="own", title="Own scenario", assumptions="", source="scenario", **values)


def mixed(plan: Plan, mix: Mapping[str, Decimal], models: Mapping[str, str]) -> tuple[PlanRow, ...]:
    """Rows of these labels with these shares: known ones keep model and tokens, new ones take ``models`` and usual tokens.

    Raises
    ------
    InputError
        A new label has no model.
    """
    known = {row.label: row for row in plan.rows}
    usual = plan.baseline_tokens or (500, 500)
    rows = []
    for label, share in mix.items():
        if label in known:
            rows.append(replace(known[label], share=share))
        elif label in models:
            rows.append(PlanRow(label, share, models[label], *usual))
        else:
            raise InputError(
                f"--mix: found label {label[:40]!r} without a model; give one with --model {label[:40]}=MODEL"
            )
    return tuple(rows)


def _faults(plan: Plan) -> list[str]:
    faults = []
    if type(plan.requests) is not int or not 1 <= plan.requests <= MAX_REQUESTS:
        faults.append(
            f"requests: found {str(plan.requests)[:40]}, expected a whole number from 1 to {MAX_REQUESTS:,}"
        )
    if not plan.baseline.strip():
        faults.append("baseline: missing, expected the model that answers everything")
    faults += _name_faults("baseline", plan.baseline)
    if not 1 <= len(plan.rows) <= MAX_ROWS:
        faults.append(f"rows: found {len(plan.rows)}, expected 1 to {MAX_ROWS}")
    if not (plan.classifier_usd.is_finite() and plan.classifier_usd >= 0):
        faults.append(f"classifier_usd: found {plan.classifier_usd}, expected USD a request, 0 or more")
    for number, row in enumerate(plan.rows, 1):
        where = f"rows[{number}] ({row.label[:40]})"
        if not row.label.strip() or not row.model.strip():
            faults.append(f"rows[{number}]: expected a label and a model")
        for what, text in (("label", row.label), ("model", row.model)):
            faults += _name_faults(f"rows[{number}].{what}", text)
        if not (row.share.is_finite() and 0 <= row.share <= 1):
            faults.append(f"{where}: found share {row.share}, expected 0 to 1")
        faults += _token_faults(where, (row.input_tokens, row.output_tokens))
    if plan.baseline_tokens is not None:
        faults += _token_faults("baseline_tokens", plan.baseline_tokens)
    labels = [row.label.casefold() for row in plan.rows]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        faults.append(f"rows: {', '.join(twice)[:80]} stands twice")
    total = sum((row.share for row in plan.rows if row.share.is_finite()), Decimal(0))
    if not faults and total != 1:
        faults.append(
            f"the shares sum to {total.normalize():f} ({(total * 100).normalize():f} %), expected 1"
        )
    return faults


def _name_faults(where: str, text: str) -> list[str]:
    """A scenario can come out of a link: its names are shown, so nothing in them may hide or reorder others."""
    if text.isprintable() and len(text) <= MAX_NAME:
        return []
    return [f"{where}: expected at most {MAX_NAME} printable characters"]


def _token_faults(where: str, tokens: tuple[Any, Any]) -> list[str]:
    return [
        f"{where}: found {str(value)[:40]} {side} tokens, expected a whole number from 0 to {MAX_TOKENS:,}"
        for side, value in zip(("input", "output"), tokens, strict=True)
        if type(value) is not int or not 0 <= value <= MAX_TOKENS
    ]


def _decimal(value: Any, where: str, faults: list[str]) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        faults.append(f'{where}: found {str(value)[:40]!r}, expected a number, best as text like "0.5"')
        return Decimal(0)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
