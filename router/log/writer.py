"""The router's side of the log: append to the spool, and bring the rows into DuckDB in short turns."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import queue
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.errors import InputError, LogError, LogLocked
from router.log.forks import no_fork
from router.log.privacy import Privacy, Redact
from router.log.record import MAX_LINE_BYTES, decision_payload
from router.log.spool import Spool
from router.policy import Policy
from router.types import Decision, Durability

if TYPE_CHECKING:
    from router.log.judging import Judgement

TURN_SECONDS = 0.5
RETRY_SECONDS = 10 * TURN_SECONDS
"""How long a turn that failed waits for the next, and how often an owner that stays is looked for."""

_CLOCK_STEP_NS = 100_000_000  # more than a file's time may lag behind the clock
_logger = logging.getLogger("routescope")
_writers: weakref.WeakSet[Writer] = weakref.WeakSet()
_closes_first = False
_closes_in_worker = False
_forked_midway = False
"""This process was forked while DuckDB may have been at work: its locks may be held by threads that are not here."""


class Writer:
    """Logs decisions of one process into ``data``.

    ``log`` appends to the spool and returns. A thread takes short turns as owner, so that rows are in DuckDB within
    about a second, unless a dashboard owns the log: then it does that. ``close`` waits until they are.

    Parameters
    ----------
    turns : False leaves the rows to ``close``, or to an owner.
    prompts, redact : what is stored of a prompt; see ``Privacy``.
    durability : see ``Spool``.

    Raises
    ------
    ConfigurationError
        A value that is not one of those.
    """

    def __init__(
        self,
        data: Path,
        *,
        turns: bool = True,
        prompts: str = "full",
        redact: str | Redact = "off",
        durability: Durability = "process",
    ) -> None:
        self.data = Path(data)
        self.privacy = Privacy(prompts, redact)
        self._keeps_all = self.privacy.keeps_all
        self.spool = Spool(self.data, durability=durability)
        self._turns = turns
        self._policies: set[str] = set()
        self._thread: threading.Thread | None = None
        self._reset()
        self._closed = False
        self._said = ""
        self._has_children = False
        self._flushed_ns = 0
        self._pid = os.getpid()
        _writers.add(self)

    @property
    def dropped(self) -> Counter[str]:
        """Records of this process that could not be written, by reason."""
        return self.spool.dropped

    def log(self, decision: Decision, policy: Policy | None = None) -> bool:
        """Append a decision (and, once, the policy behind it); False when it had to be dropped. Never raises."""
        try:
            written = self.spool.append(
                decision if self._keeps_all else decision_payload(decision, self.privacy)
            )
            if written and not self._is_due:
                self._rows_wait()
            # After the decision, and not at all when that failed: drops are to count decisions.
            if written and policy is not None and policy.fingerprint not in self._policies:
                self._log_policy(policy, decision.decided_at)
        except Exception as error:  # a record that is none
            return self.spool.drop(f"cannot be logged ({type(error).__name__})")
        return written

    def append(self, record: Mapping[str, Any] | Decision) -> bool:
        """Append a record as it is."""
        written = self.spool.append(record)
        if written and not self._is_due:
            self._rows_wait()
        return written

    def judge(self, judgement: Judgement, judged_at: datetime) -> bool:
        """Append what a person said; False when it had to be dropped. No trouble with files or disks raises.

        A draw that cannot be read just now drops a judgement that needs it: the decision waits on for its queue.

        Raises
        ------
        InputError
            See ``Judgement.record``.
        """
        from router.log.drawn import DRAWN, read_drawn

        try:
            drawn = () if judgement.queue is None else read_drawn(self.data)
        except LogError as error:
            self._say(f"{DRAWN} is needed to know why a decision is judged", error)
            try:
                record = judgement.record((), judged_at)
            except InputError:
                return self.spool.drop(f"{DRAWN} cannot be read")
        else:
            record = judgement.record(drawn, judged_at)
        return self.append(record)

    def _rows_wait(self) -> None:
        # Started first: after a Ctrl+C in the middle, or without memory for a thread, the next row tries again.
        if self._turns and self._thread is None and not self._start():
            return
        self._is_due = True
        self._bell.put(None)

    def _log_policy(self, policy: Policy, seen: datetime) -> None:
        with contextlib.suppress(Exception):  # the decision counts; the next one tries again
            if self.spool.append(policy_payload(policy, seen)):
                self._policies.add(policy.fingerprint)

    def flush(self, wait_s: float = 10.0) -> bool:
        """Bring everything logged so far into DuckDB; False when an owner that stays will do it within seconds."""
        from router.log.owner import ingest_now

        self._taken()
        self._flushed_ns = time.time_ns()
        try:
            self.spool.flush()
            return ingest_now(self.data, wait_s=wait_s, role="turn") is not None
        except Exception as error:
            self._is_due = True
            self._say("rows are in the spool but not in DuckDB yet", error)
            return False

    def close(self) -> None:
        """Stop the turns and flush. Idempotent; what is logged after it reaches DuckDB at the next ``close`` or exit."""
        if self._closed and not self._is_due and not self._children_wrote():
            return
        self._closed = self._stopping = True
        self._bell.put(None)
        thread = self._thread
        if thread is not None and thread.is_alive():  # it is not when a signal handler closes while it starts
            thread.join()
        self._thread = None
        self.spool.close()
        if self.spool.written or self._children_wrote():
            self.flush()
        self._taken()  # what could not be ingested was said once; the rows are in the spool

    def _taken(self) -> None:
        """What is logged from now on waits for another turn: called before that turn looks at the spool."""
        self._is_due = False

    def _start(self) -> bool:
        """Start the thread, unless it is there or is to end; False when there is none to be had just now."""
        with self._starting:
            if self._thread is not None or self._stopping:
                return True
            try:
                _close_in_worker()
                self._thread = threading.Thread(target=self._run, name="routescope-turns", daemon=True)
                self._thread.start()
            except BaseException as error:
                self._thread = None  # one that did start sees that it is not the one, and ends
                if not isinstance(error, Exception):
                    raise
                return False  # no more threads, no memory, or the interpreter is going down
        return True

    def _run(self) -> None:
        me, stays = threading.current_thread(), False
        while self._thread is me and not self._stopping:
            # Looked at now and then, rung for or not: an owner that stays may be killed before it reads the rows it was
            # left, and Ctrl+C may come between a row and the ring.
            if not self._is_due:
                with contextlib.suppress(queue.Empty):
                    self._bell.get(timeout=RETRY_SECONDS)
            if not (self._is_due or stays):
                continue
            if self._stops_within(TURN_SECONDS):
                return
            try:
                stays = self._turn()
            except Exception as error:  # the thread must live; the rows are safe in the spool
                self._is_due = True
                # The interpreter's exit may interrupt a turn a moment before it closes the writer, which flushes.
                if self._stops_within(TURN_SECONDS) or sys.is_finalizing():
                    return
                self._say("a turn as the log's owner failed", error)
                self._stops_within(RETRY_SECONDS - TURN_SECONDS)

    def _stops_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=left)
        return self._stopping

    def _turn(self) -> bool:
        """Take a turn, or leave the rows to an owner that stays; True when there is one."""
        with no_fork():
            import duckdb  # noqa: F401
            import pyarrow  # noqa: F401

            _close_first()
            from router.log.inserting import warm_up
            from router.log.lock import holder
            from router.log.owner import take_turn

            warm_up()
        if self._stopping:
            return False  # close() flushes
        self._taken()
        self.spool.drain()
        if take_turn(self.data) is not None:
            self._said = ""
            return False
        who = holder(self.data)
        if who is not None and who.stays:
            return True
        self._is_due = True  # somebody's short turn: try again
        return False

    def _say(self, what: str, error: Exception) -> None:
        """Report a failure once, until a turn works again. DuckDB's messages quote rows: only our own words are shown."""
        text = (
            str(error)
            if isinstance(error, LogError)
            else getattr(error, "strerror", None) or type(error).__name__
        )
        if text != self._said:
            self._said = text
            level = logging.WARNING if isinstance(error, LogLocked) else logging.ERROR
            _logger.log(level, "routescope: %s (%s)", what, text)

    def _children_wrote(self) -> bool:
        """Whether forked children may have left rows since the last flush: a worker often ends without closing."""
        since = self._flushed_ns - _CLOCK_STEP_NS
        return self._has_children and any(changed > since for changed in _changes(self.spool.folder))

    def _reset(self) -> None:
        # No ``threading.Event``: an exception of a signal handler, as Ctrl+C's, can leave its lock taken for good.
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_due = self._stopping = False
        self._starting = threading.RLock()

    def _after_fork(self) -> None:
        self._thread = None
        self._policies = set()
        self._reset()
        self._has_children = False
        self._pid = os.getpid()


def policy_payload(policy: Policy, seen: datetime) -> dict[str, Any]:
    """The record of a policy; without its text when that is too long for a record."""
    toml = policy.to_toml()
    record = {
        "kind": "policy",
        "fingerprint": policy.fingerprint,
        "labels_fingerprint": policy.labels_fingerprint,
        "name": policy.name,
        "first_seen": seen,
    }
    if (
        len(toml.encode("utf-8", "replace")) * 2 < MAX_LINE_BYTES
    ):  # JSON escapes of quotes and line ends included
        record["toml"] = toml
    return record


def _changes(folder: Path) -> list[int]:
    """When each spool of a folder was last written to (ns since the epoch)."""
    found = []
    for path in folder.glob("*.jsonl"):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.stat().st_mtime_ns)
    return found


def _forked() -> None:
    global _forked_midway, _closes_in_worker
    busy = any(writer._thread is not None for writer in list(_writers))
    _forked_midway = _forked_midway or busy or "duckdb" in sys.modules
    _closes_in_worker = False
    for writer in list(_writers):
        writer._after_fork()


def _has_forked() -> None:
    for writer in list(_writers):
        writer._has_children = True


def _close_first() -> None:
    """Have writers closed before DuckDB's own exit hook, which interrupts its connections.

    Hooks run last in, first out, and DuckDB sets its own at its import. The older hook stays: one that is set while
    hooks run is never called.
    """
    global _closes_first
    if not _closes_first:
        _closes_first = True
        atexit.register(_close_all)


def _close_in_worker() -> None:
    """Close at the end of a ``multiprocessing`` worker too: it ends without calling exit hooks.

    Not in one forked beside a DuckDB at work, where opening another could wait for ever: the parent's close() brings
    its rows in.
    """
    global _closes_in_worker
    util, process = (sys.modules.get(f"multiprocessing.{name}") for name in ("util", "process"))
    if util is None or process is None or _closes_in_worker or _forked_midway:
        return
    if process.parent_process() is not None:
        _closes_in_worker = True
        util.Finalize(None, _close_all, exitpriority=0)


def _close_all() -> None:
    for writer in list(_writers):
        if writer._pid == os.getpid():
            try:
                writer.close()
            except Exception as error:  # a traceback at exit helps nobody; the rows are in the spool
                _logger.error(
                    "routescope: the last rows are in the spool but not in DuckDB (%s)", type(error).__name__
                )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_has_forked, after_in_child=_forked)
atexit.register(_close_all)
