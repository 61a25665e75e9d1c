"""Try a prompt: what the classifier says, what the rule makes of it, and, with a key, what the model answers."""

from __future__ import annotations

from dataclasses import asdict

import pandas as pd
import streamlit as st

from dashboard import describe, figures, formats, frame, loaders, playground, state, text, theme, untrusted
from dashboard.playground import Tried
from router.config import KEY_VARIABLES
from router.core import Router
from router.errors import ClassifierError, ProviderError, RouterError
from router.policy import Policy
from router.types import Decision

PROMPT, OUTPUT, LOG = "playground_prompt", "playground_output", "playground_log"
EXAMPLE = "Compare leasing and buying a van over five years, for a bakery that closes in August. Be blunt."


def ask_form(policy: Policy) -> str:
    """Prompt, reply length and whether to log; returns the prompt."""
    st.session_state.setdefault(PROMPT, EXAMPLE)
    prompt = st.text_area("Prompt", key=PROMPT, height=150, max_chars=100_000)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.session_state.setdefault(OUTPUT, 300)
        st.number_input(
            "Reply length, tokens",
            1,
            100_000,
            key=OUTPUT,
            step=50,
            width=170,
            help="Assumed, for the cost estimates only. Input tokens are assumed too: one for four characters.",
        )
        st.space("stretch")
        st.button("Run", icon=":material/play_arrow:", shortcut="Ctrl+Enter", key="run")
    st.caption(
        f"Classifier: {untrusted.name(policy.classifier)}. Replies need a provider key; without one only the decision is shown."
    )
    return prompt


def policy_card(policy: Policy, candidate: Policy, order: list[str]) -> None:
    """The policy in use, with the lines that the candidate gives."""
    with st.container(border=True, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("Policy in use", anchor=False)
            st.caption(
                f"{untrusted.name(formats.fingerprint(policy.fingerprint, policy.name))}, candidate threshold {formats.threshold(candidate.threshold)}"
            )
        chips = theme.chips(policy.label_names, order)
        table = pd.DataFrame(
            {
                "Label": [[untrusted.cell(label.name)] for label in policy.labels],
                "Model": [untrusted.cell(label.model) for label in policy.labels],
                "Examples": [len(label.examples) for label in policy.labels],
                "Threshold": [
                    formats.threshold(candidate.threshold_for(label.name)) for label in policy.labels
                ],
            }
        )
        st.dataframe(
            table,
            hide_index=True,
            row_height=30,
            key="policy_table",
            alt="Labels, models and thresholds",
            column_config={
                "Label": st.column_config.MultiselectColumn(options=chips["options"], color=chips["color"]),
                "Examples": st.column_config.NumberColumn(
                    help="Prompts the local classifier learns this label from; 20 make it ready."
                ),
                "Threshold": st.column_config.TextColumn(alignment="right"),
            },
        )


def decision_card(tried: Tried, policy: Policy, candidate: Policy, order: list[str]) -> None:
    """Scores against both lines, and the decision step by step."""
    found, choice = tried.classification, tried.candidate
    with st.container(border=True):
        with st.container(gap=None):
            st.subheader("The decision", anchor=False)
            honest = "calibrated" if found.calibrated else "not calibrated"
            went = "falls back to" if choice.is_fallback else "goes to"
            st.caption(
                f"Candidate: {went} {untrusted.name(choice.model_chosen)}. Production: {untrusted.name(tried.production.model_chosen)}. "
                f"{formats.duration(found.latency_ms)}, {untrusted.name(found.classifier)}, {honest}"
            )
        line = policy.threshold_for(choice.top_label)
        tried_line = candidate.threshold_for(choice.top_label)
        st.plotly_chart(
            figures.score_bars(found.scores, choice.top_label, order, production=line, candidate=tried_line),
            theme=None,
            config=theme.plotly_config(),
            key="playground_scores",
            alt=f"Scores of {len(found.scores)} labels; the highest is {formats.score(choice.confidence)}",
        )
        steps(choice, tried_line)


def steps(choice: object, line: float) -> None:
    """Top label, margin, threshold, model: the rule in four steps."""
    gap = choice.confidence - line
    against = f"passed by {formats.score(gap)}" if gap >= 0 else f"missed by {formats.score(-gap)}"
    over = "the only label" if choice.runner_up is None else f"over {untrusted.name(choice.runner_up)}"
    cards = (
        ("1 Top label", untrusted.name(choice.top_label), formats.score(choice.confidence)),
        ("2 Margin", formats.NOT_MEASURED if choice.margin is None else formats.score(choice.margin), over),
        ("3 Threshold", against, f"candidate {formats.threshold(line)}"),
        ("4 Model", untrusted.name(choice.model_chosen), f"cause: {describe.cause(choice.cause)}"),
    )
    grid = st.grid(columns=4, min_column_width=120)
    for title, value, under in cards:
        with grid.cell(), st.container(gap=None):
            st.caption(title)
            st.markdown(f"**{value}**")
            st.caption(under)


def cost_card(prompt: str, tried: Tried, policy: Policy) -> None:
    """What the prompt would cost with each model."""
    output = int(st.session_state.get(OUTPUT) or 300)
    rows = playground.estimates(prompt, output, policy, tried, loaders.prices(policy), loaders.today())
    with st.container(border=True, gap="xsmall"):
        with st.container(gap=None):
            st.subheader("What it would cost", anchor=False)
            frame.badged(
                theme.grade_chip("assumed"),
                f"{formats.count(max(len(prompt) // playground.CHARS_PER_TOKEN, 1))} tokens in, {formats.count(output)} out, for every model",
            )
        table = pd.DataFrame(
            {
                "Model": [untrusted.cell(row.model) for row in rows],
                "Role": [", ".join(row.roles) for row in rows],
                "Cost": [None if row.cost_usd is None else float(row.cost_usd) * 1000 for row in rows],
            }
        )
        st.dataframe(
            table,
            hide_index=True,
            row_height=30,
            placeholder="price not known",
            key="cost_table",
            alt="Assumed cost by model",
            column_config={
                "Cost": st.column_config.NumberColumn(
                    "Cost, m$", format="%.3f", help="Thousandths of a US dollar"
                )
            },
        )


def reply_card(prompt: str, model: str, role: str, policy: Policy) -> None:
    """Ask one model, live, or say why that is not possible."""
    possible, provider = playground.can_call(model, policy, loaders.prices(policy))
    with st.container(border=True, height="stretch"):
        with st.container(gap=None):
            st.markdown(f"**{untrusted.name(model)}**")
            st.caption(role)
        if not possible:
            variable = KEY_VARIABLES[provider][0] if provider else ""
            st.caption(
                text.missing_key(provider, variable)
                if provider
                else f"No provider is known for {untrusted.name(model)}: name one in the policy."
            )
            return
        if st.button(f"Ask {untrusted.name(model)}", key=f"ask_{role}"):
            call(prompt, model, policy)


def call(prompt: str, model: str, policy: Policy) -> None:
    """One live call; text as it arrives, never as markdown."""
    chosen = state.settings()
    logged = bool(st.session_state.get(LOG))
    used = playground.classifier(policy.classifier, str(chosen.data), policy)
    shown = st.empty()
    pieces: list[str] = []
    try:
        with Router(policy, classifier=used, data=chosen.data, source="playground", log=logged) as client:
            # The playground asks the model on the card, whatever the rule says, so the row is logged as forced.
            stream = client.stream(prompt, model=model)
            for piece in stream:
                pieces.append(piece)
                shown.text(untrusted.visible("".join(pieces)))
            answer = stream.reply
    except RouterError as error:
        st.caption(untrusted.name(str(error), 300))
        if isinstance(error, ProviderError) and error.decision is not None:
            show_failed(error.decision)
        return
    if answer is None:
        return
    show_failed(answer.decision)
    usage = answer.usage
    tokens = (
        formats.NOT_MEASURED
        if usage is None
        else f"{formats.count(usage.input_tokens)} in, {formats.count(usage.output_tokens)} out"
    )
    cost = formats.NOT_MEASURED if answer.cost_usd is None else f"{formats.milli_usd(answer.cost_usd)} m$"
    kept = "logged as playground" if logged else "not logged"
    st.caption(
        f"{tokens} · {cost} · {formats.duration(answer.decision.total_ms)} · {answer.outcome} · {kept}"
    )


def show_failed(decision: Decision) -> None:
    """A line for each request that failed before the last one."""
    for failed in decision.failed_attempts:
        st.text(untrusted.visible(f"Failed first: {describe.attempt(asdict(failed))}"))


def log_once(prompt: str, policy: Policy) -> None:
    """Write this one decision to the log, because the reader asked for it."""
    chosen = state.settings()
    used = playground.classifier(policy.classifier, str(chosen.data), policy)
    with Router(policy, classifier=used, data=chosen.data, source="playground") as client:
        client.route(prompt)
        lost = client.dropped
    st.session_state["playground_logged"] = (
        "The decision could not be written." if lost else "Logged with source playground."
    )


def main() -> None:
    """Draw the page."""
    policy = loaders.policy_in_view()
    candidate = policy.with_threshold(state.candidate())
    order = list(dict.fromkeys([*policy.label_names, *loaders.labels_seen()]))
    frame.header("Playground", "Nothing here is written to the log unless you ask for it.")
    left, right = frame.halves()
    with left:
        prompt = ask_form(policy)
        policy_card(policy, candidate, order)
    with right:
        try:
            with st.spinner("Classifying"):
                tried = playground.attempt(prompt, policy, candidate, str(state.settings().data))
        except ClassifierError as error:
            with st.container(border=True):
                st.subheader("No scores", anchor=False)
                st.markdown(
                    f"The router would send this prompt to **{untrusted.name(policy.fallback_model)}**."
                )
                st.code(untrusted.visible(str(error)), language=None, wrap_lines=True)
            return
        decision_card(tried, policy, candidate, order)
        cost_card(prompt, tried, policy)
        asked = list(dict.fromkeys([tried.candidate.model_chosen, tried.production.model_chosen]))
        grid = st.grid(columns=len(asked), min_column_width=260)
        for model in asked:
            role = "candidate" if model == tried.candidate.model_chosen else "production"
            role = "candidate and production" if len(asked) == 1 else role
            with grid.cell():
                reply_card(prompt, model, role, policy)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.toggle(
                "Log live calls",
                key=LOG,
                help="Off: a call from here leaves no row. On: its row has source playground.",
            )
            st.button("Log this decision", key="log_decision", on_click=log_once, args=(prompt, policy))
            if cap := playground.cap(policy, state.settings().data):
                st.caption(cap)
            if said := st.session_state.pop("playground_logged", None):
                st.caption(said)


main()
