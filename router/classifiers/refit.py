"""Fit the packaged heads again: ``python -m router.classifiers.refit``, after a change of the packaged examples."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from router.classifiers.encoders import load_encoder
from router.classifiers.heads import Head, class_key, fit_head, write_head
from router.classifiers.local import MODES
from router.policy import packaged_examples


def refit(modes: Sequence[str] = tuple(MODES)) -> Mapping[str, Head]:
    """Fresh heads over all packaged examples, by mode: "both", "minilm", "wordllama"; each encoder reads them once."""
    import numpy as np

    examples = {class_key(texts): sorted(set(texts)) for texts in packaged_examples().values()}
    needed = {name for mode in modes for name in MODES[mode]}
    rows = {
        name: {key: load_encoder(name).encode(texts) for key, texts in examples.items()} for name in needed
    }
    return {
        mode: fit_head(
            examples,
            {key: np.concatenate([rows[name][key] for name in MODES[mode]], axis=1) for key in examples},
            mode,
        )
        for mode in modes
    }


def main() -> int:
    """Write the three heads beside the presets and print what each reaches on examples it had not seen."""
    import router.presets

    folder = Path(next(iter(router.presets.__path__)), "heads")
    for mode, head in refit().items():
        write_head(folder / f"{mode}.npz", head)
        sys.stdout.write(
            f"{mode}: {len(head.vocabulary)} words, temperature {head.temperature:.2f}, accuracy on left-out examples {head.accuracy:.3f}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
