"""Route prompts by rubric labels and log every decision.

>>> from router import Policy, decide
>>> decide({"simple": 0.9, "coding": 0.05, "reasoning": 0.03, "creative": 0.02}, Policy.preset("seed")).model_chosen
'gpt-4o-mini'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from router.errors import (
    ClassifierError,
    ClassifierTimeout,
    ConfigurationError,
    InputError,
    LogDamaged,
    LogError,
    LogLocked,
    LogTooNew,
    MissingKeyError,
    PolicyError,
    ProviderError,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnreachable,
    RouterError,
    ScoresError,
    SpendCapError,
    UnknownPriceError,
)
from router.policy import Policy, decide
from router.types import (
    Attempt,
    Choice,
    Classification,
    Classifier,
    Completion,
    Decision,
    Label,
    Reply,
    ToolCall,
    Usage,
)

if TYPE_CHECKING:
    from router.classifiers.local import LocalClassifier
    from router.classifiers.scaledown import ScaleDownClassifier
    from router.core import AsyncRouter, Router
    from router.log import open_log

__version__ = "0.1.0"

# Loaded on first use, so that importing the package costs next to nothing.
_LAZY = {
    "AsyncRouter": "router.core",
    "Router": "router.core",
    "LocalClassifier": "router.classifiers.local",
    "ScaleDownClassifier": "router.classifiers.scaledown",
    "open_log": "router.log",
}

__all__ = [
    "AsyncRouter",
    "Attempt",
    "Choice",
    "Classification",
    "Classifier",
    "ClassifierError",
    "ClassifierTimeout",
    "Completion",
    "ConfigurationError",
    "Decision",
    "InputError",
    "Label",
    "LocalClassifier",
    "LogDamaged",
    "LogError",
    "LogLocked",
    "LogTooNew",
    "MissingKeyError",
    "Policy",
    "PolicyError",
    "ProviderError",
    "ProviderRateLimited",
    "ProviderRejected",
    "ProviderTimeout",
    "ProviderUnreachable",
    "Reply",
    "Router",
    "RouterError",
    "ScaleDownClassifier",
    "ScoresError",
    "SpendCapError",
    "ToolCall",
    "UnknownPriceError",
    "Usage",
    "decide",
    "open_log",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
