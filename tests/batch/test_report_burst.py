"""The section of a burst in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kpn_cli.batch.report_burst import burst_section
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise.selection import NoiseReport
from kpn_cli.pipeline.result import Result

BURST = Result(
    Path("a.dng"),
    [Path("a.dng"), Path("b.dng")],
    {},
    shifts=[(0, 0), (2, 4)],
    agreement=[1.0, 0.9],
    exposure=[1.0, 0.24],
)


def test_frames_of_different_exposure_are_shown_with_settings_and_ev():
    mixed = replace(BURST, settings=["1/60 s, ISO 100", "1/250 s, <ISO> 100"])
    page = burst_section(mixed, "none", Path(), "key")
    assert "<small>1/60 s, ISO 100</small>" in page
    assert "<small>1/250 s, &lt;ISO&gt; 100</small>" in page
    assert "<td>0 EV</td>" in page and "<td>\N{MINUS SIGN}2.1 EV</td>" in page
    assert "times as bright" not in page and 'class="exposure"' not in page


def test_frames_of_one_exposure_are_shown_with_their_brightness():
    page = burst_section(BURST, "none", Path(), "key")
    assert "<td>0.240</td>" in page
    assert "<small>" not in page


def test_shifts_are_those_of_the_upright_picture():
    page = burst_section(replace(BURST, orientation=6), "none", Path(), "key")
    assert "<td>\N{MINUS SIGN}2, +4</td>" in page


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1.0, "all of it"), (0.25, "50% of &#963;, 1.0 stops less"), (1e-6, "less than 1&#8239;%")],
)
def test_residual_noise_is_shown_as_sigma_and_stops(share, shown):
    noise = NoiseReport("given", NoiseModel.uniform(1e-3, 1e-5))
    page = burst_section(replace(BURST, noise=noise, noise_left=share), "none", Path(), "key")
    assert shown in page


def test_headroom_is_a_field_if_it_was_asked_for():
    noise = NoiseReport("given", NoiseModel.uniform(1e-3, 1e-5))
    for stops, shown in ((None, False), (0.0, True), (1.98, True)):
        page = burst_section(replace(BURST, noise=noise, headroom=stops), "none", Path(), "key")
        assert ("Headroom" in page) == shown
    assert "2.0 EV beyond the reference" in page
