"""How a process ends, how its workers end, and what happens to rows while a turn cannot be taken: no row waits for ever."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import duckdb
import pytest
from log_samples import command, decision, environment, owned_elsewhere, run, start

from router.errors import LogLocked
from router.log import Owner, open_log
from router.log.lock import holder
from router.log.owner import ingest_now, take_turn
from router.log.schema import DATABASE, connect
from router.log.writer import RETRY_SECONDS, Writer

HOLD = """
    import duckdb, sys, time
    con = duckdb.connect(sys.argv[1])
    print("held", flush=True)
    time.sleep(120)
"""
ENDS_WITHOUT_CLOSE = """
    import sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer
    writer = Writer(Path(sys.argv[1]))
    n, end = 0, time.monotonic() + float(sys.argv[2])
    while time.monotonic() < end:
        assert writer.log(decision(n, prompt="x" * 2000))
        n += 1
        time.sleep(0.0005)
    print(n)
"""
FORKS = """
    import multiprocessing, os, sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer

    def work():
        for n in range(5):
            assert writer.log(decision(n))

    writer = Writer(Path(sys.argv[1]))
    if sys.argv[2] == "busy":  # turns have begun: DuckDB is at work when the workers are forked
        writer.log(decision(100))
        while not (Path(sys.argv[1]) / "decisions.duckdb").exists():
            time.sleep(0.01)
    if sys.argv[2] == "closed":
        writer.close()
    workers = [multiprocessing.get_context("fork").Process(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0, worker.exitcode
    writer.close()
    import duckdb
    con = duckdb.connect(str(Path(sys.argv[1]) / "decisions.duckdb"))
    print(con.execute("SELECT count(*) FROM decisions").fetchone()[0])
"""
POOL = """
    import multiprocessing, sys
    from pathlib import Path
    from log_samples import decision

    def work(number):
        from router.log.writer import Writer
        global writer
        if "writer" not in globals():
            writer = Writer(Path(sys.argv[1]))
        assert writer.log(decision(number))

    with multiprocessing.get_context("fork").Pool(2) as pool:
        pool.map(work, range(6))
        pool.close()
        pool.join()
"""


def in_file(data) -> int:
    """Decisions in the database file, seen without ingesting; 0 while there is no file."""
    if not (data / DATABASE).exists():
        return 0
    con = connect(data / DATABASE)
    try:
        return con.execute("SELECT count(*) FROM decisions").fetchone()[0]
    finally:
        con.close()


def comes_true(check, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.05)
    return False


def ingested(data) -> bool:
    """Whether no byte of the spools waits, as whoever holds the lock for a moment sees it; takes nothing in itself."""
    from router.log.ingest import backlog_bytes
    from router.log.lock import OwnerLock

    lock = OwnerLock(data)
    if not lock.acquire("read"):
        return False
    try:
        if not (data / DATABASE).exists():
            return False
        con = connect(data / DATABASE)
        try:
            return backlog_bytes(con, data) == 0
        finally:
            con.close()
    finally:
        lock.release()


@pytest.fixture
def busy(tmp_path):
    """A data folder whose database another program has open; gives (folder, process)."""
    first = Writer(tmp_path, turns=False)
    first.log(decision(0))
    first.close()
    process = start(HOLD, tmp_path / DATABASE)
    assert process.stdout.readline() == "held\n"
    yield tmp_path, process
    process.kill()
    process.wait()
    process.stdout.close()


def sentence(process) -> str:
    return (
        f"{DATABASE} is open in another program (PID {process.pid}); close it there. "
        "Every decision is safe in the spool."
    )


@pytest.mark.parametrize("seconds", [0.05, 0.6, 0.7, 0.8, 0.9])
def test_a_script_that_ends_without_close_says_nothing_and_loses_nothing(tmp_path, seconds):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ENDS_WITHOUT_CLOSE), str(tmp_path), str(seconds)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=True,
    )
    assert done.stderr == ""
    assert in_file(tmp_path) == int(done.stdout) > 0


@pytest.mark.parametrize(("parent", "rows"), [("idle", 15), ("busy", 16), ("closed", 15)])
def test_close_brings_in_what_forked_workers_left(tmp_path, parent, rows):
    assert int(run(FORKS, tmp_path, parent)) == rows


def test_workers_of_a_parent_without_a_log_close_their_own(tmp_path):
    run(POOL, tmp_path)
    assert in_file(tmp_path) == 6


def test_a_process_that_wrote_and_forked_nothing_opens_no_database(tmp_path):
    other = Writer(tmp_path, turns=False)
    other.log(decision(0))
    mine = Writer(tmp_path)
    mine.close()
    assert not (tmp_path / DATABASE).exists()
    other.close()
    assert in_file(tmp_path) == 1


def test_a_turn_that_failed_is_taken_again(tmp_path, caplog):
    (tmp_path / DATABASE).mkdir()
    writer = Writer(tmp_path)
    writer.log(decision(0))
    assert comes_true(lambda: caplog.records, 10)
    (tmp_path / DATABASE).rmdir()
    assert comes_true(lambda: ingested(tmp_path), RETRY_SECONDS + 5)
    writer.close()
    assert in_file(tmp_path) == 1


def test_rows_left_to_an_owner_that_is_killed_are_taken_in(tmp_path):
    with owned_elsewhere(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)  # it holds the log, and reads nothing any more
        writer = Writer(tmp_path)
        writer.log(decision(0))
        assert comes_true(lambda: not writer._is_due, 10)  # the owner was seen
        time.sleep(0.2)
        assert holder(tmp_path).stays
    assert comes_true(lambda: ingested(tmp_path), RETRY_SECONDS + 20)
    writer.close()
    assert in_file(tmp_path) == 1


def test_a_database_open_in_another_program_is_named_and_the_log_still_read(busy):
    data, process = busy
    writer = Writer(data, turns=False)
    writer.log(decision(1))
    for attempt in (take_turn, ingest_now):
        with pytest.raises(LogLocked) as caught:
            attempt(data)
        assert str(caught.value) == sentence(process)
    with open_log(data) as log:
        assert (log.mode, log.note, log.count()) == ("spool", sentence(process), 2)
    process.kill()
    process.wait()
    writer.close()
    assert in_file(data) == 2


def test_a_router_says_once_that_the_database_is_open_elsewhere_and_goes_on_trying(busy, caplog):
    data, process = busy
    writer = Writer(data)
    writer.log(decision(1))
    assert comes_true(lambda: caplog.records, 10)
    assert writer.flush() is False
    record, *more = caplog.records
    assert not more
    assert record.levelno == logging.WARNING
    assert sentence(process) in record.getMessage()
    assert str(data) not in record.getMessage()
    process.kill()
    process.wait()
    assert comes_true(lambda: ingested(data), RETRY_SECONDS + 5)
    writer.close()
    assert in_file(data) == 2


def test_an_owner_shows_that_the_database_is_open_elsewhere_and_takes_it_once_it_is_closed(busy):
    data, process = busy
    owner = Owner(data)
    owner.start()
    try:
        assert comes_true(lambda: owner.status().error, 10)
        assert owner.status().error == sentence(process)
        process.kill()
        process.wait()
        assert owner.wait_ready(10)
        assert (owner.status().state, owner.status().error) == ("owning", None)
    finally:
        owner.stop()


def test_commands_say_who_has_the_database_open(busy):
    data, process = busy

    failed = command(data, "ingest")
    assert failed.exit_code == 1
    assert failed.stderr.strip() == f"error: {sentence(process)}"
    shown = command(data, "doctor").stdout
    assert sentence(process) in shown
    assert "1 decision," in shown


def test_a_connection_of_this_process_that_is_not_ours_is_no_damage(tmp_path):
    writer = Writer(tmp_path, turns=False)
    writer.log(decision(0))
    writer.close()
    with duckdb.connect(str(tmp_path / DATABASE)):
        with pytest.raises(LogLocked, match=rf"PID {os.getpid()}, this one"):
            take_turn(tmp_path)
        with open_log(tmp_path) as log:
            assert (log.mode, log.count()) == ("spool", 1)
    assert in_file(tmp_path) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("durability", ["process", "async"])
def test_a_thread_whose_start_was_interrupted_is_started_with_the_next_row(
    tmp_path, monkeypatch, durability, error
):
    start, failed = threading.Thread.start, []

    def fails_once(thread):
        if thread.name.startswith("routescope") and thread.name not in failed:
            failed.append(thread.name)
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", fails_once)
    writer, acknowledged = Writer(tmp_path, durability=durability), 0
    for n in range(5):
        try:
            acknowledged += writer.log(decision(n))
        except KeyboardInterrupt:
            continue
    assert comes_true(lambda: ingested(tmp_path), 20)
    writer.close()
    assert acknowledged <= in_file(tmp_path) <= 5
    assert "routescope-turns" in failed
    if error is MemoryError:
        assert (acknowledged, writer.dropped.total()) == (5, 0)
