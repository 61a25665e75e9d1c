"""The append side: never raises, loses nothing that it acknowledged, counts what it could not write."""

from __future__ import annotations

import json
import logging
import os
import shutil
import stat
import threading
from collections import Counter
from decimal import Decimal

import pytest
from log_samples import decision, run

from router.log.ingest import ingest_all
from router.log.record import (
    MAX_LINE_BYTES,
    decision_payload,
    encode,
    fault,
    kind,
    pieces,
    salvage,
    unix_ms,
    uuid7,
)
from router.log.schema import connect
from router.log.spool import Spool
from router.log.writer import Writer
from router.log_settings import MAX_PROMPT_CHARS


def lines(data) -> list[bytes]:
    return [
        line for path in sorted((data / "spool").glob("*.jsonl")) for line in path.read_bytes().splitlines()
    ]


def records(data) -> list[dict]:
    return [json.loads(line) for line in lines(data)]


def test_a_record_is_one_whole_line_that_proves_itself(tmp_path):
    spool = Spool(tmp_path)
    assert spool.append(decision_payload(decision(prompt="line one\nline two")))
    (line,) = lines(tmp_path)
    assert fault(line) is None
    assert kind(line) == "decision"
    assert json.loads(line)["prompt"] == "line one\nline two"


@pytest.mark.parametrize("position", [0, 8, 15, 16, 17, 30, -1])
def test_a_flipped_byte_anywhere_is_found(position):
    line = bytearray(encode(decision_payload(decision()))[:-1])
    line[position] ^= 0x01
    assert fault(bytes(line)) is not None


ONE, TWO = (encode(decision_payload(decision(n)))[:-1] for n in (1, 2))
LOOKS_LIKE_A_RECORD = encode(decision_payload(decision(3, extra={"x": {"crc": "00000000", "y": 1}})))[:-1]


@pytest.mark.parametrize(
    ("before", "records_", "after"),
    [
        (b"xx", [TWO], b""),
        (ONE[:-30], [TWO], b""),
        (b'{"crc":"', [TWO], b""),
        (b'{"crc":"00000000",', [TWO], b""),
        (b"", [ONE, TWO], b""),
        (b"", [ONE], b"}"),
        (b"\0" * 50, [ONE, TWO], TWO[:200]),
        (b"x", [LOOKS_LIKE_A_RECORD], b"x"),
    ],
    ids=["garbage", "torn", "mark", "head", "no newline", "brace", "zeros", "record within"],
)
def test_a_whole_record_in_a_damaged_line_is_found(before, records_, after):
    line = before + b"".join(records_) + after
    found = list(pieces(line))
    assert b"".join(piece for _, piece in found) == line
    assert all(line[place : place + len(piece)] == piece for place, piece in found)
    assert [piece for _, piece in found if fault(piece) is None] == records_


def test_files_are_private_even_when_the_umask_is_open(tmp_path):
    old = os.umask(0)
    try:
        data = tmp_path / "a" / "b"
        with_row = Writer(data, turns=False)
        with_row.log(decision())
        with_row.close()
    finally:
        os.umask(old)
    modes = {p.relative_to(tmp_path).as_posix(): stat.S_IMODE(p.stat().st_mode) for p in tmp_path.rglob("*")}
    folders = {name for name in modes if (tmp_path / name).is_dir()}
    assert folders == {"a", "a/b", "a/b/spool"}
    assert {modes[name] for name in folders} == {0o700}
    assert {modes[name] for name in modes.keys() - folders} == {0o600}
    assert "a/b/decisions.duckdb" in modes


def test_the_write_ahead_log_is_private_while_an_owner_runs(tmp_path):
    from router.log import Owner

    old = os.umask(0)
    owner = Owner(tmp_path, interval_s=0.02)
    try:
        Spool(tmp_path).append(decision_payload(decision()))
        owner.start()
        assert owner.wait_ready(20)
        wal = tmp_path / "decisions.duckdb.wal"
        assert stat.S_IMODE(wal.stat().st_mode) == 0o600
    finally:
        os.umask(old)
        owner.stop()


def test_threads_write_whole_records_and_none_is_lost(tmp_path):
    spool = Spool(tmp_path)

    def work(number):
        for step in range(200):
            assert spool.append({"kind": "decision", "n": number * 1000 + step, "pad": "x" * (step * 7)})

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(fault(line) is None for line in lines(tmp_path))
    assert sorted(r["n"] for r in records(tmp_path)) == sorted(
        n * 1000 + s for n in range(8) for s in range(200)
    )
    assert spool.written == 1600


def test_a_file_is_rolled_when_it_is_full(tmp_path):
    spool = Spool(tmp_path, roll_bytes=2000)
    for number in range(20):
        assert spool.append(decision_payload(decision(number)))
    files = list((tmp_path / "spool").glob("*.jsonl"))
    assert len(files) > 5
    assert all(path.stat().st_size <= 2000 for path in files)
    assert len(lines(tmp_path)) == 20


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param("lone \ud800 surrogate", id="surrogate"),
        pytest.param(object(), id="any object"),
        pytest.param(2**80, id="more than 64 bits"),
        pytest.param({1: "x", "\udfff": 2, (1, 2): 3}, id="odd keys"),
        pytest.param({"a", "b"}, id="set"),
        pytest.param(b"bytes", id="bytes"),
    ],
)
def test_an_odd_value_does_not_lose_its_record(tmp_path, odd):
    spool = Spool(tmp_path)
    assert spool.append(decision_payload(decision(extra={"odd": odd})))
    assert not spool.dropped
    assert fault(lines(tmp_path)[0]) is None
    assert records(tmp_path)[0]["prompt"] == "prompt number 0"


def test_a_value_nested_without_end_does_not_lose_its_record(tmp_path):
    nest: dict = {}
    nest["self"] = nest
    spool = Spool(tmp_path)
    assert spool.append(decision_payload(decision(extra=nest)))
    assert records(tmp_path)[0]["prompt"] == "prompt number 0"


def test_salvage_leaves_what_json_can_hold_as_it_is():
    value = {"a": [1, 2.5, None, True, "x"], "d": Decimal("0.1")}
    assert salvage(value) == value


def test_a_record_longer_than_the_reader_takes_is_counted_not_acknowledged(tmp_path):
    spool = Spool(tmp_path)
    assert not spool.append(decision_payload(decision(extra={"pad": "x" * MAX_LINE_BYTES})))
    assert spool.append(decision_payload(decision(1)))
    assert dict(spool.dropped) == {"longer than a record may be": 1}
    assert [r["kind"] for r in records(tmp_path)] == ["drop", "decision"]


def test_a_prompt_of_ten_megabytes_is_cut_flagged_and_keeps_its_length_and_hash():
    long = decision(prompt="\x00" * 10_000_000)
    payload = decision_payload(long)
    assert len(payload["prompt"]) == MAX_PROMPT_CHARS
    assert payload["extra"] == {"prompt_cut": MAX_PROMPT_CHARS}
    assert payload["prompt_chars"] == 10_000_000
    assert payload["prompt_sha256"] == long.prompt_sha256
    assert len(encode(payload)) <= MAX_LINE_BYTES  # also when every character needs a six-byte escape


def test_a_data_folder_that_is_a_file_drops_and_counts_with_one_message(tmp_path, caplog):
    data = tmp_path / "data"
    data.write_text("not a folder")
    spool = Spool(data)
    with caplog.at_level(logging.ERROR, "routescope"):
        assert [spool.append(decision_payload(decision(n))) for n in range(3)] == [False] * 3
    assert sum(spool.dropped.values()) == 3
    assert len(caplog.records) == 1
    assert "prompt number" not in caplog.text
    data.unlink()
    assert spool.append(decision_payload(decision(4)))
    assert [r["kind"] for r in records(data)] == ["drop", "decision"]
    assert records(data)[0]["n"] == 3


def test_a_folder_deleted_while_running_is_made_again(tmp_path):
    spool = Spool(tmp_path / "data")
    assert spool.append(decision_payload(decision(0)))
    shutil.rmtree(tmp_path / "data")
    spool.file._look_at = 0.0  # as after a tenth of a second
    assert spool.append(decision_payload(decision(1)))
    assert [r["prompt"] for r in records(tmp_path / "data")] == ["prompt number 1"]


FULL = """
    import resource, signal, sys, json
    from pathlib import Path
    from log_samples import decision
    from router.log.record import decision_payload, fault
    from router.log.spool import Spool
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    data = Path(sys.argv[1])
    spool = Spool(data)
    acknowledged = [spool.append(decision_payload(decision(0)))]
    resource.setrlimit(resource.RLIMIT_FSIZE, (spool.file._size + 100, resource.RLIM_INFINITY))
    refused = [spool.append(decision_payload(decision(n, prompt="x" * 9000))) for n in range(1, 6)]  # in no file
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    acknowledged += [spool.append(decision_payload(decision(n))) for n in range(6, 9)]
    print(json.dumps([acknowledged, refused, dict(spool.dropped)]))
"""


def test_a_short_write_is_taken_back_counted_and_reported_once_writing_works(tmp_path):
    acknowledged, refused, dropped = json.loads(run(FULL, tmp_path))
    assert acknowledged == [True] * 4
    assert refused == [False] * 5
    assert sum(dropped.values()) == 5
    assert all(fault(line) is None for line in lines(tmp_path))
    con = connect(None)
    ingest_all(con, tmp_path)
    assert con.execute("SELECT count(*) FROM decisions").fetchone() == (4,)
    assert con.execute("SELECT sum(n) FROM drops WHERE spool <> ''").fetchone() == (5,)
    assert con.execute("SELECT count(*) FROM rejects").fetchone() == (0,)
    con.close()


def test_a_full_disk_loses_only_what_was_refused_and_leaves_no_litter(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=64k none {disk} 2>/dev/null") != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        spool = Spool(disk / "data")
        kept = Counter(spool.append(decision_payload(decision(n, prompt="x" * 3000))) for n in range(100))
        assert kept[True] and kept[False]
        assert len(list((disk / "data" / "spool").iterdir())) <= 2
        (victim,) = [p for p in (disk / "data" / "spool").iterdir() if p.stat().st_size > 30_000]
        intact = victim.read_bytes().splitlines()
        assert all(fault(line) is None for line in intact)
        shutil.move(victim, tmp_path / "moved.jsonl")
        assert spool.append(decision_payload(decision(200)))
        spool.close()
        drops = sum(
            r["n"] for r in [*map(json.loads, intact), *records(disk / "data")] if r["kind"] == "drop"
        )
        assert drops == kept[False] == sum(spool.dropped.values())
        assert sum(b'"kind":"decision"' in line for line in intact) == kept[True]
    finally:
        assert os.system(f"umount {disk}") == 0


FORK = """
    import json, os, sys, threading
    from pathlib import Path
    from log_samples import decision
    from router.log.record import decision_payload, uuid7
    from router.log.spool import Spool
    spool = Spool(Path(sys.argv[1]))
    spool.append(decision_payload(decision(0)))
    mine, ids = spool.path, [uuid7(1)]
    spool.alone.acquire()          # another thread may be inside append at the fork
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        spool.append(decision_payload(decision(1)))
        os.write(into, json.dumps([str(spool.path), spool.written, uuid7(2)]).encode())
        os._exit(0)
    spool.alone.release()
    os.waitpid(child, 0)
    spool.append(decision_payload(decision(2)))
    theirs, written, child_id = json.loads(os.read(out, 10000))
    print(json.dumps([str(mine) != theirs, written, spool.written, child_id != uuid7(2), len(list(Path(sys.argv[1], "spool").glob("*.jsonl")))]))
"""


def test_a_forked_child_writes_a_file_of_its_own(tmp_path):
    assert json.loads(run(FORK, tmp_path)) == [True, 1, 2, True, 2]


def test_ids_sort_in_the_order_they_were_made_also_when_the_clock_steps_back_a_little():
    now = unix_ms(decision().decided_at)
    ids = [uuid7(now - step % 7) for step in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 10_000


def test_an_id_is_a_version_seven_uuid_of_its_time():
    import uuid

    value = uuid.UUID(uuid7(946_684_800_000))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == 946_684_800_000
