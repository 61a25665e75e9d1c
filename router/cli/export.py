"""``ingest`` and ``export``: into the database, and out of the log."""

from __future__ import annotations

import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from router.cli.errors import NotEnoughData
from router.cli.options import Data, Json, Since, Until, moment
from router.cli.output import emit, near, note, progress, say, share
from router.errors import ConfigurationError, InputError
from router.log.formats import FORMATS

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
Confidence = Annotated[
    str | None,
    typer.Option(
        "--confidence",
        metavar="LOW-HIGH",
        show_default=False,
        help="Only confidences from LOW to below HIGH, like 0.4-0.6; a HIGH of 1 includes 1.",
    ),
]
Outcomes = Annotated[
    list[str] | None,
    typer.Option("--outcome", show_default=False, help="Only calls that ended so; repeatable."),
]
Failed = Annotated[bool, typer.Option("--failed", help="Only calls that ended without a reply.")]
Unmeasured = Annotated[
    bool,
    typer.Option(
        "--unmeasured", help="Only decisions that may have cost something and have no token counts."
    ),
]
Source = Annotated[
    str | None,
    typer.Option("--source", show_default=False, help="Only this source: router, cli, demo, ..."),
]
Session = Annotated[
    str | None, typer.Option("--session", metavar="ID", show_default=False, help="Only this session.")
]
MadeBy = Annotated[
    str | None,
    typer.Option(
        "--made-by",
        metavar="FINGERPRINT",
        show_default=False,
        help="Only decisions of the policy with this fingerprint ('routescope policy show').",
    ),
]


@contextmanager
def reading(data: Path | None) -> Iterator[Log]:
    """The log of a data folder, which must hold one; says what is out of the ordinary about it."""
    from router.log.reader import open_log

    with open_log(folder_with_log(data)) as log:
        if log.note:
            note(log.note)
        yield log


def folder_with_log(data: Path | None) -> Path:
    """The data folder, which must hold a log."""
    from router.config import data_dir
    from router.log.archive import has_log

    folder = data_dir(data)
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file, expected the data folder; give another with --data")
    if not has_log(folder):
        raise NotEnoughData(
            f"no decisions in {folder}; log some with 'routescope route', or look at 'routescope demo'"
        )
    return folder


def chosen(
    since: str | None,
    until: str | None,
    labels: list[str] | None = None,
    models: list[str] | None = None,
    causes: list[str] | None = None,
    text: str | None = None,
    confidence: str | None = None,
    outcomes: list[str] | None = None,
    **others: Any,
) -> Filter:
    """The filter that options describe; an impossible one is an error. ``others`` are fields of it as they are."""
    from router.log.queries import Filter
    from router.types import CAUSES, Outcome

    for option, given, known in (("--cause", causes, CAUSES), ("--outcome", outcomes, get_args(Outcome))):
        for word in given or []:
            if word not in known:
                raise InputError(f"{option}: found {word[:40]!r}, expected one of {', '.join(known)}")
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
        confidence=_range(confidence),
        outcomes=tuple(outcomes or ()),
        **others,
    )


def _range(text: str | None) -> tuple[float, float] | None:
    """Two numbers in [0, 1], the first below the second; None stays None."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9.]+)\s*-\s*([0-9.]+)\s*", text)
    try:
        low, high = (float(found[1]), float(found[2])) if found else (1.0, 0.0)
    except ValueError:
        low, high = 1.0, 0.0
    if not 0.0 <= low < high <= 1.0:
        raise InputError(
            f"--confidence: found {text[:40]!r}, expected two numbers in [0, 1], the lower first, like 0.4-0.6"
        )
    return low, high


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
    confidence: Confidence = None,
    outcome: Outcomes = None,
    failed: Failed = False,
    unmeasured: Unmeasured = False,
    source: Source = None,
    session: Session = None,
    made_by: MadeBy = None,
    what: Annotated[
        str,
        typer.Option(
            "--what", metavar="decisions|feedback", help="The decisions, or what people said of them."
        ),
    ] = "decisions",
    data: Data = None,
    json: Json = False,
) -> None:
    """Write decisions as CSV, JSON Lines or Parquet. Every column, in the order they were logged.

    'routescope import' reads all three back.
    """
    from router.log.export import WHATS, export
    from router.log.queries import count, labels_seen, models_seen

    if what not in WHATS:
        raise InputError(f"--what: found {what[:40]!r}, expected one of {', '.join(WHATS)}")
    if format not in FORMATS:
        raise InputError(f"--format: found {format[:40]!r}, expected one of {', '.join(FORMATS)}")
    if output == "-" and json:
        raise InputError("--json reports on an export to a file; give --output FILE with it")
    if output == "-" and format == "parquet" and sys.stdout.isatty():
        raise InputError("Parquet is not for a terminal; give --output FILE, or a pipe")
    picked = chosen(
        since,
        until,
        label,
        model,
        cause,
        text,
        confidence,
        outcome,
        failed=failed,
        unmeasured=unmeasured,
        source=source,
        session_id=session,
        policy=made_by,
    )
    with reading(data) as log:
        total = count(log, picked) if what == "decisions" else None
        with progress("exporting", total, unit=what) as advance:
            target = sys.stdout.buffer if output == "-" else output
            seen = (labels_seen(log), models_seen(log)) if label or model else ([], [])
            n = export(log, picked, target, format, what=what, progress=advance)
    if output == "-":
        sys.stdout.buffer.flush()
    if json:
        emit({"rows": n, "what": what, "format": format, "output": str(Path(output).absolute())})
    _say_unknown(seen, label, model)
    rows = "decisions" if what == "decisions" else "judgements"
    say(f"{n:,} {rows} exported" + ("" if output == "-" else f" to {output}"))


def _say_unknown(
    seen: tuple[list[str], list[str]], labels: list[str] | None, models: list[str] | None
) -> None:
    """A name that no decision has finds nothing, without an error: say what the log has."""
    for option, noun, given, known in (
        ("--label", "labels", labels, seen[0]),
        ("--model", "models", models, seen[1]),
    ):
        for word in given or []:
            if word not in known:
                close = near(word, known)
                hint = f"; did you mean {', '.join(close)}?" if close else ""
                have = ", ".join(known) or "none"
                say(f"note: {option}: no decision has {word[:60]!r}; the log has the {noun} {have}{hint}")


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
