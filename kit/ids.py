"""Opaque ids: a prefix that names the kind, then a ULID, so that they sort by time of birth."""

from __future__ import annotations

import os
import re
import time
from typing import Final

ID_PATTERN = re.compile(r"^[a-z]{3}_[0-9A-HJKMNP-TV-Z]{26}$")

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters of Crockford's alphabet, ten bits, at a time.
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS: Final = tuple(range(120, -1, -10))


def new_id(prefix: str) -> str:
    """A new id such as ``ord_01JD…``: 48 bits of wall-clock milliseconds and 80 random bits."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    ulid = "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
    return f"{prefix}_{ulid}"


def is_id(text: str, prefix: str) -> bool:
    """Whether ``text`` has the form of an id of that kind; says nothing of its existence."""
    return text.startswith(prefix + "_") and ID_PATTERN.match(text) is not None
