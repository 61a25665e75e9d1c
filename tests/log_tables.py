"""What the tests of archive, recovery and erasure share: a log of every kind of record, and all that a database holds."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from log_samples import SEED, START, decision

from router.log import rollups
from router.log.record import (
    decision_payload,
    erasure_payload,
    feedback_payload,
    unix_ms,
    uuid7,
    view_payload,
)
from router.log.spool import Spool
from router.log.writer import policy_payload

COLUMNS = {
    "decisions": "*",
    "policies": "*",
    "feedback": "*",
    "saved_views": "*",
    "erasures": "*",
    "drops": "*",
    "rejects": "* EXCLUDE (ingested_at)",
}


def contents(con: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Every table that a log is about, its rows sorted; roll-ups added up by their keys."""
    found = {
        table: sorted(con.execute(f"SELECT {columns} FROM {table}").fetchall(), key=repr)
        for table, columns in COLUMNS.items()
    }
    for rollup in rollups.ROLLUPS:
        keys = ", ".join((rollup.column, *rollup.keys))
        added = ", ".join(f"{rollups.added(name)} AS {name}" for name in rollups.sums(con, rollup))
        rows = con.execute(
            f"SELECT {keys}, {added} FROM {rollup.table} GROUP BY {keys} HAVING sum(n) <> 0"
        ).fetchall()
        found[rollup.table] = sorted(rows, key=repr)
    return found


def day(number: int) -> datetime:
    """A time on the n-th day."""
    return START + timedelta(days=number)


def spool_of_everything(data: Path, number: int, *, session: str | None = None, rows: int = 4) -> list[str]:
    """An ended spool with decisions of three days and one record of every other kind, and a damaged line; its ids."""
    spool = Spool(data)
    ids = []
    for row in range(rows):
        at = day(row % 3) + timedelta(minutes=number, seconds=row)
        one = decision(
            id=uuid7(unix_ms(at)),
            decided_at=at,
            prompt=f"prompt {number}-{row} ✓ 'quoted' \\ and a line\\nbreak",
            session_id=session or f"session-{number}",
            input_tokens=100 + number,
            output_tokens=row,
            cache_write_tokens=50 if row == 1 else None,
            # Where version 3 kept the writes that live for an hour.
            extra={"n": number, "nested": {"row": row}} | ({"cache_write_1h_tokens": 40} if row == 1 else {}),
            scores={"simple": 0.7, "coding": 0.15, f"label {number}": 0.1},
        )
        ids.append(one.id)
        assert spool.append(decision_payload(one))
    assert spool.append(policy_payload(SEED, day(0)))
    assert spool.append(feedback_payload(ids[0], "right", day(4), note=f"seen {number}", judged_by="me"))
    assert spool.append(view_payload(f"view {number}", "threshold", "label=simple", day(4)))
    assert spool.append(erasure_payload("session", number, day(4)))
    assert spool.append(
        {"kind": "drop", "spool": "s", "reason": "No space left on device", "n": number, "dropped_at": day(0)}
    )
    assert spool.path is not None
    path = spool.path
    spool.close()
    with path.open("ab") as file:
        file.write(b'{"crc":"00000000","kind":"decision","prompt":"a line whose checksum is wrong"}\n')
    return ids
