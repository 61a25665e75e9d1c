"""The scenario card of the Savings page: assumed traffic, edited in a table, worked out by the price book."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboard import formats, frame, loaders, untrusted
from dashboard.savings_cards import rates
from router.analysis.scenario_file import Plan, PlanRow, changed, plan_from
from router.analysis.scenarios import DAYS, Scenario, preset_plan, scenario, scenarios, work_out
from router.errors import InputError
from router.policy import Policy
from router.prices import PriceBook, end_of_life_table

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

PARAMETER = "scenario"
"""Name in the address: the whole scenario, so that a link shows what its sender saw."""

_PLAN, _VERSION = "scenario_plan", "scenario_version"
_OWN = "own"
MAX_ADDRESS = 4_000


@st.fragment
def card(policy: Policy) -> None:
    """The editor and its result; an edit draws nothing else of the page again."""
    with st.container(border=True, gap="small", key="scenario"):
        with st.container(gap=None):
            st.subheader("What would other traffic cost?", anchor=False)
            st.caption(
                "Assumed traffic at the price book's rates: nothing here is measured. Change any cell; shares sum to 100 %."
            )
        base, version = _base()
        plan, faults, beside = _edited(base, version, policy)
        if faults or plan is None:
            st.markdown(
                "**Not worked out.** "
                + "; ".join(untrusted.name(fault[:1].upper() + fault[1:], 200) for fault in faults)
            )
            return
        st.session_state[_PLAN] = plan
        _keep_in_address(plan)
        found = _worked_out(plan, loaders.prices(policy))
        with beside:
            _lines(found)
        _totals(found)
        _ground(found, loaders.today())
        with st.expander("Keep this scenario"):
            st.caption("Save as own.toml; `routescope scenario --file own.toml` gives the same figures.")
            st.code(untrusted.visible(plan.to_toml()), language=None, wrap_lines=True)


def encode(plan: Plan) -> str:
    """A plan as one line of text, for the address."""
    rows = [
        [x.label, str(x.share), x.model, x.input_tokens, x.output_tokens, int(x.free) + 2 * int(x.batch)]
        for x in plan.rows
    ]
    day = None if plan.prices_date is None else plan.prices_date.isoformat()
    shape = None if plan.baseline_tokens is None else list(plan.baseline_tokens)
    document = [plan.requests, plan.baseline, shape, str(plan.classifier_usd), day, rows]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def decode(text: str) -> Plan:
    """The plan of an address.

    Raises
    ------
    InputError
        It is none; the page starts from the guide's table then.
    """
    try:
        requests, baseline, shape, classifier, day, rows = json.loads(text[:MAX_ADDRESS])
        raw: dict[str, Any] = {
            "requests": requests,
            "baseline": baseline,
            "classifier_usd": classifier,
            "rows": [
                {"label": a, "share": b, "model": c, "input": d, "output": e, "free": f & 1, "batch": f & 2}
                for a, b, c, d, e, f in rows
            ],
        }
        if shape is not None:
            raw["baseline_tokens"] = dict(zip(("input", "output"), shape, strict=True))
        if day is not None:
            raw["prices_date"] = date.fromisoformat(day)
    except (ValueError, TypeError):
        raise InputError("the scenario in the address cannot be read") from None
    return plan_from(raw, "scenario")


def _base() -> tuple[Plan, int]:
    """What the table starts from: it stays the same while it is edited, else the edits would be lost."""
    state = st.session_state
    version = state.setdefault(_VERSION, 0)
    if f"scenario_base_{version}" in state and f"scenario_rows_{version}" in state:
        return state[f"scenario_base_{version}"], version
    plan = state.get(_PLAN)
    if plan is None:
        plan = preset_plan("guide")
        if text := st.query_params.get(PARAMETER):
            try:
                plan = decode(text)
            except InputError as error:
                st.caption(f"{untrusted.name(str(error), 200)}. This is the guide's table.")
    state.pop(f"scenario_base_{version}", None)
    version += 1
    state[_VERSION] = version
    state[f"scenario_base_{version}"] = plan
    state[_PLAN] = plan
    return plan, version


def _start_from(name: str) -> None:
    """Start over from a packaged scenario; for a button."""
    state = st.session_state
    state[_PLAN] = preset_plan(name)
    state.pop(f"scenario_base_{state[_VERSION]}", None)


def _edited(base: Plan, version: int, policy: Policy) -> tuple[Plan | None, list[str], DeltaGenerator]:
    """The plan as it stands in the widgets, or what is wrong with it; and the place beside the table."""
    models = _models(base, policy)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        for item in scenarios():
            st.button(item.title, key=f"scenario_from_{item.name}", on_click=_start_from, args=(item.name,))
        requests = st.number_input(
            "Requests a day",
            1,
            10**12,
            base.requests,
            step=1_000,
            key=f"scenario_requests_{version}",
            width=140,
        )
        baseline = st.selectbox(
            "Baseline",
            models,
            index=models.index(base.baseline),
            key=f"scenario_baseline_{version}",
            format_func=lambda name: f"All to {untrusted.cell(name)}",
            width=200,
        )
        kinds = ("Tokens of each line", "The same for all")
        kind = st.selectbox(
            "Its requests have",
            kinds,
            index=int(base.baseline_tokens is not None),
            key=f"scenario_shape_{version}",
            width=150,
        )
        shape = base.baseline_tokens or (500, 500)
        if kind == kinds[1]:
            shape = tuple(
                int(
                    st.number_input(
                        f"{side} tokens",
                        0,
                        10_000_000,
                        value,
                        step=50,
                        key=f"scenario_{side}_{version}",
                        width=105,
                    )
                )
                for side, value in zip(("Input", "Output"), shape, strict=True)
            )
        classifier = st.text_input(
            "Classifier, $ each",
            f"{base.classifier_usd:f}",
            key=f"scenario_classifier_{version}",
            width=140,
        )
        days = [*([base.prices_date] if base.prices_date else []), None]
        prices_date = st.selectbox(
            "Prices of",
            days,
            key=f"scenario_prices_{version}",
            format_func=lambda day: "Today" if day is None else formats.day(day, year=True),
            width=120,
        )
    left, right = frame.wide_and_narrow()
    with left:
        table = st.data_editor(
            _table(base),
            key=f"scenario_rows_{version}",
            num_rows="dynamic",
            hide_index=True,
            row_height=32,
            alt="The scenario's lines: label, share, model, tokens",
            column_config=_columns(models),
        )
    try:
        plan = changed(
            base,
            requests=int(requests),
            baseline=str(baseline),
            baseline_tokens=shape if kind == kinds[1] else None,
            classifier_usd=_decimal(classifier, "classifier"),
            prices_date=prices_date,
            rows=tuple(_rows(table)),
        )
    except InputError as error:
        return None, [line.removeprefix("scenario: ") for line in str(error).splitlines()], right
    same = replace(plan, name=base.name, title=base.title, assumptions=base.assumptions, source=base.source)
    return (base if same == base else plan), [], right


def _models(base: Plan, policy: Policy) -> list[str]:
    successors = [str(entry["successor"]) for entry in end_of_life_table().values() if entry["successor"]]
    own = [base.baseline, *(row.model for row in base.rows)]
    return list(dict.fromkeys([*own, *policy.model_names, *loaders.models_seen(), *sorted(set(successors))]))


def _table(plan: Plan) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Label": [row.label for row in plan.rows],
            "Share": [float(row.share * 100) for row in plan.rows],
            "Model": [row.model for row in plan.rows],
            "Input": [row.input_tokens for row in plan.rows],
            "Output": [row.output_tokens for row in plan.rows],
            "Free": [row.free for row in plan.rows],
            "Batch": [row.batch for row in plan.rows],
        }
    )


def _columns(models: list[str]) -> dict[str, Any]:
    columns = st.column_config
    return {
        "Label": columns.TextColumn(required=True, max_chars=64),
        "Share": columns.NumberColumn(
            "Share, %", min_value=0, max_value=100, step=0.01, required=True, format="%.2f"
        ),
        "Model": columns.SelectboxColumn(options=models, required=True, width=180),
        "Input": columns.NumberColumn(
            "Input tokens", min_value=0, max_value=10_000_000, step=1, required=True, default=500
        ),
        "Output": columns.NumberColumn(
            "Output tokens", min_value=0, max_value=10_000_000, step=1, required=True, default=500
        ),
        "Free": columns.CheckboxColumn(
            default=False, help="Counted as free, as the guide counts simple requests."
        ),
        "Batch": columns.CheckboxColumn(
            default=False, help="At the price of the provider's batch interface; not known for every model."
        ),
    }


def _rows(table: pd.DataFrame) -> list[PlanRow]:
    rows = []
    for row in table.to_dict("records"):
        blank = [
            key
            for key in ("Label", "Share", "Model", "Input", "Output")
            if pd.isna(row[key]) or row[key] == ""
        ]
        if "Label" in blank and "Model" in blank:
            continue  # a line that was just added
        if blank:
            raise InputError(f"a line lacks {', '.join(key.lower() for key in blank)}")
        rows.append(
            PlanRow(
                str(row["Label"]),
                _decimal(row["Share"], "share") / 100,
                str(row["Model"]),
                int(row["Input"]),
                int(row["Output"]),
                bool(row["Free"]) if not pd.isna(row["Free"]) else False,
                bool(row["Batch"]) if not pd.isna(row["Batch"]) else False,
            )
        )
    return rows


def _decimal(value: object, what: str) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise InputError(f"{what}: found {str(value)[:20]!r}, expected a number like 0.0001") from None


def _keep_in_address(plan: Plan) -> None:
    """The scenario goes into the address unless it is a packaged one, or too long for it."""
    text = encode(plan)
    if plan.name != _OWN or len(text) > MAX_ADDRESS:
        st.query_params.pop(PARAMETER, None)
    elif st.query_params.get(PARAMETER) != text:
        st.query_params[PARAMETER] = text


def _worked_out(plan: Plan, prices: PriceBook) -> Scenario:
    # A packaged one keeps the prices it holds, to the cent, whatever the installed price book says.
    return scenario(plan.name) if plan.name != _OWN else work_out(plan, prices, loaders.today())


def _totals(found: Scenario) -> None:
    """Both sides and their difference, a day and in 30 days."""
    plus = "" if found.routed_usd is not None else "+"
    share = (
        "not known" if found.savings_share is None else f"{found.savings_share * 100:.2f} % of the baseline"
    )
    routed = None if found.routed_usd is None and not found.known_usd else found.known_usd
    month = None if found.savings_usd is None else found.savings_usd * DAYS
    cards = (
        ("Baseline a day", _usd(found.baseline_usd), _month(found.baseline_usd)),
        ("Routed a day", _usd(routed) + (plus if routed is not None else ""), _month(routed) + plus),
        ("Savings a day", _usd(found.savings_usd), share),
        (f"Savings in {DAYS} days", _usd(month), "if every day is like this one"),
    )
    grid = st.grid(columns=4, min_column_width=260)
    for title, value, under in cards:
        with grid.cell():
            st.metric(title, value, delta_description=under, border=True)


def _lines(found: Scenario) -> None:
    """What each line costs a day, and at which price."""
    st.dataframe(
        pd.DataFrame(
            {
                "Label": [untrusted.cell(part.label) for part in found.parts],
                "Day": ["free" if part.free else _usd(part.cost_usd).lower() for part in found.parts],
                "Price": ["not known" if part.rate is None else rates(part.rate) for part in found.parts],
            }
        ),
        hide_index=True,
        row_height=32,
        key="scenario_lines",
        alt="What each line costs a day, and its price",
        column_config={
            "Day": st.column_config.TextColumn("Cost a day", alignment="right"),
            "Price": st.column_config.TextColumn(
                "In / out", alignment="right", help="US dollars per million tokens"
            ),
        },
    )


def _ground(found: Scenario, today: date) -> None:
    """What it rests on, in words."""
    lines = [untrusted.name(found.assumptions, 1_500)]
    if found.unknown:
        names = ", ".join(untrusted.name(name) for name in found.unknown)
        lines.append(f"No price is known for {names}; a plus marks a lower bound.")
    lines.append(
        f"Prices of {formats.day(found.prices_date, year=True)}, {untrusted.name(found.prices_source)}."
    )
    old = [name for name, rate in found.rates.items() if rate.version != "preset" and rate.is_stale(today)]
    if old:
        lines.append(f"Looked up more than 90 days ago: {', '.join(untrusted.name(name) for name in old)}.")
    st.caption(" ".join(lines))


def _usd(value: Decimal | None) -> str:
    """To the cent, and further below one."""
    if value is None:
        return "Not known"
    return f"${value:,.2f}" if value == 0 or abs(value) >= 1 else f"${value:.4f}"


def _month(value: Decimal | None) -> str:
    return "in 30 days: not known" if value is None else f"{_usd(value * DAYS)} in 30 days"
