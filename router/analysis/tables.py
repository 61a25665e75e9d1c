"""The small tables that the log's SQL reduces decisions to, and that every function of this package takes.

Money is USD. All counts and sums add up: tables of two periods, put under each other, describe both together, and rows
with equal keys may be merged by adding. Costs of a decision are those of its own token counts at its own day's prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Kind = Literal["text", "text or NULL", "time", "day", "bin", "count", "sum", "sum or NULL"]
_DTYPES = {
    "text": "object",
    "text or NULL": "object",
    "time": "datetime64[us]",
    "day": "datetime64[us]",
    "bin": "int64",
    "count": "int64",
    "sum": "float64",
    "sum or NULL": "float64",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, what it holds, and what it means."""

    name: str
    kind: Kind
    meaning: str


@dataclass(frozen=True, slots=True)
class Contract:
    """The columns of a table and its grain. ``optional`` columns may be left out."""

    name: str
    grain: str
    columns: tuple[Column, ...]
    optional: tuple[Column, ...] = ()
    largest_bin: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that must be there, in order."""
        return tuple(column.name for column in self.columns)


_N = Column("n", "count", "decisions")
_MEASURED = Column("n_measured", "count", "of the n, those whose tokens the provider reported (usage_grade)")
_ASSUMED = Column("n_assumed", "count", "of the n, those whose tokens are assumed (usage_grade)")

CELLS = Contract(
    "cells",
    "one row per label and confidence bin; decisions with scores only",
    (
        Column("label", "text", "top label"),
        Column("bin", "bin", "router.policy.confidence_bin of the confidence, 0 to 10,000"),
        _N,
        Column(
            "n_priced",
            "count",
            "of the n, those with known tokens and known label, fallback and baseline price; "
            "every sum below is over these",
        ),
        Column("label_cost", "sum", "cost had the label's model answered"),
        Column("fallback_cost", "sum", "cost had the fallback model answered"),
        Column("baseline_cost", "sum", "cost had the baseline model answered (0 when the policy names none)"),
        Column("label_cost_sq", "sum", "squares of label_cost, decision by decision"),
        Column("fallback_cost_sq", "sum", "squares of fallback_cost"),
        Column("baseline_cost_sq", "sum", "squares of baseline_cost"),
        Column("label_fallback", "sum", "products label_cost x fallback_cost"),
        Column("label_baseline", "sum", "products label_cost x baseline_cost"),
        Column("fallback_baseline", "sum", "products fallback_cost x baseline_cost"),
        Column("classifier_cost", "sum or NULL", "what classifying them cost; NULL: not known"),
        _MEASURED,
        _ASSUMED,
    ),
    largest_bin=10_000,
    optional=(
        Column(
            "n_classifier_unknown",
            "count",
            "of the n_priced, those whose classifying has no known cost; left out: a NULL classifier_cost says so",
        ),
    ),
)

BINS = Contract(
    "bins",
    "one row per label and confidence bin; decisions with scores only",
    (CELLS.columns[0], CELLS.columns[1], _N),
    largest_bin=10_000,
)
"""The first columns of CELLS: what needs no money."""

DAILY = Contract(
    "daily",
    "one row per day, label and confidence bin; decisions with scores only",
    (
        Column("day", "day", "UTC day of the decision"),
        CELLS.columns[0],
        Column("bin", "bin", "largest k with k / 100 <= confidence in doubles, 0 to 100"),
        _N,
        Column("n_fallback", "count", "of the n, those that fell back"),
    ),
    largest_bin=100,
)

SERIES = Contract(
    "series",
    "one row per period, label, model, cause and outcome; every decision",
    (
        Column("bucket", "time", "start of the period, naive UTC"),
        Column("label", "text or NULL", "top label; NULL when the classifier failed"),
        Column("model_used", "text or NULL", "the model that answered; NULL when none did"),
        Column("cause", "text", "why the rule chose its model"),
        Column("outcome", "text or NULL", "how the call ended; NULL: no call was made here"),
        _N,
        Column("cost_usd", "sum or NULL", "cost of the n_costed decisions"),
        Column("n_costed", "count", "of the n, those with a known cost"),
        Column(
            "n_unmeasured",
            "count",
            "of the n, those without token counts, though their call may have cost something",
        ),
        _ASSUMED,
    ),
    optional=(
        Column(
            "n_unanswered",
            "count",
            "of the n, those that no model answered and no provider charges for; left out: not told apart",
        ),
        Column(
            "other_usd",
            "sum",
            "what the classifier and failed attempts cost, as far as it is known; left out: not read",
        ),
    ),
)

PAIRS = Contract(
    "pairs",
    "one row per top label, runner-up and margin bin; decisions with two scores or more",
    (
        Column("label", "text", "top label"),
        Column("runner_up", "text", "label with the second score"),
        Column(
            "margin_bin",
            "bin",
            "largest k with k / 100 <= margin in doubles, 0 to 100 (router.analysis.rule.bins)",
        ),
        _N,
        Column(
            "n_priced", "count", "of the n, those with known tokens and both prices; the sums are over these"
        ),
        Column("label_cost", "sum", "cost had the label's model answered"),
        Column("other_cost", "sum", "cost had the runner-up's model answered"),
    ),
    largest_bin=100,
)

CALLS = Contract(
    "calls",
    "one row per model and bin of time; calls that gave a reply and were timed",
    (
        Column("model", "text", "the model that answered"),
        Column("ms", "sum", "middle of the bin, within 1 % of every time in it"),
        Column("n", "count", "calls"),
        Column("total_ms", "sum", "their milliseconds, added up"),
    ),
)

SPEND = Contract(
    "spend",
    "one row per label, model and cause (and day, where given); every decision",
    (
        Column("label", "text or NULL", "top label; NULL when the classifier failed"),
        Column("model_used", "text or NULL", "the model that answered; NULL when none did"),
        Column("cause", "text", "why the rule chose its model"),
        _N,
        Column(
            "n_priced",
            "count",
            "of the n, those with a known actual and a known baseline cost; sums are over these",
        ),
        Column("cost", "sum", "actual cost of the answering model"),
        Column("cost_sq", "sum", "squares of cost, decision by decision"),
        Column("baseline_cost", "sum", "cost had the baseline model answered"),
        Column("baseline_sq", "sum", "squares of baseline_cost"),
        Column("cost_baseline", "sum", "products cost x baseline_cost"),
        Column(
            "label_cost",
            "sum or NULL",
            "cost had the label's model answered; NULL: no label or price not known",
        ),
        Column("classifier_cost", "sum or NULL", "what classifying them cost; NULL: not known"),
        Column("n_unpriced", "count", "n minus n_priced and n_unanswered"),
        _MEASURED,
        _ASSUMED,
    ),
    optional=(
        Column("day", "day", "UTC day of the decision"),
        Column(
            "failed_cost",
            "sum or NULL",
            "cost of attempts that failed before the last one, of all n, as far as it is known and at the prices known when "
            "they were made; left out: none recorded",
        ),
        Column(
            "n_failed_unknown",
            "count",
            "of the n, those with a failed attempt whose cost is not known; left out: not counted",
        ),
        Column(
            "n_classifier_unknown",
            "count",
            "of the n, those whose classifying has no known cost; left out: a NULL classifier_cost says so",
        ),
        Column(
            "n_unanswered",
            "count",
            "of the n, those that no model answered and no provider charges for: they cost 0, and so would the baseline "
            "have; left out: none",
        ),
        Column(
            "n_cost_unknown",
            "count",
            "of the n_unpriced, those whose own cost is not known; left out: all of them",
        ),
        Column(
            "unmatched_cost",
            "sum",
            "known cost of answer and classifier of decisions without a known baseline cost; left out: none",
        ),
        Column(
            "unmatched_failed_cost",
            "sum",
            "of failed_cost, that of decisions without a known baseline cost; left out: not told apart",
        ),
        Column(
            "same_tokens_cost",
            "sum",
            "baseline_cost had the baseline taken the same tokens; left out: it is taken to",
        ),
        Column(
            "baseline_output", "sum", "of baseline_cost, the part for output tokens; left out: not told apart"
        ),
    ),
)


def check(table: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Return the contract's columns of a table, in its order, as int64, float64, datetime64 and text.

    NULL sums of rows in which nothing is priced become 0; where something is priced only "sum or NULL" columns may
    hold NULL.

    Raises
    ------
    ValueError
        Names the table, the columns and what is wrong: a column is missing, a count is negative or not whole, a bin is
        out of range, more rows are priced than there are, a sum of priced rows is NULL.
    """
    return pd.DataFrame(columns(table, contract), copy=False)


def columns(table: pd.DataFrame, contract: Contract) -> dict[str, Any]:
    """Return what :func:`check` does, as arrays by name: building a frame costs more than a whole sweep."""
    missing = [name for name in contract.names if name not in table.columns]
    if missing:
        raise ValueError(
            f"{contract.name}: no column {', '.join(missing)}; expected {', '.join(contract.names)}"
        )
    found: dict[str, Any] = {}
    for column in contract.columns + tuple(x for x in contract.optional if x.name in table.columns):
        found[column.name] = _converted(table[column.name], column, contract)
    if "n_priced" in found:
        priced = found["n_priced"]
        wrong = int(np.sum(priced > found["n"]))
        if wrong:
            raise ValueError(f"{contract.name}: n_priced is larger than n in {wrong} rows")
        for column in contract.columns:
            if column.kind == "sum":
                found[column.name] = _zero_where_unpriced(found[column.name], priced, column, contract)
    return found


def empty(contract: Contract) -> pd.DataFrame:
    """Return a table without rows that holds every column of a contract, the optional ones left out."""
    return pd.DataFrame({x.name: pd.Series(dtype=_DTYPES[x.kind]) for x in contract.columns})


def _converted(values: pd.Series, column: Column, contract: Contract) -> Any:
    where = f"{contract.name}.{column.name}"
    if column.kind in ("text", "text or NULL"):
        return _text(values, column, where)
    if column.kind in ("time", "day"):
        return np.asarray(pd.to_datetime(values), dtype="datetime64[us]")
    if column.kind in ("bin", "count") and values.dtype == np.int64:  # whole already: a curve's cells, mostly
        return _whole(values.to_numpy(), column, contract, where)
    try:
        numbers: NDArray[np.float64] = values.to_numpy(dtype="float64", na_value=np.nan)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: found {values.dtype}, expected numbers ({column.meaning})") from None
    if column.kind in ("sum", "sum or NULL"):
        return numbers
    if not bool(np.all(numbers == np.floor(numbers))):
        raise ValueError(f"{where}: expected whole numbers, 0 or more ({column.meaning})")
    return _whole(numbers, column, contract, where).astype("int64")


def _whole(numbers: NDArray[Any], column: Column, contract: Contract, where: str) -> NDArray[Any]:
    if numbers.size and not numbers.min() >= 0:
        raise ValueError(f"{where}: expected whole numbers, 0 or more ({column.meaning})")
    if column.kind == "bin" and numbers.size and numbers.max() > contract.largest_bin:
        raise ValueError(f"{where}: found {numbers.max():.0f}, expected at most {contract.largest_bin:,}")
    return numbers


def _text(values: pd.Series, column: Column, where: str) -> Any:
    if column.kind == "text":
        unknown = int(values.isna().sum())
        if unknown:
            raise ValueError(f"{where}: NULL in {unknown} rows, expected text ({column.meaning})")
    return values.array


def _zero_where_unpriced(
    sums: NDArray[Any], priced: NDArray[Any], column: Column, contract: Contract
) -> NDArray[Any]:
    if not np.isnan(sums.sum()):  # one that is not a number makes the sum none
        return sums
    unknown = np.isnan(sums)
    wrong = unknown & (priced > 0)
    if wrong.any():
        raise ValueError(
            f"{contract.name}.{column.name}: NULL in {int(wrong.sum())} rows with priced decisions; a decision whose "
            "cost is not known does not count as priced"
        )
    return np.where(unknown, 0.0, sums)
