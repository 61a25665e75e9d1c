"""The owner's connection, lent to readers as cursors, and taken back when its file is replaced by another."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import TYPE_CHECKING

from router.errors import LogError

if TYPE_CHECKING:
    import duckdb

QUERY_SECONDS = 5.0
"""How long queries may go on that read a file about to be replaced."""

_LOOK_SECONDS = 0.01


class Lender:
    """Holds one connection or none. Thread-safe; a forked child finds it empty.

    ``patience_s``: how long queries may go on that read a file about to be replaced (seconds).
    """

    def __init__(self, patience_s: float = QUERY_SECONDS) -> None:
        self._patience = patience_s
        self._con: duckdb.DuckDBPyConnection | None = None
        self._lent: weakref.WeakSet[duckdb.DuckDBPyConnection] = weakref.WeakSet()
        self._gate = threading.Condition()
        self._is_gated = False
        self._pid = os.getpid()

    @property
    def con(self) -> duckdb.DuckDBPyConnection | None:
        """The connection itself, for its owner."""
        return self._con if os.getpid() == self._pid else None

    @property
    def is_open(self) -> bool:
        """Whether there is one, or will be in a moment."""
        return os.getpid() == self._pid and (self._con is not None or self._is_gated)

    def put(self, con: duckdb.DuckDBPyConnection) -> None:
        """Lend cursors of this connection from now on."""
        with self._gate:
            self._con, self._is_gated = con, False
            self._gate.notify_all()

    def cursor(self, wait_s: float) -> duckdb.DuckDBPyConnection | None:
        """A cursor, to be closed soon; None when there is no connection. While it is replaced, waits so many seconds."""
        if os.getpid() != self._pid:
            return None
        with self._gate:
            self._gate.wait_for(lambda: not self._is_gated, timeout=wait_s)
            if self._con is None or self._is_gated:
                return None
            cursor = self._con.cursor()
            self._lent.add(cursor)
            return cursor

    def interrupt(self) -> None:
        """Stop what the owner is doing with its connection."""
        con = self.con
        if con is not None:
            con.interrupt()

    def replace(self) -> None:
        """Close the connection for another, which ``put`` brings; who asks for a cursor meanwhile waits."""
        with self._gate:
            self._is_gated = True
        self.close(self._patience)

    def give_up(self) -> None:
        """No other connection comes: whoever waits for it goes away empty-handed."""
        with self._gate:
            self._is_gated = False
            self._gate.notify_all()

    def close(self, patience_s: float = 0.0) -> None:
        """Close the connection and every cursor of it; queries get ``patience_s`` seconds to end.

        A cursor that stayed open would keep the old file's instance alive, and the next connect would get that.

        Raises
        ------
        LogError
            A query goes on in spite of all.
        """
        with self._gate:
            con, self._con = self._con, None
        if con is None:
            return
        import duckdb

        end = time.monotonic() + patience_s
        while any(map(_is_open, list(self._lent))) and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        end = time.monotonic() + QUERY_SECONDS
        while True:
            try:
                for cursor in list(self._lent):
                    if _is_open(cursor):
                        cursor.interrupt()
                        cursor.close()
                con.close()
                return
            except duckdb.Error as error:  # 2.0 refuses to close what is busy in another thread
                if time.monotonic() > end:
                    raise LogError(f"the database cannot be closed ({type(error).__name__})") from None
                time.sleep(_LOOK_SECONDS)


def _is_open(cursor: duckdb.DuckDBPyConnection) -> bool:
    import duckdb

    try:
        cursor.query_progress()
    except duckdb.ConnectionException:
        return False
    return True
