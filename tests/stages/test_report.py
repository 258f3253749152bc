"""What stages share around their own work."""

from __future__ import annotations

from pathlib import Path

from posekit.stages.report import optional_input


def test_the_path_given_wins_over_the_first_default_that_is_there(tmp_path: Path) -> None:
    fits, predictions = tmp_path / "fits.h5", tmp_path / "predictions.h5"
    assert optional_input(None, fits, predictions) is None
    predictions.touch()
    assert optional_input(None, fits, predictions) == predictions
    fits.touch()
    assert optional_input(None, fits, predictions) == fits
    assert optional_input(tmp_path / "absent.h5", fits) == tmp_path / "absent.h5"
