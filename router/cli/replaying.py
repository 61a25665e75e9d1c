"""``replay``: what another policy would have made of the logged decisions, and what its answers would have been worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, money, progress, say, share, table, with_half
from router.cli.promising import say_other
from router.cli.reading import _rules, enough
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.off_policy import OffPolicy
    from router.analysis.replay import Reproduction
    from router.analysis.scored import How, Scored
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
        help="Make labels one, with the first one's name and model; repeatable. Scores that sum to 1 are added, else the larger counts.",
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
    from router.analysis.savings import bound, missing
    from router.analysis.scored import Scored, merged_policy
    from router.log.evidence import ground, judgements, newest_classifier, scored

    rules, book = _rules(policy, data)
    merges = read_merges(merge, rules)
    picked = chosen(since, until)
    labels, models = rules.label_names, rules.model_names
    with reading(data) as log:
        own = ground(log, picked, rules.labels_fingerprint, newest_classifier(log, picked))
        how = merge_way(log, own.chosen, labels) if merges else None
        parts = scored_rows(log, own.chosen, labels, models, book)
        again_rules = merged_policy(rules, merges) if merges else rules
        found = again((x.merged(merges, how) for x in parts) if merges else parts, again_rules)
        enough(found.n, log, picked, "with a score for each label of the policy")
        check = _reproduction(log, picked, book)
        worth = None
        if not merges:
            judged = judgements(log, picked)
            audit = judged[judged["queue"] == "audit"]
            rows = Scored.from_table(
                scored(log, own.chosen, labels, models, book, ids=audit["id"].tolist()), labels, models
            )
            worth = value(rows, rules, audit, _policies(log), rng=np.random.default_rng(0))
    plus = "" if found.classifier_known or found.cost_usd is None else "+"
    if json:
        answered = [{"model": name, "n": n} for name, n in found.models]
        emit(
            asdict(found)
            | {"n_other": own.n_other}
            | {"models": answered, "reproduction": asdict(check), "merges": merges}
            | {"off_policy": None if worth is None else asdict(worth)}
        )
    else:
        table(
            ("", ""),
            [
                ("decisions", f"{found.n:,}"),
                ("fallback share", share(found.fallback_share)),
                ("cost", money(found.cost_usd) + plus),
                (
                    "USD per 1,000",
                    with_half(
                        money(found.cost_per_1000) + plus,
                        None if found.cost_half is None else money(found.cost_half),
                    ),
                ),
                *((name, f"{n:,}") for name, n in found.models),
            ],
            right=("",),
        )
    say_other(own)
    if found.n_left_out:
        say(f"note: {found.n_left_out:,} decisions left out: they lack a score for a label of the policy")
    say(
        f"costs are over {found.n_priced:,} decisions, classifier included, of the tokens that were used; another model may use others"
    )
    if plus:
        say(f"note: {bound(missing(False, True))}")
    if found.n_unsupported:
        say(
            f"note: {found.n_unsupported:,} of {found.n_changed:,} decisions that would go to another model had no chance to: what it would have "
            "answered is in no log. Without exploration a log certifies raising a threshold, never lowering it"
        )
    if how is not None:
        say_merge(how, merges, rules)
    say_reproduction(check)
    if worth is not None:
        _say_value(worth)


def scored_rows(
    log: Log,
    picked: Filter,
    labels: Sequence[str],
    models: Sequence[str],
    book: PriceBook,
    new_book: PriceBook | None = None,
) -> Iterator[Scored]:
    """All scores and costs of the decisions that a filter picks, part by part, with a bar that says how far it is.

    ``new_book``: prices of another policy, as :attr:`Scored.new_costs`.
    """
    from router.analysis.scored import Scored
    from router.log.evidence import scored_parts
    from router.log.queries import count

    with progress("reading scores", count(log, picked), unit="decisions") as advance:
        for part in scored_parts(log, picked, labels, models, book, new_prices=new_book, progress=advance):
            yield Scored.from_table(part, labels, models)


def merge_way(log: Log, picked: Filter, labels: Sequence[str]) -> How:
    """How scores of merged labels become one: added where the scores of every decision sum to 1, else the larger one."""
    from router.analysis.calibration import SIMPLEX
    from router.log.evidence import sum_to_1

    return "sum" if sum_to_1(log, picked, labels, within=SIMPLEX) else "max"


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


def say_merge(
    how: How, merges: Mapping[str, Sequence[str]] | None = None, rules: Policy | None = None
) -> None:
    """How the scores of merged labels became one, and which model answers; ``merges`` of ``rules`` are named with theirs."""
    way = "added (they sum to 1)" if how == "sum" else "the larger of each (they do not sum to 1)"
    text = f"merged scores are {way}; the model of the label named first answers"
    if merges and rules is not None:
        models = ", ".join(f"{' + '.join(x)}: {rules.by_name[x[0]].model}" for x in merges.values())
        text += f" ({models})"
    say(text)


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
    from router.log.evidence import score_labels
    from router.log.queries import count

    policies = _policies(log)
    names = set(score_labels(log, picked))
    known = {key: rules for key, rules in policies.items() if set(rules.label_names) <= names}
    # Labels come and go: each policy is replayed on the rows that have its own ones.
    parts = [
        reproduce(scored_rows(log, replace(picked, policy=key), rules.label_names, (), book), {key: rules})
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
