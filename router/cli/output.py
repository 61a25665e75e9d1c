"""Printing: results on standard output, everything said to people on standard error."""

from __future__ import annotations

import logging
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import orjson
import typer

WAIT_SECONDS = 2.0
"""What takes longer than this is announced."""

REPORT_SECONDS = 5.0
"""How often progress is said where it cannot be drawn."""


def say(text: str) -> None:
    """One line for people."""
    typer.echo(visible(text), err=True)


def visible(text: str) -> str:
    r"""Text with control, format (bidi, zero-width) and surrogate characters as escapes; line breaks and tabs stay.

    >>> print(visible("a\x1b[31mb\u202e"))
    a\x1b[31mb\u202e
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode()
        if char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else char
        for char in text
    )


def emit(document: Any) -> None:
    """Print one JSON document. Money keeps all its decimals, times are UTC, not-a-number is null."""
    text = orjson.dumps(document, default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
    typer.echo(text.decode())


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Print a table; ``right`` names the columns of numbers."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        drawn.add_column(name, justify="right" if name in right else "left", no_wrap=not sys.stdout.isatty())
    for row in rows:
        drawn.add_row(*(Text(visible(cell)) for cell in row))
    # Not a terminal: no colours, and no width that would cut a cell.
    wide = {} if sys.stdout.isatty() else {"width": 10_000, "no_color": True, "force_terminal": False}
    console = Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty(), **wide)  # type: ignore[arg-type]
    with console.capture() as capture:
        console.print(drawn)
    typer.echo("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")))


@contextmanager
def progress(text: str, total: int | None, *, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show how far something is; yields the function that takes how much was done.

    Parameters
    ----------
    total : in the unit of what is done; None when it is not known.
    unit : what is counted, said where no bar can be drawn; "" shows a percentage alone.
    """
    if sys.stderr.isatty():
        with _bar(text, total, sys.stderr) as advance:
            yield advance
        return
    done, said = 0, time.monotonic()

    def advance_quietly(step: int) -> None:
        nonlocal done, said
        done += step
        if time.monotonic() - said >= REPORT_SECONDS:
            said = time.monotonic()
            share = f" {done / total:.0%}" if total else ""
            say(f"{text}:{share} {f'({done:,} {unit})' if unit else ''}".rstrip())

    yield advance_quietly


@contextmanager
def waiting(text: str, *, after_s: float = WAIT_SECONDS) -> Iterator[None]:
    """Say what is waited for, where no one can tell how far it is: a moving bar, or one line after some seconds."""
    if sys.stderr.isatty():
        with _bar(text, None, sys.stderr):
            yield
        return
    later = threading.Timer(after_s, say, (f"{text} ...",))
    later.daemon = True
    later.start()
    try:
        yield
    finally:
        later.cancel()


@contextmanager
def _bar(text: str, total: int | None, file: IO[str]) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=file), transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda step: bar.advance(task, step)


class _Notes(logging.Handler):
    """Say what the library logs, and remember whether any of it was an error."""

    errors = 0
    last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.errors += record.levelno >= logging.ERROR
        message = record.getMessage().removeprefix("routescope: ")
        self.last = message
        say(f"{record.levelname.lower()}: {message}")


_notes = _Notes(logging.WARNING)


def note(text: str) -> None:
    """Say something about the log, unless the library has just said it."""
    if text != _notes.last:
        say(f"note: {text}")


def watch_log() -> None:
    """Put the library's warnings on standard error, in the form of everything else there."""
    _notes.errors, _notes.last = 0, ""
    for name in ("routescope", "router"):
        logger = logging.getLogger(name)
        if _notes not in logger.handlers:
            logger.addHandler(_notes)


def logged_errors() -> int:
    """Errors that the library logged since the verb began."""
    return _notes.errors


def near(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Names that a mistyped one may have meant, nearest first.

    >>> near("codin", ["simple", "coding", "creative"])
    ['coding']
    """
    from difflib import get_close_matches

    return get_close_matches(word, list(dict.fromkeys(known)), n=most)


def money(value: Decimal | float | None) -> str:
    """USD for people; small amounts keep two digits that count.

    >>> money(None), money(0), money(4800), money(0.00123)
    ('not known', '$0', '$4,800.00', '$0.0012')
    """
    if value is None or value != value:
        return "not known"
    number = float(value)
    if number == 0:
        return "$0"
    sign, size = ("-" if number < 0 else ""), abs(number)
    if size >= 1:
        return f"{sign}${size:,.2f}"
    digits = next(n for n in range(2, 16) if round(size, n - 1) > 0 or n == 15)
    return f"{sign}${size:.{digits}f}"


def signed_money(value: float | None) -> str:
    """A change in USD for people.

    >>> signed_money(1.216), signed_money(-0.5), signed_money(0.0), signed_money(None)
    ('+$1.22', '-$0.50', '$0', 'not known')
    """
    return f"+{money(value)}" if value is not None and value > 0 else money(value)


def share(value: float | None) -> str:
    """A share as a percentage; "not known" for None."""
    return "not known" if value is None or value != value else f"{value:.1%}"


def shortened(prompt: str | None, limit: int = 60) -> str:
    r"""A stored prompt on one line, cut; "not stored" for None.

    >>> shortened("two\n lines"), shortened("abcdef", 4), shortened(None)
    ('two lines', 'abc…', 'not stored')
    """
    if prompt is None:
        return "not stored"
    line = " ".join(prompt[: 8 * limit].split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def with_half(value: str, half: str | None) -> str:
    """A figure with half its interval, where there is one."""
    return value if half is None else f"{value} ± {half}"


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(format(value, "f"))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "_asdict"):
        return value._asdict()
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def utc(when: datetime | None) -> str | None:
    """A naive UTC time in ISO form with its zone."""
    return None if when is None else when.isoformat(timespec="milliseconds") + "Z"
