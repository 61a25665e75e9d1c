"""Base URLs: what is one, and how it may be shown."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit, urlunsplit

EXPECTED = "http(s)://host or http(s)://host:port (1 to 65535), without user, password or spaces"
"""What is said where a URL is none of these."""

_BASE = re.compile(
    r"https?://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s\x00-\x20\x7f/?#@:\[\]\\%*|<>^`{}\"\u200b-\u200f\u2060\ufeff]+)"
    r"(:(?P<port>[0-9]{1,5}))?([/?#][^\s\x00-\x20\x7f]*)?\Z"
)


def is_base_url(url: str) -> bool:
    """Whether a client can be built on it.

    >>> [is_base_url(x) for x in ("http://[::1]:8000/v1", "https://api.example/v1?x=1", "http://u:p@h", "http://h:99999")]
    [True, True, False, False]
    """
    found = _BASE.match(url)
    if found is None or not 0 < int(found["port"] or 80) < 65_536:
        return False
    host = found["host"]
    if host.startswith("[") or re.fullmatch(
        r"[\d.]+", host
    ):  # also digits of other scripts, which are no address
        try:
            return host.isascii() and ip_address(host.strip("[]")).version == (6 if host[0] == "[" else 4)
        except ValueError:
            return False
    try:
        plain = host.removesuffix(".").encode("idna")
        plain.decode("idna")
    except UnicodeError:  # an empty or too long part, characters that no name has
        return False
    return len(plain) < 254 and not any(part.startswith(b"-") for part in plain.split(b"."))


def shown(url: str) -> str:
    """A URL with its user, password, query and fragment as "...": each may hold a key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "..."
    if not parts.netloc:  # no URL: what would be the path may hold anything
        return "..."
    _, at, host = parts.netloc.rpartition("@")
    hidden = ("..." if part else "" for part in (parts.query, parts.fragment))
    return urlunsplit((parts.scheme, f"...@{host}" if at else host, parts.path, *hidden))
