"""The packaged redaction: what it finds, what it leaves alone, and that no text makes it slow.

Prints the table of the README: ``pytest tests/test_redaction.py -k table -s``.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from dataclasses import dataclass

import pytest
from redaction_rows import NEGATIVES, POSITIVES, row

from router.errors import ConfigurationError
from router.log.redaction import KINDS, OPTIONAL, Redactor

EVERY, PACKAGED = Redactor(KINDS), Redactor()
FLOORS = dict.fromkeys(KINDS, 1.0) | {
    "bearer": 0.93, "secret": 0.9, "email": 0.9, "phone": 0.95, "credit_card": 0.94, "us_ssn": 0.94,
}  # fmt: skip
"""Least recall by kind, on our own rows; those under 1 have rows that are there to be missed."""

_REPLACED = re.compile(r"\[redacted:(\w+)\]")


@dataclass(frozen=True)
class Found:
    n: int
    hits: int
    spurious: int

    @property
    def recall(self) -> float:
        return self.hits / self.n


def measured(kind: str) -> Found:
    """Over the rows of a kind: things to find, those that are gone whole, and other replacements."""
    rng = random.Random(7)
    redact = EVERY if kind in OPTIONAL else PACKAGED
    n = hits = spurious = 0
    for template in POSITIVES[kind]:
        text, things = row(template, rng)
        replaced = redact(text)
        left = _REPLACED.sub("", replaced)
        gone = sum(left.count(thing) <= text.count(thing) - things.count(thing) for thing in things)
        n, hits = n + len(things), hits + gone
        spurious += max(len(_REPLACED.findall(replaced)) - len(things), 0)
    return Found(n, hits, spurious)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_found_at_least_as_often_as_is_published(kind):
    found = measured(kind)
    assert found.n >= 15
    assert found.recall >= FLOORS[kind]
    assert found.spurious == 0


def test_nothing_is_found_where_there_is_nothing():
    assert len(NEGATIVES) >= 200
    assert [(text, PACKAGED(text)) for text in NEGATIVES if PACKAGED(text) != text] == []


def test_a_text_of_nothing_at_all_comes_back_as_it_is():
    together = "\n".join(NEGATIVES)
    assert PACKAGED(together) is together


def test_the_table_is_printed():
    wrong = Counter(kind for text in NEGATIVES for kind in _REPLACED.findall(EVERY(text)))
    print(
        f"\n| kind | found | of | recall | false, in {len(NEGATIVES)} texts without |\n|---|---|---|---|---|"
    )
    for kind in KINDS:
        found = measured(kind)
        print(f"| {kind} | {found.hits} | {found.n} | {found.recall:.2f} | {wrong[kind]} |")
    assert sum(wrong.values()) == sum(wrong[kind] for kind in OPTIONAL)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_around_a_finding_stays(kind):
    rng = random.Random(11)
    redact = EVERY if kind in OPTIONAL else PACKAGED
    exact = 0
    for template in POSITIVES[kind]:
        text, _ = row(template, rng)
        exact += redact(text) == re.sub("⟦.*?⟧", f"[redacted:{kind}]", template, flags=re.DOTALL)
    assert exact >= FLOORS[kind] * len(POSITIVES[kind]) - 2


def test_a_kind_can_be_chosen():
    text = "jo@example.org at 203.0.113.7"
    assert Redactor(["email"])(text) == "[redacted:email] at 203.0.113.7"
    assert Redactor(["ip_address"])(text) == "jo@example.org at [redacted:ip_address]"
    with pytest.raises(ConfigurationError, match="no kind 'names' to redact; known: private_key"):
        Redactor(["names"])


def test_redacting_twice_changes_nothing_more():
    rng = random.Random(3)
    for templates in POSITIVES.values():
        for template in templates:
            once = PACKAGED(row(template, rng)[0])
            assert PACKAGED(once) == once


@pytest.mark.parametrize("number", ["4111 1111 1111 1111", "5555555555554444", "378282246310005"])
def test_a_card_with_one_digit_changed_is_no_card(number):
    from router.log.personal_data import is_card

    assert is_card(number)
    changed = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert not is_card(changed)


def test_letters_that_change_length_in_lower_case_move_nothing():
    assert PACKAGED("İİİ password: hunter42x") == "İİİ password: [redacted:secret]"


HOSTILE = {
    "letters": "a", "letters and dots": "a.", "digits": "1", "spaced digits": "1 ", "pairs": "12 ", "hyphens": "12-",
    "pluses": "+1 ", "brackets": "(1", "zeros": "0 0", "slashes": "0/0", "ats": "a@", "ats and dots": "a@a.", "schemes": "a://",
    "credentials": "a://b:", "key heads": "-----BEGIN PRIVATE KEY-----", "key starts": "-----BEGIN ", "tokens": "eyJaaaaaaaaa.",
    "passwords": "password", "assignments": "password=", "open quotes": 'password="', "escapes": 'password="\\a', "names": "token_",
    "api keys": "api_key", "sentences": "token is ", "bearers": "bearer ", "flags": "--token ", "calls": "call me ",
    "phones": "phone 1", "numbers": "ssn 1234567 ", "ibans": "DE11 ", "addresses": "1.1.", "colons": "a:", "sk": "sk-a-",
    "gitlab": "glpat-.", "cards": "4111 1111 1111 1111 ", "accents": "é1", "lines": "token=\n", "backslashes": "password:\\\\",
}  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE.values(), ids=HOSTILE)
def test_time_grows_no_faster_than_the_text(unit):
    def spent(n: int) -> float:
        text = unit * (n // len(unit)) + " 1234567"
        best = float("inf")
        for _ in range(3):
            start = time.perf_counter()
            EVERY(text)
            best = min(best, time.perf_counter() - start)
        return best

    small, large = spent(12_500), spent(100_000)
    assert large < 8 * 5 * max(small, 0.0005), (
        "eight times the text; a quadratic pattern would take 64 times as long"
    )
