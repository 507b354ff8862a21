"""What `darkstore simulate` says to options that it cannot use, before it starts anything."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from server.cli import app


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("solver", "is not of the form group.parameter=value"),
        ("lateness.late_wait=3", "lateness.late_weight"),
        ("solver=best", "best"),
    ],
)
def test_a_parameter_that_does_not_exist_is_one_sentence(
    given: str, said: str, tmp_path: Path
) -> None:
    ran = CliRunner().invoke(app, ["simulate", "--set", given, "--data-dir", str(tmp_path / "d")])
    assert ran.exit_code == 1
    assert said in ran.output
    assert "Traceback" not in ran.output
    assert not (tmp_path / "d").exists()
