"""What thresholds are defended with: judged decisions, all scores of each decision, days, and what decisions rested on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

PART_ROWS = 131_072
"""How many decisions are read at a time with all their scores: a whole log of them does not fit into memory."""


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
    ids: Collection[str],
) -> pd.DataFrame:
    """Some decisions by id, newest first, with the columns of :func:`scored_parts`."""
    query, values, rates = _scored(log, chosen, labels, models, prices)
    query += " AND d.id IN (SELECT CAST(unnest($ids) AS UUID))\nORDER BY d.decided_at DESC, d.id DESC"
    found = log.frame(query, values | {"ids": list(ids)}, rates)
    return found.rename(columns=_names(labels, models))


def scored_parts(
    log: Log,
    chosen: Filter,
    labels: Sequence[str],
    models: Sequence[str],
    prices: PriceBook,
    *,
    new_prices: PriceBook | None = None,
    progress: Callable[[int], None] | None = None,
    size: int = PART_ROWS,
) -> Iterator[pd.DataFrame]:
    """All decisions with scores, in parts and in no order, with ``score:<label>`` and ``cost:<model>`` (USD, NULL: not known).

    See ``scored.sql``. ``new_prices`` adds ``new_cost:<model>``, the cost under another book. ``progress`` is called with the rows
    of each part.
    """
    query, values, rates = _scored(log, chosen, labels, models, prices, new_prices)
    for part in log.batches(query, values, rates, size=size):
        yield part.rename(columns=_names(labels, models))
        if progress is not None:
            progress(len(part))


def sum_to_1(log: Log, chosen: Filter, labels: Sequence[str], *, within: float) -> bool:
    """Whether the scores of these labels sum to 1 in every decision that has them all: then merged labels are added."""
    condition, values = where(chosen)
    total = " + ".join(f"d.scores[$label_{k}]" for k in range(len(labels)))
    rows = log.rows(
        f"SELECT coalesce(bool_and(abs({total} - 1) <= $within), true) FROM decisions d "
        f"WHERE d.confidence IS NOT NULL AND {condition}",
        values | {f"label_{k}": name for k, name in enumerate(labels)} | {"within": within},
    )
    return bool(rows[0][0])


def prompt_lengths(log: Log, chosen: Filter, labels: Sequence[str]) -> tuple[float, ...]:
    """Quartiles of the characters of prompts, of decisions with a score for each label; empty where none is known."""
    condition, values = where(chosen)
    whole = "".join(f" AND d.scores[$label_{k}] IS NOT NULL" for k in range(len(labels)))
    rows = log.rows(
        "SELECT quantile_cont(d.prompt_chars, [0.25, 0.5, 0.75]) FROM decisions d "
        f"WHERE d.confidence IS NOT NULL{whole} AND {condition}",
        values | {f"label_{k}": name for k, name in enumerate(labels)},
    )
    return tuple(float(x) for x in rows[0][0] or ())


def _scored(
    log: Log,
    chosen: Filter,
    labels: Sequence[str],
    models: Sequence[str],
    prices: PriceBook,
    new_prices: PriceBook | None = None,
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The query, its values, and the tables of rates that it joins."""
    condition, values = where(chosen)
    columns = "".join(f", d.scores[$label_{k}] AS score_{k}" for k in range(len(labels)))
    days, tiers = sources.days(log, chosen), sources.service_tiers(log)
    books = {"": prices} if new_prices is None else {"": prices, "new_": new_prices}
    joins, tables = "", {}
    for side, book in books.items():
        for k in range(len(models)):
            name = f"{side}r{k}"
            columns += f", {row_cost(name)} AS {side}cost_{k}"
            joins += (
                f"\nLEFT JOIN {side}rates {name} ON {name}.model = $model_{k} AND {name}.day = CAST(d.decided_at AS DATE)"
                f" AND {name}.service_tier = rate_tier(d.service_tier)"
            )
        tables[f"{side}rates"] = rates_table(book, models, days, tiers)
    bound: dict[str, Any] = {f"label_{k}": name for k, name in enumerate(labels)}
    bound |= {f"model_{k}": name for k, name in enumerate(models)}
    query = (
        sql("scored").replace("{columns}", columns).replace("{joins}", joins).replace("{filter}", condition)
    )
    return query.rstrip(), values | bound, tables


def repriced(
    log: Log, chosen: Filter, models: Sequence[str], prices: PriceBook, new_prices: PriceBook
) -> tuple[str, ...]:
    """Those of the models that two books price differently on a day and at a service tier of the log."""
    days, tiers = sources.days(log, chosen), sources.service_tiers(log)
    return tuple(
        x
        for x in models
        if not rates_table(prices, [x], days, tiers).equals(rates_table(new_prices, [x], days, tiers))
    )


def _names(labels: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    names = {f"score_{k}": f"score:{name}" for k, name in enumerate(labels)}
    return names | {
        f"{side}cost_{k}": f"{side}cost:{name}" for side in ("", "new_") for k, name in enumerate(models)
    }


def prompts(log: Log, ids: Collection[str]) -> dict[str, str | None]:
    """Stored prompts by id; None where the log keeps none."""
    rows = log.rows(
        "SELECT CAST(id AS VARCHAR), prompt FROM decisions WHERE id IN (SELECT CAST(unnest($ids) AS UUID))",
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


def newest_classifier(log: Log, chosen: Filter) -> str | None:
    """Name of the classifier that scored the newest decision with scores; None without one, or where it does not say."""
    condition, values = where(chosen)
    rows = log.rows(
        f"SELECT d.classifier FROM decisions d WHERE d.confidence IS NOT NULL AND {condition} "
        "ORDER BY d.decided_at DESC, d.id DESC LIMIT 1",
        values,
    )
    return rows[0][0] if rows else None


@dataclass(frozen=True, slots=True)
class Ground:
    """Decisions whose scores mean the same: of one classifier, for one set of labels, rubrics and examples.

    ``chosen`` picks them; of the ``n`` with scores ``n_other`` are of another ground. ``is_asked``: it is the label set that was
    asked for; else the log has none of that, and it is the newest one's. ``classifier`` is the one that was asked for, and
    ``others`` (name, decisions) those of ``n_other`` that another one scored, most first.
    """

    chosen: Filter
    n: int
    n_other: int
    is_asked: bool
    classifier: str | None
    others: tuple[tuple[str, int], ...]


def ground(log: Log, chosen: Filter, label_set: str, classifier: str | None) -> Ground:
    """The ground of a classifier (None: of any) and a policy's labels (their fingerprint); decisions that do not say belong to it."""
    condition, values = where(chosen)
    rows = log.rows(
        "SELECT d.classifier, d.labels_fingerprint, count(*), max(d.decided_at) FROM decisions d "
        f"WHERE d.confidence IS NOT NULL AND {condition} GROUP BY ALL ORDER BY 4 DESC NULLS LAST, 1, 2",
        values,
    )
    mine = [x for x in rows if classifier is None or x[0] in (None, classifier)]
    is_asked = any(x[1] in (None, label_set) for x in mine) or not mine
    wanted = label_set if is_asked else mine[0][1]
    n = sum(x[2] for x in rows)
    n_other = n - sum(x[2] for x in mine if x[1] in (None, wanted))
    narrowed = replace(chosen, classifier=classifier, label_set=wanted) if n_other else chosen
    others: dict[str, int] = {}
    for name, _, many, _ in rows:
        if classifier is not None and name not in (None, classifier):
            others[str(name)] = others.get(str(name), 0) + int(many)
    most_first = tuple(sorted(others.items(), key=lambda x: (-x[1], x[0])))
    return Ground(narrowed, int(n), int(n_other), is_asked, classifier, most_first)


def rested_on(log: Log, chosen: Filter) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classifiers, and fingerprints of the label sets, that decisions of the filter came from; by name."""
    condition, values = where(chosen)
    found = log.rows(
        f"SELECT DISTINCT d.classifier, d.labels_fingerprint FROM decisions d WHERE d.confidence IS NOT NULL AND {condition}",
        values,
    )
    classifiers = sorted({str(name) for name, _ in found if name is not None})
    return tuple(classifiers), tuple(sorted({str(x) for _, x in found if x is not None}))
