"""Options and arguments that several verbs share, and how their text is read."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from router.cli.output import say
from router.errors import InputError

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        show_default=False,
        help="Folder of the policy and the log. Default: $ROUTESCOPE_DATA, else data.",
    ),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        metavar="FILE",
        show_default=False,
        help="Policy file. Default: policy.toml in the data folder, else preset 'seed'.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Text = Annotated[str, typer.Argument(metavar="TEXT|-", help="The prompt; - reads it from standard input.")]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        show_default=False,
        help="Decisions from then on: an age like 90m, 12h, 7d, 2w, or a UTC date or time like 2026-11-01.",
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until", metavar="WHEN", show_default=False, help="Decisions before then; written like --since."
    ),
]
Port = Annotated[
    int, typer.Option("--port", min=1, max=65_535, help="Port on 127.0.0.1; when taken, the next free one.")
]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")]

_AGE = re.compile(r"(\d{1,6})([mhdw])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_prompt(text: str) -> str:
    """The prompt as given, or standard input for ``-`` without its last line break.

    Bytes that are no text become U+FFFD, and that is said.
    """
    if text != "-":
        return text
    if sys.stdin.isatty():
        say("reading the prompt from the terminal; end it with Ctrl+D")
    raw = sys.stdin.buffer.read()
    prompt = raw.decode("utf-8", "replace")
    if "\ufffd" in prompt and "\ufffd".encode() not in raw:
        say("note: standard input is not all UTF-8; what could not be read stands as U+FFFD")
    return prompt.removesuffix("\n").removesuffix("\r")


def moment(text: str | None, option: str, *, now: datetime | None = None) -> datetime | None:
    """A point in time (naive UTC) from an age or an ISO date or time; None stays None.

    >>> moment("7d", "--since", now=datetime(2026, 11, 8))
    datetime.datetime(2026, 11, 1, 0, 0)

    Raises
    ------
    InputError
        Neither; names the option.
    """
    if text is None:
        return None
    now = now or datetime.now(UTC).replace(tzinfo=None)
    try:
        if match := _AGE.match(text.strip()):
            return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
        when = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise InputError(
            f"{option}: found {text[:40]!r}, expected an age like 90m, 12h, 7d or 2w, or a UTC date or time like "
            "2026-11-01 or 2026-11-01T09:30"
        ) from None
    return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo is not None else when
