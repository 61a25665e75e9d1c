"""What is forgotten is in no file any more, whatever was going on meanwhile, and everything else is as it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
import zlib
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import crash_points
import duckdb
import pytest
from log_samples import command, decision, owned_elsewhere, run, start
from log_tables import contents, day, spool_of_everything

from router.errors import InputError, LogLocked
from router.log import Owner, open_log, tasks
from router.log.batches import ERASED
from router.log.compaction import compact
from router.log.drawn import DRAWN, Drawn, note_drawn
from router.log.erasure import filler
from router.log.ingest import ingest_all, spools
from router.log.owner import take_turn
from router.log.record import decision_payload, fault, feedback_payload, kind
from router.log.schema import DATABASE, connect, generation
from router.log.selection import Selection
from router.log.spool import Spool
from router.log.upkeep import request

SECRET = "the crimson ledger of zanzibar 7f3a91"
SESSION = "session of zanzibar 55d0c4"


SECRETS = [decision(number, prompt=f"{SECRET} {number}", session_id=SESSION) for number in range(12)]


def forms(one) -> list[bytes]:
    """The bytes by which a decision could be found: its texts, its id as text and in every binary order, its hash."""
    number = uuid.UUID(one.id)
    stored = (number.int ^ (1 << 127)).to_bytes(16, "little")  # as DuckDB stores a UUID
    return [
        one.prompt.encode(), (one.session_id or SESSION).encode(), one.id.encode(), number.hex.encode(), number.bytes,
        number.bytes_le, number.bytes[::-1], stored, one.prompt_sha256.encode(), bytes.fromhex(one.prompt_sha256),
    ]  # fmt: skip


def found_in(data: Path, forgotten: list) -> list[str]:
    """Files that hold one of these decisions in some form: byte by byte, and what Parquet and DuckDB read out of them."""
    needles = [form for one in forgotten for form in forms(one)]
    found = []
    con = duckdb.connect()
    for path in sorted(data.rglob("*")):
        if not path.is_file():
            continue
        texts = [path.read_bytes()]
        if path.suffix == ".parquet":
            texts.append(repr(con.execute(f"SELECT * FROM '{path}'").fetchall()).encode())
        if path.name == DATABASE:
            shutil.copy(path, data.parent / "looked at")
            con.execute(f"ATTACH '{data.parent / 'looked at'}' AS looked (READ_ONLY)").fetchall()
            names = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'looked'"
            for (table,) in con.execute(names).fetchall():
                texts.append(repr(con.execute(f"SELECT * FROM looked.{table}").fetchall()).encode())
            con.execute("DETACH looked").fetchall()
            (data.parent / "looked at").unlink()
        if any(needle in text for needle in needles for text in texts):
            found.append(path.relative_to(data).as_posix())
    con.close()
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with secrets in the archive, in an ended spool and in a damaged copy, and drawn for review; never changed."""
    data = tmp_path_factory.mktemp("made") / "data"
    log_secrets(data, range(3))
    for number in range(2):
        spool_of_everything(data, number)
    con = connect(data / DATABASE)
    ingest_all(con, data)
    compact(con, data, min_spools=1)
    log_secrets(data, range(3, 6))
    spool_of_everything(data, 2)
    ingest_all(con, data)
    con.close()
    (data / "damaged").mkdir()
    shutil.copy(data / DATABASE, data / "damaged" / f"{DATABASE}-20261101T000000000000")
    note_drawn(data, [Drawn(one.id, "audit", "why", 0.5, None, day(1)) for one in SECRETS[:6]], generation=0)
    return data


@pytest.fixture
def data(made, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(made, tmp_path / "data"))


@pytest.fixture(scope="module")
def before(made, tmp_path_factory):
    """All that it holds."""
    return everything(shutil.copytree(made, tmp_path_factory.mktemp("held") / "data"))


def log_secrets(data: Path, numbers) -> None:
    spool = Spool(data)
    for number in numbers:
        spool.append(decision_payload(SECRETS[number]))
        spool.append(feedback_payload(SECRETS[number].id, "wrong", day(1), note=f"about {SECRET}"))
    spool.close()


def everything(data: Path) -> dict:
    """All that the database holds, which a second one made of archive and spools alone holds too."""
    with open_log(data) as log:
        assert log.mode == "file"
        held = contents(log._con)
    with open_log(data, take_lock=False) as log:
        assert contents(log._con) == held
    return held


def without(held: dict, forgotten: list) -> dict:
    """What is left of that when decisions go, but for roll-ups and the note of it."""
    gone = {uuid.UUID(one.id) for one in forgotten}
    left = {
        name: rows for name, rows in held.items() if name in ("policies", "saved_views", "drops", "rejects")
    }
    left["decisions"] = [row for row in held["decisions"] if row[0] not in gone]
    left["feedback"] = [row for row in held["feedback"] if row[0] not in gone]
    return left


def same_but(before: dict, after: dict, forgotten: list) -> None:
    expected = without(before, forgotten)
    assert {name: after[name] for name in expected} == expected
    assert len(after["erasures"]) == len(before["erasures"]) + 1
    assert sum(row[-1] for row in after["latencies"]) == len(after["decisions"])


def test_what_is_to_be_forgotten_is_found_before(data):
    where = found_in(data, SECRETS[:6])
    assert any(name.startswith("spool/") for name in where)
    assert any(name.startswith("archive/day=") for name in where)
    assert any(name.startswith("archive/") and "day=" not in name for name in where)  # feedback
    assert DATABASE in where
    assert DRAWN in where
    assert f"damaged/{DATABASE}-20261101T000000000000" in where


BY = [
    pytest.param("session", lambda one: SESSION, SECRETS[:6], id="session"),
    pytest.param("id", lambda one: one.id.upper(), [SECRETS[1]], id="id in the archive"),
    pytest.param("id", lambda one: one.id, [SECRETS[4]], id="id in a spool"),
    pytest.param("prompt_hash", lambda one: one.prompt_sha256, [SECRETS[0]], id="hash in the archive"),
    pytest.param("prompt_hash", lambda one: one.prompt_sha256.upper(), [SECRETS[5]], id="hash in a spool"),
]


@pytest.mark.parametrize(("selector", "value", "forgotten"), BY)
def test_forgotten_decisions_are_in_no_file_and_all_others_are_there(
    data, before, selector, value, forgotten
):
    chosen = Selection.of(selector, value(forgotten[0]))
    assert request(data, "forget", selector, *chosen.values).decisions == len(forgotten)
    if len(forgotten) == 6:
        assert found_in(data, forgotten) == []
    else:  # the others have the same session
        one = [form for form in forms(forgotten[0]) if form != SESSION.encode()]
        assert not [
            path for path in data.rglob("*") if path.is_file() and any(x in path.read_bytes() for x in one)
        ]
    same_but(before, everything(data), forgotten)
    assert request(data, "forget", selector, *chosen.values).decisions == 0
    assert os.listdir(data / "tasks") == []


def test_several_are_forgotten_with_one_rewriting_of_the_database(data, before):
    forgotten = [SECRETS[1], SECRETS[4]]  # one in the archive, one in a spool
    steps: list[str] = []
    answer = request(
        data, "forget", "id", *(one.id for one in forgotten), report=lambda now: steps.append(now.step)
    )
    assert answer.decisions == 2
    assert sum(a != b for a, b in pairwise(steps)) == 1  # files, then database
    held = [x for one in forgotten for x in forms(one) if x != SESSION.encode()]
    assert not [
        path for path in data.rglob("*") if path.is_file() and any(x in path.read_bytes() for x in held)
    ]
    same_but(before, everything(data), forgotten)
    now = everything(data)
    strangers = [str(uuid.uuid4()) for _ in range(20)]  # too many to look for each in every line
    answer = request(data, "forget", "id", *strangers, SECRETS[2].id)
    assert answer.decisions == 1
    same_but(now, everything(data), [SECRETS[2]])
    by_hash = command(
        data, "forget", *(x for one in SECRETS[:2] for x in ("--prompt-hash", one.prompt_sha256))
    )
    assert by_hash.stdout == "1 decision erased from database, archive and spools\n"


def test_deleting_and_checkpointing_alone_would_leave_the_bytes(data):
    con = connect(data / DATABASE)
    con.execute("DELETE FROM decisions WHERE session_id = $s", {"s": SESSION}).fetchall()
    con.execute("CHECKPOINT").fetchall()
    con.close()
    assert any(form in (data / DATABASE).read_bytes() for one in SECRETS[:6] for form in forms(one))


def test_forgetting_nothing_leaves_the_file_alone(data, before):
    inode = (data / DATABASE).stat().st_ino
    assert request(data, "forget", "session", "nobody's").decisions == 0
    assert (everything(data), (data / DATABASE).stat().st_ino) == (before, inode)


def test_an_erasure_is_noted_without_the_value_it_went_by(data):
    request(data, "forget", "session", SESSION)
    with open_log(data) as log:
        assert log.rows("SELECT selector, n FROM erasures WHERE selector = 'session' AND n = 6") == [
            ("session", 6)
        ]


@pytest.mark.parametrize("length", [50, 51, 100, 70_000])
def test_what_stands_in_a_spool_instead_is_a_whole_record_of_the_same_length(length):
    line = filler(length, ERASED)
    assert (len(line), fault(line), kind(line)) == (length, None, ERASED)
    assert json.loads(line)


def test_offsets_hold_in_a_spool_that_goes_on(tmp_path):
    spool = Spool(tmp_path)
    for number in range(3):
        spool.append(decision_payload(SECRETS[number]))
    spool.append(decision_payload(decision(50)))
    take_turn(tmp_path)
    size = spool.path.stat().st_size
    assert request(tmp_path, "forget", "session", SESSION).decisions == 3
    assert spool.path.stat().st_size == size
    assert spool.append(decision_payload(decision(51)))
    assert take_turn(tmp_path).rows == 1 + 0  # the note of the erasure was ingested with it
    held = everything(tmp_path)
    assert len(held["decisions"]) == 2
    assert held["rejects"] == []
    assert found_in(tmp_path, SECRETS[:3]) == []


def record(body: bytes) -> bytes:
    """A line whose checksum fits, whatever it is."""
    body = body.replace(b"%b", SECRET.encode())
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:] + b"\n"


def test_damaged_lines_of_which_nobody_can_say_whose_they_are_go_and_stay_rejects(tmp_path):
    spool = Spool(tmp_path)
    for number in range(2):
        spool.append(decision_payload(SECRETS[number]))
    path = spool.path
    spool.close()
    content = bytearray(path.read_bytes())
    content[content.index(b"crimson")] ^= 0x20  # the first line's checksum is wrong now
    whole = [
        record(b'{"kind":"rumour","prompt":"%b","pad":"....."}'),
        record(b'{"kind":"decision","prompt":"%b}'),
    ]
    path.write_bytes(
        bytes(content) + b"no record: " + SESSION.encode() + b"\n" + b"".join(whole) + content[:200]
    )
    take_turn(tmp_path)
    before = everything(tmp_path)
    assert [row[-1] for row in sorted(before["rejects"], key=lambda row: row[1])] == [
        "checksum does not match", "not a record", "unknown kind of record", "not JSON", "cut off",
    ]  # fmt: skip
    assert request(tmp_path, "forget", "session", SESSION).decisions == 1
    assert found_in(tmp_path, [SECRETS[1]]) == []
    after = everything(tmp_path)
    assert after["rejects"] == before["rejects"]
    assert b"rimson" not in path.read_bytes()


def test_a_whole_record_within_a_damaged_line_is_forgotten_like_any_other(tmp_path):
    spool = Spool(tmp_path)
    for number in range(3):
        spool.append(decision_payload(SECRETS[number]))
    path = spool.path
    spool.close()
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first[:-40] + second[:-1] + third)
    take_turn(tmp_path)
    assert request(tmp_path, "forget", "id", SECRETS[1].id).decisions == 1
    assert found_in(tmp_path, [replace(SECRETS[1], session_id="one of its own")]) == []
    with open_log(tmp_path) as log:
        assert log.rows("SELECT id::VARCHAR AS id FROM decisions") == [(SECRETS[2].id,)]
    assert fault(path.read_bytes().splitlines()[0][-len(third) + 1 :]) is None


LIVE = """
    import sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.writer import Writer
    writer = Writer(Path(sys.argv[1]))
    print("ready", flush=True)
    begun = time.monotonic()
    n = 0
    while time.monotonic() - begun < float(sys.argv[2]):
        assert writer.log(decision(n, prompt=f"someone else's {n}", session_id="other"))
        n += 1
        time.sleep(0.002)
    writer.close()
    print(n, flush=True)
"""


def test_forgetting_beside_a_writer_loses_none_of_its_rows(data):
    writers = [start(LIVE, data, 1) for _ in range(2)]
    for writer in writers:
        assert writer.stdout.readline() == "ready\n"
    assert request(data, "forget", "session", SESSION).decisions == 6
    assert found_in(data, SECRETS[:6]) == []
    logged = 0
    for writer in writers:
        logged += int(writer.stdout.readline())
        assert writer.wait(30) == 0
        writer.stdout.close()
    take_turn(data)
    with open_log(data) as log:
        assert log.rows("SELECT count(*), count(DISTINCT id) FROM decisions WHERE session_id = 'other'") == [
            (logged, logged)
        ]
    everything(data)


def test_a_dashboard_in_another_process_forgets_when_it_is_asked(data, before):
    with owned_elsewhere(data) as dashboard:
        by, steps = [], []
        answer = request(data, "forget", "session", SESSION, waiting_for=by.append, report=steps.append)
        assert answer.decisions == 6
        assert by == [dashboard.pid]
        assert found_in(data, SECRETS[:6]) == []
    assert found_in(data, SECRETS[:6]) == []
    same_but(before, everything(data), SECRETS[:6])


def test_readers_of_the_dashboard_see_the_log_before_or_after_never_a_fault(data):
    owner = Owner(data, interval_s=0.02)
    owner.start()
    assert owner.wait_ready(30)
    stop, seen, faults = threading.Event(), set(), []

    def read() -> None:
        while not stop.is_set():
            try:
                with open_log(data) as log:
                    rows = log.rows(
                        "SELECT count(*), count(*) FILTER (session_id = $s) FROM decisions", {"s": SESSION}
                    )
                    seen.add((log.mode, *rows[0]))
            except LogLocked:
                pass  # a written state: read it again
            except Exception as error:
                faults.append(repr(error))
                return

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        assert request(data, "forget", "session", SESSION).decisions == 6
        with open_log(data) as log:
            assert (log.mode, generation(log.cursor())) == ("owner", 1)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    owner.stop()
    assert faults == []
    assert ("owner", 18, 6) in seen
    assert seen <= {("owner", 18, 6), ("owner", 12, 0)}
    assert found_in(data, SECRETS[:6]) == []


def test_a_query_that_does_not_end_does_not_hold_an_erasure_up(data):
    owner = Owner(data, interval_s=0.02, patience_s=0.2)
    owner.start()
    assert owner.wait_ready(30)
    ended = []

    def endless() -> None:
        with open_log(data) as log:
            try:
                log.rows(
                    "SELECT count(*) FROM range(10000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3"
                )
            except LogLocked as error:
                ended.append(str(error))

    reader = threading.Thread(target=endless)
    reader.start()
    time.sleep(0.3)
    assert request(data, "forget", "session", SESSION).decisions == 6
    reader.join(20)
    owner.stop()
    assert ended == ["the database was replaced while it was read; read it again"]
    assert found_in(data, SECRETS[:6]) == []


def test_a_copy_in_another_readers_memory_forgets_too(data):
    with open_log(data, take_lock=False) as log:
        assert log.count() == 18
        request(data, "forget", "session", SESSION)
        log.refresh()
        assert log.rows("SELECT count(*) FROM decisions WHERE session_id = $s", {"s": SESSION}) == [(0,)]
        assert log.count() == 12


def test_an_older_copy_of_the_database_brings_nothing_back(data, tmp_path):
    shutil.copy(data / DATABASE, tmp_path / "copy")
    request(data, "forget", "session", SESSION)
    after = everything(data)
    shutil.copy(tmp_path / "copy", data / DATABASE)
    with open_log(data) as log:
        assert "older copy" in log.note
    assert everything(data) == after


def orphaned(data: Path, kind_: str, selector: str, value: str) -> None:
    """A request whose process is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    tasks.save(data, replace(tasks.ask(data, kind_, selector, value), pid=process.pid))


def test_the_next_turn_finishes_what_a_process_asked_for_that_is_gone(data):
    orphaned(data, "forget", "session", SESSION)
    take_turn(data)
    assert found_in(data, SECRETS[:6]) == []
    assert tasks.pending(data) == []


def test_a_turn_leaves_a_request_to_the_process_that_waits_for_it(data):
    task = tasks.ask(data, "forget", "session", SESSION)
    take_turn(data)
    assert tasks.pending(data) == [task]


OLD = (day(1) + timedelta(hours=1)).isoformat()
LITTLE_SPACE = """
    import resource, sys
    from pathlib import Path
    from router.errors import LogError
    from router.log.upkeep import request
    data = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))  # as if the disk were full
    try:
        request(data, "forget", "session", sys.argv[2])
    except LogError as error:
        print(error)
"""


def test_a_disk_without_space_for_it_leaves_the_database_as_it_is_and_the_request_to_the_next(data):
    before = (data / DATABASE).stat().st_ino
    assert "could not be written anew (file too large)" in run(LITTLE_SPACE, data, SESSION)
    assert (data / DATABASE).stat().st_ino == before
    assert not list(data.glob("*.new*"))
    assert len(tasks.pending(data)) == 1
    take_turn(data)
    assert tasks.pending(data) == []
    assert found_in(data, SECRETS[:6]) == []


def test_a_request_that_cannot_be_done_does_not_hold_up_turns(data, caplog):
    (part,) = (data / "archive").glob("day=2026-11-21/*.parquet")
    whole = part.read_bytes()
    part.write_bytes(b"damaged")
    orphaned(data, "forget", "session", SESSION)
    spool = Spool(data)
    for number in range(2):
        spool.append(decision_payload(decision(100 + number)))
        assert take_turn(data).rows == 1
    spool.close()
    assert caplog.text.count("could not be done") == 1  # and it is not tried again at once
    assert f"{part.parent.name}/{part.name}" in caplog.text
    part.write_bytes(whole)
    (answer,) = (data / "tasks").glob("*.done")
    os.utime(answer, (0, 0))
    take_turn(data)
    assert found_in(data, SECRETS[:6]) == []


CASES = [
    pytest.param(*case, step, id=f"{case[0]}-{step}", marks=[pytest.mark.soak] if step == 1 else [])
    for case, few in (
        (("forget", "session", SESSION, [SECRET, SESSION]), 23),
        (("retention", "days", OLD, [SECRET, SESSION]), 31),
        (("rebuild", "none", "", []), 6),
    )
    for step in (few, 1)
]


@pytest.mark.skipif(sys.platform != "linux", reason="forks beside DuckDB")
@pytest.mark.parametrize(("kind_", "selector", "value", "needles", "step"), CASES)
def test_a_process_killed_at_any_point_of_an_erasure_has_it_finished_by_the_next(
    data, tmp_path, kind_, selector, value, needles, step
):
    orphaned(data, kind_, selector, value)
    script = Path(crash_points.__file__).read_text()
    report = json.loads(run(script, "ask", data, tmp_path / "work", step, *needles, timeout=290))
    assert report["crashes"] >= 8
    assert len(report["digests"]) == 1, report["digests"]
    assert report["leftovers"] == []


def test_retention_keeps_the_moment_itself_and_erases_what_was_before_it(tmp_path):
    cutoff = day(1) + timedelta(hours=5)
    moments = [
        timedelta(days=-1),
        timedelta(microseconds=-1),
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(hours=30),
    ]

    def log() -> list[str]:
        spool = Spool(tmp_path)
        made = [decision(decided_at=cutoff + moment, prompt=f"at {moment}") for moment in moments]
        for one in made:
            spool.append(decision_payload(one))
            spool.append(feedback_payload(one.id, "right", one.decided_at + timedelta(days=9)))
        spool.append(
            feedback_payload(str(uuid.uuid4()), "right", cutoff - timedelta(days=2))
        )  # on one long gone
        spool.close()
        return [one.id for one in made]

    archived = log()
    take_turn(tmp_path)
    con = connect(tmp_path / DATABASE)
    compact(con, tmp_path, min_spools=1)
    con.close()
    in_spool = log()
    assert request(tmp_path, "retention", "days", cutoff.isoformat()).decisions == 4
    held = everything(tmp_path)
    kept = {uuid.UUID(id) for ids in (archived, in_spool) for id in ids[2:]}
    assert {row[0] for row in held["decisions"]} == kept
    assert {row[0] for row in held["feedback"]} == kept
    assert not (tmp_path / "archive" / f"day={(cutoff - timedelta(days=1)).date()}").exists()
    assert spools(tmp_path) == []  # what was overwritten in them is gone as well


def test_retention_takes_a_damaged_line_with_the_old_ones_around_it(tmp_path):
    spool = Spool(tmp_path)
    for number in (0, 1):
        spool.append(decision_payload(decision(prompt=f"{SECRET} {number}", decided_at=day(0))))
    spool.append(decision_payload(decision(prompt="young", decided_at=day(9))))
    content = bytearray(spool.path.read_bytes())
    content[content.index(f"{SECRET} 1".encode())] ^= 0x20
    with spool.path.open("r+b") as file:
        file.write(content)
    request(tmp_path, "retention", "days", day(5).isoformat())
    assert SECRET[1:].encode() not in spool.path.read_bytes()
    held = everything(tmp_path)
    assert (len(held["decisions"]), len(held["rejects"])) == (1, 1)
    spool.close()


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        ("id", "17"),
        ("id", ""),
        ("session", ""),
        ("prompt_hash", "abc"),
        ("prompt_hash", "g" * 64),
        ("days", "soon"),
    ],
)
def test_a_value_that_is_none_is_refused_in_words(selector, value):
    with pytest.raises(InputError, match="expected"):
        Selection.of(selector, value)


def test_the_verbs_say_what_they_erased(data):
    trial = command(data, "forget", "--session", SESSION, "--dry-run", "--json")
    assert (trial.exit_code, json.loads(trial.stdout)["decisions"]) == (0, 6)
    by_hash = command(data, "forget", "--prompt-hash", SECRETS[0].prompt_sha256)
    assert by_hash.stdout == "1 decision erased from database, archive and spools\n"
    by_text = command(data, "forget", "--prompt-file", "-", stdin=f"{SECRET} 1\n")
    assert by_text.stdout == "1 decision erased from database, archive and spools\n"
    by_session = command(data, "forget", "--session", SESSION, "--json")
    assert json.loads(by_session.stdout) == {
        "decisions": 4, "by": "session", "dry_run": False, "data": str(data.absolute()),
    }  # fmt: skip
    again = command(data, "forget", "--session", SESSION)
    assert (again.exit_code, again.stdout) == (0, "no such decision; nothing to erase\n")
    assert found_in(data, SECRETS[:6]) == []
    old = command(data, "retention", "--days", "1", "--json")
    assert (old.exit_code, json.loads(old.stdout)["by"]) == (0, "days")
    assert command(data, "retention", "--days", "1").stdout == "no decision is that old; nothing to erase\n"


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("forget",), 2, "found 0 of --id"),
        (("forget", "--id", "x", "--session", "y"), 2, "found 2 of --id"),
        (("forget", "--id", "17"), 2, "expected the id of a decision"),
        (("forget", "--prompt-file", "nowhere.txt"), 2, "nowhere.txt cannot be read"),
        (("forget", "--prompt-file", "-", "--prompt-file", "-"), 2, "standard input can be read once"),
        (("retention",), 2, "--days"),
        (("retention", "--days", "0"), 2, "--days"),
    ],
)
def test_the_verbs_refuse_what_they_cannot_do(tmp_path, words, code, says):
    done = command(tmp_path, *words)
    assert done.exit_code == code
    assert says in done.stderr


def test_a_folder_without_a_log_has_nothing_to_forget_and_stays_empty(tmp_path):
    done = command(tmp_path, "forget", "--session", "x")
    assert (done.exit_code, done.stdout) == (0, "no such decision; nothing to erase\n")
    assert list(tmp_path.iterdir()) == []


def test_prompts_are_the_same_for_the_hash_of_a_file_and_of_the_log():
    assert SECRETS[0].prompt_sha256 == hashlib.sha256(f"{SECRET} 0".encode()).hexdigest()


def test_a_session_is_forgotten_by_the_name_it_was_given_though_the_log_cannot_hold_that(tmp_path):
    spool = Spool(tmp_path)
    spool.append(decision(session_id="bad\udcff"))
    spool.close()
    chosen = Selection.of("session", "bad\udcff")
    assert request(tmp_path, "forget", "session", *chosen.values).decisions == 1
