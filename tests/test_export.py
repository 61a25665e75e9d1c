from __future__ import annotations

import csv
import io
import json
import os
import stat
import tracemalloc
from collections.abc import Iterator
from dataclasses import fields
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from log_samples import UNSCORED, run, start
from typer.testing import CliRunner

from router.cli.app import app
from router.errors import ConfigurationError
from router.log import csv_text, open_log
from router.log.export import FORMATS, export, new_file
from router.log.queries import Filter
from router.log.reader import Log
from router.log.record import feedback_payload, unix_ms, uuid7
from router.log.writer import Writer
from router.types import Decision

START = datetime(2026, 11, 2, 9, 30, 0, 123456)


def decision(number: int, prompt: str | None = "hello", **values: object) -> Decision:
    when = START + timedelta(minutes=number)
    given: dict[str, object] = {
        "id": uuid7(unix_ms(when)),
        "decided_at": when,
        "prompt": prompt,
        "prompt_sha256": "0" * 64,
        "prompt_chars": len(prompt or ""),
        "top_label": "simple",
        "confidence": 0.1 + 0.2,
        "scores": {"simple": 0.1 + 0.2, "coding": 0.25},
        "runner_up": "coding",
        "margin": 0.05,
        "threshold": 0.55,
        "cause": "low_confidence",
        "is_fallback": True,
        "model_chosen": "gpt-4o",
        "model_used": "gpt-4o",
        "classifier": "test",
        "calibrated": True,
        "classify_ms": 1.5,
        "policy_fingerprint": "p",
        "labels_fingerprint": "l",
        "input_tokens": 10,
        "output_tokens": 5,
        "usage_grade": "measured",
        "cost_usd": Decimal("0.000000123456"),
        "source": "test",
    }
    return Decision(**(given | values))  # type: ignore[arg-type]


PROMPTS = [
    "hello",
    "=1+1",
    "+49 30 12",
    "-2",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "\nx",
    "\uff1d1",
    'say "hi", ok\nline two',
    "",
    None,
    "nul \0 here",
    "'quoted",
    "'=1",
    "naïve ünï 🎈",
]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    writer = Writer(tmp_path / "data", turns=False)
    for number, prompt in enumerate(PROMPTS):
        writer.log(decision(number, prompt))
    writer.log(
        decision(
            len(PROMPTS),
            "failed",
            **UNSCORED,
            is_fallback=False,
            cost_usd=None,
            input_tokens=None,
            extra={"ref": "é", "n": 2},
        )
    )
    writer.close()
    with open_log(tmp_path / "data") as opened:
        yield opened


def exported(log: Log, format: str, chosen: Filter | None = None) -> bytes:
    out = io.BytesIO()
    export(log, chosen or Filter(), out, format)  # type: ignore[arg-type]
    return out.getvalue()


def test_csv_text_that_a_spreadsheet_would_run_is_quoted_and_numbers_are_not(log: Log) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(log, "csv").decode(), newline="")))
    for prompt, row in zip(PROMPTS, rows, strict=False):
        risky = bool(prompt) and prompt.lstrip("'")[:1] in tuple("=+-@\t\r\n\uff1d")
        assert row["prompt"] == ("'" if risky else "") + (prompt or "")
    first = rows[0]
    assert float(first["confidence"]) == 0.1 + 0.2
    assert first["cost_usd"] == "0.000000123456"
    assert first["decided_at"] == "2026-11-02T09:30:00.123456Z"
    assert json.loads(first["scores"]) == {"simple": 0.1 + 0.2, "coding": 0.25}
    assert first["is_fallback"] == "true"
    assert rows[-1]["cost_usd"] == rows[-1]["scores"] == rows[-1]["top_label"] == ""
    assert json.loads(rows[-1]["extra"]) == {"ref": "é", "n": 2}


def test_csv_tells_null_from_empty_text(log: Log) -> None:
    (_, header), *rows = csv_text.rows(io.BytesIO(exported(log, "csv")))
    cells = [row[header.index("prompt")] for _, row in rows]
    assert [cells[PROMPTS.index("")], cells[PROMPTS.index(None)]] == ["", None]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(
            st.one_of(st.none(), st.text("ab,\"\r\n'=+-@\t\0é\U0001f388\uff1d ")), min_size=3, max_size=3
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([1, 2, 3, 7, 1_000_000]),
)
def test_csv_cells_read_back_exactly_whatever_they_hold_and_wherever_a_block_ends(
    rows: list[list[str | None]], block: int
) -> None:
    text = "".join(",".join("" if x is None else csv_text.cell(x) for x in row) + "\r\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_text, "BLOCK_BYTES", block)
        found = list(csv_text.rows(io.BytesIO(text.encode())))
    assert [[None if x is None else csv_text.plain(x) for x in row] for _, row in found] == rows
    as_others_read = list(csv.reader(io.StringIO(text, newline="")))
    assert [[x or "" for x in row] for _, row in found] == as_others_read


@pytest.mark.parametrize(
    ("text", "line"),
    [('a,b\r\n"x,y\r\nz,w\r\n', 2), ('a,b\n1,2\nx"y,z\n', 3), ('a,b\n"x"y,z\n', 2)],
    ids=["never closed", "inside a cell", "text after it"],
)
def test_a_quotation_mark_that_cannot_be_is_named_with_its_line(text: str, line: int) -> None:
    with pytest.raises(csv_text.CsvError, match="quotation mark") as caught:
        list(csv_text.rows(io.BytesIO(text.encode())))
    assert caught.value.line == line


def test_lines_are_counted_with_those_inside_cells() -> None:
    text = 'a,b\r\n"1\n2\r\n3\r4",x\r\n5,y\n'
    assert [line for line, _ in csv_text.rows(io.BytesIO(text.encode()))] == [1, 2, 6]


def test_a_row_that_never_ends_is_given_up_on() -> None:
    file = io.BytesIO(b'a,b\n"' + b"x" * 1_000_000)
    with pytest.raises(csv_text.CsvError, match="never closed"):
        list(csv_text.rows(file, block_bytes=100, max_row_chars=1_000))
    assert file.tell() < 2_000


def test_csv_numbers_below_zero_stay_numbers(log: Log, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "other", turns=False)
    writer.log(decision(0, margin=-0.5))
    writer.close()
    with open_log(tmp_path / "other") as other:
        row = next(csv.DictReader(io.StringIO(exported(other, "csv").decode())))
    assert row["margin"] == "-0.5"


def test_jsonl_is_exact(log: Log) -> None:
    rows = [json.loads(line, parse_float=str) for line in exported(log, "jsonl").splitlines()]
    assert [row["prompt"] for row in rows] == [*PROMPTS, "failed"]
    assert rows[0]["cost_usd"] == "0.000000123456"
    assert float(rows[0]["confidence"]) == 0.1 + 0.2
    assert float(rows[0]["scores"]["simple"]) == 0.1 + 0.2
    assert rows[0]["decided_at"] == "2026-11-02T09:30:00.123456Z"
    assert rows[-1]["scores"] is None
    assert rows[-1]["extra"] == {"ref": "é", "n": 2}
    assert len({tuple(row) for row in rows}) == 1, "every line has every key"


def test_parquet_reads_back_with_types(log: Log) -> None:
    table = pq.read_table(io.BytesIO(exported(log, "parquet")))
    assert table.column("prompt").to_pylist() == [*PROMPTS, "failed"]
    assert table.column("cost_usd")[0].as_py() == Decimal("0.000000123456")
    assert table.column("decided_at")[0].as_py() == START
    assert dict(table.column("scores")[0].as_py()) == {"simple": 0.1 + 0.2, "coding": 0.25}
    assert (
        pq.ParquetFile(io.BytesIO(exported(log, "parquet"))).metadata.row_group(0).column(2).compression
        == "ZSTD"
    )


def test_ids_and_rows_are_the_same_in_all_three(log: Log) -> None:
    ids = [row[0] for row in log.rows("SELECT CAST(id AS VARCHAR) FROM decisions ORDER BY rowid")]
    from_csv = [row["id"] for row in csv.DictReader(io.StringIO(exported(log, "csv").decode(), newline=""))]
    from_jsonl = [json.loads(line)["id"] for line in exported(log, "jsonl").splitlines()]
    from_parquet = pq.read_table(io.BytesIO(exported(log, "parquet"))).column("id").to_pylist()
    assert ids == from_csv == from_jsonl == from_parquet


@pytest.mark.parametrize("format", FORMATS)
def test_a_filter_picks_rows_and_none_still_gives_a_whole_file(log: Log, tmp_path: Path, format: str) -> None:
    picked, nothing = tmp_path / "picked", tmp_path / "nothing"
    seen: list[int] = []
    n = export(log, Filter(causes=("classifier_error",)), picked, format, progress=seen.append)  # type: ignore[arg-type]
    assert (n, seen) == (1, [1])
    assert export(log, Filter(labels=("no such label",)), nothing, format) == 0  # type: ignore[arg-type]
    con = duckdb.connect()
    reader = {"csv": "read_csv", "jsonl": "read_json_auto", "parquet": "read_parquet"}[format]
    if format != "jsonl":  # no row, no line
        assert con.execute(f"SELECT count(*) FROM {reader}($f)", {"f": str(nothing)}).fetchone() == (0,)
    assert con.execute(f"SELECT prompt FROM {reader}($f)", {"f": str(picked)}).fetchall() == [("failed",)]
    con.close()


def test_a_file_is_private_and_nothing_else_is_left_beside_it(log: Log, tmp_path: Path) -> None:
    target = tmp_path / "out" / "decisions.csv"
    target.parent.mkdir()
    target.write_text("old")
    export(log, Filter(), target, "csv")
    assert os.listdir(target.parent) == ["decisions.csv"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_an_export_that_breaks_leaves_the_old_file_whole(log: Log, tmp_path: Path) -> None:
    target = tmp_path / "out" / "decisions.csv"
    target.parent.mkdir()
    target.write_text("old")

    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(log, Filter(), target, "csv", progress=stop)
    assert target.read_text() == "old"
    assert os.listdir(target.parent) == ["decisions.csv"]
    assert log.count() == len(PROMPTS) + 1, "the log is still usable"


@pytest.mark.parametrize(
    ("where", "words"),
    [("missing/x.csv", "No such file"), ("", "is a folder")],
    ids=["no folder", "a folder"],
)
def test_a_place_that_cannot_be_written_is_a_clear_error(
    log: Log, tmp_path: Path, where: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        export(log, Filter(), tmp_path / where, "csv")


FULL = """
    import resource, sys
    from pathlib import Path
    from router.errors import ConfigurationError
    from router.log import open_log
    from router.log.export import export
    from router.log.queries import Filter
    with open_log(sys.argv[1]) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            export(log, Filter(), sys.argv[2], sys.argv[3])
        except ConfigurationError as error:
            print(error)
"""


@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(tmp_path: Path, format: str) -> None:
    writer = Writer(tmp_path / "data", turns=False)
    for number in range(300):  # random, so that Parquet does not fold it up
        writer.log(decision(number, os.urandom(2_000).hex()))
    writer.close()
    (tmp_path / "out").mkdir()
    said = run(FULL, tmp_path / "data", tmp_path / "out" / "x", format)
    assert said == f"{tmp_path / 'out' / 'x'} cannot be written: File too large\n"
    assert os.listdir(tmp_path / "out") == []


ENDLESS = """
    import os, sys, time
    from router.log import open_log
    from router.log.export import export
    from router.log.queries import Filter
    def wait(rows):
        print("begun", flush=True)
        time.sleep(60)
    with open_log(sys.argv[1]) as log:
        export(log, Filter(), sys.argv[2], "jsonl", progress=wait)
"""


def test_an_export_that_is_killed_leaves_nothing_behind(long_log: Path, tmp_path: Path) -> None:
    try:
        os.close(os.open(tmp_path, os.O_WRONLY | os.O_TMPFILE))
    except (OSError, AttributeError):
        pytest.skip("needs a file system with files that have no name")
    process = start(ENDLESS, long_log, tmp_path / "x.jsonl")
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "begun\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert os.listdir(tmp_path) == []


def test_without_files_that_have_no_name_a_part_stands_beside_it_until_it_is_whole(
    log: Log, tmp_path: Path
) -> None:
    seen: list[list[str]] = []
    target = tmp_path / "out" / "x.csv"
    target.parent.mkdir()
    with new_file(target, unnamed=False) as file:
        export(log, Filter(), file, "csv", progress=lambda n: seen.append(os.listdir(target.parent)))
    assert seen[0][0].endswith(".part")
    assert os.listdir(target.parent) == ["x.csv"]


def test_feedback_is_exported_for_the_decisions_that_match(tmp_path: Path) -> None:
    writer = Writer(tmp_path, turns=False)
    made = [decision(number, source=source) for number, source in enumerate(("a", "a", "b"))]
    for one in made:
        writer.log(one)
        writer.append(feedback_payload(one.id, "wrong", START, correct_label="coding", note="=1, or 2"))
    writer.close()
    with open_log(tmp_path) as opened:
        for format in FORMATS:
            out = io.BytesIO()
            assert export(opened, Filter(source="a"), out, format, what="feedback") == 2
        rows = list(csv.DictReader(io.StringIO(_feedback(opened, "csv").decode(), newline="")))
        assert [row["decision_id"] for row in rows] == [one.id for one in made]
        assert (rows[0]["note"], rows[0]["judged_at"]) == ("'=1, or 2", "2026-11-02T09:30:00.123456Z")
        with pytest.raises(ConfigurationError, match="known: decisions, feedback"):
            export(opened, Filter(), io.BytesIO(), "csv", what="cells")  # type: ignore[arg-type]


def _feedback(log: Log, format: str) -> bytes:
    out = io.BytesIO()
    export(log, Filter(), out, format, what="feedback")  # type: ignore[arg-type]
    return out.getvalue()


def test_an_unknown_format_is_refused(log: Log) -> None:
    with pytest.raises(ConfigurationError, match="known: csv, jsonl, parquet"):
        export(log, Filter(), io.BytesIO(), "xlsx")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def long_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("long")
    writer = Writer(data, turns=False)
    for number in range(7_000):
        writer.log(decision(number, "x" * 3_000))
    writer.close()
    return data


@pytest.mark.parametrize("format", FORMATS)
def test_rows_come_in_small_batches_and_in_order(long_log: Path, tmp_path: Path, format: str) -> None:
    seen: list[int] = []
    with open_log(long_log) as log:
        assert export(log, Filter(), tmp_path / "x", format, progress=seen.append) == 7_000  # type: ignore[arg-type]
    assert sum(seen) == 7_000
    assert max(seen) <= 2_048
    con = duckdb.connect()
    reader = {"csv": "read_csv", "jsonl": "read_json_auto", "parquet": "read_parquet"}[format]
    ids = [
        str(row[0])
        for row in con.execute(f"SELECT id FROM {reader}($f)", {"f": str(tmp_path / "x")}).fetchall()
    ]
    con.close()
    if format == "parquet":
        assert pq.ParquetFile(tmp_path / "x").metadata.num_row_groups == 1
    assert ids == sorted(ids), "ids sort by time, and the rows were logged in time order"


def test_twice_the_rows_take_no_more_memory(long_log: Path) -> None:
    def peak(log: Log, chosen: Filter) -> int:
        with open(os.devnull, "wb") as nowhere:
            tracemalloc.start()
            export(log, chosen, nowhere, "csv")
            highest = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return highest

    with open_log(long_log) as log:
        export(log, Filter(upto=1), io.BytesIO(), "csv")  # loads what is loaded once
        assert peak(log, Filter()) < 1.2 * peak(log, Filter(upto=3_500))


OPTIONS: list[tuple[list[str], Filter]] = [
    (["--since", "2026-11-02T09:33"], Filter(start=datetime(2026, 11, 2, 9, 33))),
    (["--until", "2026-11-02T09:33"], Filter(end=datetime(2026, 11, 2, 9, 33))),
    (["--made-by", "p2"], Filter(policy="p2")),
    (["--label", "coding"], Filter(labels=("coding",))),
    (["--model", "gpt-4o-mini"], Filter(models=("gpt-4o-mini",))),
    (["--cause", "forced"], Filter(causes=("forced",))),
    (["--confidence", "0.3-0.6"], Filter(confidence=(0.3, 0.6))),
    (["--confidence", "0.6-1"], Filter(confidence=(0.6, 1.0))),
    (["--text", "SEVEN"], Filter(text="seven")),
    (["--source", "cli"], Filter(source="cli")),
    (["--session", "s1"], Filter(session_id="s1")),
    (["--outcome", "timeout", "--outcome", "ok"], Filter(outcomes=("timeout", "ok"))),
    (["--unmeasured"], Filter(unmeasured=True)),
    (["--failed"], Filter(failed=True)),
]
VARIED: list[dict[str, object]] = [
    {},
    {"policy_fingerprint": "p2"},
    {"top_label": "coding"},
    {"model_used": "gpt-4o-mini"},
    {"cause": "forced"},
    {"confidence": 0.6},
    {"confidence": 1.0},
    {"prompt": "seven"},
    {"source": "cli", "session_id": "s1"},
    {"outcome": "timeout", "input_tokens": None},
    {"outcome": "ok"},
]


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("varied")
    writer = Writer(data, turns=False)
    for number, values in enumerate(VARIED):
        writer.log(decision(number, **values))
    writer.close()
    return data


@pytest.mark.parametrize(
    ("options", "meant"), OPTIONS, ids=lambda x: "".join(x) if isinstance(x, list) else ""
)
def test_every_condition_of_a_filter_has_an_option(varied: Path, options: list[str], meant: Filter) -> None:
    done = CliRunner().invoke(app, ["export", "--format", "jsonl", "--data", str(varied), *options])
    assert done.exit_code == 0, done.stderr
    with open_log(varied) as log:
        wanted = exported(log, "jsonl", meant).decode()
    assert done.stdout == wanted
    assert 0 < wanted.count("\n") < len(VARIED)


def test_no_condition_is_without_one() -> None:
    given = {x.name for _, meant in OPTIONS for x in fields(Filter) if getattr(meant, x.name) != x.default}
    assert given == {x.name for x in fields(Filter)} - {
        "upto",
        "classifier",
        "label_set",
    }  # a page's, a promise's own


@pytest.mark.parametrize("given", ["0.6-0.3", "0.5", "0.5-0.5", "0-1.5", "-1-1", "a-b", "0.4.4-0.5", ""])
def test_a_range_of_confidence_that_is_none_is_refused(varied: Path, given: str) -> None:
    done = CliRunner().invoke(app, ["export", "--data", str(varied), "--confidence", given])
    assert (done.exit_code, "expected two numbers in [0, 1]" in done.stderr) == (2, True)


def test_an_outcome_that_is_none_is_refused(varied: Path) -> None:
    done = CliRunner().invoke(app, ["export", "--data", str(varied), "--outcome", "great"])
    assert (done.exit_code, "expected one of ok, length" in done.stderr) == (2, True)
