"""What the reader has chosen: data folder, policy, filter, zone, candidate; and links that carry it.

Every choice is a widget of the frame bound to the URL under one key, the same on every page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from router.config import data_dir, policy_path
from router.policy import Policy, snap

if TYPE_CHECKING:
    from router.log.queries import Filter

RANGE, FIRST_DAY, LAST_DAY, POLICY, LABELS, MODELS, SEARCH, ZONE, CANDIDATE = (
    "range", "from", "to", "policy", "label", "model", "q", "local", "t",
)  # fmt: skip
"""Keys of the bound widgets, which are the names in the URL."""
_KEYS = (RANGE, FIRST_DAY, LAST_DAY, POLICY, LABELS, MODELS, SEARCH, ZONE, CANDIDATE)

PERIOD = (RANGE, FIRST_DAY, LAST_DAY, ZONE)
"""Keys that together say which period is meant."""

_PAGE = "routescope_page"

RANGES = ("24h", "7d", "30d", "All", "Custom")
DEFAULT_RANGE = "30d"
ALL_POLICIES = ""
"""Value of the policy list that filters nothing; else a fingerprint."""

VIEWS = {
    name: f"views/{name}.py"
    for name in ("overview", "decisions", "labels", "threshold", "savings", "playground", "review")
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Which log and which policy this server shows. ``policy_file`` None: the data folder's, else preset seed."""

    data: Path
    policy_file: Path | None = None


_settings: Settings | None = None


def configure(settings: Settings | None) -> None:
    """Set the server's data folder and policy for every session; None: back to the environment's."""
    global _settings
    _settings = settings


def settings() -> Settings:
    """What ``configure`` set, else the data folder of ``ROUTESCOPE_DATA`` (so ``AppTest`` needs no server)."""
    return _settings if _settings is not None else Settings(data_dir())


def production_policy() -> Policy:
    """The policy in force: the server's file, else ``<data>/policy.toml``, else preset ``seed``.

    Read anew at each call, so that a saved threshold counts at once (2 ms).

    Raises
    ------
    PolicyError
        The file has faults; all are listed.
    """
    chosen = settings()
    path = policy_path(chosen.policy_file, chosen.data)
    return Policy.preset("seed") if path is None else Policy.load(path)


def policy_file() -> Path:
    """Where a change of the policy is saved: the server's file, else ``<data>/policy.toml``."""
    chosen = settings()
    return chosen.policy_file if chosen.policy_file is not None else chosen.data / "policy.toml"


def candidate() -> float:
    """The threshold being tried, in [0, 1] on the 1e-4 grid; the production threshold until one was chosen."""
    value = st.session_state.get(CANDIDATE)
    return production_policy().threshold if value is None else snap(float(value))


def candidate_to_show() -> float:
    """The candidate before its input was drawn: on a fresh session the URL's value is not in the state yet."""
    try:
        value = float(st.query_params.get(CANDIDATE, ""))
    except ValueError:
        return candidate()
    return snap(value) if 0.0 <= value <= 1.0 else candidate()


def set_candidate(value: float) -> None:
    """Move the candidate; for callbacks (a widget's value cannot change after it was drawn)."""
    st.session_state[CANDIDATE] = snap(value)


def entered(page: str) -> None:
    """Note which page this run draws; after a change of page, write every choice back to the URL.

    A closed popover is not mounted in the browser, which takes its widgets for gone and drops their keys; sending
    those again drops others. So all are sent.
    """
    if st.session_state.get(_PAGE) not in (None, page):
        for key in _KEYS:
            if st.session_state.get(key):
                st.session_state[key] = st.session_state[key]
    st.session_state[_PAGE] = page


def set_dates(first: date, last: date) -> None:
    """Choose a span of whole days, both inside; for callbacks."""
    st.session_state[RANGE] = "Custom"
    st.session_state[FIRST_DAY], st.session_state[LAST_DAY] = min(first, last), max(first, last)


def clear_filters() -> None:
    """Show every decision; for callbacks. Zone and candidate stay."""
    st.session_state[RANGE] = "All"
    st.session_state[POLICY] = ALL_POLICIES
    st.session_state[LABELS] = []
    st.session_state[MODELS] = []
    st.session_state[SEARCH] = ""


def zone() -> tzinfo:
    """The zone times are shown in: UTC, or the browser's when that was chosen and is known here."""
    if not st.session_state.get(ZONE):
        return UTC
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def zone_name() -> str:
    """The name of the zone, for headers."""
    return getattr(zone(), "key", "UTC")


def time_range(
    now: datetime, chosen: str, first: date | None, last: date | None, where: tzinfo
) -> tuple[datetime | None, datetime | None]:
    """Start and end of a range as naive UTC, half-open; None: open. ``first`` and ``last`` count for "Custom" alone.

    Spans of days are whole days of the zone, today included; 24 hours start on a full hour. So charts have no torn
    first period, and the answers can be cached for more than an instant.
    """
    local = now.replace(tzinfo=UTC).astimezone(where)
    if chosen == "24h":
        # Counted in UTC, where every hour has an hour; the zone only says where a full hour begins.
        hour = local - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return _utc(hour) - timedelta(hours=24), None
    if chosen in ("7d", "30d"):
        return _midnight(local.date() - timedelta(days=int(chosen[:-1]) - 1), where), None
    if chosen == "Custom":
        end = None if last is None else _midnight(last + timedelta(days=1), where)
        return None if first is None else _midnight(first, where), end
    return None, None


def _midnight(day: date, where: tzinfo) -> datetime:
    return _utc(datetime.combine(day, time(), where))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def current_filter(now: datetime | None = None) -> Filter:
    """The bar's choices as a filter of the log. Pages narrow it with ``dataclasses.replace``."""
    from router.log.queries import Filter

    chosen = st.session_state.get(RANGE) or DEFAULT_RANGE
    first, last = st.session_state.get(FIRST_DAY), st.session_state.get(LAST_DAY)
    start, end = time_range(now or datetime.now(UTC).replace(tzinfo=None), chosen, first, last, zone())
    return Filter(
        start=start,
        end=end,
        policy=st.session_state.get(POLICY) or None,
        labels=tuple(st.session_state.get(LABELS) or ()),
        models=tuple(st.session_state.get(MODELS) or ()),
        text=(st.session_state.get(SEARCH) or "").strip() or None,
    )


def page_path(page: str) -> str:
    """The file of a page, as ``st.page_link`` and ``st.switch_page`` want it."""
    return VIEWS[page]


def link(page: str, **query: Any) -> dict[str, Any]:
    """Arguments for ``st.page_link`` or ``st.switch_page``: a page with the bar's choices and these on top.

    Values as the inputs show them: Streamlit binds an input to the words of its list.
    ``st.page_link(**link("decisions", cause="low confidence"), label="Open")``. A value of None removes a key.
    """
    kept = {key: st.query_params.get_all(key) for key in st.query_params}
    for key, value in query.items():
        if value is None:
            kept.pop(key, None)
        else:
            kept[key] = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
    return {"page": page_path(page), "query_params": {k: v[0] if len(v) == 1 else v for k, v in kept.items()}}
