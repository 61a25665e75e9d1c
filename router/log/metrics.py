"""Counters of the log, as a plain dict and as text for Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.log import status
from router.log.drops import unreported

if TYPE_CHECKING:
    import duckdb

    from router.log.writer import Writer

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_METRICS = {
    "written": ("records_written_total", "counter", "Records in this process's spools."),
    "dropped": ("records_dropped_total", "counter", "Records that could not be written, by reason."),
    "bytes": ("spool_bytes_total", "counter", "Bytes in this process's spools."),
    "queue_bytes": ("queue_bytes", "gauge", "Bytes that wait in memory to be written."),
    "redaction_failures": (
        "redaction_failures_total",
        "counter",
        "Prompts left out because the redaction failed.",
    ),
    "synced": ("records_synced_total", "counter", "Records that are known to be on the disk."),
    "sync_failures": ("sync_failures_total", "counter", "Syncs to the disk that failed."),
    "last_sync_age_s": ("last_sync_age_seconds", "gauge", "Seconds since the last sync to the disk."),
    "decisions": ("decisions", "gauge", "Decisions in the database."),
    "rows_ingested": ("decisions_ingested_total", "counter", "Decisions that the owner has ingested."),
    "rejects": ("rejects_total", "counter", "Damaged lines that were left out, by reason."),
    "backlog_bytes": ("backlog_bytes", "gauge", "Bytes in the spools that the database does not have."),
    "backlog_s": ("backlog_seconds", "gauge", "Seconds that the oldest of them has waited."),
    "last_ingest_age_s": (
        "last_ingest_age_seconds",
        "gauge",
        "Seconds since the owner looked at the spools.",
    ),
    "owner": ("owner_state", "gauge", "1 for the state of the log's owner; none: nobody owns it."),
}
_LABELS = {"dropped": "reason", "rejects": "reason", "owner": "state"}


def of_process(writer: Writer) -> dict[str, Any]:
    """What this process has written, dropped and holds, and the state of the log's owner. Opens no database.

    Ages are seconds, None when it never happened. ``synced`` and what belongs to it are there with durability "power" alone.
    """
    spool = writer.spool
    found: dict[str, Any] = {
        "durability": spool.durability,
        "written": spool.written,
        "dropped": dict(spool.dropped),
        "bytes": spool.bytes,
        "queue_bytes": spool.queue_bytes,
        "redaction_failures": writer.privacy.failures,
    }
    if spool.synced is not None:
        found |= {
            "synced": spool.synced.records,
            "sync_failures": spool.synced.failures,
            "last_sync_age_s": _age(spool.synced.last_at),
        }
    return found | _of_owner(writer.data)


def of_log(data: Path, con: duckdb.DuckDBPyConnection | None = None) -> dict[str, Any]:
    """The state of a log whoever writes it; with the owner's connection also what its tables count, by reason."""
    dropped: Counter[str] = Counter()
    found: dict[str, Any] = {}
    if con is not None:
        row = con.execute("SELECT count(*) FROM decisions").fetchone()
        found["decisions"] = row[0] if row else 0
        found["rejects"] = dict(con.execute("SELECT reason, count(*) FROM rejects GROUP BY 1").fetchall())
        dropped.update(
            dict(con.execute("SELECT reason, CAST(sum(n) AS BIGINT) FROM drops GROUP BY 1").fetchall())
        )
    for left in unreported(data):
        dropped[left.reason] += left.n
    return found | {"dropped": dict(dropped)} | _of_owner(data)


def prometheus(metrics: Mapping[str, Any]) -> str:
    """The counters in Prometheus' text format."""
    lines: list[str] = []
    for key, (name, kind, about) in _METRICS.items():
        samples = list(_samples(key, metrics.get(key)))
        if samples:
            lines += [f"# HELP routescope_{name} {about}", f"# TYPE routescope_{name} {kind}"]
            lines += [f"routescope_{name}{labels} {value}" for labels, value in samples]
    return "".join(f"{line}\n" for line in lines)


def _samples(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if value is None:
        return
    label = _LABELS.get(key)
    if label is None:
        yield "", round(value, 3) if isinstance(value, float) else value
        return
    for text, n in ({value: 1} if isinstance(value, str) else value).items():
        escaped = str(text).replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        yield f'{{{label}="{escaped}"}}', n


def _of_owner(data: Path) -> dict[str, Any]:
    found = status.read(data)
    if found is None:
        return {
            "owner": "none",
            "rows_ingested": None,
            "backlog_bytes": None,
            "backlog_s": None,
            "last_ingest_age_s": None,
        }
    return {
        "owner": found.state if found.is_alive else "none",
        "rows_ingested": found.rows,
        "backlog_bytes": found.backlog_bytes,
        "backlog_s": found.backlog_s,
        "last_ingest_age_s": _age(found.last_ingest),
    }


def _age(when: datetime | None) -> float | None:
    return None if when is None else max((datetime.now(UTC).replace(tzinfo=None) - when).total_seconds(), 0.0)
