"""Carrying out what is asked of the log's owner: erasing decisions everywhere, or making the database anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from router.errors import LogError, LogLocked
from router.log import rewrite, tasks
from router.log.compaction import compact
from router.log.drawn import erase_drawn
from router.log.erasure import erase_from_archive, erase_from_spools, erase_rejects
from router.log.ingest import ingest_all
from router.log.lock import UPKEEP, OwnerLock, holder
from router.log.record import erasure_payload
from router.log.recovery import open_database, remove_damaged
from router.log.selection import Selection, count, feedback_in_table, judged, span
from router.log.spool import Spool
from router.log.status import Activity, read
from router.log.tasks import Answer, Kind, Selector, Task

if TYPE_CHECKING:
    import duckdb

WAIT_SECONDS = 30.0
"""How long others' short turns are waited out."""

_POLL_SECONDS = 0.05

Report = Callable[[Activity], None]
Swap = Callable[[rewrite.Fresh], "duckdb.DuckDBPyConnection"]
"""Closes the old database, puts the new file in its place and opens it."""


def carry_out(con: duckdb.DuckDBPyConnection, data: Path, task: Task, *, swap: Swap, report: Report) -> None:
    """Do what a task asks for, and take it away. The caller holds the lock."""
    note = None
    if task.kind == "rebuild":
        fresh = rewrite.rebuilt(
            data,
            advance=_Steps(task, "reading", rewrite.work(data), report),
            ordering=lambda done, total: report(Activity(task.kind, "ordering", done, total)),
        )
        n, before = fresh.decisions, rewrite.rows(con)
        if n < before:
            fresh = replace(fresh, keeps_old=True)
            note = (
                f"the old database held {before:,} decisions, {before - n:,} of them in neither archive nor spools; it is kept "
                "in the folder 'damaged'"
            )
        con = swap(fresh)
    else:
        con, n = _erase(con, data, task, swap, report)
        erase_drawn(con, data)  # now that the generation has moved on: a draw from older rows is refused
        if n and not _is_noted(con, task):
            _note_erasure(data, task, n)
        ingest_all(con, data)
        if task.kind == "retention":
            compact(con, data, min_spools=1)  # what was overwritten in spools gives its space back
    con.execute("CHECKPOINT").fetchall()
    tasks.finish(data, task, n, note)


def _erase(
    con: duckdb.DuckDBPyConnection, data: Path, task: Task, swap: Swap, report: Report
) -> tuple[duckdb.DuckDBPyConnection, int]:
    selection = Selection(task.selector, (task.value, *task.more))
    ingest_all(con, data)
    task = tasks.found(data, task, count(con, selection))
    ids, days = judged(con, selection), span(con, selection)
    feedback = feedback_in_table(selection, ids)
    n_feedback = con.execute(f"SELECT count(*) FROM feedback WHERE {feedback}").fetchone()
    step = _Steps(task, "files", rewrite.work(data), report)
    gone = erase_from_spools(data, selection, ids, advance=step)
    if task.kind == "forget":
        erase_rejects(con, data)
    gone += erase_from_archive(con, data, selection, ids, advance=step)
    remove_damaged(data)
    n = max(task.found or 0, gone)
    if not n and n_feedback == (0,):
        return con, 0
    con.execute(f"SET memory_limit = '{rewrite.MEMORY}'").fetchall()
    try:
        fresh = rewrite.copy(
            con,
            data,
            leave_out={"decisions": selection.literal(selection.in_table), "feedback": feedback},
            span=days,
            advance=_Steps(task, "database", rewrite.rows(con), report),
        )
    finally:
        con.execute("RESET memory_limit").fetchall()
    return swap(fresh), n


def _is_noted(con: duckdb.DuckDBPyConnection, task: Task) -> bool:
    """Whether a start before this one came as far as that."""
    query = "SELECT 1 FROM erasures WHERE selector = $selector AND erased_at = CAST($at AS TIMESTAMP)"
    return bool(con.execute(query, {"selector": task.selector, "at": task.asked_at}).fetchall())


def _note_erasure(data: Path, task: Task, n: int) -> None:
    spool = Spool(data)
    written = spool.append(erasure_payload(task.selector, n, datetime.fromisoformat(task.asked_at)))
    spool.close()
    if not written:
        raise LogError("the erasure is done but could not be noted in the spool; it is noted at the next try")


class _Steps:
    """Adds up what is done of a step and reports it."""

    def __init__(self, task: Task, step: str, total: int, report: Report) -> None:
        self._task, self._step, self._total, self._report = task, step, total, report
        self._done = 0
        self(0)

    def __call__(self, n: int) -> None:
        self._done += n
        self._report(Activity(self._task.kind, self._step, self._done, self._total))


class Here:
    """A connection that nobody else uses, and tasks carried out with it: its database may be another file afterwards."""

    def __init__(self, con: duckdb.DuckDBPyConnection, data: Path) -> None:
        self.con = con
        self.data = data

    def run(self, task: Task, report: Report = lambda activity: None) -> None:
        """Carry a task out."""
        carry_out(self.con, self.data, task, swap=self._swap, report=report)

    def _swap(self, fresh: rewrite.Fresh) -> duckdb.DuckDBPyConnection:
        self.con.close()
        rewrite.put_in_place(self.data, fresh)
        self.con = open_database(self.data)
        return self.con


def request(
    data: Path,
    kind: Kind,
    selector: Selector = "none",
    *values: str,
    report: Report = lambda activity: None,
    waiting_for: Callable[[int], None] = lambda pid: None,
    wait_s: float = WAIT_SECONDS,
) -> Answer:
    """Have something done by whoever owns the log, or here when nobody does; returns when it is done.

    Parameters
    ----------
    report : gets how far it is.
    waiting_for : gets the process that does it, when that is another one.
    wait_s : how long others' short turns are waited out (seconds).

    Raises
    ------
    LogLocked
        Others kept taking turns; the request is taken back.
    LogError
        It could not be done. An erasure that was begun stays asked for: the next owner finishes it.
    """
    data = Path(data)
    task = tasks.ask(data, kind, selector, *values)
    try:
        return _wait(data, task, report, waiting_for, wait_s)
    except BaseException:
        tasks.withdraw(data, task)
        raise


def _wait(
    data: Path, task: Task, report: Report, waiting_for: Callable[[int], None], wait_s: float
) -> Answer:
    deadline = time.monotonic() + wait_s
    lock = OwnerLock(data)
    said = 0
    while True:
        if lock.acquire(UPKEEP):
            try:
                return _do_here(data, task, report)
            finally:
                lock.release()
        if (found := tasks.answer(data, task)) is not None:
            if found.error is not None:
                raise LogError(found.error)
            return found
        who = holder(data)
        if who is not None and who.stays:
            deadline = time.monotonic() + wait_s
            if who.pid != said:
                said = who.pid
                waiting_for(who.pid)
            status = read(data)
            if status is not None and status.activity is not None:
                report(status.activity)
        elif time.monotonic() > deadline:
            pid = who.pid if who is not None else 0
            raise LogLocked(
                f"another process (PID {pid}) has held the log for {wait_s:.0f} s; try again when it is done"
            )
        time.sleep(_POLL_SECONDS)


def _do_here(data: Path, task: Task, report: Report) -> Answer:
    if (found := tasks.answer(data, task)) is not None and found.error is None:
        return found  # its owner did it and ended
    here = Here(open_database(data), data)
    try:
        here.run(task, report)
        ingest_all(here.con, data)  # what others left to this owner, which seemed to stay
    finally:
        here.con.close()
    return tasks.answer(data, task) or Answer(0)
