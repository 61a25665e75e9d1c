"""Certified thresholds: exact tests, a promise that simulated audits hold to, and "none" as an answer."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from router.analysis.binomial import (
    clopper_pearson,
    labels_missing,
    labels_needed,
    largest_passing,
    p_value,
    upper_bound,
    zero_failures_needed,
)
from router.analysis.certify import certify, certify_labels, delta_of_look
from router.analysis.judgements import COLUMNS, Audit, Judgements
from router.analysis.rule import confidence_bins
from router.analysis.tables import BINS, empty


def audit_of(confidence, loss, label="a", **more) -> Audit:
    n = len(confidence)
    return Audit(
        label=np.full(n, label, dtype=object) if isinstance(label, str) else label,
        confidence=confidence,
        loss=loss,
        queue=np.full(n, "audit", dtype=object),
        **more,
    )


def bins_of(confidence, label="a") -> pd.DataFrame:
    names = np.full(len(confidence), label, dtype=object) if isinstance(label, str) else label
    table = pd.DataFrame({"label": names, "bin": confidence_bins(confidence), "n": 1})
    return table.groupby(["label", "bin"], as_index=False).sum() if len(table) else empty(BINS)


@pytest.mark.parametrize("alpha", [0.07, 0.14, 0.17, 0.27, 0.28])
def test_a_rate_that_equals_alpha_is_answered_at_once(alpha):
    assert labels_missing(round(alpha * 100), 100, alpha, 0.1) is None


# The tests themselves


@pytest.mark.parametrize(
    ("f", "n", "alpha"), [(0, 1, 0.1), (0, 22, 0.1), (3, 40, 0.1), (97, 1000, 0.1), (5, 5, 0.3)]
)
def test_p_values_are_those_of_the_binomial(f, n, alpha):
    assert float(p_value(f, n, alpha)) == pytest.approx(binom.cdf(f, n, alpha) if f < n else 1.0, rel=1e-10)


def test_nothing_judged_proves_nothing():
    assert float(p_value(0, 0, 0.1)) == 1.0
    assert float(upper_bound(0, 0, 0.1)) == 1.0
    assert (clopper_pearson(0, 0).low, clopper_pearson(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize(("f", "n"), [(0, 7), (3, 40), (40, 40), (12, 300)])
def test_intervals_are_those_of_clopper_and_pearson(f, n):
    exact = binomtest(f, n).proportion_ci(0.95, "exact")
    found = clopper_pearson(f, n)
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


@given(
    f=st.integers(0, 60),
    more=st.integers(0, 400),
    alpha=st.sampled_from([0.01, 0.05, 0.1, 0.3]),
    delta=st.floats(0.005, 0.3),
)
def test_the_bound_is_at_most_alpha_exactly_when_the_test_passes(f, more, alpha, delta):
    n = f + more
    p, bound = float(p_value(f, n, alpha)), float(upper_bound(f, n, delta))
    if abs(p - delta) > 1e-9:
        assert (p <= delta) == (bound <= alpha)


def test_labels_needed_are_the_smallest_that_do():
    # facts of the textbook: (1 - alpha)^n <= delta
    assert [zero_failures_needed(a, 0.1) for a in (0.01, 0.02, 0.05, 0.1, 0.15, 0.2)] == [
        230,
        114,
        45,
        22,
        15,
        11,
    ]
    for alpha, delta, risk in ((0.1, 0.1, 0.05), (0.05, 0.05, 0.025), (0.2, 0.01, 0.15)):
        n = labels_needed(alpha, delta, risk)
        assert n is not None

        def power(m, alpha=alpha, delta=delta, risk=risk):
            most = int(binom.ppf(delta, m, alpha))
            most -= binom.cdf(most, m, alpha) > delta
            return binom.cdf(most, m, risk)

        assert all(power(m) >= 0.8 for m in range(n, n + 60))
        assert power(n - 1) < 0.8
    assert labels_needed(0.1, 0.1, 0.1) is None


def test_missing_labels_at_the_present_rate():
    assert labels_missing(0, 22, 0.1, 0.1) == 0
    assert labels_missing(0, 10, 0.1, 0.1) == 12
    assert (
        labels_missing(4, 40, 0.1, 0.1) is None
    )  # at the rate of 0.1 no number of labels shows less than 0.1
    extra = labels_missing(3, 40, 0.1, 0.1)
    assert extra is not None
    assert binom.cdf(3 + math.ceil(3 / 40 * extra), 40 + extra, 0.1) <= 0.1
    assert binom.cdf(3 + math.ceil(3 / 40 * (extra - 1)), 40 + extra - 1, 0.1) > 0.1


def scanned(failures: int, n: int, alpha: float, delta: float, most: int) -> int | None:
    """Every number of further labels in turn, with scipy's binomial."""
    extra = np.arange(most + 1)
    losses = failures + (-(-failures * extra // n) if n else 0 * extra)
    count = n + extra
    passes = np.flatnonzero((losses < count) & (binom.cdf(losses, np.maximum(count, 1), alpha) <= delta))
    return int(passes[0]) if passes.size else None


@settings(max_examples=200, deadline=None)
@given(data=st.data(), n=st.integers(0, 500), delta=st.sampled_from([0.01, 0.05, 0.1, 0.3]),
       alpha=st.sampled_from([0.02, 0.05, 0.1, 0.3]))  # fmt: skip
def test_missing_labels_are_the_fewest(data, n, delta, alpha):
    failures, most = data.draw(st.integers(0, int(alpha * n))), 4000
    found = labels_missing(failures, n, alpha, delta)
    expected = scanned(failures, n, alpha, delta, most)
    assert (found if found is None or found <= most else None) == expected


def test_missing_labels_where_more_of_them_may_fail_again():
    assert binom.cdf(36, 372 + 74, 0.1) <= 0.1 < binom.cdf(37, 372 + 75, 0.1)  # the 75th would be a loss
    assert labels_missing(30, 372, 0.1, 0.1) == scanned(30, 372, 0.1, 0.1, 200) == 74


def test_missing_labels_of_rates_near_the_limit_take_no_second():
    begun = time.perf_counter()
    assert labels_missing(995, 10_000, 0.1, 0.1) == 583_005
    assert labels_missing(99_990, 1_000_000, 0.1, 0.1) is None  # more than MOST_LABELS
    assert time.perf_counter() - begun < 1.0


def test_most_tolerated_losses():
    assert largest_passing(np.array([21, 22, 142]), 0.1, 0.1).tolist() == [-1, 0, 9]


# One certificate


def test_a_hand_worked_certificate():
    # 60 judged at 0.9, none a loss; 40 at 0.5, 12 of them losses: 0.9 ** 60 = 0.0018; P(12 or fewer of 100) = 0.80
    confidence = np.repeat([0.9, 0.5], [60, 40])
    loss = np.r_[np.zeros(60), np.ones(12), np.zeros(28)].astype(bool)
    found = certify(
        audit_of(confidence, loss),
        bins_of(np.repeat([0.9, 0.5], [600, 400])),
        ["a"],
        alpha=0.1,
        holds_audit=False,
    )
    assert found.threshold == 0.51
    assert found.ended_by == "risk"
    assert found.steps[0].threshold == 0.9  # above it nothing is served
    assert (found.step.n, found.step.failures, found.step.share_served) == (60, 0, 0.6)
    assert found.step.upper_bound == pytest.approx(1 - 0.1 ** (1 / 60))
    assert found.steps[-1].p_value == pytest.approx(binom.cdf(12, 100, 0.1))
    assert (found.steps[-1].passed, found.labels_missing) == (False, None)  # 12 % is above 10 %


def test_none_is_an_answer_and_says_what_is_missing():
    few = certify(
        audit_of([0.9] * 20, [False] * 20), bins_of([0.9] * 500), ["a"], alpha=0.1, holds_audit=False
    )
    assert (few.threshold, few.ended_by, few.step, few.labels_missing) == (
        None,
        "labels",
        None,
        24,
    )  # 2 x 22 in all
    enough = certify(
        audit_of([0.9] * 44, [False] * 44), bins_of([0.9] * 500), ["a"], alpha=0.1, holds_audit=False
    )
    assert enough.threshold == 0.9
    bad = certify(audit_of([0.9] * 99, [True, False, False] * 33), bins_of([0.9] * 500), ["a"], alpha=0.1)
    assert (bad.threshold, bad.ended_by, bad.labels_missing) == (None, "risk", None)


@pytest.mark.parametrize(
    ("confidence", "loss", "traffic"),
    [([], [], []), ([0.7], [False], [0.7]), ([], [], [0.5, 0.6]), ([0.5, 0.6], [True, False], [])],
    ids=["nothing", "one", "no audit", "no traffic"],
)
def test_degenerate_samples_certify_nothing(confidence, loss, traffic):
    found = certify(
        audit_of(confidence, loss), bins_of(np.array(traffic)), ["a"], alpha=0.1, holds_audit=False
    )
    assert (found.threshold, found.ended_by, found.steps) == (None, "labels", ())


def test_equal_scores_move_together():
    found = certify(
        audit_of([0.55] * 300, [False] * 295 + [True] * 5), bins_of([0.55] * 900), ["a"], alpha=0.1
    )
    assert found.threshold == 0.55
    assert found.ended_by == "grid"
    assert {step.n for step in found.steps if step.threshold <= 0.55} == {300}


def test_decisions_of_other_labels_are_left_out():
    names = np.array(["a"] * 100 + ["b"] * 100, dtype=object)
    audit = audit_of([0.8] * 200, [False] * 100 + [True] * 100, names)
    traffic = bins_of(np.full(200, 0.8), names)
    assert certify(audit, traffic, ["a"], alpha=0.1, holds_audit=False).threshold == 0.8
    assert certify(audit, traffic, ["b"], alpha=0.1, holds_audit=False).threshold is None


def test_a_log_that_was_judged_whole_sets_the_order_by_its_own_confidences():
    found = certify(audit_of([0.8] * 100, [False] * 100), bins_of(np.full(100, 0.8)), ["a"], alpha=0.1)
    assert (found.threshold, found.n_unlabelled) == (0.8, 100)
    more = certify(audit_of([0.8] * 100, [False] * 100), bins_of(np.full(500, 0.8)), ["a"], alpha=0.1)
    assert (more.threshold, more.n_unlabelled) == (0.8, 400)


def test_labels_share_delta():
    names = np.array(["a"] * 100 + ["b"] * 26, dtype=object)
    audit = audit_of([0.8] * 126, [False] * 126, names)
    traffic = bins_of(np.full(126, 0.8), names)
    a, b = certify_labels(audit, traffic, ["a", "b"], alpha=0.1, delta=0.1, holds_audit=False)
    assert (a.label, a.threshold, a.delta) == ("a", 0.8, 0.05)
    assert (b.label, b.threshold, b.ended_by, b.labels_missing) == ("b", None, "labels", 2 * 29 - 26)


def test_looks_spend_less_and_less_and_never_more_than_delta():
    assert sum(delta_of_look(0.1, k) for k in range(1, 5000)) < 0.1
    first = certify(audit_of([0.9] * 99, [False] * 99), bins_of([0.9] * 500), ["a"], alpha=0.1, look=2)
    assert first.delta == pytest.approx(0.1 * 6 / math.pi**2 / 4)
    with pytest.raises(ValueError, match="expected 1 for the first"):
        delta_of_look(0.1, 0)


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, math.nan])
def test_a_risk_is_between_0_and_1(bad):
    with pytest.raises(ValueError, match="between 0 and 1"):
        certify(audit_of([0.9], [False]), bins_of([0.9]), ["a"], alpha=bad)


def plain(confidence, loss, traffic, alpha: float, delta: float) -> float | None:
    """The same procedure, threshold by threshold over the rows, with scipy's binomial."""
    need = max(2 * math.ceil(math.log(delta) / math.log(1 - alpha)), 0.1 * len(confidence))
    found, begun = None, False
    for k in range(100, int(min(traffic) * 100) - 1, -1):
        t = k / 100
        begun = begun or np.mean(traffic >= t) * len(confidence) >= need
        if begun:
            served = confidence >= t
            n, f = int(served.sum()), int(loss[served].sum())
            if (binom.cdf(f, n, alpha) if f < n else 1.0) > delta:
                break
            found = t
    return found


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(1, 400),
    digits=st.sampled_from([1, 2, 3, 17]),
    alpha=st.sampled_from([0.02, 0.1, 0.3]),
    delta=st.sampled_from([0.05, 0.1]),
)
def test_the_fast_form_equals_the_plain_one(seed, n, digits, alpha, delta):
    rng = np.random.default_rng(seed)
    confidence, traffic = (np.round(rng.beta(3, 1, k), digits) for k in (n, 700))
    loss = rng.random(n) < 0.6 * (1 - confidence)
    found = certify(
        audit_of(confidence, loss), bins_of(traffic), ["a"], alpha=alpha, delta=delta, holds_audit=False
    )
    assert found.threshold == plain(confidence, loss, traffic, alpha, delta)


@pytest.mark.parametrize("strength", [1.0, 0.5, 0.2], ids=["few losses", "some", "hardly any"])
def test_mapie_certifies_the_same_thresholds(strength):
    """MAPIE as an oracle: its binary p-values and its fixed sequence, on our grid, from our start.

    Its whole controller is no oracle here. By default (Bonferroni-Holm over a grid from 0) it begins elsewhere, and finds nothing
    where a grid point accepts nobody; its own fixed sequence turns the grid round where the observed risk happens to fall along it,
    so that the order depends on the labels. Nor is the product of risk and n always whole in doubles, and it rounds up: a rate one
    step of a double lower gives the count back.
    """
    sequence = pytest.importorskip("mapie.risk_control.fwer_control")
    methods = pytest.importorskip("mapie.risk_control.methods")
    found_some = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        alpha, delta = rng.choice([0.05, 0.1, 0.2]), rng.choice([0.05, 0.1])
        confidence, traffic = (np.round(rng.beta(3, 1, k), 3) for k in (int(rng.integers(30, 900)), 3000))
        loss = rng.random(len(confidence)) < strength * (1 - confidence)
        ours = certify(
            audit_of(confidence, loss), bins_of(traffic), ["a"], alpha=alpha, delta=delta, holds_audit=False
        )
        if not ours.steps:
            continue  # too few labels to test any threshold: nothing to compare
        grid = np.arange(round(ours.steps[0].threshold * 100), int(traffic.min() * 100) - 1, -1) / 100
        served = confidence >= grid[:, None]
        n, f = served.sum(axis=1), (served & loss).sum(axis=1)
        p = methods.compute_hoeffding_bentkus_p_value(
            np.nextafter(f / n, 0), n.astype(float), alpha, binary=True
        )[:, 0]
        valid = sequence.control_fwer(p, delta, fwer_method="fixed_sequence")
        assert ours.threshold == (None if len(valid) == 0 else grid[valid[-1]])
        assert [x.p_value for x in ours.steps] == pytest.approx(p[: len(ours.steps)], rel=1e-9)
        found_some += ours.threshold is not None
    assert found_some >= 5


# What the log can speak about


def test_answers_are_never_certified_below_the_line_that_was_in_force():
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.2, 1, 2000)
    served = confidence >= 0.55
    line = np.full(2000, 0.55)
    audit = audit_of(confidence, np.zeros(2000, dtype=bool), threshold=line, is_served=served)
    found = certify(audit, bins_of(rng.uniform(0.2, 1, 9000)), ["a"], alpha=0.1, loss="answer")
    assert (found.threshold, found.ended_by, found.supported_from) == (0.55, "support", 0.55)
    assert min(step.threshold for step in found.steps) >= 0.55
    # whether the label is right can be judged whoever answered
    assert certify(audit, bins_of(rng.uniform(0.2, 1, 9000)), ["a"], alpha=0.1).threshold <= 0.21


def test_shares_served_are_of_decisions_that_nobody_judged_below_the_support_too():
    # 1,000 decisions, half above the line; 200 drawn evenly and judged: of the other 800 half are served as well
    confidence = np.repeat([0.9, 0.2], 500)
    drawn = np.repeat([0.9, 0.2], 100)
    audit = audit_of(drawn, np.zeros(200, dtype=bool), threshold=np.full(200, 0.5), is_served=drawn >= 0.5)
    found = certify(audit, bins_of(confidence), ["a"], alpha=0.1, loss="answer")
    assert (found.n_labels, found.n_unlabelled) == (100, 800)
    assert found.step is not None and found.step.share_served == 0.5
    # answers of another model are no verdict on the label's, yet were judged all the same
    mixed = audit_of(
        drawn, np.zeros(200, dtype=bool), threshold=np.full(200, 0.5), is_served=(drawn >= 0.5) & (np.arange(200) % 2 == 0)
    )  # fmt: skip
    assert certify(mixed, bins_of(confidence), ["a"], alpha=0.1, loss="answer").n_unlabelled == 800


def test_a_log_that_was_judged_whole_can_be_certified_for_answers():
    confidence = np.linspace(0.3, 0.8, 100)
    audit = audit_of(
        confidence, np.zeros(100, dtype=bool), threshold=np.full(100, 0.55), is_served=confidence >= 0.55
    )
    found = certify(audit, bins_of(confidence), ["a"], alpha=0.1, loss="answer")
    assert (found.threshold, found.ended_by, found.n_labels) == (
        0.55,
        "support",
        int((confidence >= 0.55).sum()),
    )
    below = confidence - 0.3  # all fall back: nobody ever saw the label's model answer
    none = certify(
        audit_of(below, np.zeros(100, dtype=bool), threshold=np.full(100, 0.55), is_served=np.zeros(100, dtype=bool)),
        bins_of(below), ["a"], alpha=0.1, loss="answer",
    )  # fmt: skip
    assert (none.threshold, none.ended_by, none.labels_missing, none.is_infeasible) == (
        None,
        "labels",
        None,
        False,
    )


def test_with_several_lines_the_highest_bounds_the_support():
    rng = np.random.default_rng(4)
    confidence = rng.uniform(0.2, 1, 2000)
    line = np.where(np.arange(2000) < 1000, 0.4, 0.605)
    audit = audit_of(confidence, np.zeros(2000, dtype=bool), threshold=line, is_served=confidence >= line)
    found = certify(audit, bins_of(confidence), ["a"], alpha=0.1, loss="answer", holds_audit=False)
    assert found.supported_from == 0.605
    assert found.threshold == 0.61  # the next one of the grid


@settings(max_examples=30, deadline=None)
@given(line=st.integers(0, 10_000).map(lambda k: k / 10_000), seed=st.integers(0, 99))
def test_no_certificate_lies_below_the_supported_range(line, seed):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 2, 400)
    audit = audit_of(
        confidence, rng.random(400) < 0.02, threshold=np.full(400, line), is_served=confidence >= line
    )
    found = certify(audit, bins_of(confidence), ["a"], alpha=0.1, loss="answer", holds_audit=False)
    assert found.threshold is None or found.threshold >= line


def test_only_audit_rows_carry_a_promise():
    with pytest.raises(ValueError, match=r"2 rows come from queue None, learn"):
        Audit(label=["a"] * 3, confidence=[0.1, 0.2, 0.3], loss=[True] * 3, queue=["audit", "learn", None])
    rows = [
        ("a", 0.9, "right", "audit", 0.1, 0.55, True, None),
        ("a", 0.8, "wrong", "audit", 0.1, 0.55, True, "b"),
        ("a", 0.7, "wrong", "learn", None, 0.55, True, "b"),
        ("a", 0.6, "unsure", "audit", 0.1, 0.55, True, None),
        (None, None, "wrong", "audit", 0.1, 0.55, False, None),
    ]
    judged = Judgements.from_table(pd.DataFrame(rows, columns=COLUMNS))
    assert len(judged) == 3
    assert judged.audit.confidence.tolist() == [0.9, 0.8]
    assert judged.audit.loss.tolist() == [False, True]
    with pytest.raises(ValueError, match="no column queue"):
        Judgements.from_table(pd.DataFrame(rows, columns=COLUMNS).drop(columns="queue"))
    with pytest.raises(ValueError, match=r"expected numbers in \[0, 1\]"):
        Judgements.from_table(pd.DataFrame([("a", 1.5, *rows[0][2:])], columns=COLUMNS))


# The promise


def population(strength: float, n: int = 200_000, seed: int = 1):
    """A calibrated four-label classifier: confidences, their chance of a wrong label, share served and true risk at k/100.

    Evidence for the true label is normal with this mean, noise for the others; the scores are the posterior, hence calibrated.
    """
    rng = np.random.default_rng(seed)
    evidence = rng.normal(size=(n, 4))
    evidence[:, 0] += strength
    posterior = np.exp(strength * (evidence - evidence.max(axis=1, keepdims=True)))
    top = (posterior / posterior.sum(axis=1, keepdims=True)).max(axis=1)
    confidence, wrong = np.round(top, 3), 1 - top
    served = np.array([np.mean(confidence >= k / 100) for k in range(101)])
    risk = np.array([wrong[confidence >= k / 100].mean() if served[k] else 0.0 for k in range(101)])
    return confidence, wrong, served, risk


@pytest.mark.parametrize(
    ("strength", "n", "alpha"),
    [
        (2.2, 100, 0.1),
        (2.2, 1000, 0.1),
        (2.0, 300, 0.15),
        *(
            pytest.param(strength, n, alpha, marks=pytest.mark.soak)
            for strength in (2.0, 2.2)
            for n in (100, 300, 1000, 3000)
            for alpha in (0.1, 0.12)
        ),
    ],
)
def test_promises_of_500_simulated_audits_hold(strength, n, alpha):
    confidence, wrong, served, risk = population(strength)
    rng = np.random.default_rng(7)
    traffic = bins_of(confidence[:50_000])
    best = served[risk <= alpha].max()
    broken, shares, runs = 0, [], 500
    for _ in range(runs):
        drawn = rng.integers(0, len(confidence), n)
        audit = audit_of(confidence[drawn], rng.random(n) < wrong[drawn])
        t = certify(audit, traffic, ["a"], alpha=alpha, delta=0.1, holds_audit=False).threshold
        at = None if t is None else round(t * 100)
        broken += at is not None and risk[at] > alpha
        shares.append(0.0 if at is None else served[at])
    assert broken / runs <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / runs)
    if (strength, n, alpha) == (2.2, 1000, 0.1):
        assert np.mean(shares) >= best - 0.05


def test_the_naive_threshold_breaks_its_promise_in_a_third_of_audits():
    confidence, wrong, _, risk = population(2.2)
    rng = np.random.default_rng(7)
    broken = 0
    for _ in range(100):
        drawn = rng.integers(0, len(confidence), 1000)
        c, loss = confidence[drawn], rng.random(1000) < wrong[drawn]
        rates = [(loss[c >= k / 100].mean() if (c >= k / 100).any() else 0.0) for k in range(101)]
        broken += risk[next(k for k in range(101) if rates[k] <= 0.1)] > 0.1
    assert broken / 100 > 0.3
