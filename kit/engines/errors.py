"""What can go wrong with the engines, each told in one sentence for a person.

::

    EngineError
    ├── BinaryMissing            no engine binary for this platform
    ├── DataDirectoryBusy        another instance holds the data directory
    ├── DataDirectoryUnusable    cannot be written, or holds something else
    ├── DiskFull                 no space (or quota) left
    ├── EngineStartFailed        the engine ended or stayed silent; names its log
    ├── PortUnavailable          no free port could be had
    ├── UrlUnusable              DATABASE_URL or REDIS_URL does not lead to a usable server
    └── ChildNotReady            a supervised command was not ready in time

``str(error)`` is the whole message: the command line prints it and exits, without a traceback.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class EngineError(Exception):
    """Root of the family; its text is a sentence that says what to do."""


class BinaryMissing(EngineError):
    """The installed packages hold no engine binary for this platform."""


class DataDirectoryBusy(EngineError):
    """Another process holds the data directory.

    ``pid`` is the holder's process id, or None when it could not be read.
    """

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        self.pid = pid
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(
            f"The data directory {data_dir} is in use by {holder}: stop that one first, "
            "or choose another data directory."
        )


class DataDirectoryUnusable(EngineError):
    """The data directory cannot be written or holds something that is not ours."""


class DiskFull(EngineError):
    """There is no space left (or a quota is used up) where the engine keeps its data."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The disk is full where the engines keep their data ({path}): free some space "
            "(about 100 MB are needed to begin), or choose a data directory on another disk."
        )


class EngineStartFailed(EngineError):
    """An engine ended while starting, or did not answer in time."""


class PortUnavailable(EngineError):
    """Every port that was chosen was taken before the engine could bind it."""


class UrlUnusable(EngineError):
    """``variable`` (DATABASE_URL or REDIS_URL) does not lead to a usable server."""

    def __init__(self, variable: str, tried: str, problem: str, remedy: str) -> None:
        self.variable = variable
        super().__init__(
            f"{variable} cannot be used: {problem} (tried {tried}); {remedy}, "
            f"or unset {variable} to use the embedded engine."
        )


class ChildNotReady(EngineError):
    """A supervised command was not ready before its deadline."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` about ``path`` into `DiskFull` or `DataDirectoryUnusable`."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise DataDirectoryUnusable(
            f"The data directory {path} cannot be made because a file stands in its place: move "
            "that file away, or choose another data directory."
        ) from error
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull(path) from error
        raise DataDirectoryUnusable(
            f"The data directory {path} cannot be used ({error.strerror or error}): give this "
            "user the right to write there, or choose another data directory."
        ) from error
