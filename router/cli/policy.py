"""``policy show``: the policy in force; its other verbs are in ``policy_diff``."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.options import Data, Json, PolicyFile
from router.cli.output import emit, say, table
from router.policy import PRESETS

if TYPE_CHECKING:
    from router.policy import Policy

app = typer.Typer(no_args_is_help=True, help="Look at the policy and change it.", rich_markup_mode=None)


@app.callback()
def policy() -> None:
    """Look at the policy and change it."""


@app.command()
def show(
    toml: Annotated[bool, typer.Option("--toml", help="Print the file itself, comments included.")] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset", metavar="|".join(PRESETS), show_default=False, help="A packaged policy instead."
        ),
    ] = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Show labels, models and thresholds of the policy in force."""
    from router.config import data_dir
    from router.policy import Policy, preset_toml
    from router.policy_edit import source_text
    from router.resolve import load_policy

    if preset is not None and policy is not None:
        raise typer.BadParameter("give --preset or --policy, not both")
    if toml and json:
        raise typer.BadParameter("give --toml or --json, not both")
    folder = data_dir(data)
    if toml:
        text = preset_toml(preset) if preset is not None else source_text(policy, folder)
        typer.echo(text, nl=not text.endswith("\n"))
        return
    rules = Policy.preset(preset) if preset is not None else load_policy(policy, folder)
    if json:
        emit(document(rules))
        return
    _print(rules)


def document(rules: Policy) -> dict[str, Any]:
    """A policy as a JSON document; examples are counted, not listed."""
    return {
        "source": rules.source,
        "name": rules.name,
        "fingerprint": rules.fingerprint,
        "labels_fingerprint": rules.labels_fingerprint,
        "threshold": rules.threshold,
        "min_margin": rules.min_margin,
        "exploration": rules.exploration,
        "fallback_model": rules.fallback_model,
        "failover": list(rules.failover),
        "baseline": rules.baseline,
        "classifier": rules.classifier,
        "classifier_price": None if rules.classifier_price is None else asdict(rules.classifier_price),
        "tiers": list(rules.tiers),
        "labels": [
            {
                "name": x.name,
                "rubric": x.rubric,
                "model": x.model,
                "failover": list(x.failover),
                "threshold": rules.threshold_for(x.name),
                "own_threshold": x.threshold is not None,
                "examples": len(x.examples),
            }
            for x in rules.labels
        ],
    }


def _print(rules: Policy) -> None:
    from router.prices import PriceBook

    book, today = PriceBook(rules.models), datetime.now(UTC).date()
    table(
        ("label", "model", "threshold", "examples", "rubric"),
        [
            (
                x.name,
                ", then ".join((x.model, *x.failover)),
                f"{rules.threshold_for(x.name):g}",
                str(len(x.examples)),
                x.rubric,
            )
            for x in rules.labels
        ],
        right=("threshold", "examples"),
    )
    typer.echo()
    rows = []
    for name in rules.model_names:
        rate, end = book.rate(name, today), book.end_of_life(name, today)
        rows.append(
            (
                name,
                book.provider(name) or "not known",
                "not known" if rate is None else f"{rate.input:g} in, {rate.output:g} out",
                "" if end is None else f"{end.date} -> {end.successor}",
                " ".join(
                    w
                    for w, there in (
                        ("fallback", name == rules.fallback_model),
                        (
                            "failover",
                            any(name in x for x in (rules.failover, *(y.failover for y in rules.labels))),
                        ),
                        ("baseline", name == rules.baseline),
                    )
                    if there
                ),
            )
        )
    table(("model", "provider", "USD per million tokens", "served until", ""), rows)
    typer.echo()
    if rules.failover:
        typer.echo(f"when {rules.fallback_model} fails: {', then '.join(rules.failover)}")
    typer.echo(
        f"threshold {rules.threshold:g}, classifier {rules.classifier}, fingerprint {rules.fingerprint}"
    )
    if rules.exploration:
        typer.echo(
            f"exploration {rules.exploration:g}: so many decisions take the other side of the rule, by chance"
        )
    say(f"from {rules.source}")
