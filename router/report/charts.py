"""The report's charts, each from its part of the document; one question a chart, the finding as its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router.report import words
from router.report.svg import WIDTH, Axis, area, chart, dot, line, path, rect, spread, text, ticks

CHARACTER = 7.4
"""Width of a bold character, at most, in the sizes of the style sheet."""

QUALITY = 84
"""Height of the panel of right labels."""

SLOTS = 12
RESERVED = {"simple": 1, "coding": 2, "reasoning": 3, "creative": 4}
"""Colours of the packaged labels, the same on every picture; others take what is free, in order."""


def slots(names: Sequence[str]) -> dict[str, str]:
    """A colour of the style sheet for each label; the thirteenth and later share one."""
    taken = {name: RESERVED[name] for name in names if name in RESERVED}
    free = iter([k for k in range(1, SLOTS + 1) if k not in taken.values()])
    return {name: f"s{slot}" if (slot := taken.get(name) or next(free, 0)) else "other" for name in names}


def colors(document: Mapping[str, Any]) -> dict[str, str]:
    """Each label's colour: the policy's labels first, then others that the log holds."""
    return slots([x["label"] for x in document["labels"]])


def waterfall(steps: Sequence[Mapping[str, Any]], colors: Mapping[str, str], title: str) -> str:
    """From the baseline down to what was paid: bars that hang where the last one ended, amounts in one column."""
    row, top = 26, 6
    left, right = 150, WIDTH - 90
    ends = [0.0, *(x["total_usd"] for x in steps)]
    x = Axis(min(ends), max(ends) or 1.0, left, right)
    body, before = [line(x.at(0), top - 4, x.at(0), top + row * len(steps), "axis")], 0.0
    for i, step in enumerate(steps):
        y, whole = top + row * i, step["kind"] in ("baseline", "paid")
        low, high = sorted((0.0 if whole else before, step["total_usd"]))
        color = _step_color(step, colors)
        label = words.safe(step["name"], 22)
        end = words.bound_usd(step["amount_usd"], step.get("is_whole", True))
        amount = end if whole else words.signed_usd(step["amount_usd"])
        body.append(text(left - 12, y + 15, label, "strong" if whole else "", "end"))
        body.append(rect(x.at(low), y + 3, max(x.at(high) - x.at(low), 1), row - 9, color=color))
        body.append(text(WIDTH - 4, y + 15, amount, "strong" if whole else "", "end"))
        if i + 1 < len(steps):
            body.append(
                line(x.at(step["total_usd"]), y + row - 6, x.at(step["total_usd"]), y + row + 3, "join")
            )
        before = step["total_usd"]
    return chart(title, body, height=top + row * len(steps) + 4)


def _step_color(step: Mapping[str, Any], colors: Mapping[str, str]) -> str:
    if step["kind"] == "label":
        return colors.get(step["name"], "other")
    kinds = {"baseline": "control", "paid": "text", "fallback": "fallback", "fell_back": "fallback"}
    return kinds.get(step["kind"], "worse" if step["amount_usd"] > 0 else "served")


def threshold_curve(part: Mapping[str, Any], title: str) -> str:
    """Fallback share, cost and, once audited, right labels over the threshold on one axis: production, the optimum, its plateau."""
    curve = part["curve"]
    left, right, first, second, size = 58, WIDTH - 20, 62, 250, 132
    x = Axis(0.0, 1.0, left, right)
    xs = [x.at(t) for t in curve["thresholds"]]
    share = Axis(0.0, 1.0, first + size, first)
    has_cost = curve["cost_per_1000"] is not None
    third = (second if has_cost else first) + size + 56
    is_judged = part["quality"] is not None and len(part["quality"]["thresholds"]) > 1
    bottom = third + QUALITY if is_judged else third - 56
    # The lines first: words that one would cross are drawn over it, with the page's colour around them.
    body = _candidate_lines(part, x, bottom)
    body += [text(left, first - 12, "Falls back, % of decisions", "panel")]
    body += [_level(share.at(k / 4), left, right, f"{25 * k} %") for k in range(5)]
    for zone in part["dead_zones"]:
        if zone["kind"] in ("never_fires", "always_fires") and zone["high"] - zone["low"] >= 0.01:
            body.append(rect(x.at(zone["low"]), first, x.at(zone["high"]) - x.at(zone["low"]), size, "zone"))
            if zone["high"] - zone["low"] >= 0.16:
                said = "nothing falls back" if zone["kind"] == "never_fires" else "everything falls back"
                body.append(
                    text(x.at((zone["low"] + zone["high"]) / 2), first + 16, said, "muted over", "middle")
                )
    limit = share.at(part["max_fallback"])
    body += [line(left, limit, right, limit, "limit")]
    body += [text(right, limit - 5, f"limit {words.share(part['max_fallback'])}", "muted over", "end")]
    body.append(path(xs, [share.at(v) for v in curve["fallback_share"]]))
    if has_cost:
        body += _cost_panel(part, x, xs, second, size)
    if is_judged:
        body += _quality_panel(part, x, third)
    body += _candidates(part, x, share)
    body += [text(x.at(k / 5), bottom + 18, f"{k / 5:.1f}", "muted", "middle") for k in range(6)]
    body.append(text(right, bottom + 36, "threshold", "muted", "end"))
    return chart(title, body, height=bottom + 42)


def _cost_panel(part: Mapping[str, Any], x: Axis, xs: list[float], top: float, size: float) -> list[str]:
    curve = part["curve"]
    cost = curve["cost_per_1000"]
    half = [h or 0.0 for h in curve["cost_half"] or [None] * len(cost)]
    high = max(c + h for c, h in zip(cost, half, strict=True)) or 1.0
    y = Axis(0.0, high * 1.08, top + size, top)
    body = [text(x.start, top - 12, "Cost, USD per 1,000 decisions", "panel")]
    body += [_level(y.at(k), x.start, x.end, words.usd(k)) for k in ticks(0.0, high * 1.08)]
    best = part["optimum"]
    if best is not None:
        low, up = best["plateau"]
        body.append(rect(x.at(low), top, max(x.at(up) - x.at(low), 2), size, "plateau"))
    up_to = [y.at(c + h) for c, h in zip(cost, half, strict=True)]
    down_to = [y.at(max(c - h, 0.0)) for c, h in zip(cost, half, strict=True)]
    body += [area(xs, up_to, down_to), path(xs, [y.at(c) for c in cost])]
    for at, kind in _lines(part):
        point = next(p for p in part["points"] if p["threshold"] == at)
        if point["cost_per_1000"] is not None:
            body.append(dot(x.at(at), y.at(point["cost_per_1000"]), f"dot {kind}"))
    return body


def _quality_panel(part: Mapping[str, Any], x: Axis, top: float) -> list[str]:
    found = part["quality"]
    low = min(int(min(found["low"]) * 10) / 10, 0.9)
    y = Axis(low, 1.0, top + QUALITY, top)
    body = [text(x.start, top - 12, "Right labels above the line, % of audited", "panel")]
    body += [_level(y.at(v), x.start, x.end, words.share(v)) for v in (low, (low + 1) / 2, 1.0)]
    xs = [x.at(t) for t in found["thresholds"]]
    body.append(area(xs, [y.at(v) for v in found["high"]], [y.at(v) for v in found["low"]]))
    body.append(path(xs, [y.at(v) for v in found["share"]]))
    for at, kind in _lines(part):
        point = next(p for p in part["points"] if p["threshold"] == at)
        if point["quality"]["share"] is not None:
            body.append(dot(x.at(at), y.at(point["quality"]["share"]), f"dot {kind}"))
    return body


def _row(kind: str) -> int:
    return 14 if kind == "candidate" else 32


def _candidate_lines(part: Mapping[str, Any], x: Axis, bottom: float) -> list[str]:
    """The two lines through both panels."""
    return [line(x.at(at), _row(kind) - 9, x.at(at), bottom, kind) for at, kind in _lines(part)]


def _candidates(part: Mapping[str, Any], x: Axis, share: Axis) -> list[str]:
    """The two lines' points, and their words in two rows above, each on the side away from the other line."""
    drawn, spoken = [], []
    lines = _lines(part)
    for at, kind in lines:
        point = next(p for p in part["points"] if p["threshold"] == at)
        row = _row(kind)
        sentence = f"{'cheapest within the limit' if kind == 'candidate' else kind} {words.threshold(at)}: "
        sentence += f"{words.share(point['fallback_share'])} fall back"
        if point["cost_per_1000"] is not None:
            sentence += f", {words.usd(point['cost_per_1000'])} per 1,000"
        place = _side(x.at(at), any(other < at for other, _ in lines), len(sentence) * CHARACTER)
        drawn.append(dot(x.at(at), share.at(point["fallback_share"]), f"dot {kind}"))
        spoken.append(text(x.at(at) + (7 if place == "start" else -7), row, sentence, f"said {kind}", place))
    return drawn + spoken


def _side(at: float, is_right: bool, width: float) -> str:
    """Where words of a width stand beside a line: away from the other one where there is room, else where there is more."""
    fits_left, fits_right = at - width > 0, at + width < WIDTH
    if (is_right and fits_right) or (not is_right and not fits_left and fits_right):
        return "start"
    if fits_left:
        return "end"
    return "start" if at < WIDTH / 2 else "end"


def _lines(part: Mapping[str, Any]) -> list[tuple[float, str]]:
    best = part["optimum"]
    found = [] if best is None else [(best["threshold"], "candidate")]
    return [*found, (part["production"], "production")]


def bars(rows: Sequence[tuple[str, float, str]], title: str) -> str:
    """Bars from zero in one grey: name (HTML), value, and its words at the right edge."""
    row, left, right = 26, 210, WIDTH - 200
    x = Axis(0.0, max((value for _, value, _ in rows), default=0.0) or 1.0, left, right)
    body = [line(left, 2, left, row * len(rows) + 2, "axis")]
    for i, (label, value, said) in enumerate(rows):
        y = row * i + 4
        body.append(text(left - 12, y + 15, label, "", "end"))
        body.append(rect(left, y + 3, max(x.at(value) - left, 1 if value else 0), row - 10, color="control"))
        body.append(text(WIDTH - 4, y + 15, said, "", "end"))
    return chart(title, body, height=row * len(rows) + 8)


def histogram(
    edges: Sequence[float], counts: Sequence[int], at: float | None, color: str, title: str, highest: int
) -> str:
    """One label's confidences: full colour where it is followed, faint where it falls back, the line between them dashed."""
    width, size, top = 206, 84, 8
    x, y = Axis(0.0, 1.0, 2, width - 2), Axis(0.0, highest or 1, top + size, top)
    body = []
    for k, n in enumerate(counts):
        if n:
            falls = at is not None and edges[k + 1] <= at + 1e-9
            left = x.at(edges[k])
            body.append(
                rect(
                    left + 0.4,
                    y.at(n),
                    x.at(edges[k + 1]) - left - 0.8,
                    top + size - y.at(n),
                    color=color,
                    faint=0.32 if falls else 1.0,
                )
            )
    body.append(line(2, top + size, width - 2, top + size, "axis"))
    if at is not None:
        body.append(line(x.at(at), 0, x.at(at), top + size, "production"))
    body += [
        text(x.at(v), top + size + 15, f"{v:g}", "muted", p)
        for v, p in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    ]
    return chart(title, body, height=top + size + 20, width=width, small=True)


def reliability(bins: Sequence[Mapping[str, Any]], at: float, title: str) -> str:
    """Accuracy by confidence with exact 95 % bars; the diagonal is a classifier whose confidence means what it says."""
    width, size, left, top = 420, 300, 48, 12
    x, y = Axis(0.0, 1.0, left, left + size + 40), Axis(0.0, 1.0, top + size, top)
    body = [_level(y.at(k / 4), left, x.end, f"{25 * k} %") for k in range(5)]
    body += [
        line(x.at(0), y.at(0), x.at(1), y.at(1), "limit"),
        line(x.at(at), top, x.at(at), top + size, "production"),
    ]
    for one in bins:
        px = x.at(one["mean_confidence"])
        body += [line(px, y.at(one["bar"]["low"]), px, y.at(one["bar"]["high"]), "whisker")]
        body.append(dot(px, y.at(one["accuracy"]), "dot solid", 3.5))
    body += [text(x.at(k / 4), top + size + 18, f"{k / 4:g}", "muted", "middle") for k in range(5)]
    body.append(text(x.end, top + size + 36, "mean confidence", "muted", "end"))
    return chart(title, body, height=top + size + 42, width=width)


def periods(part: Mapping[str, Any], colors: Mapping[str, str], title: str) -> str:
    """Two panels over time: the share that falls back against its usual band, and each label's share of decisions."""
    rows = part["periods"]
    left, right, first, second, size = 58, WIDTH - 150, 26, 192, 116
    step = (right - left) / len(rows)
    xs = [round(left + step * (i + 0.5), 1) for i in range(len(rows))]
    shares = [row["fallback_share"] for row in rows]
    usual = part["fallback"]
    y = Axis(0.0, min(max([*shares, usual["mean"] or 0.0]) * 1.25 or 1.0, 1.0), first + size, first)
    body = [text(left, first - 12, f"Falls back, % of a {part['period']}'s decisions", "panel")]
    body += [_level(y.at(v), left, right, f"{v * 100:g} %") for v in ticks(0.0, y.high, 4)]
    begun = next((i for i, row in enumerate(rows) if row["day"] >= part["recent_from"]), None)
    if begun is not None and begun > 0:
        edge = left + step * begun
        body.append(rect(edge, first, right - edge, size, "zone"))
        body.append(text(right + 10, first + 10, "shaded: recent", "muted"))
    if usual["mean"] is not None:
        low, high = max(usual["mean"] - usual["sd"], 0.0), min(usual["mean"] + usual["sd"], y.high)
        body.append(rect(left, y.at(high), right - left, y.at(low) - y.at(high), "usual"))
        body.append(text(right + 10, y.at(usual["mean"]) + 4, f"usual {words.share(usual['mean'])}", "muted"))
    body += _series(xs, [y.at(v) for v in shares], "fallback")
    tops = [[row["labels"][k] / row["n"] for row in rows] for k in range(len(part["names"]))]
    mix = Axis(0.0, min(max((max(v) for v in tops), default=1.0) * 1.15, 1.0), second + size, second)
    body.append(text(left, second - 12, f"Labels, % of a {part['period']}'s decisions", "panel"))
    body += [_level(mix.at(v), left, right, f"{v * 100:g} %") for v in ticks(0.0, mix.high, 4)]
    shown = sorted(range(len(tops)), key=lambda k: -sum(tops[k]))[:8]
    heights = spread([mix.at(tops[k][-1]) + 4 for k in shown], 15, second + 4, second + size + 8)
    for k, height in zip(shown, heights, strict=True):
        color = colors.get(part["names"][k], "other")
        body += _series(xs, [mix.at(v) for v in tops[k]], color)
        body += [rect(right + 10, height - 9, 9, 9, color=color)]
        body.append(text(right + 24, height, words.safe(part["names"][k], 16)))
    for i in _some(len(rows), 9):
        body.append(text(xs[i], second + size + 18, words.day(rows[i]["day"], year=False), "muted", "middle"))
    return chart(title, body, height=second + size + 26)


def _series(xs: list[float], ys: list[float], color: str) -> list[str]:
    if len(xs) == 1:
        return [f'<circle cx="{xs[0]:g}" cy="{ys[0]:g}" r="3.5" style="fill:var(--{color})"/>']
    return [path(xs, ys, "curve", color)]


def _some(n: int, most: int) -> list[int]:
    """At most ``most`` places out of n, evenly, the first among them."""
    stride = max(-(-n // most), 1)
    return list(range(0, n, stride))


def _level(y: float, left: float, right: float, label: str) -> str:
    return line(left, y, right, y) + text(left - 8, y + 4, label, "muted", "end")
