"""Ends a process at each of its file operations in turn, and looks at what the next one makes of what is left.

Run in a fresh interpreter that has no database open: every round is a forked child.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from log_tables import contents

from router.log import tasks, upkeep
from router.log.compaction import compact
from router.log.ingest import ingest_all
from router.log.inserting import warm_up
from router.log.lock import OwnerLock
from router.log.owner import take_turn
from router.log.reader import open_log
from router.log.recovery import open_database
from router.log.schema import DATABASE

CRASHED = 9


def exit_at(number: int, folder: Path) -> None:
    """End this process just before its n-th operation that changes a file of a folder."""
    seen = 0

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if not (writes or event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")):
            return
        if str(args[0]).startswith(str(folder)):
            seen += 1
            if seen == number:
                os._exit(CRASHED)

    sys.addaudithook(hook)


SMALL_BATCHES = 4
"""Batches that are put together: few, so that the tests that make them are short."""


def compacting(data: Path) -> None:
    """Archive every ended spool, small batches together."""
    lock = OwnerLock(data)
    assert lock.acquire("ingest")
    con = open_database(data)
    ingest_all(con, data)
    compact(con, data, min_spools=1, min_batches=SMALL_BATCHES)
    con.close()
    lock.release()


def asked(data: Path) -> None:
    """Carry out the request that stands in the folder ``tasks``, as the next owner would."""
    lock = OwnerLock(data)
    assert lock.acquire("upkeep")
    here = upkeep.Here(open_database(data), data)
    for task in tasks.pending(data):
        here.run(task)
    here.con.close()
    lock.release()


def digest_of(data: Path) -> str:
    """A digest of everything that the log holds, as the next owner opens it; then again from archive and spools alone."""
    found = []
    for _ in range(2):
        with open_log(data) as log:
            assert log.mode == "file"
            found.append(repr(contents(log._con)))
        (data / DATABASE).unlink()
    assert found[0] == found[1]
    return hashlib.sha256(found[0].encode()).hexdigest()


def leftovers(data: Path) -> list[str]:
    """Files that no finished work leaves."""
    # What write_whole leaves is removed ten seconds later: it may be another process's.
    names = [
        path.relative_to(data).as_posix()
        for path in data.rglob("*")
        if path.is_file() and not re.search(r"\.[0-9a-f]{8}\.tmp\Z", path.name)
    ]
    marks = (".tmp", "/busy", ".new", ".stage", ".wal")
    return sorted(
        name for name in names if name.endswith(marks) or (name.startswith("tasks/") and ".json" in name)
    )


def holding(data: Path, text: bytes) -> list[str]:
    """Files that hold some bytes."""
    return [
        str(path.relative_to(data))
        for path in data.rglob("*")
        if path.is_file() and text in path.read_bytes()
    ]


def in_child(work: Callable[[], None]) -> int:
    """Exit code of a forked child that did some work."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def rounds(operation: str, source: Path, work: Path, step: int, needles: list[str]) -> dict[str, Any]:
    """Crash an operation on copies of a folder at every ``step``-th point; what each crash left, in the end.

    ``needles``: texts that must then be in no file.
    """
    run = {"compact": compacting, "ask": asked}[operation]
    warm_up()  # once here, not in each child: it leaves no database open
    report: dict[str, Any] = {"crashes": 0, "digests": {}, "leftovers": []}
    number = 1
    while True:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(source, work)

        def crash(number: int = number) -> None:
            exit_at(number, work)
            run(work)

        code = in_child(crash)
        assert code in (0, CRASHED), (code, number)
        answer = work.with_suffix(".answer")

        def look(answer: Path = answer) -> None:
            take_turn(work, role="ingest")
            left = leftovers(work) + [
                f"{path}: {text}" for text in needles for path in holding(work, text.encode())
            ]
            answer.write_text(json.dumps([digest_of(work), left]))

        assert in_child(look) == 0, number
        digest, left = json.loads(answer.read_text())
        report["digests"].setdefault(digest, []).append(number)
        report["leftovers"] += [[number, name] for name in left]
        if code == 0:
            report["crashes"] = number - 1
            return report
        number += step


if __name__ == "__main__":
    print(
        json.dumps(rounds(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]))
    )
