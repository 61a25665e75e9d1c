"""``rebuild``, ``retention`` and ``forget``: the database made anew, and decisions erased from everywhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.options import Data, Json, read_prompt
from router.cli.output import emit, progress, say
from router.errors import ConfigurationError, InputError

if TYPE_CHECKING:
    from router.log.selection import Selection
    from router.log.status import Activity
    from router.log.tasks import Answer, Kind

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say how many decisions it would be; erase nothing.")]

_PARTS = {"files": (0.0, 0.5), "database": (0.5, 0.5), "reading": (0.0, 0.8), "ordering": (0.8, 0.2)}
"""Where a step begins in the whole, and its share."""

_UNITS = 1000


def rebuild(data: Data = None, json: Json = False) -> None:
    """Make the database anew from archive and spools.

    Needed only when 'routescope doctor' says so: a damaged database is made again by itself.
    """
    folder = _folder(data)
    answer = _ask(folder, "rebuild", None, "rebuilding")
    if json:
        emit({"decisions": answer.decisions, "note": answer.note, "data": folder.absolute()})
    else:
        typer.echo(f"{_decisions(answer.decisions)} in the new database")
    if answer.note:
        say(f"note: {answer.note}")


def retention(
    days: Annotated[
        int,
        typer.Option(
            "--days",
            min=1,
            max=100_000,
            show_default=False,
            help="Erase decisions older than this many days.",
        ),
    ],
    dry_run: DryRun = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Erase old decisions everywhere. Feedback on them goes too.

    They are gone from database, archive and spools; a running dashboard does it at once.
    """
    from router.log.selection import Selection

    cutoff = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(days=days)
    _erase("retention", Selection.of("days", cutoff.isoformat()), dry_run, data, json)


def forget(
    id: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", show_default=False, help="The decision with this id."),
    ] = None,
    session: Annotated[
        list[str] | None,
        typer.Option("--session", metavar="NAME", show_default=False, help="Every decision of this session."),
    ] = None,
    prompt_hash: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt-hash",
            metavar="SHA256",
            show_default=False,
            help="Every decision about the prompt with this hash.",
        ),
    ] = None,
    prompt_file: Annotated[
        list[str] | None,
        typer.Option(
            "--prompt-file",
            metavar="FILE|-",
            show_default=False,
            help="Every decision about the prompt in this file; - is standard input.",
        ),
    ] = None,
    dry_run: DryRun = False,
    data: Data = None,
    json: Json = False,
) -> None:
    """Erase chosen decisions everywhere. Give one of the four options, as often as needed: the file is rewritten once.

    They and the feedback on them are gone from database, archive and spools: not one byte is left in the data folder.
    Lines too damaged to say whose they are go with them.
    """
    from router.log.selection import Selection

    if (prompt_file or []).count("-") > 1:
        raise InputError("found --prompt-file - more than once; standard input can be read once")
    given = [x for x in (id, session, prompt_hash, prompt_file) if x]
    if len(given) != 1:
        raise InputError(
            f"found {len(given)} of --id, --session, --prompt-hash and --prompt-file, expected exactly one of them"
        )
    if id:
        chosen = Selection.of("id", *id)
    elif session:
        chosen = Selection.of("session", *session)
    else:
        chosen = Selection.of("prompt_hash", *(prompt_hash or map(_hash_of_file, given[0])))
    _erase("forget", chosen, dry_run, data, json)


def _erase(kind: Kind, chosen: Selection, dry_run: bool, data: Path | None, json: bool) -> None:
    folder = _folder(data)
    if dry_run:
        n = _count(folder, chosen)
    else:
        n = _ask(folder, kind, chosen, "erasing").decisions
    if json:
        emit({"decisions": n, "by": chosen.selector, "dry_run": dry_run, "data": folder.absolute()})
    elif n == 0:
        found = "no decision is that old" if kind == "retention" else "no such decision"
        typer.echo(f"{found}; nothing to erase")
    elif dry_run:
        typer.echo(f"{_decisions(n)} would be erased")
    else:
        typer.echo(f"{_decisions(n)} erased from database, archive and spools")


def _count(folder: Path, chosen: Selection) -> int:
    from router.log.reader import open_log

    with open_log(folder) as log:
        query = f"SELECT count(*) FROM decisions WHERE {chosen.in_table}"
        return int(log.rows(query, chosen.bound)[0][0])


def _ask(folder: Path, kind: Kind, chosen: Selection | None, text: str) -> Answer:
    from router.log.archive import has_log
    from router.log.tasks import Answer
    from router.log.upkeep import request

    if not has_log(folder):
        return Answer(0)
    selector, values = ("none", ()) if chosen is None else (chosen.selector, chosen.values)
    with _reporting(text) as report:
        return request(
            folder,
            kind,
            selector,
            *values,
            report=report,
            waiting_for=lambda pid: say(f"process {pid} owns the log (a dashboard): it does this now"),
        )


@contextmanager
def _reporting(text: str) -> Iterator[Callable[[Activity], None]]:
    with progress(text, _UNITS) as advance:
        shown = 0

        def report(activity: Activity) -> None:
            nonlocal shown
            start, width = _PARTS.get(activity.step, (0.0, 1.0))
            now = round((start + width * activity.share) * _UNITS)
            if now > shown:
                advance(now - shown)
                shown = now

        yield report


def _folder(data: Path | None) -> Path:
    from router.config import data_dir

    folder = data_dir(data)
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is no folder; expected the data folder, give it with --data")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigurationError(f"{folder} cannot be written: permission denied; allow it or use --data")
    return folder


def _hash_of_file(source: str) -> str:
    return hashlib.sha256(_prompt(source).encode("utf-8", "replace")).hexdigest()


def _prompt(source: str) -> str:
    if source == "-":
        return read_prompt("-")
    try:
        raw = Path(source).read_bytes()
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror or type(error).__name__}") from None
    return raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")


def _decisions(n: int) -> str:
    return f"{n:,} {'decision' if n == 1 else 'decisions'}"
