"""Fixtures that several files of this folder use."""

from __future__ import annotations

from pathlib import Path

import pytest
from dng_results import REAL, SHARED, identity


@pytest.fixture(scope="module", params=REAL)
def real(request, tmp_path_factory) -> tuple[Path, Path]:
    """A real frame and its identity."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/raw")
    folder = tmp_path_factory.mktemp("real")
    return SHARED / request.param, identity(SHARED / request.param, folder / "b.dng")
