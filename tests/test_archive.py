"""Spools of ended processes become Parquet that anybody can read, and no crash on the way loses or doubles a row."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path

import crash_points
import duckdb
import pytest
from log_samples import decision, run, start
from log_tables import contents, spool_of_everything

from router.log import open_log
from router.log.archive import has_log, insert_decisions
from router.log.compaction import compact
from router.log.ingest import ingest_all, offsets, spools
from router.log.parts import manifests
from router.log.record import decision_payload
from router.log.schema import DATABASE, connect
from router.log.spool import Spool

KINDS = ("decisions", "policies", "feedback", "saved_views", "erasures", "drops", "rejects")


def filled(data: Path, n: int = 5) -> duckdb.DuckDBPyConnection:
    """A database with the rows of some ended spools."""
    for number in range(n):
        spool_of_everything(data, number)
    con = connect(data / DATABASE)
    ingest_all(con, data)
    return con


def files(data: Path) -> list[str]:
    return sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file())


def read_again(data: Path, *, take_lock: bool) -> dict:
    with open_log(data, take_lock=take_lock) as log:
        assert log.mode == ("file" if take_lock else "spool")
        return contents(log._con)


def test_archived_rows_are_the_same_from_the_archive_alone_as_a_file_and_in_memory(tmp_path):
    con = filled(tmp_path)
    before = contents(con)
    assert all(before[kind] for kind in KINDS)
    assert compact(con, tmp_path, min_spools=1) == 5
    assert contents(con) == before
    assert (spools(tmp_path), offsets(con)) == ([], {})
    con.close()
    assert read_again(tmp_path, take_lock=False) == before
    (tmp_path / DATABASE).unlink()
    assert has_log(tmp_path)
    assert read_again(tmp_path, take_lock=True) == before


def test_a_file_that_the_archive_is_read_into_again_is_not_read_twice(tmp_path):
    con = filled(tmp_path)
    compact(con, tmp_path, min_spools=1)
    before = contents(con)
    con.close()
    for _ in range(2):
        assert read_again(tmp_path, take_lock=True) == before


def test_any_reader_of_parquet_sees_every_decision_of_the_archive(tmp_path):
    import pyarrow.parquet as pq

    con = filled(tmp_path)
    compact(con, tmp_path, min_spools=1)
    rows = con.execute(
        "SELECT CAST(id AS VARCHAR), prompt, scores, cost_usd FROM decisions ORDER BY 1"
    ).fetchall()
    con.close()
    plain = duckdb.connect()
    read = f"FROM '{tmp_path}/archive/*/*.parquet'"
    assert plain.execute(f"SELECT id, prompt, scores, cost_usd {read} ORDER BY 1").fetchall() == rows
    days = plain.execute(f"SELECT DISTINCT CAST(day AS VARCHAR) {read} ORDER BY 1").fetchall()
    plain.close()
    assert days == [("2026-11-20",), ("2026-11-21",), ("2026-11-22",)]
    parts = list((tmp_path / "archive").glob("day=*/*.parquet"))
    found = [row for part in parts for row in pq.read_table(part, partitioning=None).to_pylist()]
    assert {row["id"] for row in found} == {row[0] for row in rows}
    assert json.loads(found[0]["extra"]).keys() >= {"n", "nested"}


def test_the_archive_is_for_its_owner_alone(tmp_path):
    con = filled(tmp_path)
    compact(con, tmp_path, min_spools=1)
    con.close()
    for path in (tmp_path / "archive").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_manifest_names_every_part_with_its_digest(tmp_path):
    import hashlib

    con = filled(tmp_path)
    names = {path.name: path.stat().st_size for path in spools(tmp_path)}
    compact(con, tmp_path, min_spools=1)
    con.close()
    (manifest,) = manifests(tmp_path)
    assert manifest.spools == names
    assert manifest.decisions == 20
    for part in manifest.parts:
        content = (tmp_path / "archive" / part.path).read_bytes()
        assert (part.bytes, part.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_few_spools_stay_as_they_are_until_they_are_many_or_large(tmp_path):
    con = filled(tmp_path)
    total = sum(path.stat().st_size for path in spools(tmp_path))
    assert compact(con, tmp_path) == 0
    assert compact(con, tmp_path, min_bytes=total + 1) == 0
    assert compact(con, tmp_path, largest=100, min_spools=1) == 0
    assert compact(con, tmp_path, min_bytes=total) == 5
    con.close()


WRITER = """
    import sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.record import decision_payload
    from router.log.spool import Spool
    spool = Spool(Path(sys.argv[1]))
    assert spool.append(decision_payload(decision(1)))
    print(spool.path.name, flush=True)
    time.sleep(120)
"""


def test_a_spool_that_is_being_written_or_read_stays(tmp_path):
    con = filled(tmp_path, 2)
    writer = start(WRITER, tmp_path)
    live = writer.stdout.readline().strip()
    ingest_all(con, tmp_path)
    late = Spool(tmp_path)
    late.append(decision_payload(decision(2)))  # not ingested
    late.close()
    (tmp_path / "spool" / "host-1-1-empty.jsonl").touch()
    assert compact(con, tmp_path, min_spools=1) == 2
    assert {path.name for path in spools(tmp_path)} == {
        live,
        late.path.name if late.path else "",
        "host-1-1-empty.jsonl",
    }
    writer.kill()
    writer.wait()
    writer.stdout.close()
    ingest_all(con, tmp_path)
    assert compact(con, tmp_path, min_spools=1) == 2
    assert con.execute("SELECT count(*) FROM decisions").fetchone() == (10,)
    con.close()


def test_small_batches_are_put_together(tmp_path):
    con = connect(tmp_path / DATABASE)
    for number in range(4 + 2):
        spool_of_everything(tmp_path, number)
        ingest_all(con, tmp_path)
        compact(con, tmp_path, min_spools=1, min_batches=4)
    before = contents(con)
    assert len(manifests(tmp_path)) == 3
    assert len(files(tmp_path / "archive")) == 3 * (1 + 1 + 3)
    con.close()
    assert read_again(tmp_path, take_lock=False) == before
    (tmp_path / DATABASE).unlink()
    assert read_again(tmp_path, take_lock=True) == before


def crashed(tmp_path: Path, operation: str, source: Path, step: int) -> dict:
    script = Path(crash_points.__file__).read_text()
    return json.loads(run(script, operation, source, tmp_path / "work", step, timeout=290))


@pytest.mark.skipif(sys.platform != "linux", reason="forks beside DuckDB")
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.soak)])
def test_a_process_killed_at_any_point_of_a_compaction_loses_and_doubles_nothing(tmp_path, step):
    source = tmp_path / "source"
    con = filled(source, 3)
    before = contents(con)
    con.close()
    report = crashed(tmp_path, "compact", source, step)
    assert report["crashes"] >= 15
    assert len(report["digests"]) == 1, report["digests"]
    assert report["leftovers"] == []
    assert sum(map(len, before.values()))


@pytest.mark.skipif(sys.platform != "linux", reason="forks beside DuckDB")
@pytest.mark.parametrize("step", [9, pytest.param(1, marks=pytest.mark.soak)])
def test_a_process_killed_while_small_batches_are_put_together_loses_and_doubles_nothing(tmp_path, step):
    source = tmp_path / "source"
    source.mkdir()
    con = connect(source / DATABASE)
    for number in range(crash_points.SMALL_BATCHES - 1):
        spool_of_everything(source, number, rows=2)
        ingest_all(con, source)
        compact(con, source, min_spools=1)
    spool_of_everything(source, 99)
    ingest_all(con, source)
    con.close()
    report = crashed(tmp_path, "compact", source, step)
    assert report["crashes"] >= 40
    assert len(report["digests"]) == 1, report["digests"]
    assert report["leftovers"] == []


def test_a_damaged_part_costs_its_own_rows_alone_and_is_named(tmp_path):
    con = filled(tmp_path)
    compact(con, tmp_path, min_spools=1)
    con.close()
    part = min((tmp_path / "archive").glob("day=*/*.parquet"))
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 0x40
    part.write_bytes(content)
    with open_log(tmp_path) as log:  # the database still has them
        assert log.count() == 20
    with open_log(tmp_path, take_lock=False) as log:
        assert 0 < log.count() < 20
        assert part.parent.name in log.note
    (tmp_path / DATABASE).unlink()
    with open_log(tmp_path) as log:
        assert 0 < log.count() < 20
        assert "The archive is not whole" in log.note
        assert part.parent.name in log.note


def test_a_copy_in_memory_goes_on_when_its_spools_are_archived(tmp_path):
    con = filled(tmp_path)
    with open_log(tmp_path, take_lock=False) as log:
        before = contents(log._con)
        compact(con, tmp_path, min_spools=1)
        log.refresh()
        assert contents(log._con) == before
        spool_of_everything(tmp_path, 7)  # read by neither yet
        ingest_all(con, tmp_path)
        compact(con, tmp_path, min_spools=1)
        log.refresh()
        assert contents(log._con) == contents(con)
        log.refresh()
        assert log.count() == 24
    con.close()


def test_a_line_that_duckdb_does_not_take_is_the_same_reject_from_the_archive(tmp_path):
    import zlib

    spool_of_everything(tmp_path, 1)
    (path,) = spools(tmp_path)
    body = b'{"kind":"decision","id": }'
    with path.open("ab") as file:
        file.write(b'{"crc":"%08x",' % zlib.crc32(body) + body[1:] + b"\n")
    con = connect(tmp_path / DATABASE)
    ingest_all(con, tmp_path)
    before = contents(con)
    assert len(before["rejects"]) == 2
    compact(con, tmp_path, min_spools=1)
    con.close()
    assert read_again(tmp_path, take_lock=False) == before


def test_a_folder_whose_name_is_a_pattern_can_be_archived(tmp_path):
    data = tmp_path / "a[b]*c 'd'"
    con = filled(data)
    before = contents(con)
    compact(con, data, min_spools=1)
    con.close()
    assert read_again(data, take_lock=False) == before


def test_a_turn_archives_what_many_short_scripts_left(tmp_path):
    from router.log.owner import take_turn

    for number in range(64):
        spool = Spool(tmp_path)
        spool.append(decision_payload(decision(number)))
        spool.close()
    assert take_turn(tmp_path).rows == 64
    assert spools(tmp_path) == []
    assert os.listdir(tmp_path / "archive" / "day=2026-11-20")
    with open_log(tmp_path) as log:
        assert log.count() == 64


def test_parts_of_version_three_tell_the_writes_that_live_for_an_hour(tmp_path):
    con = filled(tmp_path)
    compact(con, tmp_path, min_spools=1)
    long = "SELECT count(*), sum(cache_write_1h_tokens) FROM decisions"
    known = con.execute(long).fetchone()
    con.close()
    parts = sorted((tmp_path / "archive").glob("day=*/*.parquet"))
    old = [part.with_name(f"old-{part.name}") for part in parts]
    fresh = connect(None)
    for part, copy in zip(parts[1:], old[1:], strict=True):
        query = f"SELECT * EXCLUDE (cache_write_1h_tokens, service_tier) FROM read_parquet('{part}', hive_partitioning = false)"
        fresh.execute(f"COPY ({query}) TO '{copy}' (FORMAT parquet)").fetchall()
    insert_decisions(
        fresh, [parts[0], *old[1:]]
    )  # beside one of today, as where small batches were put together
    assert fresh.execute(long).fetchone() == known
    fresh.close()
    assert known is not None and known[1] % 40 == 0 and known[1] > 0
