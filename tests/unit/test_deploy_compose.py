"""docker-compose.yml: valid, hardened, without secrets, and true to the program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.platform import WORKERS
from server.settings import load_settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
BIN = Path(sys.executable).parent
DOCUMENT: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def environment_of(service: str) -> dict[str, str]:
    """With every required variable filled in."""
    values = SERVICES[service]["environment"]
    return {name: re.sub(r"\$\{\w+:\?[^}]*\}", "x" * 64, text) for name, text in values.items()}


def test_fits_the_compose_schema() -> None:
    """The Compose specification's own schema takes the file."""
    done = run(
        str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE.name
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_lint_finds_nothing() -> None:
    """compose-lint finds nothing that deploy/compose-lint.yml does not explain."""
    done = run(
        str(BIN / "compose-lint"), "check", "--fail-on", "low", "--strict-config", "--no-env",
        "--config", "deploy/compose-lint.yml", COMPOSE.name,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_is_hardened(service: str) -> None:
    """Read-only, no privileges to gain, no root, limits, and a pinned image."""
    definition = SERVICES[service]
    assert definition["read_only"] is True
    assert definition["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in definition["security_opt"]
    assert not definition["user"].startswith(("0:", "root"))
    limits = definition["deploy"]["resources"]["limits"]
    assert {"cpus", "memory", "pids"} <= set(limits)
    _, _, tag = definition["image"].rpartition(":")
    assert re.match(r"\d+\.\d+", tag), f"{definition['image']} has no pinned version"
    assert "healthcheck" in definition


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_ports_are_on_loopback(service: str) -> None:
    """Nothing is published to the world: a proxy that ends TLS stands in front."""
    for port in SERVICES[service].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_no_secret_in_the_file() -> None:
    """Whatever is a password, a key or a secret is a required variable."""
    for name, definition in SERVICES.items():
        for variable, value in definition.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|KEY|AUTH$", variable):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name}: {variable}"
        for variable in ("DATABASE_URL", "REDIS_URL"):
            url = definition.get("environment", {}).get(variable, "")
            assert not url or re.search(r":\$\{\w+:\?[^}]+\}@", url), f"{name}: {variable}"


def test_example_names_every_required_variable() -> None:
    """deploy/example.env lists what the file asks for, no more, and no value."""
    required = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    lines = (ROOT / "deploy/example.env").read_text().splitlines()
    listed = {line.removesuffix("=") for line in lines if not line.startswith("#")}
    assert listed == required


def test_one_service_for_each_worker() -> None:
    """Every worker that the program knows runs, and none that it does not know."""
    run_by_compose = {
        definition["command"][2]
        for definition in SERVICES.values()
        if definition.get("command", [])[:2] == ["darkstore", "worker"]
    }
    assert run_by_compose == set(WORKERS)


def test_workers_wait_for_the_schema() -> None:
    """No process of ours starts before the migration is through."""
    ours = [name for name, d in SERVICES.items() if d.get("command", [""])[0] == "darkstore"]
    for name in set(ours) - {"migrate"}:
        condition = SERVICES[name]["depends_on"]["migrate"]["condition"]
        assert condition == "service_completed_successfully", name


def test_settings_take_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are settings that exist, and the values are ones that start."""
    for name, value in environment_of("api").items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.payments.sandbox_url == "http://provider:8090"
    assert settings.database_url is not None
    known = {
        "DATABASE_URL", "REDIS_URL", "DARKSTORE_DATA_DIR", "DARKSTORE_LOG_LEVEL",
        "DARKSTORE_IDENTITY__JWT_SECRET", "DARKSTORE_PAYMENTS__SANDBOX_URL",
        "DARKSTORE_PAYMENTS__SANDBOX_API_KEY", "DARKSTORE_PAYMENTS__SANDBOX_WEBHOOK_SECRET",
        "DARKSTORE_NOTIFY__WEBHOOKS__MASTER_SECRET",
    }  # fmt: skip
    assert set(environment_of("api")) == known


def test_stops_leave_time_to_drain() -> None:
    """Docker kills no server whose requests are still allowed to finish."""
    for service in ("api", "gateway"):
        grace_s = int(SERVICES[service]["stop_grace_period"].removesuffix("s"))
        assert grace_s > load_settings(identity={"jwt_secret": "x" * 32}).http.drain_timeout_s
