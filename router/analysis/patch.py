"""What differs between two policies as a TOML patch that carries its evidence, and the sentences that tables say too."""

from __future__ import annotations

from collections.abc import Sequence

from router.analysis.diff import Change, PolicyDiff
from router.analysis.savings import bound, missing
from router.analysis.unsaid import toml_value
from router.policy import EMPTY_PATCH, NOT_IN_PATCH, Policy


def toml_patch(found: PolicyDiff, old: Policy, new: Policy, *, notes: Sequence[str] = ()) -> str:
    """The keys that differ, as TOML with the evidence as comments: thresholds, margin, fallback model, baseline, labels' models.

    What else differs is named in comments, and so is why a patch sets no key.

    >>> from router.policy import Policy
    >>> seed = Policy.preset("seed")
    >>> print(toml_patch(_no_evidence(seed), seed, seed.with_threshold(0.42)), end="")
    # evidence: no decisions
    threshold = 0.42  # was 0.55
    """
    keys: list[str] = []
    for key in ("threshold", "min_margin", "fallback_model", "baseline"):
        one, two = getattr(old, key), getattr(new, key)
        if two is not None and one != two:
            keys.append(f"{key} = {toml_value(two)}{_was(one)}")
    for label in new.labels:
        before = old.by_name.get(label.name)
        changed = [
            f"{key} = {toml_value(getattr(label, key))}{_was(getattr(before, key, None))}"
            for key in ("model", "threshold")
            if getattr(label, key) not in (None, getattr(before, key, None))
        ]
        if changed:
            keys += ["", "[[labels]]", f"name = {toml_value(label.name)}", *changed]
    comments = [*_evidence(found), *notes, *(f"{NOT_IN_PATCH}: {x.words}" for x in found.not_in_patch)]
    if not keys:
        why = (
            "the policies differ only in what a patch cannot set"
            if found.not_in_patch
            else "the policies do not differ"
        )
        comments.insert(0, f"{EMPTY_PATCH}: it sets no key, because {why}")
    return "\n".join([*(f"# {text}" for text in comments), *keys]) + "\n"


def _evidence(found: PolicyDiff) -> list[str]:
    total = found.total
    if total.n == 0:
        return ["evidence: no decisions"]
    lines = [
        f"evidence: {total.n:,} decisions from {found.first} to {found.last}; {total.changing:,} change model, "
        f"{total.crossing:,} cross a line",
        f"fallback share {total.old_fallback / total.n:.2%} -> {total.new_fallback / total.n:.2%}",
    ]
    if found.old_cost is not None and found.new_cost is not None:
        half = "" if found.cost_half is None else f" +- {found.cost_half:.4g}"
        plus = "" if found.classifier_known else "+"
        lines.append(
            f"USD per 1,000: {found.old_cost:.4g}{plus} -> {found.new_cost:.4g}{plus}, {found.new_cost - found.old_cost:+.4g}{half} "
            f"(95 %) over {total.n_priced:,} priced decisions, classifier included; same tokens assumed"
        )
        if plus:
            lines.append(bound(missing(False, True)))
    else:
        lines.append("cost: not measured")
    if found.repriced:
        lines.append(prices_differ(found.repriced))
    if found.call_prices is not None:
        lines.append(calls_differ(found.call_prices))
    if found.savings_change is not None:
        half = "" if found.savings_half is None else f" +- {100 * found.savings_half:.2f}"
        lines.append(
            f"savings against {found.against}: {100 * found.savings_change:+.2f}{half} points (95 %)"
        )
    for part in found.worse:
        more = f", {part.n_other_cost:,} cost another sum" if found.stays else ""
        lines.append(f"dearer: {part.name}, {part.changing:,} of {part.n:,} change model{more}")
    lines.append("whether answers get better or worse is not in the log")
    return lines


def prices_differ(models: Sequence[str]) -> str:
    """The sentence that says whose prices are not the same on both sides.

    >>> prices_differ(["gpt-4o"])
    'prices differ between the policies: gpt-4o; each side is priced by its own'
    """
    return f"prices differ between the policies: {', '.join(models)}; each side is priced by its own"


def calls_differ(prices: tuple[float, float]) -> str:
    """The sentence that says that calls of the two policies' classifiers differ in price.

    >>> calls_differ((0.0, 0.0002))
    "a classifier's call costs 0 USD before and 0.0002 after, say the policies; both costs hold that, the changes by part do not"
    """
    one, other = (f"{x:.4g}" for x in prices)
    return f"a classifier's call costs {one} USD before and {other} after, say the policies; both costs hold that, the changes by part do not"


def _was(value: object) -> str:
    return "" if value is None else f"  # was {toml_value(value)}"


def _no_evidence(policy: Policy) -> PolicyDiff:
    """A diff without a decision."""
    none = Change("all", 0, 0, 0, 0, 0, 0, 0, None, None, False, False)
    name = policy.fingerprint
    return PolicyDiff(
        name,
        name,
        none,
        (),
        (),
        (),
        (),
        None,
        None,
        None,
        True,
        None,
        None,
        None,
        (),
        None,
        (),
        None,
        None,
        (),
        0,
    )
