"""``ingest`` and ``export``: into the database, and out of the log."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from router.cli.errors import NotEnoughData
from router.cli.options import Data, Json, Since, Until, moment
from router.cli.output import emit, progress, say, share
from router.errors import ConfigurationError, InputError
from router.log.export import FORMATS, Format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.log.queries import Filter
    from router.log.reader import Log

Labels = Annotated[
    list[str] | None, typer.Option("--label", show_default=False, help="Only this label; repeatable.")
]
Models = Annotated[
    list[str] | None, typer.Option("--model", show_default=False, help="Only this model; repeatable.")
]
Causes = Annotated[
    list[str] | None, typer.Option("--cause", show_default=False, help="Only this cause; repeatable.")
]
Contains = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", show_default=False, help="Only prompts that contain this text."),
]


@contextmanager
def reading(data: Path | None) -> Iterator[Log]:
    """The log of a data folder, which must hold one; says what is out of the ordinary about it."""
    from router.config import data_dir
    from router.log.ingest import spools
    from router.log.reader import open_log
    from router.log.schema import DATABASE

    folder = data_dir(data)
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file, expected the data folder; give another with --data")
    if not (folder / DATABASE).exists() and not spools(folder):
        raise NotEnoughData(
            f"no decisions in {folder}; log some with 'routescope route', or look at 'routescope demo'"
        )
    with open_log(folder) as log:
        if log.note:
            say(f"note: {log.note}")
        yield log


def chosen(
    since: str | None,
    until: str | None,
    labels: list[str] | None = None,
    models: list[str] | None = None,
    causes: list[str] | None = None,
    text: str | None = None,
) -> Filter:
    """The filter that options describe; an impossible one is an error."""
    from router.log.queries import Filter
    from router.types import CAUSES

    for cause in causes or []:
        if cause not in CAUSES:
            raise InputError(f"--cause: found {cause[:40]!r}, expected one of {', '.join(CAUSES)}")
    start, end = moment(since, "--since"), moment(until, "--until")
    if start is not None and end is not None and start >= end:
        raise InputError(f"--since {since} is not before --until {until}; expected an earlier time")
    return Filter(
        start=start,
        end=end,
        labels=tuple(labels or ()),
        models=tuple(models or ()),
        causes=tuple(causes or ()),
        text=text or None,
    )


def export_log(
    format: Annotated[
        str, typer.Option("--format", metavar="|".join(FORMATS), help="What to write.")
    ] = "csv",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE|-", help="Where to; - is standard output.")
    ] = "-",
    since: Since = None,
    until: Until = None,
    label: Labels = None,
    model: Models = None,
    cause: Causes = None,
    text: Contains = None,
    data: Data = None,
    json: Json = False,
) -> None:
    """Write decisions as CSV, JSON Lines or Parquet. Every column, in the order they were logged."""
    from router.log.export import export
    from router.log.queries import count

    if format not in get_args(Format):
        raise InputError(f"--format: found {format[:40]!r}, expected one of {', '.join(FORMATS)}")
    if output == "-" and json:
        raise InputError("--json reports on an export to a file; give --output FILE with it")
    if output == "-" and format == "parquet" and sys.stdout.isatty():
        raise InputError("Parquet is not for a terminal; give --output FILE, or a pipe")
    picked = chosen(since, until, label, model, cause, text)
    with reading(data) as log:
        total = count(log, picked)
        with progress("exporting", total, unit="decisions") as advance:
            target = sys.stdout.buffer if output == "-" else output
            n = export(log, picked, target, format, progress=advance)  # type: ignore[arg-type]
    if output == "-":
        sys.stdout.buffer.flush()
    if json:
        emit({"rows": n, "format": format, "output": str(Path(output).absolute())})
    say(f"{n:,} decisions exported" + ("" if output == "-" else f" to {output}"))


def ingest(data: Data = None, json: Json = False) -> None:
    """Bring what was logged into the database now. A running dashboard does that by itself."""
    from router.config import data_dir
    from router.log.ingest import spools
    from router.log.lock import holder
    from router.log.owner import ingest_now
    from router.log.schema import DATABASE

    folder = data_dir(data)
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder; expected the data folder, give it with --data")
    if not os.access(
        folder, os.W_OK | os.X_OK
    ):  # the lock's own words would be of the file it could not make
        raise ConfigurationError(f"{folder} cannot be written: permission denied; allow it or use --data")
    total = sum(path.stat().st_size for path in spools(folder))
    try:
        with progress("ingesting", total) as advance:
            done = ingest_now(folder, progress=advance)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror or type(error).__name__}"
        ) from None
    if done is None:
        who = holder(folder)
        pid = None if who is None else who.pid
        if json:
            emit({"rows": 0, "rejects": 0, "owner_pid": pid})
        say(
            f"a dashboard owns the log{'' if pid is None else f' (PID {pid})'}; it takes in new decisions by itself"
        )
        return
    if json:
        emit({"rows": done.rows, "rejects": done.rejects, "owner_pid": None})
    else:
        typer.echo(f"{done.rows:,} decisions into {folder / DATABASE}")
    if done.rejects:
        say(
            f"error: {done.rejects:,} damaged lines ({share(done.rejects / (done.rows + done.rejects))}) could not be "
            "read; 'routescope doctor' says why"
        )
        raise typer.Exit(1)
