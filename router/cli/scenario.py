"""``scenario``: what assumed traffic would cost, routed and not, with the guide's table to start from."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from router.cli.options import Data, Json, PolicyFile
from router.cli.output import emit, money, say, share, table
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.scenarios import Scenario
    from router.policy import Policy

T = TypeVar("T")
_TOKENS = re.compile(r"(\d{1,8})/(\d{1,8})\Z")


def scenario(
    preset: Annotated[
        str,
        typer.Option("--preset", metavar="guide|list-prices", help="The packaged scenario to start from."),
    ] = "guide",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", metavar="FILE", show_default=False, help="Start from a file that --toml wrote."
        ),
    ] = None,
    requests: Annotated[
        str | None,
        typer.Option(
            "--requests", metavar="N", show_default=False, help="Requests a day, like 50000 or 1e6."
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            "--mix",
            metavar="LABEL=SHARE,...",
            show_default=False,
            help="Share of each label; they sum to 1. Labels that are left out are taken away.",
        ),
    ] = None,
    tokens: Annotated[
        list[str] | None,
        typer.Option(
            "--tokens",
            metavar="LABEL=IN/OUT",
            show_default=False,
            help="Tokens of a label's request; repeatable.",
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", metavar="LABEL=MODEL", show_default=False, help="A label's model; repeatable."
        ),
    ] = None,
    free: Annotated[
        list[str] | None,
        typer.Option(
            "--free",
            metavar="LABEL",
            show_default=False,
            help="Count a label as free; repeatable. 'none': no label.",
        ),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            "--batch",
            metavar="LABEL",
            show_default=False,
            help="A label at batch prices; repeatable. 'none': no label.",
        ),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="MODEL", show_default=False, help="Model that would answer everything."
        ),
    ] = None,
    baseline_tokens: Annotated[
        str | None,
        typer.Option(
            "--baseline-tokens",
            metavar="IN/OUT|same",
            show_default=False,
            help="Tokens of every request then; 'same': each label's own.",
        ),
    ] = None,
    classifier_usd: Annotated[
        str | None,
        typer.Option(
            "--classifier-usd", metavar="USD", show_default=False, help="Cost of classifying one request."
        ),
    ] = None,
    prices: Annotated[
        str | None,
        typer.Option(
            "--prices",
            metavar="DATE|today",
            show_default=False,
            help="Day whose prices hold. Default: the scenario's, 2026-11-01 for the packaged ones.",
        ),
    ] = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print the scenario itself, to keep and read with --file.")
    ] = False,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """What assumed traffic costs a day, routed and all to one model. Starts from the guide's table."""
    from router.analysis.scenario_file import changed, mixed, read_plan
    from router.analysis.scenarios import preset_plan, work_out
    from router.prices import PriceBook

    if toml and json:
        raise typer.BadParameter("--toml and --json are two forms of output; give one of them")
    plan = preset_plan(preset) if file is None else read_plan(_text_of(file), str(file))
    rules = _rules(policy, data)
    values: dict[str, Any] = {}
    if requests is not None:
        values["requests"] = _whole(requests)
    if baseline is not None:
        values["baseline"] = baseline
    if baseline_tokens is not None:
        own = baseline_tokens == "same"
        values["baseline_tokens"] = None if own else _shape(baseline_tokens, "--baseline-tokens")
    if classifier_usd is not None:
        values["classifier_usd"] = _number(classifier_usd, "--classifier-usd")
    if prices is not None:
        values["prices_date"] = _day(prices)
    models = _pairs(model, "--model", str)
    rows = plan.rows
    if mix is not None:
        shares = _pairs(mix.split(","), "--mix", lambda text: _number(text, "--mix"))
        rows = mixed(plan, shares, {x.name: x.model for x in rules.labels} | models)
    known = [row.label for row in rows]
    shapes = _pairs(tokens, "--tokens", lambda text: _shape(text, "--tokens"))
    for option, names in (("--model", models), ("--tokens", shapes), ("--free", free), ("--batch", batch)):
        _are_labels(option, names or (), known)
    for row_model, label in ((m, x) for x, m in models.items()):
        rows = tuple(replace(x, model=row_model) if x.label == label else x for x in rows)
    for label, (fresh, output) in shapes.items():
        rows = tuple(
            replace(x, input_tokens=fresh, output_tokens=output) if x.label == label else x for x in rows
        )
    if free is not None:
        rows = tuple(replace(x, free=x.label in free) for x in rows)
    if batch is not None:
        rows = tuple(replace(x, batch=x.label in batch) for x in rows)
    if rows != plan.rows:
        values["rows"] = rows
    if values:
        plan = changed(plan, **values)
    if toml:
        typer.echo(plan.to_toml(), nl=False)
        return
    today = datetime.now(UTC).date()
    show(work_out(plan, PriceBook(rules.models), today), json, today=today)


def show(found: Scenario, json: bool, *, today: date | None = None) -> None:
    """Print a scenario: its lines, both totals, and what it rests on."""
    from router.analysis.scenarios import DAYS

    if json:
        emit(document(found))
        return
    table(
        ("label", "share", "model", "input tokens", "output tokens", "USD a day", "price"),
        [
            (
                x.label,
                share(float(x.share)),
                x.model + (" (batch)" if x.batch else ""),
                f"{x.input_tokens:,}",
                f"{x.output_tokens:,}",
                "counted as free" if x.free else money(x.cost_usd),
                _price(x.rate, x.input_tokens),
            )
            for x in found.parts
        ],
        right=("share", "input tokens", "output tokens", "USD a day"),
    )
    typer.echo()
    lower = "" if found.routed_usd is not None else "+"
    rows: list[tuple[str, Decimal | None, str]] = [(f"all to {found.baseline}", found.baseline_usd, "")]
    if found.classifier_usd:
        rows.append(("classifier", found.classifier_usd, ""))
    known = found.known_usd if found.routed_usd is not None or found.known_usd else None
    rows.append(
        ("routed" + (", classifier included" if found.classifier_usd else ""), known, lower if known else "")
    )
    rows.append(("saved", found.savings_usd, ""))
    shown = [
        (name, money(day) + plus, money(None if day is None else day * DAYS) + plus)
        for name, day, plus in rows
    ]
    saved = "not known" if found.savings_share is None else f"{found.savings_share:.2%}"
    table(
        ("", "USD a day", f"USD in {DAYS} days"),
        [*shown, ("saved, share", saved, "")],
        right=("USD a day", f"USD in {DAYS} days"),
    )
    if found.unknown:
        say(
            f"note: no price is known for {', '.join(found.unknown)} on {found.prices_date}; + marks a lower bound"
        )
    say(f"assumed, not measured: {found.assumptions}")
    say(f"rates of {found.prices_date.isoformat()} ({found.prices_source})")
    for name, rate in found.rates.items():
        if today is not None and rate.is_stale(today):
            say(f"note: the price of {name} is of {rate.as_of}, more than 90 days ago ({rate.source})")


def document(found: Scenario) -> dict[str, Any]:
    """A scenario as JSON: money exact."""
    return asdict(found) | {
        "known_usd": found.known_usd,
        "routed_usd": found.routed_usd,
        "savings_usd": found.savings_usd,
        "savings_share": found.savings_share,
    }


def _price(rate: Any, input_tokens: int) -> str:
    """The rates that a request of this size pays."""
    from dataclasses import replace

    from router.prices import per_million

    if rate is not None and rate.tier_from is not None and input_tokens > rate.tier_from:
        rate = replace(rate, input=rate.tier_input, output=rate.tier_output)
    return per_million(rate).removesuffix(" per million tokens")


def _rules(policy: Path | None, data: Path | None) -> Policy:
    from router.config import data_dir
    from router.resolve import load_policy

    return load_policy(policy, data_dir(data))


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or type(error).__name__}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _pairs(items: list[str] | None, option: str, value: Callable[[str], T]) -> dict[str, T]:
    found: dict[str, T] = {}
    for item in items or ():
        label, equals, text = item.partition("=")
        label = label.strip()
        if not equals or not label or not text.strip():
            raise InputError(f"{option}: found {item[:40]!r}, expected LABEL=VALUE")
        if label in found:
            raise InputError(f"{option}: {label[:40]!r} stands twice")
        found[label] = value(text.strip())
    return found


def _are_labels(option: str, names: Any, known: list[str]) -> None:
    for name in names:
        if name not in known and not (option in ("--free", "--batch") and name == "none"):
            raise InputError(f"{option}: found label {name[:40]!r}, expected one of {', '.join(known)}")


def _number(text: str, option: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise InputError(f"{option}: found {text[:40]!r}, expected a number, 0 or more")
    return value


def _whole(text: str) -> int:
    value = _number(text.replace("_", "").replace(",", ""), "--requests")
    if value != value.to_integral_value() or value > 10**18:
        raise InputError(f"--requests: found {text[:40]!r}, expected a whole number of requests a day")
    return int(value)


def _shape(text: str, option: str) -> tuple[int, int]:
    match = _TOKENS.match(text)
    if match is None:
        raise InputError(f"{option}: found {text[:40]!r}, expected input and output tokens like 500/300")
    return int(match[1]), int(match[2])


def _day(text: str) -> date | None:
    if text == "today":
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"--prices: found {text[:40]!r}, expected a date like 2026-11-01, or today"
        ) from None
