"""Fit the packaged heads again: ``python -m router.classifiers.refit``, after a change of the packaged examples."""

from __future__ import annotations

import sys
from pathlib import Path

from router.classifiers.encoders import load_encoder
from router.classifiers.heads import Head, class_key, fit_head, write_head
from router.classifiers.local import MODES
from router.policy import packaged_examples


def refit(mode: str) -> Head:
    """A fresh head over all packaged examples for "both", "minilm" or "wordllama"."""
    import numpy as np

    examples = {class_key(texts): sorted(set(texts)) for texts in packaged_examples().values()}
    encoders = [load_encoder(name) for name in MODES[mode]]
    vectors = {
        key: np.concatenate([e.encode(texts) for e in encoders], axis=1) for key, texts in examples.items()
    }
    return fit_head(examples, vectors, mode)


def main() -> int:
    """Write the three heads beside the presets and print what each reaches on examples it had not seen."""
    import router.presets

    folder = Path(next(iter(router.presets.__path__)), "heads")
    for mode in MODES:
        head = refit(mode)
        write_head(folder / f"{mode}.npz", head)
        sys.stdout.write(
            f"{mode}: {len(head.vocabulary)} words, temperature {head.temperature:.2f}, accuracy on left-out examples {head.accuracy:.3f}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
