"""One way to read: the same rows in every mode, and nobody waits for an owner that stays."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest
from log_samples import decision, run, start

from router.errors import LogTooNew
from router.log import Owner, open_log
from router.log.lock import OwnerLock
from router.log.record import decision_payload
from router.log.schema import DATABASE, connect, migrations
from router.log.spool import Spool
from router.log.writer import Writer

ROWS = "SELECT * FROM decisions ORDER BY decided_at, id"


def filled(data, n: int = 25) -> None:
    writer = Writer(data, turns=False)
    for number in range(n):
        writer.log(decision(number, extra={"n": number}))
    writer.close()
    Spool(data).append(decision_payload(decision(n, prompt="in the spool only")))


def test_owner_file_and_spool_give_the_same_rows(tmp_path):
    filled(tmp_path)
    owner = Owner(tmp_path)
    owner.start()
    assert owner.wait_ready(30)
    with open_log(tmp_path) as log:
        assert (log.mode, log.note) == ("owner", "")
        by_owner = log.rows(ROWS)
    owner.stop()
    with open_log(tmp_path) as log:
        assert log.mode == "file"
        by_file = log.rows(ROWS)
    other = start(
        """
        import sys, time
        from pathlib import Path
        from router.log import Owner
        owner = Owner(Path(sys.argv[1]))
        owner.start()
        assert owner.wait_ready(60)
        print("ready", flush=True)
        time.sleep(120)
        """,
        tmp_path,
    )
    try:
        assert other.stdout.readline() == "ready\n"
        begun = time.monotonic()
        with open_log(tmp_path) as log:
            assert time.monotonic() - begun < 5
            assert (log.mode, log.holder.pid) == ("spool", other.pid)
            assert f"PID {other.pid}" in log.note
            by_spool = log.rows(ROWS)
            Spool(tmp_path).append(decision_payload(decision(99)))
            log.refresh()
            assert log.count() == 27
            assert log.backlog_bytes() == 0
            assert log.age_s < 60
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert by_owner == by_file == by_spool
    assert len(by_owner) == 26


def test_a_folder_that_does_not_exist_reads_as_empty_and_stays_away(tmp_path):
    with open_log(tmp_path / "nothing" / "here") as log:
        assert log.count() == 0
        assert log.frame(ROWS).empty
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_stays_empty(tmp_path):
    with open_log(tmp_path) as log:
        assert log.count() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_short_turn_of_another_is_waited_out(tmp_path):
    filled(tmp_path)
    lock = OwnerLock(tmp_path)
    assert lock.acquire("turn")
    timer = threading.Timer(0.3, lock.release)
    timer.start()
    with open_log(tmp_path, wait_s=10) as log:
        assert (log.mode, log.count()) == ("file", 26)
    timer.join()


def test_without_taking_the_lock_it_stays_free(tmp_path):
    filled(tmp_path)
    with open_log(tmp_path, take_lock=False) as log:
        assert (log.mode, log.count()) == ("spool", 26)
        assert OwnerLock(tmp_path).acquire("turn")


@pytest.mark.parametrize("damage", ["other bytes", "empty", "cut", "header"])
def test_a_damaged_database_is_made_again_with_a_note(tmp_path, damage):
    filled(tmp_path)
    file = tmp_path / DATABASE
    whole = file.read_bytes()
    file.write_bytes(
        {
            "other bytes": b"not a database" * 500,
            "empty": b"",
            "cut": whole[:3000],
            "header": b"\0" * 64 + whole[64:],
        }[damage]
    )
    with open_log(tmp_path) as log:
        assert (log.mode, log.count()) == ("file", 26)
        assert "could not be opened" in log.note
        assert "prompt" not in log.note
    assert OwnerLock(tmp_path).acquire("turn")  # the lock was given up


def test_a_newer_schema_is_refused_with_both_versions(tmp_path):
    filled(tmp_path)
    known = migrations()[-1][0]
    con = connect(tmp_path / DATABASE)
    con.execute("UPDATE meta SET value = $v WHERE key = 'schema_version'", {"v": str(known + 1)}).fetchall()
    con.close()
    with pytest.raises(LogTooNew, match=f"schema {known + 1}, this version knows up to {known}"):
        open_log(tmp_path)
    assert OwnerLock(tmp_path).acquire("turn")


AS_NOBODY = """
    import json, os, sys, tempfile
    from log_samples import Fixed
    from router import Policy, Router
    from router.log import open_log
    with tempfile.TemporaryDirectory() as warm:   # loads every module while the interpreter's own files can be read
        with Router(Policy.preset("seed"), classifier=Fixed(), data=warm) as router:
            router.route("hello")
        open_log(warm).close()
    os.setgid(65534)
    os.setuid(65534)
    data = sys.argv[1]
    router = Router(Policy.preset("seed"), classifier=Fixed(), data=data)
    decided = router.route("hello")
    router.close()
    with open_log(data) as log:
        print(json.dumps([decided.model_chosen, sum(router.dropped.values()), log.mode, log.count(), log.note]))
"""


def test_a_read_only_folder_can_be_read_and_routing_goes_on(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("becomes another user, which needs root")
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        filled(data)
        for path in [data, *data.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        model, dropped, mode, n, note = json.loads(run(AS_NOBODY, data))
        data.chmod(0o755)
    assert (model, dropped) == ("gpt-4o-mini", 1)
    assert (mode, n) == ("spool", 26)  # one row is in no database yet
    assert note == "The data folder cannot be written; reading only."


def test_reading_in_threads_gives_every_thread_its_own_cursor(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    filled(tmp_path)
    with open_log(tmp_path) as log, ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: log.count(), range(64))) == {26}


def test_the_lock_is_held_until_the_log_is_closed(tmp_path):
    filled(tmp_path)
    log = open_log(tmp_path)
    assert log.mode == "file"
    assert not OwnerLock(tmp_path).acquire("turn")
    log.close()
    log.close()
    assert OwnerLock(tmp_path).acquire("turn")


def test_both_ends_of_the_duckdb_range_open_what_the_other_wrote(tmp_path):
    import duckdb

    filled(tmp_path)
    con = duckdb.connect(str(tmp_path / DATABASE), read_only=True)
    tags = con.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'decisions'").fetchone()[0]
    con.close()
    assert tags["storage_version"].startswith("v1.5.0")


def test_a_log_says_in_one_line_what_it_reads(tmp_path):
    filled(tmp_path)
    with open_log(tmp_path) as log:
        assert repr(log).startswith("Log(mode='file', age_s=")
