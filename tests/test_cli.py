"""The command line: every verb on a real log, bad input, and how a process ends."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import typer
from fake_apis import FakeApis
from log_samples import SEED, decision
from typer.testing import CliRunner

from router import decide
from router.analysis.overlap import overlap
from router.analysis.savings import savings
from router.analysis.steps import STEPS
from router.analysis.sweep import cheapest, operating_point, sweep
from router.cli import errors
from router.cli.app import app
from router.log import open_log
from router.log.lock import OwnerLock
from router.log.queries import Filter, baseline_of, cells, pairs, spend
from router.log.schema import DATABASE
from router.log.writer import Writer
from router.policy import ClassifierPrice, Model, PriceOverride
from router.prices import PriceBook
from router.types import Attempt

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
ROWS = 120
SECRET = "zebra-passphrase"
KEY = "sk-live-0123456789abcdef"


def verbs(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


VERBS = dict(verbs(typer.main.get_command(app)))


def run(*args: object, stdin: bytes | str | None = None, env: dict[str, str] | None = None) -> Any:
    return CliRunner().invoke(app, [str(x) for x in args], input=stdin, env=env)


def process(*args: object, **options: Any) -> subprocess.Popen[bytes]:
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    return subprocess.Popen([sys.executable, "-m", "router.cli", *map(str, args)], **(pipes | options))


def run_process(*args: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own: a verb that calls a model keeps its connections until the process ends."""
    command = [sys.executable, "-m", "router.cli", *map(str, args)]
    variables = {**os.environ, **env}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=variables, check=False)


@pytest.fixture
def interrupt() -> Iterator[None]:
    """A child can be interrupted even where the test run itself was started with SIGINT ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log whose confidences, labels and tokens vary, priced as the router would; the last row has no scores."""
    folder = tmp_path_factory.mktemp("cli") / "data"
    writer, book, names = Writer(folder, turns=False), PriceBook(), SEED.label_names
    for i in range(ROWS - 1):
        best = round(0.30 + i * 37 % 650 / 1000, 4)
        top, other = names[i % 4], names[(i + 1 + i // 4 % 3) % 4]
        scores = {name: round((1 - best) / 4, 6) for name in names}
        scores |= {other: round((1 - best) / 2, 6), top: best}
        choice = decide(scores, SEED)
        made = decision(i, scores=scores, **(asdict(choice) | {"model_used": choice.model_chosen}))
        usage = {"input_tokens": 100 + i, "output_tokens": 50 + 3 * i, "usage_grade": "measured"}
        rate = book.rate(choice.model_chosen, made.decided_at.date())
        cost = (Decimal(str(rate.input)) * (100 + i) + Decimal(str(rate.output)) * (50 + 3 * i)) / 1_000_000
        writer.log(decision(i, **(_values(made) | usage | {"cost_usd": cost})), SEED)
    nothing = {"top_label": None, "confidence": None, "scores": {}, "runner_up": None, "margin": None}
    writer.log(decision(ROWS, cause="classifier_error", model_chosen="gpt-4o", **nothing), SEED)
    writer.close()
    assert run("ingest", "--data", folder).exit_code == 0
    return folder


def _values(made: Any) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__ if name != "id"} | {"id": made.id}


def rows(folder: Path, query: str = "SELECT count(*) FROM decisions") -> list[Any]:
    """Read as anyone would: with DuckDB alone."""
    with duckdb.connect(str(folder / "decisions.duckdb"), read_only=True) as con:
        return con.execute(query).fetchall()


# Help


def test_a_verb_has_help_takes_json_and_is_in_the_readme() -> None:
    section = README.split("\n## Command line\n", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"`routescope ((?:policy |review )?[a-z]+)", section)) == set(VERBS)
    for name, command in VERBS.items():
        assert command.help and command.help[0].isupper(), name
        assert any("--json" in parameter.opts for parameter in command.params), name
        assert all(getattr(x, "help", "given") for x in command.params), name


def test_the_help_of_savings_explains_every_step_in_the_words_of_the_table(data: Path) -> None:
    shown = " ".join(run("savings", "--help").stdout.split())
    for name, meaning in STEPS.values():
        assert f"{name}: {meaning}" in shown
    lines = run("savings", "--data", data).stdout.split("label", 1)[0].splitlines()
    steps = [line[2:].rsplit("  ", 1)[0].strip() for line in lines if re.match("  [a-z]", line)]
    assert (
        {"model prices", "request size", "falling back"} <= set(steps) <= {name for name, _ in STEPS.values()}
    )


def test_help_names_every_verb_in_a_whole_sentence() -> None:
    shown = run("--help")
    listed = shown.stdout.split("Commands:\n", 1)[1].splitlines()
    assert {line.split()[0] for line in listed} == {name.split()[0] for name in VERBS}
    assert [line for line in listed if not line.endswith(".") or line.endswith("...")] == []


def test_the_exit_codes_are_those_of_the_readme() -> None:
    said = dict(re.findall(r"(\d+) ([a-z ]+)", README.split("Exit codes:", 1)[1].split("\n", 1)[0]))
    assert said["1"] == "failed" and errors.FAILED == 1
    assert said["2"] == "bad input" and errors.USAGE == 2
    assert said["3"] == "not enough data or evidence" and errors.NOT_ENOUGH == 3
    assert said["4"] == "nothing meets the condition" and errors.INFEASIBLE == 4


# --json, and the figures

JSON = {
    "classify": ["classify", "what is the capital of japan"],
    "route": ["route", "what is the capital of japan"],
    "ask": ["ask", "what is the capital of japan"],
    "ingest": ["ingest"],
    "export": ["export", "--output", "{tmp}/out.csv"],
    "import": ["import", os.devnull],
    "sql": ["sql", "SELECT 1 AS one"],
    "sweep": ["sweep"],
    "savings": ["savings"],
    "scenario": ["scenario"],
    "overlap": ["overlap"],
    "tune": ["tune"],
    "drift": ["drift", "--recent", "2026-11-20"],
    "replay": ["replay"],
    "report": ["report"],
    "pairs": ["pairs", "{tmp}/pairs.csv"],
    "policy diff": ["policy", "diff", "-t", "0.6"],
    "policy apply": ["policy", "apply", "{tmp}/patch.toml"],
    "policy show": ["policy", "show"],
    "review next": ["review", "next", "--queue", "audit", "--n", "2"],
    "review open": ["review", "open"],
    "feedback": ["feedback", "--from", os.devnull],
    "retention": ["retention", "--days", "100000"],
    "forget": ["forget", "--session", "nobody's", "--dry-run"],
    "rebuild": ["rebuild"],
    "doctor": ["doctor"],
}
SERVING = {"demo", "dashboard"}  # in test_demo.py
JUDGED = {"certify", "calibration"}  # in test_cli_tuning.py: they need judged decisions


@pytest.mark.parametrize("verb", JSON)
def test_json_is_one_document_and_nothing_else(verb: str, data: Path, tmp_path: Path, fake: FakeApis) -> None:
    folder = tmp_path if verb in ("route", "ask", "ingest", "retention", "rebuild") else data
    args = [part.format(tmp=tmp_path) for part in JSON[verb]]
    if verb == "policy apply":
        folder = tmp_path
        (tmp_path / "patch.toml").write_text("threshold = 0.6\n")
    if verb == "drift":
        folder = tmp_path / "days"
        writer = Writer(folder, turns=False)
        for day in (19, 20):
            writer.log(decision(day, decided_at=datetime(2026, 11, day)), SEED)
        writer.close()
    if verb == "pairs":
        (tmp_path / "pairs.csv").write_text("id,weak,strong\n" + "1,0,1\n2,1,1\n3,0,1\n4,0,1\n" * 20)
        done = run(*args, "--json")
        assert (done.exit_code, isinstance(json.loads(done.stdout), dict)) == (0, True)
        return
    if verb == "ask":
        asked = run_process(*args, "--json", "--data", folder, env=urls(fake))
        code, printed = asked.returncode, asked.stdout
    else:
        done = run(*args, "--json", "--data", folder)
        code, printed = done.exit_code, done.stdout
    assert code == (3 if verb == "drift" else 0)  # two days with a decision each are compared, and not judged
    assert isinstance(json.loads(printed), dict)


def test_every_verb_was_asked_for_json() -> None:
    assert set(JSON) | SERVING | JUDGED == set(VERBS)


def test_sweep_is_the_analysis_of_the_same_log(data: Path) -> None:
    with open_log(data) as log:
        curve = sweep(cells(log, Filter(), SEED, PriceBook(SEED.models)), SEED)
    found = json.loads(run("sweep", "--json", "--data", data).stdout)
    assert found["n"] == ROWS - 1
    assert found["curve"]["fallback"] == curve.fallback.tolist()
    assert found["curve"]["cost_per_1000"] == curve.cost_per_1000.tolist()
    assert found["curve"]["thresholds"][5500] == 0.55 == found["production"]
    assert found["cheapest"]["threshold"] == cheapest(curve).threshold
    one = json.loads(run("sweep", "-t", "0.6", "-t", "0.8", "--json", "--data", data).stdout)
    for shown, value in zip(one["points"], (0.6, 0.8), strict=True):
        point = operating_point(curve, value)
        assert (shown["threshold"], shown["fallback"], shown["cost_per_1000"], shown["savings_share"]) == (
            value,
            point.fallback,
            point.cost_per_1000,
            point.savings_share,
        )
    below = rows(data, "SELECT count(*) FROM decisions WHERE confidence < 0.6")[0][0]
    assert one["points"][0]["fallback"] == below > 0


def test_savings_are_the_analysis_of_the_same_log_and_of_the_baseline_asked_for(data: Path) -> None:
    book = PriceBook(SEED.models)
    for extra, against in (([], baseline_of(SEED)), (["--baseline", "gpt-4o"], "gpt-4o")):
        with open_log(data) as log:
            figures = savings(spend(log, Filter(), SEED, book, baseline=against), against)
        found = json.loads(run("savings", *extra, "--json", "--data", data).stdout)
        assert found["baseline"] == against
        assert found["savings_usd"] == pytest.approx(float(figures.savings_usd), rel=1e-12)
        assert found["savings_share"] == figures.savings_share
        paid = rows(data, "SELECT sum(cost_usd) FROM decisions")[0][0]
        assert found["routed_usd"] == pytest.approx(float(paid), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "routed", "share"), [("guide", 4800, 0.68), ("list-prices", 5887.5, 0.6075)]
)
def test_a_scenario_needs_no_log(name: str, routed: float, share: float, tmp_path: Path) -> None:
    found = json.loads(run("savings", "--scenario", name, "--json", "--data", tmp_path / "none").stdout)
    assert (found["baseline_usd"], found["routed_usd"]) == (15_000, routed)
    assert found["savings_share"] == pytest.approx(share)


def test_overlap_is_the_analysis_of_the_same_log(data: Path) -> None:
    with open_log(data) as log:
        found = overlap(pairs(log, Filter(), SEED, PriceBook(SEED.models)), SEED.label_names, bound=0.2)
    shown = json.loads(run("overlap", "--close", "0.2", "--json", "--data", data).stdout)
    assert (shown["n"], shown["n_close"]) == (found.n, found.n_close)
    assert shown["n_close"] == rows(data, "SELECT count(*) FROM decisions WHERE margin < 0.2")[0][0] > 0
    assert [pair["close_rate"] for pair in shown["pairs"]] == [pair.close_rate for pair in found.pairs]


def test_tables_for_people_hold_the_same_figures(data: Path) -> None:
    shown = run("sweep", "-t", "0.6", "--data", data)
    point = json.loads(run("sweep", "-t", "0.6", "--json", "--data", data).stdout)["points"][0]
    assert shown.stdout.splitlines()[1].split()[:3] == [
        "0.6",
        f"{point['fallback']}",
        f"{point['fallback_share']:.1%}",
    ]
    assert "measured by the providers" in shown.stderr


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_export_writes_the_rows_to_a_file_and_to_a_pipe(format: str, data: Path, tmp_path: Path) -> None:
    target = tmp_path / f"out.{format}"
    done = run("export", "--format", format, "-o", target, "--json", "--data", data)
    expected = {"rows": ROWS, "what": "decisions", "format": format, "output": str(target)}
    assert json.loads(done.stdout) == expected
    reader = {"csv": "read_csv", "jsonl": "read_json_auto", "parquet": "read_parquet"}[format]
    with duckdb.connect() as con:
        read = con.execute(
            f"SELECT CAST(id AS VARCHAR), prompt, CAST(cost_usd AS DECIMAL(18, 12)) FROM {reader}($file)",
            {"file": str(target)},
        ).fetchall()
    assert read == rows(data, "SELECT CAST(id AS VARCHAR), prompt, cost_usd FROM decisions ORDER BY rowid")
    piped = run("export", "--format", format, "--data", data)
    assert piped.stdout_bytes == target.read_bytes()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (("--label", "codin"), "--label: no decision has 'codin'; the log has the labels "),
        (("--model", "gpt-4o-minni"), "--model: no decision has 'gpt-4o-minni'; the log has the models "),
    ],
)
def test_an_export_for_a_name_that_no_decision_has_says_which_there_are(option, says, data: Path) -> None:
    done = run("export", *option, "--data", data)
    assert done.exit_code == 0 and "0 decisions exported" in done.stderr
    assert says in done.stderr
    assert "did you mean coding?" in done.stderr or "did you mean gpt-4o-mini" in done.stderr
    assert "note:" not in run("export", "--label", "coding", "--data", data).stderr


def test_savings_print_no_amount_that_doubles_left_behind(tmp_path: Path) -> None:
    """Requests of one size have no part of the savings in their sizes, and sums of doubles differ by a little all the same."""
    writer = Writer(tmp_path / "data", turns=False)
    for i in range(37):
        label = SEED.labels[i % 3]
        tokens = {"input_tokens": 123, "output_tokens": 457, "usage_grade": "measured", "outcome": "ok"}
        writer.log(
            decision(i, top_label=label.name, model_chosen=label.model, model_used=label.model, **tokens),
            SEED,
        )
    writer.close()
    with open_log(tmp_path / "data") as log:
        raw = savings(spend(log, Filter(), SEED, PriceBook(SEED.models)), "claude-opus-4-6").effects
    assert 0 < abs({x.kind: x.amount_usd for x in raw}["mix"]) < 1e-12
    shown = run("savings", "--data", tmp_path / "data").stdout
    assert re.search(r"request size +\$0\n", shown)
    assert not re.search(r"\$0\.0{8}", shown)


def test_savings_say_what_cost_nothing_and_what_was_paid_without_a_baseline(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "data", turns=False)
    told = {"input_tokens": 1200, "output_tokens": 400, "usage_grade": "measured", "outcome": "ok"}
    lost = {"attempts": 2, "failed_attempts": (Attempt("gpt-4o", "malformed", cost_usd=Decimal("0.02")),)}
    charged = {"classifier_cost_usd": Decimal("0.001")}
    for i, more in enumerate(
        (
            told | {"cost_usd": Decimal("0.0005")},
            told
            | {"cost_usd": Decimal("0.00042")},  # 1,200 x $0.15 and 400 x $0.60 per million: today's price
            {"outcome": "spend_cap"},
            {"outcome": "timeout", "failed_cost_usd": Decimal("0.02"), **lost},
        )
    ):
        writer.log(decision(i, **charged, **more), SEED)
    writer.close()
    done = run("savings", "--data", tmp_path / "data")
    assert "no model answered, and no provider charges for that: 1 decision, at $0\n" in done.stderr
    assert (
        "failed attempts, $0.020, are at the prices known when they were made; $0.020 of them for"
        in done.stderr
    )
    assert (
        "today's price book, which all sums here take, makes 2 answers $0.00008 cheaper than the log's $0.0009, "
        in done.stderr
    )
    anew = json.loads(run("savings", "--json", "--data", tmp_path / "data").stdout)["repriced"]
    assert (anew["n"], anew["difference_usd"]) == (2, pytest.approx(-0.00008))
    assert "$0.0020 of what was paid, for answers and classifying, has no known baseline" in done.stderr
    assert re.search(r"failed attempts +\+\$0\.020\n  no baseline +\+\$0\.0020\npaid ", done.stdout)
    label = next(line for line in done.stdout.splitlines() if line.startswith("simple"))
    assert label.split()[4].endswith("+")  # the call that timed out may have cost more


def test_savings_with_a_cost_that_is_not_known_are_at_most_and_tiers_without_a_rate_are_named(
    tmp_path: Path,
) -> None:
    writer = Writer(tmp_path / "data", turns=False)
    told = {"input_tokens": 1200, "output_tokens": 400, "usage_grade": "measured", "outcome": "ok"}
    mini = {"model_chosen": "gpt-5-mini", "model_used": "gpt-5-mini"}
    for i, tier in enumerate(("default", "scale", "scale", "flex", "default", "default")):
        writer.log(decision(i, **told, **mini, service_tier=tier, classifier_cost_usd=None), SEED)
    writer.close()
    done = run("savings", "--data", tmp_path / "data")
    assert re.search(r"\nsaved +at most \$\S+\nsaved, share +at most \S+%\n", done.stdout)
    assert (
        "the classifier's cost is not known for some decisions: paid is at least, saved at most"
        in done.stderr
    )
    assert (
        "left out, cost not known: 2 gpt-5-mini (served at scale: no rate known), 1 gpt-5-mini (baseline has no flex rate)"
        in done.stderr
    )


def test_savings_say_why_nothing_is_projected_from_a_short_log(data: Path) -> None:
    done = run("savings", "--data", data)
    assert "the next 30 days are not projected: that needs a full day of priced decisions" in done.stderr
    assert "this log has 0" in done.stderr and "next 30 days" not in done.stdout


def test_export_takes_a_filter(data: Path) -> None:
    done = run("export", "--label", "coding", "--cause", "routed", "--since", "2026-11-20", "--data", data)
    found = list(csv.DictReader(io.StringIO(done.stdout)))
    wanted = "SELECT count(*) FROM decisions WHERE top_label = 'coding' AND cause = 'routed'"
    assert len(found) == rows(data, wanted)[0][0] > 0
    assert {row["top_label"] for row in found} == {"coding"}


# Bad input

BAD: dict[str, tuple[list[str], int, str]] = {
    "no prompt": (["route"], 2, "give either a prompt"),
    "prompt and file": (["route", "x", "--jsonl", "y"], 2, "give either a prompt"),
    "empty prompt": (["classify", " "], 2, "the prompt is empty"),
    "missing file": (["route", "--jsonl", "{tmp}/nope.jsonl"], 2, "nope.jsonl cannot be read"),
    "folder for a file": (["route", "--jsonl", "{tmp}"], 2, "Is a directory"),
    "threshold above": (["sweep", "-t", "1.5"], 2, "found 1.5, expected a number in [0, 1]"),
    "threshold below": (["sweep", "-t", "-0.1"], 2, "found -0.1, expected a number in [0, 1]"),
    "threshold nan": (["sweep", "-t", "nan"], 2, "found nan, expected a number in [0, 1]"),
    "threshold off the grid": (["sweep", "-t", "0.55555"], 2, "0.5555 and 0.5556"),
    "threshold no number": (["sweep", "-t", "high"], 2, "'--threshold'"),
    "close": (["overlap", "--close", "0.015"], 2, "a multiple of 0.01"),
    "since": (["sweep", "--since", "yesterday"], 2, "an age like 90m"),
    "since after until": (["sweep", "--since", "1d", "--until", "2d"], 2, "is not before"),
    "no such period": (["sweep", "--since", "2030-01-01"], 3, "no decisions"),
    "no log": (["sweep", "--data", "{tmp}/none", "--json"], 3, "no decisions in"),
    "no log to export": (["export", "--data", "{tmp}/none"], 3, "no decisions in"),
    "no log to ingest": (["ingest", "--data", "{tmp}/none"], 2, "is no folder"),
    "unknown scenario": (["savings", "--scenario", "x"], 2, "guide, list-prices"),
    "scenario and baseline": (
        ["savings", "--scenario", "guide", "--baseline", "x"],
        2,
        "a baseline of its own",
    ),
    "unknown baseline": (
        ["savings", "--baseline", "no-such-model"],
        2,
        "nor the log knows; the policy and the log have",
    ),
    "mistyped baseline": (["savings", "--baseline", "gpt-4o-minni"], 2, "did you mean gpt-4o-mini"),
    "unknown format": (["export", "--format", "xml"], 2, "csv, jsonl, parquet"),
    "json of an export to a pipe": (["export", "--json"], 2, "--output FILE"),
    "unknown cause": (["export", "--cause", "x"], 2, "low_confidence"),
    "export to a folder": (["export", "-o", "{tmp}"], 2, "is a folder"),
    "export to nowhere": (["export", "-o", "{tmp}/a/b.csv"], 2, "cannot be written"),
    "unknown preset": (["policy", "show", "--preset", "x"], 2, "seed, current"),
    "no such policy": (["classify", "x", "--policy", "{tmp}/p.toml"], 2, "p.toml: no such file"),
    "stream and json": (["ask", "x", "--stream", "--json"], 2, "give one of them"),
    "port": (["dashboard", "--port", "70000"], 2, "'--port'"),
    "mistyped verb": (["clasify", "x"], 2, "classify"),
    "mistyped option": (["route", "x", "--dta", "y"], 2, "--data"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_message_and_its_exit_code(name: str, data: Path, tmp_path: Path) -> None:
    args, code, words = BAD[name]
    args = [part.format(tmp=tmp_path) for part in args]
    done = run(*args, env={"ROUTESCOPE_DATA": str(data)})
    assert (done.exit_code, words in done.stderr) == (code, True), done.stderr
    assert "unexpected" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["route", SECRET, SECRET],
        ["route", f"--{SECRET} and more"],
        ["classify", f"-{SECRET}"],
        [f"what is {SECRET}"],
        ["route", SECRET, "--port", "1"],
    ],
    ids=["two words", "a dash first", "one dash", "no verb", "an option of another verb"],
)
def test_a_usage_error_repeats_no_prompt(args: list[str]) -> None:
    done = run(*args)
    assert done.exit_code == 2
    assert SECRET not in done.output + done.stderr
    assert done.stderr


def test_a_broken_policy_stops_every_verb_that_needs_it_and_names_each_fault(
    data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f'threshold = 1.5\nfallback = "gpt-4o"\nnote = "{SECRET}"\n')
    for verb in ("classify x", "route x", "ask x", "sweep", "savings", "overlap", "policy show", "dashboard"):
        done = run(*verb.split(), "--policy", file, "--data", data)
        assert done.exit_code == 2, verb
        assert "policy.toml: threshold: found 1.5, expected a number in [0, 1]" in done.stderr
        assert SECRET not in done.stderr
    looked = run("doctor", "--policy", file, "--data", data, "--json")
    found = json.loads(looked.stdout)
    assert (looked.exit_code, found["ok"]) == (1, False)
    assert [x["about"] for x in found["findings"] if x["state"] == "fail"] == ["policy"]


PROMPTS = {
    "NUL": (b"what is\0the capital", False),
    "lone surrogate": (b"what is \xed\xa0\x80 the capital", True),
    "not UTF-8": (b"caf\xe9 au lait, translate", True),
    "U+FFFD itself": ("what is \ufffd?".encode(), False),
    "CRLF": (b"what is the capital\r\n", False),
    "10 MB": (b"word " * 2_000_000, False),
}


@pytest.mark.parametrize("name", PROMPTS)
def test_an_odd_prompt_is_routed_logged_and_said(name: str, tmp_path: Path) -> None:
    raw, is_replaced = PROMPTS[name]
    done = run("route", "-", "--json", "--data", tmp_path, stdin=raw)
    assert done.exit_code == 0, done.stderr
    assert ("not all UTF-8" in done.stderr) is is_replaced
    shown = json.loads(done.stdout)
    assert shown["logged"] is True and shown["top_label"] is not None
    text = raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    assert shown["prompt_chars"] == len(text)
    assert rows(tmp_path, "SELECT CAST(id AS VARCHAR), source, prompt_chars FROM decisions") == [
        (shown["id"], "cli", len(text))
    ]


def test_an_empty_prompt_is_logged_without_scores(tmp_path: Path) -> None:
    done = run("route", "", "--data", tmp_path)
    assert done.exit_code == 0
    assert "gave no scores (EmptyPrompt)" in done.stderr
    assert rows(tmp_path, "SELECT cause, top_label, model_used FROM decisions") == [
        ("classifier_error", None, "gpt-4o")
    ]


# JSON Lines


def test_broken_lines_are_reported_by_number_and_the_rest_is_routed(tmp_path: Path) -> None:
    file, folder = tmp_path / "rows.jsonl", tmp_path / "data"
    file.write_bytes(
        b'{"prompt": "what is 2+2", "id": 7}\n'
        + f'{{"prompt": "{SECRET}\n'.encode()
        + b'\n["no object"]\n{"other": 1}\n{"prompt": null}\n{"prompt": "", "id": "empty"}\n'
        + b'{"prompt": "lone \\ud800 surrogate", "id": "\\ud800"}\n'
        + b'{"messages": [{"role": "user", "content": "write a poem"}], "id": true}\n'
        + f'{{"messages": [{{"role": "{SECRET}"}}]}}\n'.encode()
        + b'{"prompt": "caf\xe9"}\n{"prompt": "no line break at the end"}'
    )
    done = run("route", "--jsonl", file, "--json", "--data", folder)
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    assert [entry["line"] for entry in found["broken"]] == [2, 4, 5, 6, 10]
    assert (found["lines"], found["routed"], found["logged"], found["no_scores"]) == (11, 6, 6, 1)
    for number in (2, 4, 5, 6, 10):
        assert re.search(rf"^line {number}: ", done.stderr, re.MULTILINE)
    assert "error: 5 of 11 lines could not be read; 6 were routed" in done.stderr
    assert SECRET not in done.output + done.stderr
    logged = rows(folder, "SELECT prompt, CAST(extra AS VARCHAR) FROM decisions ORDER BY rowid")
    assert [prompt for prompt, _ in logged] == [
        "what is 2+2",
        "",
        "lone \ufffd surrogate",
        "write a poem",
        "caf\ufffd",
        "no line break at the end",
    ]
    assert json.loads(logged[0][1])["id"] == 7


def test_many_prompts_get_what_each_would_get_alone(tmp_path: Path) -> None:
    prompts = ["write a haiku about rain", "fix this: for i in range(10) print(i)", "how tall is k2"]
    lines = "\n".join(json.dumps({"prompt": prompt}) for prompt in prompts)
    done = run("route", "--jsonl", "-", "--data", tmp_path, stdin=lines)
    assert done.exit_code == 0, done.stderr
    together = rows(tmp_path, "SELECT top_label, confidence, model_chosen FROM decisions ORDER BY rowid")
    for prompt, logged in zip(prompts, together, strict=True):
        alone = json.loads(run("classify", prompt, "--json", "--data", tmp_path).stdout)
        assert logged == (alone["top_label"], alone["confidence"], alone["model_chosen"])


def test_an_empty_file_is_said_to_be_empty(tmp_path: Path) -> None:
    done = run("route", "--jsonl", "-", "--data", tmp_path, stdin="\n\n")
    assert (done.exit_code, "holds no rows" in done.stderr) == (0, True)


# Where rows go


def test_a_row_that_cannot_be_logged_is_an_error_but_the_decision_is_given(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    done = run("route", "how tall is k2", "--json", "--data", tmp_path)
    assert done.exit_code == 1
    assert json.loads(done.stdout)["logged"] is False
    assert json.loads(done.stdout)["top_label"] == "simple"
    assert "1 of 1 decision could not be logged" in done.stderr
    looked = run("doctor", "--data", tmp_path)
    assert looked.exit_code == 1
    assert "decisions are dropped" in looked.stdout


def test_who_owns_the_log_is_said_and_rows_wait_for_the_owner(tmp_path: Path) -> None:
    run("route", "one", "--data", tmp_path)
    owner = OwnerLock(tmp_path)
    assert owner.acquire("dashboard")
    try:
        routed = run("route", "two", "--data", tmp_path)
        assert f"the dashboard (PID {os.getpid()}) shows them within two seconds" in routed.stderr
        assert f"process {os.getpid()} (dashboard) owns the log" in run("doctor", "--data", tmp_path).stdout
        taken = run("ingest", "--json", "--data", tmp_path)
        assert (taken.exit_code, json.loads(taken.stdout)["owner_pid"]) == (0, os.getpid())
    finally:
        owner.release()
    assert json.loads(run("ingest", "--json", "--data", tmp_path).stdout)["rows"] == 1
    assert rows(tmp_path) == [(2,)]


# doctor


def findings(done: Any) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for entry in json.loads(done.stdout)["findings"]:
        found.setdefault(entry["about"], []).append((entry["state"], entry["text"]))
    return found


def test_doctor_says_where_rows_go_what_is_active_and_which_keys_are_there(data: Path) -> None:
    done = run("doctor", "--json", "--data", data, env={"OPENAI_API_KEY": KEY})
    found = findings(done)
    assert done.exit_code == 0
    assert str(data / "decisions.duckdb") in found["data folder"][0][1]
    assert found["owner"][0][1].startswith("nobody owns the log")
    assert f"{ROWS} decisions" in found["log"][0][1]
    assert found["classifier"][0] == ("ok", "local-minilm-wordllama-1 is active")
    assert ("ok", "openai: OPENAI_API_KEY is set, OPENAI_BASE_URL is not set") in found["keys"]
    assert KEY not in done.output + done.stderr
    unreachable = [text.split(":")[0] for _, text in found["models"] if "without a key" in text]
    assert unreachable == ["claude-sonnet-4-5", "claude-opus-4-6"]


def test_doctor_names_models_about_to_be_retired_and_those_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.prices._RELEASED", {})
    today = PriceBook()
    file = tmp_path / "policy.toml"
    file.write_text(
        'threshold = 0.5\nfallback_model = "gpt-4o"\n'
        '[[labels]]\nname = "a"\nrubric = "Is it about a?"\nmodel = "house-model"\n'
        '[[labels]]\nname = "b"\nrubric = "Is it about b?"\nmodel = "gpt-4o"\n'
    )
    done = run("doctor", "--json", "--data", tmp_path)
    found = findings(done)
    assert done.exit_code == 1
    assert any(state == "fail" and "house-model: no provider" in text for state, text in found["models"])
    assert any(state == "warn" and "house-model: no price" in text for state, text in found["prices"])
    assert any(
        state == "warn" and f"of {today.version}, whose date this version does not know" in text
        for state, text in found["prices"]
    )
    assert today.end_of_life("gpt-4o", decision().decided_at.date()) is not None
    assert any(text.startswith("gpt-4o is ") and "; move to " in text for _, text in found["models"])
    assert ("warn", "scores are not calibrated: too few examples for a fitted head") in found["classifier"]
    assert [state for state, _ in found["labels"]] == ["warn", "warn"]


# ask


def urls(fake: FakeApis) -> dict[str, str]:
    return {"OPENAI_BASE_URL": fake.openai_url, "ANTHROPIC_BASE_URL": fake.anthropic_url}


@pytest.mark.parametrize("extra", [[], ["--stream"]], ids=["whole", "stream"])
def test_ask_prints_the_reply_alone_and_logs_what_it_cost(
    extra: list[str], fake: FakeApis, tmp_path: Path
) -> None:
    done = run_process("ask", "what is the capital of japan", *extra, "--data", tmp_path, env=urls(fake))
    assert (done.returncode, done.stdout) == (0, fake.text + "\n"), done.stderr
    assert "-> gpt-4o-mini (routed); 12 tokens in, 7 out, $" in done.stderr
    logged = rows(tmp_path, "SELECT outcome, input_tokens, output_tokens, cost_usd > 0 FROM decisions")
    assert logged == [("ok", 12, 7, True)]


def test_ask_says_which_models_failed_before_the_answer(fake: FakeApis, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(
        SEED.to_toml().replace('model = "gpt-4o-mini"\n', 'model = "gpt-4o-mini"\nfailover = ["gpt-4o"]\n')
    )
    fake.by_model["gpt-4o-mini"] = "empty_content"
    done = run_process("ask", "what is the capital of japan", "--data", tmp_path, env=urls(fake))
    assert (done.returncode, done.stdout) == (0, fake.text + "\n"), done.stderr
    assert "failed first: gpt-4o-mini (empty) after " in done.stderr
    assert "-> gpt-4o (routed); 12 tokens in" in done.stderr
    fake.always("empty_content")
    done = run_process("ask", "what is the capital of japan", "--data", tmp_path, env=urls(fake))
    assert done.returncode == 1
    assert "Before it failed: gpt-4o-mini (empty)." in done.stderr
    found = rows(tmp_path, "SELECT model_used, attempts, failed_cost_usd > 0 FROM decisions")
    assert found == [("gpt-4o", 2, True)] * 2


def test_policy_show_tells_who_is_asked_next(tmp_path: Path) -> None:
    text = SEED.to_toml().replace(
        'model = "gpt-4o-mini"\n', 'model = "gpt-4o-mini"\nfailover = ["gpt-4o", "x"]\n'
    )
    (tmp_path / "policy.toml").write_text('failover = ["claude-opus-4-6"]\n' + text)
    shown = run("policy", "show", "--data", tmp_path).stdout
    assert "gpt-4o-mini, then gpt-4o, then x" in shown
    assert "when gpt-4o fails: claude-opus-4-6" in shown
    document = json.loads(run("policy", "show", "--json", "--data", tmp_path).stdout)
    assert document["failover"] == ["claude-opus-4-6"]
    assert document["labels"][0]["failover"] == ["gpt-4o", "x"]


def test_ask_without_a_key_names_the_variable_and_logs_the_decision(tmp_path: Path) -> None:
    done = run("ask", f"what is {SECRET}", "--json", "--data", tmp_path)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "OPENAI_API_KEY is not set and neither is OPENAI_BASE_URL" in done.stderr
    assert SECRET not in done.stderr
    assert rows(tmp_path) == [(1,)]


@pytest.mark.parametrize("fault", ["401", "closed", "cut_stream"])
def test_a_failed_call_says_why_and_holds_no_prompt_and_no_key(
    fault: str, fake: FakeApis, tmp_path: Path
) -> None:
    fake.always(fault)
    extra = ["--stream"] if fault == "cut_stream" else []
    done = run_process(
        "ask", f"what is {SECRET}", *extra, "--data", tmp_path, env=urls(fake) | {"OPENAI_API_KEY": KEY}
    )
    assert done.returncode == 1
    assert "gave no usable reply (" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    assert rows(tmp_path, "SELECT outcome <> 'ok' FROM decisions") == [(True,)]


# Processes


def test_a_reader_that_goes_away_ends_it_quietly(data: Path) -> None:
    with process("export", "--format", "jsonl", "--data", data) as child:
        child.stdout.close()
        assert child.wait(60) == 141
        assert child.stderr.read() == b""


def test_a_full_disk_under_the_output_is_said(data: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as full, process("policy", "show", stdout=full) as child:
        _, said = child.communicate(timeout=60)
    assert child.returncode == 1
    assert b"No space left on device" in said and b"Traceback" not in said


def test_closed_standard_streams_are_no_failure(tmp_path: Path) -> None:
    shell = 'exec "$0" -m router.cli policy show >&- <&-'
    done = subprocess.run(["sh", "-c", shell, sys.executable], capture_output=True, timeout=60, check=False)
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr


@pytest.mark.usefixtures("interrupt")
def test_an_interrupt_ends_with_130_and_every_decision_made_is_in_the_database(tmp_path: Path) -> None:
    with process("route", "--jsonl", "-", "--data", tmp_path) as child:
        child.stdin.write(b'{"prompt": "how tall is k2"}\n' * 40)
        child.stdin.flush()
        made = _until(
            lambda: sum(x.read_bytes().count(b"how tall") for x in tmp_path.glob("spool/*.jsonl")), 32
        )
        child.send_signal(signal.SIGINT)
        said = child.stderr.read()
        assert child.wait(30) == 130
    assert b"interrupted" in said and b"Traceback" not in said
    assert rows(tmp_path) == [(made,)]


@pytest.mark.usefixtures("interrupt")
def test_what_libraries_make_of_ctrl_c_is_an_interrupt() -> None:
    # DuckDB sees the signal in some of its loops alone, so a query that would show it cannot be relied on;
    # tests/test_sql.py interrupts the real command.
    over = ValueError("could not finish")
    over.__context__ = KeyboardInterrupt()
    assert errors.is_interrupt(RuntimeError("Query interrupted"))
    assert errors.is_interrupt(over)
    assert not errors.is_interrupt(RuntimeError("Query failed"))


def test_an_error_nobody_foresaw_shows_its_class_alone() -> None:
    failing = typer.Typer(cls=errors.Group, pretty_exceptions_enable=False)
    failing.callback()(lambda: None)
    failing.command("v")(_fail)
    done = CliRunner().invoke(failing, ["v"])
    assert (done.exit_code, SECRET in done.output + done.stderr) == (1, False)
    assert "error: unexpected ZeroDivisionError" in done.stderr


def _fail() -> None:
    raise ZeroDivisionError(SECRET)


def _until(count: Any, wanted: int, seconds: float = 60) -> int:
    end = time.monotonic() + seconds
    while (found := count()) < wanted and time.monotonic() < end:
        time.sleep(0.05)
    assert found >= wanted
    return found


def test_a_long_wait_is_said_once_and_a_short_one_is_not(capsys):
    from router.cli import output

    with output.waiting("fitting", after_s=0.05):
        time.sleep(0.3)
    assert capsys.readouterr().err == "fitting ...\n"
    with output.waiting("fitting", after_s=0.1):
        pass
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_what_was_mended_at_opening_is_said_once(data: Path) -> None:
    (data / DATABASE).write_bytes(b"\0" * 20_000)
    done = run("sweep", "--data", data)
    assert done.exit_code == 0
    assert done.stderr.count("came back from archive and spools") == 1


def test_savings_names_why_a_model_that_searches_is_no_baseline(data: Path) -> None:
    done = run("savings", "--baseline", "gpt-4o-search-preview", "--data", data)
    assert done.exit_code == 2
    assert "charges for the searches of each call" in done.stderr and "did you mean" not in done.stderr


def test_savings_names_the_price_of_the_classifier_with_its_source_and_age(
    data: Path, tmp_path: Path
) -> None:
    rules = replace(
        SEED,
        classifier="scaledown",
        classifier_price=ClassifierPrice(Decimal("0.0002"), "contract", datetime(2026, 1, 2).date()),
    )
    (tmp_path / "p.toml").write_text(rules.to_toml())
    done = run("savings", "--policy", tmp_path / "p.toml", "--data", data)
    assert (
        "prices: contract of 2026-01-02, more than 90 days old: $0.00020 a call of scaledown" in done.stderr
    )


def test_the_cost_of_falling_back_is_not_known_without_a_price_of_the_label_s_model(tmp_path: Path) -> None:
    rules = replace(SEED, labels=tuple(replace(x, model="nobody-knows") for x in SEED.labels))
    writer = Writer(tmp_path, turns=False)
    told: dict[str, Any] = {
        "input_tokens": 500,
        "output_tokens": 500,
        "usage_grade": "measured",
        "outcome": "ok",
    }
    fell = {"cause": "low_confidence", "is_fallback": True, "model_chosen": "gpt-4o", "model_used": "gpt-4o"}
    writer.log(decision(1, **told, **fell), rules)
    writer.close()
    (tmp_path / "policy.toml").write_text(rules.to_toml())
    [label] = json.loads(run("savings", "--json", "--data", tmp_path).stdout)["labels"]
    assert label["n_fallback"] == 1 and label["fallback_usd"] is None


def test_doctor_flags_an_old_price(tmp_path: Path) -> None:
    old = (datetime.now() - timedelta(days=100)).date()
    price = PriceOverride(Decimal(1), Decimal(2), date=old)
    rules = replace(SEED, models={"gpt-4o": Model("gpt-4o", price=price)})
    (tmp_path / "policy.toml").write_text(rules.to_toml())
    findings = json.loads(run("doctor", "--json", "--data", tmp_path).stdout)["findings"]
    [one] = [x for x in findings if x["about"] == "prices" and "gpt-4o:" in x["text"]]
    assert one["state"] == "warn" and f"of {old}, more than 90 days ago" in one["text"]
