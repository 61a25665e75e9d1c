"""``certify``: the lowest threshold that an audit sample can promise."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.errors import INFEASIBLE, NOT_ENOUGH, NotEnoughData
from router.cli.export import MadeBy, Source, chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, say, share, table, with_half
from router.cli.reading import _rules, enough
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.auditing import Sample
    from router.analysis.certify import Certificate
    from router.analysis.judgements import Loss
    from router.analysis.sweep import Sweep
    from router.log.audits import AuditRows
    from router.log.drawn import Traffic
    from router.log.evidence import Ground
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.policy import Policy

UNEVEN = 2.0
"""Chances of being drawn that differ by more than this factor make several samples of one."""

NAMED = 3
"""How many classifiers a note names."""

Alpha = Annotated[float, typer.Option("--alpha", help="Most of what is served that may be a loss.")]
Delta = Annotated[float, typer.Option("--delta", help="Chance that the promise is broken, at most.")]
LossKind = Annotated[
    str,
    typer.Option(
        "--loss",
        metavar="label|answer",
        help="What 'wrong' was judged: the label, or the answer of its model. Answers are known above the line that ran alone.",
    ),
]
Partial = Annotated[
    bool,
    typer.Option(
        "--partial",
        help="Accept an audit of which more than 5 % wait for a verdict; what waits is no random part.",
    ),
]
Look = Annotated[
    int | None,
    typer.Option(
        "--look",
        min=1,
        show_default=False,
        help="The k-th look at a growing sample; delta is split so that any number is allowed. Default: the only one.",
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", help="Seed of everything that is drawn; the same seed prints the same.")
]


class Refused(NotEnoughData):
    """An audit that nothing may rest on; ``sample`` is what there is of it."""

    def __init__(self, text: str, sample: Sample) -> None:
        super().__init__(text)
        self.sample = sample


def certify(
    alpha: Alpha = 0.1,
    delta: Delta = 0.1,
    loss: LossKind = "label",
    per_label: Annotated[
        bool, typer.Option("--per-label", help="A promise for each label; they share delta.")
    ] = False,
    look: Look = None,
    partial: Partial = False,
    since: Since = None,
    until: Until = None,
    source: Source = None,
    made_by: MadeBy = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Find the lowest threshold that can be promised. At most alpha of what is served is a loss, says the audit sample.

    Only decisions drawn uniformly (queue 'audit') count, for the traffic that they were drawn from; "unsure" counts as a loss.
    "None" is an answer; it says how many judgements are missing.

    Exit codes: 0 certified, 3 too few judgements, 4 the loss is too high for any threshold.
    """
    from router.analysis.lapse import VALID_DAYS
    from router.analysis.sweep import operating_point, sweep
    from router.log.queries import bounds, cells

    _check_promise(alpha, delta, loss)
    rules, book = _rules(policy, data)
    picked = chosen(since, until, source=source, policy=made_by)
    asked = {"alpha": alpha, "delta": delta, "loss": loss, "look": look}
    try:
        with reading(data) as log:
            curve = sweep(cells(log, picked, rules, book), rules)
            enough(curve.n, log, picked, "with scores for the policy's labels")
            found, rests_on = certificates(
                log, picked, rules, alpha, delta, loss, look, per_label=per_label, partial=partial
            )
            first, last = bounds(log, picked)
    except NotEnoughData as error:
        if json:  # no day it was made on: what refuses is no certificate
            there = audit_document(error.sample) if isinstance(error, Refused) else None
            emit(asked | {"audit": there, "certificates": [], "refused": str(error)})
        raise
    today = datetime.now(UTC).date()
    if json:
        ground = {
            "classifiers": rests_on.classifiers,
            "labels_fingerprint": rules.labels_fingerprint,
            "models": models_of(rules),
        }
        document = asked | {
            "made_on": today,
            "ground": ground,
            "valid_until": today + timedelta(days=VALID_DAYS),
            "data_from": first,
            "data_until": last,
            "traffic": {"since": picked.start, "until": picked.end, "source": source, "made_by": made_by},
            "audit": audit_document(rests_on),
            "certificates": [_certificate(x, curve if not per_label else None) for x in found],
            "refused": None,
        }
        emit(document)
    else:
        _print_certificates(found, rules)
    for one in found:
        _say_certificate(one)
    if not per_label:
        _say_own(rules)
    passed = [x for x in found if x.threshold is not None]
    for one in found:
        line = rules.threshold if one.label is None else rules.threshold_for(one.label)
        _say_production(one, line)
    if len(passed) == 1 and not per_label:
        point = operating_point(curve, passed[0].threshold or 0.0)
        half = None if point.savings_half is None else share(point.savings_half)
        most = "" if curve.classifier_known or point.savings_share is None else "at most "
        say(
            f"there: {share(point.fallback_share)} fall back{' for low confidence' if rules.min_margin else ''}, savings {most}{with_half(share(point.savings_share), half)}"
        )
    say(
        f"holds for traffic like the sampled one, until {today + timedelta(days=VALID_DAYS)} or a change of classifier, labels or "
        "models; fix alpha before looking: each new wish after a look costs validity"
    )
    if not passed:
        raise typer.Exit(INFEASIBLE if all(x.is_infeasible for x in found) else NOT_ENOUGH)


def certificates(
    log: Log,
    picked: Filter,
    rules: Policy,
    alpha: float,
    delta: float,
    loss: str,
    look: int | None,
    *,
    per_label: bool,
    partial: bool = False,
) -> tuple[tuple[Certificate, ...], Sample]:
    """Certificates from the audit rows that a filter picks, and what they rest on; says what was drawn and left out.

    One certificate for all labels that share the line, or one for each.
    """
    from router.analysis.certify import certify as promise
    from router.analysis.certify import certify_labels
    from router.analysis.judgements import LOSSES
    from router.log.audits import bins_above_margin
    from router.log.evidence import ground
    from router.log.queries import bins

    _check_promise(alpha, delta, loss)
    # Labels with a line of their own do not follow the one that is asked about.
    follow = rules.label_names if per_label else tuple(x.name for x in rules.labels if x.threshold is None)
    kind = LOSSES[LOSSES.index(loss)]  # checked above
    found, rows = audit_sample(log, picked, rules, loss=kind, per_label=per_label, partial=partial)
    if found.refused is not None:
        raise Refused(f"{found.refused}. {_plan(alpha, delta)}", found)
    if not follow:
        raise InputError(
            "every label has a threshold of its own, so that none follows the policy's; take --per-label for a promise on each"
        )
    own = ground(log, picked, rules.labels_fingerprint, rows.classifier)
    say_other(own)
    whole = bins(log, own.chosen)
    least = rules.min_margin
    traffic = whole if not least else bins_above_margin(log, own.chosen, least)
    wanted: dict[str, Any] = {"alpha": alpha, "delta": delta, "loss": kind, "look": look, "whole": whole}
    if per_label:
        return certify_labels(found.audit, traffic, follow, **wanted), found
    return (promise(found.audit, traffic, follow, **wanted),), found


def audit_sample(
    log: Log,
    picked: Filter,
    rules: Policy,
    *,
    loss: Loss = "label",
    per_label: bool = False,
    partial: bool = False,
) -> tuple[Sample, AuditRows]:
    """The audit sample that a filter picks, made ready for ``rules``, and its rows; says what was drawn and left out.

    Raises
    ------
    InputError
        Some of it was drawn from other traffic than is asked about.
    """
    from router.analysis.auditing import sample
    from router.log.audits import audit_rows

    rows = audit_rows(log, picked)
    _say_uneven(rows)
    found = sample(
        rows.table, rules, classifier=rows.classifier, loss=loss, per_label=per_label, partial=partial
    )
    _say_sample(found, rows)
    return found, rows


def audit_document(found: Sample) -> dict[str, Any]:
    """What was drawn, judged and left out."""
    return {
        "drawn": found.n_drawn,
        "judged": found.n_judged,
        "unsure": found.n_unsure,
        "open": found.n_open,
        "left_out": [{"n": n, "why": why} for n, why in found.left_out],
    }


def _say_sample(found: Sample, rows: AuditRows) -> None:
    """What was drawn and judged, and what could not be used; an InputError as in :func:`audit_sample`."""
    if rows.narrower:
        raise InputError(
            "audit decisions were drawn from a part of this traffic alone, and prove nothing about the rest; choose that part with "
            f"{' or '.join(parts_drawn_from(rows))}, or decisions without them"
        )
    if len(rows.table):
        say(
            f"audit: {found.n_drawn:,} drawn, {found.n_judged:,} judged ({found.n_unsure:,} unsure, counted as losses), {found.n_open:,} open"
        )
    say_left_out(found)
    if rows.n_unnoted:
        say(
            f"note: the draw of {rows.n_unnoted:,} is not noted in this data folder; whether all of it was judged, and from which "
            "traffic it came, is not known"
        )
    if rows.n_unknown:
        say(f"note: {rows.n_unknown:,} were drawn by a version that did not note from which traffic")


def say_left_out(found: Sample) -> None:
    """Audit decisions of another ground than today's."""
    for n, why in found.left_out:
        say(f"note: {n:,} audit decisions left out: {why}")


def parts_drawn_from(rows: AuditRows) -> list[str]:
    """The parts of the traffic that some of an audit was drawn from, as options; empty: all of it was drawn from the whole."""
    return list(dict.fromkeys(_options(x) for x in rows.narrower))


def _options(traffic: Traffic) -> str:
    """The options that choose what a draw was made from."""
    since, until = (None if x is None else x.isoformat() for x in (traffic.start, traffic.end))
    named = (
        ("--since", since),
        ("--until", until),
        ("--source", traffic.source),
        ("--made-by", traffic.policy),
    )
    return " ".join(f"{option} {value}" for option, value in named if value is not None)


def _plan(alpha: float, delta: float) -> str:
    """How many judgements a promise takes."""
    from router.analysis.binomial import labels_needed, zero_failures_needed

    half = labels_needed(alpha, delta, alpha / 2)
    more = "" if half is None else f", and about {half:,} if losses are half as many as allowed"
    return f"A promise of {share(alpha)} takes {zero_failures_needed(alpha, delta):,} judgements among the served without a loss{more}"


def say_other(own: Ground) -> None:
    """How many decisions have scores that mean something else."""
    if own.n_other:
        say(
            f"note: {own.n_other:,} decisions are counted apart, not here: another classifier scored them, or for other labels, "
            "rubrics or examples"
        )
    if not own.is_asked:
        say(
            "note: no decision was scored for exactly this policy's labels, rubrics and examples; taken are those for the newest ones, as "
            "if their scores meant the same"
        )


def newest_ground(log: Log, picked: Filter, rules: Policy) -> Ground:
    """The decisions of the newest classifier with scores for a policy's labels, and how many others there are."""
    from router.log.evidence import ground, newest_classifier

    return ground(log, picked, rules.labels_fingerprint, newest_classifier(log, picked))


def say_mixed(own: Ground, n: int) -> None:
    """How many of the ``n`` decisions in the sums have scores that mean something else: roll-ups do not tell them apart."""
    by_others = sum(n for _, n in own.others)
    other_labels = own.n_other - by_others - (own.n - n)  # those whose label the policy lacks are in no sum
    told = []
    if own.others:
        names = ", ".join(name for name, _ in own.others[:NAMED])
        more = f" and {len(own.others) - NAMED} more" if len(own.others) > NAMED else ""
        told.append(
            f"{by_others:,} scored by other classifiers than the newest ({own.classifier}): {names}{more}"
        )
    if other_labels > 0:
        told.append(f"{other_labels:,} scored for other labels, rubrics or examples")
    if told:
        say(
            f"note: figures here are of all {n:,} decisions, as if these meant the same: {'; '.join(told)}; "
            "'routescope replay' counts them apart"
        )
    if not own.is_asked:
        say("note: no decision was scored for exactly this policy's labels, rubrics and examples")


def _say_uneven(rows: AuditRows) -> None:
    """Audit rows of draws with very different chances are together no uniform sample."""
    chance = rows.table["inclusion_probability"].dropna()
    if len(chance) and chance.max() > UNEVEN * chance.min():
        say(
            f"note: audit rows were drawn with chances from {share(chance.min())} to {share(chance.max())}; together they are no "
            "uniform sample, so the promise does not hold for all of this traffic: choose the time of one draw with --since, --until"
        )


def made_on(document: dict[str, Any]) -> date:
    """The day a saved certificate was made.

    Raises
    ------
    InputError
        The document is no certificate.
    """
    try:
        return date.fromisoformat(document["made_on"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            "--certificate: not a certificate; expected what 'routescope certify --json' printed"
        ) from None


def _check_promise(alpha: float, delta: float, loss: str) -> None:
    from router.analysis.judgements import LOSSES

    for name, value in (("--alpha", alpha), ("--delta", delta)):
        if not 0.0 < value < 1.0:
            raise InputError(f"{name}: found {value!r}, expected a number between 0 and 1")
    if loss not in LOSSES:
        raise InputError(f"--loss: found {loss[:40]!r}, expected one of {', '.join(LOSSES)}")


def models_of(rules: Policy) -> dict[str, str]:
    """The model of each label."""
    return {label.name: label.model for label in rules.labels}


def _certificate(found: Certificate, curve: Sweep | None) -> dict[str, Any]:
    from router.analysis.sweep import operating_point

    at = None if curve is None or found.threshold is None else operating_point(curve, found.threshold)
    there = None if at is None else {"fallback_share": at.fallback_share, "cost_per_1000": at.cost_per_1000}
    if at is not None and there is not None:
        there |= {"savings_share": at.savings_share, "savings_half": at.savings_half}
    return asdict(found) | {"operating_point": there}


def _say_own(rules: Policy) -> None:
    """Which labels a promise for the common line says nothing about."""
    own = [f"{x.name} (own threshold {x.threshold:g})" for x in rules.labels if x.threshold is not None]
    if own:
        say(f"not covered: {', '.join(own)}; --per-label promises each")


def _say_production(one: Certificate, line: float) -> None:
    """Whether the line in force carries the promise as well: only tested thresholds do."""
    step = next((x for x in one.steps if x.threshold == line), None)
    whose = "production" if one.label is None else f"{one.label} in production"
    if step is None:
        say(f"{whose} ({line:g}) was not tested, so nothing is promised for it")
    elif step.passed:
        say(
            f"{whose} ({line:g}) carries the promise too: {step.failures:,} of {step.n:,} lost, at most {share(step.upper_bound)}"
        )
    else:
        say(
            f"{whose} ({line:g}) does not carry it: {step.failures:,} of {step.n:,} lost, up to {share(step.upper_bound)}"
        )


def _print_certificates(found: tuple[Certificate, ...], rules: Policy) -> None:
    rows = []
    for one in found:
        step = one.step
        rows.append(
            (
                "all" if one.labels == rules.label_names and one.label is None else ", ".join(one.labels),
                "none" if one.threshold is None else f"{one.threshold:g}",
                f"{one.n_labels:,}",
                "" if step is None else f"{step.failures:,} of {step.n:,}",
                "" if step is None else share(step.upper_bound),
                "" if step is None else share(step.share_served),
                "" if one.labels_missing is None else f"{one.labels_missing:,}",
            )
        )
    columns = ("label", "threshold", "judged", "losses", "at most", "served", "judgements missing")
    table(columns, rows, right=columns[1:])


def _say_certificate(one: Certificate) -> None:
    whose = f"{', '.join(one.labels)}: "
    if one.threshold is not None:
        text = f"{whose}at {one.threshold:g}, at most {share(one.alpha)} of what is served is a loss, with {share(1 - one.delta)} confidence"
        if one.ended_by == "support":
            text += f"; below {one.supported_from:g} the log never saw the label's model answer, so nothing is said of it"
        say(text)
        return
    why = {
        "labels": "too few judged decisions to test any threshold",
        "risk": "too many losses at the strictest threshold that can be tested",
    }.get(one.ended_by, "nothing to test")
    more = "" if one.labels_missing is None else f"; about {one.labels_missing:,} more judgements may do"
    if one.labels_missing is None and one.ended_by == "labels":
        more = "; no traffic is served by the label's model, so there is none to judge"
        more += ": let the policy explore, or judge labels (--loss label)" if one.supported_from else ""
    if one.labels_missing is None and one.ended_by == "risk":
        more = "; at this rate of losses no number of judgements would: raise alpha, or improve the scores"
    say(f"{whose}no threshold can be promised: {why}{more}")
