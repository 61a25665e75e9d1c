"""Keys, tokens and passwords: the forms that their makers give them, and values beside a telling keyword."""

from __future__ import annotations

import re
from collections.abc import Iterator

from router.log.patterns import Look, Rule, Span, either, has_digit, matches

# Edges: keys hold letters, digits, _ and -; one inside a longer such word is something else.
_L, _R = r"(?<![A-Za-z0-9_-])", r"(?![A-Za-z0-9_-])"

_PRIVATE_KEY = (
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:.*?-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----|.*)"  # without its end: to the end of the text
)
_URL_PASSWORD = (
    r"(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:@\"'<>\[\]]{0,100}:([^\s/@\"'<>\[\]]{1,200})@"
)
_OPENAI = r"sk-(?:(?:proj|svcacct|admin|None|or-v1)-[A-Za-z0-9_-]{20,}+|[A-Za-z0-9]{32,}+)"
_GOOGLE = r"(?:AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}|ya29\.[A-Za-z0-9_-]{20,}+)"
_GITHUB = r"(?:gh[opusr]_[A-Za-z0-9]{36,255}+|github_pat_[A-Za-z0-9_]{22,255}+)"
_GITLAB = r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[A-Za-z0-9_=.-]{19,255}[A-Za-z0-9_=-]"
_STRIPE = r"(?:(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,}+|whsec_[A-Za-z0-9+/]{24,}+)"
_JWT = r"eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"
_URL_TOKEN = r"://([A-Za-z0-9_.~-]{16,200})@"
_BEARER = r"\b(?:bearer|basic)[ \t]{1,4}([A-Za-z0-9._~+/-]{15,}[A-Za-z0-9_~+/-]=*)"

_KEYWORD = re.compile(r"pass(?:word|wd|phrase|code)|pwd|secret|token|key|credential")
_OF_KEY = re.compile(
    r"(?:api|access|auth|account|secret|private|client|encryption|signing|master|service)[_ -]?\Z"
)
_VALUE = re.compile(
    r"(?:[_-]?(?:access|secret|key|value|base)){0,2}[s\d]?"
    r"(?:\\?[\"'\]]{0,2}[ \t]{0,3}(?:=>|:=|==|[:=])\s{0,3}"
    r"(?:[bfru]?\"((?:[^\"\\\s]|\\.){4,300})\"|[bfru]?'((?:[^'\\\s]|\\.){4,300})'|`([^`\s]{4,300})`"
    r"|\\\"([^\"\\\s]{4,300})\\\"|([^\s\"'`,;<>(){}\[\]\\]{6,300}+)(?![(\[{]))"
    r"|>([^<>\s]{5,300})</)",
    re.IGNORECASE,
)
_BARE = 5
"""The group of a value without quotes, which may be code, or a sentence that goes on."""
_FLAG = re.compile(r"--[a-z-]{0,20}\Z")
_FLAG_VALUE = re.compile(r"(?:-key)? ([^\s\"'`$<-][^\s\"'`]{4,300}+)")
_SAID = re.compile(r"s? (?:is|was|to) ?:? ?[\"'`]?([^\s\"'`]{5,100}+)", re.IGNORECASE)
_NO_VALUE = re.compile(
    r"[<${%\[*.]|your|my[_-]|xxx|example|placeholder|change|replace|insert|todo|none\Z|null\Z|true\Z|false\Z|string\Z"
    r"|required|process\.|os\.|env[.:]|self\.|this\.|config|settings|args\.|https?:|/",
    re.IGNORECASE,
)
_NAME = re.compile(
    r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\Z|[A-Za-z_]*(?:password|secret|token|key)[A-Za-z_]*\Z|[a-z]+(?:_[a-z]+|_\d{1,2})+\Z"
)
_SYMBOL = re.compile(r"[!@#$%^&*?~]")
_PASSWORD, _SECRET, _TOKEN = 2, 1, 0
"""How sure the keyword alone makes: what follows "password =" need not look like a key, what follows "token =" must."""


def _strength(keyword: str) -> int:
    return _PASSWORD if keyword[0] == "p" else _SECRET if keyword in ("secret", "key") else _TOKEN


def _is_secret(value: str, strength: int, quoted: bool) -> bool:
    if _NO_VALUE.match(value) or _NAME.match(value) or len(set(value)) < 3:
        return False
    letters = any(char.isalpha() for char in value)
    mixed = letters and has_digit(value)
    if strength == _PASSWORD:
        return quoted or mixed or (letters and _SYMBOL.search(value) is not None)
    if len(value) < (8 if strength == _SECRET else 16):
        return False
    return mixed or (quoted and len(value) >= 20 and value.lower() != value != value.upper())


def _beside_keyword(look: Look) -> Iterator[Span]:
    for keyword in _KEYWORD.finditer(look.low):
        before = look.low[max(keyword.start() - 24, 0) : keyword.start()]
        if keyword[0] == "key" and not _OF_KEY.search(before):
            continue
        strength, end = _strength(keyword[0]), keyword.end()
        if match := _VALUE.match(look.text, end):
            group = match.lastindex or 0
            value = match[group].rstrip(".:!?") if group == _BARE else match[group]
            quoted = group != _BARE
        elif (
            match := _SAID.match(look.text, end)
            or (_FLAG.search(before) and _FLAG_VALUE.match(look.text, end))
            or None
        ):
            group, value, quoted = 1, match[1].rstrip(".,;:!?)"), False
        else:
            continue
        if len(value) >= 4 and _is_secret(value, strength, quoted):
            yield match.start(group), match.start(group) + len(value)


RULES = (
    Rule("private_key", matches(_PRIVATE_KEY, flags=re.DOTALL), ("PRIVATE KEY",)),
    Rule("url_password", matches(_URL_PASSWORD, lambda value: not _NO_VALUE.match(value)), ("://",)),
    Rule("anthropic_key", matches(_L + r"sk-ant-[A-Za-z0-9_-]{20,}+"), ("sk-ant-",)),
    Rule("openai_key", matches(_L + _OPENAI + _R), ("sk-",)),
    Rule(
        "aws_key",
        matches(r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
        ("AKIA", "ASIA", "ABIA", "ACCA"),
    ),
    Rule("google_key", matches(_L + _GOOGLE + _R), ("AIza", "GOCSPX-", "ya29.")),
    Rule("github_token", matches(_L + _GITHUB + _R), ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_")),
    Rule(
        "gitlab_token",
        matches(_L + _GITLAB + _R),
        ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "glffct-"),
    ),
    Rule(
        "slack_token",
        either(
            matches(_L + r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{20,}+"),
            matches(r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9_/-]{20,}+)"),
        ),
        ("xox", "xapp-", "hooks.slack.com/"),
    ),
    Rule("stripe_key", matches(_L + _STRIPE), ("k_live_", "k_test_", "whsec_")),
    Rule("npm_token", matches(_L + r"npm_[A-Za-z0-9]{36}" + _R), ("npm_",)),
    Rule("pypi_token", matches(_L + r"pypi-[A-Za-z0-9_-]{40,}+"), ("pypi-",)),
    Rule("hf_token", matches(_L + r"hf_[A-Za-z0-9]{30,}+" + _R), ("hf_",)),
    Rule("jwt", matches(_L + _JWT), ("eyJ",)),
    Rule("url_password", matches(_URL_TOKEN, has_digit), ("://",)),
    Rule("bearer", matches(_BEARER, has_digit, re.IGNORECASE), ("bearer", "basic"), in_low=True),
    Rule(
        "secret",
        either(_beside_keyword),
        ("pass", "pwd", "secret", "token", "key", "credential"),
        in_low=True,
    ),
)
