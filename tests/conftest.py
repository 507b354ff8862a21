"""Fixtures that every layer shares: engines, a migrated database, Redis, a whole running system.

The integration suite runs twice where the machine has a Postgres and a Redis of its own: on the
embedded engines, then on those.  Everything else runs on the embedded engines alone, and so does a
test that wants a database of its own: to make and drop one costs seconds on a server that waits
for its disk, and what depends on the server shows on the shared one too.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from redis.asyncio import Redis

from kit import engines as embedded
from kit.db import Database
from tests.flow import System, open_system
from tests.support import (
    EMBEDDED,
    EXTERNAL,
    Addresses,
    assert_books_balance,
    describe,
    external_engines,
    forgetful,
    kept,
    migrated_template,
    new_database,
    opened_database,
    opened_redis,
    own_redis,
)

EXTERNAL_ADDRESSES = pytest.StashKey[Addresses | None]()


def pytest_configure(config: pytest.Config) -> None:
    # By default a traceback is drawn with all locals, which takes seconds where SQL is among them.
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    config.stash[EXTERNAL_ADDRESSES] = asyncio.run(external_engines())


def pytest_report_header(config: pytest.Config) -> str:
    found = config.stash[EXTERNAL_ADDRESSES]
    if found is None:
        return "engines: embedded (no Postgres and Redis on the standard ports)"
    return f"engines: embedded; integration also on {asyncio.run(describe(found))}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine_kind" not in metafunc.fixturenames:
        return
    kinds = [EMBEDDED]
    integration = "integration" in metafunc.definition.path.parts
    if "fresh_database" in metafunc.fixturenames:
        integration = bool(metafunc.definition.get_closest_marker("every_engine"))
    if metafunc.definition.get_closest_marker("embedded_only"):
        integration = False
    if integration and metafunc.config.stash[EXTERNAL_ADDRESSES] is not None:
        kinds.append(EXTERNAL)
    metafunc.parametrize("engine_kind", kinds, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ``-n N --dist loadgroup`` one process runs the whole system, not each.

    First of all hooks of this name: xdist reads the groups in one of them.
    """
    for item in items:
        if "system" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("system"))


@pytest.fixture(autouse=True)
def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in the tests' process leaves their logging alone: loggers keep the stream
    that they found first, and a command's is closed when it ends.
    """
    monkeypatch.setattr("kit.log.configure", lambda *_, **__: None)


@pytest.fixture(scope="session")
def engine_kind(request: pytest.FixtureRequest) -> str:
    """Which engines a test runs on (``pytest_generate_tests`` says)."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """A folder of this session's own that the engines' account may enter."""
    path = Path(tempfile.mkdtemp(prefix="darkstore-tests-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
async def embedded_engines(home: Path) -> AsyncIterator[Addresses]:
    """One embedded Postgres and one Valkey for the session."""
    async with kept(embedded.engines(home / "engines")) as running:
        await forgetful(running.database_url)
        yield Addresses(running.database_url, running.redis_url.rsplit("/", 1)[0])


@pytest.fixture(scope="session")
def engines(engine_kind: str, request: pytest.FixtureRequest) -> Addresses:
    """Where this test's engines are."""
    if engine_kind == EMBEDDED:
        found: Addresses = request.getfixturevalue("embedded_engines")
        return found
    external = request.config.stash[EXTERNAL_ADDRESSES]
    assert external is not None, "external engines are asked for only where they are"
    return external


@pytest.fixture(scope="session")
async def template(engines: Addresses) -> AsyncIterator[str]:
    """A migrated database to copy: a fresh one costs a tenth of a second that way."""
    async with migrated_template(engines.database_url) as name:
        yield name


@pytest.fixture(scope="session")
async def database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """A migrated database that the tests share: each makes its own rows and truncates nothing."""
    async with new_database(engines.database_url, template) as url:
        async with opened_database(url) as database:
            yield database
            await assert_books_balance(database)


@pytest.fixture
async def fresh_database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """A migrated database of the test's own, to be broken at will."""
    async with new_database(engines.database_url, template) as url:
        async with opened_database(url, size=4) as database:
            yield database


@pytest.fixture
async def empty_database(engines: Addresses) -> AsyncIterator[Database]:
    """A database without a single table."""
    async with new_database(engines.database_url) as url:
        async with opened_database(url, size=2) as database:
            yield database


@pytest.fixture(scope="session")
async def redis(engines: Addresses) -> AsyncIterator[Redis]:
    """A numbered Redis database of the session's own."""
    async with own_redis(engines.redis_url) as url, opened_redis(url) as client:
        yield client


@pytest.fixture(scope="session")
async def system(embedded_engines: Addresses, home: Path) -> AsyncIterator[System]:
    """The whole system as ``darkstore up`` runs it, at 20 times the speed of the clock."""
    async with kept(open_system(embedded_engines, home / "system")) as running:
        yield running
        await assert_books_balance(running.database)
