"""Sections that a log answers by itself: the sentence of the whole, the figures, money, the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.analysis.savings import bound, missing
from router.report import charts, words
from router.report.pieces import behind, figure, gap, note, section, table

Document = Mapping[str, Any]


def summary(document: Document) -> str:
    """The one sentence of the whole report."""
    log, over, saved = document["log"], document["overview"], document["savings"]
    text = f"{words.plural(log['n'], 'decision')} {words.within(log['first_at'], log['last_at'])}"
    text += (
        f", {words.share(over['fallback_share'])} of them fell back"
        if over["n_scored"]
        else ", none with scores"
    )
    if saved["paid_usd"] is None:
        return f"{text}. What they cost is not measured."
    if saved["savings_share"] is None:
        return f"{text}. They cost {_paid(saved)}."
    verb = "saved" if saved["savings_usd"] >= 0 else "cost"
    size = words.share(abs(saved["savings_share"]))
    more = "" if verb == "saved" else " more"
    limit = ("at most " if verb == "saved" else "at least ") if saved["missing"] else ""
    return f"{text}. Routing {verb} {limit}{words.usd(abs(saved['savings_usd']))}{more} ({size}) against all to {words.name(saved['baseline'])}."


def figures(document: Document) -> str:
    """The strip: five figures, each with its ground."""
    over, saved = document["overview"], document["savings"]
    grade = saved["grade"] or "not measured"
    priced = f"over {words.count(saved['n_priced'])} priced, tokens {grade}"
    without = (
        f"{words.count(over['n_unmeasured'])} without token counts"
        if over["n_unmeasured"]
        else "all with token counts"
    )
    cells = [
        ("Decisions", words.count(over["n"]), without),
        (
            "Fallback share",
            words.share(over["fallback_share"]),
            f"{words.count(over['n_fallback'])} decisions",
        ),
        ("Cost", _paid(saved), priced),
        (
            "Savings",
            _most(saved) + words.share(saved["savings_share"]) + words.half(saved["share_half"]),
            f"{_most(saved)}{words.usd(saved['savings_usd'])}{words.half(saved['savings_half'], saved['savings_usd'])}",
        ),
        (
            "Baseline",
            _baseline(saved),
            f"all to {words.name(saved['baseline'])}, same tokens",
        ),
    ]
    return '<div class="figures">' + "".join(_figure(*x) for x in cells) + "</div>"


def _most(saved: Mapping[str, Any]) -> str:
    return "at most " if saved["missing"] and saved["savings_usd"] is not None else ""


def _paid(saved: Mapping[str, Any]) -> str:
    return words.bound_usd(saved["paid_usd"], saved["is_whole"])


def _baseline(saved: Mapping[str, Any]) -> str:
    return words.bound_usd(saved["baseline_usd"], saved["baseline_is_whole"])


def _figure(title: str, value: str, below: str) -> str:
    kind = ' class="absent"' if value == words.NOT_MEASURED else ""
    return f"<div><span>{title}</span><b{kind}>{value}</b><span>{below}</span></div>"


def money(document: Document) -> str:
    """Where the savings come from."""
    saved = document["savings"]
    if saved["savings_usd"] is None:
        missing = "No decision has both token counts and a known price"
        return section(
            "Where do the savings come from?",
            f"Not measured: {missing.lower()}.",
            gap(
                f"{missing}: {words.count(document['overview']['n_unmeasured'])} have no token counts, {words.count(document['overview']['n_unpriced'])} no price."
            ),
        )
    bounds = {"baseline": saved["baseline_is_whole"], "paid": saved["is_whole"]}
    steps = [{**x, "is_whole": bounds.get(x["kind"], True)} for x in saved["waterfall"]]
    inner = steps[1:-1]
    least = min(inner, key=lambda x: x["amount_usd"], default=None)
    lead = f"From {_baseline(saved)} on one model to {_paid(saved)} as routed"
    if least is not None and least["amount_usd"] < 0:
        lead += f'; the largest part comes from {_step(least)} <span class="whole">({words.signed_usd(least["amount_usd"])})</span>'
    rows = [
        (_step(x), words.signed_usd(x["amount_usd"]), words.bound_usd(x["total_usd"], x["is_whole"]))
        for x in steps
    ]
    by = "by days" if saved["units"] == "days" else "by decisions"
    remarks = [
        f"The baseline assumes that {words.name(saved['baseline'])} would have used the same tokens. Interval {by}."
    ]
    remarks += _left_out(saved)
    drawing = charts.waterfall(
        steps,
        charts.colors(document),
        f"Baseline {_baseline(saved)}, paid {_paid(saved)}",
    )
    return section(
        "Where do the savings come from?",
        f"{lead}.",
        figure(
            "From the baseline to what was paid", "US dollars in the period; to the left is cheaper", drawing
        ),
        behind(
            "The same as a table", table("Savings, step by step", ("Step", "Change", "Total after it"), rows)
        ),
        note(" ".join(remarks)),
    )


def _left_out(saved: Mapping[str, Any]) -> list[str]:
    """What is no part of the savings, and what makes a sum a lower bound, as the command line says it."""
    said = []
    if saved["missing"]:
        text = bound(saved["missing"])
        said.append(f"{text[0].upper()}{text[1:]}.")
    if saved["n_unanswered"]:
        said.append(
            f"No model answered, and no provider charges for that: {words.plural(saved['n_unanswered'], 'decision')}, at $0."
        )
    if saved["unmatched_usd"]:
        said.append(
            f"{words.usd(saved['unmatched_usd'])} of what was paid, for answers and classifying, has no known baseline and is no part "
            "of the savings."
        )
    if saved["failed_usd"]:
        beside = saved["failed_unmatched_usd"]
        of_these = f"; {words.usd(beside)} of them for decisions that have no baseline" if beside else ""
        said.append(
            f"Failed attempts, {words.usd(saved['failed_usd'])}, are at the prices known when they were made{of_these}."
        )
    if saved["n_unpriced"]:
        said.append(
            f"{words.plural(saved['n_unpriced'], 'decision')} without a known cost on both sides are left out of them."
        )
    if not (saved["is_whole"] and saved["baseline_is_whole"]):
        said.append("A plus marks a lower bound: a part of it is not known.")
    return said


def _step(step: Mapping[str, Any]) -> str:
    return words.name(step["name"])


def threshold(document: Document) -> str:
    """The curve, and what it recommends under one stated objective."""
    part = document["threshold"]
    if part["curve"] is None:
        return section(
            "Where should the threshold be?", "Not measured: no decision has scores for the policy's labels."
        )
    here = next(x for x in part["points"] if x["threshold"] == part["production"])
    lead = f"At {words.threshold(part['production'])}, where production is, {words.share(here['fallback_share'])} fall back"
    if here["cost_per_1000"] is not None:
        lead += f" at {words.bound_usd(here['cost_per_1000'], part['classifier_known'])} per 1,000 decisions"
    lead += f"; {_best(part, here)}"
    is_judged = part["quality"] is not None
    drawing = charts.threshold_curve(
        part,
        f"Fallback share, cost {'and right labels ' if is_judged else ''}over the threshold; production {words.threshold(part['production'])}",
    )
    marks = [
        "candidate"
        if part["optimum"] and x["threshold"] == part["optimum"]["threshold"]
        else "here"
        if x is here
        else ""
        for x in part["points"]
    ]
    most = "" if part["classifier_known"] or here["savings_share"] is None else "≤ "
    rows = [
        (
            words.threshold(x["threshold"]) + (" (production)" if x is here else ""),
            words.count(x["fallback"]),
            words.share(x["fallback_share"]),
            words.bound_usd(x["cost_per_1000"], part["classifier_known"])
            + words.half(x["cost_half"], x["cost_per_1000"]),
            most + words.share(x["savings_share"]) + words.half(x["savings_half"]),
            words.count(x["changing"]),
            *((_right(x["quality"]),) if is_judged else ()),
        )
        for x in part["points"]
    ]
    heads = (
        "Threshold",
        "Fall back",
        "Share",
        "$ per 1,000",
        "Savings",
        "Change model",
        *(("Right labels",) if is_judged else ()),
    )
    band = " Band: 95 % interval of the cost; blue band" if part["classifier_known"] else " Blue band"
    caption = f"Below the line the fallback model answers.{band}: within 1 % of the cheapest"
    return section(
        "Where should the threshold be?",
        lead,
        figure("What every threshold would do", caption, drawing),
        behind("The same as a table", table("Operating points", heads, rows, marks=marks)),
        note(" ".join(_remarks(part))),
    )


def _right(point: Mapping[str, Any]) -> str:
    if point["share"] is None:
        return f"{words.count(point['n'])} judged"
    low, high = point["interval"]["low"], point["interval"]["high"]
    return f"{words.share(point['share'])}, {words.share(low)} to {words.share(high)}"


def _best(part: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    best, none = part["optimum"], part["no_optimum"]
    limit = words.share(part["max_fallback"])
    if best is None:
        why = none["text"] if none is not None else "no decision has a known cost"
        return f"with at most {limit} falling back none can be called cheapest: {words.safe(why, 300)}."
    text = f"with at most {limit} falling back {words.threshold(best['threshold'])} is cheapest"
    if best["threshold"] == part["production"]:
        text = f"with at most {limit} falling back that is the cheapest"
    else:
        cost = words.bound_usd(best["cost_per_1000"], part["classifier_known"])
        text += f" ({cost} per 1,000, {words.share(best['fallback_share'])} fall back)"
    low, high = best["plateau"]
    text += f", and {words.threshold(low)} to {words.threshold(high)} costs at most 1 % more."
    text += " Production falls back more often than that." if best["production_value"] is None else ""
    return text + (" The curve is flat there: choose by other reasons." if best["is_flat"] else "")


def _remarks(part: Mapping[str, Any]) -> list[str]:
    found = ["Cheapest is not best: a log of costs does not know whether the answers were good."]
    best, ahead = part["optimum"], part["next_days"]
    if best is not None and best["range"] is not None:
        low, high = best["range"]
        found.append(
            f"On resampled traffic the cheapest lies between {words.threshold(low)} and {words.threshold(high)}."
        )
    if ahead["low"] is not None:
        found.append(
            f"At production {words.share(ahead['low'])} to {words.share(ahead['high'])} of the next {ahead['horizon']} days would fall back, "
            f"as much as the {ahead['days']} days behind differ."
        )
    if not part["classifier_known"] and part["n_priced"]:
        text = bound(missing(False, True))
        found.append(text[0].upper() + text[1:] + ".")
    if part["quality"] is not None:
        found.append(
            f"Right labels: of {words.count(part['n_audit'])} audited decisions those that the line lets through, with 95 % intervals; "
            "unsure counts as wrong."
        )
    found += [text for zone in part["dead_zones"] if (text := _zone(zone, part["own_thresholds"]))]
    if part["own_thresholds"]:
        own = [f"{words.name(k)} {words.threshold(v)}" for k, v in part["own_thresholds"].items()]
        found.append(f"Labels with a threshold of their own stay at it: {words.listed(own)}.")
    if part["has_margin_rule"]:
        found.append(
            "The policy's least margin is left out of the curve; it sends further decisions to the fallback model."
        )
    if part["n_left_out"]:
        found.append(
            f"{words.plural(part['n_left_out'], 'decision')} left out: their label is not one of the policy's."
        )
    return found


def _of_those(own: Mapping[str, Any]) -> str:
    return "of labels without a threshold of their own " if own else ""


def _zone(zone: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    label = words.name(zone["label"]) if zone["label"] is not None else ""
    if zone["kind"] == "never_fires":
        up_to = words.threshold(zone["low"] if zone["high"] is None else zone["high"])
        return f"Up to {up_to} nothing {_of_those(own)}falls back."
    if zone["kind"] == "always_fires":
        return f"From {words.threshold(zone['low'])} on everything {_of_those(own)}does."
    if zone["kind"] == "never_wins":
        return f"{label} never wins a decision."
    if zone["kind"] == "never_followed":
        return f"{label} wins {words.plural(zone['n'], 'decision')} and always falls back."
    return f"{words.plural(zone['n'], 'decision')} ({words.share(zone['share'])}) share one confidence at {words.threshold(zone['low'])} and cross the line together."
