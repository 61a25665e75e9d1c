"""Quality by threshold: the share of right labels among audited decisions that a line lets through."""

from __future__ import annotations

import numpy as np
import pytest

from router.analysis.binomial import clopper_pearson
from router.analysis.judgements import Audit
from router.analysis.quality import ENOUGH, ENOUGH_SERVED, quality
from router.policy import GRID, Policy, confidence_bin
from router.types import Label


def policy_of(own: float | None = None) -> Policy:
    return Policy(
        labels=(
            Label("simple", "Is it simple?", "small"),
            Label("hard", "Is it hard?", "large", threshold=own),
        ),
        threshold=0.55,
        fallback_model="middle",
    )


def audit_of(n: int, seed: int = 0, names: tuple[str, ...] = ("simple", "hard")) -> Audit:
    rng = np.random.default_rng(seed)
    confidence = np.round(rng.uniform(0.2, 1.0, n), 2)  # atoms, and values on the grid's points
    return Audit(
        label=rng.choice(names, n).astype(object),
        confidence=confidence,
        loss=rng.random(n) > confidence,
        queue=np.full(n, "audit", dtype=object),
    )


@pytest.mark.parametrize("own", [None, 0.7, 0.0, 1.0])
@pytest.mark.parametrize("n", [ENOUGH, 57, 400])
def test_every_threshold_counts_what_the_rule_lets_through(n: int, own: float | None) -> None:
    audit, policy = audit_of(n, seed=n), policy_of(own)
    found = quality(audit, policy)
    assert found is not None
    for k in {
        *range(0, GRID + 1, 250),
        *(confidence_bin(x) + d for x in audit.confidence[:40] for d in (0, 1)),
    }:
        if k > GRID:
            continue
        line = {"simple": k / GRID, "hard": k / GRID if own is None else own}
        passes = [c >= line[name] for c, name in zip(audit.confidence, audit.label, strict=True)]
        right = int(sum(p and not wrong for p, wrong in zip(passes, audit.loss, strict=True)))
        point = found.at(k / GRID)
        assert (point.n, point.right) == (sum(passes), right)
        if point.n < ENOUGH_SERVED:
            assert (point.share, point.interval) == (None, None)
            continue
        exact = clopper_pearson(right, point.n)
        assert point.share == right / point.n
        assert point.interval is not None
        assert (point.interval.low, point.interval.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_shuffling_changes_nothing() -> None:
    audit, order = audit_of(200), np.random.default_rng(3).permutation(200)
    one = quality(audit, policy_of())
    other = quality(
        Audit(
            label=audit.label[order],
            confidence=audit.confidence[order],
            loss=audit.loss[order],
            queue=np.full(200, "audit", dtype=object),
        ),
        policy_of(),
    )
    assert one is not None and other is not None
    for name in ("start", "n", "right", "low", "high"):
        assert np.array_equal(getattr(one, name), getattr(other, name))


def test_too_few_judged_decisions_are_no_curve_and_labels_of_others_do_not_count() -> None:
    assert quality(audit_of(ENOUGH - 1), policy_of()) is None
    mixed = audit_of(60, names=("simple", "gone"))
    found = quality(mixed, policy_of())
    assert found is not None
    assert found.n[0] == int((mixed.label == "simple").sum())
    assert quality(audit_of(60, names=("gone",)), policy_of()) is None


def test_all_right_and_all_wrong_have_intervals_that_end_at_the_edge() -> None:
    for loss, share in ((False, 1.0), (True, 0.0)):
        audit = Audit(
            label=np.full(30, "simple", dtype=object),
            confidence=np.full(30, 0.8),
            loss=np.full(30, loss),
            queue=np.full(30, "audit", dtype=object),
        )
        found = quality(audit, policy_of())
        assert found is not None
        point = found.at(0.8)
        assert point.share == share and point.interval is not None
        assert (point.interval.high if share else point.interval.low) == pytest.approx(share, abs=1e-12)
        assert found.at(0.8001).n == 0


def test_a_threshold_off_the_grid_is_refused() -> None:
    found = quality(audit_of(50), policy_of())
    assert found is not None
    with pytest.raises(ValueError, match=r"0\.55003"):
        found.at(0.55003)
