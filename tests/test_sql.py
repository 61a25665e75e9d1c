"""SQL of a user's own: it reads whoever owns the log, and can change nothing, reach nothing and quote no prompt in an error."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from log_samples import as_nobody, decision, environment, owned_elsewhere, run
from typer.testing import CliRunner

from router.cli.app import app
from router.errors import InputError, LogError
from router.log import Owner, open_log
from router.log.lock import OwnerLock
from router.log.shell import Shell, open_shell
from router.log.writer import Writer

SECRET = "zebra-passphrase"
ROWS = 30


def filled(data: Path) -> Path:
    writer = Writer(data, turns=False)
    for number in range(ROWS):
        writer.log(decision(number, prompt=f"{SECRET} {number}", extra={"n": number}))
    writer.close()
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("sql") / "data")


@pytest.fixture(params=["file", "spool"])
def shell(request: pytest.FixtureRequest, data: Path) -> Iterator[Shell]:
    """Over the file, and over a copy in memory as beside an owner."""
    lock = OwnerLock(data)
    if request.param == "spool":
        assert lock.acquire("dashboard")
    with open_shell(data) as opened:
        assert opened.log.mode == request.param
        yield opened
    lock.release()


def verb(*args: object, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(app, ["sql", *[str(x) for x in args]], input=stdin)


def state(folder: Path) -> dict[str, str]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


READS = [
    "SELECT count(*) FROM decisions",
    "select count(*) from decisions;",
    "-- a comment\nSELECT 1 /* another */",
    "WITH x AS (SELECT top_label FROM decisions) SELECT count(*) FROM x",
    "FROM decisions SELECT count(*)",
    "VALUES (1, 'a')",
    "DESCRIBE decisions",
    "SUMMARIZE SELECT confidence FROM decisions",
    "SHOW TABLES",
    "EXPLAIN SELECT 1",
    "EXPLAIN ANALYZE SELECT count(*) FROM decisions",
    "PIVOT (SELECT top_label, cause FROM decisions) ON top_label IN ('simple', 'coding') USING count(*)",
    "SELECT label, count(*) FROM (SELECT unnest(map_keys(scores)) AS label FROM decisions) GROUP BY label",
    "SELECT extra->>'n' FROM decisions ORDER BY decided_at LIMIT 3",
    "SELECT now() - max(decided_at) FROM decisions",
]


@pytest.mark.parametrize("query", READS)
def test_what_reads_is_answered(shell: Shell, query: str) -> None:
    assert shell.run(query).texts()


REFUSED = [
    ("INSERT INTO decisions(id) VALUES (uuid())", "found an INSERT statement"),
    ("UPDATE decisions SET prompt = ''", "found an UPDATE statement"),
    ("DELETE FROM decisions", "found a DELETE statement"),
    ("DROP TABLE decisions", "found a DROP statement"),
    ("CREATE TABLE t(a INT)", "found a CREATE statement"),
    ("CREATE TEMP TABLE t AS SELECT 1", "found a CREATE statement"),
    ("CREATE OR REPLACE MACRO confidence_bin(c) AS 0", "found a CREATE statement"),
    ("ALTER TABLE decisions ADD COLUMN z INT", "found an ALTER statement"),
    ("COPY decisions TO '{tmp}/x.csv'", "found a COPY statement"),
    ("COPY decisions FROM '/etc/passwd'", "found a COPY statement"),
    ("EXPORT DATABASE '{tmp}/x'", "found an EXPORT statement"),
    ("ATTACH '{tmp}/x.duckdb' AS x", "found an ATTACH statement"),
    ("DETACH memory", "found a DETACH statement"),
    ("INSTALL httpfs", "found a LOAD statement"),
    ("LOAD '/tmp/x.so'", "found a LOAD statement"),
    ("SET enable_external_access = true", "found a SET statement"),
    ("RESET lock_configuration", "found a SET statement"),
    ("SET VARIABLE x = 1", "found a SET statement"),
    ("USE memory", "found a SET statement"),
    ("PRAGMA enable_profiling", "found a PRAGMA statement"),
    ("CALL enable_logging()", "is not for SQL here"),
    ("CALL pragma_version()", "found a CALL statement"),
    ("CHECKPOINT", "found a "),
    ("VACUUM", "found a VACUUM statement"),
    ("BEGIN", "found a TRANSACTION statement"),
    ("ROLLBACK", "found a TRANSACTION statement"),
    ("PREPARE p AS SELECT 1", "found a PREPARE statement"),
    ("EXPLAIN ANALYZE DELETE FROM decisions", "EXPLAIN is for one SELECT"),
    ("EXPLAIN COPY decisions TO '{tmp}/x.csv'", "EXPLAIN is for one SELECT"),
    ("SELECT 1; DELETE FROM decisions", "found 2 statements"),
    ("SELECT 1; SELECT 2", "found 2 statements"),
    ("COMMIT; DELETE FROM decisions; BEGIN", "found 3 statements"),
    ("", "found 0 statements"),
    ("-- nothing", "found 0 statements"),
    ("PIVOT decisions ON top_label USING count(*)", "PIVOT needs its values here"),
    (
        "FROM enable_logging(storage = 'file', storage_config = {{'path': '{tmp}/log'}})",
        "is not for SQL here",
    ),
    ("FROM \"enable_profiling\" /* */ (format = 'json', save_location = '{tmp}/p')", "is not for SQL here"),
    ("FROM query('FROM enable_' || 'logging()')", "is not for SQL here"),
    ("SELECT * FROM read_csv('/etc/passwd')", "reads the log alone"),
    ("SELECT * FROM read_text('/etc/passwd')", "reads the log alone"),
    ("SELECT * FROM read_blob('{tmp}/*')", "reads the log alone"),
    ("SELECT * FROM read_json('/etc/passwd')", "reads the log alone"),
    ("SELECT * FROM read_parquet('{tmp}/x')", "reads the log alone"),
    ("SELECT * FROM read_duckdb('{tmp}/x')", "reads the log alone"),
    ("SELECT * FROM glob('/etc/*')", "reads the log alone"),
    ("SELECT * FROM parquet_metadata('/etc/passwd')", "reads the log alone"),
    ("SELECT * FROM 'https://example.com/x.csv'", "does not exist|reads the log alone"),
    ("SELECT * FROM '/etc/passwd'", "does not exist"),
    ("SELECT getenv('HOME')", "does not exist"),
    ("SELECT * FROM unseen", "does not exist"),
    (
        "WITH x AS (INSERT INTO decisions(id) VALUES (uuid()) RETURNING id) SELECT * FROM x",
        "only reads|A CTE needs a SELECT",
    ),
    ("WITH x AS (DELETE FROM decisions RETURNING id) SELECT * FROM x", "only reads|A CTE needs a SELECT"),
]


@pytest.mark.parametrize(("query", "why"), REFUSED, ids=[x[0][:40] for x in REFUSED])
def test_what_writes_or_reaches_further_is_refused(
    shell: Shell, data: Path, tmp_path: Path, query: str, why: str
) -> None:
    unseen = [1]  # a variable of this process is no table
    before = state(data)
    with pytest.raises((InputError, LogError), match=why):
        shell.run(query.replace("{{", "{").replace("}}", "}").replace("{tmp}", str(tmp_path))).texts()
    assert shell.run("SELECT count(*) FROM decisions").texts() == [(str(ROWS),)]
    assert state(data) == before
    assert list(tmp_path.iterdir()) == []
    assert unseen


def test_nothing_is_ever_spilled_and_the_settings_are_locked(shell: Shell) -> None:
    names = (
        "temp_directory",
        "enable_external_access",
        "lock_configuration",
        "TimeZone",
        "python_enable_replacements",
    )
    shown = shell.run("SELECT " + ", ".join(f"current_setting('{name}')" for name in names)).texts()
    assert shown == [("", "false", "true", "UTC", "false")]


def test_times_are_utc_whatever_the_zone_of_the_machine(data: Path) -> None:
    script = """
        import sys
        from router.log.shell import open_shell
        with open_shell(sys.argv[1]) as shell:
            print(shell.run("SELECT TIMESTAMP '2026-11-20 09:00:00' = TIMESTAMPTZ '2026-11-20 09:00:00+00' ").texts())
    """
    assert run(script, data, env={"TZ": "Asia/Tokyo"}) == "[('true',)]\n"


QUOTING = [
    "SELECT CAST(prompt AS INTEGER) FROM decisions",
    "SELECT CAST(prompt AS DATE) FROM decisions",
    "SELECT CAST(prompt AS JSON) FROM decisions",
    "SELECT prompt->'x' FROM decisions",
    "SELECT error(prompt) FROM decisions",
    "SELECT regexp_matches('a', '(' || prompt) FROM decisions",
    "SELECT strptime(prompt, '%Y') FROM decisions",
    "SELECT date_trunc(prompt, decided_at) FROM decisions",
    "SELECT timezone(prompt, now()) FROM decisions",
    "SELECT unhex(prompt) FROM decisions",
    "SELECT CAST(prompt AS ENUM('a')) FROM decisions",
    "EXPLAIN ANALYZE SELECT CAST(prompt AS INTEGER) FROM decisions",
]


@pytest.mark.parametrize("query", QUOTING)
def test_an_error_quotes_no_prompt(shell: Shell, query: str) -> None:
    with pytest.raises(LogError, match=r"the query failed \(\w+Exception\): ") as caught:
        shell.run(query).texts()
    assert "zebra" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELCT 1", 'syntax error at or near "SELCT"'),
        ("SELECT confidense FROM decisions", 'Referenced column "confidense" not found'),
        ("SELECT * FROM decision", "Table with name decision does not exist"),
        ("SELECT sum(top_label) FROM decisions", "No function matches"),
    ],
)
def test_what_is_wrong_with_a_query_is_said_in_duckdbs_words(shell: Shell, query: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        shell.run(query)


def test_a_shell_answers_again_after_an_error_and_gives_the_lock_back(tmp_path: Path) -> None:
    filled(tmp_path)
    with open_shell(tmp_path) as opened:
        for _ in range(2):
            with pytest.raises(InputError):
                opened.run("SELECT nothing FROM decisions")
            with pytest.raises(LogError):
                opened.run("SELECT CAST(prompt AS INTEGER) FROM decisions").texts()
            assert opened.run("SELECT 1 AS a, 2 AS a").columns == ("a", "a_1")
    lock = OwnerLock(tmp_path)
    assert lock.acquire("turn")
    lock.release()
    with open_log(tmp_path) as log:
        assert log.count() == ROWS


def test_in_the_owners_process_its_connection_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path)
    owner = Owner(tmp_path)
    owner.start()
    try:
        assert owner.wait_ready(30)
        with open_shell(tmp_path) as opened:
            assert opened.log.mode == "spool"
            assert opened.run("SELECT count(*) FROM decisions").texts() == [(str(ROWS),)]
        with open_log(tmp_path) as log:
            assert log.rows("SELECT current_setting('lock_configuration')") == [(False,)]
    finally:
        owner.stop()


def test_a_log_opened_in_a_notebook_can_only_be_read(tmp_path: Path) -> None:
    import duckdb

    filled(tmp_path)
    for keep in (True, False):
        with open_log(tmp_path, take_lock=keep) as log:
            for change in (
                "DELETE FROM decisions",
                "UPDATE decisions SET prompt = ''",
                "CREATE TABLE t(a INT)",
            ):
                with pytest.raises(duckdb.TransactionException, match="read-only"):
                    log.rows(change)
                with pytest.raises(duckdb.TransactionException, match="read-only"):
                    log.frame(change)
            assert log.count() == ROWS


# The verb


def test_a_table_has_one_line_a_row_and_escapes_what_a_terminal_would_obey(tmp_path: Path) -> None:
    writer = Writer(tmp_path, turns=False)
    writer.log(decision(0, prompt="a\x1b[31mred\nline\ttwo\u202e"))
    writer.log(decision(1, prompt=None, confidence=None))
    writer.log(decision(2, prompt="x" * 500))
    writer.close()
    done = verb("SELECT prompt, confidence AS c FROM decisions ORDER BY decided_at", "--data", tmp_path)
    lines = done.stdout.splitlines()
    assert done.exit_code == 0
    assert lines[0].split() == ["prompt", "c"]
    assert lines[1].split("  ")[0] == r"a\x1b[31mred\nline\ttwo\u202e"
    assert lines[2].split() == ["NULL", "NULL"]
    assert lines[3].split() == ["x" * 200 + "…", "0.7"]
    assert done.stderr.splitlines() == [
        "3 rows",
        "note: longer cells are cut at 200 characters; --format csv and jsonl have them whole",
    ]


def test_a_table_that_is_cut_says_so(data: Path) -> None:
    done = verb("SELECT id FROM decisions", "--limit", 7, "--data", data)
    assert len(done.stdout.splitlines()) == 8
    assert done.stderr == "the first 7 rows; --limit N shows more, --format csv all\n"
    assert "100 rows" in verb("FROM range(1000)", "--data", data).stderr


QUERY = (
    "SELECT id, decided_at, prompt, scores, cost_usd, extra, '=1' AS risky, '' AS empty, NULL AS nothing, "
    "sum(1) OVER () AS n, [1, 2] AS list, 'nan'::DOUBLE AS nan, date '2026-11-20' AS day, '\\xAA'::BLOB AS bytes "
    "FROM decisions ORDER BY decided_at LIMIT 2"
)


def test_csv_jsonl_and_json_hold_the_same_values(data: Path) -> None:
    by_csv = verb(QUERY, "--format", "csv", "--data", data).stdout
    first = next(csv.DictReader(io.StringIO(by_csv, newline="")))
    objects = [
        json.loads(line) for line in verb(QUERY, "--format", "jsonl", "--data", data).stdout.splitlines()
    ]
    document = json.loads(verb(QUERY, "--json", "--data", data).stdout)
    names = [column["name"] for column in document["columns"]]
    assert [dict(zip(names, row, strict=True)) for row in document["rows"]] == objects
    assert (document["n"], document["mode"], document["age_s"] >= 0) == (2, "file", True)
    assert list(first) == names
    one = objects[0]
    assert one["prompt"] == first["prompt"] == f"{SECRET} 0"
    assert one["decided_at"] == first["decided_at"] == "2026-11-20 09:00:00"
    assert (
        json.loads(first["scores"])
        == one["scores"]
        == {"simple": 0.7, "coding": 0.15, "reasoning": 0.1, "creative": 0.05}
    )
    assert json.loads(first["extra"]) == one["extra"] == {"n": 0}
    assert (first["risky"], one["risky"]) == ("'=1", "=1")
    assert (one["n"], one["list"], one["nan"], one["day"], one["bytes"]) == (
        ROWS,
        [1, 2],
        None,
        "2026-11-20",
        r"\xAA",
    )
    assert (first["n"], first["list"], first["nothing"]) == (str(ROWS), "[1,2]", "")


def test_a_limit_holds_for_every_format(data: Path) -> None:
    for format, extra in (("csv", 1), ("jsonl", 0)):
        done = verb("SELECT id FROM decisions", "--format", format, "--limit", 3, "--data", data)
        assert len(done.stdout.splitlines()) == 3 + extra
    assert (
        len(
            json.loads(verb("SELECT id FROM decisions", "--json", "--limit", 3, "--data", data).stdout)[
                "rows"
            ]
        )
        == 3
    )


def test_a_query_can_come_from_a_file_or_standard_input(data: Path, tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("-- how many\nSELECT count(*) AS n\nFROM decisions;\n")
    by_file = verb("--file", tmp_path / "q.sql", "--data", data)
    by_input = verb("--file", "-", "--data", data, stdin=b"SELECT count(*) AS n FROM decisions")
    assert by_file.stdout.split() == by_input.stdout.split() == ["n", str(ROWS)]
    assert verb("--file", tmp_path / "missing.sql", "--data", data).exit_code == 2
    assert verb("--file", "-", "--data", data, stdin=b"SELECT '\xff'").exit_code == 2
    assert verb("--file", "-", "--data", data, stdin=b"-" * 1_000_001).exit_code == 2
    assert verb("--data", data).exit_code == 2
    assert verb("SELECT 1", "--file", tmp_path / "q.sql", "--data", data).exit_code == 2


def test_exit_codes_and_words(data: Path, tmp_path: Path) -> None:
    empty = verb("SELECT 1", "--data", tmp_path)
    assert (empty.exit_code, "no decisions in" in empty.stderr) == (3, True)
    wrong = verb("SELECT nothing FROM decisions", "--data", data)
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith('error: Binder Error: Referenced column "nothing" not found')
    failed = verb("SELECT CAST(prompt AS DATE) FROM decisions", "--data", data)
    assert failed.exit_code == 1
    assert failed.stderr == (
        "error: the query failed (ConversionException): a value could not be converted; TRY_CAST gives NULL instead\n"
    )
    assert verb("SELECT 1", "--format", "xml", "--data", data).exit_code == 2
    assert verb("SELECT 1", "--format", "csv", "--json", "--data", data).exit_code == 2


def test_the_plan_is_printed_as_it_is(data: Path) -> None:
    done = verb("EXPLAIN SELECT count(*) FROM decisions", "--data", data)
    assert done.exit_code == 0
    assert "NULL" not in done.stdout
    assert len(done.stdout.splitlines()) > 3


def test_beside_an_owner_of_another_process_the_note_says_so(tmp_path: Path) -> None:
    filled(tmp_path)
    with owned_elsewhere(tmp_path) as owner:
        done = verb("SELECT count(*) AS n FROM decisions", "--data", tmp_path)
        assert done.stdout.split() == ["n", str(ROWS)]
        assert f"PID {owner.pid}" in done.stderr


AS_NOBODY = """
    import json, os, sys, tempfile
    from pathlib import Path
    from log_samples import decision
    from router.log.shell import open_shell
    from router.log.writer import Writer
    with tempfile.TemporaryDirectory() as warm:   # loads every module while the interpreter's own files can be read
        writer = Writer(Path(warm), turns=False)
        writer.log(decision())
        writer.close()
        with open_shell(warm) as shell:
            shell.run("SELECT 1").texts()
    os.setgid(65534)
    os.setuid(65534)
    with open_shell(sys.argv[1]) as shell:
        print(shell.log.mode, shell.run("SELECT count(*) FROM decisions").texts()[0][0])
"""


def test_a_read_only_folder_can_be_queried() -> None:
    assert as_nobody(AS_NOBODY, filled) == f"file {ROWS}\n"


@pytest.mark.parametrize("format", ["table", "csv"])
def test_ctrl_c_ends_a_long_query_at_once(data: Path, format: str) -> None:
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        endless = "SELECT sum(hash(a.range, b.range)) FROM range(10000000) a, range(10000000) b"
        process = subprocess.Popen(
            [sys.executable, "-m", "router.cli", "sql", endless, "--format", format, "--data", str(data)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        lock = OwnerLock(data)
        while lock.acquire("turn"):  # until the query has the log
            lock.release()
            assert process.poll() is None
        out = err = b""
        for _ in range(6):  # DuckDB 1.5 loses one that comes while it imports pandas
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                out, err = process.communicate(timeout=3)
                break
        process.kill()
    finally:
        signal.signal(signal.SIGINT, old)
    assert (process.returncode, err.decode().splitlines()[-1]) == (130, "interrupted")
    assert SECRET not in out.decode() + err.decode()
