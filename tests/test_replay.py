"""Replays and diffs of logged scores: equal to deciding one by one, with the evidence that a change is saved with."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.analysis.diff import policy_diff
from router.analysis.overlap_scores import (
    MergeSums,
    ScoreSums,
    SplitSums,
    merge_effect,
    order_by_likeness,
    split_suggestions,
)
from router.analysis.patch import toml_patch
from router.analysis.replay import replay, reproduce
from router.analysis.scored import Scored, merged_policy
from router.log_settings import LogSettings
from router.policy import ClassifierPrice, Model, Policy, PriceOverride, decide
from router.spend_caps import SpendCaps
from router.types import Label

START = datetime(2026, 11, 1)
MODELS = ("small", "big", "middle")
RATE = {"small": 0.001, "big": 0.02, "middle": 0.006}
Z = 1.959963984540054


def policy(threshold: float = 0.55, **more) -> Policy:
    labels = (
        Label("cheap", "is it easy?", model="small"),
        Label("dear", "is it hard?", model="big"),
        Label("same", "is it prose?", model="middle"),
    )
    return Policy(labels, threshold=threshold, fallback_model="middle", **({"baseline": "big"} | more))


def rows(
    n: int = 300,
    seed: int = 1,
    *,
    scores=None,
    simplex: bool = True,
    priced: float = 1.0,
    asked: object = 0.0,
) -> Scored:
    rng = np.random.default_rng(seed)
    if scores is None:
        scores = rng.gamma(0.6, 1, (n, 3))
        scores = scores / scores.sum(axis=1, keepdims=True) if simplex else np.minimum(scores, 1.0)
    scores = np.asarray(scores, dtype=float).reshape(-1, 3)
    n = len(scores)
    size = rng.gamma(2, 1, n)
    size[rng.random(n) > priced] = np.nan
    table = pd.DataFrame(
        {
            "id": [f"id{i}" for i in range(n)],
            "decided_at": [START + timedelta(hours=i) for i in range(n)],
            "model_chosen": [
                decide(dict(zip(policy().label_names, x, strict=True)), policy()).model_chosen
                for x in scores.tolist()
            ],
            "cause": "routed",
            "policy": policy().fingerprint,
            "prompt_chars": rng.integers(10, 900, n),
            "source": rng.choice(["router", "cli"], n),
            "propensity": np.nan,
            "classifier_cost": asked,
        }
        | {f"score:{name}": scores[:, i] for i, name in enumerate(policy().label_names)}
        | {f"cost:{name}": RATE[name] * size for name in MODELS}
    )
    return Scored.from_table(table, policy().label_names, MODELS)


def parts(found: Scored, size: int = 37) -> list[Scored]:
    """The same decisions in parts and in another order, as a long log is read."""
    turned = np.random.default_rng(9).permutation(len(found))
    return [
        found.of(np.isin(np.arange(len(found)), turned[i : i + size])) for i in range(0, len(found), size)
    ]


def same(one, other) -> None:
    """Two results are equal, sums but for rounding."""
    one, other = asdict(one), asdict(other)
    assert one.keys() == other.keys()
    for key, value in one.items():
        _same(value, other[key])


def _same(one, other) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = tuple(one.values()), tuple(other.values())
    if isinstance(one, tuple | list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            _same(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12)
    else:
        assert one == other


def sums_of(scores, tau: float = 0.5) -> ScoreSums:
    found = ScoreSums(np.shape(scores)[1], tau)
    found.add(np.asarray(scores, dtype=float))
    return found


def one_by_one(found: Scored, rule: Policy) -> list[str]:
    return [decide(dict(zip(found.labels, x, strict=True)), rule).model_chosen for x in found.scores.tolist()]


# Replay


def test_the_policy_that_made_a_log_reproduces_all_of_it():
    found = rows(500)
    again = reproduce(found, {policy().fingerprint: policy()})
    assert (again.n, again.n_equal, again.n_unknown, again.unlike) == (500, 500, 0, ())
    other = reproduce(found, {policy().fingerprint: policy(0.9)})  # a wrong policy under that name shows
    assert other.n_equal < 500
    assert 0 < len(other.unlike) <= 20


def test_what_no_known_policy_made_and_what_a_caller_forced_is_counted_apart():
    found = rows(50)
    found.meta.loc[:9, "policy"] = "ffff"
    found.meta.loc[10:14, "cause"] = "forced"
    again = reproduce(found, {policy().fingerprint: policy()})
    assert (again.n, again.n_equal, again.n_unknown) == (35, 35, 15)


@settings(max_examples=25, deadline=None)
@given(
    threshold=st.integers(0, 100).map(lambda k: k / 100),
    margin=st.none() | st.integers(0, 50).map(lambda k: k / 100),
)
def test_a_replay_is_the_rule_decision_by_decision(threshold, margin):
    found, rule = rows(40), policy(threshold, min_margin=margin)
    models = one_by_one(found, rule)
    cost = [found.costs[i, MODELS.index(m)] for i, m in enumerate(models)]
    again = replay(found, rule)
    assert dict(again.models) == {m: models.count(m) for m in set(models)}
    assert again.cost_usd == pytest.approx(sum(cost))
    assert again.cost_half == pytest.approx(1000 * Z * np.std(cost, ddof=1) / np.sqrt(40))


def test_decisions_that_no_other_model_had_a_chance_to_answer_are_counted():
    found = rows(300)
    assert (replay(found, policy()).n_changed, replay(found, policy()).n_unsupported) == (0, 0)
    moved = [a != b for a, b in zip(one_by_one(found, policy(0.8)), found.meta["model_chosen"], strict=True)]
    again = replay(found, policy(0.8))
    assert again.n_changed == again.n_unsupported == sum(moved) > 20
    found.meta.loc[:99, "propensity"], found.meta.loc[100:149, "propensity"] = 0.9, 1.0
    assert replay(found, policy(0.8)).n_unsupported == sum(moved[100:])


def test_costs_that_are_not_known_are_left_out_and_counted():
    found = replay(rows(200, priced=0.5), policy())
    assert 60 < found.n_priced < 140
    none = replay(rows(20, priced=0.0), policy())
    assert (none.n_priced, none.cost_usd, none.cost_per_1000) == (0, None, None)


def test_what_the_classifier_cost_is_in_every_cost_and_in_no_change():
    free, found = rows(200, priced=0.5), rows(200, priced=0.5, asked=np.arange(200) / 1e5)
    priced = ~np.isnan(found.costs[:, 0])
    more = 1000 * np.mean(np.arange(200)[priced]) / 1e5
    one, two = replay(free, policy()), replay(found, policy())
    assert two.cost_per_1000 == pytest.approx(one.cost_per_1000 + more)
    assert two.classifier_usd == pytest.approx(more * two.n_priced / 1000)
    assert two.classifier_known and two.cost_half == one.cost_half
    before, after = (policy_diff(x, policy(0.4), policy(0.8)) for x in (free, found))
    assert after.old_cost == pytest.approx(before.old_cost + more)
    assert after.new_cost == pytest.approx(before.new_cost + more)
    for name in ("total", "segments", "moves", "flips", "cost_half", "savings_change", "savings_half"):
        assert getattr(before, name) == getattr(after, name)


def test_a_classifier_s_cost_that_the_log_lacks_makes_costs_a_lower_bound():
    found = rows(200, asked=np.where(np.arange(200) < 9, np.nan, 0.001))
    again = replay(found, policy())
    assert (again.classifier_known, again.cost_half) == (False, None)
    assert again.classifier_usd == pytest.approx(0.191)
    diff = policy_diff(found, policy(0.4), policy(0.8))
    assert not diff.classifier_known and diff.cost_half > 0  # both sides lack the same
    assert "the classifier's cost is not known for some decisions" in toml_patch(
        diff, policy(0.4), policy(0.8)
    )
    assert f"{diff.old_cost:.4g}+ -> {diff.new_cost:.4g}+, " in toml_patch(diff, policy(0.4), policy(0.8))
    known = policy_diff(rows(200), policy(0.4), policy(0.8))
    assert "+ ->" not in toml_patch(known, policy(0.4), policy(0.8))


def test_a_policy_with_labels_in_another_order_reads_the_same_scores():
    turned = replace(policy(), labels=policy().labels[::-1])
    assert replay(rows(), turned).models == replay(rows(), policy()).models
    with pytest.raises(ValueError, match="no scores for label new"):
        replay(rows(), replace(policy(), labels=(*policy().labels, Label("new", "?", model="small"))))


def test_merged_labels_add_where_scores_sum_to_1_and_take_the_larger_where_not():
    one = rows(scores=[[0.4, 0.35, 0.25]]).merged({"both": ("cheap", "dear")})
    assert (one.labels, one.scores.tolist()) == (("both", "same"), [[0.75, 0.25]])
    two = rows(scores=[[0.4, 0.9, 0.8]]).merged({"both": ("cheap", "dear")})
    assert two.scores.tolist() == [[0.9, 0.8]]
    rule = merged_policy(policy(), {"both": ("dear", "cheap")})
    assert [(x.name, x.model) for x in rule.labels] == [("both", "big"), ("same", "middle")]
    for bad in ({"x": ("cheap", "none")}, {"x": ("cheap", "dear"), "y": ("dear", "same")}):
        with pytest.raises(ValueError, match="at most once"):
            rows().merged(bad)


def test_rows_without_a_score_for_each_label_are_left_out():
    scores = np.array([[0.7, 0.2, 0.1], [np.nan, 0.6, 0.4]])
    table = pd.DataFrame({x: ["1", "2"] for x in ("id", "model_chosen", "cause", "policy", "source")})
    table = table.assign(
        decided_at=START, prompt_chars=3, propensity=np.nan, classifier_cost=0.0, **{"cost:small": 0.1}
    )
    table = table.assign(**{f"score:{x}": scores[:, i] for i, x in enumerate(policy().label_names)})
    found = Scored.from_table(table, policy().label_names, ("small",))
    assert (len(found), found.n_left_out) == (1, 1)
    assert np.isnan(found.cost_of(np.array(["unknown"], dtype=object))).all()
    with pytest.raises(ValueError, match="no column score:x"):
        Scored.from_table(table, ("x",), ("small",))


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    size=st.integers(20, 140),
    simplex=st.booleans(),
    priced=st.sampled_from([0.0, 0.7, 1.0]),
)
def test_decisions_in_parts_give_what_they_give_whole(seed, size, simplex, priced):
    found, rule = rows(150, seed, simplex=simplex, priced=priced), policy(0.5, min_margin=0.1)
    some, known_by = parts(found, size), {policy().fingerprint: policy(0.9)}
    same(replay(iter(some), rule), replay(found, rule))
    same(reproduce(iter(some), known_by), reproduce(found, known_by))
    merges, how = {"both": ("cheap", "dear")}, found.natural_merge
    lengths = np.quantile(found.meta["prompt_chars"], [0.25, 0.5, 0.75])
    for more in ({}, {"merges": merges, "how": how}):
        new = merged_policy(rule, merges) if more else policy(0.7)
        same(
            policy_diff(iter(some), policy(), new, lengths=lengths, **more),
            policy_diff(found, policy(), new, **more),
        )
    merge, split, totals = MergeSums(rule, "dear", "cheap", how), SplitSums(policy()), ScoreSums(3, 0.4)
    for part in some:
        merge.add(part)
        split.add(part)
        totals.add(part.scores)
    same(merge.effect(), merge_effect(found, rule, "dear", "cheap"))
    assert split.suggestions() == split_suggestions(found, policy())
    whole = sums_of(found.scores, 0.4)
    assert totals.margin_quantiles() == whole.margin_quantiles()
    assert totals.score_sums() == whole.score_sums()
    np.testing.assert_allclose(totals.coactivation(), whole.coactivation())
    np.testing.assert_allclose(totals.bhattacharyya(), whole.bhattacharyya())


# Diff


def test_a_diff_is_the_two_replays_decision_by_decision():
    found, old, new = rows(), policy(0.5), policy(0.7, min_margin=0.2)
    before, after = one_by_one(found, old), one_by_one(found, new)
    d = np.array(
        [
            found.costs[i, MODELS.index(b)] - found.costs[i, MODELS.index(a)]
            for i, (a, b) in enumerate(zip(before, after, strict=True))
        ]
    )
    diff = policy_diff(found, old, new)
    assert diff.total.n == 300
    assert diff.total.changing == sum(a != b for a, b in zip(before, after, strict=True))
    assert diff.total.cost_change == pytest.approx(d.sum())
    assert diff.total.cost_half == pytest.approx(Z * np.sqrt(300) * d.std(ddof=1))
    assert diff.new_cost - diff.old_cost == pytest.approx(1000 * d.mean())
    assert diff.old_cost == pytest.approx(replay(found, old).cost_per_1000)
    base = found.costs[:, MODELS.index("big")].sum()
    assert diff.savings_change == pytest.approx(-d.sum() / base)
    assert sum(x.n for x in diff.by_label) == 300
    assert sum(x.cost_change for x in diff.by_label) == pytest.approx(d.sum())
    assert sum(x.n for x in diff.moves) == diff.total.changing
    assert sum(x.cost_change for x in diff.moves) == pytest.approx(d.sum())
    assert len(diff.flips) == 20
    place = [int(x.id[2:]) for x in diff.flips]
    changed = np.abs(d[place])
    assert [x.cost_change for x in diff.flips] == pytest.approx(d[place])
    assert [(x.old_model, x.new_model) for x in diff.flips] == [(before[i], after[i]) for i in place]
    assert (np.diff(changed) <= 0).all() and changed[0] == np.abs(d).max()


@pytest.mark.parametrize("factor", [{"big": 0.5}, {"middle": 3.0}, {"big": 0.5, "middle": 3.0}], ids=str)
def test_each_side_of_a_diff_is_at_its_own_prices(factor):
    one = rows(asked=0.0004)
    found = replace(one, new_costs=one.costs * [factor.get(x, 1.0) for x in MODELS])
    other, old, new = replace(one, costs=found.new_costs), policy(0.5), policy(0.7)
    before, after = one_by_one(found, old), one_by_one(found, new)
    cost = one.cost_of(np.array(before, dtype=object))
    new_cost = other.cost_of(np.array(after, dtype=object))
    d = new_cost - cost
    diff = policy_diff(found, old, new, repriced=tuple(factor))
    assert diff.old_cost == pytest.approx(replay(one, old).cost_per_1000)
    assert diff.new_cost == pytest.approx(replay(other, new).cost_per_1000)
    assert diff.total.cost_change == pytest.approx(d.sum())
    assert diff.total.cost_half == pytest.approx(Z * np.sqrt(300) * d.std(ddof=1))
    assert sum(x.cost_change for x in diff.by_label) == pytest.approx(d.sum())
    assert sum(x.cost_change for x in (*diff.moves, *diff.stays)) == pytest.approx(d.sum())
    assert diff.total.n_other_cost == np.sum(d != 0)
    assert {x.old_model for x in diff.stays} <= set(factor)
    assert [x.cost_change for x in diff.flips] == pytest.approx([d[int(x.id[2:])] for x in diff.flips])

    base, new_base = one.costs[:, 1], other.costs[:, 1]
    paid, new_paid = cost + 0.0004, new_cost + 0.0004
    share, new_share = paid.sum() / base.sum(), new_paid.sum() / new_base.sum()
    assert diff.savings_change == pytest.approx(share - new_share)
    residual = (new_paid - new_share * new_base) / new_base.mean() - (paid - share * base) / base.mean()
    assert diff.savings_half == pytest.approx(Z * residual.std(ddof=1) / np.sqrt(300))
    text = toml_patch(diff, old, new)
    assert (
        f"# prices differ between the policies: {', '.join(factor)}; each side is priced by its own" in text
    )
    assert ("big at either price" in text) == ("big" in factor)
    same(policy_diff(iter(parts(found)), old, new, lengths=[], repriced=tuple(factor)),
         policy_diff(found, old, new, lengths=[], repriced=tuple(factor)))  # fmt: skip


def test_a_price_alone_makes_a_segment_dearer():
    one = rows(300)
    found = replace(one, new_costs=one.costs * [1.0, 2.0, 1.0])
    diff = policy_diff(found, policy(), policy(), repriced=("big",))
    assert (diff.total.changing, diff.moves, diff.flips) == (0, (), ())
    (stay,) = diff.stays
    assert (stay.old_model, stay.new_model, stay.n) == ("big", "big", diff.total.n_other_cost)
    assert "label dear" in [x.name for x in diff.worse]
    assert "cost another sum" in toml_patch(diff, policy(), policy())


def test_a_baseline_of_two_prices_needs_every_cost():
    one = rows(50, asked=np.where(np.arange(50) < 9, np.nan, 0.001))
    found = replace(one, new_costs=one.costs * [1.0, 2.0, 1.0])
    assert policy_diff(found, policy(0.4), policy(0.8), repriced=("big",)).savings_change is None
    assert policy_diff(one, policy(0.4), policy(0.8)).savings_change is not None


def test_the_same_policy_changes_nothing():
    diff = policy_diff(rows(), policy(), policy())
    assert (diff.total.changing, diff.total.crossing, diff.total.cost_change, diff.moves, diff.worse) == (
        0,
        0,
        0.0,
        (),
        (),
    )


def test_segments_that_get_dearer_are_named_and_noise_is_not():
    diff = policy_diff(rows(800), policy(0.4), policy(0.8))
    names = [x.name for x in diff.worse]
    assert "label cheap" in names  # its fallback costs six times as much
    dear = next(x for x in diff.segments if x.name == "label dear")
    assert dear.is_cheaper and not dear.is_dearer
    same = next(x for x in diff.segments if x.name == "label same")
    assert (same.changing, same.cost_change, same.crossing > 0) == (0, 0.0, True)
    lengths = [x for x in diff.segments if x.name.startswith("prompts of")]
    assert sum(x.n for x in lengths) == 800
    assert {x.name for x in diff.segments if x.name.startswith("source")} == {"source cli", "source router"}
    few = policy_diff(rows(9), policy(0.0), policy(1.0))
    assert few.worse == ()  # nine changes prove nothing


def test_merged_labels_can_be_compared_with_what_was():
    found = rows()
    merges = {"both": ("cheap", "dear")}
    diff = policy_diff(found, policy(), merged_policy(policy(), merges), merges=merges)
    assert diff.total.new_fallback < diff.total.old_fallback


def test_a_patch_holds_the_changed_keys_and_their_evidence():
    old = policy(0.5)
    new = replace(
        policy(0.7, min_margin=0.1), labels=(replace(policy().labels[0], threshold=0.4), *policy().labels[1:])
    )
    text = toml_patch(policy_diff(rows(), old, new), old, new, notes=["made on 2026-11-29"])
    assert tomllib.loads(text) == {
        "threshold": 0.7,
        "min_margin": 0.1,
        "labels": [{"name": "cheap", "threshold": 0.4}],
    }
    comments = [x for x in text.splitlines() if x.startswith("#")]
    assert comments[0].startswith("# evidence: 300 decisions from 2026-11-01 to 2026-11-13; ")
    assert "(95 %) over 300 priced decisions" in text
    assert "savings against big: " in text
    assert "# made on 2026-11-29" in comments
    back = toml_patch(policy_diff(rows(), new, old), new, old)
    assert tomllib.loads(back) == {"threshold": 0.5}
    assert "# not in the patch: min_margin: 0.1 -> none; compared in the diff" in back
    assert "# not in the patch: labels.cheap.threshold: 0.4 -> none; compared in the diff" in back
    gone = replace(policy(0.5), labels=policy().labels[1::-1])
    text = toml_patch(policy_diff(rows(), old, gone), old, gone)
    assert "# not in the patch: labels.same: there -> gone; compared in the diff" in text
    assert "# not in the patch: labels: in another order; compared in the diff" in text
    assert text.startswith(
        "# this patch is empty: it sets no key, because the policies differ only in what a patch cannot set\n"
    )


def relabelled(**changes) -> Policy:
    """The policy with another setting of its first label."""
    return replace(policy(), labels=(replace(policy().labels[0], **changes), *policy().labels[1:]))


def modelled(**settings) -> Policy:
    """The policy with a setting of one model."""
    return policy(models={"big": Model("big", **settings)})


OVERRIDE = PriceOverride(Decimal(1), Decimal(2))
NOT_COMPARED, SCORES = "not compared in the diff", "it would give other scores"
KEYS = {
    "name": (policy(name="x"), f'"policy" -> "x"; {NOT_COMPARED}'),
    "exploration": (policy(exploration=0.1), f"0.0 -> 0.1; {NOT_COMPARED}"),
    "failover": (policy(failover=("small",)), f'[] -> ["small"]; {NOT_COMPARED}'),
    "tiers": (policy(tiers=("small", "big")), f'[] -> ["small", "big"]; {NOT_COMPARED}'),
    "classifier": (policy(classifier="scaledown"), f'"local" -> "scaledown"; {NOT_COMPARED}: {SCORES}'),
    "log.prompts": (policy(log=LogSettings("hash")), f'"full" -> "hash"; {NOT_COMPARED}'),
    "log.durability": (policy(log=LogSettings(durability="power")), f'"process" -> "power"; {NOT_COMPARED}'),
    "spend.per_day_usd": (policy(spend=SpendCaps(Decimal("9.5"))), f"none -> 9.5; {NOT_COMPARED}"),
    "labels.cheap.rubric": (relabelled(rubric="is it?"), f"{NOT_COMPARED}: {SCORES}"),
    "labels.cheap.examples": (relabelled(examples=("one",)), f"{NOT_COMPARED}: {SCORES}"),
    "labels.cheap.failover": (relabelled(failover=("big",)), f'[] -> ["big"]; {NOT_COMPARED}'),
    "models.big.provider": (modelled(provider="openai"), f'none -> "openai"; {NOT_COMPARED}'),
    "models.big.max_tokens": (modelled(max_tokens=9), f"1024 -> 9; {NOT_COMPARED}"),
    "models.big.api": (modelled(api="responses"), f'"chat" -> "responses"; {NOT_COMPARED}'),
    "models.big.key_env": (modelled(key_env="A_SECRET"), NOT_COMPARED),
    "models.big.price": (modelled(price=OVERRIDE), "counted in the diff's costs, each side at its own"),
    'models."a b".base_url': (
        policy(models={"a b": Model("a b", base_url="https://secret.example/v1")}),
        NOT_COMPARED,
    ),
}


@pytest.mark.parametrize("key", KEYS)
def test_what_a_patch_cannot_set_is_named_key_by_key(key):
    new, words = KEYS[key]
    diff = policy_diff(rows(20), policy(), new, repriced=("big",))
    (found,) = diff.not_in_patch
    assert found.key == key
    text = toml_patch(diff, policy(), new)
    (line,) = [x for x in text.splitlines() if x.startswith("# not in the patch: ")]
    assert line.startswith(f"# not in the patch: {key}: {words}")
    assert "secret" not in text.lower()
    assert tomllib.loads(text) == {}
    assert text.startswith("# this patch is empty: ")


def test_equal_policies_make_a_patch_that_says_so():
    text = toml_patch(policy_diff(rows(20), policy(), policy()), policy(), policy())
    assert text.startswith("# this patch is empty: it sets no key, because the policies do not differ\n")


def hosted(call: str | None) -> Policy:
    """The policy with a hosted classifier whose call costs so many USD."""
    price = None if call is None else ClassifierPrice(Decimal(call))
    return policy(classifier="scaledown", classifier_price=price)


def test_what_a_call_of_the_classifier_costs_is_counted_where_both_policies_say():
    found, old, new = rows(100, asked=0.001), hosted("0.001"), hosted("0.0004")
    diff = policy_diff(found, old, new)
    assert diff.call_prices == (0.001, 0.0004)
    assert diff.old_cost == pytest.approx(replay(found, old).cost_per_1000)
    assert diff.new_cost - diff.old_cost == pytest.approx(-0.6)
    assert (diff.total.changing, diff.total.cost_change, diff.stays, diff.total.is_cheaper) == (
        0,
        0.0,
        (),
        False,
    )
    assert diff.classifier_known
    for logged in (
        0.0,
        None,
    ):  # what the log says is of neither policy, and no cost falls below that of the answers
        told = policy_diff(rows(100, asked=logged), old, new)
        assert (told.old_cost, told.new_cost) == pytest.approx((diff.old_cost, diff.new_cost))
        assert told.classifier_known and told.savings_change == pytest.approx(diff.savings_change)
    assert diff.savings_change == pytest.approx(0.06 / found.costs[:, MODELS.index("big")].sum())
    text = toml_patch(diff, old, new)
    assert "# a classifier's call costs 0.001 USD before and 0.0004 after" in text
    said = "classifier_price.per_call: 0.001 -> 0.0004; counted in the diff's costs, by the difference"
    assert f"# not in the patch: {said} for each call" in text
    moved = policy_diff(found, policy(), hosted("0.0004"))  # the local one costs nothing
    assert moved.call_prices == (0.0, 0.0004)
    for one, other in ((hosted(None), new), (new, hosted(None)), (policy(), hosted(None))):
        diff = policy_diff(found, one, other)
        assert diff.call_prices is None and diff.total.cost_change == 0.0 and diff.old_cost == diff.new_cost
        assert "not counted in the diff's costs: one policy states no price" in toml_patch(diff, one, other)


@pytest.mark.parametrize(
    "found",
    [
        rows(0, scores=np.empty((0, 3))),
        rows(1),
        rows(30, scores=np.full((30, 3), 1 / 3)),
        rows(30, priced=0.0),
    ],
    ids=["none", "one", "equal scores", "no costs"],
)
def test_degenerate_logs(found):
    diff = policy_diff(found, policy(0.2), policy(0.9))
    assert diff.total.n == len(found)
    assert (diff.total.cost_half is None) == (diff.total.n_priced < 2)
    assert tomllib.loads(toml_patch(diff, policy(0.2), policy(0.9))) == {"threshold": 0.9}
    assert replay(found, policy()).n == len(found)
    assert merge_effect(found, policy(), "cheap", "dear").n == len(found)
    assert split_suggestions(found, policy()) == ()


# More about overlap


def test_what_is_on_together_is_not_symmetric():
    scores = np.array([[0.9, 0.8, 0.0], [0.9, 0.1, 0.0], [0.9, 0.2, 0.0], [0.1, 0.9, 0.0]])
    found = sums_of(scores, 0.5).coactivation()
    assert found[0].tolist()[:2] == [1.0, 0.5]  # a is on in one of the two where b is
    assert found[1].tolist()[:2] == [pytest.approx(1 / 3), 1.0]
    assert np.isnan(found[:, 2]).all()


def test_likeness_is_1_for_equal_columns_and_0_for_disjoint_ones():
    scores = np.array([[0.5, 0.5, 0.0], [0.2, 0.2, 0.0], [0.0, 0.0, 0.7]])
    found = sums_of(scores).bhattacharyya()
    assert found[0, 1] == pytest.approx(1.0)
    assert found[0, 2] == 0.0
    assert np.diag(found).tolist() == pytest.approx([1.0, 1.0, 1.0])
    assert np.isnan(sums_of(np.zeros((2, 2))).bhattacharyya()).all()


def test_like_labels_stand_side_by_side():
    likeness = np.array([[1, 0.1, 0.9, 0.1], [0.1, 1, 0.1, 0.9], [0.9, 0.1, 1, 0.3], [0.1, 0.9, 0.3, 1]])
    order = order_by_likeness(likeness)
    assert order == [0, 2, 3, 1]
    assert order_by_likeness(np.eye(2)) == [0, 1]


def test_margins_and_sums_need_no_distribution():
    found = sums_of([[0.9, 0.5, 0.1], [0.6, 0.55, 0.9], [0.9, 0.8, 0.7]])
    assert dict(found.margin_quantiles())[0.5] == 0.3  # of 0.1, 0.3 and 0.4
    assert found.score_sums() == (1.5, 2.05, 2.4)
    assert sums_of(np.ones((3, 1))).margin_quantiles() == ()
    assert sums_of(np.empty((0, 3))).score_sums() is None


def test_merging_two_labels_that_share_belief_takes_decisions_out_of_the_fallback():
    found = rows(400)
    effect = merge_effect(found, policy(), "dear", "cheap")
    assert effect.how == "sum"
    assert effect.fallback_after < effect.fallback_before
    merged = np.stack([found.scores[:, 0] + found.scores[:, 1], found.scores[:, 2]], axis=1)
    assert effect.fallback_after == pytest.approx(np.mean(merged.max(axis=1) < 0.55))
    top = found.scores.argmax(axis=1)
    assert effect.model == ("big" if (top == 1).sum() >= (top == 0).sum() else "small")
    # One rule: the label named first lends its model, and the more frequent one is named first.
    for found_by in (effect, merge_effect(found, policy(), "cheap", "dear")):
        assert (found_by.names, found_by.model) == ((effect.kept, effect.names[1]), effect.model)
        assert policy().by_name[found_by.kept].model == found_by.model
        merges = {found_by.kept: found_by.names}
        new = merged_policy(policy(), merges)
        assert found_by.cost_after == pytest.approx(replay(found.merged(merges), new).cost_per_1000)
        diff = policy_diff(found, policy(), new, merges=merges)
        assert found_by.cost_change == pytest.approx(diff.new_cost - diff.old_cost)
    models = np.where(
        merged.max(axis=1) < 0.55, "middle", np.where(merged.argmax(axis=1) == 0, effect.model, "middle")
    )
    assert effect.cost_after == pytest.approx(1000 * found.cost_of(models.astype(object)).mean())
    assert effect.cost_change == pytest.approx(effect.cost_after - effect.cost_before)
    assert effect.close_before == pytest.approx(
        np.mean(np.diff(np.sort(found.scores, axis=1)[:, -2:], axis=1) < 0.1)
    )
    independent = merge_effect(rows(400, simplex=False), policy(), "cheap", "dear")
    assert independent.how == "max"
    assert independent.fallback_after == independent.fallback_before  # the best score stays the best
    with pytest.raises(ValueError, match="no label 'none'"):
        merge_effect(found, policy(), "cheap", "none")


def test_a_label_that_leans_two_ways_is_suggested_with_examples_of_both():
    towards_dear, towards_same = [[0.6, 0.3, 0.1]] * 60, [[0.6, 0.1, 0.3]] * 40
    found = split_suggestions(rows(scores=towards_dear + towards_same + [[0.1, 0.7, 0.2]] * 50), policy())
    (split,) = found
    assert (split.label, split.towards, split.n_towards, split.other, split.n_other) == (
        "cheap",
        "dear",
        60,
        "same",
        40,
    )
    assert len(split.examples) == len(split.other_examples) == 5
    assert set(split.examples) < {f"id{i}" for i in range(60)}
    sure = [[0.97, 0.02, 0.01]] * 60 + [[0.97, 0.01, 0.02]] * 60  # second place means nothing here
    assert split_suggestions(rows(scores=sure), policy()) == ()
