"""Baselines that are no single model named by hand: the dearest candidate, and what another policy would have chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.errors import PolicyError
from router.log.filters import Filter, where
from router.log.reader import Log
from router.log.rollups import BY_TABLE, PRICE_BANDS, USAGE_KNOWN, select
from router.log.schema import sql
from router.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd

DEAREST = "dearest"
PREVIOUS = "previous"


def previous_policy(log: Log, policy: Policy) -> Policy | None:
    """The policy that made decisions last before this one, as far as the log has its text; None when there is none."""
    rows = log.rows(
        "SELECT d.policy_fingerprint, any_value(p.toml) FROM hourly d JOIN policies p ON p.fingerprint = d.policy_fingerprint "
        "WHERE p.toml IS NOT NULL AND d.policy_fingerprint <> $own GROUP BY 1 ORDER BY max(d.last_at) DESC, 1",
        {"own": policy.fingerprint},
    )
    for fingerprint, toml in rows:
        try:
            return Policy.from_toml(toml, source=f"policy {fingerprint[:6]}")
        except PolicyError:
            continue  # written by a version with other rules
    return None


def lengths(log: Log, chosen: Filter, baseline: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What router.analysis.lengths.length_ratios takes: tokens of paired prompts, and of strata of like prompts."""
    condition, values = where(chosen)

    def found(name: str, bound: dict[str, Any]) -> pd.DataFrame:
        query = sql(name).replace("{filter}", condition).replace("{usage_known}", USAGE_KNOWN)
        return log.frame(query, bound)

    return found("length_pairs", dict(values) | {"baseline": baseline}), found("length_strata", dict(values))


def policy_rows(
    chosen: Filter, other: Policy, period: str, tiers: Collection[int]
) -> tuple[str, dict[str, Any]]:
    """SQL of rows of the roll-up ``hourly`` whose ``policy_fingerprint`` is the model that ``other`` would have chosen.

    By its thresholds, margin rule and models, for the scores that are logged. A forced model stays forced; without scores
    the fallback model answers; a label that ``other`` does not have gives NULL, which no price is known for.
    """
    condition, values = where(chosen)
    values = dict(values) | {"other_fallback": other.fallback_model, "other_margin": other.min_margin}
    cases = []
    for number, label in enumerate(other.labels):
        values |= {
            f"other_label_{number}": label.name,
            f"other_model_{number}": label.model,
            f"other_line_{number}": other.threshold_for(label.name),
        }
        cases.append(
            f"WHEN d.top_label = $other_label_{number} THEN CASE WHEN d.confidence < $other_line_{number} "
            f"OR coalesce(d.margin < CAST($other_margin AS DOUBLE), false) THEN $other_fallback ELSE $other_model_{number} END"
        )
    model = (
        "CASE WHEN d.cause = 'forced' THEN d.model_chosen WHEN d.confidence IS NULL THEN $other_fallback "
        + " ".join(cases)
        + " END"
    )
    rows = (
        f"(SELECT d.* REPLACE (CAST({model} AS VARCHAR) AS policy_fingerprint, NULL::VARCHAR AS source) "
        f"FROM decisions d WHERE {condition})"
    )
    steps = tuple(sorted({*PRICE_BANDS, *tiers}))
    return select(BY_TABLE["hourly"], rows, period=period, steps=steps), values
