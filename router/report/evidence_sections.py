"""Sections on what the figures rest on: judged quality, drift, models that end, what the log cannot know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.analysis.drift import MIN_SIDE
from router.report import charts, words
from router.report.pieces import absent, behind, figure, gap, note, section, table

RETIRE_DAYS = 90
"""A model that ends within this many days opens its section."""

Document = Mapping[str, Any]


def quality(document: Document) -> str:
    """Whether confidence means what it says, and what can be promised; or what it takes to know."""
    part = document["quality"]
    title, needed = "Is the routing right?", part["needed"]
    if part["calibration"] is None:
        served = f"at most {words.share(part['alpha'])} of what is served is wrong"
        many = "no number of" if needed["half_of_alpha"] is None else words.count(needed["half_of_alpha"])
        labels = f"{words.count(needed['none_wrong'])} audit judgements promise that {served} if none of them is; {many} if half as many are (power 80 %)"
        judged = (
            ""
            if not part["n_judged"]
            else f" {words.count(part['n_judged'])} were judged outside of it, which proves nothing about others."
        )
        return section(
            title,
            "Not measured: no decision of a uniform audit sample was judged.",
            gap(f"{labels}.{judged} Draw them with <kbd>routescope review next --queue audit</kbd>."),
        )
    found, said = part["calibration"], part["meaning"]
    verdict = "above" if found["is_miscalibrated"] else "not above"
    lead = (
        f"Of {words.count(found['n'])} judged decisions {words.share(found['accuracy'])} have the right label, at a mean confidence of "
        f"{words.share(found['mean_confidence'])}; {_promise(part)}"
    )
    rows = [
        (
            f"{words.number(x['low'])} to {words.number(x['high'])}",
            words.count(x["n"]),
            words.share(x["mean_confidence"]),
            words.share(x["accuracy"]),
            f"{words.share(x['bar']['low'])} to {words.share(x['bar']['high'])}",
        )
        for x in found["bins"]
    ]
    heads = ("Confidence", "Judged", "Mean confidence", "Right", "95 %")
    line = document["threshold"]["production"]
    remarks = (
        f"Calibration error (ECE) {words.share(found['ece'])}, {verdict} the {words.share(found['floor_p95'])} that a perfect classifier "
        f"shows in 95 of 100 such samples. A line of {words.threshold(said['threshold'])} sends {words.share(said['fallback_share'])} of these to the "
        f"fallback; after calibration (isotonic, out of fold) the same line would send {words.share(said['calibrated_fallback_share'])}."
    )
    drawing = charts.reliability(found["bins"], line, "Accuracy by confidence")
    return section(
        title,
        lead,
        figure(
            "Does confidence mean what it says?",
            "Right labels by confidence, exact 95 % bars; dotted: as it should be, dashed: the line",
            f'<div class="beside">{drawing}{_certificate(part)}</div>',
        ),
        behind("The same as a table", table("Reliability", heads, rows)),
        note(remarks),
        note(_holds(document)),
    )


def _promise(part: Mapping[str, Any]) -> str:
    made = part["certificate"]
    if made is None:
        return f"no threshold can be promised: {words.safe(part['no_promise'])}."
    served = f"at most {words.share(made['alpha'])} of what is served has the wrong label"
    if made["threshold"] is None:
        more = (
            ""
            if made["labels_missing"] is None
            else f"; about {words.count(made['labels_missing'])} more judgements may do"
        )
        return f"no threshold can be promised ({served}){more}."
    return (
        f"from {words.threshold(made['threshold'])} on {served}, a promise that at most {words.share(made['delta'])} of such samples "
        f"break.{_covered(made)}"
    )


def _covered(made: Mapping[str, Any]) -> str:
    """Which labels a promise is about, where some have a line of their own."""
    own = made["own_thresholds"]
    if not own:
        return ""
    others = ", ".join(f"{words.name(x)} (own threshold {words.threshold(at)})" for x, at in own.items())
    return f" It covers {', '.join(words.name(x) for x in made['labels'])}, not {others}."


def _certificate(part: Mapping[str, Any]) -> str:
    """The certificate's figures beside the chart."""
    made, drawn = part["certificate"], part["audit"]
    step = None if made is None else made["step"]
    facts = [("Promised from", "none" if step is None else words.threshold(made["threshold"]))]
    facts.append(("Audit drawn", words.count(drawn["drawn"])))
    facts.append(
        ("Judged", f"{words.count(drawn['judged'])} ({words.count(drawn['unsure'])} unsure: losses)")
    )
    facts.append(("Open", words.count(drawn["open"])))
    if drawn["left_out"]:
        facts.append(("Of another ground", f"{words.count(drawn['left_out'])}, left out"))
    if step is not None:
        facts += [
            ("At or above it", f"{words.count(step['failures'])} of {words.count(step['n'])} wrong"),
            ("Upper bound", words.share(step["upper_bound"])),
            ("Traffic served", words.share(step["share_served"])),
            *(
                [("Of another ground", f"{words.count(drawn['counted_apart'])} decisions, not in it")]
                if drawn["counted_apart"]
                else []
            ),
            ("Falls back", words.share(made["fallback_share"])),
            (
                "Savings there",
                ("at most " if made["savings_is_bound"] and made["savings_share"] is not None else "")
                + words.share(made["savings_share"]),
            ),
            ("Made", words.day(made["made_on"])),
            ("Valid until", words.day(made["valid_until"])),
        ]
    rows = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in facts)
    return f'<dl class="facts">{rows}</dl>'


def _holds(document: Document) -> str:
    text = "A promise holds for traffic like the sampled one, until a change of classifier, labels or models; fix alpha before looking, and count each look at a growing sample (<kbd>routescope certify --look</kbd>)."
    moved = document["drift"]
    return text + (
        " Traffic moved, see below: draw a new sample." if moved is not None and moved["alarms"] else ""
    )


def drift(document: Document) -> str:
    """Whether traffic still looks as it did."""
    part, title = document["drift"], "Does traffic still look as it did?"
    if part is None:
        return section(title, "Not measured: no decision has scores.")
    since = words.day(part["recent_from"])
    compared = f"{words.count(part['n_recent'])} decisions since {since} against {words.count(part['n_reference'])} before"
    alarms = part["alarms"]
    if not part["n_reference"]:
        lead = f"Not measured: nothing was logged before {since}, so there is nothing to compare with."
    elif min(part["n_reference"], part["n_recent"]) < MIN_SIDE:
        lead = f"Not judged: {compared}; a change counts from {MIN_SIDE} in each period on."
    elif alarms:
        lead = f"Not quite: {words.plural(len(alarms), 'change')} large enough to act on, from {compared}."
    else:
        lead = f"Nothing moved enough to act on: {compared}."
    small = [
        words.name(x["label"])
        for x in part["confidence"][1:]
        if min(x["n_reference"], x["n_recent"]) < MIN_SIDE
    ]
    if small and min(part["n_reference"], part["n_recent"]) >= MIN_SIDE:
        lead += f" With fewer than {MIN_SIDE} in a period, not judged by themselves: {words.listed(small)}."
    listed = "".join(
        f'<li><span class="alarm">Alarm</span> {words.safe(x["text"], 200)}{", since " + words.day(x["since"]) if x["since"] else ""}</li>'
        for x in alarms
    )
    drawing = charts.periods(
        part, charts.colors(document), "Share that falls back and mix of labels over time"
    )
    unit = part["period"]
    heads = (
        "From" if unit == "week" else "Day",
        "Decisions",
        "Fall back",
        *(words.name(x) for x in part["names"]),
    )
    rows = [
        (
            words.day(x["day"]),
            words.count(x["n"]),
            words.share(x["fallback_share"]),
            *(words.share(n / x["n"]) for n in x["labels"]),
        )
        for x in part["periods"]
    ]
    shifts = [*part["confidence"], {**part["mix"], "label": "mix of labels"}]
    shown = [
        (
            "all confidences" if i == 0 else words.name(x["label"]),
            words.count(x["n_reference"]),
            words.count(x["n_recent"]),
            words.number(x["psi"]),
            words.number(x["noise"]),
            '<span class="alarm">alarm</span>' if x["is_alarm"] else "",
            words.day(x["since"]) if x["since"] else "",
        )
        for i, x in enumerate(shifts)
    ]
    caption = (
        f"By {unit}, UTC. Usual: mean and standard deviation of the days before"
        if part["fallback"]["mean"] is not None
        else f"By {unit}, UTC"
    )
    return section(
        title,
        lead,
        f"<ul>{listed}</ul><p></p>" if listed else "",
        figure("Shares over time", caption, drawing),
        behind(f"The same as a table, by {unit}", table("Shares over time", heads, rows)),
        behind(
            "How far each distribution moved",
            table(
                "Stability indexes",
                ("", "Before", "Recent", "PSI", "By chance", "", "Since"),
                shown,
                text=(0, 5, 6),
            ),
        ),
        note(
            "An alarm is a stability index (PSI) 0.2 above what chance shows, or a fallback share 4 standard deviations off its days."
        ),
    )


def models(document: Document) -> str:
    """Who answered, and until when they do."""
    rows = document["models"]
    ending = sorted(
        (x for x in rows if x["days_left"] is not None and x["days_left"] <= RETIRE_DAYS),
        key=lambda x: x["days_left"],
    )
    if ending:
        lead = f"{words.plural(len(ending), 'model')} of this report {'ends' if len(ending) == 1 else 'end'} within {RETIRE_DAYS} days or already ended; {_ends(ending[0])}."
    else:
        lead = f"No end within {RETIRE_DAYS} days is announced for any of {words.plural(len(rows), 'model')}."
    rates = {x["model"]: x for x in document["prices"]["rates"]}
    cells = [
        (
            words.name(x["model"]),
            words.count(x["n"]),
            words.bound_usd(x["cost_usd"], x["is_whole"]) if x["n"] else absent("none"),
            _failures(x),
            _rate(rates.get(x["model"])),
            _end(x),
            words.name(x["successor"]) if x["successor"] else "",
        )
        for x in rows
    ]
    heads = (
        "Model",
        "Answered",
        "Cost",
        "Without a reply",
        "$ per million in / out",
        "Served until",
        "Successor, our suggestion",
    )
    sources = sorted({x["end_source"] for x in rows if x["end_source"]})
    said = f"Ends as stated by {words.listed([words.safe(x) for x in sources])}." if sources else ""
    priced = f"Prices on {words.day(document['prices']['on_day'])}."
    return section(
        "How long will these models be served?",
        lead,
        table("Models", heads, cells, text=(0, 5, 6)),
        note(f"{said} {priced}".strip()),
    )


def _failures(row: Mapping[str, Any]) -> str:
    if not row["n_called"]:
        return absent("none called")
    part = words.share(row["n_failed"] / row["n_called"])
    return f"{words.count(row['n_failed'])} of {words.count(row['n_called'])} ({part})"


def _ends(row: Mapping[str, Any]) -> str:
    left = row["days_left"]
    when = (
        f"in {words.plural(left, 'day')}"
        if left > 0
        else "today"
        if left == 0
        else f"{words.plural(-left, 'day')} ago"
    )
    return f"{words.name(row['model'])} first, on {words.day(row['ends_on'])} ({when})"


def _end(row: Mapping[str, Any]) -> str:
    if row["ends_on"] is None:
        return absent("no end announced")
    text = words.day(row["ends_on"])
    return f'<span class="alarm">{text}</span>' if row["days_left"] <= RETIRE_DAYS else text


def _rate(rate: Mapping[str, Any] | None) -> str:
    if rate is None or rate["input_usd_per_million"] is None:
        return absent("not known")
    return f"{words.usd(rate['input_usd_per_million'])} / {words.usd(rate['output_usd_per_million'])}"


def unknown(document: Document) -> str:
    """What no figure above can say."""
    points = _limits(document)
    lead = "A log knows what was decided and what it cost, not whether it was good."
    return section(
        "What can this log not know?", lead, "<ul>" + "".join(f"<li>{x}</li>" for x in points) + "</ul>"
    )


def _limits(document: Document) -> list[str]:
    log, over, saved = document["log"], document["overview"], document["savings"]
    line, judged = document["threshold"]["production"], document["quality"]["n_audit"]
    found = []
    known = (
        f"{words.count(judged)} of {words.count(log['n'])} decisions were judged in an audit sample"
        if judged
        else "no decision was judged in an audit sample"
    )
    found.append(f"Whether answers were good: {known}.")
    found.append(
        f"What a label's model would have answered below the line: {words.count(over['n_fallback'])} decisions show the fallback model alone, "
        "so lowering the threshold cannot be judged from them."
    )
    if judged == 0:
        found.append(
            f"What a confidence means: {words.threshold(line)} is not {words.share(line)} right until it is measured."
        )
    if saved["paid_usd"] is not None:
        found.append(
            f"How many tokens another model would have used: every comparison takes the same ones; those that were used are {words.safe(saved['grade'] or 'not known')}."
        )
    if over["n_unmeasured"] or over["n_unpriced"]:
        found.append(
            f"What {words.count(over['n_unmeasured'] + over['n_unpriced'])} decisions cost: {words.count(over['n_unmeasured'])} have no token counts, {words.count(over['n_unpriced'])} no price."
        )
    if over["n_classifier_failed"]:
        found.append(
            f"Which label {words.plural(over['n_classifier_failed'], 'decision')} would have had: the classifier failed."
        )
    if log["n_other_policies"]:
        found.append(
            f"{words.plural(log['n_other_policies'], 'decision')} were made by other policies than this one; projected figures apply this one to their scores."
        )
    if len(log["classifiers"]) > 1 or log["n_label_sets"] > 1:
        found.append(
            f"Scores come from {words.plural(len(log['classifiers']), 'classifier')} and {words.plural(log['n_label_sets'], 'label set')}, which one threshold may not fit."
        )
    if log["n_drops"] or log["n_rejects"]:
        found.append(
            f"What was lost: {words.plural(log['n_drops'], 'record')} could not be written, {words.plural(log['n_rejects'], 'damaged line')} not read (whole log)."
        )
    return found
