"""Files of decisions: what was written is read, and damage costs no more than what it hit."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch.decision import Decision
from dispatch.plan import plan
from server import decision_files
from server.decision_log import forget_files
from server.decision_settings import DecisionLogSettings
from tests.decision_support import town


def decision(number: int, now_s: float = 1_000.0) -> Decision:
    question = replace(town(number, orders=2, riders=2), now_s=now_s)
    return Decision(
        decision_id=f"dec-{number}", city_id="city", snapshot=question, plan=plan(question)
    )


def written(path: Path, count: int) -> list[int]:
    return [
        decision_files.append(path, decision_files.pack(decision(n, 1_000.0 + n)))
        for n in range(count)
    ]


def ids(path: Path, told: list[str] | None = None) -> list[str]:
    tell = (told if told is not None else []).append
    return [entry.decision.decision_id for entry in decision_files.read(path, tell)]


def test_decisions_are_read_in_the_sequence_in_which_they_were_written(tmp_path: Path) -> None:
    """Each by itself too, from the byte at which it starts."""
    path = tmp_path / "city" / "a.dlog"
    offsets = written(path, 4)
    assert ids(path) == ["dec-0", "dec-1", "dec-2", "dec-3"]
    assert [decision_files.read_at(path, at).decision_id for at in offsets] == ids(path)
    assert path.stat().st_mode & 0o077 == 0


def test_a_torn_tail_costs_the_last_decision_alone(tmp_path: Path) -> None:
    """Wherever the writer died, all decisions before are read, and the reader says so."""
    path = tmp_path / "a.dlog"
    last = written(path, 3)[-1]
    whole = path.read_bytes()
    for end in range(last + 1, len(whole), 7):
        path.write_bytes(whole[:end])
        told: list[str] = []
        assert ids(path, told) == ["dec-0", "dec-1"]
        assert "cut short" in told[0]


def test_a_writer_goes_on_after_a_torn_tail_in_another_file(tmp_path: Path) -> None:
    """Each writer has its own name in the file's, so nothing is appended to a torn tail."""
    one = decision_files.file_name("city", 1_000.0, "writer-1")
    other = decision_files.file_name("city", 1_000.0, "writer-2")
    assert one != other
    assert one.startswith("city/19700101T00-")


def test_a_changed_byte_is_found(tmp_path: Path) -> None:
    """The checksum tells; what comes after cannot be trusted."""
    path = tmp_path / "a.dlog"
    offsets = written(path, 3)
    raw = bytearray(path.read_bytes())
    raw[offsets[1] + 20] ^= 0xFF
    path.write_bytes(raw)
    told: list[str] = []
    assert ids(path, told) == ["dec-0"]
    assert "checksum" in told[0]
    with pytest.raises(decision_files.DamagedLog, match="checksum"):
        decision_files.read_at(path, offsets[1])


def test_another_file_is_not_taken_for_a_log(tmp_path: Path) -> None:
    """A sentence instead of a traceback, for files and for empty folders."""
    path = tmp_path / "notes.dlog"
    path.write_text("hello")
    with pytest.raises(decision_files.DamagedLog, match="is not a log"):
        ids(path)
    with pytest.raises(ValueError, match="no decision log"):
        decision_files.files_of(tmp_path / "nowhere")


def test_a_length_that_cannot_be_is_not_read_into_memory(tmp_path: Path) -> None:
    """Four bytes of damage must not ask for gigabytes."""
    path = tmp_path / "a.dlog"
    path.write_bytes(decision_files.MAGIC + b"\xff\xff\xff\xff\0\0\0\0")
    told: list[str] = []
    assert ids(path, told) == []
    assert "no decision is" in told[0]


def test_files_of_several_writers_are_merged_by_time(tmp_path: Path) -> None:
    """Two dispatchers share a city's hour when one takes over."""
    for name, numbers in {"b": (1, 4), "a": (2, 3)}.items():
        for n in numbers:
            frame = decision_files.pack(decision(n, 1_000.0 + n))
            decision_files.append(tmp_path / "city" / f"{name}.dlog", frame)
    found = [one.decision.decision_id for one in decision_files.read_all(tmp_path)]
    assert found == ["dec-1", "dec-2", "dec-3", "dec-4"]


def test_decisions_that_do_not_name_an_id_are_passed_over(tmp_path: Path) -> None:
    """A search for one order need not read every decision in full."""
    path = tmp_path / "a.dlog"
    written(path, 2)
    assert list(decision_files.read(path, naming="order-9")) == []
    assert len(list(decision_files.read(path, naming="order-1"))) == 2


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle of a frame: what was written of it is taken back."""
    path = tmp_path / "a.dlog"
    written(path, 1)
    before = path.read_bytes()
    real = os.fdopen

    class Full:
        def __init__(self, file) -> None:  # type: ignore[no-untyped-def]
            self.file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(decision_files, "open", lambda *a: Full(real(a[0], a[1])), raising=False)
    with pytest.raises(OSError, match="No space"):
        decision_files.append(path, decision_files.pack(decision(1)))
    assert path.read_bytes() == before


def test_the_oldest_files_go_when_there_are_too_many_bytes(tmp_path: Path) -> None:
    """By size, by age, and never the newest."""
    for n in range(4):
        path = tmp_path / "city" / f"{n}.dlog"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 600_000)
        at = time.time() - 1000 * (4 - n)
        os.utime(path, (at, at))
    forget_files(tmp_path, DecisionLogSettings(max_total_bytes=1024**2))
    assert sorted(path.name for path in tmp_path.rglob("*.dlog")) == ["3.dlog"]
    (tmp_path / "city" / "old.dlog").write_bytes(b"x")
    os.utime(tmp_path / "city" / "old.dlog", (1, 1))
    forget_files(tmp_path, DecisionLogSettings(max_age_s=500.0))
    assert sorted(path.name for path in tmp_path.rglob("*.dlog")) == ["3.dlog"]
