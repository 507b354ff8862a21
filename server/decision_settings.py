"""What an operator may tune about the log of dispatch decisions.

Apart from the log itself, because every process reads its settings and few need the engine.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field


class DecisionLogSettings(BaseModel):
    """``directory`` None: explanations are kept in the database, whole decisions nowhere."""

    directory: Path | None = None
    # A city with 50 open orders and 100 riders writes about 20 MB an hour at a tick of 5 s.
    max_total_bytes: int = Field(2 * 1024**3, ge=1024**2)
    max_file_bytes: int = Field(64 * 1024**2, ge=64 * 1024)
    # Real seconds, for the files and for the rows.
    max_age_s: float = Field(14 * 86_400.0, gt=0)
    # Decisions that wait for the disk; the next one is left out.
    max_waiting: int = Field(64, ge=1)
