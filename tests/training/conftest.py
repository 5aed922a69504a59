"""Fixtures that several files of this folder use."""

from __future__ import annotations

import pytest
from training_runs import CONFIG

from kpn_cli.synthesis.patches import PhotoSource
from kpn_cli.training import loop


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory):
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    loop.train(PhotoSource(scenes), scenes, folder, CONFIG)
    return folder
