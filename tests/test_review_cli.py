"""``review`` and ``feedback`` on a real log: what is drawn, filled in and given back."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from log_samples import SCORES, SEED, decision
from typer.testing import CliRunner

from router.cli.app import app
from router.log import open_log
from router.log.drawn import DRAWN, read_drawn
from router.log.judged import judged
from router.log.writer import Writer

N = 40
HOSTILE = "two\nlines\tand \x1b[31mred\u202e" + "x" * 3000


def run(*args: object, stdin: bytes | None = None) -> Any:
    return CliRunner().invoke(app, [str(x) for x in args], input=stdin)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    writer = Writer(folder, turns=False)
    for i in range(N):
        best = round(0.30 + i * 17 % 65 / 100, 4)
        writer.log(
            decision(i, top_label=SEED.label_names[i % 4], confidence=best, margin=best / 2, prompt=HOSTILE)
        )
    writer.close()
    return folder


def filled(path: Path, **verdicts: Any) -> list[dict[str, Any]]:
    """Fill in a review file: verdicts by line number (``n3="wrong"``), the others stay open."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for name, verdict in verdicts.items():
        lines[int(name[1:]) - 1] |= verdict if isinstance(verdict, dict) else {"verdict": verdict}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines


def said(data: Path) -> dict[str, tuple[str, str | None]]:
    with open_log(data) as log:
        found = judged(log)
        assert log.rows("SELECT count(*) FROM rejects") == [(0,)]
    return {row.id: (row.verdict, row.queue) for row in found.itertuples()}


def feedback_rows(data: Path) -> int:
    with open_log(data) as log:
        return int(log.rows("SELECT count(*) FROM feedback")[0][0])


def test_next_prints_what_it_drew_with_each_prompt_on_one_line(data: Path) -> None:
    done = run("review", "next", "--queue", "audit", "--n", 5, "--seed", 3, "--data", data)
    assert done.exit_code == 0
    blocks = done.stdout.splitlines()
    assert len(blocks) == 15
    for item, first, reason, prompt in zip(
        read_drawn(data), blocks[::3], blocks[1::3], blocks[2::3], strict=True
    ):
        assert first.startswith(item.decision_id)
        assert "gpt-4o-mini" in first
        assert reason.strip() == "drawn uniformly, 5 of 40" == item.reason
        assert prompt.startswith("  two\\nlines\\tand \\x1b[31mred\\u202exxx")
        assert prompt.endswith("x…")
    assert "\x1b" not in done.stdout
    assert "seed 3" in done.stderr


def test_json_and_a_file_have_the_whole_prompt_and_the_draw(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "estimate.jsonl"
    done = run("review", "next", "--queue", "estimate", "--n", 10, "--json", "-o", target, "--data", data)
    document = json.loads(done.stdout)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert document["items"] == lines
    assert (document["n"], document["n_left"], document["queue"]) == (10, N, "estimate")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    for line, item in zip(lines, read_drawn(data), strict=True):
        assert line["prompt"] == HOSTILE
        assert (line["decision_id"], line["reason"]) == (item.decision_id, item.reason)
        assert 0 < line["inclusion_probability"] == item.inclusion_probability < 1
        assert line["verdict"] is line["correct_label"] is line["note"] is None
    again = run("review", "next", "--queue", "estimate", "--n", 10, "-o", target, "--data", data)
    assert again.exit_code == 2
    assert "there already" in again.stderr
    assert len(read_drawn(data)) == 10


def test_a_filled_in_file_is_taken_once_however_often_it_is_given(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "audit.jsonl"
    run("review", "next", "--queue", "audit", "--n", 6, "-o", target, "--data", data)
    lines = filled(
        target, n1="right", n2={"verdict": "wrong", "correct_label": "coding", "note": "é\n"}, n3="unsure"
    )
    first = run("feedback", "--from", target, "--by", "me", "--data", data)
    assert (first.exit_code, first.stdout.strip()) == (0, "3 judgements added, 3 lines without a verdict")
    again = json.loads(run("feedback", "--from", target, "--by", "me", "--json", "--data", data).stdout)
    assert again == {"added": 0, "present": 3, "open": 3, "queues": [], "bad": []}
    assert said(data) == {
        lines[0]["decision_id"]: ("right", "audit"),
        lines[1]["decision_id"]: ("wrong", "audit"),
        lines[2]["decision_id"]: ("unsure", "audit"),
    }
    assert feedback_rows(data) == 3
    one = lines[0]["decision_id"]
    assert run("feedback", one, "wrong", "--queue", "audit", "--data", data).exit_code == 0
    assert run("feedback", "--from", target, "--by", "me", "--data", data).exit_code == 0
    assert said(data)[one] == ("wrong", "audit")  # an old file does not take back what was said since
    filled(target, n4="right")
    assert (
        json.loads(run("feedback", "--from", target, "--by", "me", "--json", "--data", data).stdout)["added"]
        == 1
    )


def test_bad_lines_are_named_by_number_and_the_others_are_taken(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "audit.jsonl"
    run("review", "next", "--queue", "audit", "--n", 9, "-o", target, "--data", data)
    lines = filled(
        target,
        n1="right",
        n2="Right",
        n3={"verdict": "wrong", "correct_label": "code"},
        n4={"verdict": "wrong", "decision_id": "01a1f82f-0000-7000-8000-000000000000"},
        n5={"verdict": "wrong", "inclusion_probability": 0.9},
        n6={"verdict": "wrong", "decision_id": None},
        n7={"verdict": "wrong", "note": 7},
        n9="wrong",
    )
    text = target.read_text().splitlines()
    text[7] = '{"decision_id": "cut'
    text.append(json.dumps(lines[8]))
    target.write_text("\ufeff" + "\n".join(text))
    done = run("feedback", "--from", target, "--data", data)
    assert done.exit_code == 1
    assert done.stdout.strip() == "2 judgements added"
    told = dict(line.split(": ", 1) for line in done.stderr.splitlines() if line.startswith("line "))
    assert {name.removeprefix("line ") for name in told} == {"2", "3", "4", "5", "6", "7", "8", "10"}
    assert told["line 2"] == "verdict: found 'Right', expected one of right, wrong, unsure"
    assert "expected one of the labels that were scored" in told["line 3"]
    assert told["line 4"] == "decision_id: the log holds no such decision"
    assert "was drawn with" in told["line 5"]
    assert told["line 8"].startswith("not valid JSON")
    assert "line 9" in told["line 10"]
    assert said(data) == {
        lines[0]["decision_id"]: ("right", "audit"),
        lines[8]["decision_id"]: ("wrong", "audit"),
    }


def test_a_judgement_by_id_answers_the_queue_it_names_and_is_logged_once(data: Path) -> None:
    run("review", "next", "--queue", "audit", "--n", 2, "--data", data)
    one = read_drawn(data)[0].decision_id
    words = ("--label", "coding", "--note", "no", "--queue", "audit", "--data", data)
    for _ in range(2):
        done = run("feedback", one.upper(), "wrong", *words)
        assert done.exit_code == 0
    assert done.stdout.strip() == "0 judgements added, 1 there already"
    assert said(data) == {one: ("wrong", "audit")}
    for verdict in ("right", "wrong"):
        run("feedback", one, verdict, "--queue", "audit", "--data", data)
        assert said(data) == {one: (verdict, "audit")}


def test_a_judgement_without_a_queue_leaves_the_draw_waiting(data: Path) -> None:
    run("review", "next", "--queue", "audit", "--n", N, "--data", data)
    one = read_drawn(data)[0].decision_id
    done = json.loads(run("feedback", one, "wrong", "--json", "--data", data).stdout)
    assert (done["added"], done["queues"]) == (1, [])
    assert said(data) == {one: ("wrong", None)}
    waits = json.loads(run("review", "open", "--json", "--data", data).stdout)
    assert len(waits["items"]) == N
    done = json.loads(run("feedback", one, "wrong", "--queue", "audit", "--json", "--data", data).stdout)
    assert (done["added"], done["queues"]) == (1, ["audit"])


def test_open_lists_what_waits_and_gives_it_out_again(data: Path, tmp_path: Path) -> None:
    run("review", "next", "--queue", "audit", "--n", 3, "--data", data)
    run("review", "next", "--queue", "learn", "--n", 2, "--data", data)
    drawn = read_drawn(data)
    run("feedback", drawn[1].decision_id, "right", "--queue", "audit", "--data", data)
    waits = json.loads(run("review", "open", "--json", "--data", data).stdout)
    assert [x["decision_id"] for x in waits["items"]] == [x.decision_id for x in drawn if x is not drawn[1]]
    target = tmp_path / "open.jsonl"
    assert run("review", "open", "--queue", "audit", "-o", target, "--data", data).exit_code == 0
    filled(target, n1="right", n2="right")
    assert run("feedback", "--from", target, "--data", data).exit_code == 0
    left = json.loads(run("review", "open", "--json", "--data", data).stdout)
    assert {x["queue"] for x in left["items"]} == {"learn"}


def test_the_screen_shows_twenty_that_wait_and_a_file_takes_all(data: Path, tmp_path: Path) -> None:
    run("review", "next", "--queue", "audit", "--n", 25, "--data", data)
    ids = [x.decision_id for x in read_drawn(data)]

    def shown(*more: object) -> list[str]:
        lines = run("review", "open", *more, "--data", data).stdout.splitlines()
        return [line.split()[0] for line in lines if not line.startswith(" ")]

    assert shown() == ids[:20]
    assert shown("--n", 3) == ids[:3]
    assert (
        "25 decisions wait for a judgement, the first 20 are given"
        in run("review", "open", "--data", data).stderr
    )
    target = tmp_path / "open.jsonl"
    run("review", "open", "-o", target, "--data", data)
    assert len(target.read_text(encoding="utf-8").splitlines()) == 25


def test_a_draw_stands_when_its_file_cannot_be_written(data: Path, tmp_path: Path) -> None:
    done = run("review", "next", "--queue", "audit", "--n", 3, "-o", tmp_path / ("x" * 300), "--data", data)
    assert done.exit_code == 2
    assert "the draw stands" in done.stderr
    waits = json.loads(run("review", "open", "--json", "--data", data).stdout)
    assert [x["decision_id"] for x in waits["items"]] == [x.decision_id for x in read_drawn(data)]
    assert waits["n"] == 3


def test_standard_input_is_read_and_nothing_in_it_is_no_error(data: Path) -> None:
    run("review", "next", "--queue", "audit", "--n", 1, "--data", data)
    one = read_drawn(data)[0].decision_id
    line = json.dumps({"decision_id": one, "verdict": "right", "queue": "audit"}).encode()
    assert run("feedback", "--from", "-", "--data", data, stdin=line).exit_code == 0
    assert said(data) == {one: ("right", "audit")}
    empty = run("feedback", "--from", "-", "--data", data, stdin=b"")
    assert (empty.exit_code, empty.stdout.strip()) == (0, "0 judgements added")


def test_a_log_without_prompts_can_be_drawn_from_and_says_so(tmp_path: Path) -> None:
    writer = Writer(tmp_path, turns=False, prompts="none")
    for i in range(3):
        writer.log(decision(i))
    writer.close()
    done = run("review", "next", "--queue", "learn", "--data", tmp_path)
    assert done.exit_code == 0
    assert done.stdout.count("(not in the log)") == 3
    assert "holds no prompt of 3 of them" in done.stderr


BAD = [
    pytest.param(["review", "next", "--queue", "all"], 2, "--queue: found 'all'", id="unknown queue"),
    pytest.param(["review", "next"], 2, "--queue", id="no queue"),
    pytest.param(["review", "next", "--queue", "audit", "--label", "coding"], 2, "condition on labels", id="audit of a label"),
    pytest.param(["review", "next", "--queue", "estimate", "--n", "3"], 2, "expected at least 8", id="too few for the strata"),
    pytest.param(["review", "next", "--queue", "learn", "--since", "2030-01-01"], 3, "no decision with scores", id="nothing matches"),
    pytest.param(["review", "next", "--queue", "learn", "-o", "/no/such/folder/f"], 2, "is no folder", id="no folder"),
    pytest.param(["feedback"], 2, "give an ID", id="nothing given"),
    pytest.param(["feedback", "01a1f82f-0000-7000-8000-000000000000"], 2, "give an ID", id="no verdict"),
    pytest.param(["feedback", "01a1f82f-0000-7000-8000-000000000000", "fine"], 2, "verdict: found 'fine'", id="verdict"),
    pytest.param(["feedback", "01a1f82f-0000-7000-8000-000000000000", "right"], 2, "no such decision", id="unknown id"),
    pytest.param(["feedback", "seven", "right"], 2, "a UUID", id="no id"),
    pytest.param(["feedback", "x", "right", "--from", "f"], 2, "leave them out", id="both"),
    pytest.param(["feedback", "--from", "/no/such/file"], 2, "cannot be read", id="no file"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "code", "says"), BAD)
def test_what_cannot_be_done_says_why_and_draws_and_logs_nothing(
    data: Path, args: list[str], code: int, says: str
) -> None:
    done = run(*args, "--data", data)
    assert done.exit_code == code
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert done.stdout == ""
    assert not (data / DRAWN).exists()
    assert feedback_rows(data) == 0


def test_an_empty_folder_and_a_queue_drawn_empty_are_not_enough_data(data: Path, tmp_path: Path) -> None:
    assert run("review", "next", "--queue", "audit", "--data", tmp_path / "none").exit_code == 3
    assert run("feedback", "--from", "/dev/null", "--data", tmp_path / "none").exit_code == 3
    assert run("review", "next", "--queue", "audit", "--n", 100, "--data", data).exit_code == 0
    done = run("review", "next", "--queue", "audit", "--data", data)
    assert done.exit_code == 3
    assert "'routescope review open' shows those that wait" in done.stderr


def test_labels_that_were_scored_may_be_the_correct_one(data: Path) -> None:
    run("review", "next", "--queue", "audit", "--n", 1, "--data", data)
    one = read_drawn(data)[0].decision_id
    for label in SCORES:
        assert run("feedback", one, "wrong", "--label", label, "--data", data).exit_code == 0
    assert run("feedback", one, "wrong", "--label", "code", "--data", data).exit_code == 2
