"""``sql`` and ``import``: a user's own query over the log, and exports read back into one."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.export import folder_with_log
from router.cli.options import Data, Json, PolicyFile
from router.cli.output import emit, progress, say, table, visible, waiting
from router.errors import ConfigurationError, InputError, LogLocked
from router.log.formats import FORMATS

if TYPE_CHECKING:
    from router.log.importers import Imported
    from router.log.shell import Answer

SHOWN_ROWS = 100
SHOWN_BAD = 20
CELL_CHARS = 200
"""What a cell of the table shows; the other formats have it whole."""

CUT = "…"
PLAN = ("explain_key", "explain_value")
MAX_QUERY_BYTES = 1_000_000
_FORMATS = ("table", "csv", "jsonl")


def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", show_default=False, help="One SELECT, in DuckDB's SQL.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "--file",
            metavar="FILE|-",
            show_default=False,
            help="Read the query from a file; - is standard input.",
        ),
    ] = None,
    format: Annotated[
        str, typer.Option("--format", metavar="|".join(_FORMATS), help="How to print the rows.")
    ] = "table",
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            min=1,
            show_default=False,
            help=f"Most rows to print. Default: {SHOWN_ROWS} in a table, else all.",
        ),
    ] = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Query the log with SQL of your own. It reads, and can change and reach nothing else.

    Tables: decisions (a row per decision), feedback, policies, saved_views, drops, rejects. Times are UTC.

    \b
    routescope sql "SELECT top_label, count(*) AS n, avg(confidence) FROM decisions GROUP BY ALL ORDER BY n DESC"
    routescope sql "SELECT prompt, scores['coding'] FROM decisions WHERE is_fallback ORDER BY confidence LIMIT 20"
    routescope sql "SELECT date_trunc('day', decided_at) AS day, sum(cost_usd) FROM decisions GROUP BY day ORDER BY day"
    routescope sql "DESCRIBE decisions"
    routescope sql --file report.sql --format csv > report.csv
    """  # noqa: D301 - \b keeps the lines of the examples
    from router.log.shell import open_shell

    if (query is None) == (file is None):
        raise typer.BadParameter("give either a QUERY or --file FILE")
    if format not in _FORMATS:
        raise InputError(f"--format: found {format[:40]!r}, expected one of {', '.join(_FORMATS)}")
    if json and format != "table":
        raise InputError("--json prints one document; --format is for rows. Give one of them")
    text = query if query is not None else _read_query(file or "")
    with open_shell(folder_with_log(data)) as shell:
        if shell.log.note:
            say(f"note: {shell.log.note}")
        answer = shell.run(text)
        if json:
            emit(_document(answer, limit) | {"mode": shell.log.mode, "age_s": shell.log.age_s})
        elif format == "table":
            _print(answer, limit or SHOWN_ROWS)
        else:
            answer.write(format, sys.stdout.buffer, limit=limit)  # type: ignore[arg-type]
            sys.stdout.buffer.flush()


def import_log(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="An export; - is standard input (CSV or JSON Lines).")
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="|".join(FORMATS), show_default=False, help="Default: told from the content."
        ),
    ] = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Add the rows of an export to the log. Rows that it holds already are left alone.

    Decisions or feedback, from 'routescope export' in any of its formats, of this log or another. Safe to repeat: an
    import that was stopped is finished by the next. Prompts are stored as the policy's [log] table says.
    """
    from router.config import data_dir
    from router.log.importers import import_file
    from router.log.owner import ingest_now
    from router.log.privacy import Privacy
    from router.resolve import load_policy

    if format is not None and format not in FORMATS:
        raise InputError(f"--format: found {format[:40]!r}, expected one of {', '.join(FORMATS)}")
    folder = data_dir(data)
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file, expected the data folder; give another with --data")
    kept = load_policy(policy, folder).log
    source = sys.stdin.buffer if file == "-" else file
    total = None if file == "-" or not os.path.isfile(file) else os.path.getsize(file)
    with progress(
        f"importing {'standard input' if file == '-' else os.path.basename(file)}", total
    ) as advance:
        done = import_file(
            folder, source, format=format, privacy=Privacy(kept.prompts, kept.redact), progress=advance
        )
    if done.added:
        with suppress(LogLocked), waiting("bringing them into the database"):
            ingest_now(folder)  # else whoever owns the log does it, or the next command
    if json:
        emit(asdict(done) | {"bad": [{done.unit: number, "reason": why} for number, why in done.bad]})
    else:
        rows = "judgements" if done.table == "feedback" else "decisions"
        typer.echo(f"{done.added:,} {rows} added, {done.present:,} were there already")
    _say_faults(done)


def _say_faults(done: Imported) -> None:
    if done.unknown:
        say(f"note: columns that the log does not have are kept in extra: {', '.join(done.unknown[:20])}")
    for number, why in done.bad[:SHOWN_BAD]:
        say(f"{done.unit} {number}: {why}")
    if done.n_bad > SHOWN_BAD:
        say(f"... and {done.n_bad - SHOWN_BAD:,} more; --json lists {len(done.bad):,} of them")
    if done.n_bad:
        say(f"error: {done.n_bad:,} of {done.rows:,} {done.unit}s could not be read; the others are in")
        raise typer.Exit(1)
    if not done.rows:
        say("note: the file holds no rows; nothing was added")


def _read_query(source: str) -> str:
    if source == "-":
        raw = sys.stdin.buffer.read(MAX_QUERY_BYTES + 1)
    else:
        try:
            with open(source, "rb") as file:
                raw = file.read(MAX_QUERY_BYTES + 1)
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror}; expected a file with SQL") from None
    if len(raw) > MAX_QUERY_BYTES:
        raise InputError(f"the query is longer than {MAX_QUERY_BYTES:,} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("the query is not UTF-8") from None


def _document(answer: Answer, limit: int | None) -> dict[str, object]:
    rows = answer.values(limit)
    return {
        "columns": [{"name": x, "type": kind} for x, kind in zip(answer.columns, answer.types, strict=True)],
        "rows": rows,
        "n": len(rows),
    }


def _print(answer: Answer, limit: int) -> None:
    rows = answer.texts(limit + 1)
    if answer.columns == PLAN:
        for row in rows:
            typer.echo(visible(row[1] or ""))
        return
    shown = [[_cell(x) for x in row] for row in rows[:limit]]
    table(answer.columns, shown, right=answer.numbers)
    if len(rows) > limit:
        say(f"the first {limit:,} rows; --limit N shows more, --format csv all")
    else:
        say("1 row" if len(rows) == 1 else f"{len(rows):,} rows")
    if any(cell.endswith(CUT) for row in shown for cell in row):
        say(f"note: longer cells are cut at {CELL_CHARS} characters; --format csv and jsonl have them whole")


def _cell(text: str | None) -> str:
    """A value on one line."""
    if text is None:
        return "NULL"
    whole = visible(text[: CELL_CHARS + 1]).replace("\n", "\\n").replace("\t", "\\t")
    return whole if len(whole) <= CELL_CHARS else whole[:CELL_CHARS] + CUT
