"""How long one model's answers are beside another's, on the same or like prompts: ratios of sums, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import pandas as pd

from router.analysis.estimates import Z95, ratio_half_width

MIN_PAIRS = 20
"""From this many prompts on that both models answered, the ratio is of those alone."""

MIN_MATCHED = 100
"""Decisions that each of two models needs in strata that both have."""

MIN_COVERAGE = 0.5
"""Share of a model's output tokens that must lie in strata that both have."""


@dataclass(frozen=True, slots=True)
class LengthRatio:
    """Tokens of the baseline's answers for each token of a model's, over the same traffic.

    ``input_half`` and ``output_half`` are halves of 95 % intervals. ``n`` counts prompts (paired) or the model's decisions
    in strata that both have (matched).
    """

    model: str
    ground: Literal["paired", "matched"]
    n: int
    input: float
    input_half: float
    output: float
    output_half: float


def length_ratios(paired: pd.DataFrame, matched: pd.DataFrame, baseline: str) -> dict[str, LengthRatio]:
    """For each model with enough traffic beside the baseline's: how its tokens turn into the baseline's.

    Parameters
    ----------
    paired : one row per model with, over prompts that it and the baseline both answered: n, and for side "input" and
        "output" the sums of both models' tokens, their squares and products (``length_pairs.sql``).
    matched : one row per (label, decile of the prompt's length, model): n, sums and squares of tokens
        (``length_strata.sql``).

    Notes
    -----
    Paired: ``r = sum b_i / sum a_i``, a ratio of sums and never a mean of ratios, which short answers would dominate; its
    interval is that of :func:`~router.analysis.estimates.ratio_half_width`. Matched: strata s that both have, weighted by the
    model's own traffic, ``r = sum n_as mean_bs / sum n_as mean_as``, with variance
    ``(sum n_as^2 s2_bs / n_bs + r^2 sum n_as s2_as) / (sum n_as mean_as)^2``. A stratum is a label and a tenth of the prompts'
    lengths in characters, which no tokenizer changes. A router sends the models different prompts, so prompts of one
    stratum can still differ: matched ratios are estimates, pairs are better.
    """
    found = {}
    for model in sorted({*paired["model"], *matched["model"]} - {baseline, None}):
        pairs = paired[paired["model"] == model]
        ratio = None if pairs.empty else _paired(model, pairs.iloc[0])
        ratio = ratio or _matched(model, matched, baseline)
        if ratio is not None:
            found[model] = ratio
    return found


def factors(ratios: Mapping[str, LengthRatio]) -> dict[str, tuple[float, float]]:
    """Input and output factors by model, as ``router.log.queries.spend`` takes them."""
    return {model: (ratio.input, ratio.output) for model, ratio in ratios.items()}


def _paired(model: str, row: pd.Series) -> LengthRatio | None:
    n = int(row["n"])
    if n < MIN_PAIRS:
        return None
    values = []
    for side in ("input", "output"):
        own, other = float(row[f"{side}_own"]), float(row[f"{side}_base"])
        if own <= 0 or other <= 0:
            return None
        half = ratio_half_width(
            n, other, own, row[f"{side}_base_sq"], row[f"{side}_own_sq"], row[f"{side}_product"]
        )
        values += [other / own, float(half)]
    return LengthRatio(model, "paired", n, *values)


def _matched(model: str, matched: pd.DataFrame, baseline: str) -> LengthRatio | None:
    own, base = matched[matched["model"] == model], matched[matched["model"] == baseline]
    both = own.merge(base, on=["label", "decile"], suffixes=("_own", "_base"))
    both = both[(both["n_own"] > 1) & (both["n_base"] > 1)]
    if both.empty or min(both["n_own"].sum(), both["n_base"].sum()) < MIN_MATCHED:
        return None
    if both["output_own"].sum() < MIN_COVERAGE * own["output"].sum():
        return None
    n, k = both["n_own"].to_numpy(dtype=float), both["n_base"].to_numpy(dtype=float)
    values = []
    for side in ("input", "output"):
        mine, theirs = (both[f"{side}_{x}"].to_numpy(dtype=float) for x in ("own", "base"))
        bottom = float(mine.sum())
        top = float((n * theirs / k).sum())
        if bottom <= 0 or top <= 0:
            return None
        ratio = top / bottom
        of_base = _variance(k, theirs, both[f"{side}_sq_base"].to_numpy(dtype=float))
        of_own = _variance(n, mine, both[f"{side}_sq_own"].to_numpy(dtype=float))
        variance = float((n * n * of_base / k).sum() + ratio**2 * (n * of_own).sum()) / bottom**2
        values += [ratio, Z95 * sqrt(variance)]
    return LengthRatio(model, "matched", int(n.sum()), *values)


def _variance(n: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    return np.asarray(np.maximum(squares - total * total / n, 0.0) / (n - 1))
