"""What of a prompt reaches the log: all, its beginning, its hash or nothing, after redaction."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from router.errors import ConfigurationError
from router.log_settings import LogSettings, prompt_chars

Redact = Callable[[str], str]

EDGE_CHARS = 4_096
"""A longer prompt is redacted up to this much behind its cut, and that much is left out: what lies across would be seen
half, and so not be found. Longer than any key."""

_logger = logging.getLogger("routescope")


class Privacy:
    """Applied to every record of a decision before anything is queued or written. Only the prompt is changed.

    Parameters
    ----------
    prompts : see ``LogSettings``.
    redact : "off", "packaged" or a callable from text to text. It gets the prompt, up to EDGE_CHARS beyond what is
        stored. When it raises, or gives no text, the prompt is not stored, and the row says ``redaction_failed``.

    Raises
    ------
    ConfigurationError
        A value that is none of these.
    """

    def __init__(self, prompts: str = "full", redact: str | Redact = "off") -> None:
        settings = LogSettings(prompts, redact if isinstance(redact, str) else "off")
        if not isinstance(redact, str) and not callable(redact):
            raise ConfigurationError(
                f'redact: found a {type(redact).__name__}, expected "off", "packaged" or a callable from text to text'
            )
        if faults := list(settings.faults()):
            raise ConfigurationError("\n".join(faults))
        self.prompts = prompts
        self.redaction = settings.redact if isinstance(redact, str) else "custom"
        self.failures = 0
        """Prompts that were left out because the hook failed on them."""
        self._keep = prompt_chars(prompts) or 0
        self._redact: Redact | None = (
            _packaged() if redact == "packaged" else redact if callable(redact) else None
        )

    @property
    def keeps_all(self) -> bool:
        """Whether every prompt is stored as it is (one of over 100,000 characters is cut all the same)."""
        return self.prompts == "full" and self._redact is None

    def apply(self, payload: dict[str, Any]) -> None:
        """Change the record of a decision in place."""
        prompt = payload.pop("prompt", None)
        if self.prompts == "none":
            payload.pop("prompt_sha256", None)
        if prompt is None or not self._keep:
            return
        text = prompt[: self._keep + EDGE_CHARS]
        if self._redact is not None:
            redacted = self._redacted(self._redact, text)
            if redacted is None:
                _mark(payload, redaction_failed=True)
                return
            if redacted != text:
                # The hash of the whole would let a short number be guessed until it fits.
                payload["prompt_sha256"] = hashlib.sha256(redacted.encode("utf-8", "replace")).hexdigest()
                _mark(payload, redacted=True)
            if len(text) < len(prompt):
                redacted = redacted[: max(len(redacted) - EDGE_CHARS, 0)]
            text = redacted
        if len(text) > self._keep or len(prompt) > self._keep + EDGE_CHARS:
            text = text[: self._keep]
            _mark(payload, prompt_cut=len(text))
        payload["prompt"] = text

    def _redacted(self, redact: Callable[[str], object], text: str) -> str | None:
        try:
            found = redact(text)
        except Exception as error:  # the user's code; its message may quote the prompt
            self._failed(type(error).__name__)
            return None
        if isinstance(found, str):
            return found
        self._failed(f"it gave a {type(found).__name__}")
        return None

    def _failed(self, why: str) -> None:
        self.failures += 1
        if self.failures == 1:
            with contextlib.suppress(Exception):
                _logger.error(
                    "routescope: the redaction hook failed (%s); such prompts are left out of the log, and counted",
                    why,
                )


def _mark(payload: dict[str, Any], **flags: Any) -> None:
    extra = payload.get("extra")
    payload["extra"] = {**extra, **flags} if isinstance(extra, Mapping) else flags


def _packaged() -> Redact:
    from router.log.redaction import Redactor

    return Redactor()
