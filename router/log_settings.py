"""The log's settings: what is stored of a prompt, and how safely. A policy's ``[log]`` table, or a router's arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from router.types import Durability

DURABILITIES: tuple[Durability, ...] = ("process", "async", "power")
REDACTIONS = ("off", "packaged")
MAX_PROMPT_CHARS = 100_000
"""Longer prompts are cut in the log and flagged; their length and hash are those of the whole."""

_TRUNCATED = re.compile(r"truncated:([1-9]\d{0,5})\Z")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What a decision leaves in the log.

    Attributes
    ----------
    prompts : "full", "truncated:N" (the first N characters), "hash" (length and SHA-256) or "none" (length alone).
    redact : "off", or "packaged" (keys and common personal data are replaced before anything is written).
    durability : "process" (written when the call returns), "async" (by a thread, within 20 ms) or "power" ("process", and
        on the disk within 100 ms).
    """

    prompts: str = "full"
    redact: str = "off"
    durability: Durability = "process"

    def faults(self, where: str = "") -> Iterator[str]:
        """Everything wrong with the values, one sentence each."""
        if prompt_chars(self.prompts) is None:
            yield (
                f'{where}prompts: found {_shown(self.prompts)}, expected "full", "truncated:N" with N from 1 to '
                f'{MAX_PROMPT_CHARS:,}, "hash" or "none"'
            )
        if self.redact not in REDACTIONS:
            yield f"{where}redact: found {_shown(self.redact)}, expected one of {', '.join(REDACTIONS)}"
        if self.durability not in DURABILITIES:
            yield f"{where}durability: found {_shown(self.durability)}, expected one of {', '.join(DURABILITIES)}"


def prompt_chars(prompts: str) -> int | None:
    """How many characters of a prompt are stored, 0 for none; None when it is not a mode."""
    if prompts == "full":
        return MAX_PROMPT_CHARS
    if prompts in ("hash", "none"):
        return 0
    match = _TRUNCATED.match(prompts) if isinstance(prompts, str) else None
    return int(match[1]) if match and int(match[1]) <= MAX_PROMPT_CHARS else None


def _shown(value: object) -> str:
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"
