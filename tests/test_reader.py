"""One way to read: the same rows in every mode, and nobody waits for an owner that stays."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from log_samples import as_nobody, decision, environment, start

from router.errors import LogTooNew
from router.log import Owner, open_log
from router.log.compaction import compact
from router.log.ingest import ingest_all
from router.log.lock import OwnerLock
from router.log.record import decision_payload, line_of
from router.log.recovery import open_database
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


def test_a_read_only_folder_can_be_read_and_routing_goes_on():
    model, dropped, mode, n, note = json.loads(as_nobody(AS_NOBODY, filled))
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


# Never wrong by more than the age it states

ACKNOWLEDGE = """
    import os, sys, time
    from datetime import UTC, datetime
    from pathlib import Path
    from log_samples import decision
    from router.log.spool import Spool
    data, acked, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    spool = Spool(data, roll_bytes=100_000)      # every hundred decisions a new file
    fd = os.open(acked, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        made = decision()
        assert spool.append(made)
        os.write(fd, f"{made.id} {datetime.now(UTC).replace(tzinfo=None).isoformat()}\\n".encode())
        time.sleep(0.01)
    spool.close()
"""
OWN = """
    import sys, time
    from pathlib import Path
    from router.log import Owner
    owner = Owner(Path(sys.argv[1]))
    owner.start()
    assert owner.wait_ready(60)
    print("ready", flush=True)
    sys.stdin.readline()
    owner.stop()
    print("stopped", flush=True)
"""


def acknowledged(folder: Path) -> list[tuple[str, datetime]]:
    found = []
    for path in folder.glob("*.acked"):
        for line in path.read_text().split("\n")[:-1]:
            id, when = line.split()
            found.append((id, datetime.fromisoformat(when)))
    return found


def check_age(log, folder: Path) -> int:
    """Every decision acknowledged before the age that the log states is among its rows, and none twice."""
    as_of = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=log.age_s)
    ids = [str(id) for (id,) in log.rows("SELECT id FROM decisions")]
    there = set(ids)
    assert len(ids) == len(there)
    missing = [when for id, when in acknowledged(folder) if when < as_of and id not in there]
    assert not missing, (as_of, min(missing))
    return len(ids)


def writers(data: Path, folder: Path, seconds: float) -> ExitStack:
    stack = ExitStack()
    for n in range(3):
        process = start(ACKNOWLEDGE, data, folder / f"{n}.acked", seconds)
        stack.callback(process.stdout.close)
        stack.callback(process.wait)
        stack.callback(process.kill)
    return stack


def until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def owner_process(data: Path):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWN), str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_beside_an_owner_every_decision_acknowledged_before_read_at_is_there(tmp_path):
    data = tmp_path / "data"
    with owner_process(data), writers(data, tmp_path, 60):
        until(lambda: len(acknowledged(tmp_path)) > 50)
        counts = []
        with open_log(data) as kept:
            assert kept.mode == "spool"
            for _ in range(8):
                with open_log(data) as log:
                    assert log.mode == "spool"
                    counts.append(check_age(log, tmp_path))
                before, age = kept.read_at, kept.age_s
                check_age(kept, tmp_path)
                assert kept.age_s > age > 0
                kept.refresh()
                assert kept.read_at > before
                assert kept.age_s < age + 60
                check_age(kept, tmp_path)
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def test_over_the_file_the_rows_are_those_of_its_age_while_others_log(tmp_path):
    data = tmp_path / "data"
    with writers(data, tmp_path, 60):
        until(lambda: len(acknowledged(tmp_path)) > 50)
        with open_log(data) as log:
            assert log.mode == "file"
            first = check_age(log, tmp_path)
            until(lambda: len(acknowledged(tmp_path)) > first + 50)
            assert check_age(log, tmp_path) == first  # older by now, and says so
            log.refresh()
            assert check_age(log, tmp_path) > first


def test_in_the_owners_process_a_backlog_is_part_of_the_age(tmp_path):
    data = tmp_path / "data"
    spool = Spool(data)
    acked = tmp_path / "0.acked"
    with open(acked, "w") as file:
        for number in range(6_000):
            made = decision(number, prompt="x" * 500)
            spool.append(made)
            file.write(f"{made.id} {datetime.now(UTC).replace(tzinfo=None).isoformat()}\n")
    spool.close()
    owner = Owner(data)
    owner.start()
    try:
        seen = set()
        until(lambda: owner.is_open)
        with open_log(data) as log:
            assert log.mode == "owner"
            while not seen or max(seen) < 6_000:
                seen.add(check_age(log, tmp_path))
            until(lambda: log.age_s < 60)
    finally:
        owner.stop()
    assert len(seen) > 1, "it was looked at while rows were still coming in"


def test_beside_an_owner_of_this_process_the_age_is_that_of_its_last_look(tmp_path):
    data = tmp_path / "data"
    owner = Owner(data)
    owner.start()
    try:
        assert owner.wait_ready(30)
        with writers(data, tmp_path, 60), open_log(data) as log:
            assert log.mode == "owner"
            until(lambda: len(acknowledged(tmp_path)) > 50)
            for _ in range(20):
                check_age(log, tmp_path)
            assert log.age_s < 30
    finally:
        owner.stop()


def test_when_the_owner_is_killed_its_rows_are_there_at_once(tmp_path):
    data = tmp_path / "data"
    with owner_process(data) as owner, writers(data, tmp_path, 60):
        until(lambda: len(acknowledged(tmp_path)) > 100)
        with open_log(data) as beside:
            owner.kill()
            owner.wait()
            with open_log(data) as log:
                assert log.mode == "file"
                check_age(log, tmp_path)
            beside.refresh()
            check_age(beside, tmp_path)


def test_a_reader_sees_every_row_while_owners_come_and_go(tmp_path):
    data = tmp_path / "data"
    with writers(data, tmp_path, 60):
        until(lambda: len(acknowledged(tmp_path)) > 50)
        modes, counts = set(), []

        def look() -> str:
            with open_log(data) as log:
                modes.add(log.mode)
                counts.append(check_age(log, tmp_path))
                return log.mode

        for _ in range(2):
            with owner_process(data) as owner:
                for step in range(4):
                    if step == 2:
                        owner.stdin.write("\n")
                        owner.stdin.flush()
                    look()
            until(
                lambda: look() == "file"
            )  # between two owners the file is free, but for others' short turns
    assert counts == sorted(counts)
    assert modes == {"file", "spool"}


def test_a_line_that_is_still_being_written_is_left_until_it_is_whole(tmp_path):
    spool = Spool(tmp_path)
    spool.append(decision(0))
    line = line_of(decision(1))
    with open(spool.path, "ab") as file:
        file.write(line[:100])
        file.flush()
        for take_lock in (False, True):
            with open_log(tmp_path, take_lock=take_lock) as log:
                assert log.count() == 1
                assert log.rows("SELECT count(*) FROM rejects") == [(0,)]
        with open_log(tmp_path, take_lock=False) as kept:
            file.write(line[100:])
            file.flush()
            spool.append(decision(2))
            kept.refresh()
            assert kept.count() == 3
            assert kept.rows("SELECT count(*) FROM rejects") == [(0,)]
    spool.close()
    with open_log(tmp_path) as log:
        assert log.count() == 3


def test_between_two_refreshes_spools_are_rolled_archived_and_begun_again(tmp_path):
    data = tmp_path / "data"
    spool = Spool(data, roll_bytes=20_000)
    logged = 0

    def log_more(n: int) -> None:
        nonlocal logged
        for _ in range(n):
            spool.append(decision(logged, prompt="x" * 300))
            logged += 1

    log_more(60)
    with open_log(data, take_lock=False) as kept, open_log(data, take_lock=False) as idle:
        for round in range(4):
            log_more(45)  # the newest spool that was read grows, ends, and others follow
            if round % 2:
                kept.refresh()
                assert kept.count() == logged
            spool.close()
            before = len(list((data / "spool").glob("*.jsonl")))
            _archive(data)
            assert len(list((data / "spool").glob("*.jsonl"))) < before
            kept.refresh()
            assert kept.count() == logged
            assert kept.rows("SELECT count(DISTINCT id) FROM decisions") == [(logged,)]
        idle.refresh()
        assert idle.count() == logged
    with open_log(data) as log:
        assert log.count() == logged


def _archive(data: Path) -> None:
    lock = OwnerLock(data)
    assert lock.acquire("turn")
    try:
        con = open_database(data)
        ingest_all(con, data)
        con.execute("CHECKPOINT").fetchall()
        compact(con, data, min_spools=1)
        con.close()
    finally:
        lock.release()
