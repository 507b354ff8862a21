"""Whose rights an engine runs with: Postgres refuses root.

An ordinary user's engines run as that user. As root they run as ``nobody`` when the binaries and
the data directory can be reached by it, else in a user namespace in which root appears as
``nobody`` and has no capability outside (a data directory below a 0700 directory of root, a file
system that refuses chown). A user without a name in the password file, usual in containers, takes
the namespace too, because initdb insists on a name.
"""

from __future__ import annotations

import os
import pwd
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Way(StrEnum):
    """How `kit.engines.launch` changes its rights before it execs."""

    SELF = "self"
    USER = "user"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True)
class Account:
    """A way, with the ids to become; ``owner_uid`` and ``owner_gid`` own the files outside."""

    way: Way
    uid: int
    gid: int

    @property
    def owner_uid(self) -> int:
        return self.uid if self.way is Way.USER else os.geteuid()

    @property
    def owner_gid(self) -> int:
        return self.gid if self.way is Way.USER else os.getegid()


def own_account() -> Account:
    """The rights of this process, unchanged."""
    return Account(Way.SELF, os.geteuid(), os.getegid())


def candidates() -> list[Account]:
    """The accounts worth trying for an engine here, best first."""
    try:
        pwd.getpwuid(os.geteuid())
        named = True
    except KeyError:
        named = False
    if os.geteuid() != 0 and named:
        return [own_account()]
    try:
        entry = pwd.getpwnam("nobody")
        uid, gid = entry.pw_uid, entry.pw_gid
    except KeyError:
        uid, gid = 65534, 65534
    namespace = Account(Way.NAMESPACE, uid, gid)
    return [Account(Way.USER, uid, gid), namespace] if os.geteuid() == 0 else [namespace]


def give(path: Path, account: Account) -> None:
    """Make ``account`` the owner of the tree at ``path``, its top last.

    Nothing is walked when the top is already owned: a walk cut short is therefore repeated.
    Raises OSError where the file system refuses.
    """
    owner = (account.owner_uid, account.owner_gid)
    status = path.stat()
    if (status.st_uid, status.st_gid) == owner:
        return
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.chown(Path(folder) / name, *owner, follow_symlinks=False)
    os.chown(path, *owner)


def trial_directory(parent: Path, account: Account) -> Path | None:
    """A new, empty directory in ``parent`` owned by ``account``; None when chown is refused."""
    trial = Path(tempfile.mkdtemp(prefix=".trial-", dir=parent))
    try:
        give(trial, account)
    except OSError:
        trial.rmdir()
        return None
    return trial
