"""Common personal data: e-mail addresses, phone, card and account numbers, by form and by checksum."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from router.log.patterns import Look, Rule, Span, at_numbers, either, matches

_EMAIL = re.compile(
    r"(?<![\w.%+-])[\w%+-][\w.%+'-]{0,63}+@((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24})(?![\w-])"
)
_IMAGE = re.compile(r"\dx\.\w+\Z")  # icon@2x.png

_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){10,34}+")
_IBAN_LENGTHS = {
    code: length
    for length, codes in {
        15: "NO", 16: "BE", 18: "DK FI FK FO GL NL SD", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA", 23: "AE GI IL IQ OM SO TL", 24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST", 26: "IS TR", 27: "BI DJ FR GR IT MC MR SM", 28: "AL AZ BY CY DO GT HU LB NI PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU YE", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip
"""Characters of an account number by country (the registry of ISO 13616)."""

_CARD = (
    r"(?<![\w+-])(?<!\d\.)(?:\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|3[47]\d{2}([ -])\d{6}\2\d{5}|3\d{3}([ -])\d{6}\3\d{4}|\d{13,19})"
    r"(?![\w-]|\.\d)"
)
_CARD_NUMBER = re.compile(
    r"4\d{15}(?:\d{3})?|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:6011|65\d\d|64[4-9]\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[68]\d)\d{11}|62\d{14,17}"
)

_A, _Z = r"(?<![\w+.,:/#=@-])(?<!\d )", r"(?!\w|[-.,:/ ]\d)"  # no digits of another number before or after it
_PHONE = "|".join(
    (
        r"(?<![\w+])\+[1-9]\d{0,2}\)?[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ ./-]?\d{2,5}){1,4}(?!\w|[-/]\d)",
        rf"{_A}(?:1[-. ])?(?:\([2-9]\d\d\)[ -]?|[2-9]\d\d[-.])[2-9]\d\d[-. ]\d{{4}}{_Z}",
        rf"{_A}\((?:0\d{{1,4}}|[1-9]\d{{1,2}})\)[ -]?\d{{3,5}}[ -]?\d{{3,4}}(?:[ -]\d{{2,4}})?{_Z}",
        rf"{_A}0[1-9](?:[ .-]\d\d){{4}}{_Z}",
        rf"{_A}0(?!00)\d{{1,4}}[ /-]\d{{2,8}}(?:[ -]\d{{2,5}}){{0,4}}{_Z}",
        rf"{_A}07\d{{9}}{_Z}",
        rf"{_A}[67]\d\d(?: \d\d){{3}}{_Z}",
        rf"{_A}1[3-9]\d[ -]\d{{4}}[ -]\d{{4}}{_Z}",
        rf"{_A}[6-9]\d{{4}}[ -]\d{{5}}{_Z}",
    )
)
_PHONE_WORDS = (
    "phone",
    "tel",
    "mobile",
    "cell",
    "whatsapp",
    "fax",
    "sms",
    "hotline",
    "call",
    "text",
    "ring",
    "reach",
    "dial",
    "number",
)
_PHONE_SAID = re.compile(
    r"(?:\b(?:tele)?phone|\btel\b|\bmobile|\bcell(?:phone)?\b|\bwhatsapp|\bfax\b|\bsms\b|\bhotline"
    r"|\b(?:call|text|ring|phone|reach|dial) (?:me|us|him|her|them)|\b(?:my|contact) number|\bdial\b)"
    r"[^\d\n+(]{0,25}(\+?\(?\d[\d .()/-]{5,20}\d)(?!\w)",
    re.IGNORECASE,
)
_ZIP_CODE = re.compile(r"\d{5}-\d{4}")
_DATE = re.compile(r"(?:19|20)\d\d[-./ ]\d\d?[-./ ]\d\d?")

_SSN = r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])"
_SSN_SAID = re.compile(
    r"(?:\bssn|social security)[^\d\n]{0,25}((?!000|666|9)\d{3}[ -]?\d\d[ -]?\d{4})(?!\w)", re.IGNORECASE
)

_IPV4 = r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w-]|\.\d)"
_IPV6 = r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])"


def _emails(look: Look) -> Iterator[Span]:
    for match in _EMAIL.finditer(look.text):
        is_remote = match[0].startswith("git@") and look.text[match.end() : match.end() + 1] in (":", "/")
        is_url = look.text.endswith("://", 0, match.start())
        if not (is_remote or is_url or _IMAGE.match(match[1])):
            yield match.span()


def _ibans(look: Look) -> Iterator[Span]:
    for match in _IBAN.finditer(look.text):
        length, end, seen = _IBAN_LENGTHS.get(match[0][:2].upper(), 0), match.start(), ""
        while len(seen) < length and end < match.end():
            seen += look.text[end] if look.text[end] not in " -" else ""
            end += 1
        if length and len(seen) == length and not look.text[end : end + 1].isalnum() and _is_iban(seen):
            yield match.start(), end


def _is_iban(text: str) -> bool:
    return int("".join(str(int(char, 36)) for char in text[4:] + text[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Whether digits (spaces and hyphens aside) are a payment card's: an issuer's prefix and length, and Luhn's sum."""
    digits = text.replace(" ", "").replace("-", "")
    if not _CARD_NUMBER.fullmatch(digits) or len(set(digits)) == 1:
        return False
    doubled = [int(char) * 2 for char in digits[-2::-2]]
    return (sum(map(int, digits[-1::-2])) + sum(x - 9 if x > 9 else x for x in doubled)) % 10 == 0


def _is_phone(text: str) -> bool:
    if _ZIP_CODE.fullmatch(text):
        return False
    n = sum(char.isdigit() for char in text)
    return 9 <= n <= 15 or (n == 8 and text[0] == "+")


def _phones_said(look: Look) -> Iterator[Span]:
    if not any(word in look.low for word in _PHONE_WORDS):
        return
    for match in _PHONE_SAID.finditer(look.text):
        n = sum(char.isdigit() for char in match[1])
        if 7 <= n <= 15 and not _DATE.match(match[1]):
            yield match.span(1)


def _ssns_said(look: Look) -> Iterator[Span]:
    if "ssn" in look.low or "social security" in look.low:
        yield from (match.span(1) for match in _SSN_SAID.finditer(look.text))


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text) not in (ipaddress.IPv6Address(0), ipaddress.IPv6Address(1))
    except ValueError:
        return False


RULES = (
    Rule("email", _emails, ("@",)),
    Rule("iban", _ibans, in_numbers=True),
    Rule("credit_card", at_numbers(_CARD, is_card), in_numbers=True),
    Rule("us_ssn", either(at_numbers(_SSN, bool), _ssns_said), in_numbers=True),
    Rule(
        "ip_address",
        either(matches(_IPV4, lambda x: x not in ("127.0.0.1", "0.0.0.0")), matches(_IPV6, _is_ipv6)),
        (".", ":"),
    ),
    Rule("phone", either(at_numbers(_PHONE, _is_phone), _phones_said), in_numbers=True),
)
