"""``routescope demo`` and ``dashboard`` as processes: ready with rows, a taken port, a foreign folder, Ctrl+C."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from log_samples import decision

from router import Policy, decide
from router.cli.demo import build
from router.demo import is_demo, load_samples
from router.log import open_log
from router.log.writer import Writer

REQUESTS = 60


def start(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "router.cli", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finished(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "router.cli", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def document(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON document that a serving verb prints once it answers."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            break
    return json.loads("".join(lines))


def get(url: str) -> tuple[int, str]:
    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.status, reply.read().decode()


@pytest.fixture(scope="module", autouse=True)
def interruptible() -> Iterator[None]:
    """A child can be interrupted even where the test run itself was started with SIGINT ignored."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, old)


@dataclass
class Served:
    """What a demo did, from its start with a taken port to its end by Ctrl+C."""

    folder: Path
    wanted_port: int
    said: dict[str, Any]
    page: tuple[int, str]
    health: dict[str, Any]
    rows_while_serving: int
    second: subprocess.CompletedProcess[str]
    looked: subprocess.CompletedProcess[str]
    code: int
    stderr: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("demo") / "data"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        options = ("--data", folder, "--requests", REQUESTS, "--port", wanted, "--no-browser", "--json")
        with start("demo", *options) as process:
            try:
                said = document(process)
                page, health = get(said["url"]), json.loads(get(said["url"] + "/healthz")[1])
                with open_log(folder) as log:
                    rows = log.count()
                second = finished("demo", "--data", folder, "--no-browser")
                looked = finished("doctor", "--data", folder, "--json")
                process.send_signal(signal.SIGINT)
                code = process.wait(30)
            finally:
                process.kill()
            stderr = process.stderr.read()
    return Served(folder, wanted, said, page, health, rows, second, looked, code, stderr)


def test_it_answers_and_its_rows_are_there(served: Served) -> None:
    assert served.page[0] == 200 and "<html" in served.page[1]
    assert served.health["status"] == "ok"
    assert served.rows_while_serving == REQUESTS
    assert served.said["decisions"] == REQUESTS
    assert served.said["samples"] == len(load_samples())
    assert served.said["tokens"] == "assumed"


def test_a_taken_port_gives_the_next_free_one_and_both_are_said(served: Served) -> None:
    port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)", served.said["url"])[1])
    assert port > served.wanted_port
    assert f"Dashboard: {served.said['url']} (port {served.wanted_port} is taken)" in served.stderr


def test_what_is_drawn_and_what_is_assumed_is_said(served: Served) -> None:
    assert "drawn from a seeded generator, not observed" in served.stderr
    assert "Token counts are assumed" in served.stderr


def test_a_running_demo_is_not_torn_down_by_another(served: Served) -> None:
    assert served.second.returncode == 2
    assert "a demo is running in" in served.second.stderr


def test_doctor_says_that_the_dashboard_owns_the_log(served: Served) -> None:
    texts = [entry["text"] for entry in json.loads(served.looked.stdout)["findings"]]
    assert any(re.match(r"process \d+ \(dashboard\) owns the log since ", text) for text in texts)


def test_ctrl_c_ends_it_cleanly_and_leaves_an_ordinary_database(served: Served) -> None:
    assert served.code == 0
    assert served.stderr.endswith("stopped\n") and "Traceback" not in served.stderr
    with duckdb.connect(str(served.folder / "decisions.duckdb"), read_only=True) as con:
        found = con.execute(
            "SELECT count(*), count(DISTINCT usage_grade), any_value(usage_grade) FROM decisions"
        )
        assert found.fetchall() == [(REQUESTS, 1, "assumed")]


def test_each_run_makes_the_folder_again_from_real_decisions(served: Served) -> None:
    policy = Policy.preset("seed")
    (served.folder / "policy.toml").write_text("changed by hand")
    built = build(served.folder, 25)
    assert (built.decisions, is_demo(served.folder)) == (25, True)
    assert Policy.load(served.folder / "policy.toml").fingerprint == policy.fingerprint
    prompts = {sample.prompt for sample in load_samples()}
    with open_log(served.folder) as log:
        assert log.count() == 25
        columns = "prompt, top_label, confidence, scores, cause, model_used, source"
        for prompt, top, confidence, scores, cause, model, source in log.rows(
            f"SELECT {columns} FROM decisions"
        ):
            choice = decide(dict(scores), policy)
            assert (top, confidence, cause, model) == (
                choice.top_label,
                choice.confidence,
                choice.cause,
                choice.model_chosen,
            )
            assert prompt in prompts and source == "demo"


def test_a_folder_with_a_log_of_somebody_is_refused_and_left_alone(tmp_path: Path) -> None:
    writer = Writer(tmp_path, turns=False)
    writer.log(decision())
    writer.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = finished("demo", "--data", tmp_path, "--no-browser")
    assert done.returncode == 2
    assert "holds a decision log that the demo did not make" in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_dashboard_serves_an_empty_folder_and_two_interrupts_leave_no_traceback(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with start("dashboard", "--data", tmp_path / "new", "--port", port, "--no-browser", "--json") as process:
        try:
            said = document(process)
            assert said == {"url": said["url"], "data": str(tmp_path / "new")}
            assert get(said["url"])[0] == 200
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) in (0, -signal.SIGINT)
        finally:
            process.kill()
        assert "Traceback" not in process.stderr.read()
