"""The log-ins of a seeded city that a second start needs again."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, cast

import orjson

from server.log_ins import demo_log_ins, keep_log_ins
from server.seed_report import SeedResult


class _Result:
    """Stands in for a seed's result: only its JSON is read."""

    def __init__(self, password: str | None) -> None:
        self._password = password

    def as_json(self) -> dict[str, Any]:
        def entry(email: str) -> dict[str, Any]:
            return {"user_id": "usr_1", "email": email, "password": self._password}

        return {
            "city": {"id": "cty_1"},
            "admin": entry("admin@x"),
            "ops": entry("ops@x"),
            "stores": [{"log_ins": {"manager": entry("m@x"), "picker": entry("p@x")}}],
            "riders": [entry("r@x")],
        }


def _kept(path: Path, password: str | None) -> Path:
    return keep_log_ins(cast(SeedResult, _Result(password)), path)


def test_a_second_seed_keeps_the_passwords_of_the_first(tmp_path: Path) -> None:
    """A seed shows a password once; the file remembers it, for its owner alone."""
    path = _kept(tmp_path / "log-ins.json", "first-secret")
    _kept(path, None)
    kept = orjson.loads(path.read_bytes())
    assert kept["riders"][0]["password"] == "first-secret"
    assert kept["stores"][0]["log_ins"]["manager"]["password"] == "first-secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_log_in_of_each_kind_is_told(tmp_path: Path) -> None:
    """A person sees an admin, an ops, a manager, a picker and a rider."""
    lines = demo_log_ins(_kept(tmp_path / "log-ins.json", "secret"))
    assert [line.split()[-2] for line in lines] == ["admin@x", "ops@x", "m@x", "p@x", "r@x"]
    assert all(line.endswith("secret") for line in lines)
