"""An embedded Valkey: loopback, in memory only, and gone when its parent is."""

from __future__ import annotations

import signal
from pathlib import Path

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from kit.engines import accounts, binaries
from kit.engines.engine import EmbeddedEngine

_ANSWER_TIMEOUT_S = 2.0


class EmbeddedValkey(EmbeddedEngine):
    """A Valkey that keeps nothing on disk: the live layer is rebuilt from Postgres when lost.

    ``data_dir`` is its working folder; ``maxmemory_bytes`` bounds its memory, and writes beyond it
    are refused rather than keys evicted. Protected mode is on and configuration that names files
    cannot be changed at run time.
    """

    name = "valkey"
    stop_signal = signal.SIGTERM
    death_signal = signal.SIGKILL
    start_timeout_s = 20.0

    def __init__(
        self, data_dir: Path, log_path: Path | None = None, maxmemory_bytes: int | None = None
    ) -> None:
        super().__init__(data_dir, log_path)
        self._program = binaries.valkey_server()
        self._maxmemory_bytes = maxmemory_bytes

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``."""
        return f"redis://127.0.0.1:{self.port}/0"

    def reachable_paths(self) -> list[Path]:
        return [self._program]

    async def _prepare(self) -> None:
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        accounts.give(self.data_dir, self.account)

    def _command(self, port: int) -> list[str]:
        options = {
            "port": str(port),
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "enable-protected-configs": "no",
            "enable-debug-command": "no",
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "dir": str(self.data_dir),
            "pidfile": str(self._pid_path()),
            # Its command line stays what it was, which is how an orphan is told.
            "set-proc-title": "no",
            "maxmemory": str(self._maxmemory_bytes or 0),
            "maxmemory-policy": "noeviction",
        }
        pairs = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(self._program), *pairs]

    async def _answers(self, port: int) -> bool:
        client = Redis(
            host="127.0.0.1",
            port=port,
            socket_connect_timeout=_ANSWER_TIMEOUT_S,
            socket_timeout=_ANSWER_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )
        try:
            served = await client.config_get("dir")
        except (RedisError, OSError):
            return False
        finally:
            await client.aclose()
        return bool(served.get("dir") == str(self.data_dir))

    def _pid_path(self) -> Path:
        return self.data_dir / "valkey.pid"

    def _marker(self) -> str:
        return f"--dir {self.data_dir} "
