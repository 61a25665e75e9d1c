"""One owner at a time: rows arrive within seconds, turns are short, locks and connections do not survive a fork."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from log_samples import decision, run, start

from router.log import Owner, open_log
from router.log.ingest import offsets
from router.log.lock import OwnerLock, holder
from router.log.owner import ingest_now, local_owner, take_turn
from router.log.record import decision_payload
from router.log.schema import DATABASE, connect
from router.log.spool import Spool
from router.log.writer import Writer


def waits_for(check, seconds: float = 20.0) -> float:
    """Seconds until a check holds."""
    begun = time.monotonic()
    while not check():
        assert time.monotonic() - begun < seconds
        time.sleep(0.01)
    return time.monotonic() - begun


def count_in_file(data) -> int:
    con = connect(data / DATABASE)
    try:
        return con.execute("SELECT count(*) FROM decisions").fetchone()[0]
    finally:
        con.close()


@pytest.fixture
def owner(tmp_path):
    owner = Owner(tmp_path)
    owner.start()
    assert owner.wait_ready(30)
    yield owner
    owner.stop()


HOLDER = """
    import sys, time
    from pathlib import Path
    from router.log import Owner
    owner = Owner(Path(sys.argv[1]))
    owner.start()
    assert owner.wait_ready(60)
    print("ready", flush=True)
    time.sleep(120)
"""
LOGGER = """
    import sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer
    writer = Writer(Path(sys.argv[1]))
    for n in range(int(sys.argv[2])):
        assert writer.log(decision(n))
    begun = time.monotonic()
    if sys.argv[3] == "close":
        writer.close()
    print(time.monotonic() - begun, flush=True)
"""


@pytest.fixture
def other_owner(tmp_path):
    """Another process that owns the log."""
    process = start(HOLDER, tmp_path)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_rows_of_two_other_processes_are_visible_within_two_seconds(owner, tmp_path):
    processes = [start(LOGGER, tmp_path, 50, "close") for _ in range(2)]
    held = [float(process.stdout.readline()) for process in processes]  # both are done logging
    with open_log(tmp_path) as log:
        assert log.mode == "owner"
        assert waits_for(lambda: log.count() == 100) < 2.0
    assert max(held) < 5.0  # close() did not wait for the owner to go away
    for process in processes:
        assert process.wait(30) == 0
        process.stdout.close()


def test_with_an_owner_elsewhere_close_returns_at_once_and_the_rows_arrive(other_owner, tmp_path):
    writer = Writer(tmp_path)
    for number in range(20):
        assert writer.log(decision(number))
    begun = time.monotonic()
    writer.close()
    assert time.monotonic() - begun < 2.0
    (spool,) = (tmp_path / "spool").iterdir()
    time.sleep(2.0)
    other_owner.kill()
    other_owner.wait()
    con = connect(tmp_path / DATABASE)
    assert offsets(con) == {spool.name: spool.stat().st_size}
    assert con.execute("SELECT count(*) FROM decisions").fetchone() == (20,)
    con.close()


def test_without_an_owner_close_brings_the_rows_into_the_file(tmp_path):
    writer = Writer(tmp_path)
    for number in range(20):
        writer.log(decision(number))
    writer.close()
    writer.close()
    assert count_in_file(tmp_path) == 20


def test_without_close_the_exit_of_the_interpreter_brings_them_in(tmp_path):
    run(LOGGER, tmp_path, 5, "exit")
    assert count_in_file(tmp_path) == 5


def test_what_is_logged_after_close_comes_in_at_exit(tmp_path):
    run(LOGGER.replace("print(", "writer.close(); writer.log(decision(99)); print("), tmp_path, 5, "close")
    assert count_in_file(tmp_path) == 6


def test_a_plain_script_has_its_rows_in_the_file_while_it_runs(tmp_path):
    writer = Writer(tmp_path)
    writer.log(decision())

    def there() -> bool:
        if not (tmp_path / DATABASE).exists():
            return False
        with open_log(tmp_path) as log:
            return log.mode == "file" and log.count() == 1

    waits_for(there)
    writer.close()


def test_a_steady_trickle_does_not_keep_the_owner_from_being_ready(tmp_path):
    spool = Spool(tmp_path)
    owner = Owner(tmp_path, interval_s=0.05)
    owner.start()

    def logged() -> bool:
        spool.append(decision_payload(decision()))
        return owner.wait_ready(0)

    waits_for(logged)
    owner.stop()
    assert count_in_file(tmp_path) == spool.written


def test_a_second_owner_waits_and_takes_over(tmp_path):
    first, second = Owner(tmp_path), Owner(tmp_path)
    first.start()
    assert first.wait_ready(30)
    second.start()
    time.sleep(0.4)
    assert (first.status().state, second.status().state) == ("owning", "waiting")
    assert second.cursor() is None
    first.stop()
    assert second.wait_ready(30)
    second.stop()
    assert second.status().state == "stopped"


def test_the_lock_says_who_holds_it_and_since_when(owner, tmp_path):
    who = holder(tmp_path)
    assert (who.pid, who.role, who.stays) == (os.getpid(), "dashboard", True)
    assert who.since is not None
    assert take_turn(tmp_path) is None
    assert ingest_now(tmp_path) is None


def test_the_lock_is_free_again_when_its_holder_is_killed(other_owner, tmp_path):
    assert holder(tmp_path).pid == other_owner.pid
    other_owner.kill()
    other_owner.wait()
    assert holder(tmp_path) is None
    assert take_turn(tmp_path) is not None


def test_an_owner_whose_folder_is_deleted_owns_the_new_one(tmp_path):
    data = tmp_path / "data"
    owner = Owner(data, interval_s=0.05)
    owner.start()
    assert owner.wait_ready(30)
    shutil.rmtree(data)
    spool = Spool(data)
    assert spool.append(decision_payload(decision()))
    waits_for(lambda: (data / DATABASE).exists() and owner.status().rows == 1)
    owner.stop()
    assert count_in_file(data) == 1


def test_an_owner_that_cannot_open_the_database_says_why_and_goes_on_when_it_can(tmp_path):
    (tmp_path / DATABASE).mkdir()  # nothing that could be moved aside as a damaged file would be
    (tmp_path / DATABASE / "kept").write_text("by a person")
    Spool(tmp_path).append(decision_payload(decision()))
    owner = Owner(tmp_path, interval_s=0.05)
    owner.start()
    waits_for(lambda: owner.status().state == "failed")
    assert owner.status().error
    shutil.rmtree(tmp_path / DATABASE)
    waits_for(lambda: owner.status().rows == 1)
    assert owner.status().error is None
    owner.stop()
    assert count_in_file(tmp_path) == 1


FORKED = """
    import duckdb, json, os, sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log import Owner, open_log
    from router.log.lock import _held
    from router.log.owner import local_owner
    from router.log.writer import Writer
    data = Path(sys.argv[1])
    owner = Owner(data, interval_s=0.02)
    owner.start()
    assert owner.wait_ready(60)
    writer = Writer(data)
    for n in range(5):
        writer.log(decision(n))
    while owner.status().rows < 5:
        time.sleep(0.01)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        writer.log(decision(5))
        lock = os.stat(data / "owner.lock")
        inherited = [fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")
                     and os.stat(f"/proc/self/fd/{fd}").st_ino == lock.st_ino]
        os.write(into, json.dumps([local_owner(data) is None, owner.cursor() is None, inherited]).encode())
        sys.exit(0)   # a whole exit, with every destructor: it must not write to the parent's database
    # DuckDB 1.5 ends any forked child that started a thread with a fault of its own, after all was written and closed.
    fine = (0,) if duckdb.__version__ >= "2" else (0, 11)
    assert os.waitpid(child, 0)[1] in fine
    while owner.status().rows < 6:
        time.sleep(0.01)
    for n in range(6, 10):
        writer.log(decision(n))
    writer.close()
    owner.stop()
    with open_log(data) as log:
        print(json.dumps([log.mode, log.count(), json.loads(os.read(out, 1000))]))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at /proc")
def test_a_forked_child_holds_neither_lock_nor_connection_and_leaves_the_file_alone(tmp_path):
    assert json.loads(run(FORKED, tmp_path)) == ["file", 10, [True, True, []]]


def test_a_lock_file_deleted_between_open_and_lock_is_not_taken_for_the_lock(tmp_path, monkeypatch):
    import fcntl

    original = fcntl.flock

    def deleted_meanwhile(fd, how):
        (tmp_path / "owner.lock").unlink(missing_ok=True)
        original(fd, how)

    monkeypatch.setattr(fcntl, "flock", deleted_meanwhile)
    lock = OwnerLock(tmp_path)
    assert not lock.acquire("turn")
    assert not lock.held


def test_an_owner_of_another_folder_is_not_this_folders(owner, tmp_path):
    assert local_owner(tmp_path) is owner
    assert local_owner(tmp_path / "elsewhere") is None
