"""Every error that Routescope raises on purpose.

::

    RouterError
    ├── ConfigurationError        the policy, an argument or the environment is wrong
    │   ├── PolicyError           a policy file: names the file, the key, what was found and expected
    │   └── MissingKeyError       no API key and no base URL: names the variable
    ├── InputError                a prompt or a file of prompts cannot be used
    ├── ClassifierError           the classifier gave no usable scores
    │   ├── ScoresError           a reply with a missing label, NaN, or a score outside [0, 1]
    │   └── ClassifierTimeout     no reply within the deadline
    ├── ProviderError             the model gave no usable reply; ``outcome`` says how it ended
    │   ├── ProviderTimeout
    │   ├── ProviderRateLimited
    │   ├── ProviderRejected      the request or the key was refused (4xx)
    │   └── ProviderUnreachable   connection failures, broken connections and 5xx
    ├── UnknownPriceError         a price was asked for that no source has
    ├── SpendCapError             a call was not made: it could pass a spend cap, or none could be kept
    └── LogError                  the decision log cannot be read
        ├── LogLocked             another process owns it and the spool cannot be read either
        ├── LogDamaged
        └── LogTooNew             written by a newer version

A message says what was found, what was expected and what to do next. It never holds a prompt or a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.types import Decision


class RouterError(Exception):
    """Base of all errors raised on purpose."""


class ConfigurationError(RouterError):
    """The policy, an argument or the environment is wrong."""


class PolicyError(ConfigurationError):
    """A policy is not valid; lists every fault found, each with its key."""

    def __init__(self, faults: list[str] | str, source: str = "policy") -> None:
        self.faults = [faults] if isinstance(faults, str) else list(faults)
        self.source = source
        super().__init__("\n".join(f"{source}: {fault}" for fault in self.faults))


class MissingKeyError(ConfigurationError):
    """No API key and no base URL for a provider."""


class InputError(RouterError):
    """A prompt or a file of prompts cannot be used."""


class ClassifierError(RouterError):
    """The classifier gave no usable scores. ``name`` is what the log's ``error_type`` says, the class name by default."""

    name: str | None = None


class ScoresError(ClassifierError):
    """Scores that the rule cannot use: a label is missing, or a value is not in [0, 1]."""


class ClassifierTimeout(ClassifierError):
    """The classifier did not answer within its deadline."""


class ProviderError(RouterError):
    """The model gave no usable reply. ``decision`` is the logged decision, where the router raised it."""

    decision: Decision | None = None

    def __init__(self, message: str, *, outcome: str = "error") -> None:
        self.outcome = outcome
        super().__init__(message)


class ProviderTimeout(ProviderError):
    """No complete reply within the deadline."""

    def __init__(self, message: str, *, outcome: str = "timeout") -> None:
        super().__init__(message, outcome=outcome)


class ProviderRateLimited(ProviderError):
    """The provider asked to slow down (429)."""

    def __init__(self, message: str, *, outcome: str = "rate_limited") -> None:
        super().__init__(message, outcome=outcome)


class ProviderRejected(ProviderError):
    """The provider refused the request or the key (4xx)."""

    def __init__(self, message: str, *, outcome: str = "rejected") -> None:
        super().__init__(message, outcome=outcome)


class ProviderUnreachable(ProviderError):
    """The provider could not be reached, failed (5xx), or broke off; ``outcome`` says which."""

    def __init__(self, message: str, *, outcome: str = "unreachable") -> None:
        super().__init__(message, outcome=outcome)


class UnknownPriceError(RouterError):
    """A price was asked for that no source has."""


class SpendCapError(RouterError):
    """A model call was not made: it could have passed a spend cap, its price is not known, or the cap could not be kept.

    ``decision`` is the logged decision, where the router raised it.
    """

    decision: Decision | None = None


class LogError(RouterError):
    """The decision log cannot be read."""


class LogLocked(LogError):
    """Another process owns the log."""


class LogDamaged(LogError):
    """The database file cannot be opened."""


class LogTooNew(LogError):
    """The database was written by a newer version."""
