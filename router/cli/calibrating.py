"""``calibration``: whether a confidence means what it says."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.errors import NotEnoughData
from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, say, share, table
from router.cli.promising import Seed
from router.cli.reading import _check_threshold, _rules

if TYPE_CHECKING:
    import pandas as pd

    from router.analysis.calibration import Calibration

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
    """Show whether confidence matches accuracy. From the audit sample, before and after one temperature."""
    import numpy as np

    from router.analysis.calibration import calibration as describe
    from router.analysis.calibration import isotonic, meaning
    from router.log import evidence

    rules, _ = _rules(policy, data)
    line = rules.threshold if threshold is None else threshold
    _check_threshold(line)
    picked = chosen(since, until)
    with reading(data) as log:
        judged = evidence.judgements(log, picked)
        judged = judged[judged["queue"] == "audit"]
        if judged.empty:
            raise NotEnoughData(
                "no decision of the audit queue was judged; draw an audit sample and judge it first"
            )
        names = evidence.score_labels(log, picked)
        scores = evidence.scored(log, picked, names, (), _rules(policy, data)[1], ids=judged["id"].tolist())
    confidence = judged["confidence"].to_numpy(dtype=float)
    correct = (judged["verdict"] == "right").to_numpy()
    raw = describe(confidence, correct, rng=np.random.default_rng(seed))
    mended = _temperature(judged, scores, names, seed)
    curve = isotonic(confidence, correct)
    after = np.interp(confidence, *curve) if mended is None else mended.confidence
    said = meaning(confidence, after, correct, line)
    by_label = {
        str(name): describe(part["confidence"], part["verdict"] == "right", rng=np.random.default_rng(seed))
        for name, part in judged.groupby("label")
        if len(part) >= MIN_LABEL
    }
    if json:
        document: dict[str, Any] = {
            "raw": asdict(raw),
            "labels": {name: asdict(x) for name, x in by_label.items()},
        }
        document["temperature"] = None if mended is None else mended.temperature
        document["after"] = None if mended is None else asdict(mended.after)
        emit(
            document
            | {
                "meaning": asdict(said),
                "isotonic": {"confidence": curve[0], "accuracy": curve[1]},
                "seed": seed,
            }
        )
    else:
        _print_calibration(raw, None if mended is None else mended.after)
    way = (
        "an isotonic curve (scores are no distribution, or too few)"
        if mended is None
        else f"temperature {mended.temperature:.3g}"
    )
    say(
        f"a threshold of {line:g} sends {share(said.fallback_share)} of these to the fallback; after {way}, the same line would send "
        f"{share(said.calibrated_fallback_share)}"
    )
    if said.bar_near is not None:
        say(
            f"beside it the label is right in {share(said.accuracy_near)} ({share(said.bar_near.low)} to {share(said.bar_near.high)}, "
            f"n = {said.n_near})"
        )
    verdict = "is above" if raw.is_miscalibrated else "is not above"
    say(
        f"ECE {verdict} what a perfect classifier shows on {raw.n:,} decisions ({share(raw.floor_p95)} in 95 of 100 cases)"
    )


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
