"""Whatever the system does to a spool: no exception reaches the caller, and written and dropped add up to what was called."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_system import FaultySystem
from log_samples import decision, environment

from router.log import Owner, open_log
from router.log.drops import NOTE_BYTES, Unreported, tidy, unreported
from router.log.owner import take_turn
from router.log.queries import losses
from router.log.record import fault
from router.log.spool import Spool
from router.log.spool_file import LOOK_SECONDS
from router.log.writer import Writer

DURABILITIES = ("process", "async", "power")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "routescope")


def on_disk(data: Path) -> tuple[list[str], int]:
    """Ids of the whole decisions in the spools, and drops reported there."""
    ids, drops = [], 0
    for path in (data / "spool").glob("*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            record = json.loads(line) if fault(line) is None else {}
            if record.get("kind") == "decision":
                ids.append(record["id"])
            drops += record.get("n", 0)
    return ids, drops


def under_faults(data: Path, durability: str, seed: int) -> int:
    """Log while calls fail, and prove that all adds up; how many calls failed."""
    rng = random.Random(seed)
    system = FaultySystem(rng, rng.choice((0.02, 0.1, 0.3, 0.6, 0.9)))
    spool = Spool(data, durability=durability, roll_bytes=20_000, system=system)
    acknowledged, called = [], 0
    for number in range(200):
        if rng.random() < 0.03:
            system.calm = not system.calm
        made = decision(number)
        called += 1
        if spool.append(made):
            acknowledged.append(made.id)
    system.calm = True
    last = decision(999)
    assert spool.append(last), "once the faults are over the next append works"
    assert spool.flush()
    ids, reported = on_disk(data)
    assert sorted(ids) == sorted([*acknowledged, last.id])
    assert spool.written + sum(spool.dropped.values()) == called + 1
    assert reported == sum(spool.dropped.values())
    spool.close()
    assert unreported(data) == []
    return system.injected


def enough_faults(data: Path, n: int) -> None:
    done = seed = 0
    while done < n:
        for durability in DURABILITIES:
            done += under_faults(data / f"{durability}{seed}", durability, seed)
        seed += 1


def test_ten_thousand_failing_calls_raise_nothing_and_every_record_is_accounted_for(tmp_path):
    enough_faults(tmp_path, 10_000)


@pytest.mark.soak
def test_two_hundred_thousand_failing_calls_raise_nothing_and_every_record_is_accounted_for(tmp_path):
    enough_faults(tmp_path, 200_000)


def is_open(spool: Spool) -> bool:
    """Whether the spool's descriptor is still that of its file."""
    try:
        found = os.fstat(spool.file._fd)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == spool.file._inode


def around(spool: Spool, data: Path, rng: random.Random, opened: list[int]) -> None:
    """Do one thing to the surroundings of a spool that no program should."""
    deed = rng.randrange(6)
    folder = data / "spool"
    if deed == 0:
        shutil.rmtree(data, ignore_errors=True)
    elif deed == 1:
        shutil.rmtree(folder, ignore_errors=True)
        if data.is_dir() and not folder.exists():
            folder.write_text("a file")
    elif deed == 2 and folder.is_file():
        folder.unlink()
    elif deed in (3, 4) and is_open(spool):
        alive = os.dup(
            spool.file._fd
        )  # else a new file could get its inode too: nobody could tell the two apart
        os.close(spool.file._fd)
        if deed == 4:  # and the next file that anybody opens gets its number
            opened.append(os.open(data.parent / f"other{len(opened)}", os.O_RDWR | os.O_CREAT))
        os.close(alive)
    elif deed == 5 and spool.path is not None and spool.path.exists():
        spool.path.rename(data.parent / f"moved{rng.random()}")


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("seed", range(3))
def test_a_spool_whose_files_are_closed_moved_and_deleted_underfoot_counts_right(tmp_path, durability, seed):
    rng = random.Random(seed)
    data, opened = tmp_path / "data", []
    spool = Spool(data, durability=durability)
    called = 0
    try:
        for number in range(300):
            called += 1
            spool.append(decision(number))
            if rng.random() < 0.2:
                with spool.alone:  # its thread may be writing
                    around(spool, data, rng, opened)
                spool.file._look_at = 0.0  # as after a tenth of a second
        spool.flush()
        left = spool._queue.size if spool._queue is not None else 0
        assert (left > 0) or spool.written + sum(spool.dropped.values()) == called
        if (data / "spool").is_file():
            (data / "spool").unlink()
        called += 1
        assert spool.append(decision(999))
        spool.close()
        assert spool.written + sum(spool.dropped.values()) == called
        assert decision(999).prompt in {
            json.loads(line).get("prompt")
            for path in (data / "spool").glob("*.jsonl")
            for line in path.read_bytes().splitlines()
        }
    finally:
        for fd in opened:
            assert os.fstat(fd).st_size == 0, "nothing is written into a file that is somebody else's"
            os.close(fd)


def test_a_descriptor_that_became_another_files_is_neither_written_nor_closed(tmp_path):
    spool = Spool(tmp_path / "data")
    assert spool.append(decision(0))
    number = spool.file._fd
    os.close(number)
    other = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    assert other == number
    assert spool.append(decision(1))
    spool.close()
    os.write(other, b"still open")
    os.close(other)
    assert (tmp_path / "other").read_bytes() == b"still open"
    assert len(on_disk(tmp_path / "data")[0]) == 2


def test_a_deleted_file_is_noticed_within_a_tenth_of_a_second(tmp_path):
    spool = Spool(tmp_path)
    assert spool.append(decision(0))
    spool.path.unlink()
    end = time.monotonic() + 10 * LOOK_SECONDS
    while not on_disk(tmp_path)[0]:
        assert time.monotonic() < end
        assert spool.append(decision(1))
        time.sleep(LOOK_SECONDS / 10)


class Hostile(Mapping):
    """A mapping whose own methods fail."""

    def __init__(self, error: type[Exception]) -> None:
        self.error = error

    def __getitem__(self, key: str) -> object:
        raise self.error("a secret")

    def __iter__(self) -> Iterator[str]:
        raise self.error("a secret")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("durability", DURABILITIES)
@pytest.mark.parametrize("prompts", ["full", "hash"])
@pytest.mark.parametrize(
    "error", [MemoryError, ValueError, RecursionError, OSError], ids=lambda e: e.__name__
)
def test_values_whose_own_methods_fail_are_dropped_and_counted(tmp_path, caplog, durability, prompts, error):
    caplog.set_level(logging.DEBUG, "routescope")
    writer = Writer(tmp_path, turns=False, durability=durability, prompts=prompts)
    odd = [
        {"extra": Hostile(error)},
        {"scores": Hostile(error)},
        {"extra": None},
        {"prompt": 7},
        {"extra": 3},
    ]
    for number, changes in enumerate(odd):
        writer.log(decision(number))
        writer.log(replace(decision(number), **changes))
    writer.log(object())
    writer.close()
    assert writer.spool.written + sum(writer.spool.dropped.values()) == 2 * len(odd) + 1
    assert len(on_disk(tmp_path)[0]) == writer.spool.written >= len(odd)
    assert "secret" not in caplog.text


def test_a_logging_handler_that_logs_decisions_itself_does_not_wait_for_itself(tmp_path):
    (tmp_path / "data").write_text("no folder")
    spool = Spool(tmp_path / "data")

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            spool.append(decision(1))
            raise RuntimeError("a handler's own fault")

    logger = logging.getLogger("routescope")
    handler = Handler(logging.ERROR)
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    try:
        assert spool.append(decision(0)) is False
    finally:
        logger.removeHandler(handler)
    assert sum(spool.dropped.values()) == 2


INTERRUPTED = """
    import signal, sys
    from pathlib import Path
    from log_samples import decision
    from router.log.spool import Spool
    spool = Spool(Path(sys.argv[1]), durability=sys.argv[2])
    called = inside = 0

    def handler(number, frame):
        global called, inside
        called += 1
        inside += frame.f_code.co_filename.endswith(("spool.py", "spool_file.py", "queued.py"))
        assert spool.append(decision(called)), spool.dropped

    samples = [decision(n) for n in range(100)]
    signal.signal(signal.SIGALRM, handler)
    for n in range(20_000):
        signal.setitimer(signal.ITIMER_REAL, 0.000_001 * (10 + n % 50))  # once: a handler must not interrupt itself
        called += 1
        assert spool.append(samples[n % 100])
        if inside > 20:
            break
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    spool.close()
    print(called, spool.written, inside)
"""


@pytest.mark.parametrize("durability", DURABILITIES)
def test_a_signal_handler_that_logs_in_the_middle_of_an_append_loses_nothing(tmp_path, durability):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(INTERRUPTED), str(tmp_path), durability],
        capture_output=True, text=True, timeout=60, env=environment(), check=True,
    )  # fmt: skip
    called, written, inside = map(int, done.stdout.split())
    assert called == written == len(on_disk(tmp_path)[0])
    assert inside > 0


FULL_THEN_KILLED = """
    import os, signal, sys
    from pathlib import Path
    from faulty_system import FullDisk
    from log_samples import decision
    from router.log.spool import Spool

    disk = FullDisk()
    spool = Spool(Path(sys.argv[1]), system=disk)
    assert spool.append(decision(0))
    disk.is_full = True
    for n in range(7):
        assert not spool.append(decision(n))
    if sys.argv[2] == "recovers":
        disk.is_full = False
        assert spool.append(decision(8))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(data: Path, end: str) -> None:
    script = textwrap.dedent(FULL_THEN_KILLED)
    done = subprocess.run(
        [sys.executable, "-c", script, str(data), end],
        timeout=60,
        env=environment(),
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


def test_drops_of_a_process_that_died_on_a_full_disk_are_still_counted(tmp_path):
    killed(tmp_path, "dies")
    (left,) = unreported(tmp_path)
    assert isinstance(left, Unreported)
    assert (left.reason, left.n) == ("No space left on device", 7)
    assert (tmp_path / "spool" / left.spool).exists()
    with open_log(tmp_path) as log:
        assert losses(log)["drops"] == {"No space left on device": 7}
    assert tidy(tmp_path) == 0, "what was never reported stays"
    (note,) = (tmp_path / "spool").glob("*.drops")
    assert note.stat().st_mode & 0o777 == 0o600
    assert note.stat().st_size == NOTE_BYTES


def test_drops_that_the_spool_reports_are_not_counted_twice(tmp_path):
    killed(tmp_path, "recovers")
    assert on_disk(tmp_path)[1] == 7
    assert unreported(tmp_path) == []
    with open_log(tmp_path) as log:
        assert losses(log)["drops"] == {"No space left on device": 7}
    assert tidy(tmp_path) == 1, "the note of a process that ended, with nothing in it"


def test_a_turn_and_an_owner_that_stays_take_away_notes_that_tell_nothing_and_no_others(tmp_path):
    for end in ("recovers", "dies"):
        killed(tmp_path, end)
    (told,) = unreported(tmp_path)
    beside = Spool(tmp_path)
    beside.append(decision(9))
    kept = {tmp_path / "spool" / name.replace(".jsonl", ".drops") for name in (told.spool, beside.path.name)}
    take_turn(tmp_path)
    assert set((tmp_path / "spool").glob("*.drops")) == kept
    killed(tmp_path, "recovers")
    assert len(list((tmp_path / "spool").glob("*.drops"))) == 3
    owner = Owner(tmp_path, interval_s=0.01, checkpoint_s=0.0)
    owner.start()
    try:
        end = time.monotonic() + 30
        while set((tmp_path / "spool").glob("*.drops")) != kept:
            assert time.monotonic() < end
    finally:
        owner.stop()
    assert unreported(tmp_path) == [told]
    beside.close()


def test_a_note_that_is_just_being_made_is_left_alone(tmp_path):
    (tmp_path / "spool").mkdir()
    note = tmp_path / "spool" / "host-1-1-aa.drops"
    note.touch()
    assert tidy(tmp_path) == 0
    os.utime(note, (0, 0))  # its process had no room for the first byte, a day and more ago
    assert tidy(tmp_path) == 1


def test_a_note_is_made_with_the_file_and_taken_away_at_the_end(tmp_path):
    spool = Spool(tmp_path)
    spool.append(decision(0))
    assert len(list((tmp_path / "spool").glob("*.drops"))) == 1
    assert tidy(tmp_path) == 0, "its process lives"
    spool.close()
    assert [path.suffix for path in (tmp_path / "spool").iterdir()] == [".jsonl"]


def test_a_damaged_note_tells_nothing(tmp_path):
    killed(tmp_path, "dies")
    (note,) = (tmp_path / "spool").glob("*.drops")
    text = bytearray(note.read_bytes())
    text[60] ^= 1
    note.write_bytes(text)
    assert unreported(tmp_path) == []
