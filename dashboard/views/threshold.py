"""Where should the line be? Drag it, and everything that depends on it follows."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from dashboard import formats, frame, loaders, state, text, theme, untrusted
from dashboard.components.threshold import cheapest, payload, threshold_curve
from router import policy_edit
from router.analysis.auditing import Sample
from router.errors import RouterError
from router.policy import Policy

CURVE = "threshold_curve"
SAID = "threshold_said"
FLIPS_SHOWN = 100
NAMES_SHOWN = 4


def pull() -> None:
    """Copy the dragged value into the candidate, which the URL and the number input show."""
    value = (st.session_state.get(CURVE) or {}).get("t")
    if value is not None:
        state.set_candidate(float(value))


def controls(policy: Policy, best: float | None) -> None:
    """Snap, back, save and copy, at the right of the title."""
    with frame.controls():
        st.button(
            "Snap to cheapest",
            shortcut="S",
            disabled=best is None,
            key="snap",
            width="content",
            on_click=state.set_candidate,
            args=(best if best is not None else policy.threshold,),
            help="The threshold with the least cost at these tokens and prices. Cost is not quality.",
        )
        st.button(
            "Back to production",
            shortcut="B",
            key="back",
            width="content",
            on_click=state.set_candidate,
            args=(policy.threshold,),
        )
        if st.button(
            "Save to policy", key="save", width="content", disabled=state.candidate() == policy.threshold
        ):
            save_dialog(state.candidate())
        with st.popover("Copy", width="content"):
            st.caption("The line of the policy file")
            st.code(f"threshold = {state.candidate()!r}", language="toml")
            st.caption("Python")
            st.code(f'Policy.load("policy.toml").with_threshold({state.candidate()!r})', language="python")


@st.dialog("Save the candidate to the policy", width="large")
def save_dialog(candidate: float) -> None:
    """Show the change of the file, then write it."""
    chosen = state.settings()
    try:
        old = policy_edit.source_text(chosen.policy_file, chosen.data)
        new = policy_edit.with_threshold_text(old, candidate)
    except RouterError as error:
        st.markdown("The policy cannot be changed.")
        st.code(untrusted.visible(str(error)), language=None, wrap_lines=True)
        return
    target = state.policy_file()
    st.caption(
        "New decisions follow the new line once their process loads the policy again. The old file is kept beside it."
    )
    st.code(untrusted.visible(policy_edit.diff(old, new)), language="diff", wrap_lines=True)
    st.text(f"File: {target}")
    if st.button("Write the file", key="confirm_save", on_click=write, args=(old, new)):
        st.rerun()  # closes the dialog


def write(old: str, new: str) -> None:
    """Write the policy; what came of it is told once on the page."""
    target = state.policy_file()
    try:
        chosen = state.settings()
        policy_edit.save(chosen.data, new, expected_old=old, policy_file=chosen.policy_file)
        said = f"Saved to {target.name}. The former file is kept beside it."
    except (RouterError, OSError) as error:
        said = (
            str(error)
            if isinstance(error, RouterError)
            else f"{target.name}: {error.strerror or type(error).__name__}"
        )
    st.session_state[SAID] = said


def sentence(policy: Policy) -> str:
    """What the page answers, in one line."""
    model = f"**{untrusted.name(policy.fallback_model)}**"
    said = f"Below the line {model} answers. Drag it, or use ← and →."
    own = [f"**{untrusted.name(label.name)}**" for label in policy.labels if label.threshold is not None]
    if not own:
        return said
    if len(own) == 1:
        return f"{said} {own[0]} keeps a threshold of its own."
    if len(own) > NAMES_SHOWN:
        own = [*own[:NAMES_SHOWN], f"{len(own) - NAMES_SHOWN} more"]
    return f"{said} {', '.join(own[:-1])} and {own[-1]} keep thresholds of their own."


def changes(policy: Policy, candidate: Policy) -> None:
    """The decisions that another line sends to another model, and from where to where."""
    chosen = state.current_filter()
    moves = loaders.flip_counts(chosen, candidate)
    moved = moves[moves["production_model"] != moves["candidate_model"]]
    changed, crossed = int(moved["n"].sum()), int(moves["n"].sum())
    left, right = frame.wide_and_narrow()
    with left:
        words = st.container(gap=None)
        words.subheader("Decisions that change model", anchor=False)
        if candidate.threshold == policy.threshold:
            words.caption(
                "None: the candidate is the production threshold. Move the line to see what it changes."
            )
            return
        kept = (
            f" {formats.count(crossed - changed)} more cross the line but keep their model."
            if crossed > changed
            else ""
        )
        shown = f", the first {FLIPS_SHOWN} shown" if changed > FLIPS_SHOWN else ""
        words.caption(
            f"{formats.count(changed)} of {formats.count(loaders.log_counts(chosen))}, nearest to the candidate line first{shown}.{kept}"
        )
        if changed:
            flip_table(loaders.flips(chosen, candidate, FLIPS_SHOWN), policy)
    with right:
        with st.container(gap=None):
            st.subheader("From model to model", anchor=False)
            st.caption("Decisions in the period, change in spend")
        if changed:
            move_table(moved)


def quality_line(found: Sample, *, part: bool) -> None:
    """What reviews say so far, and where they are made."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(text.reviewed(found, part=part), width="content")
        st.page_link(**state.link("review", queue="Audit"), label="Review decisions", width="content")


def flip_table(rows: pd.DataFrame, policy: Policy) -> None:
    """The decisions themselves."""
    order = list(dict.fromkeys([*policy.label_names, *loaders.labels_seen()]))
    chips = theme.chips(list(rows["top_label"].unique()), order)
    table = pd.DataFrame(
        {
            "Prompt": [untrusted.prompt_cell(p) for p in rows["prompt"]],
            "Label": [[untrusted.cell(label)] for label in rows["top_label"]],
            "Confidence": rows["confidence"],
            "Margin": rows["margin"],
            "Production": [untrusted.cell(m) for m in rows["production_model"]],
            "Candidate": [untrusted.cell(m) for m in rows["candidate_model"]],
            "Change": rows["cost_change"].astype("float64") * 1000,
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        row_height=30,
        height=min(38 + 30 * len(table), 338),
        placeholder="not measured",
        key="flips",
        alt=f"{len(table)} decisions that change model, nearest to the line first",
        column_config={
            "Prompt": st.column_config.TextColumn(width=236),
            "Label": st.column_config.MultiselectColumn(
                options=chips["options"], color=chips["color"], width=86
            ),
            "Confidence": st.column_config.NumberColumn(format="%.4f", width=80),
            "Margin": st.column_config.NumberColumn(format="%.4f", width=62),
            "Production": st.column_config.TextColumn(width=136),
            "Candidate": st.column_config.TextColumn(width=136),
            "Change": st.column_config.NumberColumn(
                "Cost change, m$",
                format="%+.3f",
                width=106,
                help="Thousandths of a US dollar for this decision, at the same tokens.",
            ),
        },
    )


def move_table(moves: pd.DataFrame) -> None:
    """How many decisions go from which model to which."""
    table = pd.DataFrame(
        {
            "Move": [
                f"{untrusted.cell(a, 40)} → {untrusted.cell(b, 40)}"
                for a, b in zip(moves["production_model"], moves["candidate_model"], strict=True)
            ],
            "Decisions": moves["n"],
            "Spend": moves["cost_change"].astype("float64"),
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        row_height=30,
        placeholder="not measured",
        key="moves",
        alt="Moves between models",
        column_config={
            "Move": st.column_config.TextColumn("Production → candidate", width=170),
            "Decisions": st.column_config.NumberColumn(format="localized", width=70),
            "Spend": st.column_config.NumberColumn("Spend, $", format="%+.2f", width=66),
        },
    )


def main() -> None:
    """Draw the page."""
    policy = loaders.policy_in_view()
    frame.header("Threshold", sentence(policy))
    if said := st.session_state.pop(SAID, None):
        st.toast(untrusted.name(said, 300))
    chosen = state.current_filter()
    if loaders.log_counts(chosen) == 0:
        frame.show_nothing_found()
        return
    cells = loaders.cells(chosen, policy=policy)
    order = list(dict.fromkeys([*policy.label_names, *loaders.labels_seen()]))
    today = loaders.today()
    models = {
        name: {"priced": loaders.prices(policy).rate(name, today) is not None} for name in policy.model_names
    }
    summary = loaders.summary(chosen)
    quality, audit, is_part = loaders.quality(chosen, policy)
    body = payload(
        cells,
        policy,
        candidate=state.candidate(),
        colors=theme.label_slots(order),
        models=models,
        unscored=int(summary["n"] - summary["n_scored"]),
        reviewed=len(audit.audit),
        quality=quality,
        part=is_part,
    )
    controls(policy, cheapest(body))
    threshold_curve(body, candidate=state.candidate(), key=CURVE, on_change=pull)
    if summary["n_assumed"]:
        frame.badged(
            theme.grade_chip("assumed"),
            f"Token counts of {formats.count(summary['n_assumed'])} decisions are assumed, not measured. "
            "Costs take the same tokens for every model.",
        )
    elif summary["n_costed"]:
        frame.badged(
            theme.grade_chip("estimated"),
            "Costs under another threshold take each decision's tokens as they were.",
        )
    quality_line(audit, part=is_part)
    changes(policy, policy.with_threshold(state.candidate()))


main()
