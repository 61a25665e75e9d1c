"""What a verb's error becomes: one line on standard error and an exit code, never a traceback."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from router.cli.output import say
from router.errors import ConfigurationError, InputError, RouterError

FAILED = 1
USAGE = 2
NOT_ENOUGH = 3
INTERRUPTED = 130
BROKEN_PIPE = 141
"""What a shell reports for a program that wrote to a closed pipe."""


class NotEnoughData(RouterError):
    """There are too few decisions to answer."""


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
            if isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message"):
                raise  # Typer's own: how a command ends, and usage errors
            # The class alone: the message of an error nobody foresaw may quote a prompt.
            say(f"error: unexpected {type(error).__name__}; 'routescope doctor' shows what is set up")
            raise typer.Exit(FAILED) from None


def exit_code(error: RouterError) -> int:
    """Exit code of an error: what the caller can correct is 2, what failed is 1."""
    if isinstance(error, NotEnoughData):
        return NOT_ENOUGH
    return USAGE if isinstance(error, ConfigurationError | InputError) else FAILED
