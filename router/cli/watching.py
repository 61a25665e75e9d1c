"""``drift``: whether traffic still looks as it did, and whether a certificate still holds."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from router.cli.errors import NOT_ENOUGH, NotEnoughData
from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until, moment
from router.cli.output import emit, say, share, table, visible
from router.cli.promising import made_on, models_of
from router.cli.reading import _rules, enough
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.drift import Alarm, Drift, Shift
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.policy import Policy

MAX_CERTIFICATE_BYTES = 4_000_000
EXAMPLE_CHARS = 300
"""What is printed of an example prompt; --json has all that the log holds."""


def drift(
    recent: Annotated[
        str,
        typer.Option(
            "--recent", metavar="WHEN", help="Where the recent period begins, written like --since."
        ),
    ] = "7d",
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate",
            metavar="FILE",
            show_default=False,
            help="What 'certify --json' printed: say whether it still holds.",
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, max=50, help="Newest prompts to show with each alarm.")
    ] = 0,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Compare recent decisions with earlier ones. Confidence, the mix of labels, the share that falls back; since when.

    Alarms look at the size of a change (PSI above 0.2; 4 standard deviations between days), never at p-values.

    A change counts from 200 decisions in each period on, overall and by label.

    Exit codes: 0 compared, 3 too few earlier or recent decisions, or the certificate no longer holds.
    """
    from router.analysis.drift import MIN_SIDE
    from router.analysis.drift import drift as compare
    from router.log import evidence

    begin = moment(recent, "--recent")
    rules, _ = _rules(policy, data)
    saved = None if certificate is None else _read_certificate(certificate)
    picked = chosen(since, until, source=_source_of(saved))
    with reading(data) as log:
        days = evidence.daily(log, picked)
        enough(int(days["n"].sum()), log, picked, "with scores")
        assert begin is not None
        found = compare(days, begin.date())
        _check_periods(found)
        reasons = None if saved is None else _lapses(log, picked, rules, saved, found)
        shown = [_examples(log, picked, found, alarm, examples) for alarm in found.alarms] if examples else []
    if json:
        told = (
            {"examples": [[{"id": id, "prompt": x} for id, x in some] for some in shown]} if examples else {}
        )
        judged = {"can_judge": found.can_judge, "not_judged": found.not_judged}
        emit(asdict(found) | judged | {"certificate_lapses": reasons} | told)
    else:
        _print_drift(found)
        for alarm, some in zip(found.alarms, shown, strict=False):
            typer.echo(f"\nnewest of: {alarm.text}")
            for id, prompt in some:
                typer.echo(f"{id}  {visible(prompt[:EXAMPLE_CHARS]).replace(chr(10), ' ')}")
    for alarm in found.alarms:
        say(f"alarm: {alarm.text}" + (f", since {alarm.since}" if alarm.since else ""))
    if not found.can_judge:
        say(
            f"too few decisions to judge: {found.n_recent:,} recent and {found.n_reference:,} before, expected {MIN_SIDE} of each; "
            "choose a longer --recent"
        )
    elif not found.alarms:
        say("nothing moved enough to act on")
    if found.can_judge and found.not_judged:
        say(f"not judged, with fewer than {MIN_SIDE} decisions in a period: {', '.join(found.not_judged)}")
    if reasons is not None:
        say(
            (
                "the certificate holds"
                if found.can_judge
                else "whether the certificate still holds is not known"
            )
            if not reasons
            else f"the certificate no longer holds: {'; '.join(reasons)}"
        )
        if reasons:
            raise typer.Exit(NOT_ENOUGH)
    if not found.can_judge:
        raise typer.Exit(NOT_ENOUGH)


def _examples(log: Log, picked: Filter, found: Drift, alarm: Alarm, n: int) -> list[tuple[str, str]]:
    """The newest decisions that an alarm is about."""
    from router.log.evidence import newest_prompts

    about = replace(_from(picked, found), labels=() if alarm.label is None else (alarm.label,))
    if alarm.kind == "fallback":
        about = replace(about, causes=("low_confidence", "low_margin"))
    return newest_prompts(log, about, n)


def _check_periods(found: Drift) -> None:
    """Two periods are compared, or nothing is said of either."""
    if found.n_recent and found.n_reference:
        return
    which = "from then on" if found.n_reference else "before it"
    raise NotEnoughData(
        f"cannot compare: the recent period begins on {found.recent_from}, and no decision is {which}; move --recent, or choose a "
        "longer time with --since"
    )


def _read_certificate(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_CERTIFICATE_BYTES:
            raise InputError(f"--certificate: {file} is larger than any certificate")
        document = orjson.loads(file.read_bytes())
    except OSError as error:
        raise InputError(f"--certificate: {file} cannot be read: {error.strerror}") from None
    except orjson.JSONDecodeError:
        raise InputError(
            f"--certificate: {file} is not JSON; expected what 'routescope certify --json' printed"
        ) from None
    if not isinstance(document, dict):
        raise InputError(
            "--certificate: not a certificate; expected what 'routescope certify --json' printed"
        )
    return document


def _source_of(saved: dict[str, Any] | None) -> str | None:
    """The source that a certificate is about; older ones are about all traffic."""
    traffic = (saved or {}).get("traffic")
    source = traffic.get("source") if isinstance(traffic, dict) else None
    return source if isinstance(source, str) else None


def _lapses(log: Log, picked: Filter, rules: Policy, saved: dict[str, Any], found: Drift) -> tuple[str, ...]:
    from router.analysis.lapse import Ground, lapses
    from router.log.evidence import rested_on

    day = made_on(saved)
    try:
        old = saved["ground"]
        then = Ground(
            tuple(old["classifiers"]), str(old["labels_fingerprint"]), tuple(sorted(old["models"].items()))
        )
    except (KeyError, TypeError, AttributeError):
        raise InputError(
            "--certificate: not a certificate; expected what 'routescope certify --json' printed"
        ) from None
    classifiers, _ = rested_on(log, _from(picked, found))
    now = Ground(
        classifiers or then.classifiers, rules.labels_fingerprint, tuple(sorted(models_of(rules).items()))
    )
    return lapses(then, now, made_on=day, today=datetime.now(UTC).date(), drift=found)


def _from(picked: Filter, found: Drift) -> Filter:
    return replace(picked, start=datetime.combine(found.recent_from, datetime.min.time()))


def _print_drift(found: Drift) -> None:
    def row(name: str, shift: Shift) -> tuple[str, ...]:
        numbers = ("" if x is None else f"{x:.3f}" for x in (shift.psi, shift.noise, shift.ks, shift.js))
        mark = "alarm" if shift.is_alarm else ""
        return (name, f"{shift.n_reference:,}", f"{shift.n_recent:,}", *numbers, mark, str(shift.since or ""))

    rows = [row("confidence" if x.label is None else f"confidence of {x.label}", x) for x in found.confidence]
    rows.append(row("mix of labels", found.mix))
    columns = ("", "before", "recent", "PSI", "by chance", "KS", "JS", " ", "since")
    table(columns, rows, right=columns[1:7])
    typer.echo()
    back = found.fallback
    usual = "not known" if back.mean is None else f"{share(back.mean)} ± {share(back.sd)} between days"
    typer.echo(f"fallback share {share(back.recent)}; before {usual}; {back.days_out} days out of it")
