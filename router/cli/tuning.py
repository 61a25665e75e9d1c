"""``tune``: the best threshold under an objective."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.errors import Infeasible, NotEnoughData
from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, money, say, share, table
from router.cli.promising import (
    Alpha,
    Delta,
    Look,
    LossKind,
    Partial,
    Refused,
    Seed,
    audit_sample,
    certificates,
    newest_ground,
    say_mixed,
)
from router.cli.reading import _rules, enough, say_ground
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.forecast import ShareForecast
    from router.analysis.sweep import Sweep
    from router.analysis.tune import NoOptimum, Optimum
    from router.analysis.tune_labels import LabelThresholds
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.policy import Policy

OBJECTIVES = ("fallback", "certified", "cost")


def tune(
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="|".join(OBJECTIVES),
            help="Cheapest with a limit on fallbacks, cheapest with a certified risk, or least cost with prices on events.",
        ),
    ] = "fallback",
    max_fallback: Annotated[
        float, typer.Option("--max-fallback", help="Most of the decisions that may fall back (fallback).")
    ] = 0.2,
    alpha: Alpha = 0.1,
    delta: Delta = 0.1,
    loss: LossKind = "label",
    look: Look = None,
    partial: Partial = False,
    fallback_usd: Annotated[
        float, typer.Option("--fallback-usd", help="What a fallback costs beside its tokens, USD (cost).")
    ] = 0.0,
    wrong_usd: Annotated[
        float, typer.Option("--wrong-usd", help="What a wrong route costs, USD (cost).")
    ] = 0.0,
    per_label: Annotated[
        bool, typer.Option("--per-label", help="A threshold for each label (fallback alone).")
    ] = False,
    seed: Seed = 0,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Find the best threshold under an objective. How far one may go from it, and how sure the log is.

    Exit codes: 0 found, 3 not enough is measured, 4 no threshold meets the condition.
    """
    import numpy as np

    from router.analysis import tune as objectives
    from router.analysis.calibration import normalised
    from router.analysis.savings import bound, missing
    from router.analysis.sweep import sweep
    from router.analysis.tune_labels import label_thresholds
    from router.log.queries import cells

    _check_tune(objective, max_fallback, fallback_usd, wrong_usd, per_label)
    rules, book = _rules(policy, data)
    picked, rng = chosen(since, until), np.random.default_rng(seed)
    with reading(data) as log:
        counted = cells(log, picked, rules, book)
        curve = sweep(counted, rules)
        enough(curve.n, log, picked, "with scores for the policy's labels")
        found: Any
        if per_label:
            found = label_thresholds(counted, rules, max_fallback)
        elif objective == "fallback":
            found = objectives.cheapest_with_fallback(curve, max_fallback, rng=rng)
        else:
            name = objectives.certified_name(alpha)
            name = name if objective == "certified" else objectives.priced_name(fallback_usd, wrong_usd)
            try:
                if objective == "certified":
                    promised, _ = certificates(
                        log, picked, rules, alpha, delta, loss, look, per_label=False, partial=partial
                    )
                    found = objectives.cheapest_certified(curve, promised[0], rng=rng)
                else:
                    accuracy, judged = (
                        _accuracy(log, picked, rules, partial) if wrong_usd > 0 else (None, None)
                    )
                    found = objectives.cheapest_priced(
                        curve,
                        accuracy,
                        fallback_usd=fallback_usd,
                        wrong_usd=wrong_usd,
                        judged=judged,
                        rng=rng,
                    )
            except Refused as error:
                found = objectives.NoOptimum(name, "not_measured", str(error))
        own = newest_ground(log, picked, rules)
        is_none = isinstance(found, objectives.NoOptimum)
        ahead = None if is_none else _ahead(log, picked, rules, found)
    if json:
        line = normalised(rules.threshold, len(rules.labels))
        ground: dict[str, Any] = {
            "n": curve.n,
            "n_priced": curve.n_priced,
            "n_mixed": own.n_other,
            "grade": curve.grade,
        }
        ground |= {"baseline": curve.baseline, "classifier_known": curve.classifier_known}
        emit(
            {
                "production": rules.threshold,
                "normalised_production": line,
                **ground,
                "seed": seed,
                "found": asdict(found),
                "next_days": None if ahead is None else asdict(ahead),
            }
        )
    elif not is_none:
        if per_label:
            _print_labels(found, rules, curve)
        else:
            _print_optimum(found, curve, is_judged=objective == "cost" and wrong_usd > 0)
    if is_none:
        _refuse(found)
    if not per_label and found.no_range is not None:
        say(f"note: no range is given: {found.no_range}")
    if ahead is not None and ahead.low is not None:
        span = f"{share(ahead.low)} to {share(ahead.high)}"
        say(
            f"of the next {ahead.horizon} days {span} would fall back (95 %), as much as the {ahead.days} days behind differ"
        )
    say_ground(curve.n, curve.n_priced, curve.grade)
    say_mixed(own, curve.n)
    if not curve.classifier_known and curve.n_priced:
        say(f"note: {bound(missing(False, True))}")
    say("best under this objective alone: a log of costs does not know whether the answers were good")


def _ahead(log: Log, picked: Filter, rules: Policy, found: Any) -> ShareForecast:
    """The next days' fallback share at what was found."""
    from router.analysis.forecast import forecast_share
    from router.analysis.tune_labels import LabelThresholds
    from router.log.evidence import daily_share

    if isinstance(found, LabelThresholds):
        lines = dict(found.thresholds)
    else:
        lines = {x.name: found.threshold if x.threshold is None else x.threshold for x in rules.labels}
    days = daily_share(log, picked, lines)
    return forecast_share(days["n"], days["n_below"])


def _check_tune(objective: str, most: float, fallback_usd: float, wrong_usd: float, per_label: bool) -> None:
    if objective not in OBJECTIVES:
        raise InputError(f"--objective: found {objective[:40]!r}, expected one of {', '.join(OBJECTIVES)}")
    if not 0.0 <= most <= 1.0:
        raise InputError(f"--max-fallback: found {most!r}, expected a share in [0, 1]")
    for name, value in (("--fallback-usd", fallback_usd), ("--wrong-usd", wrong_usd)):
        if not 0.0 <= value < float("inf"):
            raise InputError(f"{name}: found {value!r}, expected USD, 0 or more")
    if per_label and objective != "fallback":
        raise InputError(
            "--per-label goes with --objective fallback; 'routescope certify --per-label' promises label by label"
        )


def _accuracy(log: Log, picked: Filter, rules: Policy, partial: bool) -> tuple[Any, Any]:
    """Accuracy at every confidence of the grid by the audit sample, and the confidences and verdicts behind it ("unsure": wrong)."""
    from router.analysis.calibration import isotonic
    from router.analysis.quality import ENOUGH
    from router.analysis.tune import accuracy_on_grid

    found, _ = audit_sample(log, picked, rules, partial=partial)
    if found.refused is not None:
        raise Refused(found.refused, found)
    n = len(found.audit)
    if n < ENOUGH:
        raise Refused(
            f"how often a route is wrong takes {ENOUGH} audited decisions, found {n} that count today", found
        )
    judged = (found.audit.confidence, ~found.audit.loss)
    return accuracy_on_grid(*isotonic(*judged)), judged


def _refuse(found: NoOptimum) -> None:
    if found.reason == "infeasible":
        raise Infeasible(f"{found.objective}: {found.text}")
    raise NotEnoughData(f"{found.objective}: {found.text}")


def _print_optimum(found: Optimum, curve: Sweep, *, is_judged: bool) -> None:
    def usd(value: float) -> str:
        return money(value) + ("" if curve.classifier_known else "+")

    span = "not known" if found.range is None else f"{found.range[0]:g} to {found.range[1]:g}"
    rows = [
        ("threshold", f"{found.threshold:g}"),
        ("within 1 % from", f"{found.plateau[0]:g} to {found.plateau[1]:g}"),
        (f"on resampled traffic{' and judgements' if is_judged else ''} (95 %)", span),
        ("fallback share", share(found.fallback_share)),
        ("USD per 1,000", usd(found.cost_per_1000)),
        ("counted by the objective", usd(found.value_per_1000)),
        (f"the same in production ({curve.production:g})", "does not meet it" if found.production_value is None else usd(found.production_value)),
    ]  # fmt: skip
    table((found.objective, ""), rows, right=("",))
    if found.is_flat:
        say("note: the cost curve is flat here (under 2 % over 0.1 either way); choose by other reasons")


def _print_labels(found: LabelThresholds, rules: Policy, curve: Sweep) -> None:
    table(
        ("label", "threshold", "now"),
        [(name, f"{line:g}", f"{rules.threshold_for(name):g}") for name, line in found.thresholds],
        right=("threshold", "now"),
    )
    plus, single = "" if curve.classifier_known else "+", "there is none"
    if found.single_threshold is not None:
        single = f"{money(found.single_cost_per_1000)}{plus}, at {found.single_threshold:g}"
    own = [x.name for x in rules.labels if x.threshold is not None]
    kept = f" ({', '.join(own)} at {'its' if len(own) == 1 else 'their'} own)" if own else ""
    say(
        f"together {money(found.cost_per_1000)}{plus} per 1,000 with {share(found.fallback_share)} fallback; one threshold for all{kept} "
        f"under the same limit: {single}"
    )
    if found.single_cost_per_1000 is not None and found.single_cost_per_1000 < found.cost_per_1000 * (
        1 - 1e-9
    ):
        say(
            "note: one threshold for all is cheaper here: labels that go to the fallback model anyway keep theirs, and what falls back "
            "in them uses up the limit"
        )
