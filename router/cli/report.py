"""``report``: the log as one HTML file to send, or as one JSON document."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from router.cli.export import (
    Causes,
    Confidence,
    Contains,
    Failed,
    Labels,
    MadeBy,
    Models,
    Outcomes,
    Session,
    Source,
    Unmeasured,
    chosen,
    reading,
)
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import say, waiting
from router.cli.promising import Alpha, Delta, Seed
from router.cli.reading import _rules, enough
from router.errors import InputError

DEFAULT = "report.html"
SUFFIXES = (".html", ".htm", ".json")


def report(
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            show_default=False,
            help="Where to: .html, .json, or - for HTML on standard output. Default: report.html, with --json none.",
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, max=20, help="Prompts to show for each close pair of labels.")
    ] = 0,
    max_fallback: Annotated[
        float,
        typer.Option(
            "--max-fallback", help="Most of the decisions that may fall back at the cheapest threshold."
        ),
    ] = 0.2,
    alpha: Alpha = 0.1,
    delta: Delta = 0.1,
    seed: Seed = 0,
    since: Since = None,
    until: Until = None,
    label: Labels = None,
    model: Models = None,
    cause: Causes = None,
    text: Contains = None,
    confidence: Confidence = None,
    outcome: Outcomes = None,
    failed: Failed = False,
    unmeasured: Unmeasured = False,
    source: Source = None,
    session: Session = None,
    made_by: MadeBy = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Write one HTML file that says what the log knows. It runs no script, asks for nothing and holds no prompt unless asked to.

    --json: print every figure of it.
    """
    from router.report.gather import Wishes, gather
    from router.report.html import render

    target = output if output is not None or json else DEFAULT
    _check(target, json, max_fallback, alpha, delta)
    rules, book = _rules(policy, data)
    picked = chosen(
        since, until, label, model, cause, text, confidence, outcome,
        failed=failed, unmeasured=unmeasured, source=source, session_id=session, policy=made_by,
    )  # fmt: skip
    wishes = Wishes(max_fallback=max_fallback, alpha=alpha, delta=delta, examples=examples, seed=seed)
    with reading(data) as log, waiting("reading the log"):
        document = gather(log, picked, rules, book, clock=_now, wishes=wishes)
        enough(document["log"]["n"], log, picked, "")
    as_json = orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n"
    if json:
        _to_standard_output(as_json)
    if target == "-":
        _to_standard_output(render(document).encode("utf-8"))
    elif target is not None:
        _write(
            Path(target), as_json if target.lower().endswith(".json") else render(document).encode("utf-8")
        )


def _check(target: str | None, json: bool, max_fallback: float, alpha: float, delta: float) -> None:
    from router.cli.promising import _check_promise

    if target == "-" and json:
        raise InputError("--json prints to standard output, and so does --output -; give one of them")
    if target not in (None, "-") and Path(str(target)).suffix.lower() not in SUFFIXES:
        raise InputError(
            f"--output: found {str(target)[:80]!r}, expected a name that ends in .html or .json, or -"
        )
    if not 0.0 <= max_fallback <= 1.0:
        raise InputError(f"--max-fallback: found {max_fallback!r}, expected a share in [0, 1]")
    _check_promise(alpha, delta, "label")


def _write(path: Path, content: bytes) -> None:
    """The whole file or none: it takes its name once all of it is on the disk."""
    from router.errors import ConfigurationError
    from router.log.export import new_file

    try:
        with new_file(path) as file:
            file.write(content)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or type(error).__name__}"
        ) from None
    say(f"report written to {path.absolute()} ({len(content) / 1000:,.0f} kB)")


def _to_standard_output(content: bytes) -> None:
    typer.echo(content, nl=False)
    sys.stdout.flush()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
