"""The head of the local classifier: a linear model over text vectors and words, fitted on example prompts.

A head is plain arrays. Using one needs numpy; scikit-learn is loaded only where one is fitted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import struct
import tempfile
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.classifiers.encoders import clean
from router.errors import ClassifierError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

VERSION = 1
"""Part of a head's key: raise it when the meaning of its arrays or the way of fitting changes."""

MAX_WORDS = 20_000
CLUSTER_SIZE = 6
WORD_WEIGHTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6)
TEMPERATURES = (0.1, 10.0)

_DAMAGE = (
    ValueError,
    KeyError,
    OSError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What reading a damaged ``.npz`` raises: the archive's faults, and those of numpy's parser of array headers."""

_WORD = re.compile(r"\w+|[^\w\s]")


def class_key(examples: Sequence[str]) -> str:
    """What a label means to a head: a digest of the set of its examples, free of their order and of its name."""
    return _digest_of(tuple(examples))


@lru_cache(maxsize=256)
def _digest_of(examples: tuple[str, ...]) -> str:
    """Kept, because it is asked for with every text and costs more than all of WordLlama."""
    text = json.dumps(sorted(set(examples)), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def head_key(classes: Sequence[str], encoders: str) -> str:
    """Digest of a set of class keys and of the encoders, free of order."""
    text = json.dumps([VERSION, encoders, sorted(set(classes))])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Head:
    """A fitted head.

    Attributes
    ----------
    key : what it was fitted for, see ``head_key``.
    classes : class keys, sorted; the order of every array's rows.
    vectors : weights of the text vector, shape (classes, dimensions).
    words : weights of the words, shape (classes, vocabulary).
    vocabulary, rarity : words and word pairs, and the inverse document frequency of each.
    bias : shape (classes,).
    temperature : logits are divided by it; fitted on examples that the head had not seen.
    accuracy : share of unseen examples that got their own label; whole clusters of alike examples were left out together.
    """

    key: str
    classes: tuple[str, ...]
    vectors: Array = field(repr=False)
    words: Array = field(repr=False)
    vocabulary: tuple[str, ...] = field(repr=False)
    rarity: Array = field(repr=False)
    bias: Array = field(repr=False)
    temperature: float
    accuracy: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "_position", {word: i for i, word in enumerate(self.vocabulary)})

    def scores(self, text: str, vector: NDArray[np.float32]) -> dict[str, float]:
        """Probability of each class; they sum to 1."""
        logits = self.vectors @ vector.astype(float) + self.bias
        places, values = self._words_of(text)
        if places:
            logits = logits + self.words[:, places] @ values
        return dict(zip(self.classes, softmax(logits / self.temperature).tolist(), strict=True))

    def _words_of(self, text: str) -> tuple[list[int], Array]:
        position: Mapping[str, int] = self._position  # type: ignore[attr-defined]
        return weighted_words(text, position, self.rarity)

    def to_bytes(self) -> bytes:
        """The head as an ``.npz`` file of plain arrays."""
        import numpy as np

        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            key=np.array(self.key),
            classes=np.array(self.classes),
            vectors=self.vectors.astype(np.float32),
            words=self.words.astype(np.float32),
            vocabulary=np.frombuffer("\n".join(self.vocabulary).encode("utf-8"), np.uint8),
            rarity=self.rarity,
            bias=self.bias,
            temperature=np.array(self.temperature),
            accuracy=np.array(self.accuracy),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Head:
        """Read a head; nothing in the file is executed.

        Raises
        ------
        ClassifierError
            The file is damaged or its arrays do not fit together.
        """
        import numpy as np

        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as data:
                words = data["vocabulary"].tobytes().decode("utf-8")
                head = cls(
                    key=str(data["key"]),
                    classes=tuple(str(x) for x in data["classes"]),
                    vectors=data["vectors"].astype(float),
                    words=data["words"].astype(float),
                    vocabulary=tuple(words.split("\n")),
                    rarity=data["rarity"].astype(float),
                    bias=data["bias"].astype(float),
                    temperature=float(data["temperature"]),
                    accuracy=float(data["accuracy"]),
                )
        except _DAMAGE as error:
            raise ClassifierError(
                f"a stored head cannot be read ({type(error).__name__}); it has to be fitted again"
            ) from None
        count = len(head.classes)
        shapes = (head.vectors.shape[0], head.words.shape, head.rarity.shape, head.bias.shape)
        if shapes != (count, (count, len(head.vocabulary)), (len(head.vocabulary),), (count,)):
            raise ClassifierError(
                f"a stored head is damaged: array shapes {shapes} for {count} classes; fit it again"
            )
        numbers = (head.vectors, head.words, head.rarity, head.bias, np.array(head.temperature))
        if not all(np.isfinite(array).all() for array in numbers) or head.temperature <= 0:
            raise ClassifierError("a stored head is damaged: found numbers that are not finite; fit it again")
        return head


def softmax(logits: Array) -> Array:
    """Rows (or one row) of logits as probabilities."""
    import numpy as np

    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def words_of(text: str) -> list[str]:
    """Lower-case words, single marks, and pairs of neighbours: what the encoders' averages lose."""
    words = _WORD.findall(clean(text).lower())
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def weighted_words(text: str, position: Mapping[str, int], rarity: Array) -> tuple[list[int], Array]:
    """Places in the vocabulary and tf-idf weights, (1 + log n) * idf scaled to length 1."""
    import numpy as np

    counts = Counter(word for word in words_of(text) if word in position)
    places = [position[word] for word in counts]
    values = (1.0 + np.log(np.array(list(counts.values()), float))) * rarity[places]
    length = float(np.linalg.norm(values))
    return places, values / length if length > 0 else values


def fit_head(examples: Mapping[str, Sequence[str]], vectors: Mapping[str, Any], encoders: str) -> Head:
    """Fit a head.

    Parameters
    ----------
    examples : class key to its example prompts; at least two classes of at least two examples.
    vectors : class key to the matrix of their text vectors, one row an example.
    encoders : the encoders' name, part of the key.

    Notes
    -----
    Two logistic regressions, one on text vectors and one on tf-idf words, are added in the logit. The share of the words and the
    temperature minimise the log loss on examples that were left out. Alike examples leave together (clusters of about six):
    with single ones left out, every example would keep a near twin in the fit and the head would trust itself too much.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(
        1
    ):  # matrices this small: more threads take four times as long (measured on two cores)
        return _fit(examples, vectors, encoders)


def _fit(examples: Mapping[str, Sequence[str]], vectors: Mapping[str, Any], encoders: str) -> Head:
    import numpy as np

    classes = sorted(examples)
    texts = [text for key in classes for text in examples[key]]
    target = np.repeat(np.arange(len(classes)), [len(examples[key]) for key in classes])
    dense = np.concatenate([np.asarray(vectors[key], float) for key in classes])
    fold = np.concatenate([_clusters(np.asarray(vectors[key], float)) for key in classes])
    count = min(10, *(int(fold[target == k].max()) + 1 for k in range(len(classes))))
    fold %= max(2, count)

    by_vector = np.zeros((len(texts), len(classes)))
    by_word = np.zeros_like(by_vector)
    for k in range(int(fold.max()) + 1):
        seen, left = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        weights, bias = _regression(dense[seen], target[seen], C=1.0)
        by_vector[left] = dense[left] @ weights.T + bias
        vocabulary, rarity = _vocabulary([texts[i] for i in seen])
        weights, bias = _regression(
            _word_matrix([texts[i] for i in seen], vocabulary, rarity), target[seen], C=3.0
        )
        by_word[left] = _word_matrix([texts[i] for i in left], vocabulary, rarity) @ weights.T + bias
    share, temperature, accuracy = _tune(by_vector, by_word, target)

    vector_weights, vector_bias = _regression(dense, target, C=1.0)
    vocabulary, rarity = _vocabulary(texts)
    word_weights, word_bias = _regression(_word_matrix(texts, vocabulary, rarity), target, C=3.0)
    return Head(
        key=head_key(classes, encoders),
        classes=tuple(classes),
        vectors=vector_weights,
        words=share * word_weights,
        vocabulary=tuple(vocabulary),
        rarity=rarity,
        bias=vector_bias + share * word_bias,
        temperature=temperature,
        accuracy=accuracy,
    )


def _tune(by_vector: Array, by_word: Array, target: Any) -> tuple[float, float, float]:
    """Word share and temperature of least log loss, and the accuracy with them, on logits of unseen examples."""
    import numpy as np

    rows = np.arange(len(target))
    best = (np.inf, 0.0, 1.0)
    for share in WORD_WEIGHTS:
        logits = by_vector + share * by_word
        for temperature in np.geomspace(*TEMPERATURES, 121):
            loss = -float(np.log(np.maximum(softmax(logits / temperature)[rows, target], 1e-12)).mean())
            best = min(best, (loss, share, float(temperature)))
    accuracy = float(((by_vector + best[1] * by_word).argmax(axis=1) == target).mean())
    return best[1], best[2], accuracy


def _clusters(vectors: Array) -> Any:
    """A cluster number for each row, about CLUSTER_SIZE rows a cluster and at least two clusters."""
    import numpy as np

    count = max(2, len(vectors) // CLUSTER_SIZE)
    if len(vectors) <= 2 or len(vectors) > 3_000:  # clustering needs the square of the rows in memory
        return np.arange(len(vectors)) % count
    from sklearn.cluster import AgglomerativeClustering

    return AgglomerativeClustering(count).fit_predict(vectors)


def _regression(features: Any, target: Any, C: float) -> tuple[Array, Array]:
    """Weights and bias with one row a class, also for two classes, where scikit-learn gives a single one."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, class_weight="balanced", max_iter=5_000).fit(features, target)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights, bias


def _vocabulary(texts: Sequence[str]) -> tuple[list[str], Array]:
    """Words in at least two texts, the commonest MAX_WORDS, with their smoothed inverse document frequency."""
    import numpy as np

    seen = Counter(word for text in texts for word in set(words_of(text)))
    common = sorted((word for word, n in seen.items() if n > 1), key=lambda word: (-seen[word], word))
    words = sorted(common[:MAX_WORDS]) or [""]  # never empty, so that every matrix has a column
    return words, np.array([np.log((1 + len(texts)) / (1 + seen[word])) + 1 for word in words])


def _word_matrix(texts: Sequence[str], vocabulary: Sequence[str], rarity: Array) -> Any:
    from scipy.sparse import csr_array

    position = {word: i for i, word in enumerate(vocabulary)}
    starts, places, values = [0], [], []
    for text in texts:
        where, weight = weighted_words(text, position, rarity)
        places += where
        values += weight.tolist()
        starts.append(len(places))
    return csr_array((values, places, starts), shape=(len(texts), len(vocabulary)))


def write_head(path: Path, head: Head) -> None:
    """Write a head so that a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(head.to_bytes())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
