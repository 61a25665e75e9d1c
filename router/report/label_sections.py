"""Sections on labels: what each does, which of them collide, how sure the classifier is of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.report import charts, words
from router.report.pieces import absent, behind, figure, note, section, swatch, table

MOST_PAIRS = 12
"""Pairs that are drawn and listed; the document holds all."""

Document = Mapping[str, Any]


def labels(document: Document) -> str:
    """One row a label."""
    found, paint = document["labels"], charts.colors(document)
    scored = [x for x in found if x["n"]]
    if not scored:
        return section("What does each label do?", "No decision has scores, so no label won one.")
    top = max(scored, key=lambda x: x["n"])
    most = max(scored, key=lambda x: x["share_below"] or 0.0)
    total = document["overview"]["n_scored"]
    lead = (
        f"{words.name(top['label'])} wins most decisions ({words.share(top['n'] / total if total else None)})"
    )
    if most["share_below"]:
        who = "and" if most is top else f"; {words.name(most['label'])}"
        lead += f"{' ' if most is top else ''}{who} falls back most often ({words.share(most['share_below'])} below its line)"
    rows = [
        (
            swatch(paint[x["label"]]) + words.name(x["label"]),
            "not in the policy" if not x["in_policy"] else words.name(x["model"]),
            words.count(x["n"]),
            words.number(x["median_confidence"]),
            _below(x),
            _price(x),
            words.bound_usd(x["paid_usd"], x["is_whole"]),
            _most(x, "savings_usd") + words.usd(x["savings_usd"]),
            _most(x, "savings_share") + words.share(x["savings_share"]),
        )
        for x in found
    ]
    heads = (
        "Label",
        "Model",
        "Decisions",
        "Median confidence",
        "Below the line",
        "Falling back, $&nbsp;per&nbsp;1,000",
        "Paid",
        "Saved",
        "Share",
    )
    return section(
        "What does each label do?",
        f"{lead}.",
        table("Labels", heads, rows, text=(0, 1)),
        note(
            "Falling back, $ per 1,000: what a thousand of the label's decisions cost more (+) or less (−) at the fallback model."
        ),
    )


def _most(x: Mapping[str, Any], key: str) -> str:
    return "≤ " if x["missing"] and x[key] is not None else ""


def _below(row: Mapping[str, Any]) -> str:
    return words.share(row["share_below"]) if row["in_policy"] and row["n"] else absent("not known")


def _price(row: Mapping[str, Any]) -> str:
    if row["goes_to_fallback_model"]:
        return absent("same model")
    price = row["fallback_price_per_1000"]
    return (
        absent(words.NOT_MEASURED)
        if price is None
        else words.signed_usd(price) + words.half(row["fallback_price_half"], price)
    )


def overlap(document: Document) -> str:
    """Which labels collide, and what hangs on it."""
    part, paint = document["overlap"], charts.colors(document)
    title = "Which labels collide?"
    if not part["n"]:
        return section(title, "Not measured: no decision has two scores.")
    pairs = [x for x in part["pairs"] if x["n_close"]][:MOST_PAIRS]
    close = f"{words.count(part['n_close'])} of {words.count(part['n'])} decisions ({words.share(part['close_rate'])}) have a margin below {part['bound']:g}"
    if not pairs:
        return section(title, f"{close}.")
    first = pairs[0]
    lead = f"{close}; {words.name(first['first'])} and {words.name(first['second'])} collide most ({words.count(first['n_close'])})."
    named = [f"{words.safe(x['first'], 16)} / {words.safe(x['second'], 16)}" for x in pairs]
    drawing = charts.bars(
        [
            (label, x["close_rate"], f"{words.share(x['close_rate'])}, {_stake(x)}")
            for label, x in zip(named, pairs, strict=True)
        ],
        f"{named[0]} collide most",
    )
    merges = {(x["first"], x["second"]): x for x in part["merges"]}
    rows = [
        (
            f"{swatch(paint.get(x['first'], 'other'))}{words.name(x['first'])} / {swatch(paint.get(x['second'], 'other'))}{words.name(x['second'])}",
            words.count(x["n"]),
            words.count(x["n_close"]),
            words.usd(x["at_stake_usd"]),
            *_merged(merges.get((x["first"], x["second"]))),
        )
        for x in pairs
    ]
    heads = (
        "Labels",
        "Together",
        "Close",
        "At stake",
        "If one label: answered by",
        "Fallback",
        "Change in $&nbsp;per&nbsp;1,000",
    )
    return section(
        title,
        lead,
        figure(
            "Close calls by pair",
            "Share of all decisions whose two best scores are these labels and close",
            drawing,
        ),
        table("Pairs of labels", heads, rows, text=(0, 4)),
        note(
            "At stake: by how much spend would change had each close decision gone to its other label's model. "
            + _tried(part)
        ),
        _examples(part),
    )


def _tried(part: Mapping[str, Any]) -> str:
    if not part["merges"]:
        return "One label instead of two: not tried, no decision has a score for each label of the policy."
    pairs = words.plural(len(part["merges"]), "closest pair")
    how = part["merges"][0]["how"]
    way = (
        "Their scores are added (they sum to 1)"
        if how == "sum"
        else "The larger of their scores counts (they do not sum to 1)"
    )
    return (
        f"One label instead of two: tried for the {pairs} on all {words.count(part['n_read_for_merges'])} decisions that have a "
        f"score for each label. {way}; the model of the more frequent label answers. Change: a thousand decisions cost so much "
        "more (+) or less (−) than now."
    )


def _stake(pair: Mapping[str, Any]) -> str:
    stake = pair["at_stake_usd"]
    return "stake not measured" if stake is None else f"{words.usd(stake)} at stake"


def _merged(effect: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if effect is None:
        return absent("not tried"), absent("not tried"), absent("not tried")
    change = effect["cost_change"]
    cost = absent(words.NOT_MEASURED) if change is None else words.signed_usd(change)
    fallback = f"{words.share(effect['fallback_before'])} to {words.share(effect['fallback_after'])}"
    return words.name(effect["model"]), fallback, cost


def _examples(part: Mapping[str, Any]) -> str:
    found = []
    for pair in part["examples"]:
        rows = "".join(
            f"<li>{words.safe(x['prompt'], 400) if x['prompt'] is not None else absent('not stored')} "
            f'<span class="muted">{words.name(x["label"])}, margin {words.number(x["margin"], 4)}</span></li>'
            for x in pair["rows"]
        )
        found.append(
            f'<h3>Closest: {words.name(pair["first"])} / {words.name(pair["second"])}</h3><ul class="prompts">{rows}</ul>'
        )
    return "".join(found)


def confidence(document: Document) -> str:
    """How sure the classifier was, label by label."""
    part, paint = document["confidence"], charts.colors(document)
    known = {x["label"]: x for x in document["labels"]}
    drawn = [(name, row) for name, row in zip(part["labels"], part["counts"], strict=True) if sum(row)]
    title = "How sure is the classifier?"
    if not drawn:
        return section(title, "Not measured: no decision has scores for the policy's labels.")
    highest = max(max(row) for _, row in drawn)
    medians = sorted((known[name]["median_confidence"], name) for name, _ in drawn)
    low, high = medians[0], medians[-1]
    lead = f"Half of {words.name(high[1])} lies above a confidence of {words.number(high[0])}"
    lead += f", half of {words.name(low[1])} above {words.number(low[0])}." if len(medians) > 1 else "."
    panels = []
    for name, row in drawn:
        at, fell = known[name]["threshold"], known[name]["share_below"]
        drawing = charts.histogram(
            part["edges"], row, at, paint[name], f"Confidence of {words.name(name)}", highest
        )
        panels.append(
            f"<div><h3>{swatch(paint[name])}{words.name(name)}</h3>"
            f"<p>{words.count(sum(row))}, {words.share(fell)} below {words.threshold(at)}</p>{drawing}</div>"
        )
    caption = f"Decisions by confidence, in steps of {part['edges'][1]:g}; faint: below the line, dashed. One height for all: {words.count(highest)}"
    rows = _tenths(part, drawn)
    heads = ("Label", *(f"{k / 10:.1f}" for k in range(10)))
    return section(
        title,
        lead,
        figure("Confidence of each label", caption, f'<div class="panels">{"".join(panels)}</div>'),
        behind(
            "The same as a table, by tenths", table("Decisions by label and confidence from", heads, rows)
        ),
    )


def _tenths(part: Mapping[str, Any], drawn: list[tuple[str, list[int]]]) -> list[tuple[str, ...]]:
    size = len(part["counts"][0]) // 10
    return [
        (words.name(name), *(words.count(sum(row[k * size : (k + 1) * size])) for k in range(10)))
        for name, row in drawn
    ]
