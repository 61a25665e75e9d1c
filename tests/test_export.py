from __future__ import annotations

import csv
import io
import json
import os
import stat
import tracemalloc
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from router.errors import ConfigurationError
from router.log import open_log
from router.log.export import FORMATS, export
from router.log.queries import Filter
from router.log.reader import Log
from router.log.record import unix_ms, uuid7
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
            top_label=None,
            confidence=None,
            scores={},
            runner_up=None,
            margin=None,
            cause="classifier_error",
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
        risky = bool(prompt) and prompt[0] in "=+-@\t\r\n\uff1d"
        assert row["prompt"] == ("'" if risky else "") + (prompt or "")
    first = rows[0]
    assert float(first["confidence"]) == 0.1 + 0.2
    assert first["cost_usd"] == "0.000000123456"
    assert first["decided_at"] == "2026-11-02T09:30:00.123456Z"
    assert json.loads(first["scores"]) == {"simple": 0.1 + 0.2, "coding": 0.25}
    assert first["is_fallback"] == "true"
    assert rows[-1]["cost_usd"] == rows[-1]["scores"] == rows[-1]["top_label"] == ""
    assert json.loads(rows[-1]["extra"]) == {"ref": "é", "n": 2}


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
