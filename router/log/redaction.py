"""Takes keys, passwords and common personal data out of a text, by anchored patterns.

Every pattern starts at something that cannot be elsewhere (a prefix, a keyword, an edge of a word) and repeats within
bounds, so that time grows with the length of the text and no faster. Checksums are checked where there are any. Names
and postal addresses are not found: that takes a model, not a pattern.
"""

from __future__ import annotations

from collections.abc import Iterable

from router.errors import ConfigurationError
from router.log import personal_data, secrets_in_text
from router.log.patterns import Look, Rule

RULES: tuple[Rule, ...] = (*secrets_in_text.RULES, *personal_data.RULES)
"""In the order in which they are applied: what has a form of its own before what only has a keyword beside it."""

KINDS = tuple(dict.fromkeys(rule.kind for rule in RULES))
OPTIONAL = ("ip_address",)
"""Kinds that are found when asked for: version numbers look like addresses."""


class Redactor:
    """A callable that replaces what it finds by ``[redacted:kind]``; a text without findings comes back as it is.

    Parameters
    ----------
    kinds : which of KINDS; None: all but the OPTIONAL ones.

    Examples
    --------
    >>> Redactor()("write to jo@example.org or call +44 20 7946 0958")
    'write to [redacted:email] or call [redacted:phone]'
    """

    def __init__(self, kinds: Iterable[str] | None = None) -> None:
        chosen = set(KINDS) - set(OPTIONAL) if kinds is None else set(kinds)
        if unknown := sorted(chosen - set(KINDS)):
            raise ConfigurationError(f"no kind {unknown[0]!r} to redact; known: {', '.join(KINDS)}")
        self._rules = [rule for rule in RULES if rule.kind in chosen]

    def __call__(self, text: str) -> str:
        """The text without what was found."""
        look = Look(text)
        for rule in self._rules:
            if rule.may_match(look):
                changed = rule.apply(look)
                if changed is not look.text:
                    look = Look(changed)
        return look.text
