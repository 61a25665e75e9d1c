"""What the log shows, in one sentence, six figures, and a list of what needs attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import streamlit as st

from dashboard import describe, figures, formats, frame, loaders, sparks, state, theme, untrusted
from router.analysis.attention import Finding, attention
from router.analysis.dead_zones import dead_zones
from router.analysis.overlap import overlap
from router.analysis.savings import Savings, savings
from router.log.queries import CLOSE_MARGIN, Filter, baseline_of
from router.policy import Policy

CARD_HEIGHT = 374
"""Pixels: cards side by side are equally high (a grid's cells do not stretch), and a long list scrolls inside its card."""

BADGES = {
    "failed": ":red-badge[Failed]",
    "retiring": ":red-badge[Retiring]",
    "price": ":orange-badge[Price]",
    "unmeasured": ":gray-badge[Not measured]",
    "dead_zone": ":orange-badge[Dead zone]",
    "drops": ":red-badge[Dropped]",
    "backlog": ":orange-badge[Backlog]",
    "overlap": ":gray-badge[Overlap]",
    "classifier": ":orange-badge[Classifier]",
}


def sentence(now: dict[str, Any], saved: Savings, series: pd.DataFrame) -> str:
    """What the log shows, as markdown."""
    top = series.groupby("model_used")["n"].sum().sort_values(ascending=False)
    model, share = untrusted.name(top.index[0]), formats.share(top.iloc[0] / now["n"])
    said = f"**{model}** was chosen for {share} of {formats.plural(now['n'], 'decision')}; {formats.share(now['n_fallback'] / now['n'])} fell back."
    if saved.savings_share is None:
        what = "Cost is" if now["paid_usd"] is None else "Savings are"
        return f"{said} {what} not measured."
    word = "less" if saved.savings_share >= 0 else "more"
    bound = "" if not saved.missing else "at most " if saved.savings_share >= 0 else "at least "
    cost = f"Routing cost {bound}{formats.share(abs(saved.savings_share))} {word} than all to {untrusted.name(saved.baseline)}"
    part = (
        ""
        if not saved.n_unpriced
        else f", over the {formats.count(saved.n_priced)} with a known cost and baseline"
    )
    return f"{said} {cost}{part}."


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the first row. ``change`` is against the period before, None where there is none."""

    key: str
    title: str
    value: str
    change: str | None
    ground: str
    more: str
    form: Callable[[float], str]


def first_row(
    now: dict[str, Any], then: dict[str, Any] | None, saved: Savings, saved_then: Savings | None
) -> list[Figure]:
    """Six figures, each with its change against the period before where the log reaches back that far."""
    share, unmeasured = _ratio(now, "n_fallback"), _unmeasured(now)
    change = _changes(now, then, saved, saved_then) if then is not None and then["n"] else {}
    partly = "" if now["paid_is_whole"] else "+"
    tokens = "assumed tokens" if now["n_assumed"] else "measured tokens"
    p50 = now["classify_p50_ms"]
    return [
        Figure(
            "n", "Decisions", formats.count(now["n"]), change.get("n"),
            f"{formats.count(now['n_classifier_failed'])} without scores",
            "Every decision of the period, failed classifiers included.", formats.count,
        ),
        Figure(
            "share", "Fallback share", formats.share(share), change.get("share"),
            f"{formats.count(now['n_fallback'])} fell back",
            "Decisions whose confidence or margin was below the line. Classifier failures are counted apart.",
            formats.share,
        ),
        Figure(
            "cost", "Cost",
            "Not measured" if now["paid_usd"] is None else formats.usd(now["paid_usd"]) + partly, change.get("cost"),
            tokens if now["n_costed"] else "no token counts",
            "All that was paid: answers at the price book's rates for each day, classifier and failed attempts at the prices "
            "known then. A plus: a part of it is not known, so it is a lower bound.", formats.usd,
        ),
        Figure(
            "saved", f"Savings vs {untrusted.name(saved.baseline)}",
            "Not measured" if saved.savings_share is None
            else ("At most " if saved.missing else "") + formats.share(saved.savings_share), change.get("saved"),
            "no priced decision" if saved.savings_share is None
            else "assumed: same tokens" if not saved.n_unpriced
            else f"of {formats.count(saved.n_priced)} priced, same tokens",
            "Baseline minus routed models, classifier and failed attempts, as a share of the baseline. The baseline "
            "assumes that its model would have used the same tokens.", formats.share,
        ),
        Figure(
            "p95", "Classifier p95",
            "Not measured" if now["classify_p95_ms"] is None else formats.duration(now["classify_p95_ms"]),
            change.get("p95"), "no timed call" if p50 is None else f"p50 {formats.duration(p50)}",
            "Time the classifier took, at the caller." + ("" if now["latency_exact"] else " Within 1 %."), formats.duration,
        ),
        Figure(
            "unmeasured", "Cost not measured", formats.share(unmeasured), change.get("unmeasured"),
            f"{formats.plural(now['n_unmeasured'], 'decision')} without tokens",
            "Decisions without token counts, or whose model has no known price at its service tier. Calls that no model answered and no provider "
            f"charges for are known to cost nothing: {formats.count(now['n_unanswered'])}.", formats.share,
        ),
    ]  # fmt: skip


def _changes(
    now: dict[str, Any], then: dict[str, Any], saved: Savings, saved_then: Savings | None
) -> dict[str, str]:
    found = {
        "n": formats.signed_percent(now["n"] / then["n"] - 1),
        "share": formats.signed_points(_ratio(now, "n_fallback") - _ratio(then, "n_fallback")),
        "unmeasured": formats.signed_points(_unmeasured(now) - _unmeasured(then)),
    }
    if now["paid_usd"] and then["paid_usd"]:
        found["cost"] = formats.signed_percent(now["paid_usd"] / then["paid_usd"] - 1)
    if saved.savings_share is not None and saved_then is not None and saved_then.savings_share is not None:
        found["saved"] = formats.signed_points(saved.savings_share - saved_then.savings_share)
    if now["classify_p95_ms"] is not None and then["classify_p95_ms"] is not None:
        found["p95"] = formats.signed_ms(now["classify_p95_ms"] - then["classify_p95_ms"])
    return found


def figures_row(shown: list[Figure], courses: dict[str, pd.Series]) -> None:
    """The figures side by side, each over its course through the period."""
    grid = st.grid(columns=6, min_column_width=198)
    dark = theme.is_dark()
    for figure in shown:
        with (
            grid.cell(),
            st.container(border=True, height="stretch", gap="xsmall", key=f"figure_{figure.key}"),
        ):
            under = f"{figure.change} vs before" if figure.change else figure.ground
            st.metric(
                figure.title, figure.value, delta_description=under or None,
                help=f"{figure.more} Now: {figure.ground}." if figure.change else figure.more,
            )  # fmt: skip
            course = courses[figure.key]
            picture = sparks.svg(course.tolist(), dark=dark)
            if picture is not None:
                st.image(picture, width="stretch", alt=sparks.finding(figure.title, course, figure.form))


def _ratio(row: dict[str, Any], key: str) -> float:
    return row[key] / row["n"] if row["n"] else 0.0


def _unmeasured(row: dict[str, Any]) -> float:
    return _ratio(row, "n_unmeasured") + _ratio(row, "n_unpriced")


def answered_card(series: pd.DataFrame, order: list[str]) -> None:
    """Who answered: share of decisions over time by model."""
    with st.container(border=True, height=CARD_HEIGHT, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Where decisions went", anchor=False)
            st.caption("Share of decisions over time, by the model that was used or chosen")
        shares = series.groupby("model_used")["n"].sum() / series["n"].sum()
        alt = "; ".join(
            f"{model} {formats.share(value)}" for model, value in shares.sort_values(ascending=False).items()
        )
        st.plotly_chart(
            figures.share_area(series, order, 286),
            theme=None,
            config=theme.plotly_config(),
            key="answered",
            alt=alt,
        )


def attention_card(found: list[Finding]) -> None:
    """What needs attention, largest effect first; each line leads to the rows behind it."""
    with st.container(border=True, height=CARD_HEIGHT, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Needs attention", anchor=False)
            st.caption(
                "Largest effect first"
                if found
                else "Nothing: no retiring model, unknown price, dead zone or loss"
            )
        for i, finding in enumerate(found[:4]):
            with st.container(horizontal=True, vertical_alignment="top", wrap=False, key=f"finding_{i}"):
                st.markdown(
                    f"{BADGES.get(finding.kind, ':gray-badge[Note]')} {markdown(finding)}", width="stretch"
                )
                target = page_of(finding)
                if target is not None:
                    st.page_link(**target, label="Open", width="content")
        if len(found) > 4:
            with st.popover(f"{len(found) - 4} more"):
                for finding in found[4:]:
                    st.markdown(f"{BADGES.get(finding.kind, ':gray-badge[Note]')} {markdown(finding)}")


def markdown(finding: Finding) -> str:
    """A finding's sentence; names in bold, everything else escaped."""
    return "".join(
        f"**{untrusted.name(part.text)}**" if part.is_name else untrusted.words(part.text)
        for part in finding.parts
    )


def page_of(finding: Finding) -> dict[str, Any] | None:
    """Arguments of the link to the rows behind a finding."""
    if finding.page is None:
        return None
    # The address holds what the page's list shows.
    query = {key: describe.cause(value) if key == "cause" else value for key, value in finding.query.items()}
    return state.link(finding.page, **query)


def ended_card(series: pd.DataFrame, width: timedelta) -> None:
    """How decisions ended."""
    with st.container(border=True, height=CARD_HEIGHT, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("How decisions ended", anchor=False)
            st.caption("Decisions over time")
        table = figures.ended_table(series)
        alt = "; ".join(f"{word} {formats.count(int(table[word].sum()))}" for word in figures.ENDED)
        st.plotly_chart(
            figures.ended_chart(table, width, 286),
            theme=None,
            config=theme.plotly_config(),
            key="ended",
            alt=alt,
        )


def label_card(series: pd.DataFrame, policy: Policy, order: list[str]) -> None:
    """Decisions, fallback share and spend by label."""
    with st.container(border=True, height=CARD_HEIGHT, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("By label", anchor=False)
            st.caption("As decided at the time")
        fell = series["cause"].isin(("low_confidence", "low_margin"))
        table = (
            series.assign(fell=series["n"].where(fell, 0))
            .groupby("label", dropna=True)[["n", "fell", "cost_usd", "n_costed", "other_usd"]]
            .sum(min_count=1)
        )
        names = [name for name in order if name in table.index]
        table = table.loc[names]
        chips = theme.chips(names, order)
        shown = pd.DataFrame(
            {
                "Label": [[untrusted.cell(name)] for name in names],
                "Decisions": table["n"].to_numpy(),
                "Fallback": [
                    formats.share(fell / n) for fell, n in zip(table["fell"], table["n"], strict=True)
                ],
                "Cost": (table["cost_usd"].astype("float64").fillna(0.0) + table["other_usd"])
                .where((table["n_costed"] > 0) | (table["other_usd"] > 0))
                .to_numpy(),
            }
        )
        st.dataframe(
            shown,
            hide_index=True,
            row_height=30,
            placeholder="not measured",
            key="by_label",
            alt="Decisions, fallback share and cost by label",
            column_config={
                "Label": st.column_config.MultiselectColumn(
                    options=chips["options"], color=chips["color"], width=100
                ),
                "Decisions": st.column_config.NumberColumn(format="localized", width=84),
                "Fallback": st.column_config.TextColumn(width=78, alignment="right"),
                "Cost": st.column_config.NumberColumn("Cost, $", format="%,.2f", width=92),
            },
        )


def found_attention(
    chosen: Filter, now: dict[str, Any], bins: pd.DataFrame, series: pd.DataFrame, policy: Policy
) -> list[Finding]:
    """Everything that needs attention in the period, and in the log itself."""
    return attention(
        series=series,
        policy=policy,
        prices=loaders.prices(policy),
        today=loaders.today(),
        n=now["n"],
        n_unmeasured=now["n_unmeasured"],
        dead_zones=dead_zones(bins, policy),
        overlap=overlap(loaders.pairs(chosen), policy.label_names, bound=CLOSE_MARGIN),
        drops=loaders.losses()["drops"],
        rejects=loaders.losses()["rejects"],
        backlog_bytes=loaders.backlog_bytes(),
    )


def main() -> None:
    """Draw the page."""
    policy = loaders.policy_in_view()
    chosen = state.current_filter()
    now = loaders.summary(chosen)
    if now["n"] == 0:
        frame.header("Overview", "What the routing log shows.")
        frame.show_nothing_found()
        return
    baseline = baseline_of(policy)
    first, last = loaders.span(chosen)
    width = figures.bucket_width(first, last, 40)
    series = loaders.series(chosen, width)
    spend = loaders.spend(chosen, baseline)
    saved = savings(spend, baseline)
    earlier = loaders.before(chosen)
    then = loaders.summary(earlier) if earlier is not None else None
    saved_then = (
        savings(loaders.spend(earlier, baseline), baseline) if then is not None and then["n"] else None
    )
    frame.header("Overview", sentence(now, saved, series))
    courses = sparks.courses(
        series, spend, loaders.latency(chosen, width), width=width, now=datetime.now(UTC).replace(tzinfo=None)
    )
    figures_row(first_row(now, then, saved, saved_then), courses)
    shown = series.assign(
        bucket=series["bucket"].pipe(
            lambda times: times.dt.tz_localize("UTC").dt.tz_convert(state.zone()).dt.tz_localize(None)
        )
    )
    labels = list(dict.fromkeys([*policy.label_names, *loaders.labels_seen()]))
    models = list(dict.fromkeys([*policy.model_names, *loaders.models_seen()]))
    left, right = frame.wide_and_narrow()
    with left:
        answered_card(shown, models)
    with right:
        attention_card(found_attention(chosen, now, loaders.bins(chosen), series, policy))
    left, right = frame.wide_and_narrow()
    with left:
        ended_card(shown, width)
    with right:
        label_card(series, policy, labels)


main()
