"""``policy diff`` and ``policy apply``: what another policy would change, on the log, and putting it in force."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router.cli.export import chosen, reading
from router.cli.options import Data, Json, PolicyFile, Since, Until
from router.cli.output import emit, money, say, share, shortened, signed_money, table, with_half
from router.cli.pairing import read_text
from router.cli.promising import say_other
from router.cli.reading import _rules, enough
from router.cli.replaying import Merge, merge_way, read_merges, say_merge, scored_rows
from router.errors import InputError

if TYPE_CHECKING:
    from router.analysis.diff import Change, PolicyDiff
    from router.policy import Policy

CHANGE = "change in USD"

SHOWN = 5
"""Decisions that change model and are printed; --json has more."""


def policy_diff(
    new: Annotated[
        Path | None,
        typer.Argument(
            metavar="[NEW]", show_default=False, help="Policy file to compare with the one in force."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            "-t",
            show_default=False,
            help="Instead of a file: the same policy at this threshold.",
        ),
    ] = None,
    merge: Merge = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print the changed keys as TOML, the evidence in comments.")
    ] = False,
    since: Since = None,
    until: Until = None,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Compare a policy with the one in force. Which decisions change model, what it costs, where it gets dearer."""
    from router.analysis.diff import policy_diff as compare
    from router.analysis.patch import toml_patch
    from router.analysis.scored import merged_policy
    from router.cli.reading import _check_threshold
    from router.log import evidence
    from router.policy import Policy
    from router.prices import PriceBook

    if (new is None) == (threshold is None) and not (merge and new is None):
        raise typer.BadParameter("give a policy file, --threshold, or --merge")
    if toml and json:
        raise typer.BadParameter("give --toml or --json, not both")
    old, _ = _rules(policy, data)
    merges = read_merges(merge, old)
    if threshold is not None:
        _check_threshold(threshold)
    candidate = (
        Policy.load(new) if new is not None else old if threshold is None else old.with_threshold(threshold)
    )
    if merges and new is None:
        candidate = merged_policy(candidate, merges)
    unknown = [x for x in candidate.label_names if x not in old.by_name]
    if unknown:
        raise InputError(
            f"the new policy has labels that the log has no scores for: {', '.join(unknown)}; only a classifier can score them"
        )
    book, new_book = PriceBook(old.models), PriceBook(candidate.models)
    models = tuple(dict.fromkeys((*old.model_names, *candidate.model_names)))
    picked = chosen(since, until)
    with reading(data) as log:
        own = evidence.ground(log, picked, old.labels_fingerprint, evidence.newest_classifier(log, picked))
        how = merge_way(log, own.chosen, old.label_names) if merges else None
        lengths = evidence.prompt_lengths(log, own.chosen, old.label_names)
        others = evidence.repriced(log, own.chosen, models, book, new_book)
        parts = scored_rows(log, own.chosen, old.label_names, models, book, new_book if others else None)
        found = compare(parts, old, candidate, merges=merges, how=how, lengths=lengths, repriced=others)
        enough(found.total.n, log, picked, "with a score for each label of the policy")
        prompts = evidence.prompts(log, [x.id for x in found.flips[:SHOWN]])
    if toml:
        today = datetime.now(UTC).date()
        typer.echo(
            toml_patch(found, old, candidate, notes=[f"made on {today}, against policy {old.fingerprint}"]),
            nl=False,
        )
    elif json:
        emit(asdict(found) | {"n_other": own.n_other, "worse": [x.name for x in found.worse]})
    else:
        _print_diff(found, prompts)
    say_other(own)
    _say_diff(found)
    if threshold is not None:
        _say_kept(old)
    if how is not None:
        say_merge(how, merges, old)
        if toml:
            say("note: a merge changes labels and rubrics, which a patch cannot; edit the policy by hand")


def _say_kept(rules: Policy) -> None:
    """Labels that a threshold for all does not reach."""
    for x in rules.labels:
        if x.threshold is not None:
            say(f"note: {x.name} keeps its own threshold ({x.threshold:g}); -t does not move it")


def apply(
    patch: Annotated[
        str,
        typer.Argument(
            metavar="PATCH|-",
            show_default=False,
            help="What 'policy diff --toml' printed; - is standard input.",
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference; write nothing.")] = False,
    data: Data = None,
    policy: PolicyFile = None,
    json: Json = False,
) -> None:
    """Change the policy in force by a patch. Comments stay, the old file is kept beside it."""
    from router.config import data_dir
    from router.policy import NOT_IN_PATCH, Policy
    from router.policy_edit import diff, left_out, save, source_text, with_patch_text

    folder = data_dir(data)
    text = source_text(policy, folder)
    wanted = read_text(patch)
    changed = with_patch_text(text, wanted)
    lines = diff(text, changed)
    path = None
    if lines and not dry_run:
        path = save(folder, changed, expected_old=text, policy_file=policy)
    rules = Policy.from_toml(changed)
    if json:
        emit({"diff": lines, "path": path, "fingerprint": rules.fingerprint})
    elif lines:
        typer.echo(lines, nl=False)
    if path is not None:
        say(f"saved to {path}; the old one is kept beside it")
    elif not lines:
        say("the policy says so already; nothing to change")
    for words in left_out(wanted):
        say(f"note: {NOT_IN_PATCH}: {words}; edit the policy")


def _print_diff(found: PolicyDiff, prompts: dict[str, str | None]) -> None:
    columns = ("", "decisions", "change model", "fallback before", "after", CHANGE, "")
    table(columns, [_row(x) for x in (found.total, *found.by_label, *(y for y in found.segments if not y.name.startswith("label ")))],
          right=columns[1:6])  # fmt: skip
    if found.moves or found.stays:
        typer.echo()
        table(
            ("from", "to", "decisions", CHANGE),
            [
                *((x.old_model, x.new_model, f"{x.n:,}", signed_money(x.cost_change)) for x in found.moves),
                *(
                    (x.old_model, "the same, at another price", f"{x.n:,}", signed_money(x.cost_change))
                    for x in found.stays
                ),
            ],
            right=("decisions", CHANGE),
        )
    if found.flips:
        typer.echo()
        table(
            ("changes most", "prompt", "label", "confidence", "from", "to", CHANGE),
            [
                (x.id, shortened(prompts.get(x.id)), x.label, f"{x.confidence:.3f}", x.old_model, x.new_model, signed_money(x.cost_change))
                for x in found.flips[:SHOWN]
            ],
            right=("confidence", CHANGE),
        )  # fmt: skip


def _row(x: Change) -> tuple[str, ...]:
    mark = "dearer" if x.is_dearer else "cheaper" if x.is_cheaper else ""
    half = None if x.cost_half is None else money(x.cost_half)
    before, after = (share(k / x.n) if x.n else "" for k in (x.old_fallback, x.new_fallback))
    return (
        x.name,
        f"{x.n:,}",
        f"{x.changing:,}",
        before,
        after,
        with_half(signed_money(x.cost_change), half),
        mark,
    )


def _say_diff(found: PolicyDiff) -> None:
    from router.analysis.patch import calls_differ, prices_differ
    from router.analysis.savings import bound, missing
    from router.policy import NOT_IN_PATCH

    if found.old_cost is not None and found.new_cost is not None:
        half = None if found.cost_half is None else money(found.cost_half)
        change = with_half(signed_money(found.new_cost - found.old_cost), half)
        plus = "" if found.classifier_known else "+"
        say(
            f"USD per 1,000: {money(found.old_cost)}{plus} before, {money(found.new_cost)}{plus} after, {change} (95 %), classifier "
            "included"
        )
        if plus:
            say(f"note: {bound(missing(False, True))}")
    if found.repriced:
        say(prices_differ(found.repriced))
    if found.call_prices is not None:
        say(calls_differ(found.call_prices))
    if found.savings_change is not None:
        half = None if found.savings_half is None else f"{100 * found.savings_half:.1f}"
        change = with_half(f"{100 * found.savings_change:+.1f}", half)
        say(f"savings against {found.against} change by {change} points")
    for key in found.not_in_patch:
        say(f"note: {NOT_IN_PATCH}: {key.words}")
    for part in found.worse:
        say(f"dearer beyond chance: {part.name}")
    if found.n_left_out:
        say(f"note: {found.n_left_out:,} decisions left out: they lack a score for a label of the policy")
    say("same tokens assumed under another model; whether answers get better or worse is not in the log")
