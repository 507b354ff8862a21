"""Log files of child processes, kept within a bound.

A child appends to its file itself (no pipe through the supervisor, which could stall it). The
bound is kept by copying and truncating in place: the child's descriptor, opened for appending,
goes on at the new end. So a log takes at most twice `LIMIT_BYTES` and what one interval adds.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LIMIT_BYTES = 16 * 1024 * 1024
_TAIL_BYTES = 64 * 1024


def open_log(path: Path) -> int:
    """A descriptor that appends to ``path`` (mode 0600); the folder is created as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bound_log(path)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def bound_log(path: Path, limit_bytes: int = LIMIT_BYTES) -> None:
    """Move what ``path`` holds to ``path.1`` once it is larger than ``limit_bytes``."""
    if not path.exists() or path.stat().st_size <= limit_bytes:
        return
    previous = path.with_name(f"{path.name}.1")
    shutil.copyfile(path, previous)
    previous.chmod(0o600)
    os.truncate(path, 0)


def size_bytes(path: Path) -> int:
    """The size of ``path``, 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def read_since(path: Path, start_byte: int) -> str:
    """What ``path`` holds from ``start_byte`` on, the last 64 KiB at most."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        end_byte = file.seek(0, os.SEEK_END)
        # Truncated in between: all that is there is new.
        begin_byte = start_byte if start_byte <= end_byte else 0
        file.seek(max(begin_byte, end_byte - _TAIL_BYTES))
        return file.read().decode("utf-8", "replace")
