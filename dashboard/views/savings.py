"""What routing saved, against which baseline, and on what ground."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboard import (
    formats,
    frame,
    loaders,
    savings_cards,
    savings_figures,
    scenario_editor,
    state,
    theme,
    untrusted,
)
from router.analysis.replay import projected_spend
from router.analysis.savings import LabelSavings, Savings, savings
from router.analysis.steps import noticeable
from router.log.baselines import DEAREST, PREVIOUS
from router.log.queries import baseline_of
from router.policy import Policy

BASELINE, UNDER, STEPS = "baseline", "under", "steps"
BY_CAUSE, BY_LABEL = "By cause", "By label"
LOGGED, PRODUCTION, CANDIDATE = "As logged", "Production", "Candidate"


def controls(policy: Policy) -> tuple[str, str]:
    """Baseline and policy, at the right of the title; the baseline's key and which policy is meant."""
    models = list(dict.fromkeys([baseline_of(policy), *policy.model_names, *loaders.models_seen()]))
    earlier = loaders.previous_policy()
    names = {name: f"All to {name}" for name in models} | {DEAREST: "All to the dearest"}
    if earlier is not None:
        names[PREVIOUS] = f"Policy before, {formats.fingerprint(earlier.fingerprint, earlier.name)}"
    st.session_state.setdefault(BASELINE, models[0])
    st.session_state.setdefault(UNDER, LOGGED)
    lines = {PRODUCTION: policy.threshold, CANDIDATE: state.candidate()}
    with frame.controls():
        st.selectbox(
            "Baseline",
            list(names),
            key=BASELINE,
            bind="query-params",
            width=210,
            format_func=lambda key: names.get(key, key),
            help="What would have answered instead: one model for everything, the policy's dearest one on this traffic, or the policy used before. Savings mean nothing without it.",
        )
        st.segmented_control(
            "Policy",
            [LOGGED, PRODUCTION, CANDIDATE],
            key=UNDER,
            bind="query-params",
            required=True,
            disabled=st.session_state[BASELINE] == PREVIOUS,
            format_func=lambda word: f"{word} {formats.threshold(lines[word])}" if word in lines else word,
            help="As logged: what was paid under the policies of the time. The others replay the same decisions under one threshold.",
        )
    under = LOGGED if st.session_state[BASELINE] == PREVIOUS else str(st.session_state[UNDER])
    return str(st.session_state[BASELINE]), under


def against(key: str, policy: Policy) -> tuple[str | Policy, str]:
    """The baseline behind a choice, and its name: a model, or a policy with its fingerprint."""
    if key == DEAREST:
        model = loaders.dearest(state.current_filter())
        return model, model
    earlier = loaders.previous_policy() if key == PREVIOUS else None
    if earlier is not None:
        return earlier, f"policy {formats.fingerprint(earlier.fingerprint, earlier.name)}"
    model = baseline_of(policy) if key == PREVIOUS else key
    return model, model


def in_order(spend: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """The table with labels in the policy's order, which tables and the waterfall follow."""
    place = {name: i for i, name in enumerate(order)}
    return spend.sort_values("label", key=lambda names: names.map(place), kind="stable", na_position="last")


def figures_row(found: Savings, replayed: bool, baseline: str | Policy) -> None:
    """Baseline, paid, savings, not priced."""
    paid = "Would have paid" if replayed else "Paid"
    ground = [f"{found.grade} tokens"] if found.grade else []
    book = loaders.prices()
    if book.as_of is not None:
        ground.append(f"prices of {formats.day(book.as_of, year=True)}")
    half = ""
    if found.savings_half is not None:
        half = f" ± {formats.usd(noticeable(found.savings_half, found.baseline_usd or 0.0)).lstrip('$')}"
    most = "at most " if found.missing else ""
    saved = (
        "Not measured"
        if found.savings_usd is None
        else f"{most.capitalize()}{formats.usd(found.savings_usd)}{half}"
    )
    share = (
        "no priced decision"
        if found.savings_share is None
        else f"{most}{formats.share(found.savings_share)} of the baseline"
    )
    if found.share_half is not None:
        share += f", ± {found.share_half * 100:.1f} pts by {found.units}"
    lower = "" if found.is_whole or found.paid_usd is None else "+"
    base = "" if not found.n_unpriced or found.baseline_usd is None else "+"
    cards = (
        (
            "Baseline",
            _money(found.baseline_usd) + base,
            f"{_all_to(found)}, same tokens",
            "The same decisions, answered by the baseline with the same tokens. That is an assumption: another model may answer longer or shorter. A plus marks a lower bound: some decisions have no known cost.",
        ),
        (
            paid,
            _money(found.paid_usd) + lower,
            ", ".join(ground),
            "Routed models, classifier and failed attempts. Classifier and failed attempts are at the prices known when they were "
            "made, answers at today's price book. A plus marks a lower bound: a part of it is not known.",
        ),
        (
            "Savings",
            saved,
            share,
            'Baseline minus everything that was paid, but for answers and classifying without a known baseline. The interval is 95 %. "At most": a part '
            "of what was paid is not known.",
        ),
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
            st.metric(title, value, delta_description=under, help=more, border=True, height="stretch")
    anew = None if replayed else loaders.repriced(state.current_filter())
    reasons = None if replayed or not found.n_unpriced else loaders.unpriced(state.current_filter(), baseline)
    notes = savings_cards.notes(found, anew, reasons)
    if notes:
        st.caption(" ".join(notes))


def _all_to(found: Savings) -> str:
    name = untrusted.name(found.baseline)
    return name if found.baseline.startswith("policy ") else f"all to {name}"


def _money(value: float | None) -> str:
    return "Not measured" if value is None else formats.usd(value)


def waterfall_card(found: Savings, order: Sequence[str], beside: int) -> None:
    """Where the savings come from; ``beside`` is by how much the cards at its right are higher than usual, in px."""
    with st.container(border=True, height="stretch", gap="xsmall"):
        st.session_state.setdefault(STEPS, BY_CAUSE)
        with st.container(horizontal=True, vertical_alignment="top"):
            with st.container(gap=None):
                st.subheader("Where the savings come from", anchor=False)
                st.caption("US dollars in the period, from the baseline down to what was paid")
            st.segmented_control(
                "Steps",
                [BY_CAUSE, BY_LABEL],
                key=STEPS,
                bind="query-params",
                required=True,
                width="content",
                label_visibility="collapsed",
            )
        if not found.waterfall:
            st.caption(
                "Not measured: no decision of the period has both a known cost and a known baseline. `ask` logs tokens; `route` alone cannot."
            )
            return
        by_cause = st.session_state[STEPS] == BY_CAUSE
        steps = savings_figures.by_cause(found) if by_cause else savings_figures.by_label(found)
        figure, finding = savings_figures.waterfall(found, steps, order, 420 + beside)
        st.plotly_chart(figure, theme=None, config=theme.plotly_config(), key="waterfall", alt=finding)
        st.caption(savings_cards.CAUSES if by_cause else savings_cards.LABELS)


def label_table(found: Savings, order: Sequence[str]) -> None:
    """By label and model."""
    with st.container(border=True, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("By label and model", anchor=False)
            st.caption("Spend in the period; baseline and savings of priced decisions only")
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
                "Savings": [_beside_baseline(row.savings_usd, row) for row in shown + failed],
                "Share": [
                    None
                    if row.savings_share is None
                    else ("≤ " if row.missing else "") + formats.share(row.savings_share)
                    for row in shown + failed
                ],
                "Falling back": [_beside_baseline(row.fallback_usd, row) for row in shown + failed],
            }
        )
        if not all(row.is_whole or row.paid_usd is None for row in shown + failed):
            place = list(table.columns).index("Paid") + 1
            table.insert(place, "Bound", [_bound(row) for row in shown + failed])
        money = {"format": "%,.2f"}
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
                "Bound": st.column_config.TextColumn(
                    "", help="A part of what was paid (answers, classifier or failed attempts) is not known."
                ),
                "Savings": st.column_config.NumberColumn("Savings, $", **money),
                "Fallback": st.column_config.TextColumn(alignment="right"),
                "Share": st.column_config.TextColumn("Savings share", alignment="right"),
                "Falling back": st.column_config.NumberColumn(
                    "Falling back, $",
                    format="%+,.2f",
                    help="What falling back cost over following the label. Negative: it saved.",
                ),
            },
        )


def _bound(row: LabelSavings) -> str:
    if row.is_whole or row.paid_usd is None:
        return ""
    return "at least; savings at most" if row.missing and row.savings_usd is not None else "at least"


def _beside_baseline(value: float | None, row: LabelSavings) -> float | None:
    return None if value is None else noticeable(value, row.baseline_usd or 0.0)


def main() -> None:
    """Draw the page."""
    policy = loaders.policy_in_view()
    chosen = state.current_filter()
    if loaders.log_counts(chosen) == 0:
        frame.header(
            "Savings", "Baseline minus everything that was paid: routed models, classifier, failed attempts."
        )
        frame.show_nothing_found()
        scenario_editor.card(policy)
        return
    key, under = controls(policy)
    baseline, name = against(key, policy)
    order = list(dict.fromkeys([*policy.label_names, *loaders.labels_seen()]))
    spend = in_order(loaders.spend(chosen, baseline), order)
    tried = policy.with_threshold(state.candidate())
    found = actual = savings(spend, name)
    ratio = None
    if isinstance(baseline, str):
        cells = loaders.cells(chosen, baseline, policy)
        replays = {
            word: savings(projected_spend(cells, line), name)
            for word, line in ((PRODUCTION, policy), (CANDIDATE, tried))
        }
        found = {LOGGED: actual, **replays}[under]
        ratio = candidate_ratio(replays[PRODUCTION], replays[CANDIDATE], policy, tried)
    replayed = under != LOGGED
    frame.header("Savings", sentence(found, replayed), grade_of(found))
    figures_row(found, replayed, baseline)
    estimated = None if replayed or not isinstance(baseline, str) else savings_cards.estimated(baseline)
    left, right = frame.wide_and_narrow()
    with left:
        words = 0 if savings_cards.is_projected(spend) else -97  # a sentence in place of a chart
        waterfall_card(
            found, order, words + 30 * (estimated is not None) + 52 * (ratio is not None and not words)
        )
    with right:
        savings_cards.ways_card(found, estimated)
        savings_cards.projection_card(spend, ratio, is_bound=bool(found.missing))
    label_table(found, order)
    scenario_editor.card(policy)
    savings_cards.prices_card(policy, list(dict.fromkeys([*policy.model_names, *loaders.models_seen()])))


def candidate_ratio(production: Savings, candidate: Savings, policy: Policy, tried: Policy) -> float | None:
    """What the candidate would pay for each dollar of production; None where they are the same or not known."""
    if tried.threshold == policy.threshold or not production.paid_usd or candidate.paid_usd is None:
        return None
    return candidate.paid_usd / production.paid_usd


def sentence(found: Savings, replayed: bool) -> str:
    """What the page answers, as markdown."""
    if found.savings_usd is None:
        return "Not measured: no decision of the period has both a known cost and a known baseline."
    how = "would have saved" if replayed else "saved"
    verb = how if found.savings_usd >= 0 else how.replace("saved", "cost") + " more:"
    bound = ("at most " if found.savings_usd >= 0 else "at least ") if found.missing else ""
    return (
        f"Routing {verb} {bound}**{formats.usd(abs(found.savings_usd))}** ({formats.share(found.savings_share)}) against "
        f"{_all_to(found)}."
    )


def grade_of(found: Savings) -> str:
    """The badge of the sentence. The same tokens under another model are an assumption, however well they were measured."""
    return "" if found.savings_usd is None else theme.grade_chip(found.baseline_grade)


main()
