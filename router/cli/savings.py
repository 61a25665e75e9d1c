"""What ``savings`` prints: both sides, where the difference comes from, what is left out, and the ground of each price."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import typer

from router.cli.errors import NotEnoughData
from router.cli.output import emit, money, say, share, signed_money, table, with_half

if TYPE_CHECKING:
    from router.analysis.lengths import LengthRatio
    from router.analysis.projection import Projection
    from router.analysis.savings import LabelSavings, Savings
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.log.spending import Repriced, Unpriced
    from router.policy import Policy
    from router.prices import PriceBook


def show_savings(
    log: Log,
    picked: Filter,
    rules: Policy,
    book: PriceBook,
    baseline: str | None,
    estimate_lengths: bool,
    json: bool,
) -> None:
    """Add up and print.

    Raises
    ------
    InputError
        Neither the price book nor the policy nor the log knows the baseline.
    NotEnoughData
        No decision, none with a known cost on both sides, no policy before this one, or too little traffic to estimate.
    """
    from router.analysis.lengths import factors, length_ratios
    from router.analysis.projection import bounded, days_to_go_by, project_spend
    from router.analysis.savings import savings
    from router.cli.reading import enough, say_ground
    from router.log import queries
    from router.log.baselines import DEAREST, PREVIOUS

    today = datetime.now(UTC).date()
    against: str | Policy = baseline or queries.baseline_of(rules)
    if against == DEAREST:
        against = queries.dearest(log, picked, rules, book)
    elif against == PREVIOUS:
        found = queries.previous_policy(log, rules)
        if found is None:
            raise NotEnoughData("the log holds no policy before this one; give a model with --baseline")
        against = found
    elif baseline is not None:
        _check_known(baseline, log, rules, book, today)
    ratios: dict[str, LengthRatio] | None = None
    if estimate_lengths:
        if not isinstance(against, str):
            raise typer.BadParameter("--estimate-lengths needs one model as baseline; a policy has several")
        ratios = length_ratios(*queries.lengths(log, picked, against), against)
        if not ratios:
            raise NotEnoughData(
                f"too few measured answers of {against} beside other models' to estimate lengths; 20 prompts that both "
                "answered, or 100 decisions of each on like prompts"
            )
    spend = queries.spend(
        log, picked, rules, book, baseline=against, lengths=None if ratios is None else factors(ratios)
    )
    name = against if isinstance(against, str) else f"policy {against.name} {against.fingerprint[:6]}"
    figures = savings(spend, name, lengths=ratios)
    enough(figures.n, log, picked, "")
    anew = queries.repriced(log, picked, book)
    reasons = queries.unpriced(log, picked, rules, book, baseline=against) if figures.n_unpriced else []
    ahead = {what: project_spend(spend, today, what) for what in ("paid", "saved")}
    if figures.missing:
        ahead = {what: bounded(x) for what, x in ahead.items()}
    rates = _rates(
        [*rules.model_names, *([name] if isinstance(against, str) else []), *_models(figures)], book, today
    )
    if json:
        emit(
            asdict(figures)
            | {
                "is_whole": figures.is_whole,
                "missing": figures.missing,
                "left_out": [asdict(x) for x in reasons],
                "lengths": [asdict(x) for x in (ratios or {}).values()],
                "projection": {key: None if x is None else asdict(x) for key, x in ahead.items()},
                "prices": rates,
                "repriced": asdict(anew) | {"difference_usd": anew.difference_usd},
            }
        )
    else:
        _print(figures, isinstance(against, str))
        _print_ahead(ahead, days_to_go_by(spend, today), bool(figures.missing))
    say_ground(figures.n, figures.n_priced, figures.grade)
    _say_left_out(figures, reasons)
    _say_repriced(anew)
    _say_baseline(figures, isinstance(against, str), ratios)
    _say_prices(rates, rules, today)
    if figures.savings_usd is None:
        raise NotEnoughData(
            f"no decision has a known cost on both sides; savings against {name} are not known"
        )


def _check_known(model: str, log: Log, rules: Policy, book: PriceBook, today: date) -> None:
    """A baseline nobody knows is a slip of the pen: say what there is instead."""
    from router.cli.output import near
    from router.errors import InputError
    from router.log.queries import models_seen
    from router.prices import charges_per_search

    ours = list(dict.fromkeys([*rules.model_names, *models_seen(log)]))
    if model in ours or book.rate(model, today) is not None:
        return
    if charges_per_search(model):
        raise InputError(
            f"--baseline: {model[:60]} charges for the searches of each call, which nobody can count: it has no price; state one in the "
            f'policy ([models."{model[:60]}"] price), or choose another'
        )
    close = near(model, [*ours, *book.names])
    raise InputError(
        f"--baseline: found {model[:60]!r}, which neither the price book nor the policy nor the log knows; "
        + (f"did you mean {', '.join(close)}?" if close else f"the policy and the log have {', '.join(ours)}")
    )


def show_scenario(name: str, json: bool) -> None:
    """Print a packaged scenario."""
    from router.analysis.scenarios import scenario
    from router.cli.scenario import show

    show(scenario(name), json)


def _print(figures: Savings, single: bool) -> None:
    from router.analysis.decomposition import shown
    from router.analysis.steps import STEPS

    plus = "" if figures.is_whole or figures.paid_usd is None else "+"
    lower = "" if figures.n_unpriced == 0 or figures.baseline_usd is None else "+"
    most = "at most " if figures.missing and figures.savings_usd is not None else ""
    half = None if figures.savings_half is None else _beside(figures.savings_half, figures.baseline_usd)
    share_half = None if figures.share_half is None else share(figures.share_half)
    rows = [
        (f"all to {figures.baseline}" if single else figures.baseline, money(figures.baseline_usd) + lower)
    ]
    rows += [
        (f"  {STEPS[x.kind][0]}", signed_money(x.amount_usd))
        for x in shown(figures.effects)
        if x.kind in STEPS
    ]
    rows += [
        ("paid", money(figures.paid_usd) + plus),
        ("saved", most + with_half(_beside(figures.savings_usd, figures.baseline_usd), half)),
        ("saved, share", most + with_half(share(figures.savings_share), share_half)),
    ]
    table(("", "USD"), rows, right=("USD",))
    typer.echo()
    table(
        ("label", "models", "decisions", "baseline", "paid", "saved", "share"),
        [
            (
                x.label or "no scores",
                ", ".join(x.models),
                f"{x.n:,}",
                money(x.baseline_usd),
                money(x.paid_usd) + ("" if x.is_whole or x.paid_usd is None else "+"),
                _most(x) + _beside(x.savings_usd, x.baseline_usd),
                ("" if x.savings_share is None else _most(x)) + share(x.savings_share),
            )
            for x in figures.labels
        ],
        right=("decisions", "baseline", "paid", "saved", "share"),
    )


def _most(label: LabelSavings) -> str:
    return "≤ " if label.missing and label.savings_usd is not None else ""


def _print_ahead(ahead: dict[str, Projection | None], days: int, is_bound: bool) -> None:
    from router.analysis.projection import ground, why_not

    found = [(key, x) for key, x in ahead.items() if x is not None]
    if not found:
        say(why_not(days))
        return
    typer.echo()
    table(
        (f"next {found[0][1].horizon} days", "USD", "from", "to"),
        [
            (
                f"{key}, at {'least' if key == 'paid' else 'most'}" if is_bound else key,
                money(x.total),
                *("" if y is None or is_bound else money(y) for y in (x.low, x.high)),
            )
            for key, x in found
        ],
        right=("USD", "from", "to"),
    )
    say(f"the next {found[0][1].horizon} days if traffic stays: {ground(found[0][1], is_bound=is_bound)}")


def _beside(value: float | None, baseline: float | None) -> str:
    """USD, nothing where it is nothing beside the baseline."""
    from router.analysis.steps import noticeable

    return money(None if value is None else noticeable(value, baseline or 0.0))


def _models(figures: Savings) -> list[str]:
    return [model for label in figures.labels for model in label.models]


def _rates(models: Iterable[str], book: PriceBook, today: date) -> list[dict[str, Any]]:
    found = []
    for model in dict.fromkeys(models):
        rate = book.rate(model, today)
        found.append(
            {"model": model, "input": None, "output": None, "source": None, "as_of": None, "is_stale": False}
            if rate is None
            else {
                "model": model,
                "input": rate.input,
                "output": rate.output,
                "source": rate.source if rate.source != "genai-prices" else rate.version,
                "as_of": rate.as_of,
                "is_stale": rate.is_stale(today),
            }
        )
    return found


def _say_prices(rates: list[dict[str, Any]], rules: Policy, today: date) -> None:
    grounds: dict[str, list[str]] = {}
    for rate in rates:
        if rate["source"] is not None:
            day = f"of {rate['as_of']}" if rate["as_of"] else "without a date"
            old = ", more than 90 days old" if rate["is_stale"] else ""
            grounds.setdefault(f"{rate['source']} {day}{old}", []).append(rate["model"])
    for ground, models in grounds.items():
        say(f"prices: {ground}: {', '.join(models)}")
    if (price := rules.classifier_price) is not None:
        from router.prices import STALE_DAYS

        day = f"of {price.date}" if price.date else "without a date"
        old = ", more than 90 days old" if price.date and (today - price.date).days > STALE_DAYS else ""
        say(
            f"prices: {price.source} {day}{old}: {money(price.per_call)} a call of {rules.classifier}, in decisions logged since it stands there"
        )


def _say_left_out(figures: Savings, reasons: Iterable[Unpriced]) -> None:
    from router.analysis.savings import bound

    if figures.missing:
        say(bound(figures.missing))
    if figures.n_unanswered:
        noun = "decision" if figures.n_unanswered == 1 else "decisions"
        say(f"no model answered, and no provider charges for that: {figures.n_unanswered:,} {noun}, at $0")
    if figures.failed_usd:
        beside = figures.failed_unmatched_usd
        of_these = f"; {money(beside)} of them for decisions that have no baseline" if beside else ""
        say(
            f"failed attempts, {money(figures.failed_usd)}, are at the prices known when they were made{of_these}"
        )
    if figures.unmatched_usd:
        say(
            f"{money(figures.unmatched_usd)} of what was paid, for answers and classifying, has no known baseline and is no part of "
            "the savings"
        )
    if not figures.n_unpriced:
        return
    parts = []
    for x in reasons:
        parts.append(f"{x.n:,} " + ("no model answered" if x.model is None else f"{x.model} ({x.why()})"))
    say(f"left out, cost not known: {', '.join(parts)}; + marks a lower bound")


def _say_repriced(anew: Repriced) -> None:
    if anew.difference_usd:
        noun = "answer" if anew.n == 1 else "answers"
        how = "dearer" if anew.difference_usd > 0 else "cheaper"
        say(
            f"today's price book, which all sums here take, makes {anew.n:,} {noun} {money(abs(anew.difference_usd))} {how} than the "
            f"log's {money(anew.logged_usd)}, which is at the prices known when they were made"
        )


def _say_baseline(figures: Savings, single: bool, ratios: dict[str, LengthRatio] | None) -> None:
    if not single:
        say(
            f"note: the baseline is what {figures.baseline} would have chosen for the same scores, with the same tokens"
        )
    elif not ratios:
        say(f"note: the baseline assumes that {figures.baseline} would have used the same tokens")
    for ratio in (ratios or {}).values():
        say(
            f"estimated from {ratio.n:,} {'prompts that both answered' if ratio.ground == 'paired' else 'decisions on like prompts'}: "
            f"{figures.baseline} writes {ratio.output:.2f} ± {ratio.output_half:.2f} tokens for each of {ratio.model}, "
            f"and reads {ratio.input:.2f} ± {ratio.input_half:.2f}"
        )
