"""``sweep``, ``savings`` and ``overlap``: the log's figures, as the dashboard's pages show them."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.analysis.steps import STEPS
from router.cli.errors import NotEnoughData
from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, money, say, share, table, with_half
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.auditing import Sample
    from router.analysis.latency import Latency
    from router.analysis.quality import Quality
    from router.analysis.sweep import OperatingPoint, Sweep
    from router.log.evidence import Ground
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.policy import Policy
    from router.prices import PriceBook

DEFAULT_POINTS = tuple(k / 20 for k in range(21))

_CURVE = (
    "thresholds",
    "fallback",
    "fallback_share",
    "cost_per_1000",
    "cost_half",
    "savings_share",
    "savings_half",
    "crossing",
    "changing",
)


def sweep(
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            "--threshold",
            "-t",
            show_default=False,
            help="Thresholds to show; repeatable. Default: every 0.05, the policy's and the cheapest.",
        ),
    ] = None,
    margins: Annotated[
        bool, typer.Option("--margins", help="Read every score too: what a rule on the margin would add.")
    ] = False,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """What every threshold would do to the logged decisions. --json: the whole curve."""
    from router.analysis.auditing import sample
    from router.analysis.dead_zones import dead_zones
    from router.analysis.latency import Latency
    from router.analysis.quality import quality
    from router.analysis.savings import bound, missing
    from router.analysis.sweep import cheapest, operating_point
    from router.analysis.sweep import sweep as sweep_cells
    from router.cli import collisions
    from router.cli.promising import newest_ground, say_mixed
    from router.log.audits import audit_rows
    from router.log.queries import call_times, cells

    for value in threshold or []:
        _check_threshold(value)
    rules, book = _rules(policy, data)
    picked = chosen(since, until)
    with reading(data) as log:
        counted = cells(log, picked, rules, book)
        curve = sweep_cells(counted, rules)
        enough(curve.n, log, picked, "with scores for the policy's labels")
        times = Latency(curve, call_times(log, picked))
        by_margin = collisions.margins(log, picked, rules, book) if margins else None
        rows = audit_rows(log, picked)
        own = newest_ground(log, picked, rules)
    audit = sample(rows.table, rules, classifier=rows.classifier, partial=True)
    judged = None if rows.narrower else quality(audit.audit, rules)
    zones = dead_zones(counted, rules)
    best = cheapest(curve)
    wanted = threshold or sorted({*DEFAULT_POINTS, curve.production, *([best.threshold] if best else [])})
    points = [operating_point(curve, value) for value in wanted]
    if json:
        document = _curve_document(curve, full=not threshold) | {"n_mixed": own.n_other}
        document |= collisions.beside(curve, rules, zones, by_margin)
        if not threshold:
            document["curve"]["mean_ms"] = times.mean_ms
        shown = [
            _point(x)
            | {
                "latency": asdict(times.at(x.threshold)),
                "quality": None if judged is None else asdict(judged.at(x.threshold)),
            }
            for x in points
        ]
        document |= {"cheapest": None if best is None else asdict(best), "points": shown}
        emit(document | {"latency": [asdict(x) for x in times.models]})
    else:
        _print_points(points, curve, None if best is None else best.threshold, times, judged)
        collisions.print_beside(curve, rules, zones, by_margin)
    say_ground(curve.n, curve.n_priced, curve.grade)
    say_mixed(own, curve.n)
    if not curve.classifier_known and curve.n_priced:
        say(f"note: {bound(missing(False, True))}")
    _say_quality(judged, audit, is_part=bool(rows.narrower))
    _say_times(times)
    if curve.n_left_out:
        say(f"note: {curve.n_left_out:,} decisions left out: their label is not one of the policy's")
    if curve.has_margin_rule:
        say(
            "note: the policy's min_margin is left out of the curve; it sends further decisions to the fallback model"
        )


def savings(
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="MODEL|dearest|previous",
            show_default=False,
            help="What is counted against: all to one model, to the policy's dearest one, or the policy used before. Default: the policy's.",
        ),
    ] = None,
    estimate_lengths: Annotated[
        bool,
        typer.Option(
            "--estimate-lengths",
            help="Take the baseline's answers as long as the log shows on the same or like prompts, not as long as those given.",
        ),
    ] = False,
    scenario: Annotated[
        str | None,
        typer.Option(
            "--scenario",
            metavar="guide|list-prices",
            show_default=False,
            help="The guide's table instead of the log: its own figures, or at list prices.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """What routing saved against one model for everything."""
    from router.cli.savings import show_savings, show_scenario

    if scenario is not None:
        if baseline is not None or estimate_lengths:
            raise typer.BadParameter("--scenario has a baseline of its own; give --baseline or --scenario")
        show_scenario(scenario, json)
        return
    rules, book = _rules(policy, data)
    picked = chosen(since, until)
    with reading(data) as log:
        show_savings(log, picked, rules, book, baseline, estimate_lengths, json)


savings.__doc__ = f"{savings.__doc__}\n\n\b\nThe steps from the baseline to what was paid:\n" + "\n".join(
    f"  {name}: {meaning}" for name, meaning in STEPS.values()
)
"""Said where it is asked for, in the words of the pages and the report."""


def overlap(
    close: Annotated[
        float, typer.Option("--close", help="Two labels are close below this margin; a multiple of 0.01.")
    ] = 0.10,
    more: Annotated[
        bool, typer.Option("--more", help="Read every score too: what merging or splitting labels would do.")
    ] = False,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Which labels the classifier hardly tells apart. With what is at stake."""
    from router.analysis.overlap import overlap as find
    from router.cli import collisions
    from router.cli.promising import newest_ground, say_mixed, say_other
    from router.log.queries import pairs

    if not 0.01 <= close <= 1.0 or abs(close * 100 - round(close * 100)) > 1e-9:
        raise InputError(f"--close: found {close!r}, expected a multiple of 0.01 from 0.01 to 1")
    rules, book = _rules(policy, data)
    if len(rules.labels) < 2:
        raise NotEnoughData("the policy has one label, and it takes two to overlap; add one to the policy")
    picked = chosen(since, until)
    with reading(data) as log:
        own = newest_ground(log, picked, rules)
        counted = (
            own.chosen if more else picked
        )  # every score is read with --more: there they can be told apart
        found = find(pairs(log, counted, rules, book), rules.label_names, bound=round(close, 2))
        enough(found.n, log, picked, "with two scores")
        extra = collisions.more_overlap(log, counted, rules, book, found) if more else None

    def say_ground_of(own: Ground) -> None:
        if more:
            say_other(own)
        else:
            say_mixed(own, found.n)

    if json:
        document = _fields(found, skip=("matrix", "margins")) | {
            "n_other" if more else "n_mixed": own.n_other,
            "pairs": [asdict(pair) for pair in found.pairs],
        }
        emit(document | ({} if extra is None else {"more": extra}))
        say_ground_of(own)
        return
    table(
        ("labels", "decisions", "close", "close rate", "at stake"),
        [
            (
                f"{x.first} / {x.second}",
                f"{x.n:,}",
                f"{x.n_close:,}",
                share(x.close_rate),
                money(x.at_stake_usd),
            )
            for x in found.pairs
        ],
        right=("decisions", "close", "close rate", "at stake"),
    )
    say(
        f"{found.n_close:,} of {found.n:,} decisions ({share(found.close_rate)}) have a margin below {found.bound:g}; "
        "close rates are shares of all decisions; at stake: by how much spend would change had each gone to its other label's model"
    )
    say_ground_of(own)
    if extra is not None:
        collisions.print_more(extra)


def _rules(policy: Path | None, data: Path | None) -> tuple[Policy, PriceBook]:
    from router.config import data_dir
    from router.prices import PriceBook
    from router.resolve import load_policy

    rules = load_policy(policy, data_dir(data))
    return rules, PriceBook(rules.models)


def _check_threshold(value: float) -> None:
    from router.policy import grid_neighbours

    if not 0.0 <= value <= 1.0:
        raise InputError(f"--threshold: found {value!r}, expected a number in [0, 1]")
    low, high = grid_neighbours(value)
    if low != high:
        raise InputError(
            f"--threshold: found {value!r}, expected a multiple of 0.0001; the neighbours are {low!r} and {high!r}"
        )


def enough(n: int, log: Log, picked: Filter, what: str) -> None:
    """Raise when there is no decision to answer from."""
    if n:
        return
    total = log.count()
    period = " in this period" if picked.start or picked.end else ""
    raise NotEnoughData(
        f"no decisions{f' {what}' if what else ''}{period} in {log.data} ({total:,} in all); "
        "log some with 'routescope route', or widen --since"
    )


def _curve_document(curve: Sweep, *, full: bool) -> dict[str, Any]:
    document = _fields(curve, skip=("labels", *_CURVE))
    document["labels"] = [
        _fields(label, skip=("fallback", "fallback_share", "cost_change")) for label in curve.labels
    ]
    if full:
        document["curve"] = {name: getattr(curve, name) for name in _CURVE}
    return document


def _fields(value: Any, *, skip: tuple[str, ...]) -> dict[str, Any]:
    """Public fields of a frozen result, without those that are drawn rather than read."""
    return {
        x.name: getattr(value, x.name)
        for x in fields(value)
        if x.name not in skip and not x.name.startswith("_")
    }


def _point(point: OperatingPoint) -> dict[str, Any]:
    names = ("label", "threshold", "fallback", "fallback_share")
    return asdict(point) | {"labels": [dict(zip(names, row, strict=True)) for row in point.labels]}


def _say_times(times: Latency) -> None:
    """What projected times rest on."""
    timed = [x for x in times.models if x.n_calls]
    if timed:
        calls = ", ".join(f"{x.model} {x.n_calls:,}" for x in timed)
        say(
            "median and p95 ms are projected: each model's logged times, mixed by who would answer, within 1 %, "
            f"classifier not included; they rest on timed calls of {calls}"
        )
    never = [x.model for x in times.models if not x.n_calls]
    if not timed:
        say("note: no call was timed, so that no times can be projected")
    elif never:
        say(f"note: never timed: {', '.join(never)}; where they would answer the time is not known")


def _say_quality(judged: Quality | None, audit: Sample, *, is_part: bool) -> None:
    """What the share of right labels rests on, or what it would take."""
    n, apart = len(audit.audit), ""
    below = audit.n_judged - n
    if below:
        apart += f"; {below:,} below the policy's min_margin left out, as they fall back at any threshold"
    for gone, why in audit.left_out:
        apart += f"; {gone:,} {why} left out"
    if audit.n_open:
        apart += f"; {audit.n_open:,} drawn ones wait for a judgement"
    if judged is None:
        why = (
            "its decisions were drawn from a part of this traffic"
            if is_part
            else "it takes 20 audited decisions"
        )
        say(
            f"right labels: not measured, {why}; {n:,} are judged{apart} ('routescope review next --queue audit')"
        )
        return
    say(
        f"right labels: of {n:,} audited decisions those that the line lets through, 'unsure' as wrong{apart}; to promise a threshold "
        "take 'routescope certify'"
    )


def _right(judged: Quality, threshold: float) -> str:
    point = judged.at(threshold)
    if point.share is None or point.interval is None:
        return f"{point.n} judged"
    return f"{share(point.share)}  {share(point.interval.low)} to {share(point.interval.high)}"


def _print_points(
    points: list[OperatingPoint], curve: Sweep, best: float | None, times: Latency, judged: Quality | None
) -> None:
    rows = []
    is_timed = any(x.n_calls for x in times.models)
    plus = "" if curve.classifier_known or curve.cost_per_1000 is None else "+"
    most = "" if curve.classifier_known or curve.savings_share is None else "≤ "
    for point in points:
        mark = " ".join(
            word
            for word, there in (
                ("production", point.threshold == curve.production),
                ("cheapest", point.threshold == best),
            )
            if there
        )
        mix = times.at(point.threshold)
        ms = ["" if x is None else f"{x:,.0f}" for x in (mix.p50_ms, mix.p95_ms)]
        rows.append(
            (
                f"{point.threshold:g}",
                f"{point.fallback:,}",
                share(point.fallback_share),
                with_half(
                    money(point.cost_per_1000) + plus,
                    None if point.cost_half is None else money(point.cost_half),
                ),
                with_half(
                    most + share(point.savings_share),
                    None if point.savings_half is None else share(point.savings_half),
                ),
                f"{point.changing:,}",
                *(() if judged is None else (_right(judged, point.threshold),)),
                *(ms if is_timed else ()),
                mark,
            )
        )
    columns = (
        "threshold",
        "fallback",
        "share",
        "USD per 1,000",
        f"savings vs {curve.baseline or 'no baseline'}",
        "change model",
        *(() if judged is None else ("right labels",)),
        *(("median ms", "p95 ms") if is_timed else ()),
        "",
    )
    table(columns, rows, right=columns[:-1])


def say_ground(n: int, n_priced: int, grade: str | None) -> None:
    """Say how many decisions a cost is of, and how their tokens are known."""
    tokens = {"measured": "measured by the providers", "estimated": "estimated", "assumed": "assumed"}.get(
        grade or "", "not known"
    )
    say(f"costs are over {n_priced:,} of {n:,} decisions; their tokens are {tokens}; intervals are 95 %")
