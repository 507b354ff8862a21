"""Engines that an earlier, killed supervisor left behind in our data directory.

On Linux they die with their supervisor within moments, so mostly this waits for the last of them;
where the kernel cannot do that (macOS) it ends them. The caller holds the lock of the data
directory, so whoever still works in it is an orphan.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)
_POLL_S = 0.02


async def end_orphan(pid_path: Path, marker: str, end_signal: signal.Signals) -> None:
    """Make sure that the process named in ``pid_path`` has ended, then remove the file.

    Only a process with ``marker`` (its data directory) in its command line is an orphan: the
    number may have gone to somebody else since, in a container often to a program of the same
    user, which Postgres would take for its predecessor. It gets 2 s by itself, 5 s after
    ``end_signal``, and SIGKILL then.
    """
    try:
        pid = int(pid_path.read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    for patience_s, next_signal in ((2.0, end_signal), (5.0, signal.SIGKILL), (5.0, None)):
        if await _ended(pid, marker, patience_s):
            break
        _log.warning("orphan_signalled", pid=pid, signal=next_signal)
        if next_signal is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, next_signal)
    pid_path.unlink(missing_ok=True)


async def _ended(pid: int, marker: str, patience_s: float) -> bool:
    deadline_s = asyncio.get_running_loop().time() + patience_s
    while marker in await command_line(pid):
        if asyncio.get_running_loop().time() >= deadline_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def command_line(pid: int) -> str:
    """The command line of ``pid`` with spaces between; empty when there is no such process."""
    if Path("/proc/self").exists():
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return ""
        return os.fsdecode(raw).replace("\0", " ")
    listing = await asyncio.create_subprocess_exec(
        "ps", "-ww", "-o", "args=", "-p", str(pid), stdout=subprocess.PIPE
    )
    output, _ = await listing.communicate()
    return os.fsdecode(output).strip()
