"""The small program between a supervisor and its child: drop rights, tie the lives, exec.

Run as ``python -I -S launch.py PARENT_PID DEATH_SIGNAL WAY UID GID -- ARGV…`` by
`kit.engines.process`; it imports the standard library only and ends by becoming ARGV, so the
child keeps this process id. A program of its own rather than a ``preexec_fn``, because Python
code between fork and exec can deadlock in a process that has threads.

- WAY ``self`` changes nothing, ``user`` becomes UID and GID, ``namespace`` enters a new user
  namespace in which the caller appears as UID and GID and has no capability outside.
- DEATH_SIGNAL is what the kernel sends when the parent *thread* ends (``PR_SET_PDEATHSIG``).
  A change of credentials clears it, therefore it is set last. Where the system has no prctl
  (macOS) it is left out; an orphan is then ended by the next start (`kit.engines.orphans`).
- ARGV ``--reachable PATH…`` executes nothing: exit 0 if all paths can be read (directories also
  written and entered) with these rights, else 1.

Exit codes of its own: 126 rights or namespace refused, 127 exec failed, 125 parent already gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

PARENT_GONE = 125
RIGHTS_REFUSED = 126
EXEC_FAILED = 127

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_CLONE_NEWUSER = 0x10000000  # <linux/sched.h>; os.unshare() came with Python 3.12


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _become_user(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _enter_namespace(uid: int, gid: int) -> None:
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if _libc().unshare(_CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1")


def die_with_parent(parent_pid: int, death_signal: int) -> None:
    """Have the kernel send ``death_signal`` when the parent ends; exit if it is gone already."""
    if sys.platform == "linux" and _libc().prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl: {os.strerror(number)}")
    # A parent that died before the line above sends nothing any more.
    if os.getppid() != parent_pid:
        sys.exit(PARENT_GONE)


def _reachable(path: str) -> bool:
    wanted = os.R_OK | os.W_OK | os.X_OK if Path(path).is_dir() else os.R_OK
    return os.access(path, wanted)


def main(arguments: list[str]) -> None:
    """Become the child; never returns (it execs or exits)."""
    parent_pid, death_signal, way, uid, gid, separator, *argv = arguments
    assert separator == "--"
    assert argv
    try:
        if way == "user":
            _become_user(int(uid), int(gid))
        elif way == "namespace":
            _enter_namespace(int(uid), int(gid))
        die_with_parent(int(parent_pid), int(death_signal))
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]}: {error}\n")
        sys.exit(RIGHTS_REFUSED)
    if argv[0] == "--reachable":
        sys.exit(0 if all(map(_reachable, argv[1:])) else 1)
    # Python ignores these two, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if hasattr(signal, "SIGXFSZ"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]}: {error.strerror}\n")
        sys.exit(EXEC_FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
