"""The verbs of ``routescope``, put together."""

from __future__ import annotations

from typing import Annotated

import typer

from router import __version__
from router.cli import (
    asking,
    calibrating,
    demo,
    doctor,
    export,
    feedback,
    keeping,
    pairing,
    policy,
    policy_diff,
    promising,
    query,
    reading,
    replaying,
    report,
    review,
    routing,
    scenario,
    tuning,
    watching,
)
from router.cli.errors import Group
from router.cli.output import watch_log

app = typer.Typer(
    name="routescope",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback with its values could show a prompt
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"routescope {__version__}")
        raise typer.Exit


@app.callback()
def routescope(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Route prompts by rubric labels, log every decision, and find where the threshold should be."""
    watch_log()


app.command()(routing.classify)
app.command()(routing.route)
app.command()(asking.ask)
app.command()(demo.demo)
app.command()(demo.dashboard)
app.command()(export.ingest)
app.command("export")(export.export_log)
app.command("import")(query.import_log)
app.command()(query.sql)
app.command()(reading.sweep)
app.command()(reading.savings)
app.command()(scenario.scenario)
app.command()(reading.overlap)
app.add_typer(review.app, name="review")
app.command()(feedback.feedback)
app.command()(tuning.tune)
app.command()(promising.certify)
app.command()(calibrating.calibration)
app.command()(watching.drift)
app.command()(replaying.replay)
app.command()(report.report)
app.command()(pairing.pairs)
policy.app.command("diff")(policy_diff.policy_diff)
policy.app.command("apply")(policy_diff.apply)
app.add_typer(policy.app, name="policy")
app.command()(keeping.retention)
app.command()(keeping.forget)
app.command()(keeping.rebuild)
app.command()(doctor.doctor)
