"""What Python sends to the threshold component, and what it refuses."""

from __future__ import annotations

import base64
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from dashboard.components.threshold import CELL_COLUMNS, FILES, cheapest, payload, script
from router.policy import GRID, Policy, confidence_bin
from router.types import Label

POLICY = Policy(
    labels=(Label("simple", "Is it simple?", "small"), Label("hard", "Is it hard?", "large")),
    threshold=0.55,
    fallback_model="middle",
    baseline="large",
)
COLORS = {"simple": 1, "hard": 2}


def cell(
    label: str, bin_: int, n: int, *, label_cost: float = 0.0, fallback_cost: float = 0.0, **other: object
) -> dict:
    row = dict.fromkeys(CELL_COLUMNS, 0.0)
    return {
        **row,
        "label": label,
        "bin": bin_,
        "n": n,
        "n_priced": n,
        "label_cost": label_cost,
        "fallback_cost": fallback_cost,
        **other,
    }


def frame(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def numbers(text: str, kind: str) -> list[float]:
    return np.frombuffer(base64.b64decode(text), kind).tolist()


def test_only_bins_with_decisions_are_sent_in_ascending_order() -> None:
    cells = frame(
        cell("simple", 7000, 3, label_cost=0.3),
        cell("simple", 6000, 0),
        cell("simple", 2900, 2, label_cost=0.1),
    )
    label = payload(cells, POLICY, candidate=0.6, colors=COLORS)["labels"][0]
    assert numbers(label["bins"], "<u2") == [2900, 7000]
    assert numbers(label["counts"], "<u4") == [2, 3]
    assert numbers(label["lc"], "<f8") == [0.1, 0.3]


def test_every_label_of_the_policy_is_there_even_without_decisions() -> None:
    labels = payload(frame(cell("hard", 1, 1)), POLICY, candidate=0.6, colors=COLORS)["labels"]
    assert [(x["name"], x["model"], x["own"], x["color"]) for x in labels] == [
        ("simple", "small", None, 1),
        ("hard", "large", None, 2),
    ]


def test_labels_outside_the_policy_are_counted_and_left_out() -> None:
    body = payload(frame(cell("old", 5000, 7), cell("simple", 5000, 1)), POLICY, candidate=0.6, colors=COLORS)
    assert body["ignored"] == 7
    assert sum(sum(numbers(x["counts"], "<u4")) for x in body["labels"]) == 1


def test_the_same_bin_twice_is_added_up() -> None:
    cells = frame(cell("simple", 5000, 1, label_cost=1.0), cell("simple", 5000, 2, label_cost=2.5))
    label = payload(cells, POLICY, candidate=0.6, colors=COLORS)["labels"][0]
    assert (numbers(label["bins"], "<u2"), numbers(label["counts"], "<u4"), numbers(label["lc"], "<f8")) == (
        [5000],
        [3],
        [3.5],
    )


def test_sums_of_decimals_are_taken() -> None:
    cells = frame(cell("simple", 5000, 1)).astype({"label_cost": object})
    cells.loc[0, "label_cost"] = Decimal("0.000000012345")
    label = payload(cells, POLICY, candidate=0.6, colors=COLORS)["labels"][0]
    assert numbers(label["lc"], "<f8") == [0.000000012345]


def test_an_unpriced_cell_is_no_zero_cost() -> None:
    cells = frame(
        cell("simple", 5000, 4, n_priced=0, label_cost=np.nan, fallback_cost=np.nan),
        cell("simple", 6000, 1, label_cost=2.0),
    )
    body = payload(cells, POLICY, candidate=0.6, colors=COLORS)
    assert body["priced"] == 1
    assert numbers(body["labels"][0]["priced_counts"], "<u4") == [0, 1]


def test_a_missing_baseline_cost_makes_savings_unknown_and_leaves_the_cost() -> None:
    cells = frame(cell("simple", 5000, 1, label_cost=1.0, baseline_cost=np.nan))
    body = payload(cells, POLICY, candidate=0.6, colors=COLORS, models={"large": {"priced": False}})
    assert (body["baseline_priced"], body["priced"], body["missing"]) == (False, 1, ["large"])


def test_a_classifier_cost_that_is_not_known_is_said_and_an_unpriced_cell_does_not_count() -> None:
    known = cell("simple", 5000, 1, classifier_cost=0.1)
    unpriced = cell("simple", 5500, 1, n_priced=0, classifier_cost=np.nan)
    body = payload(frame(known, unpriced), POLICY, candidate=0.6, colors=COLORS)
    assert (body["classifier_cost"], body["classifier_known"]) == (0.1, True)
    other = cell("simple", 6000, 1, classifier_cost=np.nan)
    body = payload(frame(known, other), POLICY, candidate=0.6, colors=COLORS)
    assert (body["classifier_cost"], body["classifier_known"]) == (0.1, False)


def test_the_version_follows_the_cells_and_not_the_candidate() -> None:
    cells = frame(cell("simple", 5000, 1))
    first, moved = (payload(cells, POLICY, candidate=t, colors=COLORS) for t in (0.6, 0.7))
    other = payload(frame(cell("simple", 5001, 1)), POLICY, candidate=0.6, colors=COLORS)
    assert first["version"] == moved["version"] != other["version"]
    assert (first["t"], moved["t"]) == (0.6, 0.7)


def test_the_payload_is_json_and_repeats_byte_for_byte() -> None:
    cells = frame(cell("hard", 5000, 1), cell("simple", 4000, 2))
    shuffled = cells.iloc[::-1].reset_index(drop=True)
    texts = [
        json.dumps(payload(x, POLICY, candidate=0.6, colors=COLORS), allow_nan=False)
        for x in (cells, shuffled)
    ]
    assert texts[0] == texts[1]


def test_no_decisions_make_a_payload() -> None:
    body = payload(frame(), POLICY, candidate=0.6, colors=COLORS)
    assert (body["priced"], [x["counts"] for x in body["labels"]], cheapest(body)) == (0, ["", ""], None)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (frame(cell("simple", 10_001, 1)), "bin ranges from 10001"),
        (frame(cell("simple", -1, 1)), "bin ranges from -1"),
        (frame(cell("simple", 5, 1)).assign(bin=5.5), "bin holds a value that is not a whole number"),
        (frame(cell("simple", 5, 1, fallback_cost=np.nan)), "fallback_cost: not a number in a cell"),
        (frame(cell("simple", 5, 1)).drop(columns="n_priced"), "cells lack n_priced"),
    ],
    ids=["over", "under", "half", "unknown cost", "no column"],
)
def test_wrong_cells_are_refused_with_what_is_wrong(cells: pd.DataFrame, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        payload(cells, POLICY, candidate=0.6, colors=COLORS)


def test_cheapest_is_the_lowest_cost_of_all_rows_replayed() -> None:
    generator = np.random.default_rng(3)
    confidence = generator.beta(6, 3, 400)
    label_cost, fallback_cost = (
        generator.gamma(2, 1, 400),
        generator.gamma(2, 1, 400) + 1.5 * (confidence - 0.7),
    )
    cells = frame(
        *(
            cell("simple", confidence_bin(c), 1, label_cost=x, fallback_cost=y)
            for c, x, y in zip(confidence, label_cost, fallback_cost, strict=True)
        )
    )
    costs = {
        k: float(np.where(confidence < k / GRID, fallback_cost, label_cost).sum())
        for k in range(0, GRID + 1, 10)
    }
    found = cheapest(payload(cells, POLICY, candidate=0.6, colors=COLORS))
    assert found is not None
    assert costs[round(found * GRID)] == pytest.approx(min(costs.values()), abs=1e-9)


def test_of_equally_cheap_thresholds_the_nearest_to_production_is_taken() -> None:
    cells = frame(
        cell("simple", 2000, 1, label_cost=1, fallback_cost=2),
        cell("simple", 9000, 1, label_cost=1, fallback_cost=2),
    )
    assert cheapest(payload(cells, POLICY, candidate=0.6, colors=COLORS)) == 0.2
    cells = frame(
        cell("simple", 2000, 1, label_cost=2, fallback_cost=1),
        cell("simple", 9000, 1, label_cost=1, fallback_cost=2),
    )
    assert cheapest(payload(cells, POLICY, candidate=0.6, colors=COLORS)) == 0.55


def test_the_script_has_one_export_and_nothing_a_strict_content_policy_refuses() -> None:
    text = script()
    assert [x.split("(")[0] for x in text.splitlines() if x.startswith("export ")] == [
        "export default function mount"
    ]
    for refused in (
        "eval(",
        "new Function",
        "innerHTML",
        "insertAdjacentHTML",
        "import ",
        "https://",
        'setAttribute("on',
    ):
        assert refused not in text, refused
    assert len(FILES) == 6
