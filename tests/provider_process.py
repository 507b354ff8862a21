"""The sandbox payment provider as a child process, and an address that collects its webhooks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx

ROOT = Path(__file__).parents[1]
API_KEY = "sk_test_provider"
SECRET = "whsec_test_provider"
STRIPE_SECRET = "whsec_test_stripe"
RAZORPAY_SECRET = "rzp_test_webhooks"


class ProviderProcess:
    """One provider over one store; can be killed and started again on the same port and store."""

    def __init__(
        self,
        store: Path,
        *,
        webhook_url: str | None = None,
        time_scale: float = 0.1,
        webhook_urls: Mapping[str, str] | None = None,
    ) -> None:
        self._store = store
        self._wires = store.with_suffix(".wires.json")
        blocks: dict[str, dict[str, object]] = {
            "stripe": {"api_key": API_KEY, "webhook_secret": STRIPE_SECRET},
            "razorpay": {
                "key_id": "rzp_test_1", "key_secret": API_KEY, "webhook_secret": RAZORPAY_SECRET,
            },
        }  # fmt: skip
        for wire, url in (webhook_urls or {}).items():
            blocks[wire]["webhook_url"] = url
        self._blocks = blocks
        self.ports: dict[str, int] = {}
        self._webhook_url = webhook_url
        self._time_scale = time_scale
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wire_url(self, wire: str) -> str:
        """The address of a wire, on its own port."""
        return f"http://127.0.0.1:{self.ports[wire]}/{wire}"

    def start(self) -> Self:
        command = [
            sys.executable, "-m", "simulator.provider", "--port", str(self.port),
            "--store", str(self._store), "--secret", SECRET, "--api-key", API_KEY,
            "--time-scale", str(self._time_scale), "--wires-file", str(self._wires),
        ]  # fmt: skip
        self._wires.write_text(json.dumps(self._blocks))
        if self._webhook_url:
            command += ["--webhook-url", self._webhook_url]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the provider ended before it listened"
        ready = json.loads(line)
        self.port, self.ports = ready["port"], ready["ports"]
        for wire, port in self.ports.items():
            self._blocks[wire]["port"] = port
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
    deliveries: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)  # path, …

    def __post_init__(self) -> None:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.received.append((self.headers["Darkstore-Sandbox-Signature"], body))
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.deliveries.append((self.path, headers, body))
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
