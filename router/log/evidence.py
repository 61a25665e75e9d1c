"""What thresholds are defended with: judged decisions, all scores of each decision, days, and what decisions rested on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from router.log import sources
from router.log.filters import Filter, where
from router.log.judged import judged
from router.log.pricing import rates_table, row_cost
from router.log.reader import Log
from router.log.schema import sql

if TYPE_CHECKING:
    import pandas as pd

    from router.prices import PriceBook

MOST_ROWS = 500_000
"""How many decisions are read with all their scores: the newest. Beyond it samples are large enough, and memory is not."""


def judgements(log: Log, chosen: Filter) -> pd.DataFrame:
    """Decisions judged right or wrong that have scores: one row for each queue that drew them; see ``router.log.judged``."""
    table = judged(log, chosen)
    return table[table["verdict"].isin(("right", "wrong")) & table["confidence"].notna()]


def daily(log: Log, chosen: Filter) -> pd.DataFrame:
    """Decisions by day, label and confidence; see router.analysis.tables.DAILY."""
    condition, values = where(chosen)
    return log.frame(sql("daily").replace("{filter}", condition), values)


def daily_share(log: Log, chosen: Filter, lines: Mapping[str, float]) -> pd.DataFrame:
    """Decisions by day, and those below their label's line; labels without one are left out. See ``daily_share.sql``."""
    import pyarrow as pa

    condition, values = where(chosen)
    table = pa.table(
        {"label": pa.array(lines.keys(), pa.string()), "line": pa.array(lines.values(), pa.float64())}
    )
    return log.frame(sql("daily_share").replace("{filter}", condition), values, {"lines": table})


def scored(
    log: Log,
    chosen: Filter,
    labels: Sequence[str],
    models: Sequence[str],
    prices: PriceBook,
    *,
    ids: Collection[str] | None = None,
    limit: int = MOST_ROWS,
) -> pd.DataFrame:
    """Decisions, newest first, with columns ``score:<label>`` and ``cost:<model>`` (USD, NULL: not known); see ``scored.sql``."""
    condition, values = where(chosen)
    columns = "".join(f", d.scores[$label_{k}] AS score_{k}" for k in range(len(labels)))
    columns += "".join(f", {row_cost(f'r{k}')} AS cost_{k}" for k in range(len(models)))
    joins = "".join(
        f"\nLEFT JOIN rates r{k} ON r{k}.model = $model_{k} AND r{k}.day = CAST(d.decided_at AS DATE)"
        f" AND r{k}.service_tier = rate_tier(d.service_tier)"
        for k in range(len(models))
    )
    bound: dict[str, Any] = {f"label_{k}": name for k, name in enumerate(labels)}
    bound |= {f"model_{k}": name for k, name in enumerate(models)}
    bound |= {"limit": limit}
    if ids is not None:
        condition += " AND list_contains($ids, CAST(d.id AS VARCHAR))"
        bound |= {"ids": list(ids)}
    query = (
        sql("scored").replace("{columns}", columns).replace("{joins}", joins).replace("{filter}", condition)
    )
    rates = rates_table(prices, models, sources.days(log, chosen), sources.service_tiers(log))
    found = log.frame(query, values | bound, {"rates": rates})
    names = {f"score_{k}": f"score:{name}" for k, name in enumerate(labels)}
    return found.rename(columns=names | {f"cost_{k}": f"cost:{name}" for k, name in enumerate(models)})


def prompts(log: Log, ids: Collection[str]) -> dict[str, str | None]:
    """Stored prompts by id; None where the log keeps none."""
    rows = log.rows(
        "SELECT CAST(id AS VARCHAR), prompt FROM decisions WHERE list_contains($ids, CAST(id AS VARCHAR))",
        {"ids": list(ids)},
    )
    return dict(rows)


def newest_prompts(log: Log, chosen: Filter, n: int) -> list[tuple[str, str]]:
    """Ids and stored prompts of the newest decisions with scores, at most n; those without a stored prompt are passed over."""
    condition, values = where(chosen)
    rows = log.rows(
        "SELECT CAST(d.id AS VARCHAR), d.prompt FROM decisions d WHERE d.confidence IS NOT NULL AND d.prompt IS NOT NULL "
        f"AND {condition} ORDER BY d.decided_at DESC, d.id DESC LIMIT $n",
        values | {"n": n},
    )
    return [(str(id), str(prompt)) for id, prompt in rows]


def score_labels(log: Log, chosen: Filter) -> list[str]:
    """Every label that decisions of the filter have a score for, by name."""
    condition, values = where(chosen)
    rows = log.rows(
        f"SELECT DISTINCT unnest(map_keys(d.scores)) AS label FROM decisions d WHERE {condition} ORDER BY label",
        values,
    )
    return [str(label) for (label,) in rows]


def rested_on(log: Log, chosen: Filter) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classifiers, and fingerprints of the label sets, that decisions of the filter came from; by name."""
    condition, values = where(chosen)
    found = log.rows(
        f"SELECT DISTINCT d.classifier, d.labels_fingerprint FROM decisions d WHERE d.confidence IS NOT NULL AND {condition}",
        values,
    )
    classifiers = sorted({str(name) for name, _ in found if name is not None})
    return tuple(classifiers), tuple(sorted({str(x) for _, x in found if x is not None}))
