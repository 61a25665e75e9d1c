"""A system whose calls fail at random, or block: handed to a Spool in place of ``os``."""

from __future__ import annotations

import errno
import os
import random
import threading
from typing import Any

KINDS = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EINTR, errno.EAGAIN, errno.EBADF, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENOENT, errno.ENOTDIR, errno.EMFILE, errno.ENFILE, errno.EFBIG, errno.ESTALE, errno.ENOMEM, errno.EINVAL,
)  # fmt: skip
CALLS = (
    "open",
    "write",
    "fstat",
    "ftruncate",
    "close",
    "stat",
    "mkdir",
    "unlink",
    "pwrite",
    "lseek",
    "dup",
    "fdatasync",
    "fsync",
)


class FaultySystem:
    """``os``, but a share of the calls raises one of KINDS or MemoryError, or writes a part only. ``calm`` ends it.

    A failing ``close`` has closed, as on Linux: the number may be anybody's by then.
    """

    def __init__(self, rng: random.Random, share: float = 0.3) -> None:
        self.rng = rng
        self.share = share
        self.calm = False
        self.injected = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in CALLS:
            return real

        def call(*args: Any) -> Any:
            if self.calm or self.rng.random() > self.share:
                return real(*args)
            self.injected += 1
            if name == "write" and self.rng.random() < 0.5:
                return real(args[0], args[1][: self.rng.randrange(len(args[1]))])
            if name == "close":
                real(*args)
            if self.rng.random() < 0.05:
                raise MemoryError
            kind = self.rng.choice(KINDS)
            if name == "unlink" and kind == errno.ENOENT:
                kind = errno.EIO  # no system says of a file that is there that it is not
            raise OSError(kind, os.strerror(kind))

        return call


class FullDisk:
    """``os``, but ``write`` finds no space left while ``is_full``."""

    def __init__(self, *, is_full: bool = False) -> None:
        self.is_full = is_full

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, text: bytes) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, text)


class BlockedSystem:
    """``os``, but ``write`` (or another call) waits until ``gate`` is set."""

    def __init__(self, name: str = "write") -> None:
        self.name = name
        self.gate = threading.Event()
        self.entered = threading.Event()

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name != self.name:
            return real

        def call(*args: Any) -> Any:
            self.entered.set()
            assert self.gate.wait(60)
            return real(*args)

        return call
