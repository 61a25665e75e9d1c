"""The router's side of the log: append to the spool, and bring the rows into DuckDB in short turns."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from router.errors import LogError
from router.log.record import MAX_LINE_BYTES, decision_payload
from router.log.spool import Spool
from router.policy import Policy
from router.types import Decision

TURN_SECONDS = 0.5
_logger = logging.getLogger("routescope")
_writers: weakref.WeakSet[Writer] = weakref.WeakSet()


class Writer:
    """Logs decisions of one process into ``data``.

    ``log`` appends to the spool and returns. A thread takes short turns as owner, so that rows are in DuckDB within
    about a second, unless a dashboard owns the log: then it does that. ``close`` waits until they are.
    """

    def __init__(self, data: Path, *, turns: bool = True) -> None:
        self.data = Path(data)
        self.spool = Spool(self.data)
        self._turns = turns
        self._policies: set[str] = set()
        self._pending = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._start_lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        _writers.add(self)

    @property
    def dropped(self) -> Counter[str]:
        """Records of this process that could not be written, by reason."""
        return self.spool.dropped

    def log(self, decision: Decision, policy: Policy | None = None) -> bool:
        """Append a decision (and, once, the policy behind it); False when it had to be dropped."""
        written = self.append(decision_payload(decision))
        # After the decision, and not at all when that failed: drops are to count decisions.
        if (
            written
            and policy is not None
            and policy.fingerprint not in self._policies
            and self.spool.append(policy_payload(policy, decision.decided_at))
        ):
            self._policies.add(policy.fingerprint)
        return written

    def append(self, payload: Mapping[str, Any]) -> bool:
        """Append another kind of record."""
        written = self.spool.append(payload)
        if written and not self._pending.is_set():
            self._pending.set()
            if self._turns and self._thread is None:
                self._start()
        return written

    def flush(self, wait_s: float = 10.0) -> bool:
        """Bring everything logged so far into DuckDB; False when an owner that stays will do it within seconds."""
        from router.log.owner import ingest_now

        self._pending.clear()
        try:
            return ingest_now(self.data, wait_s=wait_s, role="turn") is not None
        except Exception as error:  # DuckDB's messages quote the row: only our own words are shown
            self._pending.set()
            text = (
                str(error)
                if isinstance(error, LogError)
                else getattr(error, "strerror", None) or type(error).__name__
            )
            _logger.error("routescope: rows are in the spool but not in DuckDB yet (%s)", text)
            return False

    def close(self) -> None:
        """Stop the turns and flush. Idempotent; what is logged after it reaches DuckDB at the next ``close`` or exit."""
        if self._closed and not self._pending.is_set():
            return
        self._closed = True
        self._stop.set()
        self._pending.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.spool.close()
        if self.spool.written:
            self.flush()
        self._pending.clear()  # what could not be ingested was said once; the rows are in the spool

    def _start(self) -> None:
        with self._start_lock:
            if self._thread is None and not self._stop.is_set():
                thread = threading.Thread(target=self._run, name="routescope-turns", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # no more threads, or the interpreter is going down: the rows wait for close() or an owner
                self._thread = thread

    def _run(self) -> None:
        from router.log.ingest import warm_up
        from router.log.lock import holder
        from router.log.owner import take_turn

        while not self._stop.is_set():
            self._pending.wait()
            if self._stop.wait(TURN_SECONDS):
                return
            self._pending.clear()
            try:
                warm_up()
                if take_turn(self.data) is None:
                    who = holder(self.data)
                    if who is None or not who.stays:
                        self._pending.set()  # somebody's short turn: try again
            except Exception as error:  # the thread must live; the rows are safe in the spool
                _logger.error("routescope: a turn as the log's owner failed (%s)", type(error).__name__)
                self._stop.wait(10 * TURN_SECONDS)

    def _after_fork(self) -> None:
        self._thread = None
        self._policies = set()
        self._pending = threading.Event()
        self._stop = threading.Event()
        self._start_lock = threading.Lock()
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


def _forked() -> None:
    for writer in list(_writers):
        writer._after_fork()


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
    os.register_at_fork(after_in_child=_forked)
atexit.register(_close_all)
