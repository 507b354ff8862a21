"""Fixtures that every layer shares: engines, a migrated database, Redis, a whole running system.

The integration suite runs twice where the machine has a Postgres and a Redis of its own: on the
embedded engines, then on those.  Everything else runs on the embedded engines alone, and so does a
test that wants a database of its own: to make and drop one costs seconds on a server that waits
for its disk, and what depends on the server shows on the shared one too.

Every process of pytest reads this file before anything else, so what is heavy is imported by the
fixture that wants it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog

from kit import engines as embedded
from tests.addresses import EMBEDDED, EXTERNAL, Addresses, describe, external_engines

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from xdist.remote import Producer

    from kit.db import Database
    from tests.scheduling import ByModule
    from tests.system import System

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


def _in_the_system(item: pytest.Item) -> bool:
    return "system" in getattr(item, "fixturenames", ())


def _turn(item: pytest.Item) -> int:
    """The whole system first and in a row, so that it need not live long; the simulations, of which
    each takes a process for minutes, while there is enough left for the others.
    """
    if _in_the_system(item):
        return 0
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if parameters.get("engine_kind") == EMBEDDED:
        return 1
    return 2 if "simulation" in item.path.parts else 3


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Iterator[None]:
    """Groups for ``--dist loadgroup``, before xdist reads them, and the order of the tests, after
    pytest has brought together what shares a session's engines.
    """
    if config.pluginmanager.hasplugin("xdist"):
        for item in filter(_in_the_system, items):
            item.add_marker(pytest.mark.xdist_group("system"))
    yield
    items.sort(key=_turn)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByModule | None:
    from tests.scheduling import ByModule

    return ByModule(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(autouse=True)
def patient_assignments(monkeypatch: pytest.MonkeyPatch) -> None:
    """An assignment in the tests' process may be held up for longer than a dispatcher's: on a busy
    machine 1.5 s pass between two statements, and a dispatcher would plan anew.
    """
    monkeypatch.setattr("riders.leases.IDLE_LIMIT_MS", 15_000)


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
    from tests import support

    async with support.kept(embedded.engines(home / "engines")) as running:
        await support.forgetful(running.database_url)
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
    from tests import support

    async with support.migrated_template(engines.database_url) as name:
        yield name


@pytest.fixture(scope="session")
async def database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """A migrated database that the tests share: each makes its own rows and truncates nothing."""
    from tests import support

    async with support.new_database(engines.database_url, template) as url:
        async with support.opened_database(url) as database:
            yield database
            await support.assert_books_balance(database)


@pytest.fixture
async def fresh_database(engines: Addresses, template: str) -> AsyncIterator[Database]:
    """A migrated database of the test's own, to be broken at will."""
    from tests import support

    async with support.new_database(engines.database_url, template) as url:
        async with support.opened_database(url, size=4) as database:
            yield database


@pytest.fixture
async def empty_database(engines: Addresses) -> AsyncIterator[Database]:
    """A database without a single table."""
    from tests import support

    async with support.new_database(engines.database_url) as url:
        async with support.opened_database(url, size=2) as database:
            yield database


@pytest.fixture(scope="session")
async def redis(engines: Addresses) -> AsyncIterator[Redis]:
    """A numbered Redis database of the session's own."""
    from tests import support

    async with support.own_redis(engines.redis_url) as url, support.opened_redis(url) as client:
        yield client


@dataclass
class Run:
    """One run of the whole system, and how many tests are still to come that want it."""

    to_come: int
    system: System | None = None
    processes: AsyncExitStack = field(default_factory=AsyncExitStack)


@pytest.fixture(scope="session")
async def run_of_the_system(request: pytest.FixtureRequest) -> AsyncIterator[Run]:
    run = Run(sum(_in_the_system(item) for item in request.session.items))
    async with run.processes:
        yield run


@pytest.fixture
async def system(
    run_of_the_system: Run, embedded_engines: Addresses, home: Path
) -> AsyncIterator[System]:
    """The whole system as ``darkstore up`` runs it, at 20 times the speed of the clock.

    It ends with the last test that wants it and not with the session: its dispatcher and its
    housekeeping look after their cities all the time, which costs the others half a core.
    """
    from tests import support
    from tests.system import open_system

    run = run_of_the_system
    if run.system is None:
        running = support.kept(open_system(embedded_engines, home / "system"))
        run.system = await run.processes.enter_async_context(running)
    yield run.system
    run.to_come -= 1
    if not run.to_come:
        await support.assert_books_balance(run.system.database)
        await run.processes.aclose()
