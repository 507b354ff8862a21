"""Named places at which a fault run lets a process die, as if the power went at that very line.

A fault run gives every process a folder (``DARKSTORE_CRASH_POINTS``) and arms one point at a time
with a file in it.  The first process that reaches the point takes the file and dies by SIGKILL,
so that nothing is flushed, closed or rolled back politely.  A point may be armed with SIGSTOP
instead: a process that sleeps there, its transactions open, until it is told to go on.  Without a
folder a point costs one comparison.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

ARMED: Final = ".armed"
DYING: Final = ".dying"
HIT: Final = ".hit"
_STOP: Final = "stop"

_folder: Path | None = None


def configure(folder: Path | None) -> None:
    """Where points are armed; None (production) turns all of them off."""
    global _folder
    _folder = folder


def reached(name: str) -> None:
    """Die (or sleep) here if ``name`` is armed.  Of many who get here, one takes the file."""
    if _folder is None:
        return
    try:
        (_folder / f"{name}{ARMED}").rename(_folder / f"{name}{DYING}")
    except FileNotFoundError:
        return
    stops = (_folder / f"{name}{DYING}").read_text() == _STOP
    (_folder / f"{name}{DYING}").write_text(str(os.getpid()))
    (_folder / f"{name}{DYING}").rename(_folder / f"{name}{HIT}")
    os.kill(os.getpid(), signal.SIGSTOP if stops else signal.SIGKILL)


def arm(folder: Path, name: str, *, stop: bool = False) -> None:
    """Let the next process that reaches ``name`` die, or with ``stop`` fall asleep."""
    (folder / f"{name}{HIT}").unlink(missing_ok=True)
    fresh = folder / f"{name}.new"
    fresh.write_text(_STOP if stop else "")
    fresh.rename(folder / f"{name}{ARMED}")


def victim(folder: Path, name: str) -> int | None:
    """The process id of who died, or fell asleep, at ``name`` since it was armed."""
    try:
        return int((folder / f"{name}{HIT}").read_text())
    except FileNotFoundError:
        return None


def disarm(folder: Path, name: str) -> bool:
    """Take the arming back; whether somebody has died of it."""
    (folder / f"{name}{ARMED}").unlink(missing_ok=True)
    return (folder / f"{name}{HIT}").exists()
