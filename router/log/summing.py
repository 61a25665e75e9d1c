"""Sums of a roll-up by some of its keys, and what of them is known."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from router.log import sources
from router.log.filters import Filter
from router.log.reader import Log
from router.log.rollups import PRICE_BANDS, RATED_BY, SUMS
from router.log.rollups import added as summed
from router.log.schema import sql
from router.types import UNCHARGED

if TYPE_CHECKING:
    import pandas as pd

    from router.prices import PriceBook

PAID = ("model", "answered", "usage_grade", "usage_known", *RATED_BY)
"""Keys of a roll-up that a cost depends on, the day aside."""


def sums_of(
    log: Log,
    chosen: Filter,
    table: str,
    keys: Mapping[str, str],
    prices: PriceBook,
    *,
    period: str = "date_trunc('day', d.decided_at)",
    whole: bool = True,
    models: Sequence[str] = (),
) -> pd.DataFrame:
    """Sums by the keys; read again from rows when a model's price tier starts where roll-ups tell nothing apart."""
    sums = run_sums(log, sources.source(log, chosen, table, period=period, whole=whole), table, keys)
    days = sums["day"].to_numpy().astype("datetime64[D]").tolist()
    told = sums["service_tier"].tolist()
    dated = {(day, tier) for day, tier in zip(days, told, strict=True) if day is not None}
    seen = {x for x in zip(sums["model"].tolist(), days, told, strict=True) if x[1] is not None}
    seen |= {(model, *when) for model in models for when in dated}
    rates = (prices.rate(model, day, tier=tier) for model, day, tier in seen if isinstance(model, str))
    starts = {rate.tier_from for rate in rates if rate is not None}
    odd = starts - {None, *PRICE_BANDS}
    if odd:
        found = sources.source(
            log, chosen, table, period=period, whole=False, tiers=[x for x in odd if x is not None]
        )
        sums = run_sums(log, found, table, keys)
    return sums


def run_sums(log: Log, found: sources.Source, table: str, keys: Mapping[str, str]) -> pd.DataFrame:
    """``keys`` names each column with the SQL it is made of, "" for the column of that name."""
    added = [*SUMS[table], *(("first_at", "last_at") if table == "hourly" else ())]
    columns = ", ".join(f"{text or f's.{name}'} AS {name}" for name, text in keys.items())
    query = sql("sums").replace("{keys}", columns).replace("{names}", ", ".join(keys))
    query = query.replace("{sums}", ", ".join(f"{_typed(name)} AS {name}" for name in added))
    return log.frame(query.replace("{source}", found.sql), found.values)


def _typed(name: str) -> str:
    """SQL that adds up one column, as a type that pandas holds."""
    if name in ("first_at", "last_at"):
        return summed(name)
    counts = name.startswith("n") or name.endswith("_tokens")
    return f"CAST({summed(name)} AS {'BIGINT' if counts else 'DOUBLE'})"


def answering(sums: pd.DataFrame) -> list[str | None]:
    """The model that answered, for each row of sums; None where none did."""
    return [
        model if there else None
        for model, there in zip(sums["model"].tolist(), sums["answered"].tolist(), strict=True)
    ]


def added_up(table: pd.DataFrame, keys: list[str], or_null: Collection[str] = ()) -> pd.DataFrame:
    """The table with rows of equal keys added up, in the order of the keys; sums of ``or_null`` are NULL without a value."""
    grouped = table.groupby(keys, dropna=False, sort=True, as_index=False)
    plain = grouped.sum(numeric_only=True)
    for name in or_null:
        plain[name] = grouped[name].sum(min_count=1)[name]
    return plain


def unanswered(sums: pd.DataFrame) -> pd.Series:
    """Whether no model answered the decisions of each row and no provider charges for how that ended: they cost 0."""
    return sums["outcome"].isin(UNCHARGED) & ~sums["usage_known"].astype(bool)
