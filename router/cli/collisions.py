"""``overlap --more`` and ``sweep --margins``: what needs every score of a decision, not sums alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from router.cli.output import money, say, share, table
from router.cli.replaying import scored_rows

if TYPE_CHECKING:
    from router.analysis.dead_zones import DeadZone
    from router.analysis.overlap import Overlap
    from router.analysis.sweep import Sweep
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.policy import Policy
    from router.prices import PriceBook

PAIRS = 3
"""How many of the closest pairs are merged on trial."""


def more_overlap(log: Log, picked: Filter, rules: Policy, book: PriceBook, found: Overlap) -> dict[str, Any]:
    """Margins, what is on together, merge effects of the closest pairs, and labels that may hold two things."""
    import numpy as np

    from router.analysis import overlap_scores as more

    rows = scored_rows(log, picked, rules.label_names, rules.model_names, book)
    likeness = more.bhattacharyya(rows.scores)
    tau = max(0.25, 1.0 / max(len(rules.labels), 1))
    closest = [
        x for x in found.pairs if x.n_close and x.first in rules.by_name and x.second in rules.by_name
    ][:PAIRS]
    merges = (
        [more.merge_effect(rows, rules, x.first, x.second, bound=found.bound) for x in closest]
        if len(rows)
        else []
    )
    return {
        "n_rows": len(rows),
        "n_left_out": rows.n_left_out,
        "margin_quantiles": [{"share": q, "margin": x} for q, x in more.margin_quantiles(rows.scores)]
        if len(rows)
        else [],
        "score_sums": more.score_sums(rows.scores),
        "labels": list(rules.label_names),
        "tau": tau,
        "coactivation": np.round(more.coactivation(rows.scores, tau), 6),
        "bhattacharyya": np.round(likeness, 6),
        "order": more.order_by_likeness(likeness),
        "merges": [asdict(x) | {"cost_change": x.cost_change} for x in merges],
        "splits": [asdict(x) for x in more.split_suggestions(rows, rules)],
    }


def print_more(more: dict[str, Any]) -> None:
    """The same for people."""
    table(
        ("were one label", "fallback now", "then", "close now", "then", "USD per 1,000"),
        [
            (
                f"{x['first']} + {x['second']}",
                share(x["fallback_before"]),
                share(x["fallback_after"]),
                share(x["close_before"]),
                share(x["close_after"]),
                money(x["cost_change"]),
            )
            for x in more["merges"]
        ],
        right=("fallback now", "then", "close now", "USD per 1,000"),
    )
    quantiles = ", ".join(f"{x['share']:.0%}: {x['margin']:.3f}" for x in more["margin_quantiles"])
    say(f"margins at or below, by share of decisions: {quantiles or 'none'}")
    if more["score_sums"] is not None:
        low, middle, high = more["score_sums"]
        say(f"the scores of a decision sum to {middle:.3g} (90 % between {low:.3g} and {high:.3g})")
    for x in more["splits"]:
        say(
            f"{x['label']} may hold two things: {x['n_towards']:,} of {x['n']:,} decisions lean to {x['towards']} (as "
            f"{x['examples'][0]}), {x['n_other']:,} to {x['other']} (as {x['other_examples'][0]})"
        )


def margins(log: Log, picked: Filter, rules: Policy, book: PriceBook) -> dict[str, Any]:
    """What a margin rule would add at 0.02, 0.05, 0.1 and 0.2, beyond the thresholds in force."""
    from dataclasses import replace

    import numpy as np

    from router.analysis.margin_rule import margin_curve

    rows = scored_rows(log, picked, rules.label_names, rules.model_names, book)
    choices = rows.decide(replace(rules, min_margin=None))
    fallback = rows.cost_of(np.full(len(rows), rules.fallback_model, dtype=object))
    label = rows.cost_of(np.array([x.model for x in rules.labels], dtype=object)[choices.top])
    curve = margin_curve(choices.margin, ~choices.is_fallback, fallback - label)
    points = [(x, *curve.at(x)) for x in (0.02, 0.05, 0.1, 0.2)]
    names = ("min_margin", "fallback", "cost_per_1000", "cost_half")
    return {
        "n": curve.n,
        "n_priced": curve.n_priced,
        "points": [dict(zip(names, x, strict=True)) for x in points],
    }


def beside(
    curve: Sweep, rules: Policy, zones: list[DeadZone], by_margin: dict[str, Any] | None
) -> dict[str, Any]:
    """What a curve's document holds beside the curve: dead zones, the line as a share of what labels leave, the margin rule."""
    from router.analysis.calibration import normalised

    found: dict[str, Any] = {
        "normalised_production": normalised(curve.production, len(rules.labels)),
        "dead_zones": [asdict(zone) for zone in zones],
    }
    return found if by_margin is None else found | {"margins": by_margin}


def print_beside(zones: list[DeadZone], by_margin: dict[str, Any] | None) -> None:
    """The same for people."""
    if by_margin is not None:
        print()
        _print_margins(by_margin)
    for zone in zones:
        if zone.kind == "atom":
            say(
                f"note: {zone.n:,} decisions ({share(zone.share)}) share one confidence at {zone.low:g} and cross the line together"
            )


def _print_margins(found: dict[str, Any]) -> None:
    table(
        ("min_margin", "fall back as well", "share", "USD per 1,000"),
        [
            (
                f"{x['min_margin']:g}",
                f"{x['fallback']:,}",
                share(x["fallback"] / found["n"] if found["n"] else None),
                money(x["cost_per_1000"]) + ("" if x["cost_half"] is None else f" ± {money(x['cost_half'])}"),
            )
            for x in found["points"]
        ],
        right=("min_margin", "fall back as well", "share", "USD per 1,000"),
    )
