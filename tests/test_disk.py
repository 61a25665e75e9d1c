"""Full disks, folders that are read-only, deleted or replaced, clocks that jump: counted to the last row, and it goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from log_samples import Fixed, decision, run
from log_torture import OwnerProcess, counted, owner_process, run_mortal, sizes, until

from router import Policy, Router, open_log
from router.log.writer import Writer

SEED = Policy.preset("seed")
SMALL = "24m"
LOOK_SECONDS = 1.0
"""How often a writer looks whether its file is where it was made."""


def mounted(folder: Path, *options: str) -> bool:
    """Whether a small disk could be mounted there."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    return subprocess.run(["mount", *options, folder], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 24 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mounted(folder, "-t", "tmpfs", "-o", f"size={SMALL}", "none"):
        pytest.skip("mounting a small disk needs root, and here it may not")
    yield folder
    done = subprocess.run(["umount", folder], capture_output=True, check=False)
    if done.returncode:
        subprocess.run(["umount", "-l", folder], check=False)
    assert done.returncode == 0, "something still has a file open on the disk"


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with open(path, "wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                if file.write(bytes(size)) < size:
                    size //= 2
            except OSError:
                size //= 2


def logged(writer: Writer, numbers: range, chars: int = 3000) -> tuple[list[str], int]:
    """Log decisions: ids acknowledged, and how many were refused."""
    acked, refused = [], 0
    for n in numbers:
        made = decision(n, prompt=f"{n} " + "x" * chars)
        if writer.log(made):
            acked.append(made.id)
        else:
            refused += 1
    return acked, refused


def shown(owner: OwnerProcess, query: str, number: int) -> None:
    """Wait until an owner's dashboard would show a number."""
    until(lambda: owner.ask(query) == str(number), 20, query)


@sizes(2, 40)
def test_a_full_disk_costs_exactly_what_was_refused_and_logging_resumes_beside_an_owner(disk, size):
    data, rng = disk / "data", random.Random(5)
    with owner_process(data) as owner:
        owner.owns()
        writer = Writer(data)
        acked, refused = logged(writer, range(50))
        for number in range(size):
            fill(disk / "filler")
            kept, lost = logged(writer, range(rng.randrange(50, 400)), rng.choice([10, 3000, 30_000]))
            assert lost
            assert sum(writer.dropped.values()) == refused + lost
            until(lambda: owner.ask("SELECT 1") in ("1", "none"))  # it is alive
            (disk / "filler").unlink()
            more, none = logged(writer, range(50), 100)
            assert none == 0, number
            acked, refused = acked + kept + more, refused + lost
            shown(owner, "SELECT count(*) FROM decisions", len(acked))
        shown(owner, "SELECT coalesce(sum(n), 0) FROM drops", refused)
        writer.close()
        owner.end()
    found = counted(data)
    assert set(found.ids) == set(acked)
    assert (found.twice, found.drops) == ([], refused)
    assert not found.rejects


@sizes(2, 20)
def test_a_full_disk_costs_exactly_what_was_refused_and_turns_resume(disk, size, caplog):
    data = disk / "data"
    writer = Writer(data)
    acked, refused = logged(writer, range(50))
    for _ in range(size):
        fill(disk / "filler")
        kept, lost = logged(writer, range(100))
        assert writer.flush() is False or not lost
        (disk / "filler").unlink()
        more, none = logged(writer, range(50))
        assert (bool(lost), none) == (True, 0)
        acked, refused = acked + kept + more, refused + lost
        assert writer.flush()
    writer.close()
    assert sum(writer.dropped.values()) == refused
    found = counted(data, mended=True)  # the database that was begun on the full disk is no whole one
    assert set(found.ids) == set(acked)
    assert (found.twice, found.drops) == ([], refused)
    assert "prompt" not in caplog.text


def test_a_disk_that_is_read_only_at_first_costs_what_was_refused(disk):
    assert mounted(disk, "-o", "remount,ro")
    data = disk / "data"
    writer = Writer(data)
    assert logged(writer, range(20)) == ([], 20)
    assert writer.flush() is False
    with open_log(data) as log:
        assert log.count() == 0
    assert mounted(disk, "-o", "remount,rw")
    acked, refused = logged(writer, range(20))
    assert refused == 0
    writer.close()
    found = counted(data)
    assert (set(found.ids), found.drops) == (set(acked), 20)


def test_a_disk_that_becomes_read_only_is_read_from_and_resumes(disk):
    data = disk / "data"
    writer = Writer(data, turns=False)
    acked, _ = logged(writer, range(20))
    writer.flush()
    kept, _ = logged(writer, range(20))  # in the spool alone
    writer.spool.close()  # the system refuses to make a disk read-only while a file is open for writing
    assert mounted(disk, "-o", "remount,ro")
    assert logged(writer, range(20)) == ([], 20)
    with open_log(data) as log:
        assert log.count() == 40
        assert log.note
    assert mounted(disk, "-o", "remount,rw")
    more, refused = logged(writer, range(20))
    assert refused == 0
    writer.close()
    found = counted(data)
    assert (set(found.ids), found.drops) == ({*acked, *kept, *more}, 20)


READ_ONLY = """
    import json, sys
    from pathlib import Path
    from log_samples import decision
    from router.log import open_log
    from router.log.writer import Writer
    data = Path(sys.argv[1])
    closed = data / sys.argv[2]
    (data / "spool").mkdir(parents=True)
    writer = Writer(data)
    closed.chmod(0o500)
    refused = [writer.log(decision(n)) for n in range(20)].count(False)
    writer.flush()
    with open_log(data) as log:
        log.count()
    closed.chmod(0o700)
    acked = [made.id for made in map(decision, range(20)) if writer.log(made)]
    writer.close()
    print(json.dumps([refused, acked]))
"""


def test_a_read_only_folder_costs_what_was_refused(tmp_path):
    refused, acked = json.loads(run_mortal(READ_ONLY, tmp_path, "spool"))
    found = counted(tmp_path)
    assert refused == 20
    assert (set(found.ids), found.drops) == (set(acked), 20)
    assert len(acked) == 20


def test_a_data_folder_that_takes_no_database_leaves_every_row_in_the_spool(tmp_path):
    refused, acked = json.loads(run_mortal(READ_ONLY, tmp_path, "."))
    assert (refused, len(acked)) == (0, 20)
    assert counted(tmp_path).ids.total() == 40


NO_DESCRIPTORS = """
    import json, os, resource, sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log import Owner
    from router.log.writer import Writer
    owner = Owner(Path(sys.argv[1]), interval_s=0.05)
    owner.start()
    assert owner.wait_ready(60)
    writer, taken = Writer(Path(sys.argv[1])), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    refused = [writer.log(decision(n)) for n in range(20)].count(False)
    time.sleep(0.5)  # the owner meets it too
    for fd in taken:
        os.close(fd)
    acked = [made.id for made in map(decision, range(20)) if writer.log(made)]
    while owner.status().rows < len(acked):
        time.sleep(0.01)
    writer.close()
    owner.stop()
    print(json.dumps([refused, acked]))
"""


def test_a_process_out_of_file_descriptors_counts_what_it_refused_and_resumes(tmp_path):
    refused, acked = json.loads(run(NO_DESCRIPTORS, tmp_path))
    assert (refused, len(acked)) == (20, 20)
    found = counted(tmp_path)
    assert (set(found.ids), found.twice, found.drops) == (set(acked), [], 20)


HOW_IT_GOES = ["deleted", "replaced", "spool deleted", "spool replaced"]


def test_a_folder_that_goes_away_costs_at_most_a_second_of_rows(tmp_path):
    """A second is how often a writer looks whether its file is where it was made; what it wrote before is in that file."""
    made: dict[str, list[tuple[float, str]]] = {how: [] for how in HOW_IT_GOES}
    late: dict[str, set[str]] = {}
    with ExitStack() as stack:
        owners = {how: stack.enter_context(owner_process(tmp_path / how / "data")) for how in HOW_IT_GOES}
        for owner in owners.values():
            owner.owns()
        writers = {how: Writer(tmp_path / how / "data", turns=False) for how in HOW_IT_GOES}
        began, gone = time.monotonic(), 0.0
        while not gone or time.monotonic() < gone + LOOK_SECONDS + 0.6:
            if not gone and time.monotonic() > began + 0.4:
                for how in HOW_IT_GOES:
                    goes_away(tmp_path / how, how)
                gone = time.monotonic()
            for how, writer in writers.items():
                one = decision(len(made[how]))
                before = time.monotonic()
                assert writer.log(one)
                made[how].append((before, one.id))
            time.sleep(0.005)
        for how, owner in owners.items():
            late[how] = {id for before, id in made[how] if before > gone + LOOK_SECONDS + 0.2}
            assert len(late[how]) > 20
            until(partial(sees, owner, len(late[how])), 10, how)
            writers[how].close()
            owner.end()
    for how in HOW_IT_GOES:
        found = counted(tmp_path / how / "data")
        assert late[how] - set(found.ids) == set(), how
        assert found.twice == [], how


def sees(owner: OwnerProcess, n: int) -> bool:
    return owner.count() >= n


def goes_away(folder: Path, how: str) -> None:
    gone = folder / "data" / "spool" if how.startswith("spool") else folder / "data"
    if "replaced" in how:
        gone.rename(folder / "moved")
        gone.mkdir()
    else:
        shutil.rmtree(gone)


@pytest.mark.parametrize("steps", [[-1], [1], [-1, 1], [1, -1, -1, 1]], ids=str)
def test_a_clock_that_jumps_by_hours_keeps_ids_apart_and_the_order_of_the_process(tmp_path, steps):
    ahead = timedelta()

    def clock() -> datetime:
        return datetime.now(UTC).replace(tzinfo=None) + ahead

    made = []
    with Router(SEED, classifier=Fixed(), data=tmp_path, clock=clock) as router:
        for hours in [0, *steps]:
            ahead += timedelta(hours=hours)
            made += [router.route(f"prompt {n}") for n in range(100)]
    ids = [x.id for x in made]
    assert len(set(ids)) == len(ids)
    with open_log(tmp_path) as log:
        stored = [x for (x,) in log.rows("SELECT CAST(id AS VARCHAR) FROM decisions ORDER BY rowid")]
        (odd,) = log.rows(
            "SELECT count(*) FROM decisions WHERE least(classify_ms, total_ms, first_token_ms) < 0"
        )
        times = log.rows("SELECT decided_at FROM decisions ORDER BY rowid")
    assert stored == ids  # one process's rows stand in the order in which it made them
    assert odd == (0,)
    assert [x for (x,) in times] == [x.decided_at for x in made]
