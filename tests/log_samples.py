"""What the tests of the log and the router share: a small classifier, decisions made by hand, scripts in fresh processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router import Policy
from router.log.record import unix_ms, uuid7
from router.types import Classification, Decision, Label

if TYPE_CHECKING:
    from typer.testing import Result

START = datetime(2026, 11, 20, 9, 0, 0)
SCORES = {"simple": 0.7, "coding": 0.15, "reasoning": 0.1, "creative": 0.05}
SEED = Policy.preset("seed")


UNSCORED: dict[str, Any] = {
    "top_label": None, "confidence": None, "scores": {}, "runner_up": None, "margin": None, "cause": "classifier_error",
}  # fmt: skip
"""What a decision has whose classifier failed."""


class Fixed:
    """A classifier that gives the same scores to every text, and remembers the texts."""

    name = "fixed/1"

    def __init__(self, scores: Any = None, top_label: str = "simple") -> None:
        self.scores = SCORES if scores is None else scores
        self.top_label = top_label
        self.seen: list[str] = []

    def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        self.seen.append(text)
        return Classification(self.top_label, self.scores, self.name, True, 1.5)


def decision(number: int = 0, **changes: Any) -> Decision:
    """A decision as the router makes it: one second after the one before."""
    at = START + timedelta(seconds=number)
    prompt = changes.pop("prompt", f"prompt number {number}")
    values: dict[str, Any] = {
        "id": uuid7(unix_ms(at)),
        "decided_at": at,
        "prompt": prompt,
        "prompt_sha256": hashlib.sha256((prompt or "").encode()).hexdigest(),
        "prompt_chars": len(prompt or ""),
        "top_label": "simple",
        "confidence": 0.7,
        "scores": SCORES,
        "runner_up": "coding",
        "margin": 0.7 - 0.15,
        "threshold": 0.55,
        "cause": "routed",
        "is_fallback": False,
        "model_chosen": "gpt-4o-mini",
        "model_used": "gpt-4o-mini",
        "classifier": "fixed/1",
        "calibrated": True,
        "classify_ms": 1.5,
        "policy_fingerprint": SEED.fingerprint,
        "labels_fingerprint": SEED.labels_fingerprint,
    }
    return Decision(**values | changes)


def run(script: str, *args: object, env: Mapping[str, str] | None = None, timeout: float = 60) -> str:
    """Run a script in a fresh interpreter; what it printed. Fails loudly when it fails."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(env),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(script: str, *args: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a script in a fresh interpreter, standard output piped."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(env),
    )


def ended(*processes: subprocess.Popen[str]) -> None:
    """Kill processes that ``start`` began, and close what they print to."""
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def command(data: Path, *words: str, stdin: str = "") -> Result:
    """``routescope`` with some words on a data folder: its exit code and what it printed."""
    from typer.testing import CliRunner

    from router.cli.app import app

    return CliRunner().invoke(app, [*words, "--data", str(data)], input=stdin)


OWNER = """
    import sys, time
    from pathlib import Path
    from router.log import Owner
    owner = Owner(Path(sys.argv[1]))
    owner.start()
    assert owner.wait_ready(60)
    print("ready", flush=True)
    time.sleep(120)
"""


@contextmanager
def owned_elsewhere(data: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the log, as the dashboard's server does, and is killed in the end."""
    process = start(OWNER, data)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        ended(process)


def as_nobody(script: str, fill: Callable[[Path], object]) -> str:
    """What a script prints that gets a folder which was filled, and which it may read and not write."""
    import pytest

    if os.geteuid() != 0:
        pytest.skip("becomes another user, which needs root")
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        data = Path(name)
        fill(data)
        for path in [data, *data.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        said = run(script, data)
        data.chmod(0o755)
    return said


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of such a script: it can import this module, and this tree's packages first."""
    here = Path(__file__).resolve().parent
    old = [x for x in os.environ.get("PYTHONPATH", "").split(os.pathsep) if x]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*old, str(here.parent), str(here)]), **(extra or {})}
