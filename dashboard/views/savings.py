"""What routing saved, against which baseline, and on what ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta

import pandas as pd
import streamlit as st

from dashboard import formats, frame, loaders, savings_figures, state, theme, untrusted
from router.analysis.projection import Projection, project
from router.analysis.replay import projected_spend
from router.analysis.savings import Savings, savings
from router.analysis.scenarios import scenarios
from router.log.queries import baseline_of
from router.policy import Policy

BASELINE, UNDER = "baseline", "under"
LOGGED, PRODUCTION, CANDIDATE = "As logged", "Production", "Candidate"


def controls(policy: Policy) -> tuple[str, str]:
    """Baseline and policy, at the right of the title; the baseline model and whether the candidate is meant."""
    models = list(dict.fromkeys([baseline_of(policy), *policy.model_names, *loaders.models_seen()]))
    st.session_state.setdefault(BASELINE, models[0])
    st.session_state.setdefault(UNDER, LOGGED)
    lines = {PRODUCTION: policy.threshold, CANDIDATE: state.candidate()}
    with frame.controls():
        st.selectbox(
            "Baseline",
            models,
            key=BASELINE,
            bind="query-params",
            width=210,
            format_func=lambda name: f"All to {name}",
            help="The model that would have answered everything. Savings mean nothing without it.",
        )
        st.segmented_control(
            "Policy",
            [LOGGED, PRODUCTION, CANDIDATE],
            key=UNDER,
            bind="query-params",
            required=True,
            format_func=lambda word: f"{word} {formats.threshold(lines[word])}" if word in lines else word,
            help="As logged: what was paid under the policies of the time. The others replay the same decisions under one threshold.",
        )
    return str(st.session_state[BASELINE]), str(st.session_state[UNDER])


def in_order(spend: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """The table with labels in the policy's order, which tables and the waterfall follow."""
    place = {name: i for i, name in enumerate(order)}
    return spend.sort_values("label", key=lambda names: names.map(place), kind="stable", na_position="last")


def figures_row(found: Savings, replayed: bool) -> None:
    """Baseline, paid, savings, not priced."""
    paid = "Would have paid" if replayed else "Paid"
    ground = [f"{found.grade} tokens"] if found.grade else []
    book = loaders.prices()
    if book.as_of is not None:
        ground.append(f"prices of {formats.day(book.as_of, year=True)}")
    half = "" if found.savings_half is None else f" ± {formats.usd(found.savings_half).lstrip('$')}"
    saved = "Not measured" if found.savings_usd is None else formats.usd(found.savings_usd) + half
    share = (
        "no priced decision"
        if found.savings_share is None
        else f"{formats.share(found.savings_share)} of the baseline"
    )
    if found.share_half is not None:
        share += f", ± {found.share_half * 100:.1f} pts by {found.units}"
    lower = "" if found.classifier_known and found.failed_known else "+"
    cards = (
        (
            "Baseline",
            _money(found.baseline_usd),
            f"all to {untrusted.name(found.baseline)}, same tokens",
            "The same decisions, all answered by one model with the same tokens. That is an assumption: another model may answer longer or shorter.",
        ),
        (
            paid,
            _money(found.paid_usd) + lower,
            ", ".join(ground),
            "Routed models, classifier and failed attempts.",
        ),
        ("Savings", saved, share, "Baseline minus everything that was paid. The interval is 95 %."),
        (
            "Not priced",
            formats.count(found.n_unpriced),
            f"{formats.share(found.n_unpriced / found.n) if found.n else '0 %'} of decisions, left out of both sides",
            "Decisions without token counts, or with a model whose price is not known. Never counted as $0.",
        ),
    )
    grid = st.grid(columns=4, min_column_width=250)
    for title, value, under, more in cards:
        with grid.cell():
            st.metric(title, value, delta_description=under, help=more, border=True)


def _money(value: float | None) -> str:
    return "Not measured" if value is None else formats.usd(value)


def waterfall_card(found: Savings, order: Sequence[str]) -> None:
    """Where the savings come from."""
    with st.container(border=True, height="stretch", gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Where the savings come from", anchor=False)
            st.caption("US dollars in the period, from the baseline down to what was paid")
        if not found.waterfall:
            st.caption(
                "Not measured: no decision of the period has both a known cost and a known baseline. `ask` logs tokens; `route` alone cannot."
            )
            return
        figure, finding = savings_figures.waterfall(found, order)
        st.plotly_chart(figure, theme=None, config=theme.plotly_config(), key="waterfall", alt=finding)


def ways_card(found: Savings) -> None:
    """The same question, counted in other ways; and the guide's table."""
    with st.container(border=True, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Ways to count", anchor=False)
            st.caption("This log beside the guide's table, which assumes its traffic")
        tables = scenarios()
        rows = []
        if found.savings_share is not None:
            rows.append(
                ("This log", found.baseline_grade, found.baseline_usd, found.paid_usd, found.savings_share)
            )
        rows += [
            (
                item.title,
                "assumed",
                float(item.baseline_usd),
                float(item.routed_usd),
                float(item.savings_share),
            )
            for item in tables
        ]
        table = pd.DataFrame(
            {
                "Count": [row[0] for row in rows],
                "Grade": [[row[1]] for row in rows],
                "Baseline": [row[2] for row in rows],
                "Routed": [row[3] for row in rows],
                "Savings": [None if row[4] is None else f"{row[4] * 100:.2f} %" for row in rows],
            }
        )
        st.dataframe(
            table,
            hide_index=True,
            row_height=30,
            placeholder="not measured",
            key="ways",
            alt="Savings of this log and of the guide's table",
            column_config={
                "Count": st.column_config.TextColumn(width=92),
                "Grade": st.column_config.MultiselectColumn(
                    options=list(theme.GRADE_COLORS), color=list(theme.GRADE_COLORS.values()), width=80
                ),
                "Baseline": st.column_config.NumberColumn("Baseline, $", format="%.2f", width=78),
                "Routed": st.column_config.NumberColumn("Routed, $", format="%.2f", width=70),
                "Savings": st.column_config.TextColumn(width=66),
            },
        )
        for item in tables:
            st.caption(f"**{untrusted.name(item.title)}**: {untrusted.name(item.assumptions, 500)}")


def projection_card(rows: list[tuple[str, Projection, bool]]) -> None:
    """The next 30 days, if traffic stays."""
    with st.container(border=True, height="stretch", gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Spend over the next 30 days, if traffic stays", anchor=False)
            st.caption(_method(rows[0][1]) if rows else "Spend at the same traffic and prices")
        if not rows:
            st.caption("Not measured: this needs one full day of priced decisions.")
            return
        figure, finding = savings_figures.projections(rows)
        st.plotly_chart(figure, theme=None, config=theme.plotly_config(), key="projection", alt=finding)


def _method(found: Projection) -> str:
    days = formats.plural(found.days, "full day")
    if found.low is None:
        return f"Extrapolated from {days}: too few for an interval."
    how = "each weekday's own mean" if found.method == "weekday means" else "the mean of all days"
    return f"From {days}, {how}, 95 % interval"


def projected(spend: pd.DataFrame, ratio: float | None) -> list[tuple[str, Projection, bool]]:
    """Spend over 30 days under production and, where it differs, under the candidate."""
    if not spend["n_priced"].sum():
        return []
    days = (
        spend.assign(paid=spend["cost"] + spend["classifier_cost"].fillna(0.0))
        .groupby("day")[["paid", "n", "n_priced"]]
        .sum()
    )
    # A day of which a part has no price is not a cheap day: its priced decisions stand for all of them, and a day with none
    # of them says nothing.
    unknown = {day.date() for day in days.index[days["n_priced"] == 0]}
    days = days[days["n_priced"] > 0]
    daily = days["paid"] * days["n"] / days["n_priced"]
    first, last = _full_days(spend[spend["n_priced"] > 0])
    found = (
        project({day.date(): float(value) for day, value in daily.items()}, first, last, unknown=unknown)
        if first <= last
        else None
    )
    if found is None:
        return []
    rows = [(f"production {formats.threshold(loaders.policy_in_view().threshold)}", found, False)]
    if ratio is not None:
        moved = replace(
            found,
            total=found.total * ratio,
            low=None if found.low is None else found.low * ratio,
            high=None if found.high is None else found.high * ratio,
        )
        rows.append((f"candidate {formats.threshold(state.candidate())}", moved, True))
    return rows


def _full_days(spend: pd.DataFrame) -> tuple[date, date]:
    """First and last full day (UTC): the days of the first decision and of today are torn."""
    first, last = spend["day"].min().date(), spend["day"].max().date()
    return first + timedelta(days=1), min(last, loaders.today() - timedelta(days=1))


def label_table(found: Savings, order: Sequence[str]) -> None:
    """By label and model."""
    with st.container(border=True, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("By label and model", anchor=False)
            st.caption("Spend in the period, priced decisions only")
        shown = [row for row in found.labels if row.label is not None]
        chips = theme.chips([str(row.label) for row in shown], order)
        failed = [row for row in found.labels if row.label is None]
        table = pd.DataFrame(
            {
                "Label": [[untrusted.cell(row.label)] for row in shown] + [[] for _ in failed],
                "Model": [
                    ", ".join(untrusted.cell(model) or "" for model in row.models) for row in shown + failed
                ],
                "Decisions": [row.n for row in shown + failed],
                "Fallback": [
                    formats.share(row.n_fallback / row.n) if row.n else "" for row in shown + failed
                ],
                "Baseline": [row.baseline_usd for row in shown + failed],
                "Paid": [row.paid_usd for row in shown + failed],
                "Savings": [row.savings_usd for row in shown + failed],
                "Share": [
                    None if row.savings_share is None else formats.share(row.savings_share)
                    for row in shown + failed
                ],
                "Falling back": [row.fallback_usd for row in shown + failed],
            }
        )
        money = {"format": "%.2f"}
        st.dataframe(
            table,
            hide_index=True,
            row_height=30,
            placeholder="not measured",
            key="by_label",
            alt="Savings by label",
            column_config={
                "Label": st.column_config.MultiselectColumn(options=chips["options"], color=chips["color"]),
                "Decisions": st.column_config.NumberColumn(format="localized"),
                "Baseline": st.column_config.NumberColumn("Baseline, $", **money),
                "Paid": st.column_config.NumberColumn("Paid, $", **money),
                "Savings": st.column_config.NumberColumn("Savings, $", **money),
                "Share": st.column_config.TextColumn("Savings share"),
                "Falling back": st.column_config.NumberColumn(
                    "Falling back, $",
                    format="%+.2f",
                    help="What falling back cost over following the label. Negative: it saved.",
                ),
            },
        )


def main() -> None:
    """Draw the page."""
    policy = loaders.policy_in_view()
    chosen = state.current_filter()
    if loaders.log_counts(chosen) == 0:
        frame.header(
            "Savings", "Baseline minus everything that was paid: routed models, classifier, failed attempts."
        )
        frame.show_nothing_found()
        return
    baseline, under = controls(policy)
    order = list(dict.fromkeys([*policy.label_names, *loaders.labels_seen()]))
    spend = in_order(loaders.spend(chosen, baseline), order)
    cells = loaders.cells(chosen, baseline, policy)
    tried = policy.with_threshold(state.candidate())
    actual = savings(spend, baseline)
    under_production, under_candidate = (
        savings(projected_spend(cells, p), baseline) for p in (policy, tried)
    )
    found = {LOGGED: actual, PRODUCTION: under_production, CANDIDATE: under_candidate}[under]
    replayed = under != LOGGED
    frame.header("Savings", sentence(found, replayed))
    figures_row(found, replayed)
    left, right = frame.wide_and_narrow()
    with left:
        waterfall_card(found, order)
    with right:
        ways_card(found)
        ratio = None
        if (
            tried.threshold != policy.threshold
            and under_production.paid_usd
            and under_candidate.paid_usd is not None
        ):
            ratio = under_candidate.paid_usd / under_production.paid_usd
        projection_card(projected(spend, ratio))
    label_table(found, order)


def sentence(found: Savings, replayed: bool) -> str:
    """What the page answers, as markdown."""
    if found.savings_usd is None:
        return "Not measured: no decision of the period has both a known cost and a known baseline."
    how = "would have saved" if replayed else "saved"
    verb = how if found.savings_usd >= 0 else how.replace("saved", "cost") + " more:"
    # The same tokens under another model are an assumption, however well the tokens themselves were measured.
    grade = theme.grade_chip(found.baseline_grade)
    return (
        f"Routing {verb} **{formats.usd(abs(found.savings_usd))}** ({formats.share(found.savings_share)}) against all to "
        f"{untrusted.name(found.baseline)}. {grade}"
    )


main()
