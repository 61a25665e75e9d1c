"""A damaged database is moved aside and comes back from archive and spools; what is no damage is left alone."""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
from log_samples import decision, run, start
from log_tables import contents, spool_of_everything

from router.errors import LogDamaged, LogError, LogLocked
from router.log import Owner, open_log
from router.log.archive import is_fresh
from router.log.compaction import compact
from router.log.ingest import ingest_all
from router.log.lock import OwnerLock
from router.log.owner import status, take_turn
from router.log.parts import manifests
from router.log.record import decision_payload
from router.log.recovery import KEPT, damage_note, last_damage, open_database, suspect
from router.log.schema import DATABASE, connect, is_damage, is_fatal
from router.log.spool import Spool

WAL = f"{DATABASE}.wal"
SCAN = "SELECT max(hash(COLUMNS(*))) FROM decisions"


def waits_for(check, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def filled(data: Path) -> dict:
    """A database with rows that are in the archive alone, and rows that are in spools; what it holds."""
    for number in range(3):
        spool_of_everything(data, number)
    con = connect(data / DATABASE)
    ingest_all(con, data)
    compact(con, data, min_spools=1)
    for number in range(3, 5):
        spool_of_everything(data, number)
    ingest_all(con, data)
    held = contents(con)
    con.close()
    return held


LEAVES_A_LOG = """
    import os, sys
    from pathlib import Path
    from router.log.ingest import ingest_all
    from router.log.schema import DATABASE, connect
    from log_tables import spool_of_everything
    data = Path(sys.argv[1])
    con = connect(data / DATABASE)
    spool_of_everything(data, 9)
    ingest_all(con, data)
    os._exit(0)  # nothing is closed: the last rows are in the write-ahead log alone
"""


@pytest.fixture(scope="module")
def with_log(tmp_path_factory):
    """A folder whose last rows are in the write-ahead log alone, and what it holds."""
    data = tmp_path_factory.mktemp("with_log") / "data"
    filled(data)
    run(LEAVES_A_LOG, data)
    assert (data / WAL).stat().st_size > 1000
    with open_log(data, take_lock=False) as log:
        return data, contents(log._con)


def flip(path: Path, at: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0x40
    path.write_bytes(content)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


DAMAGES = {
    "log: last bytes cut": lambda file, wal: wal.write_bytes(wal.read_bytes()[:-7]),
    "log: half": lambda file, wal: cut(wal, 0.5),
    "log: one byte flipped": lambda file, wal: flip(wal, 0.6),
    "log: zeros": lambda file, wal: wal.write_bytes(bytes(wal.stat().st_size)),
    "log: zeros at its end": lambda file, wal: wal.write_bytes(wal.read_bytes() + bytes(5000)),
    "log: garbage": lambda file, wal: wal.write_bytes(random.Random(1).randbytes(5000)),
    "log: deleted": lambda file, wal: wal.unlink(),
    "file: deleted": lambda file, wal: file.unlink(),
    "file: empty": lambda file, wal: file.write_bytes(b""),
    "file: half": lambda file, wal: cut(file, 0.5),
    "file: header flipped": lambda file, wal: flip(file, 0.0),
    "file: zeros": lambda file, wal: file.write_bytes(bytes(file.stat().st_size)),
    "file: text": lambda file, wal: file.write_text("not a database\n" * 5000),
    "both: deleted": lambda file, wal: (file.unlink(), wal.unlink()),
    "both: garbage": lambda file, wal: (file.write_bytes(b"\x01" * 9000), wal.write_bytes(b"\x02" * 900)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_after_any_damage_everything_is_there_once(with_log, tmp_path, damage):
    source, held = with_log
    data = Path(shutil.copytree(source, tmp_path / "data"))
    damage(data / DATABASE, data / WAL)
    for _ in range(2):  # mended, and sound from then on
        with open_log(data) as log:
            assert log.mode == "file"
            assert contents(log._con) == held


def test_a_damage_is_kept_aside_said_and_remembered(tmp_path, caplog):
    held = filled(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"damaged" * 1000)
    with open_log(tmp_path) as log:
        assert contents(log._con) == held
        assert "could not be opened" in log.note
        assert "No decision is lost" in log.note
    (kept,) = last_damage(tmp_path).kept
    assert (tmp_path / "damaged" / kept).read_bytes() == b"damaged" * 1000
    assert stat.S_IMODE((tmp_path / "damaged" / kept).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "damaged").stat().st_mode) == 0o700
    assert "could not be opened" in caplog.text


def test_a_log_that_cannot_be_read_leaves_the_file_that_can(with_log, tmp_path):
    source, held = with_log
    data = Path(shutil.copytree(source, tmp_path / "data"))
    before = (data / DATABASE).stat().st_ino
    flip(data / WAL, 0.5)
    with open_log(data) as log:
        assert contents(log._con) == held
    assert (data / DATABASE).stat().st_ino == before
    assert [name.split("-")[0] for name in last_damage(data).kept] == [WAL]


def test_damages_do_not_fill_the_disk(tmp_path):
    filled(tmp_path)
    for number in range(KEPT + 3):
        (tmp_path / DATABASE).write_bytes(b"%d" % number * 5000)
        take_turn(tmp_path)
    kept = sorted((tmp_path / "damaged").glob(f"{DATABASE}-*"))
    assert [path.read_bytes()[:1] for path in kept] == [b"3", b"4", b"5"]


def spoil_a_block(data: Path) -> None:
    """Flip a byte in a block of rows: opening does not look at it, reading does."""
    with open_log(data) as log:
        ids = [row[0] for row in log.rows("SELECT id FROM decisions")]
    content = (data / DATABASE).read_bytes()
    stored = [(id.int ^ (1 << 127)).to_bytes(16, "little") for id in ids]  # as DuckDB stores a UUID
    form = next(form for form in stored if form in content)
    (data / DATABASE).write_bytes(content.replace(form, bytes([form[0] ^ 0x40]) + form[1:]))


def test_damage_that_shows_only_when_rows_are_read_is_mended_by_the_next_command(tmp_path):
    held = filled(tmp_path)
    spoil_a_block(tmp_path)
    with (
        pytest.raises(LogDamaged, match="made again from archive and spools") as raised,
        open_log(tmp_path) as log,
    ):
        log.rows(SCAN)
    assert raised.value.__cause__ is None
    with open_log(tmp_path) as log:
        assert contents(log._con) == held
        assert "was damaged" in log.note


def test_a_dashboard_mends_what_a_page_finds_damaged(tmp_path):
    held = filled(tmp_path)
    spoil_a_block(tmp_path)
    owner = Owner(tmp_path, interval_s=0.02)
    owner.start()
    assert owner.wait_ready(30)
    with open_log(tmp_path) as log:
        with pytest.raises(LogDamaged):
            log.rows(SCAN)
        waits_for(lambda: last_damage(tmp_path) is not None and owner.is_open)

        def readable() -> bool:
            try:
                return log.rows(SCAN) != []
            except LogLocked:
                return False

        waits_for(readable)
    waits_for(lambda: owner.status().state == "owning")
    waits_for(lambda: "was damaged" in status(tmp_path).note)
    with open_log(tmp_path) as log:
        assert log.mode == "owner"
        cursor = log.cursor()
        assert contents(cursor) == held
        cursor.close()
        assert "was damaged" in log.note
    owner.stop()


def test_an_older_copy_that_lacks_archived_rows_is_made_again(tmp_path):
    data = tmp_path / "data"
    spool_of_everything(data, 0)
    take_turn(data)
    shutil.copy(data / DATABASE, tmp_path / "older")
    held = filled(data)
    shutil.copy(tmp_path / "older", data / DATABASE)
    with open_log(data) as log:
        assert contents(log._con) == held
        assert "did not hold what the archive holds" in log.note


def test_an_interrupted_mending_goes_on_where_it_stopped(tmp_path):
    held = filled(tmp_path)
    con = open_database(tmp_path)
    for number in range(10, 12):
        spool_of_everything(tmp_path, number)
        ingest_all(con, tmp_path)
        compact(con, tmp_path, min_spools=1)
    held = contents(con)
    con.close()
    assert len(manifests(tmp_path)) == 3
    (tmp_path / DATABASE).unlink()

    def stop(done: int, total: int) -> None:
        if done > total / 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_database(tmp_path, progress=stop)
    con = connect(tmp_path / DATABASE)
    assert is_fresh(con)  # whatever it holds: it is not whole yet
    con.close()
    steps = []
    con = open_database(tmp_path, progress=lambda done, total: steps.append(done / total))
    assert contents(con) == held
    assert steps[-1] == 1.0
    con.close()


def test_a_database_that_is_damaged_again_and_again_is_not_made_again_for_ever(tmp_path):
    filled(tmp_path)
    for _ in range(3):
        assert suspect(tmp_path)
        take_turn(tmp_path)
    assert not suspect(tmp_path)
    assert take_turn(tmp_path).rows == 0  # and goes on with what it has


def test_a_pages_note_of_a_damage_ends_after_a_day(tmp_path):
    filled(tmp_path)
    suspect(tmp_path)
    take_turn(tmp_path)
    assert damage_note(tmp_path)
    at = last_damage(tmp_path).at
    assert damage_note(tmp_path, at + timedelta(days=1)) == last_damage(tmp_path).sentence
    assert damage_note(tmp_path, at + timedelta(days=1, microseconds=1)) == ""


TEXTS = [
    (
        "IO Error: Corrupt database file: computed checksum 1 does not match stored checksum 2",
        duckdb.IOException,
        True,
    ),
    (
        "Corrupt database file: computed checksum 1 does not match",
        duckdb.Error,
        True,
    ),  # the class that 2.0.1 raises
    ("Could not read enough bytes from file", duckdb.IOException, True),
    ("Failure while replaying WAL file", duckdb.IOException, True),
    ("FATAL: Corrupt: No space left on device", duckdb.FatalException, False),
    ("Could not write file: Disk quota exceeded", duckdb.IOException, False),
    ("Could not set lock on file: Conflicting lock is held", duckdb.IOException, False),
    ("Conversion Error: 'my corrupt checksum'", duckdb.ConversionException, False),
    ("Invalid Input Error: corrupt", duckdb.InvalidInputException, False),
]


@pytest.mark.parametrize(("text", "kind", "expected"), TEXTS)
def test_what_counts_as_damage(text, kind, expected):
    assert is_damage(kind(text)) is expected
    assert is_fatal(duckdb.FatalException("x"))
    assert is_fatal(duckdb.InternalException("x"))
    assert not is_fatal(duckdb.IOException("x"))


def test_a_database_that_another_program_has_open_is_left_alone(tmp_path):
    held = filled(tmp_path)
    other = start(
        "import duckdb, sys, time; con = duckdb.connect(sys.argv[1]); print('ready', flush=True); time.sleep(120)",
        tmp_path / DATABASE,
    )
    try:
        assert other.stdout.readline() == "ready\n"
        with open_log(tmp_path) as log:
            assert (log.mode, contents(log._con)) == ("spool", held)
            assert f"PID {other.pid}" in log.note
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert not (tmp_path / "damaged").exists()


NOBODY = """
    import os, sys
    from pathlib import Path
    from router.log import open_log
    from router.log.owner import take_turn
    import duckdb, pyarrow, tempfile
    with tempfile.TemporaryDirectory() as warm:
        open_log(warm).close()
    os.setgid(65534); os.setuid(65534)
    try:
        take_turn(Path(sys.argv[1]))
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_database_that_may_not_be_read_is_left_alone(tmp_path):
    import tempfile

    if os.geteuid() != 0:
        pytest.skip("becomes another user, which needs root")
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        filled(data)
        data.chmod(0o777)
        (data / "owner.lock").chmod(0o666) if (data / "owner.lock").exists() else None
        said = run(NOBODY, data)
        assert said.startswith("LogError")
        assert "permission denied" in said
        assert not (data / "damaged").exists()
        assert (data / DATABASE).exists()


def test_a_folder_in_the_databases_place_is_said_and_left_alone(tmp_path):
    (tmp_path / DATABASE).mkdir()
    Spool(tmp_path).append(decision_payload(decision()))
    with pytest.raises(LogError, match="is no file, expected the database"):
        take_turn(tmp_path)
    with open_log(tmp_path) as log:
        assert (log.mode, log.count()) == ("spool", 1)
    assert OwnerLock(tmp_path).acquire("turn")


def test_a_manifest_that_cannot_be_read_loses_nothing_that_the_database_has(tmp_path):
    held = filled(tmp_path)
    (manifest,) = manifests(tmp_path)
    path = tmp_path / "archive" / f"{manifest.name}.json"
    path.write_text("{")
    spool_of_everything(tmp_path, 20)
    take_turn(tmp_path)
    con = open_database(tmp_path)
    compact(con, tmp_path, min_spools=1)  # which clears up, and must not take its parts for rubbish
    assert len(contents(con)["decisions"]) == len(held["decisions"]) + 4
    con.close()
    for part in manifest.parts:
        assert (tmp_path / "archive" / part.path).exists()
    (tmp_path / DATABASE).unlink()
    with open_log(tmp_path) as log:
        assert f"{manifest.name}.json cannot be read" in log.note
        assert log.count() == len(held["decisions"]) + 4 - manifest.decisions


def test_pages_say_that_the_database_is_being_made_again(tmp_path):
    filled(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"damaged" * 1000)
    owner = Owner(tmp_path, interval_s=0.02)
    seen, go_on = threading.Event(), threading.Event()
    report = owner._report

    def slow(activity, state="working") -> None:
        report(activity, state)
        if state == "mending":
            seen.set()
            go_on.wait(20)

    owner._report = slow
    owner.start()
    assert seen.wait(20)
    assert "is being made again from archive and spools: " in owner.mending
    assert owner.cursor(wait_s=0) is None
    go_on.set()
    assert owner.wait_ready(30)
    assert owner.mending == ""
    owner.stop()


def test_a_page_beside_another_owner_says_so_while_its_copy_is_read(tmp_path):
    from dashboard import loaders, state

    filled(tmp_path)
    state.configure(state.Settings(tmp_path))
    try:
        with pytest.raises(LogLocked, match="is being read into memory"):
            loaders.get_log(wait_s=0.0)  # a database in memory is not made in no time
        assert loaders.get_log(wait_s=30.0).count() == 20
    finally:
        loaders.close_readers()
        state.configure(None)


def test_what_there_is_to_say_about_a_log_is_said_without_opening_it(tmp_path):
    from router.log import tasks
    from router.log.health import remarks

    assert [about for about, *_ in remarks(tmp_path)] == ["owner"]
    filled(tmp_path)
    (tmp_path / DATABASE).write_bytes(b"damaged" * 1000)
    take_turn(tmp_path)
    found = {about: (state, text) for about, state, text in remarks(tmp_path)}
    assert found["owner"][0] == "ok"
    assert found["owner"][1].startswith(f"nobody owns the log; the last was process {os.getpid()} (turn)")
    assert found["database"] == ("warn", last_damage(tmp_path).sentence)
    assert found["archive"][1].startswith("12 decisions in 0.0 MB of Parquet, 2026-11-20 to 2026-11-22")
    tasks.ask(tmp_path, "forget", "session", "whose name is not said")
    next((tmp_path / "archive").glob("day=*/*")).unlink()
    lock = OwnerLock(tmp_path)
    assert lock.acquire("read")
    later = list(remarks(tmp_path))
    lock.release()
    assert ("owner", f"process {os.getpid()} (read) owns the log since") in [
        (x, z[: z.find("since") + 5]) for x, _, z in later
    ]
    assert [state for about, state, _ in later if about == "archive"] == ["fail", "ok"]
    (request,) = [text for about, _, text in later if about == "requests"]
    assert "a request to erase decisions by session" in request
    assert "whose name" not in request
