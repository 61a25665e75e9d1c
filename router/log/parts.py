"""What the archive is made of: Parquet parts, and the manifest that names those of a batch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from router.errors import LogTooNew
from router.log.files import TEMPORARY, digest, literal, quoted, sync_file, sync_folder, write_whole
from router.log.spool import private_folder

if TYPE_CHECKING:
    import duckdb

ARCHIVE = "archive"
VERSION = 1
_ROW_GROUP = 50_000


@dataclass(frozen=True, slots=True)
class Part:
    """One Parquet file: its path within the archive, rows, bytes and SHA-256."""

    path: str
    rows: int
    bytes: int
    sha256: str

    @property
    def day(self) -> str | None:
        """The day (UTC) of its decisions, "unknown" for those without a time; None: other records."""
        return self.path.split("/")[0].removeprefix("day=") if "/" in self.path else None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a batch is made of. ``spools``: their bytes by name; ``absorbs``: batches whose rows it took over."""

    name: str
    spools: dict[str, int]
    absorbs: tuple[str, ...]
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """Bytes of its parts."""
        return sum(part.bytes for part in self.parts)

    @property
    def decisions(self) -> int:
        """Decisions in it."""
        return sum(part.rows for part in self.parts if part.day is not None)

    def encode(self) -> bytes:
        """The manifest as JSON."""
        return orjson.dumps(
            {"version": VERSION, "spools": self.spools, "absorbs": self.absorbs, "parts": self.parts},
            option=orjson.OPT_INDENT_2,
        )


def folder(data: Path) -> Path:
    """The archive's folder."""
    return Path(data) / ARCHIVE


def names(data: Path) -> set[str]:
    """Names of the batches whose manifests are there, also of those that another one absorbed."""
    return {path.stem for path in folder(data).glob("*.json")}


def manifests(data: Path) -> list[Manifest]:
    """Batches that count, oldest first: not those that another one absorbed, nor those whose manifest is ``broken``.

    Raises
    ------
    LogTooNew
        A manifest of a newer version.
    """
    found = [manifest for manifest in map(_read, _paths(data)) if manifest is not None]
    gone = {name for manifest in found for name in manifest.absorbs}
    return [manifest for manifest in found if manifest.name not in gone]


def broken(data: Path) -> list[str]:
    """Names of batches whose manifest cannot be read."""
    return [path.stem for path in _paths(data) if path.exists() and _read(path) is None]


def _paths(data: Path) -> list[Path]:
    return sorted(folder(data).glob("*.json"))


def _read(path: Path) -> Manifest | None:
    try:
        raw = orjson.loads(path.read_bytes())
        if raw["version"] > VERSION:
            raise LogTooNew(
                f"archive batch {path.stem} is of version {raw['version']}, this version knows up to {VERSION}; "
                "upgrade routescope"
            )
        parts = tuple(Part(**part) for part in raw["parts"])
        return Manifest(path.stem, dict(raw["spools"]), tuple(raw["absorbs"]), parts)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absorbed between listing and reading, or damaged


def write_manifest(data: Path, manifest: Manifest) -> None:
    """Put a manifest in place: from then on the batch is there, with these parts."""
    write_whole(folder(data) / f"{manifest.name}.json", manifest.encode())


def remove_manifest(data: Path, manifest: Manifest) -> None:
    """Take a batch away; its parts go after it."""
    (folder(data) / f"{manifest.name}.json").unlink(missing_ok=True)
    sync_folder(folder(data))


def write_part(
    con: duckdb.DuckDBPyConnection, data: Path, path: str, query: str, values: dict[str, Any] | None = None
) -> Part:
    """Write what a query gives as a part, wholly or not at all; ``path`` is the part's."""
    target = folder(data) / path
    private_folder(target.parent)
    temporary = target.with_name(target.name + TEMPORARY)
    try:
        row = con.execute(
            f"COPY ({query}) TO {quoted(temporary)} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})",
            values,
        ).fetchone()
        os.chmod(temporary, 0o600)
        sync_file(temporary)
        part = Part(path, int(row[0]) if row else 0, temporary.stat().st_size, digest(temporary))
        os.rename(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)
    return part


def remove_parts(data: Path, parts: tuple[Part, ...] | list[Part]) -> None:
    """Remove parts that no manifest names any more, and the folders of days that get empty."""
    for part in parts:
        path = folder(data) / part.path
        path.unlink(missing_ok=True)
        if part.day is not None:
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()


def fault(data: Path, part: Part) -> str | None:
    """What is wrong with a part, or None; reads all of it."""
    path = folder(data) / part.path
    if not path.exists():
        return "is gone"
    return None if digest(path) == part.sha256 else "is damaged"


def read_parts(paths: Iterable[Path]) -> tuple[str, dict[str, Any]]:
    """SQL that reads some parts as one table, and its values."""
    source = "read_parquet($parts, union_by_name = true, hive_partitioning = false)"
    return source, {"parts": [literal(path) for path in paths]}
