"""Judgements: drawn once a queue, written down as they were drawn, and the last word on a decision counts."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import uuid
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from log_samples import SEED, START, Fixed, decision, run, start
from test_owner import waits_for

from router import AsyncRouter, InputError, Router
from router.analysis.judgements import Judgements
from router.analysis.sampling import estimate
from router.errors import LogError, LogLocked
from router.log import Owner, open_log
from router.log.archive import noted_generation
from router.log.drawn import DRAWN, Drawn, DrawnMeanwhile, note_drawn, read_drawn
from router.log.export import export
from router.log.filters import Filter
from router.log.importers import import_file
from router.log.judged import judged, waiting
from router.log.recovery import open_database
from router.log.tasks import pending
from router.log.upkeep import Here, request
from router.log.writer import Writer
from router.prices import PriceBook
from router.review import answer, blind_reason, draw
from router.types import QUEUES, VERDICTS, Queue, Verdict

BOOK = PriceBook()
N = 60


def clock():
    clock.seconds += 1
    return START + timedelta(days=1, seconds=clock.seconds)


clock.seconds = 0


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A log of decisions with every label and many confidences, one of them without scores."""
    folder = tmp_path_factory.mktemp("review") / "data"
    writer = Writer(folder, turns=False)
    for i in range(N):
        best = round(0.30 + i * 37 % 65 / 100, 4)
        label = SEED.label_names[i % 4]
        writer.log(decision(i, top_label=label, confidence=best, margin=best / 2, session_id=f"s{i % 3}"))
    nothing = {"top_label": None, "confidence": None, "scores": {}, "runner_up": None, "margin": None}
    writer.log(decision(N, cause="classifier_error", **nothing))
    writer.close()
    return folder


@pytest.fixture
def data(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def drawn_from(data: Path, queue: Queue, n: int, seed: int = 1, chosen: Filter | None = None):
    with open_log(data) as log:
        return draw(log, queue, n, BOOK, seed=seed, now=clock, chosen=chosen)


def table(data: Path, **options: Any) -> list[dict[str, Any]]:
    with open_log(data, **options) as log:
        found = judged(log)
    return found.astype(object).where(found.notna(), None).to_dict("records")


def ids_of(data: Path) -> list[str]:
    with open_log(data) as log:
        return [
            id
            for (id,) in log.rows(
                "SELECT CAST(id AS VARCHAR) FROM decisions WHERE confidence IS NOT NULL ORDER BY id"
            )
        ]


def client(data: Path, **options: Any) -> Router:
    return Router(SEED, classifier=Fixed(), data=data, clock=clock, **options)


# What a person may say


def test_there_is_one_vocabulary():
    assert get_args(Verdict) == VERDICTS
    assert get_args(Queue) == QUEUES


def test_the_last_word_on_a_decision_counts(data):
    first, second = ids_of(data)[:2]
    with client(data) as router:
        assert router.feedback(first, "wrong", correct_label="coding", note="no", judged_by="a")
        assert router.feedback(second.upper().replace("-", ""), "unsure")
        assert router.feedback(first, "right", judged_by="b")
    rows = {row["id"]: row for row in table(data)}
    assert set(rows) == {first, second}
    assert (rows[first]["verdict"], rows[first]["judged_by"]) == ("right", "b")
    assert (rows[first]["correct_label"], rows[first]["queue"]) == (None, None)
    assert rows[first]["true_label"] == rows[first]["label"]
    assert (rows[second]["verdict"], rows[second]["true_label"]) == ("unsure", None)
    with open_log(data) as log:
        assert log.rows("SELECT note FROM feedback WHERE judged_by = 'a'") == [("no",)]


def test_the_async_router_says_the_same(data):
    (one,) = ids_of(data)[:1]

    async def judge() -> bool:
        async with AsyncRouter(SEED, classifier=Fixed(), data=data, clock=clock) as router:
            return await router.feedback(one, "wrong", correct_label="coding")

    assert asyncio.run(judge())
    (row,) = table(data)
    assert (row["id"], row["verdict"], row["true_label"]) == (one, "wrong", "coding")


SOME_ID = str(uuid.UUID(int=7))
BAD = [
    pytest.param(("seven", "right"), {}, "UUID", id="no id"),
    pytest.param((7, "right"), {}, "decision_id: found a value of type int", id="id of another type"),
    pytest.param((SOME_ID, "Right"), {}, "verdict: found 'Right', expected one of right, wrong, unsure", id="verdict"),
    pytest.param((SOME_ID, None), {}, "verdict: missing, expected one of", id="no verdict"),
    pytest.param((SOME_ID, "wrong"), {"correct_label": " "}, "correct_label: found nothing", id="empty label"),
    pytest.param((SOME_ID, "wrong"), {"note": "x" * 10_001}, "note: found 10,001 characters", id="long note"),
    pytest.param((SOME_ID, "wrong"), {"judged_by": 3}, "judged_by: found a value of type int", id="name of another type"),
    pytest.param((SOME_ID, "wrong"), {"correct_label": "hard"}, "found 'hard', expected one of the policy's labels: simple, coding", id="label of no policy"),
    pytest.param((SOME_ID, "wrong"), {"queue": "all"}, "queue: found 'all'", id="queue"),
    pytest.param((SOME_ID, "wrong"), {"queue": "audit"}, "'audit' needs it", id="audit without a probability"),
    pytest.param((SOME_ID, "wrong"), {"queue": "learn", "inclusion_probability": 0.5}, "only decisions", id="learn with one"),
    pytest.param((SOME_ID, "wrong"), {"inclusion_probability": 0.5}, "only decisions", id="probability alone"),
    pytest.param((SOME_ID, "wrong"), {"queue": "audit", "inclusion_probability": 0.0}, "above 0", id="probability 0"),
    pytest.param((SOME_ID, "wrong"), {"queue": "audit", "inclusion_probability": float("nan")}, "above 0", id="not a number"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "more", "says"), BAD)
def test_what_is_no_judgement_is_an_error_that_says_why_and_nothing_is_logged(tmp_path, args, more, says):
    with client(tmp_path) as router:
        with pytest.raises(InputError, match=says):
            router.feedback(*args, **more)
        assert router.metrics()["written"] == 0
        assert not router.dropped


def test_disk_trouble_never_raises_and_is_counted(tmp_path):
    (tmp_path / "spool").write_text("a file where the folder should be")
    with client(tmp_path) as router:
        assert router.feedback(SOME_ID, "wrong") is False
        assert sum(router.dropped.values()) == 1


def test_a_router_that_does_not_log_judges_nothing_and_still_checks(tmp_path):
    router = client(tmp_path / "none", log=False)
    assert router.feedback(SOME_ID, "right") is False
    with pytest.raises(InputError, match="verdict"):
        router.feedback(SOME_ID, "fine")
    assert not (tmp_path / "none").exists()


# Drawing


def test_what_was_drawn_is_judged_for_the_queue_that_is_named_with_the_probability_of_the_draw(data):
    audit = drawn_from(data, "audit", 6)
    learn = drawn_from(data, "learn", 4)
    assert {x.inclusion_probability for x in audit.items} == {6 / N}
    with client(data) as router:
        for item in (*audit.items, *learn.items):
            assert router.feedback(item.decision_id, "right", queue=item.queue)
        router.feedback(audit.items[0].decision_id, "wrong", queue="audit")
    rows = table(data)
    assert len(rows) == 10
    found = {row["id"]: (row["queue"], row["inclusion_probability"], row["verdict"]) for row in rows}
    for number, item in enumerate(audit.items):
        assert found[item.decision_id] == ("audit", 6 / N, "wrong" if number == 0 else "right")
    for item in learn.items:
        assert found[item.decision_id] == ("learn", None, "right")
    with open_log(data) as log:
        assert len(Judgements.from_table(judged(log)).audit) == 6
        assert waiting(log) == []


def test_a_thumb_on_a_drawn_decision_is_no_audit_judgement_and_overwrites_none(data):
    audit = drawn_from(data, "audit", 6).items
    with client(data) as router:
        for item in audit:
            router.feedback(item.decision_id, "right")
        with open_log(data) as log:
            assert len(waiting(log, "audit")) == 6
        router.flush()
        with open_log(data) as log:
            assert len(waiting(log, "audit")) == 6
            assert len(Judgements.from_table(judged(log)).audit) == 0
        router.feedback(audit[0].decision_id, "right", queue="audit")
        router.feedback(audit[0].decision_id, "wrong", note="a complaint, later")
    rows = [row for row in table(data) if row["id"] == audit[0].decision_id]
    assert {(row["queue"], row["verdict"]) for row in rows} == {("audit", "right"), (None, "wrong")}
    with open_log(data) as log:
        assert Judgements.from_table(judged(log)).audit.loss.tolist() == [False]


def test_a_probability_that_contradicts_the_draw_is_refused(data):
    (item,) = drawn_from(data, "audit", 1).items
    with client(data) as router:
        with pytest.raises(InputError, match="was drawn with"):
            router.feedback(item.decision_id, "right", queue="audit", inclusion_probability=0.5)
        assert router.feedback(item.decision_id, "right", queue="audit")
    assert [(row["queue"], row["inclusion_probability"]) for row in table(data)] == [("audit", 1 / N)]


def test_a_decision_of_two_queues_has_a_verdict_for_each(data):
    drawn_from(data, "estimate", N)
    audit = drawn_from(data, "audit", 3).items
    one = audit[0].decision_id
    with client(data) as router:
        router.feedback(one, "right", queue="audit")
        router.feedback(one, "wrong", queue="estimate")
    rows = table(data)
    assert [(x["queue"], x["inclusion_probability"], x["verdict"]) for x in rows] == [
        ("audit", 3 / N, "right"),
        ("estimate", 1.0, "wrong"),
    ]
    assert rows[0]["stratum"] is None
    assert rows[1]["stratum"] == next(x.stratum for x in read_drawn(data) if x.decision_id == one)
    with open_log(data) as log:
        assert len(waiting(log, "audit")) == 2
        assert len(waiting(log)) == 2 + N - 1


def test_a_queue_draws_each_decision_once_until_none_is_left(data):
    drawn = [drawn_from(data, "audit", 25, seed=number) for number in range(4)]
    assert [len(x.items) for x in drawn] == [25, 25, 10, 0]
    assert [x.n_left for x in drawn] == [60, 35, 10, 0]
    assert {x.n_scored for x in drawn} == {N}
    assert sorted(item.decision_id for x in drawn for item in x.items) == ids_of(data)


@pytest.mark.parametrize(
    ("before", "then", "left"),
    [
        ("learn", "audit", N),
        ("estimate", "audit", N),
        ("learn", "estimate", N),
        ("audit", "estimate", N - 20),
        ("audit", "learn", N - 20),
        ("estimate", "learn", N - 20),
    ],
)
def test_only_a_uniform_sample_may_be_missing_from_another(data, before, then, left):
    drawn_from(data, before, 20)
    assert drawn_from(data, then, 20).n_left == left


def test_complaints_stay_in_an_audit_and_are_not_shown_to_learn_from_again(data):
    with client(data) as router:
        for id in ids_of(data)[:5]:
            router.feedback(id, "wrong")
    assert drawn_from(data, "audit", N).n_left == N
    assert drawn_from(data, "learn", 5).n_left == 0


def test_what_was_judged_for_an_audit_elsewhere_is_not_drawn_for_one_again(data):
    one = ids_of(data)[0]
    with client(data) as router:
        router.feedback(one, "right", queue="audit", inclusion_probability=0.1)
    assert one not in {item.decision_id for item in drawn_from(data, "audit", N).items}


@pytest.mark.parametrize("queue", QUEUES)
def test_the_same_seed_draws_the_same_from_the_same_log_however_it_is_read(data, tmp_path, queue):
    other = tmp_path / "other"
    shutil.copytree(data / "spool", other / "spool")  # its database is made anew
    first, second = (drawn_from(folder, queue, 15, seed=9).items for folder in (data, other))
    assert [replace(x, drawn_at=START) for x in first] == [replace(x, drawn_at=START) for x in second]


def test_a_seed_decides_what_is_drawn(data, tmp_path):
    other = Path(shutil.copytree(data, tmp_path / "other"))
    first, second = drawn_from(data, "audit", 15, seed=1).items, drawn_from(other, "audit", 15, seed=2).items
    assert {x.decision_id for x in first} != {x.decision_id for x in second}


def test_a_filter_narrows_a_queue_but_never_an_audit(data):
    chosen = Filter(labels=("coding",))
    found = drawn_from(data, "learn", N, chosen=chosen)
    assert len(found.items) == found.n_scored == N // 4
    with pytest.raises(InputError, match="a condition on labels"):
        drawn_from(data, "audit", 5, chosen=chosen)
    since = Filter(start=START + timedelta(seconds=N // 2))
    assert drawn_from(data, "audit", 5, chosen=since).n_left == N // 2


def test_too_few_for_the_strata_is_said_and_nothing_is_noted(data):
    with pytest.raises(InputError, match="found n = 3, expected at least 8"):
        drawn_from(data, "estimate", 3)
    assert read_drawn(data) == ()


def test_judged_strata_give_the_estimate_of_the_whole(data):
    found = drawn_from(data, "estimate", 40)
    wrong = set(ids_of(data)[::3])
    with client(data) as router:
        for item in found.items:
            router.feedback(
                item.decision_id, "wrong" if item.decision_id in wrong else "right", queue="estimate"
            )
    with open_log(data) as log:
        rows = judged(log)
    value = estimate(
        (rows["verdict"] == "wrong").to_numpy(), rows["inclusion_probability"], rows["stratum"], total=N
    )
    assert value.n == 40
    assert 0 < value.half < 0.2
    assert abs(value.hajek - len(wrong) / N) <= value.half
    assert value.horvitz_thompson == pytest.approx(N * value.hajek)  # the probabilities add up to N
    assert abs(value.horvitz_thompson - len(wrong)) <= value.horvitz_thompson_half


SAME_DRAW = """
    import sys, time
    from datetime import datetime
    from pathlib import Path
    from router.log import open_log
    from router.prices import PriceBook
    from router.review import draw
    with open_log(Path(sys.argv[1]), take_lock=False) as log:
        print("ready", flush=True)
        while not Path(sys.argv[2]).exists():
            time.sleep(0.005)
        done = draw(log, "audit", 12, PriceBook(), seed=4, now=datetime.now)
    print(*[item.decision_id for item in done.items])
"""


def test_processes_that_draw_at_once_never_draw_the_same(data, tmp_path):
    processes = [start(SAME_DRAW, data, tmp_path / "gate") for _ in range(3)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        (tmp_path / "gate").touch()
        drawn = [process.communicate(timeout=60)[0].split() for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [len(x) for x in drawn] == [12, 12, 12]
    assert max(Counter(id for x in drawn for id in x).values()) == 1
    assert len(read_drawn(data)) == 36


# The file of what was drawn


def item(number: int, queue: Queue = "audit") -> Drawn:
    return Drawn(str(uuid.UUID(int=number)), queue, "why", 0.25 if queue == "audit" else None, None, START)


def test_the_file_is_private_holds_no_prompt_and_gives_back_what_was_noted(data):
    found = drawn_from(data, "estimate", 20)
    assert stat.S_IMODE((data / DRAWN).stat().st_mode) == 0o600
    assert b"prompt number" not in (data / DRAWN).read_bytes()
    assert read_drawn(data) == found.items


def test_a_line_that_a_killed_process_left_cut_spoils_no_other(tmp_path):
    note_drawn(tmp_path, [item(1), item(2)], generation=0)
    whole = (tmp_path / DRAWN).read_bytes()
    for size in {*range(0, len(whole), 9), len(whole) // 2 - 1, len(whole) // 2, len(whole) - 1}:
        (tmp_path / DRAWN).write_bytes(whole[:size])
        note_drawn(tmp_path, [item(3)], generation=0)
        kept = [x for x in (item(1), item(2)) if size >= len(whole) * int(x.decision_id[-1]) // 2 - 1]
        assert list(read_drawn(tmp_path)) == [*kept, item(3)]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[1]",
        b"null",
        b"\xff\x00",
        b'{"decision_id":"x"}',
        json.dumps({**{x: getattr(item(9), x) for x in Drawn.__slots__}, "drawn_at": "2026-11-20", "inclusion_probability": 2}).encode(),
        json.dumps({**{x: getattr(item(9), x) for x in Drawn.__slots__}, "drawn_at": "2026-11-20", "queue": "all"}).encode(),
    ],
)  # fmt: skip
def test_a_damaged_line_is_passed_over(tmp_path, line):
    note_drawn(tmp_path, [item(1)], generation=0)
    with (tmp_path / DRAWN).open("ab") as file:
        file.write(line + b"\n")
    note_drawn(tmp_path, [item(2)], generation=0)
    assert read_drawn(tmp_path) == (item(1), item(2))


def test_a_draw_from_rows_that_were_erased_meanwhile_is_refused_whole(tmp_path):
    note_drawn(tmp_path, [item(1)], generation=0)
    with pytest.raises(DrawnMeanwhile, match="draw again"):
        note_drawn(tmp_path, [item(2)], generation=3)
    with pytest.raises(LogLocked, match="another process"):
        note_drawn(tmp_path, [item(2), item(1)], generation=0)
    assert read_drawn(tmp_path) == (item(1),)


def test_a_draw_that_cannot_be_read_takes_the_queue_not_the_judgement(data, caplog):
    (one,) = drawn_from(data, "audit", 1).items
    (data / DRAWN).rename(data / "aside")
    (data / DRAWN).mkdir()
    with client(data) as router:
        assert router.feedback(one.decision_id, "wrong")
        assert router.feedback(one.decision_id, "wrong", queue="audit") is False
        assert sum(router.dropped.values()) == 1
    assert "review.jsonl is needed" in caplog.text
    with open_log(data) as log, pytest.raises(LogError, match="cannot be read"):
        waiting(log)
    (data / DRAWN).rmdir()
    (data / "aside").rename(data / DRAWN)
    assert [(row["verdict"], row["queue"]) for row in table(data)] == [("wrong", None)]
    with open_log(data) as log:
        assert waiting(log) == [one]  # it is judged for its queue again


# Erasing


def forms(id: str) -> list[bytes]:
    return [id.encode(), uuid.UUID(id).hex.encode()]


@pytest.mark.parametrize(
    ("kind", "selector"), [("forget", "session"), ("forget", "id"), ("retention", "days")]
)
def test_what_is_erased_is_erased_from_what_was_drawn(data, kind, selector):
    for queue in QUEUES:
        drawn_from(data, queue, 30)
    with (data / DRAWN).open("ab") as file:
        file.write(b'{"decision_id":"damaged beyond reading\n')
    every, before = ids_of(data), read_drawn(data)
    lines = (data / DRAWN).read_bytes().split(b"\n")
    value = {"session": "s1", "id": every[4], "days": (START + timedelta(seconds=20)).isoformat()}[selector]
    gone = {"session": every[1::3], "id": [every[4]], "days": every[:20]}[selector]
    assert any(x.decision_id in gone for x in before)
    assert request(data, kind, selector, value).decisions == len(gone)
    for path in data.rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert not [form for id in gone for form in forms(id) if form in text], path
            assert b"damaged beyond" not in text, path
    kept = [x for x in before if x.decision_id not in gone]
    assert list(read_drawn(data)) == kept
    after = (data / DRAWN).read_bytes().split(b"\n")
    assert [len(x) for x in after] == [len(x) for x in lines]
    assert [x for x in after if x.strip()] == [x for x in lines if x in after and x.strip()]
    assert noted_generation(data) > 0
    assert drawn_from(data, "audit", 5).n_left == len(every) - len(gone) - 30 + sum(
        x.queue == "audit" and x.decision_id in gone for x in before
    )


def test_a_draw_that_erasing_overtakes_is_made_again_without_what_is_gone(data):
    every = ids_of(data)
    times = iter([lambda: request(data, "forget", "session", "s1"), lambda: None])

    def now():
        next(times)()  # after the log was opened, before the draw is noted
        return START

    with open_log(data, take_lock=False) as log:
        found = draw(log, "audit", N, BOOK, seed=1, now=now)
    assert sorted(x.decision_id for x in found.items) == sorted(set(every) - set(every[1::3]))
    assert read_drawn(data) == found.items


def test_an_erasure_is_not_whole_while_what_was_drawn_cannot_be_reached(data):
    gone = ids_of(data)[1::3]
    drawn_from(data, "audit", N)
    (data / DRAWN).rename(data / "aside")
    (data / DRAWN).mkdir()
    with pytest.raises(LogError, match="the erasure is not whole yet"):
        request(data, "forget", "session", "s1")
    (data / DRAWN).rmdir()
    (data / "aside").rename(data / DRAWN)
    (task,) = pending(data)  # the next owner would finish it
    here = Here(open_database(data), data)
    here.run(task)
    here.con.close()
    assert not {x.decision_id for x in read_drawn(data)} & set(gone)
    assert len(read_drawn(data)) == N - len(gone)
    assert pending(data) == []


# Wherever the log is


def test_judgements_are_read_beside_an_owner_and_in_it(data):
    (item,) = drawn_from(data, "audit", 1).items
    owner = Owner(data)
    owner.start()
    try:
        assert owner.wait_ready(30)
        with client(data) as router:
            assert router.feedback(item.decision_id, "wrong", queue="audit")
        code = """
            import sys
            from router.log import open_log
            from router.log.judged import judged
            with open_log(sys.argv[1]) as log:
                print(log.mode, judged(log)[["verdict", "queue"]].to_csv(index=False, lineterminator=";"))
        """
        assert run(code, data).strip() == "spool verdict,queue;wrong,audit;"
        waits_for(lambda: len(table(data)) == 1)
        with open_log(data) as log:
            assert log.mode == "owner"
    finally:
        owner.stop()
    assert [(row["id"], row["queue"], row["inclusion_probability"]) for row in table(data)] == [
        (item.decision_id, "audit", 1 / N)
    ]


def test_judgements_survive_export_import_and_rebuild(data, tmp_path):
    audit = drawn_from(data, "audit", 5).items
    with client(data) as router:
        for item in audit:
            router.feedback(item.decision_id, "wrong", correct_label="coding", note="a\nb", queue="audit")
        router.feedback(ids_of(data)[0], "unsure", judged_by="me")
    before = table(data)
    with open_log(data) as log:
        for what in ("decisions", "feedback"):
            export(log, Filter(), str(tmp_path / what), "jsonl", what=what)
    for what in ("decisions", "feedback"):
        assert import_file(tmp_path / "other", tmp_path / what).n_bad == 0
    assert table(tmp_path / "other") == before
    request(data, "rebuild")
    assert table(data) == before


def test_of_judgements_of_one_moment_the_order_of_rows_does_not_matter(data):
    one = ids_of(data)[0]
    with Router(SEED, classifier=Fixed(), data=data, clock=lambda: START) as router:
        for verdict in np.random.default_rng(2).permutation(["right", "wrong", "unsure"]):
            router.feedback(one, str(verdict))
    assert [row["verdict"] for row in table(data)] == ["wrong"]


def test_a_label_named_blind_is_right_where_the_classifier_said_it_too() -> None:
    item = Drawn(
        str(uuid.uuid4()), "estimate", "stratum coding: 2 of 8", 0.25, "coding, confidence 0.3 to 0.5", START
    )
    verdicts = [
        answer(item, "coding", "coding"),
        answer(item, "simple", "coding"),
        answer(item, None, "coding"),
        answer(item, None, "coding", unsure=True),
    ]
    assert [(x.verdict, x.correct_label, x.queue) for x in verdicts] == [
        ("right", "coding", "estimate"),
        ("wrong", "simple", "estimate"),
        ("wrong", None, "estimate"),
        ("unsure", None, "estimate"),
    ]
    assert "coding" not in blind_reason(item)
    assert "25 %" in blind_reason(item)
    assert (
        blind_reason(replace(item, queue="audit", reason="drawn uniformly, 2 of 8"))
        == "drawn uniformly, 2 of 8"
    )
