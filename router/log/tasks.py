"""Requests to whoever owns the log (``forget``, ``retention``, ``rebuild``): files, so that a crash does not undo them.

``tasks/<id>.json`` stands from before the first byte is changed until the last one is; any owner carries it out, from the
start if need be. ``tasks/<id>.done`` is the answer for the process that asked: counts, never what was asked for.
"""

from __future__ import annotations

import os
import re
import socket
import time
import uuid
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import orjson

from router.log.files import write_whole
from router.log.spool import private_folder

TASKS = "tasks"
ANSWER_SECONDS = 86_400.0
"""How long an answer waits for the process that asked."""

RETRY_SECONDS = 60.0
"""How long a request that failed is left alone."""

Kind = Literal["forget", "retention", "rebuild"]
Selector = Literal["id", "session", "prompt_hash", "days", "none"]
_NAME = re.compile(r"[0-9a-f]{32}\Z")


@dataclass(frozen=True, slots=True)
class Task:
    """One request.

    Attributes
    ----------
    selector, value : which decisions; for "days" the time (ISO, UTC) that older ones are erased from.
    more : further values of the same kind, erased in the same rewriting of the database.
    found : decisions found before the first was erased: a second start would find fewer.
    """

    id: str
    kind: Kind
    selector: Selector
    value: str
    asked_at: str
    pid: int
    host: str
    found: int | None = None
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: decisions erased, or in the new database; or an ``error``, and an erasure stays asked for."""

    decisions: int
    note: str | None = None
    error: str | None = None


def ask(data: Path, kind: Kind, selector: Selector = "none", *values: str) -> Task:
    """Write a request down."""
    private_folder(folder(data))
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    first, *more = values or ("",)
    task = Task(
        uuid.uuid4().hex, kind, selector, first, now, os.getpid(), socket.gethostname(), more=tuple(more)
    )
    save(data, task)
    return task


def save(data: Path, task: Task) -> None:
    """Write a request down again, with what was found meanwhile."""
    write_whole(folder(data) / f"{task.id}.json", orjson.dumps(asdict(task)))


def pending(data: Path, *, orphans: bool = False) -> list[Task]:
    """Requests that wait, oldest first.

    ``orphans``: only those whose process is gone, so that nobody else will do them, and that did not fail just now.
    """
    try:
        names = os.listdir(folder(data))
    except (FileNotFoundError, NotADirectoryError):
        return []
    read = (_read(folder(data) / name) for name in names if name.endswith(".json"))
    found = [task for task in read if task is not None]
    if orphans:
        found = [task for task in found if not _is_alive(task) and not _failed_just_now(data, task)]
    return sorted(found, key=lambda task: (task.asked_at, task.id))


def _read(path: Path) -> Task | None:
    if not _NAME.match(path.stem):
        return None
    try:
        found = orjson.loads(path.read_bytes())
        return Task(**{**found, "more": tuple(found.get("more", ()))})
    except (OSError, ValueError, TypeError, AttributeError):
        return None  # carried out meanwhile, or not written by us


def _failed_just_now(data: Path, task: Task) -> bool:
    path = folder(data) / f"{task.id}.done"
    found = _read_answer(path)
    try:
        return bool(found and found.error) and time.time() - path.stat().st_mtime < RETRY_SECONDS
    except OSError:
        return False


def _is_alive(task: Task) -> bool:
    if task.host != socket.gethostname():
        return True  # cannot be known
    try:
        os.kill(task.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def finish(data: Path, task: Task, decisions: int, note: str | None = None) -> None:
    """Take a request away that is carried out, and leave the answer."""
    _answer(data, task, Answer(decisions, note))
    for path in folder(data).glob(
        f"{task.id}.json*"
    ):  # with what a process left that was killed while it wrote it
        path.unlink(missing_ok=True)
    _remove_old_answers(data)


def fail(data: Path, task: Task, error: str) -> None:
    """Leave the answer that it could not be done; an erasure stays, to be tried again."""
    _answer(data, task, Answer(0, error=error))
    if task.kind == "rebuild":
        (folder(data) / f"{task.id}.json").unlink(missing_ok=True)


def _answer(data: Path, task: Task, answer: Answer) -> None:
    write_whole(folder(data) / f"{task.id}.done", orjson.dumps(asdict(answer)))


def answer(data: Path, task: Task) -> Answer | None:
    """The answer to a request, once there is one; an error is read once."""
    path = folder(data) / f"{task.id}.done"
    found = _read_answer(path)
    if found is not None:
        path.unlink(missing_ok=True)
    return found


def _read_answer(path: Path) -> Answer | None:
    try:
        return Answer(**orjson.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def withdraw(data: Path, task: Task) -> None:
    """Take a request back; an erasure that has begun stays, to be finished."""
    now = _read(folder(data) / f"{task.id}.json")
    if now is not None and not now.found:
        (folder(data) / f"{task.id}.json").unlink(missing_ok=True)


def found(data: Path, task: Task, n: int) -> Task:
    """Note how many decisions a request is about, before the first is erased."""
    task = replace(task, found=max(n, task.found or 0))
    save(data, task)
    return task


def folder(data: Path) -> Path:
    """The folder of requests."""
    return Path(data) / TASKS


def _remove_old_answers(data: Path) -> None:
    for path in folder(data).glob("*.done"):
        try:
            if time.time() - path.stat().st_mtime > ANSWER_SECONDS:
                path.unlink()
        except OSError:
            continue
