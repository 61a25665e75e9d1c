"""``drift`` and ``replay``: whether traffic still looks as it did, and what another policy would have made of it."""

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
from router.cli.output import emit, money, say, share, table, visible, with_half
from router.cli.promising import made_on, models_of
from router.cli.reading import _rules, enough
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.drift import Alarm, Drift, Shift
    from router.analysis.off_policy import OffPolicy
    from router.analysis.replay import Reproduction
    from router.analysis.scored import Scored
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.policy import Policy
    from router.prices import PriceBook

MAX_CERTIFICATE_BYTES = 4_000_000
EXAMPLE_CHARS = 300
"""What is printed of an example prompt; --json has all that the log holds."""

Merge = Annotated[
    list[str] | None,
    typer.Option(
        "--merge",
        metavar="A,B",
        show_default=False,
        help="Make labels one, under the first one's name; repeatable. Scores that sum to 1 are added, else the larger counts.",
    ),
]


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

    Exit codes: 0 compared, 3 no earlier or no recent decisions, or the certificate no longer holds.
    """
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
        emit(asdict(found) | {"certificate_lapses": reasons} | told)
    else:
        _print_drift(found)
        for alarm, some in zip(found.alarms, shown, strict=False):
            typer.echo(f"\nnewest of: {alarm.text}")
            for id, prompt in some:
                typer.echo(f"{id}  {visible(prompt[:EXAMPLE_CHARS]).replace(chr(10), ' ')}")
    for alarm in found.alarms:
        say(f"alarm: {alarm.text}" + (f", since {alarm.since}" if alarm.since else ""))
    if not found.alarms:
        say("nothing moved enough to act on")
    if reasons is not None:
        say(
            "the certificate holds"
            if not reasons
            else f"the certificate no longer holds: {'; '.join(reasons)}"
        )
        if reasons:
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


def replay(
    merge: Merge = None,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Let a policy decide on the logged scores. Models, cost and fallbacks it would have had, at its own prices.

    First the log's own policies are replayed: they must choose every model again.
    """
    import numpy as np

    from router.analysis.replay import replay as again
    from router.analysis.replay import value
    from router.analysis.scored import merged_policy
    from router.log.evidence import judgements

    rules, book = _rules(policy, data)
    merges = read_merges(merge, rules)
    picked = chosen(since, until)
    with reading(data) as log:
        rows = scored_rows(log, picked, rules.label_names, rules.model_names, book)
        enough(len(rows), log, picked, "with a score for each label of the policy")
        check = _reproduction(log, picked, book)
        judged, logged_by = judgements(log, picked), _policies(log)
    audit = judged[judged["queue"] == "audit"]
    worth = None if merges else value(rows, rules, audit, logged_by, rng=np.random.default_rng(0))
    found = again(rows.merged(merges), merged_policy(rules, merges)) if merges else again(rows, rules)
    if json:
        models = [{"model": name, "n": n} for name, n in found.models]
        emit(
            asdict(found)
            | {"models": models, "reproduction": asdict(check), "merges": merges}
            | {"off_policy": None if worth is None else asdict(worth)}
        )
    else:
        table(
            ("", ""),
            [
                ("decisions", f"{found.n:,}"),
                ("fallback share", share(found.fallback_share)),
                ("cost", money(found.cost_usd)),
                (
                    "USD per 1,000",
                    with_half(
                        money(found.cost_per_1000),
                        None if found.cost_half is None else money(found.cost_half),
                    ),
                ),
                *((name, f"{n:,}") for name, n in found.models),
            ],
            right=("",),
        )
    if found.n_left_out:
        say(f"note: {found.n_left_out:,} decisions left out: they lack a score for a label of the policy")
    say(
        f"costs are over {found.n_priced:,} decisions, of the tokens that were used; another model may use others"
    )
    if merges:
        say_merge(rows)
    say_reproduction(check)
    if worth is not None:
        _say_value(worth)


def scored_rows(log: Log, picked: Filter, labels: Any, models: Any, book: PriceBook) -> Scored:
    """All scores and costs of the decisions that a filter picks; says when only the newest were read."""
    from router.analysis.scored import Scored
    from router.log.evidence import MOST_ROWS, scored

    table = scored(log, picked, labels, models, book)
    if len(table) == MOST_ROWS:
        say(f"note: the newest {MOST_ROWS:,} decisions were read; choose others with --since and --until")
    return Scored.from_table(table, labels, models)


def read_merges(given: list[str] | None, rules: Policy) -> dict[str, tuple[str, ...]]:
    """Merges as new name to its labels; the first label lends its name.

    Raises
    ------
    InputError
        A merge names fewer than two labels, one that the policy lacks, or one that stands in another merge.
    """
    merges: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for text in given or []:
        parts = tuple(x.strip() for x in text.split(","))
        unknown = [x for x in parts if x not in rules.by_name]
        if len(parts) < 2 or unknown or seen & set(parts) or len(set(parts)) != len(parts):
            raise InputError(
                f"--merge: found {text[:60]!r}, expected two or more of {', '.join(rules.label_names)}, each once, like A,B"
            )
        seen |= set(parts)
        merges[parts[0]] = parts
    return merges


def say_merge(rows: Scored) -> None:
    """How the scores of merged labels became one."""
    way = (
        "added (they sum to 1)"
        if rows.natural_merge == "sum"
        else "the larger of each (they do not sum to 1)"
    )
    say(f"merged scores are {way}")


def say_reproduction(check: Reproduction) -> None:
    """How much of the log its own policies choose again."""
    if check.n == 0:
        say(
            "note: the log holds no policy that made these decisions, so they could not be checked against it"
        )
        return
    text = f"replayed under the policies that made them, {check.n_equal:,} of {check.n:,} decisions choose the same model"
    if check.n_equal < check.n:
        text += f"; not {', '.join(check.unlike[:3])}"
    say(text + (f" ({check.n_unknown:,} not checked)" if check.n_unknown else ""))


def _say_value(value: OffPolicy) -> None:
    if value.refused is not None or value.ips is None or value.snips is None:
        say(f"what answers would have been worth is not known: {value.refused}")
        return
    say(
        f"of answers judged, {share(value.snips.value)} ± {share(value.snips.half)} would have been right under this policy (self-normalised; "
        f"IPS {share(value.ips.value)} ± {share(value.ips.half)}; effective sample size {value.ess:,.0f} of {value.n:,})"
    )
    if value.n_left_out:
        say(
            f"note: {value.n_left_out:,} judged decisions left out there: their choice was not drawn by chance"
        )
    if value.unsupported:
        say(f"note: {share(value.unsupported)} of them would go to a model that the log never tried there")


def _reproduction(log: Log, picked: Filter, book: PriceBook) -> Reproduction:
    from router.analysis.replay import Reproduction, reproduce
    from router.analysis.scored import Scored
    from router.log.evidence import score_labels, scored
    from router.log.queries import count

    policies = _policies(log)
    names = set(score_labels(log, picked))
    known = {key: rules for key, rules in policies.items() if set(rules.label_names) <= names}
    # Labels come and go: each policy is replayed on the rows that have its own ones.
    parts = [
        reproduce(
            Scored.from_table(
                scored(log, replace(picked, policy=key), rules.label_names, (), book), rules.label_names, ()
            ),
            {key: rules},
        )
        for key, rules in known.items()
        if picked.policy in (None, key)
    ]
    n = sum(x.n for x in parts)
    return Reproduction(
        n,
        sum(x.n_equal for x in parts),
        count(log, picked) - n,
        tuple(name for x in parts for name in x.unlike)[:20],
    )


def _policies(log: Log) -> dict[str, Policy]:
    """The policies that the log holds and this version reads, by fingerprint."""
    from router.errors import PolicyError
    from router.log.queries import policies_seen
    from router.policy import Policy

    found = {}
    for entry in policies_seen(log):
        if entry["toml"]:
            try:
                found[entry["fingerprint"]] = Policy.from_toml(entry["toml"])
            except PolicyError:  # of a newer or older version
                continue
    return found


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
