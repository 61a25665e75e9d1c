"""``classify`` and ``route``: score a prompt, decide where it goes, log it."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import Data, Json, PolicyFile, Text, read_prompt
from router.cli.output import emit, logged_errors, say, share, table, utc, waiting
from router.errors import ClassifierError, InputError

if TYPE_CHECKING:
    from router.cli.batch import Done
    from router.core import Router
    from router.policy import Policy
    from router.types import Choice, Classification, Classifier, Decision

JSON_LINES_LIMIT = 1_000
SHOWN_BROKEN = 20


def classify(text: Text, data: Data = None, policy: PolicyFile = None, json: Json = False) -> None:
    """Score a prompt and show what the rule makes of it. Never logs."""
    from router import decide
    from router.config import data_dir
    from router.prompts import ready
    from router.resolve import build_classifier, close_classifier, load_policy

    folder = data_dir(data)
    rules = load_policy(policy, folder)
    asked = ready(read_prompt(text))
    if not asked.text.strip():
        raise InputError("the prompt is empty; expected text to classify")
    classifier = build_classifier(rules, folder)
    try:
        warm_up(classifier, rules)
        answer = classifier.classify(asked.text, rules.labels)
    finally:
        close_classifier(classifier)
    choice = decide(answer.scores, rules)
    threshold = rules.threshold_for(choice.top_label)
    if json:
        emit(
            _choice_document(choice, answer)
            | {"threshold": threshold, "policy_fingerprint": rules.fingerprint}
        )
        return
    _print_choice(
        choice.top_label,
        choice.confidence,
        threshold,
        choice.margin,
        choice.runner_up,
        choice.model_chosen,
        choice.cause,
    )
    _print_scores(answer.scores)
    calibrated = "calibrated" if answer.calibrated else "not calibrated"
    say(f"{answer.classifier} ({calibrated}), {answer.latency_ms:.1f} ms; not logged")


def route(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT|-", show_default=False, help="The prompt; - reads standard input."),
    ] = None,
    jsonl: Annotated[
        str | None,
        typer.Option(
            "--jsonl",
            metavar="FILE|-",
            show_default=False,
            help="Route every row of a JSON Lines file: 'prompt' (text) or 'messages', and an optional 'id'.",
        ),
    ] = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Decide which model should answer, and log it. No model is called, no key needed."""
    from router.core import Router

    if (text is None) == (jsonl is None):
        raise typer.BadParameter("give either a prompt (TEXT or -) or --jsonl FILE")
    if jsonl is not None:
        _route_file(jsonl, data, policy, json)
        return
    prompt = read_prompt(text or "")
    with Router(policy, data=data, source="cli") as router:
        warm_up(router.classifier, router.policy)
        decision = router.route(prompt)
    lost = sum(router.dropped.values())
    if json:
        emit(decision_document(decision) | {"logged": not lost})
    else:
        print_decision(decision)
        _print_scores(decision.scores)
    if decision.cause.startswith("classifier_"):
        say(f"note: the classifier gave no scores ({decision.error_type}); the fallback model is chosen")
    say_where(router, 1)


def _route_file(source: str, data: Path | None, policy: Path | None, json: bool) -> None:
    from router.cli.batch import BatchRouter, route_lines

    with BatchRouter(policy, data=data, source="cli") as router:
        warm_up(router.classifier, router.policy)
        done = route_lines(router, source)
    lost = sum(router.dropped.values())
    if json:
        emit(_summary_document(done, router, lost))
    else:
        _print_summary(done)
    _say_broken(done)
    if not done.lines:
        say(f"note: {'standard input' if source == '-' else source} holds no rows; nothing was routed")
    say_where(router, done.routed)
    if done.broken:
        raise typer.Exit(1)


def _say_broken(done: Done) -> None:
    for line, why in done.broken[:SHOWN_BROKEN]:
        say(f"line {line}: {why}")
    if len(done.broken) > SHOWN_BROKEN:
        say(
            f"... and {len(done.broken) - SHOWN_BROKEN:,} more broken lines; --json lists {JSON_LINES_LIMIT:,} of them"
        )
    if done.broken:
        say(
            f"error: {len(done.broken):,} of {done.lines:,} lines could not be read; {done.routed:,} were routed"
        )
    if done.undecodable:
        say(
            f"note: lines that are not all UTF-8: {done.undecodable:,}; what could not be read stands as U+FFFD"
        )
    if done.unscored:
        say(
            f"note: prompts without scores: {done.unscored:,} ({', '.join(sorted(done.errors))}); they go to the fallback model"
        )


def warm_up(classifier: Classifier, policy: Policy) -> None:
    """Load a local classifier's weights first, so that the time logged is that of classifying alone."""
    if hasattr(classifier, "warm_up"):
        # Labels of one's own get a head fitted here, once, which takes seconds.
        with (
            contextlib.suppress(ClassifierError),  # the decision itself will say it
            waiting("preparing the classifier for these labels"),
        ):
            classifier.warm_up(policy.labels)


def say_where(router: Router, n: int) -> None:
    """Say where the rows of a closed router went; exit 1 when one of them was lost."""
    from router.log.lock import holder
    from router.log.schema import DATABASE

    lost = sum(router.dropped.values())
    rows = "1 decision" if n == 1 else f"{n:,} decisions"
    if lost:
        say(
            f"error: {lost:,} of {rows} could not be logged in {router.data} ({', '.join(router.dropped)}); "
            "'routescope doctor' says more"
        )
        raise typer.Exit(1)
    if n == 0:
        return
    who = holder(router.data)
    if who is not None and who.stays:
        say(
            f"{rows} logged in {router.data}/spool; the dashboard (PID {who.pid}) shows them within two seconds"
        )
    elif logged_errors():
        say(
            f"{rows} logged in {router.data}/spool, not in {DATABASE} yet; 'routescope ingest' brings them there"
        )
    else:
        say(f"{rows} logged in {router.data}/{DATABASE}")


def decision_document(decision: Decision) -> dict[str, Any]:
    """A decision as a JSON document, without its prompt."""
    row = asdict(decision)
    del row["prompt"]
    return row | {"decided_at": utc(decision.decided_at)}


def print_decision(decision: Decision) -> None:
    """Print what was decided."""
    _print_choice(
        decision.top_label,
        decision.confidence,
        decision.threshold,
        decision.margin,
        decision.runner_up,
        decision.model_chosen,
        decision.cause,
    )


def _print_choice(
    top: str | None,
    confidence: float | None,
    threshold: float,
    margin: float | None,
    runner_up: str | None,
    model: str,
    cause: str,
) -> None:
    rows = [("model", model), ("cause", cause)]
    if top is not None and confidence is not None:
        rows += [("top label", top), ("confidence", f"{confidence:.4f}, threshold {threshold:g}")]
    if margin is not None:
        rows.append(("margin", f"{margin:.4f} over {runner_up}"))
    table(("decision", ""), rows)


def _print_scores(scores: Any) -> None:
    if scores:
        typer.echo()
        ranked = sorted(scores.items(), key=lambda item: -item[1])
        table(("label", "score"), [(name, f"{value:.4f}") for name, value in ranked], right=("score",))


def _choice_document(choice: Choice, answer: Classification) -> dict[str, Any]:
    return asdict(choice) | {
        "scores": dict(answer.scores),
        "classifier": answer.classifier,
        "calibrated": answer.calibrated,
        "classify_ms": answer.latency_ms,
        "classifier_cost_usd": answer.cost_usd,
    }


def _summary_document(done: Done, router: Router, lost: int) -> dict[str, Any]:
    return {
        "data": router.data,
        "policy_fingerprint": router.policy.fingerprint,
        "lines": done.lines,
        "routed": done.routed,
        "logged": done.routed - lost,
        "fallback": done.fallback,
        "no_scores": done.unscored,
        "by_label": dict(done.labels),
        "by_model": dict(done.models),
        "classify_p50_ms": done.percentile(0.5),
        "classify_p95_ms": done.percentile(0.95),
        "seconds": done.seconds,
        "n_broken": len(done.broken),
        "broken": [{"line": line, "reason": why} for line, why in done.broken[:JSON_LINES_LIMIT]],
    }


def _print_summary(done: Done) -> None:
    if not done.routed:
        return

    def rows(counts: Counter[str]) -> list[tuple[str, str, str]]:
        return [(name, f"{n:,}", share(n / done.routed)) for name, n in counts.most_common()]

    table(("label", "decisions", "share"), rows(done.labels), right=("decisions", "share"))
    typer.echo()
    table(("model", "decisions", "share"), rows(done.models), right=("decisions", "share"))
    typer.echo()
    typer.echo(
        f"{done.routed:,} decisions in {done.seconds:.1f} s; fallback {share(done.fallback / done.routed)}; "
        f"classifier p50 {done.percentile(0.5) or 0:.1f} ms, p95 {done.percentile(0.95) or 0:.1f} ms"
    )
