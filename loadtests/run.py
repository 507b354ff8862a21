"""``make load``: a fresh system, a minute of locust, and what ``darkstore verify`` says of it.

Starts ``darkstore up`` on a scratch directory and a free port, seeds it, runs locust, waits until
the invariants hold (work in flight has to end first), and ends everything that it started.  The
exit code is that of the first part that failed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from kit.ports import free_port

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0
QUIET_TIMEOUT_S = 60.0


def main() -> int:
    """Run it all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.run", description="A load test.")
    parser.add_argument("--users", type=int, default=90, help="pickers and riders included")
    parser.add_argument("--spawn-rate", type=float, default=15.0, help="users a second")
    parser.add_argument("--run-time", default="1m", help="such as 30s or 5m")
    parser.add_argument(
        "--speed", type=float, default=10.0, help="of the system's clock; limits grow with it"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="darkstore-load-") as scratch:
        # The engines' own account has to get in when this runs as root.
        Path(scratch).chmod(0o755)
        data_dir = Path(scratch) / "data"
        port = free_port()
        with _up(data_dir, port, options.speed):
            return _measure(options, data_dir, Path(scratch) / "log-ins.json", port)


def _measure(options: argparse.Namespace, data_dir: Path, log_ins: Path, port: int) -> int:
    with open(log_ins, "wb", opener=_private) as file:
        seed = [BIN / "darkstore", "seed", "--json", "--data-dir", str(data_dir)]
        subprocess.run(seed, cwd=ROOT, check=True, stdout=file)  # noqa: S603  # our own program
    locust = subprocess.run(  # noqa: S603  # our own program
        [
            BIN / "locust", "-f", ROOT / "loadtests" / "locustfile.py", "--headless",
            "--only-summary", "--host", f"http://127.0.0.1:{port}", "--users", str(options.users),
            "--spawn-rate", str(options.spawn_rate), "--run-time", options.run_time,
            "--stop-timeout", "5",
        ],
        cwd=ROOT,
        env={**os.environ, "DARKSTORE_LOG_INS": str(log_ins)},
        check=False,
    )  # fmt: skip
    verified = _verify(data_dir)
    return locust.returncode or verified


def _verify(data_dir: Path) -> int:
    """Verify until it is clean or a minute is over: operations in flight have to end first."""
    deadline_s = time.monotonic() + QUIET_TIMEOUT_S
    while True:
        command = [BIN / "darkstore", "verify", "--data-dir", str(data_dir)]
        done = subprocess.run(  # noqa: S603  # our own program
            command, cwd=ROOT, check=False, capture_output=True, text=True
        )
        if done.returncode == 0 or time.monotonic() > deadline_s:
            sys.stdout.write(done.stdout + done.stderr)
            return done.returncode
        time.sleep(1.0)


def _private(path: str, flags: int) -> int:
    """An opener of files that only their owner can read."""
    return os.open(path, flags, 0o600)


@contextlib.contextmanager
def _up(data_dir: Path, port: int, speed: float) -> Iterator[None]:
    """A running system; ended with SIGINT, and with SIGKILL if that is not enough."""
    command = [
        BIN / "darkstore", "up", "--data-dir", str(data_dir), "--port", str(port),
        "--speed", str(speed),
    ]  # fmt: skip
    process = subprocess.Popen(  # noqa: S603  # our own program
        command, cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        _wait_until_ready(process, port)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise SystemExit(f"darkstore up ended with code {process.returncode}")
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1).close()
            return
        time.sleep(0.2)
    raise SystemExit(f"darkstore up was not ready within {START_TIMEOUT_S:g} s")


if __name__ == "__main__":
    sys.exit(main())
