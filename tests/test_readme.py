"""The README is true: its commands, its quickstart, its policy and its picture."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from router import Policy

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(heading, language):
    """The first fenced block of a language under a heading."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)[1]


def test_there_is_one_command_to_run_and_one_to_test():
    assert fenced("Run it", "sh").strip() == "pip install . && routescope demo"
    assert fenced("Test it", "sh").strip() == 'pip install -e ".[test]" && pytest'


def test_the_quickstart_runs_and_logs_what_it_says(tmp_path):
    code = fenced("Use it", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    label, confidence, model, cause = result.stdout.splitlines()[0].split()
    assert (label, cause) == ("simple", "routed")
    assert model == "gpt-4o-mini"
    assert 0.55 <= float(confidence) <= 1
    assert result.stdout.splitlines()[1] == "[('simple', 1)]"
    assert (tmp_path / "data" / "decisions.duckdb").stat().st_size > 0


def test_the_policy_shown_is_that_of_the_preset():
    shown = tomllib.loads(fenced("Use it", "toml"))
    preset = tomllib.loads((ROOT / "router" / "presets" / "seed.toml").read_text(encoding="utf-8"))
    for key in ("threshold", "fallback_model", "baseline", "classifier"):
        assert shown[key] == preset[key]
    coding = next(label for label in preset["labels"] if label["name"] == "coding")
    assert {key: shown["labels"][0][key] for key in ("rubric", "model", "examples")} == {
        key: coding[key] for key in ("rubric", "model", "examples")
    }


def test_the_log_table_shown_is_one_that_a_policy_takes(tmp_path):
    table = fenced("What is stored", "toml")
    preset = (ROOT / "router" / "presets" / "seed.toml").read_text(encoding="utf-8")
    (tmp_path / "policy.toml").write_text(f"{preset}\n{table}", encoding="utf-8")
    kept = Policy.load(tmp_path / "policy.toml").log
    assert (kept.prompts, kept.redact, kept.durability) == ("full", "packaged", "process")


def test_the_picture_is_there_and_small():
    (name,) = re.findall(r"!\[[^\]]+\]\(([^)]+\.png)\)", README)
    picture = ROOT / name
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < picture.stat().st_size < 400_000


@pytest.mark.parametrize("name", re.findall(r"\]\((?!http)([^)#]+)\)", README))
def test_links_to_files_lead_somewhere(name):
    assert (ROOT / name).exists()


def test_no_address_of_another_machine_is_needed():
    assert not re.findall(r"https?://(?!127\.0\.0\.1|localhost)", README)
