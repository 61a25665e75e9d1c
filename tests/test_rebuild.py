"""``rebuild``: the database from archive and spools alone, equal to the old one row for row."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from log_samples import START, command, decision, owned_elsewhere
from log_tables import contents, spool_of_everything

from router.errors import LogError, LogTooNew
from router.log import Owner, open_log, rewrite
from router.log.compaction import compact
from router.log.ingest import ingest_all
from router.log.owner import take_turn
from router.log.record import decision_payload
from router.log.schema import DATABASE, connect, generation, migrations
from router.log.spool import Spool
from router.log.upkeep import request
from router.types import Attempt


def filled(data: Path) -> dict:
    """Rows in the archive and in spools, in no order of time; what the database holds."""
    for number in (3, 0, 4):
        spool_of_everything(data, number)
    failed = Attempt(
        "gpt-4o", "empty", None, 7, output_tokens=1, cost_usd=Decimal("0.000000123456"), total_ms=1.5
    )
    tried = {"attempts": 3, "failed_cost_usd": failed.cost_usd}
    tried["failed_attempts"] = (failed, Attempt("gpt-4o", "timeout", "TimeoutError"))
    spool = Spool(data)
    spool.append(decision_payload(decision(2, **tried)))
    spool.close()
    con = connect(data / DATABASE)
    ingest_all(con, data)
    compact(con, data, min_spools=1)
    for number in (2, 1):
        spool_of_everything(data, number, rows=9)
    undated = Spool(data)
    undated.append(decision_payload(decision(1, decided_at=None, **tried)))
    undated.close()
    ingest_all(con, data)
    held = contents(con)
    con.close()
    return held


def test_the_new_database_equals_the_old_one_in_every_table(tmp_path):
    held = filled(tmp_path)
    assert all(held.values())
    before = (tmp_path / DATABASE).stat().st_ino
    assert request(tmp_path, "rebuild").decisions == len(held["decisions"])
    assert (tmp_path / DATABASE).stat().st_ino != before
    with open_log(tmp_path) as log:
        assert contents(log._con) == held
        assert generation(log._con) == 1
    assert take_turn(tmp_path).rows == 0  # nothing is read twice


def test_its_rows_are_in_the_order_of_time(tmp_path):
    filled(tmp_path)
    times = "SELECT decided_at FROM decisions ORDER BY rowid"
    with open_log(tmp_path) as log:
        before = [at for (at,) in log.rows(times) if at]
    request(tmp_path, "rebuild")
    with open_log(tmp_path) as log:
        *dated, last = [at for (at,) in log.rows(times)]
    assert before != sorted(before)
    assert (dated, last) == (sorted(before), None)


def test_many_days_are_sorted_in_steps(tmp_path):
    spool = Spool(tmp_path)
    for number in range(60):
        at = START + timedelta(hours=(number * 37) % 300)
        spool.append(decision_payload(decision(decided_at=at)))
    spool.close()
    take_turn(tmp_path)
    steps = []
    fresh = rewrite.rebuilt(tmp_path, ordering=lambda done, total: steps.append(done), step_rows=7)
    rewrite.put_in_place(tmp_path, fresh)
    assert (fresh.decisions, steps[-1], len(set(steps)) > 5) == (60, 60, True)
    with open_log(tmp_path) as log:
        times = [at for (at,) in log.rows("SELECT decided_at FROM decisions ORDER BY rowid")]
    assert times == sorted(times)
    assert len(times) == 60


@pytest.mark.parametrize("lost", ["deleted", "garbage", "a folder's worth of damage"])
def test_it_works_without_any_database(tmp_path, lost):
    held = filled(tmp_path)
    if lost == "garbage":
        (tmp_path / DATABASE).write_bytes(b"x" * 10_000)
    else:
        (tmp_path / DATABASE).unlink()
    if lost == "a folder's worth of damage":
        (tmp_path / f"{DATABASE}.wal").write_bytes(b"y" * 10_000)
        (tmp_path / f"{DATABASE}.stage").write_bytes(b"z" * 10_000)
    assert request(tmp_path, "rebuild").decisions == len(held["decisions"])
    with open_log(tmp_path) as log:
        assert contents(log._con) == held


def test_the_verb_says_how_many(tmp_path):
    held = filled(tmp_path)
    n = len(held["decisions"])
    done = command(tmp_path, "rebuild")
    assert (done.exit_code, done.stdout) == (0, f"{n} decisions in the new database\n")
    done = command(tmp_path, "rebuild", "--json")
    assert json.loads(done.stdout) == {"decisions": n, "note": None, "data": str(tmp_path.absolute())}
    assert {path.name for path in tmp_path.iterdir()} <= {
        DATABASE, "archive", "generation", "owner.json", "owner.lock", "spool", "tasks",
    }  # fmt: skip


def test_what_neither_archive_nor_spools_know_is_kept_and_said(tmp_path):
    held = filled(tmp_path)
    con = connect(tmp_path / DATABASE)
    con.execute("INSERT INTO decisions(prompt) VALUES ('of a spool that somebody deleted')").fetchall()
    con.close()
    done = command(tmp_path, "rebuild", "--json")
    assert "1 of them in neither archive nor spools" in json.loads(done.stdout)["note"]
    (kept,) = (tmp_path / "damaged").glob(f"{DATABASE}-*")
    with open_log(tmp_path) as log:
        assert contents(log._con) == held
    con = connect(kept)
    assert con.execute("SELECT count(*) FROM decisions").fetchone() == (len(held["decisions"]) + 1,)
    con.close()


def test_it_is_refused_while_the_archive_is_not_whole(tmp_path):
    held = filled(tmp_path)
    part = min((tmp_path / "archive").glob("day=*/*.parquet"))
    part.unlink()
    done = command(tmp_path, "rebuild")
    assert done.exit_code == 1
    assert f"{part.parent.name}/{part.name} is gone" in done.stderr
    assert "The database was left as it is" in done.stderr
    with open_log(tmp_path) as log:
        assert contents(log._con) == held


def test_a_newer_database_is_not_replaced(tmp_path):
    filled(tmp_path)
    newer = migrations()[-1][0] + 1
    con = connect(tmp_path / DATABASE)
    con.execute("UPDATE meta SET value = $v WHERE key = 'schema_version'", {"v": str(newer)}).fetchall()
    con.close()
    with pytest.raises(LogTooNew):
        request(tmp_path, "rebuild")
    assert list((tmp_path / "tasks").iterdir()) == []


def test_a_dashboard_in_another_process_does_it_when_asked(tmp_path):
    held = filled(tmp_path)
    before = (tmp_path / DATABASE).stat().st_ino
    with owned_elsewhere(tmp_path) as dashboard:
        done = command(tmp_path, "rebuild", "--json")
        assert json.loads(done.stdout)["decisions"] == len(held["decisions"])
        assert f"process {dashboard.pid} owns the log" in done.stderr
        assert (tmp_path / DATABASE).stat().st_ino != before
    with open_log(tmp_path) as log:
        assert contents(log._con) == held


def test_pages_go_on_and_rows_that_come_meanwhile_arrive(tmp_path):
    held = filled(tmp_path)
    owner = Owner(tmp_path, interval_s=0.02)
    owner.start()
    assert owner.wait_ready(30)
    with open_log(tmp_path) as log:
        n = log.count()
        spool = Spool(tmp_path)
        spool.append(decision_payload(decision(500)))
        assert request(tmp_path, "rebuild").decisions in (n, n + 1)
        spool.append(decision_payload(decision(501)))
        spool.close()
        assert log.count() >= len(held["decisions"])
    owner.stop()
    with open_log(tmp_path) as log:
        assert log.count() == n + 2


def test_a_request_that_failed_says_why_and_is_not_tried_again(tmp_path):
    filled(tmp_path)
    owner = Owner(tmp_path, interval_s=0.02)
    owner.start()
    assert owner.wait_ready(30)
    min((tmp_path / "archive").glob("day=*/*.parquet")).unlink()
    with pytest.raises(LogError, match="the archive is not whole"):
        request(tmp_path, "rebuild")
    owner.stop()
    assert list((tmp_path / "tasks").iterdir()) == []
