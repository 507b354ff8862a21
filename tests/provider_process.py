"""The sandbox payment provider as a child process, and an address that collects its webhooks."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx

ROOT = Path(__file__).parents[1]
API_KEY = "sk_test_provider"
SECRET = "whsec_test_provider"


async def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait for a condition; fail when it does not come."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come in time"
        await asyncio.sleep(0.01)


class ProviderProcess:
    """One provider over one store; can be killed and started again on the same port and store."""

    def __init__(
        self, store: Path, *, webhook_url: str | None = None, time_scale: float = 0.1
    ) -> None:
        self._store = store
        self._webhook_url = webhook_url
        self._time_scale = time_scale
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        command = [
            sys.executable, "-m", "simulator.provider", "--port", str(self.port),
            "--store", str(self._store), "--secret", SECRET, "--api-key", API_KEY,
            "--time-scale", str(self._time_scale),
        ]  # fmt: skip
        if self._webhook_url:
            command += ["--webhook-url", self._webhook_url]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the provider ended before it listened"
        self.port = json.loads(line)["port"]
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._end()

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._end()

    def client(self) -> httpx.AsyncClient:
        """A bare client with the API key."""
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=10.0
        )

    def _end(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        code = self._process.wait(timeout=10)
        self._process.stdout.close()
        self._process = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()


@dataclass
class WebhookSink:
    """Listens on a free port and keeps what is posted; answers ``status``."""

    status: int = 200
    received: list[tuple[str, bytes]] = field(default_factory=list)  # signature header, raw body

    def __post_init__(self) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.received.append((self.headers["Darkstore-Sandbox-Signature"], body))
                self.send_response(sink.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hooks"

    def events(self, payment_id: str | None = None) -> list[dict[str, Any]]:
        """The events so far, in order of arrival, copies included."""
        events = [json.loads(body) for _, body in list(self.received)]
        return [e for e in events if payment_id in (None, e["payment"]["id"])]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
