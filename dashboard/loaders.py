"""What pages read: the log's queries, cached until a row arrives, the policy changes or the day turns.

Pages hold no SQL and no connection. Every function takes plain values and gives small tables or numbers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pandas as pd
import streamlit as st

from dashboard import state
from router.analysis.auditing import Sample, right_or_wrong, sample
from router.analysis.calibration import BINS, Calibration, calibration
from router.analysis.lengths import LengthRatio
from router.analysis.lengths import length_ratios as length_ratios_of
from router.analysis.quality import Quality
from router.analysis.quality import quality as quality_of
from router.errors import LogLocked, PolicyError
from router.log import judged as judging
from router.log import queries
from router.log.audits import audit_rows
from router.log.owner import local_owner
from router.log.queries import Filter
from router.log.reader import Log, open_log
from router.log.spending import Repriced, Unpriced
from router.policy import Policy
from router.prices import PriceBook

REFRESH_SECONDS = 1.0
COPY_SECONDS = 5.0
"""How long a page waits for a copy of another owner's log."""

CACHE_ENTRIES = 128
PER_BIN = 20
"""Judged decisions that a point of the reliability chart needs."""

P = ParamSpec("P")
T = TypeVar("T")

_keys: dict[str | type[Any], Callable[[Any], Any]] = {
    Filter: repr,
    Policy: lambda policy: policy.fingerprint,
}


class _Beside:
    """A reader beside another process's owner: an in-memory copy that takes in what is new at most once a second.

    The copy is made in a thread: of a long log that takes longer than a page may stay blank.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._log: Log | None = None
        self._failure: Exception | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._copy, name="routescope-copy", daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        try:
            self._log = open_log(self._data, take_lock=False)
        except Exception as failure:  # raised where somebody waits for the log
            self._failure = failure
        self._read = time.monotonic()

    @property
    def has_failed(self) -> bool:
        return self._failure is not None

    def fresh(self, wait_s: float) -> Log:
        self._thread.join(wait_s)
        if self._failure is not None:
            raise self._failure
        if self._log is None:
            raise LogLocked(
                "another process owns the log; a copy of archive and spools is being read into memory. Look again in a moment"
            )
        with self._lock:
            if time.monotonic() - self._read > REFRESH_SECONDS:
                self._log.refresh()
                self._read = time.monotonic()
        return self._log

    def close(self) -> None:
        self._thread.join()
        if self._log is not None:
            self._log.close()


_beside: dict[Path, _Beside] = {}
_beside_lock = threading.Lock()


def get_log(*, wait_s: float = COPY_SECONDS) -> Log:
    """The log: this process's own database when it is the owner, else a copy read from the spools.

    ``wait_s``: how long the copy is waited for (seconds) before LogLocked is raised; it is read on all the same.
    """
    data = state.settings().data
    owner = local_owner(data)
    if owner is not None and (mending := owner.mending):
        raise LogLocked(mending)  # a copy read from the archive would take as long
    if owner is not None and owner.is_open:
        with _beside_lock:
            former = _beside.pop(data, None)
        if former is not None:
            former.close()
        return open_log(data)
    with _beside_lock:
        if data not in _beside or _beside[data].has_failed:
            _beside[data] = _Beside(data)
        reader = _beside[data]
    return reader.fresh(wait_s)


def close_readers() -> None:
    """Close what ``get_log`` keeps open; for the server's end and for tests."""
    with _beside_lock:
        for reader in _beside.values():
            reader.close()
        _beside.clear()


def prices(policy: Policy | None = None) -> PriceBook:
    """The price book with the policy's own prices."""
    chosen = policy or policy_in_view()
    return _price_book(chosen.fingerprint, chosen)


@st.cache_resource(max_entries=16, show_spinner=False)
def _price_book(fingerprint: str, _policy: Policy) -> PriceBook:
    return PriceBook(_policy.models)


def policy_in_view() -> Policy:
    """The policy chosen in the bar when the log has its text, else the one in force."""
    fingerprint = state.current_filter().policy
    production = state.production_policy()
    if fingerprint is None or fingerprint == production.fingerprint:
        return production
    toml = next((p["toml"] for p in policies_seen() if p["fingerprint"] == fingerprint), None)
    if toml is None:
        return production
    try:
        return Policy.from_toml(toml, source=f"policy {fingerprint[:6]}")
    except PolicyError:
        return production  # written by a version with other rules; its decisions are still shown


def version() -> int:
    """Rows ingested so far: changes when a decision arrives."""
    return queries.total(get_log())


def log_note() -> str:
    """A sentence when the log is not read from its database, else ""."""
    log = get_log()
    owner = local_owner(log.data)
    if owner is not None and (error := owner.status().error):
        return f"The log's owner has a problem: {error}"
    if owner is not None and (activity := owner.status().activity):
        return f"The database is being written anew ({activity.name}, {activity.share:.0%}); new decisions show after that."
    if log.mode == "spool" and log.holder is not None:
        since = f", since {log.holder.since:%H:%M} UTC" if log.holder.since else ""
        return f"Another process owns the log (PID {log.holder.pid}{since}). Reading the spools instead, {log.age_s:.0f} s old."
    return log.note


def log_counts(chosen: Filter) -> int:
    """Decisions that match."""
    return _cached(_count, chosen)


def summary(chosen: Filter) -> dict[str, Any]:
    """Counts, USD and latency of a period; see ``queries.summary``."""
    return _cached(_summary, chosen, policy_in_view())


def before(chosen: Filter) -> Filter | None:
    """The same filter over the span of equal length just before; None when the range is open or the log does not reach back that far."""
    if chosen.start is None:
        return None
    end = chosen.end or datetime.now(UTC).replace(tzinfo=None)
    earlier = replace(chosen, start=chosen.start - (end - chosen.start), end=chosen.start)
    first = span(Filter())[0]
    assert earlier.start is not None
    # A log that began inside that span has no such period to compare with: +3,000 % would say nothing. A day of grace,
    # for a span of whole days begins at midnight.
    return None if first is None or first >= earlier.start + timedelta(days=1) else earlier


def span(chosen: Filter) -> tuple[datetime | None, datetime | None]:
    """Times of the first and the last decision that match."""
    return _cached(_bounds, chosen)


def series(chosen: Filter, width: timedelta) -> pd.DataFrame:
    """Counts and USD over time; see ``series.sql``."""
    return _cached(_series, chosen, policy_in_view(), width)


def latency(chosen: Filter, width: timedelta) -> pd.DataFrame:
    """Time the classifier took (ms), by period."""
    return _cached(_latency, chosen, width)


def cells(chosen: Filter, baseline: str | None = None, policy: Policy | None = None) -> pd.DataFrame:
    """Sums per label and confidence bin; see ``cells.sql``."""
    return _cached(_cells, chosen, policy or policy_in_view(), baseline)


def bins(chosen: Filter) -> pd.DataFrame:
    """Decisions by label and confidence bin."""
    return _cached(_bins, chosen)


def pairs(chosen: Filter) -> pd.DataFrame:
    """How close the two best labels are; see ``pairs.sql``."""
    return _cached(_pairs, chosen, policy_in_view())


def spend(
    chosen: Filter,
    baseline: str | Policy | None = None,
    lengths: dict[str, tuple[float, float]] | None = None,
) -> pd.DataFrame:
    """What was paid beside the baseline; see ``queries.spend``."""
    return _cached(_spend, chosen, policy_in_view(), baseline, lengths)


def repriced(chosen: Filter) -> Repriced:
    """What answers cost by the log, and by today's price book."""
    return _cached(_repriced, chosen, policy_in_view())


def unpriced(chosen: Filter, baseline: str | Policy) -> list[Unpriced]:
    """Why decisions are no part of the savings; see ``queries.unpriced``."""
    return _cached(_unpriced, chosen, policy_in_view(), baseline)


def dearest(chosen: Filter) -> str:
    """The model of the policy in view that would have cost most."""
    return _cached(_dearest, chosen, policy_in_view())


def previous_policy() -> Policy | None:
    """The policy that made decisions before the one in view; None when there is none."""
    return _cached(_previous, policy_in_view())


def length_ratios(chosen: Filter, baseline: str) -> dict[str, LengthRatio]:
    """How other models' tokens turn into the baseline's, where the log shows it."""
    return _cached(_length_ratios, chosen, baseline)


def flips(chosen: Filter, candidate: Policy, limit: int = queries.PAGE_SIZE) -> pd.DataFrame:
    """Decisions that a candidate sends to another model, nearest the line first."""
    return _cached(_flips, chosen, policy_in_view(), candidate, limit)


def flip_counts(chosen: Filter, candidate: Policy) -> pd.DataFrame:
    """Decisions that cross a line, by model before and after."""
    return _cached(_flip_counts, chosen, policy_in_view(), candidate)


def close_calls(chosen: Filter, a: str, b: str, close: float, limit: int = queries.PAGE_SIZE) -> pd.DataFrame:
    """Decisions whose two best labels are this pair and close, closest first."""
    return _cached(_close_calls, chosen, a, b, close, limit)


def page(chosen: Filter, number: int) -> pd.DataFrame:
    """One page of the log, newest first."""
    return _cached(_page, chosen, policy_in_view(), number)


def decision(id: str) -> dict[str, Any] | None:
    """Every column of one decision; None when there is none."""
    return queries.decision(get_log(), id, prices())


def said_of(id: str) -> list[judging.Said]:
    """What people said of one decision."""
    return judging.said_of(get_log(), id)


def policies_seen() -> list[dict[str, Any]]:
    """Policies that made decisions, newest use first."""
    return _cached(_policies)


def labels_seen() -> list[str]:
    """Labels in the order of their first decision."""
    return _cached(_labels)


def models_seen() -> list[str]:
    """Models in the order of their first decision."""
    return _cached(_models)


def holds_prompts(chosen: Filter) -> bool:
    """Whether any decision that matches has its prompt."""
    return judging.holds_prompts(get_log(), chosen)


def reliability(chosen: Filter, policy: Policy) -> Calibration:
    """How confidence agrees with what auditors said; empty before the first audit judgement. Read anew at each judgement."""
    return _cached(_reliability, judging.n_feedback(get_log()), chosen, policy)


def quality(chosen: Filter, policy: Policy) -> tuple[Quality | None, Sample, bool]:
    """Share of right labels by threshold, and the audit behind it; read anew at each judgement.

    The share is None where it is not measured; the last value says whether that is because the audit was drawn from a part of this
    traffic.
    """
    return _cached(_quality, judging.n_feedback(get_log()), chosen, policy)


def losses() -> dict[str, Any]:
    """Drops and damaged lines; see ``queries.losses``."""
    return queries.losses(get_log())


def backlog_bytes() -> int:
    """Bytes in the spools that the pages do not show yet."""
    return get_log().backlog_bytes()


def today() -> date:
    """Today in UTC: what ends of life and price ages are counted from."""
    return datetime.now(UTC).date()


def _cached(function: Callable[..., T], *arguments: Any) -> T:
    # One cache for each data folder and edition of the log: nothing stale or erased is ever shown, nothing is read twice.
    return function(str(state.settings().data), queries.edition(get_log()), *arguments)


def _query(function: Callable[P, T]) -> Callable[P, T]:
    return st.cache_data(max_entries=CACHE_ENTRIES, show_spinner=False, hash_funcs=_keys)(function)


@_query
def _count(data: str, edition: str, chosen: Filter) -> int:
    return queries.count(get_log(), chosen)


@_query
def _bounds(data: str, edition: str, chosen: Filter) -> tuple[datetime | None, datetime | None]:
    return queries.bounds(get_log(), chosen)


@_query
def _summary(data: str, edition: str, chosen: Filter, policy: Policy) -> dict[str, Any]:
    return queries.summary(get_log(), chosen, prices(policy))


@_query
def _series(data: str, edition: str, chosen: Filter, policy: Policy, width: timedelta) -> pd.DataFrame:
    return queries.series(get_log(), chosen, prices(policy), width=width)


@_query
def _cells(data: str, edition: str, chosen: Filter, policy: Policy, baseline: str | None) -> pd.DataFrame:
    return queries.cells(get_log(), chosen, policy, prices(policy), baseline=baseline)


@_query
def _bins(data: str, edition: str, chosen: Filter) -> pd.DataFrame:
    return queries.bins(get_log(), chosen)


@_query
def _pairs(data: str, edition: str, chosen: Filter, policy: Policy) -> pd.DataFrame:
    return queries.pairs(get_log(), chosen, policy, prices(policy))


@_query
def _latency(data: str, edition: str, chosen: Filter, width: timedelta) -> pd.DataFrame:
    return queries.latency(get_log(), chosen, width=width)


@_query
def _spend(
    data: str,
    edition: str,
    chosen: Filter,
    policy: Policy,
    baseline: str | Policy | None,
    lengths: dict[str, tuple[float, float]] | None,
) -> pd.DataFrame:
    return queries.spend(get_log(), chosen, policy, prices(policy), baseline=baseline, lengths=lengths)


@_query
def _unpriced(
    data: str, edition: str, chosen: Filter, policy: Policy, baseline: str | Policy
) -> list[Unpriced]:
    return queries.unpriced(get_log(), chosen, policy, prices(policy), baseline=baseline)


@_query
def _repriced(data: str, edition: str, chosen: Filter, policy: Policy) -> Repriced:
    return queries.repriced(get_log(), chosen, prices(policy))


@_query
def _dearest(data: str, edition: str, chosen: Filter, policy: Policy) -> str:
    return queries.dearest(get_log(), chosen, policy, prices(policy))


@_query
def _previous(data: str, edition: str, policy: Policy) -> Policy | None:
    return queries.previous_policy(get_log(), policy)


@_query
def _length_ratios(data: str, edition: str, chosen: Filter, baseline: str) -> dict[str, LengthRatio]:
    return length_ratios_of(*queries.lengths(get_log(), chosen, baseline), baseline)


@_query
def _flips(
    data: str, rows: int, chosen: Filter, policy: Policy, candidate: Policy, limit: int
) -> pd.DataFrame:
    return queries.flips(get_log(), chosen, policy, candidate, prices(policy), limit=limit)


@_query
def _flip_counts(data: str, edition: str, chosen: Filter, policy: Policy, candidate: Policy) -> pd.DataFrame:
    return queries.flip_counts(get_log(), chosen, policy, candidate, prices(policy))


@_query
def _close_calls(
    data: str, rows: int, chosen: Filter, a: str, b: str, close: float, limit: int
) -> pd.DataFrame:
    return queries.close_calls(get_log(), chosen, a, b, close=close, limit=limit)


@_query
def _page(data: str, edition: str, chosen: Filter, policy: Policy, number: int) -> pd.DataFrame:
    return queries.page(get_log(), chosen, prices(policy), number=number)


@_query
def _reliability(data: str, edition: str, feedback: int, chosen: Filter, policy: Policy) -> Calibration:
    rows = audit_rows(get_log(), chosen)
    audit = right_or_wrong(rows.table, policy, classifier=rows.classifier)
    bins = max(min(len(audit) // PER_BIN, BINS), 1)
    correct = (audit["verdict"] == "right").to_numpy()
    return calibration(
        audit["confidence"].to_numpy(dtype=float), correct, rng=np.random.default_rng(0), bins=bins
    )


@_query
def _quality(
    data: str, edition: str, feedback: int, chosen: Filter, policy: Policy
) -> tuple[Quality | None, Sample, bool]:
    rows = audit_rows(get_log(), chosen)
    found = sample(rows.table, policy, classifier=rows.classifier, partial=True)
    part = bool(rows.narrower)
    return None if part else quality_of(found.audit, policy), found, part


@_query
def _policies(data: str, edition: str) -> list[dict[str, Any]]:
    return queries.policies_seen(get_log())


@_query
def _labels(data: str, edition: str) -> list[str]:
    return queries.labels_seen(get_log())


@_query
def _models(data: str, edition: str) -> list[str]:
    return queries.models_seen(get_log())
