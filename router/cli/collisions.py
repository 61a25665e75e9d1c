"""``overlap --more`` and ``sweep --margins``: what needs every score of a decision, not sums alone."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from router.cli.output import money, say, share, shortened, signed_money, table, with_half
from router.cli.replaying import merge_way, say_merge, scored_rows

if TYPE_CHECKING:
    from router.analysis.dead_zones import DeadZone
    from router.analysis.overlap import Overlap
    from router.analysis.overlap_scores import Split
    from router.analysis.sweep import Sweep
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.policy import Policy
    from router.prices import PriceBook

CHANGE = "change in USD per 1,000"

PAIRS = 3
"""How many of the closest pairs are merged on trial."""


def more_overlap(log: Log, picked: Filter, rules: Policy, book: PriceBook, found: Overlap) -> dict[str, Any]:
    """Margins, what is on together, merge effects of the closest pairs, and labels that may hold two things."""
    import numpy as np

    from router.analysis.overlap_scores import MergeSums, ScoreSums, SplitSums, order_by_likeness
    from router.log.evidence import prompts

    tau = max(0.25, 1.0 / max(len(rules.labels), 1))
    closest = [x for x in found.pairs if x.n_close and {x.first, x.second} <= set(rules.by_name)][:PAIRS]
    how = merge_way(log, picked, rules.label_names)
    merges = [MergeSums(rules, x.first, x.second, how, bound=found.bound) for x in closest]
    sums, splits, n_left_out = ScoreSums(len(rules.labels), tau), SplitSums(rules), 0
    for rows in scored_rows(log, picked, rules.label_names, rules.model_names, book):
        n_left_out += rows.n_left_out
        sums.add(rows.scores)
        splits.add(rows)
        for merge in merges:
            merge.add(rows)
    likeness, suggested = sums.bhattacharyya(), splits.suggestions()
    stored = prompts(log, [name for x in suggested for name in (*x.examples, *x.other_examples)])
    return {
        "n_rows": sums.n,
        "n_left_out": n_left_out,
        "margin_quantiles": [{"share": q, "margin": x} for q, x in sums.margin_quantiles()],
        "score_sums": sums.score_sums(),
        "labels": list(rules.label_names),
        "tau": tau,
        "coactivation": np.round(sums.coactivation(), 6),
        "bhattacharyya": np.round(likeness, 6),
        "order": order_by_likeness(likeness),
        "merges": [
            asdict(x) | {"names": x.names, "cost_change": x.cost_change}
            for x in (y.effect() for y in merges)
            if x.n
        ],
        "splits": [_split(x, stored) for x in suggested],
    }


def _split(split: Split, stored: dict[str, str | None]) -> dict[str, Any]:
    """A suggestion whose examples are ids with their prompts, shortened; None where the log stores none."""
    found = asdict(split)
    for side in ("examples", "other_examples"):
        found[side] = [
            {"id": name, "prompt": None if stored.get(name) is None else shortened(stored[name])}
            for name in found[side]
        ]
    return found


def print_more(more: dict[str, Any]) -> None:
    """The same for people."""
    table(
        ("were one label", "answered by", "fallback now", "then", "close now", "then", CHANGE),
        [
            (
                " + ".join(x["names"]),
                x["model"],
                share(x["fallback_before"]),
                share(x["fallback_after"]),
                share(x["close_before"]),
                share(x["close_after"]),
                signed_money(x["cost_change"]),
            )
            for x in more["merges"]
        ],
        right=("fallback now", "then", "close now", CHANGE),
    )
    if more["merges"]:
        say_merge(more["merges"][0]["how"])
        say(
            "the more frequent label is named first: 'replay --merge A,B' with the labels in this order gives the same"
        )
    quantiles = ", ".join(f"{x['share']:.0%}: {x['margin']:.3f}" for x in more["margin_quantiles"])
    say(f"margins at or below, by share of decisions: {quantiles or 'none'}")
    if more["score_sums"] is not None:
        low, middle, high = more["score_sums"]
        say(f"the scores of a decision sum to {middle:.3g} (90 % between {low:.3g} and {high:.3g})")
    if more["n_rows"]:
        _print_together(more)
    for x in more["splits"]:
        print()
        say(
            f"{x['label']} may hold two things: {x['n_towards']:,} of {x['n']:,} decisions lean to {x['towards']}, "
            f"{x['n_other']:,} to {x['other']}; read both"
        )
        table(
            ("leans to", "id", "prompt"),
            [
                (side, example["id"], shortened(example["prompt"]))
                for side, examples in ((x["towards"], x["examples"]), (x["other"], x["other_examples"]))
                for example in examples
            ],
        )


def _print_together(more: dict[str, Any]) -> None:
    """Which labels are on together and alike, in the order that puts like ones side by side."""
    order = more["order"]
    names = [more["labels"][k] for k in order]
    for title, key in (("of those with", "coactivation"), ("likeness", "bhattacharyya")):
        print()
        values = more[key][order][:, order]
        if key == "coactivation":
            values = values.T  # a row says what is on where its label is
        table(
            (title, *names),
            [
                (name, *("" if x != x else share(x) if key == "coactivation" else f"{x:.2f}" for x in row))
                for name, row in zip(names, values.tolist(), strict=True)
            ],
            right=names,
        )
    say(
        f"of those with: of the decisions in which the row's label scores {more['tau']:g} or more, how many score so for the "
        "column's too; likeness: Bhattacharyya coefficient of the two labels' scores, 1 for equal ones; like labels side by side"
    )


def margins(log: Log, picked: Filter, rules: Policy, book: PriceBook) -> dict[str, Any]:
    """What a margin rule would add at 0.02, 0.05, 0.1 and 0.2, beyond the thresholds in force."""
    from dataclasses import replace

    import numpy as np

    from router.analysis.margin_rule import margin_curve, margin_sums

    sums, models = margin_sums([], [], []), np.array([x.model for x in rules.labels], dtype=object)
    for rows in scored_rows(log, picked, rules.label_names, rules.model_names, book):
        choices = rows.decide(replace(rules, min_margin=None))
        fallback = rows.cost_of(np.full(len(rows), rules.fallback_model, dtype=object))
        moved = fallback - rows.cost_of(models[choices.top])
        sums += margin_sums(choices.margin, ~choices.is_fallback, moved)
    curve = margin_curve(sums)
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


def print_beside(
    curve: Sweep, rules: Policy, zones: list[DeadZone], by_margin: dict[str, Any] | None
) -> None:
    """The same for people."""
    from router.analysis.calibration import normalised

    if by_margin is not None:
        print()
        _print_margins(by_margin)
    line, count = normalised(curve.production, len(rules.labels)), len(rules.labels)
    if line is not None:
        say(
            f"where scores sum to 1, of {count} labels, {curve.production:g} is {share(line)} of the way from an even share (1/{count}) to certainty"
        )
    for zone in zones:
        say(f"note: {_zone(zone, rules)}")


def _zone(zone: DeadZone, rules: Policy) -> str:
    has_own = any(x.threshold is not None for x in rules.labels)
    of = " of labels without a threshold of their own" if has_own else ""
    if zone.kind == "never_fires":
        return f"at thresholds up to {zone.high:g} nothing{of} falls back"
    if zone.kind == "always_fires":
        return f"at thresholds from {zone.low:g} on everything{of} falls back"
    if zone.kind == "atom":
        return f"{zone.n:,} decisions ({share(zone.share)}) share one confidence at {zone.low:g} and cross the line together"
    model = rules.by_name[zone.label or ""].model
    followed = "is never the top label"
    if zone.kind == "never_followed":
        followed = f"is the top label of {zone.n:,} decisions and always falls back"
    return f"{zone.label} {followed}: no decision reaches {model} through it"


def _print_margins(found: dict[str, Any]) -> None:
    table(
        ("min_margin", "fall back as well", "share", CHANGE),
        [
            (
                f"{x['min_margin']:g}",
                f"{x['fallback']:,}",
                share(x["fallback"] / found["n"] if found["n"] else None),
                with_half(
                    signed_money(x["cost_per_1000"]),
                    None if x["cost_half"] is None else money(x["cost_half"]),
                ),
            )
            for x in found["points"]
        ],
        right=("min_margin", "fall back as well", "share", CHANGE),
    )
