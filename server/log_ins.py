"""The one-time log-ins of a seeded city, kept for the simulated people who use them.

A seed prints a password once, when it makes the log-in.  A simulated city that is started again
needs it again, so its file (readable by the owner alone) keeps what earlier seeds told.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from server.seed_report import SeedResult


def keep_log_ins(result: SeedResult, path: Path) -> Path:
    """Write the result's JSON to ``path``, with the passwords that an earlier one held."""
    fresh = result.as_json()
    if path.exists():
        known = dict(_log_ins(orjson.loads(path.read_bytes())))
        for email, entry in _log_ins(fresh):
            if entry["password"] is None and email in known:
                entry["password"] = known[email]["password"]
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(fresh))
    temporary.replace(path)
    return path


def demo_log_ins(path: Path) -> list[str]:
    """One log-in of each kind, as lines for a person who wants to look around."""
    city = orjson.loads(path.read_bytes())
    first_store = city["stores"][0]["log_ins"]
    kinds = {
        "admin": city["admin"],
        "ops": city["ops"],
        "store manager": first_store["manager"],
        "picker": first_store["picker"],
        "rider": city["riders"][0],
    }
    return [
        f"{kind:<13}  {entry['email']}  {entry['password'] or '(password shown earlier)'}"
        for kind, entry in kinds.items()
    ]


def _log_ins(value: Any) -> list[tuple[str, dict[str, Any]]]:
    """Every object of a JSON value that has an e-mail address and a password."""
    found: list[tuple[str, dict[str, Any]]] = []
    if isinstance(value, dict):
        if "email" in value and "password" in value:
            found.append((value["email"], value))
        for inner in value.values():
            found += _log_ins(inner)
    elif isinstance(value, list):
        for inner in value:
            found += _log_ins(inner)
    return found
