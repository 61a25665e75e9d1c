"""The policy and the classifier that a data folder or a name stands for."""

from __future__ import annotations

import os
from pathlib import Path

from router import config
from router.policy import Policy
from router.types import Classifier


def load_policy(policy: Policy | str | os.PathLike[str] | None, data: Path) -> Policy:
    """A policy as given, from its file, from ``<data>/policy.toml``, or preset "seed"."""
    if isinstance(policy, Policy):
        return policy
    path = config.policy_path(policy, data)
    return Policy.preset("seed") if path is None else Policy.load(path)


def build_classifier(policy: Policy, data: Path) -> Classifier:
    """The classifier that a policy names; fitted heads are kept beside the policy."""
    if policy.classifier == "scaledown":
        from router.classifiers.scaledown import ScaleDownClassifier

        price = policy.classifier_price
        return ScaleDownClassifier(price_per_call=None if price is None else price.per_call)
    from router.classifiers.local import LocalClassifier

    return LocalClassifier(cache_dir=data / "heads")


def close_classifier(classifier: Classifier) -> None:
    """Give back what a classifier holds: connections of a hosted one; a local one holds none."""
    close = getattr(classifier, "close", None)
    if close is not None:
        close()
