"""What clients were told: one JSON object a line, flushed before the client goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson


class Journal:
    """Append only; ``note`` is called when an answer has arrived, never before."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def note(self, kind: str, **facts: object) -> None:
        self._file.write(orjson.dumps({"at_s": time.time(), "kind": kind, **facts}) + b"\n")

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole line; the last one may be cut when its writer was killed."""
    for line in path.read_bytes().splitlines():
        try:
            yield orjson.loads(line)
        except orjson.JSONDecodeError:
            return
