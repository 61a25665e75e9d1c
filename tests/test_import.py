"""Import of exports: equal rows in every column and format, each once whatever happens, and bad rows told apart."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_samples import START, UNSCORED, decision, run, start
from typer.testing import CliRunner

from router.cli.app import app
from router.errors import ConfigurationError, InputError, LogError, LogLocked
from router.log import Owner, open_log
from router.log.export import FORMATS, export
from router.log.importers import BATCH_ROWS, import_file
from router.log.lock import OwnerLock
from router.log.privacy import Privacy
from router.log.queries import Filter
from router.log.record import MAX_LINE_BYTES, decision_payload, feedback_payload
from router.log.schema import DATABASE, connect
from router.log.spool import Spool
from router.log.writer import Writer
from router.types import Attempt

SECRET = "zebra-passphrase"
TEXTS = [
    "",
    None,
    "hello",
    "=1+1",
    "'=1+1",
    "''=1+1",
    "'",
    "'quoted",
    "+49",
    "-2",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\nx",
    "a\rb",
    "a\r\nb\nc",
    "\uff1d1",
    'say "hi", ok',
    '"',
    '""',
    ",",
    "nul \0 here",
    "naïve 🎈 \u2028 \u202e \ufeff",
    "\ufeffx",
    "NULL",
    "true",
    "1e5",
    "2026-11-02",
    " ",
    "\x1b[31mred",
    "x" * 100_000,
]
EXTRAS = [
    None,
    {},
    {"ref": "é", "n": 2},
    {"big": 12345678901234567890123, "tiny": 1e-300, "zero": -0.0, "one": 1.0},
    {"deep": [[{"a": None, "b": [True, False, ""]}]], "": "no name"},
    {"text": "=1,\"'\r\n\0", "unicode": "\u2028🎈"},
]
MONEY = [None, "0", "0.000000000001", "0.000000123456", "999.123456789012", "999999.999999999999"]
SCORES = [
    {"simple": 0.1 + 0.2},
    {"b": 1.0, "a": 1e-9, "": 0.5},
    {"=x": 0.25, 'q"': 5e-324, "é🎈": 0.3333333333333333},
]


def rows_of_every_kind() -> Iterator[dict[str, Any]]:
    for number, text in enumerate(TEXTS):
        yield decision_payload(
            decision(number, prompt=text, session_id=text if (text or "a")[1:] == "" else "s")
        )
    for number, extra in enumerate(EXTRAS, 100):
        payload = decision_payload(decision(number))
        yield payload | ({} if extra is None else {"extra": orjson.Fragment(json.dumps(extra))})
    for number, (usd, scores) in enumerate(zip(MONEY, SCORES * 2, strict=True), 200):
        amount = None if usd is None else Decimal(usd)
        payload = decision_payload(decision(number, cost_usd=amount, classifier_cost_usd=amount))
        yield payload | {"scores": scores}
    yield decision_payload(
        decision(
            300,
            **UNSCORED,
            classify_ms=None,
            calibrated=None,
            model_used=None,
            error_type="=Timeout",
        )
    )
    yield decision_payload(
        decision(
            301,
            input_tokens=2**31 - 1,
            output_tokens=0,
            cache_read_tokens=1,
            cache_write_tokens=2,
            reasoning_tokens=0,
            usage_grade="measured",
            price_version="-v1",
            first_token_ms=0.1,
            total_ms=1e9,
            finish_reason="",
            outcome="refusal",
            attempts=3,
            failed_attempts=(
                Attempt("=m", "timeout", "TimeoutError", total_ms=0.1),
                Attempt("m", "empty", None, 2**31 - 1, output_tokens=0, cost_usd=Decimal("0.000000000001")),
            ),
            failed_cost_usd=Decimal("0.000000000001"),
            propensity=0.05,
            source="'",
            margin=-0.5,
            is_fallback=True,
        )
    )
    yield {  # the least that a row needs
        "kind": "decision",
        "id": decision(302).id,
        "decided_at": START,
        "cause": "forced",
        "is_fallback": False,
        "model_chosen": "m",
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("source")
    spool = Spool(data)
    for number, payload in enumerate(rows_of_every_kind()):
        assert spool.append(payload)
        judged = {"note": TEXTS[number % 20], "correct_label": "coding" if number % 2 else None}
        if number < 40:
            spool.append(feedback_payload(payload["id"], "wrong", START, inclusion_probability=0.1, **judged))
    spool.close()
    return data


def exported(data: Path, format: str, what: str = "decisions") -> bytes:
    out = io.BytesIO()
    with open_log(data) as log:
        export(log, Filter(), out, format, what=what)  # type: ignore[arg-type]
    return out.getvalue()


def table(data: Path, what: str = "decisions") -> pa.Table:
    return pq.read_table(io.BytesIO(exported(data, "parquet", what)))


def count(data: Path) -> int:
    with open_log(data) as log:
        return log.count()


def lines(*rows: dict[str, Any]) -> io.BytesIO:
    return io.BytesIO(b"".join(orjson.dumps(row) + b"\n" for row in rows))


def plain_row(number: int = 0, **changes: Any) -> dict[str, Any]:
    made = json.loads(
        orjson.dumps(decision_payload(decision(number, id=f"019a2f3c-5a00-7000-8000-{number:012x}")))
    )
    return {key: value for key, value in made.items() if key not in ("kind", "v")} | changes


@pytest.mark.parametrize("what", ["decisions", "feedback"])
@pytest.mark.parametrize("format", FORMATS)
def test_export_and_import_give_equal_rows_in_every_column(
    source: Path, tmp_path: Path, format: str, what: str
) -> None:
    first = exported(source, format, what)
    done = import_file(tmp_path, io.BytesIO(first))
    assert (done.format, done.table, done.n_bad, done.bad) == (format, what, 0, [])
    assert done.added == done.rows == len(table(source, what)) > 20
    assert table(tmp_path, what).equals(table(source, what))
    for other in FORMATS:
        assert exported(tmp_path, other, what) == exported(source, other, what)


@pytest.mark.parametrize("what", ["decisions", "feedback"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_second_import_adds_nothing_also_into_the_log_it_came_from(
    source: Path, tmp_path: Path, format: str, what: str
) -> None:
    first = exported(source, format, what)
    n = import_file(tmp_path, io.BytesIO(first)).added
    before = exported(tmp_path, "parquet", what)
    for folder in (tmp_path, source):
        done = import_file(folder, io.BytesIO(first))
        assert (done.added, done.present, done.n_bad) == (0, n, 0)
    assert exported(tmp_path, "parquet", what) == before


cell = st.one_of(
    st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.sampled_from(TEXTS[:-1])
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=8),
    st.dictionaries(cell.filter(bool), st.floats(0, 1), max_size=4),
    st.decimals(0, 999_999, places=12),
    st.sampled_from(FORMATS),
)
def test_any_text_and_number_survives(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[tuple[str | None, ...]],
    scores: dict[str, float],
    usd: Decimal,
    format: str,
) -> None:
    first, second = tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")
    spool = Spool(first)
    for number, (prompt, session, classifier) in enumerate(texts):
        made = decision(number, prompt=prompt, session_id=session, scores=scores, cost_usd=usd)
        spool.append(decision_payload(made) | {"classifier": classifier})
    spool.close()
    assert import_file(second, io.BytesIO(exported(first, format))).added == len(texts)
    assert table(second).equals(table(first))


def test_an_overlapping_file_adds_what_is_new(tmp_path: Path) -> None:
    import_file(tmp_path, lines(*[plain_row(n) for n in range(10)]))
    done = import_file(tmp_path, lines(*[plain_row(n) for n in range(5, 25)], plain_row(24)))
    assert (done.rows, done.added, done.present) == (21, 15, 6)
    assert count(tmp_path) == 25


def test_ids_in_capitals_are_the_same_ids(tmp_path: Path) -> None:
    row = plain_row()
    import_file(tmp_path, lines(row))
    assert import_file(tmp_path, lines(row | {"id": row["id"].upper()})).present == 1


def test_batches_know_what_the_ones_before_added(tmp_path: Path) -> None:
    rows = [plain_row(n, prompt="") for n in range(BATCH_ROWS + 10)]
    done = import_file(tmp_path, lines(*rows, *rows))
    assert (done.added, done.present) == (len(rows), len(rows))


IMPORT = """
    import sys
    from router.log.importers import import_file
    def tell(done):
        print(done, flush=True)
    done = import_file(sys.argv[1], sys.argv[2], progress=tell)
    print("added", done.added, done.present, done.n_bad)
"""


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "decisions.jsonl"
    with open(path, "wb") as file:
        for number in range(12_000):
            file.write(orjson.dumps(plain_row(number, prompt=f"{SECRET} {number}")) + b"\n")
    return path


def test_an_import_that_was_killed_is_finished_by_the_next(long_file: Path, tmp_path: Path) -> None:
    process = start(IMPORT, tmp_path, long_file)
    assert process.stdout is not None
    for _ in range(7):  # 7,000 lines: one batch is written, the second is being read
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    there = count(tmp_path)
    assert 0 < there < 12_000
    done = import_file(tmp_path, long_file)
    assert (done.added, done.present) == (12_000 - there, there)
    assert count(tmp_path) == 12_000
    with open_log(tmp_path) as log:
        assert log.rows("SELECT count(DISTINCT id) FROM decisions") == [(12_000,)]


def test_two_imports_at_once_add_each_row_once(long_file: Path, tmp_path: Path) -> None:
    both = [start(IMPORT, tmp_path, long_file) for _ in range(2)]
    added = [int(x.communicate(timeout=60)[0].split("added ")[1].split()[0]) for x in both]
    assert sorted(added) == [0, 12_000]
    assert count(tmp_path) == 12_000


def test_whoever_does_not_want_to_wait_for_another_import_is_told(tmp_path: Path) -> None:
    import fcntl

    fd = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        with pytest.raises(LogLocked, match="another import"):
            import_file(tmp_path, lines(plain_row()), wait_s=0.1)
    finally:
        os.close(fd)
    assert import_file(tmp_path, lines(plain_row()), wait_s=0.1).added == 1


def test_beside_an_owner_of_this_process_or_another(tmp_path: Path, long_file: Path) -> None:
    for number in range(3):
        Spool(tmp_path).append({"kind": "decision", **plain_row(number)})
    owner = Owner(tmp_path)
    owner.start()
    try:
        assert owner.wait_ready(30)
        assert import_file(tmp_path, lines(*[plain_row(n) for n in range(5)])).added == 2
        said = run(IMPORT, tmp_path, long_file)
        assert said.splitlines()[-1] == "added 11995 5 0"
    finally:
        owner.stop()
    assert count(tmp_path) == 12_000


def test_nothing_but_the_spool_is_written_and_no_lock_file_stays(tmp_path: Path) -> None:
    import_file(tmp_path, lines(plain_row()))
    found = sorted(str(x.relative_to(tmp_path)) for x in tmp_path.rglob("*") if x.is_file())
    assert [x.split("/")[0] for x in found] == ["spool"]


# Bad rows


BAD: list[tuple[dict[str, Any], str]] = [
    ({"id": "7"}, "id: no UUID, like 019a2f3c-5a00-7000-8000-0123456789ab"),
    ({"id": None}, "id is missing"),
    ({"decided_at": "yesterday"}, "decided_at: no time in ISO form, like 2026-11-02T09:30:00Z"),
    ({"decided_at": 1_700_000_000}, "decided_at: no time in ISO form, like 2026-11-02T09:30:00Z"),
    ({"prompt": 5}, "prompt: no text"),
    ({"prompt": {"text": SECRET}}, "prompt: no text"),
    ({"confidence": 1.5}, "confidence: no number in [0, 1]"),
    ({"confidence": SECRET}, "confidence: no number"),
    ({"confidence": True}, "confidence: no number"),
    ({"scores": [0.5]}, "scores: no object of labels and numbers"),
    ({"scores": {"a": SECRET}}, "scores: no number"),
    ({"scores": SECRET}, "scores: no object of labels and numbers"),
    ({"cause": SECRET}, "cause: none of routed, low_confidence, low_margin, classifier_error, classifier_timeout, forced, explored"),
    ({"is_fallback": "maybe"}, "is_fallback: neither true nor false"),
    ({"input_tokens": -1}, "input_tokens: no whole number from 0 to 2,147,483,647"),
    ({"input_tokens": 2**31}, "input_tokens: no whole number from 0 to 2,147,483,647"),
    ({"input_tokens": 1.5}, "input_tokens: no whole number from 0 to 2,147,483,647"),
    ({"cost_usd": -1}, "cost_usd: no amount in USD from 0 to below 1,000,000"),
    ({"cost_usd": 1e6}, "cost_usd: no amount in USD from 0 to below 1,000,000"),
    ({"cost_usd": "0.0000000000001"}, "cost_usd: an amount with more than 12 decimals"),
    ({"model_chosen": None}, "model_chosen is missing"),
    ({"extra": {"x": "y" * MAX_LINE_BYTES}}, "longer than a record may be (1,000,000 bytes)"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "why"), BAD, ids=lambda x: next(iter(x)) if isinstance(x, dict) else "")
def test_a_bad_row_is_told_with_its_line_and_the_others_go_on(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    done = import_file(tmp_path, lines(plain_row(0), plain_row(1, **change), plain_row(2)))
    assert (done.rows, done.added, done.n_bad) == (3, 2, 1)
    (line, said), *others = done.bad
    assert not others
    assert (line, said.removesuffix(" in [0, 1]")) == (2, why.removesuffix(" in [0, 1]"))
    assert SECRET not in said
    assert count(tmp_path) == 2


def test_broken_lines_of_json_are_told_apart(tmp_path: Path) -> None:
    good = orjson.dumps(plain_row())
    text = b"\n".join(
        [
            good,
            b'{"id": ' + SECRET.encode(),
            b"[1]",
            b"null",
            b"",
            b'{"a": NaN}',
            b"\xff\xfe",
            good[:-20],
            b"{}",
        ]
    )
    done = import_file(tmp_path, io.BytesIO(text))
    assert [line for line, _ in done.bad] == [2, 3, 4, 6, 7, 8, 9]
    assert [why.split(" (")[0] for _, why in done.bad] == [
        "not valid JSON",
        "not an object",
        "not an object",
        "not valid JSON",
        "not valid JSON",
        "not valid JSON",
        "id is missing",
    ]
    assert (done.added, done.rows) == (1, 8)
    assert SECRET not in str(done.bad)


def test_csv_with_a_row_that_is_cut_keeps_the_others(tmp_path: Path, source: Path) -> None:
    whole = exported(source, "csv").decode()
    header, first = whole.split("\r\n")[:2]
    short = ",".join(first.split(",")[:5])
    done = import_file(tmp_path, io.BytesIO(f"{header}\n{short}\n{first}\n".encode()))
    assert done.bad == [(2, f"found 5 cells, expected {header.count(',') + 1}")]
    assert done.added == 1
    open_mark = import_file(tmp_path / "b", io.BytesIO(f'{header}\n{first}\n"{first}\n'.encode()))
    assert open_mark.added == 1
    assert open_mark.bad[0][0] == 3
    assert "never closed" in open_mark.bad[0][1]


@pytest.mark.parametrize(
    "content",
    [
        b"name,age\r\nx,1\r\n",
        b"id;decided_at\r\n1;2\r\n",
        "id,decided_at\n".encode("utf-16"),
        b"PK\x03\x04zip",
        b"id\n",
    ],
    ids=["another table", "semicolons", "UTF-16", "a zip file", "one column"],
)
def test_a_file_from_elsewhere_is_refused_whole(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InputError, match="no export of the log: no column"):
        import_file(tmp_path, io.BytesIO(content))
    assert not list(tmp_path.rglob("*.jsonl"))


def test_csv_that_a_spreadsheet_or_pandas_wrote_again_is_read(tmp_path: Path) -> None:
    row = {
        key: value for key, value in plain_row().items() if key not in ("scores", "decided_at", "is_fallback")
    }
    row |= {"decided_at": "2026-11-20 09:00:00+02:00", "is_fallback": "FALSE", "scores": '{"simple": 1}'}
    out = io.StringIO()
    writer = csv.DictWriter(out, list(row), lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    done = import_file(tmp_path, io.BytesIO(b"\xef\xbb\xbf" + out.getvalue().encode()))
    assert (done.added, done.bad) == (1, [])
    with open_log(tmp_path) as log:
        assert log.rows("SELECT hour(decided_at), is_fallback, scores['simple'] FROM decisions") == [
            (7, False, 1.0)
        ]


def test_parquet_of_duckdbs_own_is_read(tmp_path: Path) -> None:
    import duckdb

    import_file(tmp_path / "a", lines(plain_row(extra={"n": 1.50}), plain_row(1, cost_usd="0.5")))
    path = tmp_path / "x.parquet"
    with open_log(tmp_path / "a") as log, duckdb.connect() as con:
        con.register("t", log.frame("SELECT * REPLACE (CAST(id AS VARCHAR) AS id) FROM decisions"))
        con.execute(
            f"COPY (SELECT * REPLACE (CAST(id AS UUID) AS id, CAST(decided_at AS TIMESTAMP_NS) AS decided_at) FROM t) "
            f"TO '{path}'"
        ).fetchall()
    assert import_file(tmp_path / "b", path).bad == []
    ids = "SELECT id, decided_at, CAST(extra AS VARCHAR), cost_usd FROM decisions ORDER BY id"
    with open_log(tmp_path / "a") as first, open_log(tmp_path / "b") as second:
        assert first.rows(ids) == second.rows(ids)


def test_damaged_parquet_is_an_error_or_ends_where_it_is_damaged(tmp_path: Path, source: Path) -> None:
    whole = exported(source, "parquet")
    for cut in (whole[: len(whole) // 2], whole[:10], b"PAR1"):
        with pytest.raises(InputError, match="no whole Parquet file"):
            import_file(tmp_path / "a", io.BytesIO(cut))
    broken = bytearray(whole)
    broken[4:400] = os.urandom(396)
    done = import_file(tmp_path / "b", io.BytesIO(bytes(broken)))
    assert done.bad == [(1, "damaged; nothing from here on could be read")]
    assert done.unit == "row"


def test_columns_of_a_newer_version_are_kept_in_extra(tmp_path: Path) -> None:
    rows = [plain_row(0, mood="good"), plain_row(1, mood="bad", extra={"n": 1.0}), plain_row(2, mood=None)]
    assert import_file(tmp_path / "jsonl", lines(*rows)).unknown == ("mood",)
    extra = "SELECT CAST(extra AS VARCHAR) FROM decisions ORDER BY decided_at"
    with open_log(tmp_path / "jsonl") as log:
        assert log.rows(extra) == [('{"mood":"good"}',), ('{"n":1.0,"mood":"bad"}',), (None,)]
    names = sorted({key for row in rows for key in row})
    text = io.StringIO()
    writer = csv.DictWriter(text, names)
    writer.writeheader()
    for row in rows:
        cells = {key: json.dumps(x) if isinstance(x, dict) else x for key, x in row.items()}
        writer.writerow(cells | {"is_fallback": "false", "calibrated": "true"})
    assert import_file(tmp_path / "csv", io.BytesIO(text.getvalue().encode())).unknown == ("mood",)
    assert table(tmp_path / "csv").column("extra").to_pylist()[0] == '{"mood":"good"}'


def test_a_file_without_rows_adds_none(tmp_path: Path) -> None:
    for content in (
        b"",
        b"\n\n",
        exported(tmp_path / "nothing", "csv"),
        exported(tmp_path / "nothing", "parquet"),
    ):
        done = import_file(tmp_path / "data", io.BytesIO(content))
        assert (done.rows, done.added, done.n_bad) == (0, 0, 0)


def test_a_folder_that_cannot_take_rows_says_how_many_it_took(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    with pytest.raises(
        LogError, match=r"cannot be written \(.*\). 0 rows were added and stay; import the file again"
    ):
        import_file(tmp_path, lines(plain_row()))
    with pytest.raises(ConfigurationError, match="cannot be written"):
        import_file(tmp_path / "spool" / "data", lines(plain_row()))


def test_prompts_are_kept_as_the_folder_says(tmp_path: Path) -> None:
    rows = [plain_row(0, prompt=f"{SECRET}!", extra={"n": 1.0})]
    for mode, prompt, digest in (("full", f"{SECRET}!", True), ("truncated:5", "zebra", True), ("hash", None, True), ("none", None, False)):  # fmt: skip
        data = tmp_path / mode.partition(":")[0]
        assert import_file(data, lines(*rows), privacy=Privacy(mode)).added == 1
        with open_log(data) as log:
            found = log.rows("SELECT prompt, prompt_sha256 IS NOT NULL, prompt_chars FROM decisions")
            assert found == [(prompt, digest, rows[0]["prompt_chars"])]
        stored = b"".join(x.read_bytes() for x in data.rglob("*") if x.is_file())
        assert (SECRET.encode() in stored) == (mode == "full")
    with open_log(tmp_path / "truncated") as log:
        assert log.rows("SELECT CAST(extra AS VARCHAR) FROM decisions") == [('{"n":1.0,"prompt_cut":5}',)]


def test_a_long_prompt_is_cut_and_flagged_as_the_log_does(tmp_path: Path) -> None:
    import_file(tmp_path, lines(plain_row(prompt="x" * 100_001, prompt_chars=100_001)))
    with open_log(tmp_path) as log:
        found = log.rows("SELECT length(prompt), prompt_chars, extra->>'prompt_cut' FROM decisions")
    assert found == [(100_000, 100_001, "100000")]


@pytest.mark.parametrize("format", FORMATS)
def test_progress_is_all_of_the_file(tmp_path: Path, source: Path, format: str) -> None:
    path = tmp_path / f"x.{format}"
    path.write_bytes(exported(source, format))
    steps: list[int] = []
    import_file(tmp_path / "data", path, progress=steps.append)
    assert 0 < sum(steps) <= path.stat().st_size
    if format != "parquet":  # whose rows do not divide its bytes
        assert sum(steps) == path.stat().st_size


# The verb


def verb(*args: object, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(app, [str(x) for x in args], input=stdin)


@pytest.mark.parametrize("format", FORMATS)
def test_the_verbs_take_a_log_to_another_folder(source: Path, tmp_path: Path, format: str) -> None:
    path = tmp_path / "file"
    assert verb("export", "--format", format, "--output", path, "--data", source).exit_code == 0
    done = verb("import", path, "--data", tmp_path / "data")
    n = count(source)
    assert (done.exit_code, done.stdout) == (0, f"{n} decisions added, 0 were there already\n")
    again = verb("import", path, "--data", tmp_path / "data", "--json")
    assert again.exit_code == 0
    assert json.loads(again.stdout) == {
        "format": format,
        "table": "decisions",
        "rows": n,
        "added": 0,
        "present": n,
        "n_bad": 0,
        "bad": [],
        "unit": "row" if format == "parquet" else "line",
        "unknown": [],
    }
    assert table(tmp_path / "data").equals(table(source))


def test_the_verb_reads_standard_input_and_puts_rows_into_the_database(tmp_path: Path) -> None:
    done = verb("import", "-", "--data", tmp_path, stdin=lines(plain_row()).getvalue())
    assert (done.exit_code, done.stdout) == (0, "1 decisions added, 0 were there already\n")
    with open_log(tmp_path) as log:
        assert (log.mode, log.backlog_bytes()) == ("file", 0)


def test_the_verb_lists_bad_rows_and_ends_with_1(tmp_path: Path) -> None:
    given = lines(plain_row(prompt=SECRET), *[plain_row(n, cause=SECRET) for n in range(1, 31)])
    done = verb("import", "-", "--data", tmp_path, stdin=given.getvalue())
    said = done.stderr.splitlines()
    assert done.exit_code == 1
    assert said[0].startswith("line 2: cause: none of routed, ")
    assert said[-2:] == [
        "... and 10 more; --json lists 30 of them",
        "error: 30 of 31 lines could not be read; the others are in",
    ]
    assert SECRET not in done.stderr + done.stdout
    assert count(tmp_path) == 1


def test_the_verb_refuses_what_is_no_export(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(f"prompt\n{SECRET}\n")
    done = verb("import", path, "--data", tmp_path / "data")
    assert done.exit_code == 2
    assert "no column id, decided_at" in done.stderr
    assert SECRET not in done.stderr
    assert verb("import", tmp_path / "nothing.csv", "--data", tmp_path).exit_code == 2
    assert verb("import", path, "--format", "xlsx", "--data", tmp_path).exit_code == 2


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Twice the rows need little more: 16 bytes for each id, and what DuckDB and Python round up to."""
    script = """
        import resource, sys
        from router.log.importers import import_file
        import_file(sys.argv[1], sys.argv[2])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """
    peaks, one = [], plain_row(0, prompt="x" * 2_000)
    for n in (6_000, 24_000):
        path = tmp_path / f"{n}.jsonl"
        with open(path, "wb") as file:
            for number in range(n):
                file.write(orjson.dumps(one | {"id": f"019a2f3c-5a00-7000-8000-{number:012x}"}) + b"\n")
        peaks.append(int(run(script, tmp_path / str(n), path)))
    assert peaks[1] < 1.25 * peaks[0]


def test_one_thread_waits_for_the_other(tmp_path: Path) -> None:
    rows = [plain_row(n) for n in range(2_000)]
    done: list[int] = []
    threads = [
        threading.Thread(target=lambda: done.append(import_file(tmp_path, lines(*rows)).added))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [0, 0, 2_000]


def test_a_writer_beside_an_import_loses_nothing(tmp_path: Path, long_file: Path) -> None:
    with_turns = Writer(tmp_path)
    process = start(IMPORT, tmp_path, long_file)
    for number in range(200):
        with_turns.log(decision(100_000 + number))
    assert process.communicate(timeout=60)[0].splitlines()[-1] == "added 12000 0 0"
    with_turns.close()
    assert count(tmp_path) == 12_200


def test_a_large_import_is_brought_into_the_database_on_the_way(tmp_path: Path, long_file: Path) -> None:
    assert import_file(tmp_path / "free", long_file, turn_bytes=1_000_000).added == 12_000
    con = connect(tmp_path / "free" / DATABASE)
    assert con.execute("SELECT count(*) FROM decisions").fetchone()[0] >= 10_000
    con.close()
    (tmp_path / "held").mkdir()
    lock = OwnerLock(tmp_path / "held")
    assert lock.acquire("dashboard")
    assert import_file(tmp_path / "held", long_file, turn_bytes=1_000_000).added == 12_000
    lock.release()
    assert count(tmp_path / "free") == count(tmp_path / "held") == 12_000
