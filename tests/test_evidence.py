"""Judgements, scores and days as the log gives them: each equal to what was written."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from log_samples import SEED, START, decision

from router import Policy
from router.analysis.judgements import Judgements
from router.analysis.replay import replay, reproduce
from router.analysis.scored import Scored
from router.analysis.tables import DAILY, check
from router.log import evidence, open_log
from router.log.owner import ingest_now
from router.log.queries import Filter, policies_seen
from router.log.record import feedback_payload
from router.log.spool import Spool
from router.log.writer import Writer
from router.policy import confidence_bin, decide
from router.prices import PriceBook

LATER = datetime(2026, 11, 25)
N = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """Sixty decisions of three days, some judged: ids, scores and the folder."""
    folder = tmp_path_factory.mktemp("evidence") / "data"
    writer, rng, ids, all_scores = Writer(folder, turns=False), np.random.default_rng(1), [], []
    for i in range(N):
        raw = rng.dirichlet([0.7] * 4)
        scores = {name: float(x) for name, x in zip(SEED.label_names, raw, strict=True)}
        choice = decide(scores, SEED)
        at = START + timedelta(days=i % 3, seconds=i)
        one = decision(
            i,
            decided_at=at,
            scores=scores,
            top_label=choice.top_label,
            confidence=choice.confidence,
            runner_up=choice.runner_up,
            margin=choice.margin,
            cause=choice.cause,
            is_fallback=choice.is_fallback,
            model_chosen=choice.model_chosen,
            model_used=choice.model_chosen if i % 7 else "another-after-failover",
            input_tokens=100 + i if i % 5 else None,
            output_tokens=50 if i % 5 else None,
            usage_grade="measured" if i % 5 else None,
        )
        ids.append(one.id)
        all_scores.append(scores)
        writer.log(one, SEED)
    nothing = {"top_label": None, "confidence": None, "scores": {}, "runner_up": None, "margin": None}
    writer.log(decision(N, cause="classifier_error", model_chosen="gpt-4o", **nothing), SEED)
    writer.close()
    spool = Spool(folder)
    for i, verdict, queue, day, label in (
        (0, "right", "audit", 0, None),
        (1, "wrong", "audit", 0, "coding"),
        (1, "right", "learn", 5, None),  # newer, and for another queue
        (2, "wrong", "learn", 0, None),
        (3, "right", None, 0, None),
        (3, "wrong", None, 2, "simple"),  # a second thought
        (4, "unsure", "audit", 0, None),
        (5, "right", "audit", 0, None),
        (5, "unsure", "audit", 3, None),  # taken back
    ):
        probability = 0.1 if queue == "audit" else None
        record = feedback_payload(
            ids[i],
            verdict,
            LATER + timedelta(days=day),
            queue=queue,
            inclusion_probability=probability,
            correct_label=label,
        )
        assert spool.append(record)
    spool.close()
    ingest_now(folder)
    return folder, ids, all_scores


def test_the_last_word_that_is_given_for_a_queue_counts_for_it(
    made: tuple[Path, list[str], list[dict]],
) -> None:
    folder, ids, scores = made
    with open_log(folder) as log:
        table = evidence.judgements(log, Filter())
    found = {(row.id, row.queue if isinstance(row.queue, str) else None): row for row in table.itertuples()}
    keys = [(ids[0], "audit"), (ids[1], "audit"), (ids[2], "learn"), (ids[3], None), (ids[1], "learn")]
    assert set(found) == set(keys)
    assert [found[key].verdict for key in keys] == ["right", "wrong", "wrong", "wrong", "right"]
    assert found[keys[1]].inclusion_probability == 0.1
    assert found[keys[1]].true_label == "coding" and found[keys[4]].true_label == found[keys[4]].label
    assert found[keys[3]].true_label == "simple"
    assert found[keys[0]].true_label == found[keys[0]].label
    judged = Judgements.from_table(table)
    assert len(judged) == 5
    assert len(judged.audit) == 2
    assert sorted(judged.audit.confidence) == pytest.approx(sorted(max(scores[i].values()) for i in (0, 1)))
    # decision 0 was answered by another model after a failover
    assert not found[keys[0]].is_served
    assert bool(found[keys[1]].is_served) == (max(scores[1].values()) >= 0.55)


def test_scores_and_costs_are_those_of_the_rows(made: tuple[Path, list[str], list[dict]]) -> None:
    folder, ids, scores = made
    book, models = PriceBook(), ("gpt-4o-mini", "claude-sonnet-4-5", "nobody-knows")
    with open_log(folder) as log:
        parts = list(evidence.scored_parts(log, Filter(), SEED.label_names, models, book, size=7))
        picked = evidence.scored(log, Filter(), SEED.label_names, models, book, ids=ids[:3])
        labels = evidence.score_labels(log, Filter())
        one = evidence.sum_to_1(log, Filter(), SEED.label_names, within=1e-3)
        two = evidence.sum_to_1(log, Filter(), SEED.label_names[:2], within=1e-3)
        quartiles = evidence.prompt_lengths(log, Filter(), SEED.label_names)
    assert max(len(x) for x in parts) == 7
    rows = Scored.from_table(pd.concat(parts), SEED.label_names, models)
    assert len(rows) == N
    assert (one, two) == (True, False)
    assert quartiles == pytest.approx(np.quantile(rows.meta["prompt_chars"], [0.25, 0.5, 0.75]))
    assert sorted(picked["id"]) == sorted(ids[:3])
    assert labels == sorted(SEED.label_names)
    place = {name: i for i, name in enumerate(rows.meta["id"])}
    for i, name in enumerate(ids):
        assert rows.scores[place[name]].tolist() == [scores[i][x] for x in SEED.label_names]
        costs = rows.costs[place[name]]
        assert np.isnan(costs[2])
        if i % 5:
            rate = book.rate("claude-sonnet-4-5", START.date())
            assert costs[1] == pytest.approx(float(rate.input * (100 + i) + rate.output * 50) / 1e6)
        else:
            assert np.isnan(costs).all()


def test_a_log_replays_under_the_policy_that_it_holds(made: tuple[Path, list[str], list[dict]]) -> None:
    folder, *_ = made
    with open_log(folder) as log:
        policies = {x["fingerprint"]: Policy.from_toml(x["toml"]) for x in policies_seen(log) if x["toml"]}
        tables = list(evidence.scored_parts(log, Filter(), SEED.label_names, SEED.model_names, PriceBook()))
    rows = Scored.from_table(pd.concat(tables), SEED.label_names, SEED.model_names)
    again = reproduce(rows, policies)
    assert (again.n, again.n_equal, again.unlike) == (N, N, ())
    assert replay(rows, SEED).n_priced == N - N // 5


def test_days_are_counted_by_label_and_hundredth(made: tuple[Path, list[str], list[dict]]) -> None:
    folder, _, scores = made
    with open_log(folder) as log:
        table = check(evidence.daily(log, Filter()), DAILY)
    assert table["n"].sum() == N
    assert table["n_fallback"].sum() == sum(max(x.values()) < 0.55 for x in scores)
    assert table.groupby("day")["n"].sum().tolist() == [20, 20, 20]
    expected: dict[int, int] = {}
    for x in scores:
        k = confidence_bin(max(x.values())) // 100
        expected[k] = expected.get(k, 0) + 1
    assert table.groupby("bin")["n"].sum().to_dict() == expected


def test_what_decisions_rested_on(made: tuple[Path, list[str], list[dict]]) -> None:
    folder, *_ = made
    with open_log(folder) as log:
        assert evidence.rested_on(log, Filter()) == (("fixed/1",), (SEED.labels_fingerprint,))


def test_an_empty_log_has_no_evidence(tmp_path: Path) -> None:
    with open_log(tmp_path) as log:
        assert evidence.judgements(log, Filter()).empty
        assert evidence.daily(log, Filter()).empty
        assert list(evidence.scored_parts(log, Filter(), SEED.label_names, ["gpt-4o"], PriceBook())) == []
        assert evidence.scored(log, Filter(), SEED.label_names, ["gpt-4o"], PriceBook(), ids=[]).empty
        assert evidence.prompt_lengths(log, Filter(), SEED.label_names) == ()
        assert evidence.rested_on(log, Filter()) == ((), ())
        assert evidence.score_labels(log, Filter()) == []
