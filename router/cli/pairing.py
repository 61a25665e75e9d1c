"""``pairs``: two models on the same prompts."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.errors import NotEnoughData
from router.cli.options import Json
from router.cli.output import emit, say, share, table
from router.cli.promising import Alpha, Delta, Seed
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.certify import Certificate
    from router.analysis.pairs import Paired, PairReport

MAX_BYTES = 1_000_000_000


def pairs(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="CSV or JSON Lines with prompt or id, weak and strong; optionally score, weak_cost and strong_cost.",
        ),
    ],
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale",
            show_default=False,
            help="The best outcome there can be, where outcomes are graded and not 0 or 1.",
        ),
    ] = None,
    alpha: Alpha = 0.1,
    delta: Delta = 0.1,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare two models on the same prompts. And every way to choose between them.

    Random choice, the prompt's length and an oracle are always beside the file's own score. With a score in [0, 1] (how much a
    prompt needs the strong model) the lowest trust in the weak one that can be promised is certified.

    Exit codes: 0 fine, 3 the two models cannot be told apart on these prompts.
    """
    import numpy as np

    from router.analysis.pair_files import parse_pairs
    from router.analysis.pairs import report

    for name, value in (("--alpha", alpha), ("--delta", delta)):
        if not 0.0 < value < 1.0:
            raise InputError(f"{name}: found {value!r}, expected a number between 0 and 1")
    if scale is not None and not 0.0 < scale < float("inf"):
        raise InputError(f"--scale: found {scale!r}, expected a number above 0")
    found = parse_pairs(read_text(file), scale=scale)
    if len(found) == 0:
        raise NotEnoughData(f"no row with both outcomes ({found.n_missing:,} without)")
    said = report(found, rng=np.random.default_rng(seed))
    certificate = _certified(found, alpha, delta)
    if json:
        lines = [_line(x) for x in said.lines]
        document: dict[str, Any] = {"n_missing": found.n_missing, "gap": asdict(said.gap), "lines": lines}
        document |= {
            "random_sd": said.random_sd,
            "zero_router_aiq": said.zero_router_aiq,
            "cost_range": said.cost_range,
        }
        emit(
            document
            | {
                "targets": said.targets,
                "certificate": None if certificate is None else asdict(certificate),
                "seed": seed,
            }
        )
    else:
        _print(said)
    gap = said.gap
    span = "not known" if gap.interval is None else f"{share(gap.interval.low)} to {share(gap.interval.high)}"
    binary = found.is_binary
    if binary:
        say(
            f"weak {share(gap.weak)}, strong {share(gap.strong)}, gap {share(gap.gap)} ({span}, 95 %, n = {gap.n:,})"
        )
    else:
        say(f"weak {gap.weak:.3f}, strong {gap.strong:.3f}, gap {gap.gap:.3f} (n = {gap.n:,})")
    if found.n_missing:
        say(f"note: {found.n_missing:,} rows left out: an outcome is missing or negative")
    if certificate is not None:
        _say_certificate(certificate)
    if not gap.is_separable:
        say(
            f"models not separable on this data: the gap's interval holds 0; nothing that divides by it means anything (gap {span})"
        )
        raise typer.Exit(3)
    say(
        f"one random order has an APGR of 0.5 ± {said.random_sd:.3f}: nearer than that is not better than random"
    )


def read_text(file: str) -> str:
    """Text of a file, or of standard input for "-"; an InputError says what is wrong with it."""
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _certified(found: Paired, alpha: float, delta: float) -> Certificate | None:
    """The certificate for trust in the weak model, 1 - score; None without a score in [0, 1]."""
    import numpy as np
    import pandas as pd

    from router.analysis.certify import certify
    from router.analysis.pairs import regret_audit
    from router.analysis.rule import confidence_bins

    score = found.score
    if score is None or not bool(np.all((score >= 0) & (score <= 1))):
        return None
    trust = 1.0 - score
    traffic = pd.DataFrame({"label": "weak", "bin": confidence_bins(trust), "n": 1})
    traffic = traffic.groupby(["label", "bin"], as_index=False).sum()
    audit = regret_audit(found, trust)
    return certify(audit, traffic, ("weak",), alpha=alpha, delta=delta, loss="answer", holds_audit=False)


def _line(line: Any) -> dict[str, Any]:
    return {name: getattr(line, name) for name in ("name", "apgr", "cpt", "aiq")} | {
        "interval": None if line.interval is None else asdict(line.interval),
        "share": line.share,
        "quality": line.quality,
        "cost": line.cost,
    }


def _print(said: PairReport) -> None:
    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    rows = []
    for x in said.lines:
        span = "" if x.interval is None else f"{x.interval.low:.3f} to {x.interval.high:.3f}"
        rows.append(
            (x.name, number(x.apgr), span, *("" if v is None else share(v) for v in x.cpt), number(x.aiq))
        )
    columns = ("chooses by", "APGR", "95 %", *(f"CPT{100 * t:.0f}" for t in said.targets), "AIQ")
    table(columns, rows, right=columns[1:])


def _say_certificate(found: Certificate) -> None:
    if found.threshold is None:
        say(f"no trust in the weak model can be promised at {share(found.alpha)} regret")
        return
    step = found.step
    served = "" if step is None else f", {share(step.share_served)} of the prompts"
    say(
        f"the weak model may answer where 1 - score is at least {found.threshold:g}{served}: at most {share(found.alpha)} of those are "
        f"prompts that the strong one alone gets right, with {share(1 - found.delta)} confidence; the score must not have been fitted on them"
    )
