"""Opening the database whatever state it is in: what is damaged is moved aside and made again from archive and spools."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from router.errors import LogDamaged, LogError
from router.log.archive import is_fresh, load, noted_generation, settle
from router.log.compaction import tidy
from router.log.files import remove_temporary, sync_folder, write_whole
from router.log.parts import manifests
from router.log.schema import DATABASE, connect, generation, is_damage, is_fatal, set_meta
from router.log.spool import private_folder
from router.log.tasks import TASKS

if TYPE_CHECKING:
    import duckdb

DAMAGED = "damaged"
KEPT = 3
"""Damages whose files are kept: they must not fill the disk."""

SAID_FOR = timedelta(days=1)
"""How long pages mention a damage that was mended."""

NEW, STAGE = ".new", ".stage"
_SUSPECT, _LAST = "suspect", "last.json"
_RETRIES, _RETRY_SPAN = 3, timedelta(minutes=10)
_logger = logging.getLogger("routescope")

Progress = Callable[[int, int], None]
"""Gets how much of how much is done."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What was found broken and mended. ``kept``: files in ``damaged``; ``lost``: parts of the archive that cannot be read."""

    at: datetime
    what: str
    kept: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    earlier: tuple[datetime, ...] = ()

    @property
    def sentence(self) -> str:
        """The same for people."""
        kept = " The damaged file is kept in the folder 'damaged'." if self.kept else ""
        text = f"{self.at:%Y-%m-%d %H:%M} UTC: the database {self.what}; what it held came back from archive and spools."
        if self.lost:
            return f"{text} The archive is not whole: {'; '.join(self.lost[:3])}; put these files back from a backup.{kept}"
        return f"{text} No decision is lost.{kept}"


def open_database(data: Path, *, progress: Progress | None = None) -> duckdb.DuckDBPyConnection:
    """The database of a folder, sound, migrated, and with all that the archive holds. The caller holds the owner's lock.

    Raises
    ------
    LogTooNew, LogLocked
        A file that is not touched: from a newer version, or open elsewhere.
    LogError
        The system refuses access, or the disk is full.
    """
    path = Path(data) / DATABASE
    if path.exists() and not path.is_file():
        raise LogError(f"{path.name} is no file, expected the database; move it away")
    _remove_leftovers(path)
    what, kept = _suspicion(path), []
    con, is_empty = None, True
    if what is None:
        con, is_empty, what = _try(data)
        if con is None and _wal(path).exists():
            kept += set_aside(data, [_wal(path)])  # the file as its last checkpoint left it may be sound
            con, is_empty, again = _try(data)
            what = f"{what} with its write-ahead log" if again is None else again
    if con is None:
        kept += set_aside(data, [path, _wal(path)])
        con, is_empty = connect(path), True
    try:
        lost = _fill(con, data, progress) if is_empty else None
        if what is None and lost is not None:
            what = "was not there, or empty"
        if what is not None:
            _record(data, what, kept, lost or [])
        tidy(con, data)
    except BaseException:
        con.close()
        raise
    return con


def _try(data: Path) -> tuple[duckdb.DuckDBPyConnection | None, bool, str | None]:
    """The open database and whether it is to be filled; or what is wrong with it.

    The exception ends here: it would keep a broken instance alive.
    """
    import duckdb

    con, is_empty = None, False
    try:
        con = connect(Path(data) / DATABASE)
        # Some damage shows only when tables are looked at.
        con.execute(_counts(tuple(tables(con)))).fetchall()
        is_empty = is_fresh(con)
        what = None if is_empty else _outdated(con, data)
    except LogDamaged:
        what = "could not be opened"
    except duckdb.Error as error:
        what = "was damaged" if is_damage(error) or is_fatal(error) else None
        if what is None:
            if con is not None:
                con.close()
            raise
    if what is None:
        return con, is_empty, None
    if con is not None:
        con.close()
    return None, False, what


def _outdated(con: duckdb.DuckDBPyConnection, data: Path) -> str | None:
    if generation(con) < noted_generation(data):
        return "was an older copy, from before rows were erased"
    return None if settle(con, data) else "did not hold what the archive holds"


@cache
def _counts(names: tuple[str, ...]) -> str:
    return " UNION ALL ".join(f"SELECT count(*) FROM {name}" for name in names)


def tables(con: duckdb.DuckDBPyConnection) -> list[str]:
    """Names of the log's tables."""
    rows = con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() AND NOT temporary ORDER BY 1"
    ).fetchall()
    return [str(name) for (name,) in rows]


def _fill(con: duckdb.DuckDBPyConnection, data: Path, progress: Progress | None) -> list[str] | None:
    """Bring the archive into a database that holds nothing; None when there was nothing to do."""
    if noted_generation(data) > generation(con):
        set_meta(con, "generation", str(noted_generation(data)))
    total, done = sum(manifest.size for manifest in manifests(data)), 0
    if not total:
        return None

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    lost = load(con, data, progress=advance)
    con.execute("CHECKPOINT").fetchall()
    return lost


def suspect(data: Path, what: str = "was damaged") -> bool:
    """Have whoever opens the database next make it again; False when that was done several times within minutes.

    For damage that shows only when rows are read.
    """
    last = last_damage(data)
    now = _now()
    if last is not None:
        recent = [at for at in (last.at, *last.earlier) if now - at < _RETRY_SPAN]
        if len(recent) >= _RETRIES:
            return False
    folder = _damaged_folder(data)
    if not (folder / _SUSPECT).exists():
        write_whole(folder / _SUSPECT, what.encode())
        _logger.error("routescope: the database %s; it is made again from archive and spools", what)
    return True


def is_suspect(data: Path) -> bool:
    """Whether the database is to be made again."""
    return (Path(data) / DAMAGED / _SUSPECT).exists()


def last_damage(data: Path) -> Damage | None:
    """The last damage that was mended, if any."""
    try:
        raw = orjson.loads((Path(data) / DAMAGED / _LAST).read_bytes())
        times = [datetime.fromisoformat(text) for text in raw["earlier"]]
        at = datetime.fromisoformat(raw["at"])
        return Damage(at, raw["what"], tuple(raw["kept"]), tuple(raw["lost"]), tuple(times))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damage_note(data: Path, now: datetime | None = None) -> str:
    """A sentence about a damage of the last day, else "". ``now``: UTC; None: the clock's."""
    last = last_damage(data)
    return "" if last is None or (now or _now()) - last.at > SAID_FOR else last.sentence


def remove_damaged(data: Path) -> None:
    """Remove the copies of damaged files: they may hold what is to be erased."""
    for path in (Path(data) / DAMAGED).glob(f"{DATABASE}*"):
        path.unlink(missing_ok=True)


def _suspicion(path: Path) -> str | None:
    folder = path.parent / DAMAGED
    with contextlib.suppress(OSError):
        return (folder / _SUSPECT).read_text() or "was damaged"
    # DuckDB would take a new file and an old log for one database.
    return "was gone and had left its write-ahead log" if _wal(path).exists() and not path.exists() else None


def set_aside(data: Path, paths: list[Path]) -> list[str]:
    """Move files into ``damaged``, where the newest few are kept; returns their names there."""
    folder, now = _damaged_folder(data), _now()
    stamp = f"{now:%Y%m%dT%H%M%S%f}"
    kept = []
    try:
        for path in paths:
            if path.exists():
                os.rename(path, folder / f"{path.name}-{stamp}")
                os.chmod(folder / f"{path.name}-{stamp}", 0o600)
                kept.append(f"{path.name}-{stamp}")
    except OSError as error:
        raise LogError(
            f"the damaged {path.name} cannot be moved aside ({error.strerror}); move it elsewhere: archive and spools "
            "hold every decision"
        ) from None
    stamps = sorted({x.name.rsplit("-", 1)[1] for x in folder.glob(f"{DATABASE}*-*")}, reverse=True)
    for old in stamps[KEPT:]:
        for path in folder.glob(f"{DATABASE}*-{old}"):
            path.unlink(missing_ok=True)
    sync_folder(folder)
    sync_folder(Path(data))
    return kept


def _record(data: Path, what: str, kept: list[str], lost: list[str]) -> None:
    folder, last = _damaged_folder(data), last_damage(data)
    earlier = () if last is None else (last.at, *last.earlier)[:_RETRIES]
    damage = Damage(_now(), what, tuple(kept), tuple(lost), earlier)
    write_whole(folder / _LAST, orjson.dumps(asdict(damage)))
    (folder / _SUSPECT).unlink(missing_ok=True)
    _logger.warning("routescope: %s", damage.sentence)


def _damaged_folder(data: Path) -> Path:
    folder = Path(data) / DAMAGED
    private_folder(folder)
    return folder


def _remove_leftovers(path: Path) -> None:
    """What a rewriting that was interrupted left; none of it was in force."""
    for ending in (NEW, STAGE):
        for leftover in path.parent.glob(f"{path.name}{ending}*"):
            if leftover.is_file():
                leftover.unlink(missing_ok=True)
    for folder in (path.parent, path.parent / DAMAGED, path.parent / TASKS):
        remove_temporary(folder)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
