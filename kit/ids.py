"""Opaque ids: a prefix that names the kind, then a ULID, so that they sort by time of birth."""

from __future__ import annotations

import re

from ulid import ULID

ID_PATTERN = re.compile(r"^[a-z]{3}_[0-9A-HJKMNP-TV-Z]{26}$")


def new_id(prefix: str) -> str:
    """A new id such as ``ord_01JD…``: 48 bits of wall-clock milliseconds and 80 random bits."""
    return f"{prefix}_{ULID()}"


def is_id(text: str, prefix: str) -> bool:
    """Whether ``text`` has the form of an id of that kind; says nothing of its existence."""
    return text.startswith(prefix + "_") and ID_PATTERN.match(text) is not None
