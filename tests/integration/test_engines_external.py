"""DATABASE_URL and REDIS_URL instead of the embedded engines, right and wrong ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from kit.engines import EmbeddedPostgres, EmbeddedValkey, engines, external
from kit.engines.errors import UrlUnusable


@pytest.fixture(scope="module")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A server to point DATABASE_URL to, with a user that needs its password."""
    engine = EmbeddedPostgres(tmp_path_factory.mktemp("external") / "postgres")
    await engine.start()
    connection = await asyncpg.connect(engine.url)
    await connection.execute("CREATE USER ada PASSWORD 'right'")
    await connection.execute("CREATE DATABASE old ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    await connection.close()
    rules = engine.data_dir / "pg_hba.conf"
    rules.write_text(f"host all ada 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
    await engine.stop()
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture(scope="module")
async def valkey(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedValkey]:
    """A server to point REDIS_URL to, with a user that needs its password."""
    engine = EmbeddedValkey(tmp_path_factory.mktemp("external") / "valkey")
    await engine.start()
    async with Redis.from_url(engine.url) as client:
        await client.acl_setuser(
            "ada", enabled=True, passwords=["+right"], keys=["*"], commands=["+@all"]
        )
    yield engine
    await engine.stop()


async def test_given_urls_are_used_and_the_directory_is_left_alone(
    postgres: EmbeddedPostgres, valkey: EmbeddedValkey, tmp_path: Path
) -> None:
    """Both given: nothing is embedded and nothing is written."""
    data_dir = tmp_path / "data"
    ada = f"postgresql://ada:right@127.0.0.1:{postgres.port}/darkstore"
    for url in (postgres.url, ada, ada.replace("postgresql:", "postgresql+asyncpg:")):
        async with engines(data_dir, url, valkey.url) as running:
            assert (running.database_url, running.redis_url) == (url, valkey.url)
            assert not running.embedded
    assert not data_dir.exists()


async def test_one_given_url_replaces_one_engine(
    postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Only DATABASE_URL given: Valkey is embedded, Postgres is not."""
    async with engines(tmp_path, database_url=postgres.url) as running:
        assert running.postgres is None
        assert running.valkey is not None
        async with Redis.from_url(running.redis_url) as client:
            assert await client.ping()
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize(
    ("user", "database", "problem"),
    [
        ("ada:s3cret", "darkstore", "refused the user or the password"),
        ("nosuchuser:s3cret", "darkstore", "refused the user or the password"),
        ("darkstore:s3cret", "nosuchdb", "the database does not exist"),
        ("darkstore:s3cret", "old", "the database is encoded in SQL_ASCII"),
    ],
)
async def test_a_refusing_postgres_is_told(
    postgres: EmbeddedPostgres, tmp_path: Path, user: str, database: str, problem: str
) -> None:
    """The sentence names DATABASE_URL, the problem and the address, never the password."""
    url = f"postgresql://{user}@127.0.0.1:{postgres.port}/{database}"
    with pytest.raises(UrlUnusable, match=f"DATABASE_URL.*{problem}") as caught:
        async with engines(tmp_path / "data", database_url=url):
            raise AssertionError("a wrong address was accepted")
    assert "s3cret" not in str(caught.value)
    assert f":***@127.0.0.1:{postgres.port}/{database}" in str(caught.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("user", "database", "problem"),
    [
        ("ada:s3cret", "0", "refused the user or the password"),
        ("ada:right", "9999", "the server refused .*DB index"),
    ],
)
async def test_a_refusing_redis_is_told(
    valkey: EmbeddedValkey, tmp_path: Path, user: str, database: str, problem: str
) -> None:
    """The sentence names REDIS_URL, the problem and the address, never the password."""
    url = f"redis://{user}@127.0.0.1:{valkey.port}/{database}"
    with pytest.raises(UrlUnusable, match=f"REDIS_URL.*{problem}") as caught:
        async with engines(tmp_path / "data", redis_url=url):
            raise AssertionError("a wrong address was accepted")
    assert user.partition(":")[2] not in str(caught.value)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("kind", ["database", "redis"])
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("{scheme}://127.0.0.1:{closed}/0", "no connection could be made"),
        ("{scheme}://no-such-host.invalid/0", "no connection could be made"),
        ("{scheme}://127.0.0.1:{silent}/0", "no answer within"),
        ("{scheme}://127.0.0.1:99x/0", "the address cannot be read"),
        ("mysql://127.0.0.1/0", "it is not a"),
        ("", "it is not a"),
    ],
)
async def test_an_address_that_leads_nowhere_is_told(
    kind: str, address: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed port, an unknown host, a silent server, no address at all: each one sentence."""
    monkeypatch.setattr(external, "_TIMEOUT_S", 0.3)
    scheme = {"database": "postgresql", "redis": "redis"}[kind]
    check = {"database": external.check_database, "redis": external.check_redis}[kind]
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = {"silent": silent.getsockname()[1], "closed": closed.getsockname()[1]}
        with pytest.raises(UrlUnusable, match=f"^{kind.upper()}_URL cannot be used: {problem}"):
            await check(address.format(scheme=scheme, **ports))


async def test_a_postgres_that_is_too_old_is_told(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence says which version it is and which is needed."""
    monkeypatch.setattr(external, "OLDEST_POSTGRES", 99)
    with pytest.raises(UrlUnusable, match=r"is Postgres 18 .*use Postgres 99 or newer"):
        await external.check_database(postgres.url)


async def test_a_redis_that_is_too_old_is_told() -> None:
    """A server that calls itself Redis 6.2 is refused, by its version."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Requests are arrays: *COUNT, then $LENGTH and the word, each on a line.
        while header := await reader.readline():
            words = []
            for _ in range(int(header[1:])):
                await reader.readline()
                words.append((await reader.readline()).strip())
            info = b"redis_version:6.2.14\r\n"
            writer.write(
                b"$%d\r\n%s\r\n" % (len(info), info) if words[0] == b"INFO" else b"+OK\r\n"
            )
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UrlUnusable, match=r"is Redis 6\.2\.14 .*use Redis 7\.0 or newer"):
            await external.check_redis(f"redis://127.0.0.1:{port}/0")
