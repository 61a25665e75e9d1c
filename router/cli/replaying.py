"""``replay``: what another policy would have made of the logged decisions, and what its answers would have been worth."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, money, say, share, table, with_half
from router.cli.reading import _rules, enough
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.off_policy import OffPolicy
    from router.analysis.replay import Reproduction
    from router.analysis.scored import Scored
    from router.log.queries import Filter
    from router.log.reader import Log
    from router.policy import Policy
    from router.prices import PriceBook

Merge = Annotated[
    list[str] | None,
    typer.Option(
        "--merge",
        metavar="A,B",
        show_default=False,
        help="Make labels one, under the first one's name; repeatable. Scores that sum to 1 are added, else the larger counts.",
    ),
]


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
