"""From spool lines to rows: exactly once, whatever the lines look like."""

from __future__ import annotations

import fcntl
import json
import math
import os
import zlib
from dataclasses import asdict
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_samples import SEED, START, decision, run, start

from router.log import Log, ingest, queries
from router.log.batches import BATCH_BYTES, read_batch
from router.log.erasure import erase_from_spools, erase_rejects
from router.log.ingest import compact_offsets, ingest_all, ingest_once, offsets
from router.log.queries import Filter
from router.log.record import MAX_LINE_BYTES, decision_payload, encode, feedback_payload
from router.log.schema import DATABASE, connect
from router.log.selection import Selection
from router.log.spool import Spool
from router.prices import PriceBook
from router.types import Attempt


def spooled(data, blob: bytes, name: str = "host-1-1-aa.jsonl"):
    (data / "spool").mkdir(exist_ok=True)
    path = data / "spool" / name
    path.write_bytes(blob)
    return path


def line(number: int, **changes) -> bytes:
    return encode(decision_payload(decision(number, **changes)))


def sealed(body: bytes) -> bytes:
    """A line with a right checksum over any bytes."""
    return b'{"crc":"%08x",' % zlib.crc32(b"{" + body) + body + b"\n"


@pytest.fixture
def con():
    con = connect(None)
    yield con
    con.close()


def prompts(con) -> list[str]:
    return [p for (p,) in con.execute("SELECT prompt FROM decisions ORDER BY decided_at").fetchall()]


def test_every_column_arrives_as_it_was_logged(con, tmp_path):
    made = decision(
        extra={"a": [1, None]},
        cost_usd=None,
        input_tokens=7,
        session_id="s",
        outcome="ok",
        attempts=2,
        failed_attempts=(Attempt("gpt-4o", "empty", input_tokens=7, cost_usd=Decimal("1E-7"), total_ms=2.5),),
        failed_cost_usd=Decimal("1E-7"),
    )
    spooled(tmp_path, encode(decision_payload(made)))
    ingest_all(con, tmp_path)
    cursor = con.execute("SELECT * REPLACE (CAST(id AS VARCHAR) AS id) FROM decisions")
    row = dict(zip([d[0] for d in cursor.description], cursor.fetchone(), strict=True))
    for name, value in row.items():
        expected = getattr(made, name)
        if name == "failed_attempts":
            (expected,) = [asdict(x) | {"cost_usd": "0.0000001"} for x in expected]
            value = json.dumps(json.loads(value)[0])
        assert (json.loads(value) if name in ("extra", "failed_attempts") else value) == expected, name


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(b"garbage\n", "not a record", id="garbage"),
        pytest.param(b"\x00" * 100 + b"\n", "not a record", id="zeros, as after a power cut"),
        pytest.param(b"\xff\xfe\x80\n", "not a record", id="not UTF-8"),
        pytest.param(line(5)[:-40] + b"\n", "checksum does not match", id="torn in the middle"),
        pytest.param(
            line(5).replace(b"prompt number 5", b"prompt number 6"), "checksum does not match", id="flipped"
        ),
        pytest.param(
            b"x" * (MAX_LINE_BYTES + 5) + b"\n", f"longer than {MAX_LINE_BYTES} bytes", id="too long"
        ),
        pytest.param(sealed(b'"kind":"surprise"}'), "unknown kind of record", id="unknown kind"),
    ],
)
def test_a_damaged_line_is_rejected_with_its_position_and_the_others_come_in(con, tmp_path, damage, reason):
    path = spooled(tmp_path, line(1) + damage + line(2))
    done = ingest_all(con, tmp_path)
    assert prompts(con) == ["prompt number 1", "prompt number 2"]
    found = con.execute("SELECT spool, pos, reason FROM rejects ORDER BY pos").fetchall()
    assert found[0] == (path.name, len(line(1)), reason)
    assert done.rejects == len(found)
    assert offsets(con) == {path.name: path.stat().st_size}
    if reason != f"longer than {MAX_LINE_BYTES} bytes":
        assert len(found) == 1


def test_a_right_checksum_over_bytes_that_are_no_text_still_gives_a_row(con, tmp_path):
    body = line(1)[len(b'{"crc":"00000000",') : -1].replace(b"prompt number 1", b"prompt \xff\xed\xa0\x80")
    spooled(tmp_path, sealed(body) + line(2))
    ingest_all(con, tmp_path)
    assert len(prompts(con)) == 2
    assert prompts(con)[0].startswith("prompt \ufffd")


def test_a_right_checksum_over_what_is_no_json_does_not_hold_up_the_others(con, tmp_path):
    spooled(tmp_path, line(1) + sealed(b'"kind":"decision","prompt":"x",,,}') + line(2))
    done = ingest_all(con, tmp_path)
    assert prompts(con) == ["prompt number 1", "prompt number 2"]
    assert (done.rows, done.rejects) == (2, 1)
    assert con.execute("SELECT reason FROM rejects").fetchone() == ("not JSON",)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "no uuid"},
        {"input_tokens": 10**15},
        {"classify_ms": math.nan},
        {"calibrated": "maybe"},
        {"cost_usd": "much"},
        {"scores": {"a": None}},
        {"decided_at": "yesterday"},
        {"new_column": 1},
    ],
    ids=str,
)
def test_a_value_of_the_wrong_kind_is_null_and_its_row_is_kept(con, tmp_path, changes):
    spooled(tmp_path, encode(decision_payload(decision()) | changes))
    ingest_all(con, tmp_path)
    assert prompts(con) == ["prompt number 0"]


def test_a_line_being_written_waits_and_comes_in_once_it_is_whole(con, tmp_path):
    spool = Spool(tmp_path)
    spool.append(decision_payload(decision(0)))
    whole = line(1)
    os.write(spool.file._fd, whole[:50])
    ingest_all(con, tmp_path)
    assert (prompts(con), con.execute("SELECT count(*) FROM rejects").fetchone()) == (
        ["prompt number 0"],
        (0,),
    )
    os.write(spool.file._fd, whole[50:])
    ingest_all(con, tmp_path)
    assert prompts(con) == ["prompt number 0", "prompt number 1"]
    spool.close()


def test_a_last_line_cut_off_by_the_death_of_its_writer_is_a_reject(con, tmp_path):
    spooled(tmp_path, line(0) + line(1)[:60])
    ingest_all(con, tmp_path)
    ingest_all(con, tmp_path)
    assert prompts(con) == ["prompt number 0"]
    assert con.execute("SELECT pos, bytes, reason FROM rejects").fetchall() == [(len(line(0)), 60, "cut off")]


def test_rows_are_inserted_once_however_often_one_looks(con, tmp_path):
    spool = Spool(tmp_path)
    for number in range(30):
        spool.append(decision_payload(decision(number)))
        ingest_once(con, tmp_path)
        ingest_all(con, tmp_path)
    assert prompts(con) == [f"prompt number {n}" for n in range(30)]
    spool.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(["row", "garbage", "flip", "empty"]), max_size=30),
    st.integers(200, 5000),
)
def test_any_mix_of_whole_and_damaged_lines_cut_anywhere_into_batches_adds_up(tmp_path_factory, kinds, limit):
    data = tmp_path_factory.mktemp("log")
    blob = b""
    for number, what in enumerate(kinds):
        made = line(number)
        blob += {"row": made, "garbage": b"?!\n", "flip": made[:40] + b"~" + made[41:], "empty": b"\n"}[what]
    path = spooled(data, blob)
    rows, rejects, at = [], [], 0
    while (batch := read_batch(path, at, limit)) is not None and batch.upto > at:
        rows += batch.lines.get("decision", [])
        rejects += batch.rejects
        assert batch.upto - at == batch.bytes
        at = batch.upto
    assert at == len(blob)
    assert [json.loads(r)["prompt"] for r in rows] == [
        f"prompt number {n}" for n, w in enumerate(kinds) if w == "row"
    ]
    assert len(rejects) == sum(what in ("garbage", "flip") for what in kinds)
    for position, size, _ in rejects:
        assert blob[position + size : position + size + 1] == b"\n"


def test_a_turn_ends_beside_a_writer_that_never_stops(con, tmp_path):
    spool = Spool(tmp_path)
    spool.append(decision_payload(decision(0)))
    passes = []

    def busy(size):
        passes.append(size)
        assert len(passes) < 3
        spool.append(decision_payload(decision(len(passes))))

    ingest_all(con, tmp_path, progress=busy)
    assert passes
    spool.close()


def test_offsets_are_compacted_without_forgetting_any(con, tmp_path):
    spool = Spool(tmp_path)
    for number in range(10):
        spool.append(decision_payload(decision(number)))
        ingest_all(con, tmp_path)
    before = offsets(con)
    compact_offsets(con, most=3)
    assert con.execute("SELECT count(*) FROM ingest").fetchone() == (1,)
    assert offsets(con) == before
    ingest_all(con, tmp_path)
    assert len(prompts(con)) == 10
    spool.close()


def test_a_failed_batch_leaves_neither_rows_nor_an_offset(con, tmp_path):
    spooled(tmp_path, line(0))
    con.execute("ALTER TABLE ingest RENAME TO elsewhere").fetchall()
    batch = read_batch(tmp_path / "spool" / "host-1-1-aa.jsonl", 0)
    with pytest.raises(Exception, match="ingest"):
        ingest.ingest_batches(con, [batch])
    assert prompts(con) == []
    con.execute("ALTER TABLE elsewhere RENAME TO ingest").fetchall()
    ingest_all(con, tmp_path)
    assert prompts(con) == ["prompt number 0"]


def test_times_are_utc_without_a_zone_wherever_the_machine_stands(tmp_path):
    out = run(
        """
        import json, sys
        from datetime import UTC, datetime
        from log_samples import Fixed
        from router import Policy, Router
        from router.log import open_log
        with Router(Policy.preset("seed"), classifier=Fixed(), data=sys.argv[1]) as router:
            made = router.route("when?").decided_at
        now = datetime.now(UTC).replace(tzinfo=None)
        with open_log(sys.argv[1]) as log:
            stored, policy, seen = log.rows("SELECT d.decided_at, p.first_seen, i.ingested_at FROM decisions d, policies p, ingest i")[0]
        print(json.dumps([stored == made, policy == made, abs((now - made).total_seconds()) < 30, abs((now - seen).total_seconds()) < 30]))
        """,
        tmp_path,
        env={"TZ": "Asia/Kolkata"},
    )
    assert json.loads(out) == [True] * 4


def test_ingest_needs_no_pandas(tmp_path):
    spooled(tmp_path, line(0))
    out = run(
        """
        import sys
        from router.log.owner import take_turn
        from pathlib import Path
        print(take_turn(Path(sys.argv[1])).rows, "pandas" in sys.modules)
        """,
        tmp_path,
    )
    # DuckDB 1.5 loads pandas by itself where it is installed.
    assert out.split() == ["1", str(duckdb.__version__ < "2")]


WRITER = """
    import sys, time
    from pathlib import Path
    from log_samples import decision
    from router.log.record import decision_payload
    from router.log.spool import Spool
    spool = Spool(Path(sys.argv[1]))
    n = 0
    while True:
        made = decision(n)
        if spool.append(decision_payload(made)):
            sys.stdout.write(made.id + "\\n")
            sys.stdout.flush()
        n += 1
        time.sleep(0.0005)
"""
OWNER = """
    import sys, time
    from pathlib import Path
    from router.log import Owner
    owner = Owner(Path(sys.argv[1]), interval_s=0.02)
    owner.start()
    while True:
        time.sleep(1)
"""


def killed_and_counted(data, rounds: int, span_s: float) -> None:
    """Kill -9 two writers and the owner, again and again: every acknowledged id is a row, once."""
    import time

    acknowledged: set[str] = set()
    for number in range(rounds):
        owner = start(OWNER, data)
        writers = [start(WRITER, data) for _ in range(2)]
        for writer in writers:
            acknowledged.add(writer.stdout.readline().strip())  # both are running
        time.sleep(span_s * (0.5 + (number % 5) / 4))
        for process in [owner, *writers] if number % 2 else [*writers, owner]:
            process.kill()
        for writer in writers:
            whole = writer.stdout.read().rpartition("\n")[0]
            acknowledged.update(whole.splitlines())
        for process in [owner, *writers]:
            process.wait()
            process.stdout.close()
    con = connect(data / DATABASE)
    ingest_all(con, data)
    rows = [x for (x,) in con.execute("SELECT CAST(id AS VARCHAR) FROM decisions").fetchall()]
    rejects = con.execute("SELECT count(*) FROM rejects WHERE reason <> 'cut off'").fetchone()
    con.close()
    assert len(acknowledged) > rounds * 10
    assert acknowledged - set(rows) == set()
    assert len(rows) == len(set(rows))
    assert rejects == (0,)


def test_kill_nine_of_writers_and_owner_loses_and_doubles_nothing(tmp_path):
    killed_and_counted(tmp_path, rounds=10, span_s=0.6)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_kill_nine_of_writers_and_owner_a_hundred_times(tmp_path, request):
    if "soak" not in (request.config.getoption("-m") or ""):
        pytest.skip("a long run: pytest -m soak")
    killed_and_counted(tmp_path, rounds=100, span_s=2.0)


@pytest.mark.parametrize(
    "odd",
    [
        {"confidence": 1e300, "scores": {"simple": 1e300}},
        {"confidence": -5.0, "margin": -1e200},
        {"classify_ms": 1e308},
        {"input_tokens": 2**31 - 1, "output_tokens": 2**31 - 1, "cache_read_tokens": 2**31 - 1},
        {"attempts": 2**40},
        {"decided_at": "infinity"},
        {"decided_at": "290309-12-22 (BC) 00:00:00"},
    ],
    ids=lambda odd: next(iter(odd)),
)
def test_impossible_values_hold_up_no_other_row_and_no_page(tmp_path, odd):
    spool = Spool(tmp_path)
    for number in range(5):
        spool.append(decision_payload(decision(number)) | (odd if number == 2 else {}))
    spool.close()
    done = ingest_all(con := connect(None), tmp_path)
    assert (done.rows, done.rejects) == (5, 0)
    with Log(tmp_path, con, "spool") as log:
        assert queries.summary(log, Filter(), PriceBook())["n"] == 5
        assert queries.cells(log, Filter(), SEED, PriceBook())["n"].sum() == 5
        assert len(queries.page(log, Filter(), PriceBook())) == 5


def test_a_spool_that_comes_back_or_was_copied_counts_once(con, tmp_path):
    spool = Spool(tmp_path)
    records = [decision_payload(decision(n)) for n in range(20)]
    judged = feedback_payload(str(records[3]["id"]), "wrong", START)
    for record in [*records[:10], judged]:
        spool.append(record)
    ingest_all(con, tmp_path)
    copy = tmp_path / "spool" / "host-1-1-copied.jsonl"
    copy.write_bytes(spool.path.read_bytes())
    for record in records[10:]:
        spool.append(record)
    assert ingest_all(con, tmp_path).rows == 10
    con.execute(
        "DELETE FROM ingest"
    ).fetchall()  # as after archiving: nothing is known of how far a spool was read
    assert ingest_all(con, tmp_path).rows == 0
    spool.close()
    counts = "SELECT count(*), (SELECT CAST(sum(n) AS BIGINT) FROM hourly), (SELECT count(*) FROM feedback) FROM decisions"
    assert con.execute(counts).fetchone() == (20, 20, 1)


def test_two_copies_in_one_pass_count_once(con, tmp_path):
    lines = [encode(decision_payload(decision(n))) for n in range(5)]
    for name in ("a", "b"):
        (tmp_path / "spool").mkdir(exist_ok=True)
        (tmp_path / "spool" / f"host-1-1-{name}.jsonl").write_bytes(b"".join(lines))
    assert ingest_all(con, tmp_path).rows == 5
    assert con.execute("SELECT count(*), count(DISTINCT id) FROM decisions").fetchone() == (5, 5)


def test_many_small_spools_are_one_transaction(con, tmp_path):
    (tmp_path / "spool").mkdir()
    for n in range(50):
        (tmp_path / "spool" / f"host-{n}-{n}-aa.jsonl").write_bytes(encode(decision_payload(decision(n))))
    assert ingest_once(con, tmp_path).rows == 50
    assert con.execute("SELECT count(*), count(DISTINCT ingested_at) FROM ingest").fetchone() == (50, 1)


NESTED = {"crc": "00000000", "z": "z" * 900}


@pytest.mark.parametrize(
    ("held_back", "extra"), [(0, {}), (1, {}), (7, {}), (300, {}), (1500, {"x": NESTED})], ids=str
)
def test_a_record_across_the_end_of_a_batch_without_a_newline_is_found_and_erased(
    con, tmp_path, held_back, extra
):
    first, second = line(1, session_id="one", extra=extra), line(2)
    path = spooled(tmp_path, b"x" * (BATCH_BYTES - held_back) + first[:-1] + b"y" + second)
    assert ingest_all(con, tmp_path).rows == 2
    assert con.execute("SELECT pos, bytes FROM rejects ORDER BY pos").fetchall() == [
        (0, BATCH_BYTES - held_back),
        (BATCH_BYTES - held_back + len(first) - 1, 1),
    ]
    assert erase_from_spools(tmp_path, Selection.of("session", "one"), []) == 1
    assert line(1, session_id="one", extra=extra)[:-1] not in path.read_bytes()
    assert ingest_all(connect(None), tmp_path).rows == 1


def test_what_was_read_from_a_long_line_of_a_living_writer_is_erased_from_it(con, tmp_path):
    path = spooled(tmp_path, line(0) + line(1, session_id="one")[:-1] + b"x" * (MAX_LINE_BYTES + 5))
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert ingest_all(con, tmp_path).rows == 2
        assert erase_from_spools(tmp_path, Selection.of("session", "one"), []) == 1
    assert b'"one"' not in path.read_bytes()


def test_rejects_of_a_spool_that_comes_back_count_once(con, tmp_path):
    blob = line(1) + b"garbage\n" + line(2)[:-30] + line(3)
    spooled(tmp_path, blob)
    assert ingest_all(con, tmp_path).rejects == 2
    con.execute("DELETE FROM ingest").fetchall()
    ingest_all(con, tmp_path)
    assert con.execute("SELECT count(*) FROM rejects").fetchone() == (2,)


@pytest.mark.parametrize(
    "torn",
    [line(1)[:-50] + b'{"crc":"', b'{"crc":"12{"crc":"34', b'zz{"crc":"' + line(1)[:-50]],
    ids=["tail", "two", "head"],
)
def test_erased_rejects_are_as_many_when_they_are_read_again(con, tmp_path, torn):
    spooled(tmp_path, line(0) + torn + b"\n" + line(2))
    before = ingest_all(con, tmp_path)
    erase_rejects(con, tmp_path)
    assert ingest_all(connect(None), tmp_path) == before


def test_one_line_that_is_no_json_costs_one_look_at_the_others(con, tmp_path):
    bad = sealed(b'"kind":"decision","prompt":"\\ud800"}')
    spooled(tmp_path, b"".join(line(n) for n in range(300)) + bad)
    statements = []

    class Counted:
        def __getattr__(self, name):
            return getattr(con, name)

        def execute(self, query, *values):
            statements.append(query)
            return con.execute(query, *values)

    assert ingest_all(Counted(), tmp_path).rows == 300
    assert con.execute("SELECT reason FROM rejects").fetchall() == [("not JSON",)]
    assert len(statements) < 60


def test_a_time_that_python_cannot_hold_is_none_in_every_table(con, tmp_path):
    judged = feedback_payload(decision(1).id, "wrong", START) | {"judged_at": "20000-01-01T00:00:00"}
    spooled(tmp_path, line(1) + encode(judged))
    ingest_all(con, tmp_path)
    assert con.execute("SELECT judged_at FROM feedback").fetchall() == [(None,)]
