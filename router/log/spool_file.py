"""The file that a process appends to: opened when needed, checked before every write, given up when it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.1
"""How often it is looked whether the file is still there, and in place: what is written to a deleted one is lost."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class SpoolFile:
    """``<folder>/<host>-<pid>-<start>-<rand>.jsonl``, a new one whenever the last is full, failed, deleted or moved.

    Whole lines are all that ever stands in it, but for the last one of a process that was killed. Not thread-safe.

    Parameters
    ----------
    opened : called with the path of a file that was just made.
    retire : takes over the descriptor of a file that is not written to any more; None closes it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        roll_bytes: int,
        system: Any = os,
        opened: Callable[[Path], None] | None = None,
        retire: Callable[[int], None] | None = None,
    ) -> None:
        self.folder = folder
        self.path: Path | None = None
        self.kept = 0
        """Bytes at the start of the lines that failed last which are in a file all the same."""
        self._roll_bytes = roll_bytes
        self._os = system
        self._opened = opened
        self._retire = retire
        self._fd = -1
        self._inode = (0, 0)
        self._size = 0
        self._is_torn = False
        self._look_at = 0.0

    def append(self, lines: bytes) -> None:
        """Write whole lines, in one call to the system where nothing is out of the ordinary.

        Raises
        ------
        OSError, MemoryError
            None of them is there, but for those in ``kept``. The next call starts with a clean file.
        """
        self.kept = 0
        try:
            # A descriptor that became another file's does not stand where our last write ended.
            if not (
                0 < self._size <= self._roll_bytes - len(lines)
                and not self._is_torn
                and time.monotonic() < self._look_at
                and self._os.lseek(self._fd, 0, os.SEEK_CUR) == self._size
            ):
                self._ready(len(lines))
            self._write(lines)
            return
        except OSError as error:
            if error.errno in _FULL or not self._size:
                self._give_up(error)
                raise  # a new file would fare no better
        except BaseException as error:
            self._give_up(error)
            raise
        try:
            self.close()
            self._ready(len(lines))
            self._write(lines[self.kept :])
        except BaseException as error:
            self._give_up(error)
            raise

    def ready(self) -> Path:
        """The path of a file that can be written to."""
        self._ready(0)
        assert self.path is not None
        return self.path

    def close(self) -> None:
        """Give the file up; an empty one is taken away, or every failure would leave another behind."""
        fd, self._fd = self._fd, -1
        self._size, self._is_torn = 0, False
        if fd < 0:
            return
        try:
            found = self._os.fstat(fd)
        except Exception as error:
            if getattr(error, "errno", None) == errno.EBADF:
                return
        else:
            if (found.st_dev, found.st_ino) != self._inode:
                return
            if not found.st_size and self.path is not None:
                with contextlib.suppress(Exception):
                    self._os.unlink(self.path)
            elif self._retire is not None:
                self._retire(fd)
                return
        with contextlib.suppress(Exception):
            self._os.close(fd)

    def duplicate(self) -> list[int]:
        """A second descriptor of the file, the caller's to close; none when no file is open."""
        return [self._os.dup(self._fd)] if self._fd >= 0 else []

    def after_fork(self) -> None:
        """Close this process's copy of the descriptor; the file is the parent's."""
        fd, self._fd, self.path = self._fd, -1, None
        self._size, self._is_torn = 0, False
        with contextlib.suppress(OSError):
            found = os.fstat(fd)
            if (found.st_dev, found.st_ino) == self._inode:
                os.close(fd)

    def _write(self, lines: bytes) -> None:
        self._is_torn = True  # until it is known that the file ends with a whole line
        try:
            done = self._os.write(self._fd, lines)
        except OSError:
            self._is_torn = False  # nothing of it is there
            raise
        if done != len(lines):
            self._write_rest(lines, done)
        self._size += len(lines)
        self._is_torn = False

    def _write_rest(self, lines: bytes, done: int) -> None:
        """Go on after a short write, which is how a full disk first shows; else cut it off, so that the next line is whole."""
        try:
            while done < len(lines):
                more = self._os.write(self._fd, lines[done:])
                if more <= 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                done += more
        except OSError as error:
            try:
                self._os.ftruncate(self._fd, self._os.fstat(self._fd).st_size - done)
            except OSError:  # the file is given up, with the lines that are whole
                self.kept += lines.rfind(b"\n", 0, done) + 1
            else:
                self._is_torn = False
            raise error

    def _give_up(self, error: BaseException) -> None:
        # On a full disk the file is kept. Else the folder may have been deleted or replaced: the next append starts anew.
        if self._is_torn or not isinstance(error, OSError) or error.errno not in _FULL:
            self.close()

    def _ready(self, more: int) -> None:
        """Look closely whether ``more`` bytes can go into the file, and open another one if not."""
        if self._fd < 0 or not self._is_usable(more):
            self._open()
        self._look_at = time.monotonic() + LOOK_SECONDS

    def _is_usable(self, more: int) -> bool:
        try:
            found = self._os.fstat(self._fd)
        except OSError as error:
            if error.errno == errno.EBADF:
                self._fd = -1
            return False
        if (found.st_dev, found.st_ino) != self._inode:
            # Closed behind our back, and the number is another file's by now: not ours to close.
            self._fd = -1
            return False
        self._size = found.st_size
        if self._is_torn or not found.st_nlink or (self._size and self._size + more > self._roll_bytes):
            return False
        return self._is_in_place()

    def _is_in_place(self) -> bool:
        """Whether the folder still has the file: else nobody would read what is written to it."""
        try:
            found = self._os.stat(self.path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._inode

    def _open(self) -> None:
        self.close()
        private_folder(self.folder, self._os)
        path = self.folder / _file_name()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = self._os.open(path, flags, 0o600)
        try:
            found = self._os.fstat(fd)
        except BaseException:
            self._os.close(fd)
            raise
        import fcntl  # here, so that Windows can be told what is missing

        with contextlib.suppress(OSError):
            # Held while this process lives: whoever gets it knows that an unfinished last line will stay unfinished.
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._fd, self._inode, self.path = fd, (found.st_dev, found.st_ino), path
        if self._opened is not None:
            self._opened(path)


def private_folder(path: Path, system: Any = os) -> None:
    """Make a folder and its missing parents, all of mode 0700; ``mkdir(parents=True)`` leaves parents to the umask."""
    if not path.is_dir():
        if path.parent != path:
            private_folder(path.parent, system)
        try:
            system.mkdir(path, 0o700)
        except FileExistsError:
            if not path.is_dir():
                raise


def _file_name() -> str:
    host = re.sub(r"[^A-Za-z0-9_.]", "_", socket.gethostname())[:40] or "host"
    return f"{host}-{os.getpid()}-{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}.jsonl"
