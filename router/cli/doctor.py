"""``doctor``: where rows go, what is active, what is degraded, and what to do about it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import typer

from router.cli.options import Data, Json, PolicyFile
from router.cli.output import emit, table
from router.errors import RouterError

State = Literal["ok", "note", "warn", "fail"]
_COLOURS = {
    "ok": typer.colors.GREEN,
    "note": typer.colors.BLUE,
    "warn": typer.colors.YELLOW,
    "fail": typer.colors.RED,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``fail``: something loses data or cannot work."""

    about: str
    state: State
    text: str


def doctor(data: Data = None, policy: PolicyFile = None, json: Json = False) -> None:
    """Say where rows go, what is active and what is degraded.

    Exit 1 when something loses data or cannot work.
    """
    import duckdb

    from router import __version__
    from router.config import data_dir

    folder = data_dir(data)
    versions = {"routescope": __version__, "python": platform.python_version(), "duckdb": duckdb.__version__}
    findings = [
        Finding("versions", "ok", ", ".join(f"{name} {version}" for name, version in versions.items()))
    ]
    findings += list(_examine(folder, policy))
    failed = any(finding.state == "fail" for finding in findings)
    if json:
        emit(
            {
                "ok": not failed,
                "data": folder.absolute(),
                "versions": versions,
                "findings": [asdict(finding) for finding in findings],
            }
        )
    else:
        _print(findings)
    if failed:
        raise typer.Exit(1)


def _examine(folder: Path, policy: Path | None) -> Iterator[Finding]:
    from router.cli import checks
    from router.resolve import load_policy

    yield from _careful("data folder", lambda: checks.folder(folder))
    yield from _careful("log", lambda: checks.log(folder))
    try:
        rules = load_policy(policy, folder)
    except RouterError as error:
        yield Finding("policy", "fail", str(error))
        return
    yield from _careful("policy", lambda: checks.policy(rules))
    yield from _careful("log", lambda: checks.settings(rules, folder))
    yield from _careful("classifier", lambda: checks.classifier(rules, folder))
    yield from _careful("keys", lambda: checks.keys(rules))
    yield from _careful("models", lambda: checks.models(rules))
    yield from _careful("spend", lambda: checks.spend(rules, folder))


def _careful(about: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """One broken part must not hide the others: what a check raises is a finding."""
    try:
        yield from look()
    except RouterError as error:
        yield Finding(about, "fail", str(error))
    except OSError as error:
        yield Finding(about, "fail", f"cannot be read: {error.strerror or type(error).__name__}")


def _print(findings: list[Finding]) -> None:
    import sys

    if not sys.stdout.isatty():
        table(
            ("state", "about", "found"),
            [(x.state, x.about, line) for x in findings for line in x.text.splitlines()],
        )
        return
    width = max(len(finding.about) for finding in findings)
    for finding in findings:
        for line in finding.text.splitlines():
            typer.secho(f"{finding.state:<4}  ", fg=_COLOURS[finding.state], nl=False)
            typer.echo(f"{finding.about:<{width}}  {line}")
