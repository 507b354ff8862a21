"""An embedded Postgres: loopback TCP, no Unix socket, durable, and gone when its parent is."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from urllib.parse import quote

import asyncpg
import structlog

from kit.engines import accounts, binaries
from kit.engines.engine import EmbeddedEngine
from kit.engines.errors import DataDirectoryUnusable
from kit.engines.process import run

_log = structlog.get_logger(__name__)
USER = "darkstore"
DATABASE = "darkstore"
_CONNECT_TIMEOUT_S = 5.0
_INITDB = (
    *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8"),
    *("--auth=trust", f"--username={USER}", "--no-instructions"),
)
# Durability (fsync, synchronous_commit, full_page_writes) stays on, as Postgres ships it.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # A socket's path is limited to about 107 bytes, a data directory's is not.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "shared_preload_libraries": "pg_stat_statements",
    "max_wal_size": "1GB",
    # Planner's cost of a random page on a solid-state disk.
    "random_page_cost": "1.1",
    # Queries here are short: compiling them costs more than it saves.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "cluster_name": "darkstore",
}


class EmbeddedPostgres(EmbeddedEngine):
    """The cluster in ``data_dir`` (initialised when there is none), served by a child process.

    The log is ``log/postgres.log`` beside ``data_dir`` unless given. When the supervisor dies the
    postmaster gets SIGQUIT, an immediate shutdown: a fast one (SIGINT) writes a checkpoint first,
    which on a slow disk takes longer than nothing may be left over. The next start recovers.
    """

    name = "postgres"
    stop_signal = signal.SIGINT
    death_signal = signal.SIGQUIT
    # Recovery after a crash replays up to max_wal_size.
    start_timeout_s = 120.0

    def __init__(self, data_dir: Path, log_path: Path | None = None) -> None:
        super().__init__(data_dir, log_path)
        self._home = binaries.postgres_home()

    @property
    def url(self) -> str:
        """``postgresql://darkstore@127.0.0.1:PORT/darkstore``."""
        return self.database_url(DATABASE)

    def database_url(self, name: str) -> str:
        """The URL of database ``name`` in this cluster."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{quote(name, safe='')}"

    async def create_database(self, name: str, template: str | None = None) -> str:
        """Create database ``name`` unless it is there, and return its URL.

        ``template`` is a database to copy, to which nobody may be connected.
        """
        connection = await _connect(self.port, "postgres")
        try:
            copied = "" if template is None else f" TEMPLATE {_quoted(template)}"
            await connection.execute(f"CREATE DATABASE {_quoted(name)}{copied}")
        except asyncpg.DuplicateDatabaseError:
            _log.debug("database_exists", name=name)
        finally:
            await connection.close()
        return self.database_url(name)

    async def start(self) -> None:
        """Start, initialise when new, and return once the ``darkstore`` database answers."""
        await super().start()
        try:
            connection = await _connect(self.port, DATABASE)
        except asyncpg.InvalidCatalogNameError:
            # New, or killed between initdb and here.
            await self.create_database(DATABASE)
        else:
            await connection.close()

    def reachable_paths(self) -> list[Path]:
        return [
            self._home / "bin" / "postgres",
            self._home / "lib" / "plpgsql.so",
            self._home / "share" / "postgres.bki",
        ]

    async def _prepare(self) -> None:
        for stale in self.data_dir.parent.glob(f".{self.data_dir.name}.initdb-*"):
            # What a killed initdb left; its last child may still be writing, so not in earnest.
            shutil.rmtree(stale, ignore_errors=True)
        if not (self.data_dir / "PG_VERSION").exists():
            await self._initialise()
        accounts.give(self.data_dir, self.account)
        ours = self._major()
        theirs = (self.data_dir / "PG_VERSION").read_text().strip()
        if theirs != ours:
            raise DataDirectoryUnusable(
                f"The data directory {self.data_dir} was made by Postgres {theirs} and this is "
                f"{ours}: move it away (or dump it with the older one), then start again."
            )

    async def _initialise(self) -> None:
        """initdb beside ``data_dir``, then rename: a killed one leaves no half directory."""
        if self.data_dir.exists() and any(self.data_dir.iterdir()):
            raise DataDirectoryUnusable(
                f"The directory {self.data_dir} holds something that is not a Postgres cluster: "
                "move it away, or choose another data directory."
            )
        prefix = f".{self.data_dir.name}.initdb-"
        fresh = Path(tempfile.mkdtemp(prefix=prefix, dir=self.data_dir.parent))
        try:
            accounts.give(fresh, self.account)
            code, output = await run(
                [str(self._home / "bin" / "initdb"), *_INITDB, "-D", str(fresh)],
                env=self.environment(),
                cwd=fresh,
                account=self.account,
            )
            if code != 0:
                raise self.failure(output)
            fresh.rename(self.data_dir)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        _fsync(self.data_dir.parent)

    def _major(self) -> str:
        """The major version of the binaries, as PG_VERSION has it."""
        # The header of the bootstrap catalogue: "# PostgreSQL 18".
        with (self._home / "share" / "postgres.bki").open() as catalogue:
            return catalogue.readline().split()[-1]

    def _command(self, port: int) -> list[str]:
        options = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        program = str(self._home / "bin" / "postgres")
        return [program, "-D", str(self.data_dir), *options, f"--port={port}"]

    async def _answers(self, port: int) -> bool:
        try:
            connection = await _connect(port, "postgres")
        # Not yet listening, still recovering, or (on a stolen port) somebody else's.
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        try:
            served: str = await connection.fetchval("SHOW data_directory")
        finally:
            await connection.close()
        return os.fsencode(served) == os.fsencode(self.data_dir)

    def _pid_path(self) -> Path:
        return self.data_dir / "postmaster.pid"

    def _marker(self) -> str:
        return f"-D {self.data_dir} "


async def _connect(port: int, database: str) -> asyncpg.Connection[asyncpg.Record]:
    # Everything that asyncpg would otherwise take from PG* variables is given.
    return await asyncpg.connect(
        host="127.0.0.1",
        port=port,
        user=USER,
        database=database,
        ssl=False,
        timeout=_CONNECT_TIMEOUT_S,
    )


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
