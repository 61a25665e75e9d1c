"""What a rule of redaction is: where it may match, which part it replaces, what it checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

Span = tuple[int, int]
Check = Callable[[str], bool]

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_MANY_DIGITS = re.compile(r"\d(?:[ .()/-]{0,2}\d){6,}+")
_DIGITS = re.compile(r"\d+")


class Look:
    """A text as rules look at it: ``low`` has ASCII letters in lower case, at the same places."""

    __slots__ = ("low", "numbers", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.low = text.lower() if text.isascii() else text.translate(_LOWER)
        # Where a group of digits begins, among at least seven with at most two separators between each. No number of
        # interest has fewer, and most texts have none.
        self.numbers: Sequence[int] = [
            group.start()
            for many in _MANY_DIGITS.finditer(text)
            for group in _DIGITS.finditer(text, many.start(), many.end())
        ]


Find = Callable[[Look], Iterator[Span]]


@dataclass(frozen=True, slots=True)
class Rule:
    """Finds one kind of thing. A text without any of ``needles`` (with ``in_low``, of its lower case) has none of it."""

    kind: str
    find: Find
    needles: tuple[str, ...] = ()
    in_low: bool = False
    in_numbers: bool = False

    def may_match(self, look: Look) -> bool:
        """Whether it is worth looking."""
        if self.in_numbers:
            return bool(look.numbers)
        text = look.low if self.in_low else look.text
        return any(needle in text for needle in self.needles)

    def apply(self, look: Look) -> str:
        """The text with every finding replaced by ``[redacted:kind]``."""
        parts, at = [], 0
        for start, end in self.find(look):
            parts += [look.text[at:start], f"[redacted:{self.kind}]"]
            at = end
        return "".join([*parts, look.text[at:]]) if parts else look.text


def matches(pattern: str, check: Check | None = None, flags: int = 0) -> Find:
    """Find a pattern: its group 1 where it has one, else all of it, if ``check`` agrees."""
    compiled = re.compile(pattern, flags)
    group = 1 if compiled.groups else 0

    def find(look: Look) -> Iterator[Span]:
        for match in compiled.finditer(look.text):
            if check is None or check(match[group]):
                yield match.span(group)

    return find


def at_numbers(pattern: str, check: Check) -> Find:
    """Find a pattern that begins at a group of digits, or at the ``+`` or ``(`` before it."""
    match = re.compile(pattern).match

    def find(look: Look) -> Iterator[Span]:
        at = 0
        for start in look.numbers:
            begin = start - 1 if start and look.text[start - 1] in "+(" else start
            for place in (begin, start) if begin < start else (start,):
                found = match(look.text, place) if place >= at else None
                if found is not None and check(found[0]):
                    at = found.end()
                    yield found.span()
                    break

    return find


def either(*finds: Find) -> Find:
    """What any of these finds, in order; of findings that overlap the first."""

    def find(look: Look) -> Iterator[Span]:
        at = 0
        for start, end in sorted(span for one in finds for span in one(look)):
            if start >= at:
                yield start, end
                at = end

    return find


def has_digit(text: str) -> bool:
    """Whether there is a digit in it."""
    return _DIGITS.search(text) is not None
