"""``calibration``: whether a confidence means what it says."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.errors import NotEnoughData
from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, say, share, table
from router.cli.promising import Seed, audit_document, parts_drawn_from, say_left_out
from router.cli.reading import _check_threshold, _rules

if TYPE_CHECKING:
    import pandas as pd

    from router.analysis.auditing import Sample
    from router.analysis.calibration import Calibration, Meaning
    from router.analysis.sampling import Estimate

MIN_LABEL = 200
"""Judged decisions of a label from which on it is described by itself."""


def calibration(
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            "-t",
            show_default=False,
            help="Say what this raw threshold means. Default: the policy's.",
        ),
    ] = None,
    seed: Seed = 0,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Show whether confidence matches accuracy. From the audit sample, before and after one temperature.

    Of audit decisions only those that the newest classifier scored for the policy's labels, rubrics and examples count.
    """
    import numpy as np

    from router.analysis.auditing import sample, todays
    from router.analysis.calibration import calibration as describe
    from router.analysis.calibration import isotonic, isotonic_out_of_fold, meaning
    from router.log import evidence
    from router.log.audits import audit_rows
    from router.log.queries import bins

    rules, book = _rules(policy, data)
    line = rules.threshold if threshold is None else threshold
    _check_threshold(line)
    picked = chosen(since, until)
    with reading(data) as log:
        rows = audit_rows(log, picked)
        own = evidence.ground(log, picked, rules.labels_fingerprint, rows.classifier).chosen
        everything = evidence.judgements(log, own)
        audit = sample(rows.table, rules, classifier=rows.classifier, partial=True)
        today, _ = todays(rows.table, rules, classifier=rows.classifier)
        judged = everything[(everything["queue"] == "audit") & everything["id"].isin(today["id"])]
        if judged.empty:
            say_left_out(audit)
            raise NotEnoughData(
                audit.refused
                or f"all {audit.n_judged:,} judged audit decisions are unsure: neither right nor wrong"
            )
        names, n_scored = evidence.score_labels(log, picked), int(bins(log, own)["n"].sum())
        scores = evidence.scored(log, picked, names, (), book, ids=judged["id"].tolist())
    confidence = judged["confidence"].to_numpy(dtype=float)
    correct = (judged["verdict"] == "right").to_numpy()
    raw = describe(confidence, correct, rng=np.random.default_rng(seed))
    mended = _temperature(judged, scores, names, seed)
    if mended is None:
        after = isotonic_out_of_fold(confidence, correct, rng=np.random.default_rng(seed))
    else:
        after = mended.confidence
    labels = _by_label(judged, seed)
    said, estimated = meaning(confidence, after, correct, line), _estimate(everything, n_scored)
    if json:
        at, accuracy = isotonic(confidence, correct)
        emit(
            {
                "raw": asdict(raw),
                "labels": {name: asdict(one) for name, one in labels.items()},
                "temperature": None if mended is None else mended.temperature,
                "after": None if mended is None else asdict(mended.after),
                "meaning": asdict(said),
                "isotonic": {"confidence": at, "accuracy": accuracy},
                "audit": audit_document(audit) | {"parts": parts_drawn_from(rows)},
                "estimate": asdict(estimated),
                "seed": seed,
            }
        )
    else:
        _print_calibration(raw, None if mended is None else mended.after)
    for name, one in labels.items():
        say(
            f"{name}: accuracy {share(one.accuracy)}, ECE {share(one.ece)} (perfect: {share(one.floor_p95)}), n = {one.n:,}"
        )
    _say_audit(audit, parts_drawn_from(rows))
    _say(raw, said, estimated, None if mended is None else mended.temperature)


def _say_audit(audit: Sample, parts: list[str]) -> None:
    """What the figures leave out, and which part of the traffic they describe."""
    if audit.n_unsure or audit.n_open:
        say(
            f"note: {audit.n_unsure:,} unsure and {audit.n_open:,} open audit decisions left out: neither right nor wrong"
        )
    say_left_out(audit)
    if parts:
        say(
            f"note: audit decisions were drawn from a part of this traffic alone ({' or '.join(parts)}) and describe that part"
        )


def _say(raw: Calibration, said: Meaning, estimated: Estimate, temperature: float | None) -> None:
    way = "an isotonic curve (scores are no distribution, or too few)"
    way = way if temperature is None else f"temperature {temperature:.3g}"
    say(
        f"a threshold of {said.threshold:g} sends {share(said.fallback_share)} of these to the fallback; after {way}, the same line "
        f"would send {share(said.calibrated_fallback_share)}"
    )
    if said.bar_near is not None:
        span = f"{share(said.bar_near.low)} to {share(said.bar_near.high)}"
        say(f"beside it the label is right in {share(said.accuracy_near)} ({span}, n = {said.n_near})")
    if estimated.hajek is not None:
        half = "" if estimated.half is None else f" ± {share(estimated.half)}"
        number = estimated.horvitz_thompson
        if number is None:
            text = "; how many that is, several draws of the same decisions cannot tell"
        else:
            wide = estimated.horvitz_thompson_half
            text = f": {number:,.0f}{'' if wide is None else f' ± {wide:,.0f}'} of the {estimated.stands_for:,.0f} that they stand for"
        say(f"wrong labels by the estimate queue: {share(estimated.hajek)}{half} (n = {estimated.n:,}){text}")
    verdict = "is above" if raw.is_miscalibrated else "is not above"
    say(
        f"ECE {verdict} what a perfect classifier shows on {raw.n:,} decisions ({share(raw.floor_p95)} in 95 of 100 cases)"
    )


def _by_label(judged: pd.DataFrame, seed: int) -> dict[str, Calibration]:
    import numpy as np

    from router.analysis.calibration import calibration as describe

    return {
        str(name): describe(part["confidence"], part["verdict"] == "right", rng=np.random.default_rng(seed))
        for name, part in judged.groupby("label")
        if len(part) >= MIN_LABEL
    }


def _estimate(judged: pd.DataFrame, n_scored: int) -> Estimate:
    """The share and the number of losses by the estimate queue; the reason of each item names its stratum."""
    from router.analysis.sampling import estimate

    drawn = judged[
        (judged["queue"] == "estimate") & judged["inclusion_probability"].between(0, 1, inclusive="right")
    ]
    strata = drawn["stratum"].fillna("")
    return estimate(drawn["verdict"] == "wrong", drawn["inclusion_probability"], strata, total=n_scored)


def _temperature(judged: pd.DataFrame, scores: pd.DataFrame, names: list[str], seed: int) -> Any:
    """One temperature, where every judged decision's scores sum to 1 and there are enough of them; else None."""
    import numpy as np

    from router.analysis.calibration import temperature

    matrix = scores.set_index("id")[[f"score:{x}" for x in names]].reindex(judged["id"]).to_numpy(dtype=float)
    place = {name: i for i, name in enumerate(names)}
    truth = np.array([place.get(x, -1) for x in judged["true_label"].tolist()], dtype=np.int64)
    try:
        return temperature(np.nan_to_num(matrix), truth, rng=np.random.default_rng(seed))
    except ValueError:
        return None


def _print_calibration(raw: Calibration, after: Calibration | None) -> None:
    def words(x: Calibration | None) -> list[str]:
        if x is None:
            return ["not measured"] * 6
        shares = [share(v) for v in (x.accuracy, x.mean_confidence, x.ece, x.floor_p95)]
        return [*shares, *("not known" if v is None else f"{v:.4f}" for v in (x.brier, x.nll))]

    names = ("accuracy", "mean confidence", "ECE", "ECE of a perfect classifier, 95 %", "Brier", "NLL")
    table(
        ("", "raw", "after one temperature"),
        list(zip(names, words(raw), words(after), strict=True)),
        right=("raw", "after one temperature"),
    )
    typer.echo()
    table(
        ("confidence", "n", "accuracy", "95 %"),
        [
            (
                f"{x.low:.3f} to {x.high:.3f}",
                f"{x.n:,}",
                share(x.accuracy),
                f"{share(x.bar.low)} to {share(x.bar.high)}",
            )
            for x in raw.bins
        ],
        right=("n", "accuracy", "95 %"),
    )
