"""Cards of the Savings page: ways to count, the days to come, and the prices behind every figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pandas as pd
import streamlit as st

from dashboard import formats, loaders, savings_figures, state, theme, untrusted
from router.analysis.lengths import LengthRatio, factors
from router.analysis.projection import days_to_go_by, ground, project_spend, why_not
from router.analysis.savings import Savings, bound, savings
from router.analysis.scenarios import scenarios
from router.analysis.steps import STEPS
from router.log.spending import Repriced, Unpriced
from router.policy import Policy
from router.prices import PriceBook, Rate

CAUSES = (
    f"Model prices: {STEPS['price'][1]}. Request size: {STEPS['mix'][1]}. Falling back: {STEPS['fallback'][1]}. Each step is "
    "explained on hover."
)

LABELS = (
    f"Labels: decisions that followed them, at what they cost instead of the baseline. Fell back: {STEPS['fell_back'][1]}. The table "
    "below counts a label's decisions together, whether they fell back or not."
)


def notes(
    found: Savings, anew: Repriced | None = None, reasons: Sequence[Unpriced] | None = None
) -> list[str]:
    """What no figure shows, as sentences of markdown: what is left out, what cost nothing, what was paid without a baseline.

    ``anew``: what the log says that answers cost, where that is to be said beside today's prices. ``reasons``: why decisions
    are left out, where the log was asked.
    """
    said = []
    if found.missing:
        text = bound(found.missing)
        said.append(f"{text[0].upper()}{text[1:]}.")
    if found.n_unpriced:
        said.append(f"Not priced: {left_out(found) if reasons is None else because(reasons)}.")
    if found.n_unanswered:
        said.append(
            f"No model answered, and no provider charges for that: {formats.plural(found.n_unanswered, 'decision')}, at {_usd(0)}."
        )
    if found.unmatched_usd:
        said.append(
            f"{_usd(found.unmatched_usd)} of what was paid has no known baseline and is no part of the savings."
        )
    if found.failed_usd:
        beside = found.failed_unmatched_usd
        tail = f"; {_usd(beside)} of them for decisions without a baseline" if beside else ""
        said.append(f"Failed attempts are at the prices known when they were made{tail}.")
    if anew is not None and anew.difference_usd:
        how = "dearer" if anew.difference_usd > 0 else "cheaper"
        said.append(
            f"Today's price book makes {formats.plural(anew.n, 'answer')} {_usd(abs(anew.difference_usd))} {how} than the log's "
            f"{_usd(anew.logged_usd)}, which is at the prices known when they were made."
        )
    return said


def _usd(value: float) -> str:
    """Money in a sentence: two bare dollar signs in one would be read as mathematics."""
    return formats.usd(value).replace("$", r"\$")


def left_out(found: Savings) -> str:
    """Decisions without a known cost, by model, as markdown."""
    book, today = loaders.prices(), loaders.today()
    parts = []
    for model, n in found.unpriced[:8]:
        if model is None:
            parts.append(f"{formats.count(n)} that no model answered")
        elif book.rate(model, today) is None:
            parts.append(f"{formats.count(n)} {untrusted.name(model)} (price not known)")
        else:
            parts.append(
                f"{formats.count(n)} {untrusted.name(model)} (tokens, baseline or rate of the service tier not known)"
            )
    more = len(found.unpriced) - 8
    return ", ".join(parts) + (f", and {formats.plural(more, 'other model')}" if more > 0 else "")


def because(reasons: Sequence[Unpriced]) -> str:
    """Decisions without a known cost, by model and reason, as markdown."""
    parts = [
        f"{formats.count(x.n)} that no model answered"
        if x.model is None
        else f"{formats.count(x.n)} {untrusted.name(x.model)} ({x.why(untrusted.name)})"
        for x in reasons[:8]
    ]
    more = len(reasons) - 8
    return ", ".join(parts) + (f", and {formats.plural(more, 'other reason')}" if more > 0 else "")


def estimated(baseline: str) -> tuple[Savings, dict[str, LengthRatio]] | None:
    """Savings with the baseline's answers as long as the log shows; None where it shows too little."""
    chosen = state.current_filter()
    ratios = loaders.length_ratios(chosen, baseline)
    if not ratios:
        return None
    spend = loaders.spend(chosen, baseline, factors(ratios))
    return savings(spend, baseline, lengths=ratios), ratios


def ways_card(found: Savings, other: tuple[Savings, dict[str, LengthRatio]] | None) -> None:
    """The same question, counted in other ways; and the guide's table."""
    with st.container(border=True, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Ways to count", anchor=False)
            st.caption("This log beside the guide's table, which assumes its traffic")
        rows = []
        if found.savings_share is not None:
            rows.append(("This log", found.baseline_grade, found.baseline_usd, found.paid_usd, _share(found)))
        if other is not None and other[0].savings_share is not None:
            with_lengths = other[0]
            rows.append(
                (
                    "Own lengths",
                    with_lengths.baseline_grade,
                    with_lengths.baseline_usd,
                    with_lengths.paid_usd,
                    _share(with_lengths),
                )
            )
        rows += [
            (
                item.title,
                "assumed",
                float(item.baseline_usd or 0),
                float(item.known_usd),
                f"{float(item.savings_share or 0) * 100:.2f} %",
            )
            for item in scenarios()
        ]
        names = ("Count", "Grade", "Baseline", "Routed", "Savings")
        table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
        table["Grade"] = [[grade] for grade in table["Grade"]]
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
                "Baseline": st.column_config.NumberColumn("Baseline, $", format="%,.2f", width=84),
                "Routed": st.column_config.NumberColumn("Routed, $", format="%,.2f", width=76),
                "Savings": st.column_config.TextColumn(width=66, alignment="right"),
            },
        )
        if other is not None:
            st.caption(f"**Own lengths**: {'; '.join(_ratio(x, found.baseline) for x in other[1].values())}.")
        else:
            st.caption(
                "Answers of the baseline's own length are not measured: this needs 20 prompts that two models answered, or 100 "
                "like prompts of each."
            )
        st.caption(
            "The assumed traffic of the other rows can be read and changed under **What would other traffic cost?**"
        )


def _share(found: Savings) -> str:
    most = "at most " if found.missing else ""
    return "not known" if found.savings_share is None else f"{most}{found.savings_share * 100:.2f} %"


def _ratio(ratio: LengthRatio, baseline: str) -> str:
    noun = "prompt both answered" if ratio.ground == "paired" else "like prompt"
    many = "prompts both answered" if ratio.ground == "paired" else "like prompts"
    return (
        f"{untrusted.name(baseline)} writes {ratio.output:.2f} ± {ratio.output_half:.2f} tokens for each of "
        f"{untrusted.name(ratio.model)} ({formats.plural(ratio.n, noun, many)})"
    )


def is_projected(spend: pd.DataFrame) -> bool:
    """Whether the log is long enough for the days to come."""
    return project_spend(spend, loaders.today()) is not None


def projection_card(spend: pd.DataFrame, ratio: float | None, *, is_bound: bool) -> None:
    """The next 30 days, if traffic stays: spend under production and, where it differs, the candidate; and savings.

    ``is_bound``: a part of what was paid is not known, so that spend is at least, savings at most so much, without an interval.
    """
    found = project_spend(spend, loaders.today())
    with st.container(border=True, height="stretch", gap="xsmall"):
        with st.container(gap=None):
            st.subheader("The next 30 days, if traffic stays", anchor=False)
            words = (
                "spend at the same traffic and prices" if found is None else ground(found, is_bound=is_bound)
            )
            st.caption(words[0].upper() + words[1:])
        if found is None:
            why = why_not(days_to_go_by(spend, loaders.today()))
            st.caption(f"Not measured: {why}.")
            return
        rows = [("spend", found, False)]
        if ratio is not None:
            moved = replace(
                found,
                total=found.total * ratio,
                low=None if found.low is None else found.low * ratio,
                high=None if found.high is None else found.high * ratio,
            )
            rows.append((f"at candidate {formats.threshold(state.candidate())}", moved, True))
        saved = project_spend(spend, loaders.today(), "saved")
        if saved is not None:
            rows.append(("savings", saved, False))
        if is_bound:
            rows = [
                (
                    f"{name}, at {'most' if name == 'savings' else 'least'}",
                    replace(x, low=None, high=None),
                    candidate,
                )
                for name, x, candidate in rows
            ]
        figure, finding = savings_figures.projections(rows)
        st.plotly_chart(figure, theme=None, config=theme.plotly_config(), key="projection", alt=finding)


def prices_card(policy: Policy, models: Sequence[str]) -> None:
    """Every price behind the page, with its source, its date, and when the model ends."""
    book, today = loaders.prices(policy), loaders.today()
    rows = []
    for model in models:
        rate, end = book.rate(model, today), book.end_of_life(model, today)
        rows.append(
            {
                "Model": untrusted.cell(model),
                "Input": None if rate is None else float(rate.input),
                "Output": None if rate is None else float(rate.output),
                "Cached": None if rate is None else float(rate.cache_read),
                "Above": ""
                if rate is None or rate.tier_from is None
                else f"{formats.count(rate.tier_from)} tokens",
                "Source": "not known" if rate is None else _source(rate),
                "As of": "" if rate is None else _as_of(rate, today),
                "Until": "" if end is None else formats.day(end.date, year=True),
                "Successor": "" if end is None else _successor(end.successor, book, today),
            }
        )
    with st.container(border=True, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Prices behind these figures", anchor=False)
            st.caption(
                "US dollars per million tokens, today's; each decision is priced at its own day's. The policy's own prices come first."
            )
        money = {"format": "%.3f"}
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            row_height=30,
            placeholder="not known",
            key="prices",
            alt="Prices by model, with source, date and end of life",
            column_config={
                "Input": st.column_config.NumberColumn("Input, $", **money),
                "Output": st.column_config.NumberColumn("Output, $", **money),
                "Cached": st.column_config.NumberColumn("Cache read, $", **money),
                "Above": st.column_config.TextColumn(
                    "Dearer above", help="A request with more input tokens pays higher rates on all of them."
                ),
                "Until": st.column_config.TextColumn("Served until"),
            },
        )


def _as_of(rate: Rate, today: date) -> str:
    if rate.as_of is None:
        return "no date stated"
    return formats.day(rate.as_of, year=True) + (", over 90 days" if rate.is_stale(today) else "")


def _source(rate: Rate) -> str | None:
    return untrusted.cell(rate.version if rate.source == "genai-prices" else f"{rate.source} (policy)")


def _successor(name: str, book: PriceBook, today: date) -> str:
    if not name:
        return "none known"
    rate = book.rate(name, today)
    return f"{name}, {rates(rate)}" if rate is not None else name


def rates(rate: Rate) -> str:
    """Input and output rate, USD per million tokens, for a table."""
    return f"{_plain(rate.input)} / {_plain(rate.output)}"


def _plain(value: Decimal) -> str:
    text = f"{value.normalize():f}"
    return f"{value:.2f}" if len(text.partition(".")[2]) < 2 else text
