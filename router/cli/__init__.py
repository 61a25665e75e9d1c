"""The command line, ``routescope``: verbs parse, call and print; what they compute lives elsewhere.

Exit codes: 0 fine, 1 failed, 2 usage or bad input, 3 not enough data, 4 nothing meets the condition, 130 interrupted, 141 the
reader went away. With ``--json`` standard output is one JSON document, and nothing when the verb failed before it had a result;
everything said to people goes to standard error.
"""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line."""
    _open_streams()
    try:
        # Not at the top: Ctrl+C while the verbs load would show a traceback.
        from router.cli.app import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # Ctrl+C once more, while threads end: at once and without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _flush()


def _open_streams() -> None:
    # A caller may have closed them (``>&-``); nobody reads then, but nothing may fail either.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open to the end
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character must not stop a run.
            stream.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Write what is left; a reader that has gone away (``| head``) is no error."""
    try:
        sys.stdout.flush()
    except OSError:
        # The interpreter flushes once more at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
