"""What a verb's error becomes: a line or two on standard error and an exit code, never a traceback."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from router.cli.output import say
from router.errors import ConfigurationError, InputError, RouterError

FAILED = 1
USAGE = 2
NOT_ENOUGH = 3
INFEASIBLE = 4
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program that wrote to a closed pipe."""

_PLAIN_WORD = re.compile(r"-{0,2}[A-Za-z][A-Za-z-]{0,29}\Z")
"""What may be repeated as a mistyped verb or option; anything else may be a prompt without its quotation marks."""


class NotEnoughData(RouterError):
    """There are too few decisions to answer."""


class Infeasible(RouterError):
    """Nothing meets the condition that was asked for, and more of the same evidence would not change that."""


class Group(TyperGroup):
    """The root command: every error of every verb ends here."""

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            return super().invoke(ctx)
        except RouterError as error:
            for line in str(error).splitlines() or [type(error).__name__]:
                say(f"error: {line}")
            raise typer.Exit(exit_code(error)) from None
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(BROKEN_PIPE) from None
        except Exception as error:
            if isinstance(error, typer.Exit | typer.Abort):
                raise
            if hasattr(error, "format_message"):  # a usage error of Typer's own
                _hide_prompt(error)
                raise
            if is_interrupt(error):
                say("interrupted")
                raise typer.Exit(INTERRUPTED) from None
            say(f"error: {_unforeseen(error)}; 'routescope doctor' shows what is set up")
            raise typer.Exit(FAILED) from None


def exit_code(error: RouterError) -> int:
    """Exit code of an error: what the caller can correct is 2, what failed is 1."""
    if isinstance(error, NotEnoughData):
        return NOT_ENOUGH
    if isinstance(error, Infeasible):
        return INFEASIBLE
    return USAGE if isinstance(error, ConfigurationError | InputError) else FAILED


def is_interrupt(error: BaseException) -> bool:
    """Whether Ctrl+C is what stopped it: DuckDB turns it into a RuntimeError, and libraries raise others over it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt) or str(seen) == "Query interrupted":
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _unforeseen(error: Exception) -> str:
    """What may be said of an error nobody foresaw: its message may quote a prompt, the system's own words do not."""
    name = type(error).__name__
    if not isinstance(error, OSError) or not error.strerror:
        return f"unexpected {name}"
    is_file = isinstance(error.filename, str) and os.path.lexists(error.filename)
    return f"{error.strerror}: {error.filename}" if is_file else f"{error.strerror} ({name})"


def _hide_prompt(error: Any) -> None:
    """Rewrite a usage error that would repeat words of the command line which may be a prompt's."""
    message = str(error.message)
    found = getattr(error, "option_name", None)
    if message.startswith("Got unexpected extra argument"):
        error.message = "more arguments than expected; put a text with spaces in quotation marks"
    elif message.startswith("No such option") and not _PLAIN_WORD.match(str(found)):
        error.message = "no such option; a text that starts with - goes after --"
        error.possibilities = []
    elif message.startswith("No such command") and not _PLAIN_WORD.match(message.split("'")[1]):
        error.message = "no such command; a prompt goes after one: routescope route TEXT"
