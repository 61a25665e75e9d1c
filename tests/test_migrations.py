"""A database of any former version is brought up to date when it is opened, with and without rows."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from log_samples import decision
from log_tables import contents, spool_of_everything

from router.errors import LogTooNew
from router.log import Owner, open_log
from router.log.ingest import ingest_all
from router.log.owner import take_turn
from router.log.reader import _read_only
from router.log.record import decision_payload
from router.log.schema import (
    DATABASE,
    STORAGE_VERSION,
    connect,
    generation,
    migrate,
    migrations,
    schema_version,
)
from router.log.spool import Spool

NEWEST = migrations()[-1][0]
ROLLUPS = ("hourly", "cells", "margins", "latencies")


def made_by(version: int, data: Path, *, spools: int) -> list[tuple]:
    """A database as a former version left it, and its decisions."""
    data.mkdir(exist_ok=True)
    for number in range(spools):
        spool_of_everything(data, number)
    current = connect(None)
    ingest_all(current, data)
    old = duckdb.connect(str(data / DATABASE), config={"storage_compatibility_version": STORAGE_VERSION})
    for number, script in migrations():
        if number <= version:
            old.execute(script).fetchall()
    old.execute("INSERT INTO meta VALUES ('schema_version', $v)", {"v": str(version)}).fetchall()
    for (table,) in old.execute(
        "SELECT table_name FROM duckdb_tables() WHERE table_name <> 'meta'"
    ).fetchall():
        rows = current.sql(f"SELECT * FROM {table}").to_arrow_table()
        old.register("rows", rows)
        there = [name for (name,) in old.execute(f"SELECT column_name FROM (DESCRIBE {table})").fetchall()]
        old.execute(f"INSERT INTO {table} SELECT {', '.join(there)} FROM rows").fetchall()
        old.unregister("rows")
    kept = sorted(old.execute("SELECT * FROM decisions").fetchall(), key=repr)
    old.close()
    current.close()
    return kept


@pytest.mark.parametrize("spools", [0, 3], ids=["without rows", "with rows"])
@pytest.mark.parametrize("version", [number for number, _ in migrations()])
def test_every_version_is_brought_up_to_date_with_its_rows_and_their_roll_ups(tmp_path, version, spools):
    kept = made_by(version, tmp_path, spools=spools)
    with open_log(tmp_path) as log:
        assert (log.mode, log.note) == ("file", "")
        assert schema_version(log.cursor()) == NEWEST
        found = contents(log._con)
    older = len(found["decisions"][0]) - len(kept[0]) if kept else 0
    assert older in (0, 2, 4)
    assert [row[: len(row) - older] for row in found["decisions"]] == kept
    assert len(kept) == 4 * spools
    if version == 1 and spools:
        # What version 1 had no table for was not ingested by it: those records are counted again only by a rebuild.
        assert found["feedback"] == []
    other = tmp_path / "other"
    (other / "spool").mkdir(parents=True)
    for path in (tmp_path / "spool").glob("*") if spools else ():
        (other / "spool" / path.name).write_bytes(path.read_bytes())
    with open_log(other) as log:
        anew = contents(log._con)
    for table in ("decisions", *ROLLUPS):
        assert found[table] == anew[table], table


@pytest.mark.parametrize("version", [number for number, _ in migrations()])
def test_an_owner_takes_over_a_database_of_every_version_and_goes_on(tmp_path, version):
    kept = made_by(version, tmp_path, spools=2)
    spool = Spool(tmp_path)
    spool.append(decision_payload(decision(77)))
    owner = Owner(tmp_path, interval_s=0.02)
    owner.start()
    assert owner.wait_ready(30)
    with open_log(tmp_path) as log:
        assert (log.mode, log.count()) == ("owner", len(kept) + 1)
    owner.stop()
    assert take_turn(tmp_path).rows == 0


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    import router.log.schema as schema

    kept = made_by(1, tmp_path, spools=1)

    def full(con: duckdb.DuckDBPyConnection) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setitem(schema._AFTER, 2, full)
        with pytest.raises(OSError, match="No space left"):
            connect(tmp_path / DATABASE)
    plain = duckdb.connect(str(tmp_path / DATABASE))
    assert plain.execute("SELECT value FROM meta").fetchall() == [("1",)]
    assert sorted(plain.execute("SELECT * FROM decisions").fetchall(), key=repr) == kept
    assert not plain.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'hourly'").fetchall()
    plain.close()
    con = connect(tmp_path / DATABASE)
    assert (schema_version(con), generation(con)) == (NEWEST, 0)
    con.close()


def test_a_file_of_a_newer_version_is_refused_by_everyone_and_left_untouched(tmp_path):
    made_by(NEWEST, tmp_path, spools=1)
    con = connect(tmp_path / DATABASE)
    con.execute("UPDATE meta SET value = $v WHERE key = 'schema_version'", {"v": str(NEWEST + 1)}).fetchall()
    con.close()
    before = (tmp_path / DATABASE).read_bytes()
    for attempt in (open_log, take_turn):
        with pytest.raises(
            LogTooNew, match=f"schema {NEWEST + 1}, this version knows up to {NEWEST}.*rebuild"
        ):
            attempt(tmp_path)
    assert (tmp_path / DATABASE).read_bytes() == before
    assert not (tmp_path / "damaged").exists()
    with open_log(tmp_path, take_lock=False) as log:  # the way out that needs nothing
        assert log.count() == 4


def test_migrating_twice_changes_nothing(tmp_path):
    con = connect(tmp_path / DATABASE)
    assert migrate(con) == migrate(con) == NEWEST
    con.close()


def test_a_folder_that_cannot_be_written_is_read_with_todays_columns(tmp_path):
    """An older file cannot be brought up to date there."""
    made_by(3, tmp_path, spools=2)
    with _read_only(tmp_path) as log:
        assert log.mode == "spool"
        assert log.rows("SELECT count(*), sum(cache_write_1h_tokens) FROM decisions")[0][1] == 2 * 40
