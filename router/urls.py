"""Base URLs: what is one, and how it may be shown."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

EXPECTED = "http(s)://host or http(s)://host:port (1 to 65535), without user, password or spaces"
"""What is said where a URL is none of these."""

_BASE = re.compile(r"https?://[^/@\s]+(/\S*)?\Z")


def is_base_url(url: str) -> bool:
    """Whether a client can be built on it.

    >>> [is_base_url(x) for x in ("http://[::1]:8000/v1", "https://api.example/v1?x=1", "http://u:p@h", "http://h:99999")]
    [True, True, False, False]
    """
    if not _BASE.match(url):
        return False
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number up to 65535, a bracket that stays open
        return False


def shown(url: str) -> str:
    """A URL with its user, password, query and fragment as "...": each may hold a key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "..."
    _, at, host = parts.netloc.rpartition("@")
    hidden = ("..." if part else "" for part in (parts.query, parts.fragment))
    return urlunsplit((parts.scheme, f"...@{host}" if at else host, parts.path, *hidden))
