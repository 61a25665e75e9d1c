"""The packaged examples: enough of every label, varied, none twice, and none taken from the development data."""

import csv
import json
import os
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

from router import Policy
from router.policy import packaged_examples

LABELS = ("simple", "coding", "reasoning", "creative")
SHINGLE = 8
CODE = re.compile(
    r"```|[;{}]$|\w\(.*\)|^\s*(def|class|import|SELECT|CREATE|for|while) |Error\b|`\w+`", re.MULTILINE
)


def words(text):
    return re.findall(r"\w+", text.lower())


@cache
def examples():
    return [(text, frozenset(words(text))) for label in LABELS for text in packaged_examples()[label]]


def shared_data():
    """The folder of development data, which is no part of the project; None where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DEVELOPMENT_DATA", beside))
    return folder if folder.is_dir() else None


@cache
def foreign_prompts():
    folder = shared_data()
    if folder is None:
        pytest.skip("no development data: ../shared/data is absent and DEVELOPMENT_DATA names no folder")
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").split("\n")
        found += [json.loads(line)["prompt"] for line in lines if line]
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            found += [row["prompt"] for row in csv.DictReader(file)]
    assert len(found) > 1_000
    return found


def test_every_label_of_the_presets_has_them():
    assert set(packaged_examples()) == set(LABELS)
    for preset in ("seed", "current"):
        for label in Policy.preset(preset).labels:
            assert label.examples == packaged_examples()[label.name]


@pytest.mark.parametrize("label", LABELS)
def test_enough_and_varied(label):
    texts = packaged_examples()[label]
    assert len(texts) >= 30
    assert all(text == text.strip() and text for text in texts)
    assert sum(text == text.lower() and text.isascii() for text in texts) >= 10  # as typed into a search box
    assert sum(len(text) <= 60 for text in texts) >= 10  # terse
    assert sum(len(text) >= 300 for text in texts) >= 4  # long briefs and pastes
    assert sum("\n" in text for text in texts) >= 10
    assert sum(any(ord(c) > 0x24F and c.isalpha() for c in text) for text in texts) >= 3  # other scripts
    assert len({words(text)[0] for text in texts if words(text)}) >= 40  # not one opening for all


def test_coding_holds_pasted_code_and_errors():
    texts = packaged_examples()["coding"]
    assert sum(bool(CODE.search(text)) for text in texts) >= 30
    assert sum("```" in text for text in texts) >= 5
    assert sum(bool(re.search(r"error|exception|traceback", text, re.IGNORECASE)) for text in texts) >= 5


def near_pairs(ours, theirs, least):
    """Pairs that share at least that part of their words; texts of one or two words count only when equal."""
    holders = defaultdict(list)
    for place, (_, there) in enumerate(theirs):
        for word in there:
            holders[word].append(place)
    for text, here in ours:
        common = Counter(place for word in here for place in holders[word])
        for place, count in common.items():
            other, there = theirs[place]
            bound = least if min(len(here), len(there)) > 2 else 1.0
            if other is not text and count >= bound * (len(here) + len(there) - count):
                yield text, other


def test_none_stands_twice_or_nearly_so():
    texts = [text for text, _ in examples()]
    assert len({" ".join(words(text)) for text in texts}) == len(texts)
    assert list(near_pairs(examples(), examples(), 0.6)) == []


def test_the_measure_of_nearness_finds_a_reworded_prompt():
    pair = ("Write a poem about the last bus at night.", "write me a poem about the last night bus")
    left, right = ([(text, frozenset(words(text)))] for text in pair)
    assert list(near_pairs(left, right, 0.6)) == [pair]
    assert list(near_pairs(left, right, 0.9)) == []


def test_no_example_is_a_sample_prompt_of_the_demo():
    from router.demo import load_samples

    samples = {" ".join(words(sample.prompt)) for sample in load_samples()}
    assert len(samples) >= 300
    assert [text for text, _ in examples() if " ".join(words(text)) in samples] == []


def test_no_example_is_in_the_development_data():
    theirs = [words(text) for text in foreign_prompts()]
    same = {" ".join(found) for found in theirs}
    assert [text for text, _ in examples() if " ".join(words(text)) in same] == []


def test_no_example_shares_a_run_of_words_with_the_development_data():
    def runs(found):
        return {" ".join(found[i : i + SHINGLE]) for i in range(len(found) - SHINGLE + 1)}

    ours = {run: text for text, _ in examples() for run in runs(words(text))}
    hits = {run: ours[run] for prompt in foreign_prompts() for run in runs(words(prompt)) if run in ours}
    assert hits == {}


def test_no_example_is_a_reworded_prompt_of_the_development_data():
    theirs = [(text, frozenset(words(text))) for text in set(foreign_prompts())]
    assert list(near_pairs(examples(), theirs, 0.75)) == []
