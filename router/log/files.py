"""Files of the data folder: written whole or not at all, for their owner alone, and on the disk when that is said."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import time
from pathlib import Path

TEMPORARY = ".tmp"
_CHUNK = 1 << 20
_NAME = re.compile(r"\.[0-9a-f]{8}\.tmp\Z")
_STALE_SECONDS = 10.0


def write_whole(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Put a file (mode 0600) in place in one step; ``durable`` waits for the disk."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def remove_temporary(folder: Path) -> None:
    """Remove what ``write_whole`` left in a folder when its process was killed; not what is being written now."""
    for path in folder.glob(f"*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if _NAME.search(path.name) and time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(path: Path) -> None:
    """Wait until a folder's names are on the disk; not every file system can."""
    with contextlib.suppress(OSError):
        sync_file(path)


def digest(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            total.update(chunk)
    return total.hexdigest()


def quoted(path: Path) -> str:
    """A path as a string of SQL, where it cannot be bound."""
    return "'" + str(path).replace("'", "''") + "'"


def literal(path: Path) -> str:
    """A path for DuckDB's readers, which would take ``[``, ``*`` and ``?`` in a folder's name for a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))
