"""The steps from a baseline to what was paid: one vocabulary for every table, chart, page and help text."""

from __future__ import annotations

STEPS: dict[str, tuple[str, str]] = {
    "length": (
        "answer length",
        "the baseline's answers taken as long as the log shows, not as long as those given",
    ),
    "price": (
        "model prices",
        "the labels' models instead of the baseline, were every request of average size",
    ),
    "mix": (
        "request size",
        "the rest of it: requests of the cheap labels are smaller or larger than average",
    ),
    "fallback": (
        "falling back",
        "low confidence or margin: the fallback model's cost over that of following the label",
    ),
    "fell_back": (
        "fell back",
        "decisions that fell back, whatever their label: what they cost instead of the baseline",
    ),
    "classifier_failed": ("no scores", "the classifier failed: the fallback model instead of the baseline"),
    "forced": ("forced", "the caller named the model, which is no choice of the policy"),
    "explored": ("exploring", "another model was tried at random, to learn what it would do"),
    "classifier": ("classifier", "what classifying the decisions cost, at the price known then"),
    "failed": ("failed attempts", "requests that failed and were charged, at the price known then"),
    "unmatched": (
        "no baseline",
        "paid for decisions whose baseline cost is not known: no part of the savings",
    ),
}
"""What each step is called and means, by kind. ``baseline`` and ``paid`` are the ends."""

NEGLIGIBLE = 5e-9
"""An amount below this share of the baseline is what doubles leave behind."""


def noticeable(amount: float, baseline: float) -> float:
    """An amount (USD) as it is shown: 0 where it is nothing beside the baseline.

    >>> noticeable(4e-17, 0.25), noticeable(-1e-6, 0.25)
    (0.0, -1e-06)
    """
    return 0.0 if abs(amount) <= NEGLIGIBLE * abs(baseline) else amount
