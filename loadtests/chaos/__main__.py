"""``make chaos``: a whole system, traffic, faults, and a verdict.

Prints the seed, the options and how often each fault struck.  Exit code 0: every check holds and
every fault struck at least once; 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import structlog
import uvloop

from kit import log
from loadtests.chaos import bugs, report
from loadtests.chaos.judge import judge
from loadtests.chaos.runner import run
from loadtests.chaos.system import running_system
from server.platform import ROOT

# Set in the process that runs in a mount namespace of its own.
_INSIDE = "DARKSTORE_CHAOS_NAMESPACE"
# Ten minutes write about 0.4 GB; Postgres keeps up to 1 GB of its log.
SMALL_DISK_MB = 2_500


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--speed", type=float, default=8.0, help="of the system's clock")
    parser.add_argument("--only", help="faults whose name contains this")
    parser.add_argument("--rounds", type=int, help="how often each strikes (default: by minutes)")
    parser.add_argument(
        "--bug", choices=[bug.__name__ for bug in bugs.BUGS], help="patch a known bug in"
    )
    parser.add_argument("--report", type=Path, help="default: reports/chaos-SEED.json")
    return parser.parse_args()


def _enter_namespace() -> None:
    """Start over in a mount namespace, where a small disk can be mounted that goes away with us.

    Returns only where that cannot be had; a full disk is then told by a limit on file sizes.
    """
    if _INSIDE in os.environ or sys.platform != "linux":
        return
    way = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    try:
        tried = subprocess.run([*way, "true"], check=False, capture_output=True)  # noqa: S603
    except OSError:
        return
    if tried.returncode == 0:
        os.environ[_INSIDE] = "1"
        command = [*way, sys.executable, "-m", "loadtests.chaos", *sys.argv[1:]]
        os.execvp(way[0], command)  # noqa: S606


def _small_disk(folder: Path) -> bool:
    """Whether a small file system could be mounted at ``folder``."""
    if _INSIDE not in os.environ:
        return False
    command = [
        "mount",
        "-t",
        "tmpfs",
        "-o",
        f"size={SMALL_DISK_MB}m,mode=755",
        "tmpfs",
        str(folder),
    ]
    return subprocess.run(command, check=False).returncode == 0  # noqa: S603


async def _main(options: argparse.Namespace, scratch: Path) -> int:
    data_dir, outside = scratch / "data", scratch / "outside"
    data_dir.mkdir()
    small_disk = _small_disk(data_dir)
    told: dict[str, Any] = {
        "seed": options.seed, "minutes": options.minutes, "speed": options.speed,
        "only": options.only, "bug": options.bug, "small_disk": small_disk,
    }  # fmt: skip
    sys.stdout.write(f"chaos {told}\n")
    async with running_system(
        data_dir, outside, speed=options.speed, seed_number=options.seed, small_disk=small_disk,
        bug=options.bug,
    ) as system:  # fmt: skip
        ran = await run(
            system, seed=options.seed, minutes=options.minutes, only=options.only,
            rounds=options.rounds, journal=outside / "journal",
        )  # fmt: skip
        findings = await judge(system, ran)
    outcome = report.as_json(told, ran, findings)
    path = options.report or ROOT / "reports" / f"chaos-{options.seed}.json"
    report.write(path, outcome)
    report.show(outcome)
    kept = path.with_suffix(".logs")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(outside / "log", kept)
    sys.stdout.write(f"logs: {kept}\n")
    return 0 if outcome["clean"] else 1


def main() -> int:
    options = _arguments()
    _enter_namespace()
    log.configure("CRITICAL", process="chaos")
    structlog.get_logger(__name__).debug("chaos_begins", seed=options.seed)
    with tempfile.TemporaryDirectory(prefix="darkstore-chaos-", ignore_cleanup_errors=True) as name:
        # The engines' own account has to get in when this runs as root.
        Path(name).chmod(0o755)
        try:
            return uvloop.run(_main(options, Path(name)))
        except asyncio.CancelledError:
            return 130
        finally:
            if _INSIDE in os.environ:
                subprocess.run(["umount", "-l", f"{name}/data"], check=False)  # noqa: S603, S607


if __name__ == "__main__":
    sys.exit(main())
