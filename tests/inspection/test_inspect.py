"""`kpn inspect` shows what denoising does, at the right point and upright."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import kpn
from inspected_bursts import START, options, still, write_burst
from marked_bursts import excess, listed_burst, listing_camera
from pictures import ORIENTATIONS, planes

from kpn_cli.align import warp
from kpn_cli.burst.frame import noise_coefficients
from kpn_cli.errors import KpnError
from kpn_cli.image import orientation
from kpn_cli.inspection import inspect, points
from kpn_cli.inspection.inspect import Inspection
from kpn_cli.merge.tile import TileMerger
from kpn_cli.network.kpn import KPN
from kpn_cli.network.weights import load_weights, save_weights
from kpn_cli.noise import selection
from kpn_cli.output.dng_writer import write_cfa_dng
from kpn_cli.pipeline import denoise, loading, prepare
from kpn_cli.pipeline.options import Options
from kpn_cli.synthesis.camera import Camera
from kpn_cli.synthesis.protocol import noise_of_gain


def whole_picture(paths: list[Path], how: Options) -> tuple[torch.Tensor, KPN]:
    """Kernels of all cells, from one call of the network: `(frames or more, K, K, h, w)`."""
    loaded = loading.load_burst(paths, how, "")
    prepared = prepare.prepare(loaded, how, torch.device("cpu"))
    found, noise = prepared.aligned, prepared.noise
    network, _ = load_weights(how.weights)
    burst = warp.warp_frames(
        found.frames, found.shifts, *(slice(0, side) for side in found.frames[0].size)
    )
    with torch.inference_mode():
        kernels, _ = network(burst[None], *noise_coefficients(noise.model, torch.device("cpu")))
    return kernels[0].unflatten(1, (network.config.kernel,) * 2), network


# --- kernels ----------------------------------------------------------------


@pytest.mark.parametrize("at", [(260, 60), (3, 1), (519, 119)])
def test_kernels_at_a_point_equal_those_of_a_run_over_the_whole_picture(tmp_path, at):
    """The network runs on a part of the picture only; its receptive field must fit in it."""
    paths = write_burst(tmp_path / "burst", still(2, 60, 260), noise_of_gain(2))
    how = options(tmp_path, None)
    found = inspect.inspect(paths, how, [at])
    (view,) = found.views.values()
    kernels, _ = whole_picture(paths, how)
    here = kernels[..., at[1] // 2, at[0] // 2].numpy()
    np.testing.assert_allclose(view.kernels, here[:2] / 2, atol=2e-5)
    np.testing.assert_allclose(view.dilated, here[2], atol=2e-5)
    assert np.ptp(here[:2]) > 0.05


@pytest.mark.parametrize("count", [1, 3, 10])
def test_weights_sum_to_1_with_one_frame_one_group_or_several(tmp_path, lively, count):
    paths = write_burst(tmp_path / "burst", still(count, 40, 44), noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, lively), [(30, 30)])
    (view,) = found.views.values()
    assert found.maps.weights.shape == (count, 40, 44)
    np.testing.assert_allclose(found.maps.weights.sum(0), 1, atol=1e-5)
    assert view.weights.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(view.weights, found.maps.weights[:, 15, 15], atol=1e-5)


def test_maps_and_views_match_the_result_of_denoising(tmp_path, small, lively):
    how = options(tmp_path, lively, strength=1.5, tile=64)
    found = inspect.inspect(small, how, [(60, 50)])
    loaded = loading.load_burst(small, how, "")
    done = denoise.compute(loaded, how, denoise.Engine(how))
    np.testing.assert_allclose(found.maps.clean, done.denoised.planes, atol=1e-6)
    assert found.maps.noise_left == pytest.approx(done.result.noise_left, rel=1e-5)
    assert found.maps.fallback_share == pytest.approx(done.result.fallback_share, abs=1e-3)
    assert found.median_shifts == done.result.shifts
    assert found.noise == done.result.noise
    (view,) = found.views.values()
    y, x = view.middle
    np.testing.assert_allclose(view.clean[:, y, x], done.denoised.planes[:, 25, 30], atol=2e-5)


def test_the_network_assumes_the_noise_sigma_times_the_strength(tmp_path, small, lively):
    found = [
        inspect.inspect(small, options(tmp_path, lively, strength=strength), [(9, 9)])
        for strength in (1.0, 2.0)
    ]
    np.testing.assert_allclose(found[1].maps.sigma, 2 * found[0].maps.sigma, rtol=1e-5)
    signal = found[0].maps.reference.mean()
    expected = np.sqrt(np.mean(found[0].noise.model.variance(np.full((4, 1, 1), signal))))
    assert found[0].maps.sigma.mean() == pytest.approx(expected, rel=0.05)


# --- what the shipped network has learned -----------------------------------


def test_where_something_moves_the_reference_has_most_of_the_weight(tmp_path):
    """A disc moves from frame to frame."""
    clean = still(4, 96, 160)
    rows, columns = np.mgrid[:96, :160]
    for number in range(4):
        disc = np.hypot(rows - 48, columns - (40 + 30 * number)) < 13
        clean[number][:, disc] = 0.95 - 0.5 * planes(9, 96, 160)[:, disc]
    paths = write_burst(tmp_path / "burst", clean, noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, None), [(80, 96), (240, 24)])
    on, away = (view.weights[0] for view in found.views.values())
    reference = found.maps.weights[0]
    assert on > 0.8
    assert reference[42:54, 34:46].mean() > 0.8
    assert reference[5:25, 100:150].mean() < 0.4
    assert away < 0.5 * on
    # One of the points picked automatically is on the disc.
    (point,) = [p for p in points.points_of_interest(found.info, found.maps) if p.why == "motion"]
    assert min(np.hypot(point.y / 2 - 48, point.x / 2 - 40 - 30 * n) for n in range(4)) < 16


def test_a_larger_assumed_noise_gives_broader_kernels_and_leaves_less_noise(tmp_path):
    paths = write_burst(tmp_path / "burst", still(3, 80, 80), noise_of_gain(1))
    found = inspect.inspect(paths, options(tmp_path, None), [(80, 80)], scales=(0.25, 0.5, 1, 2))
    ((point, views),) = found.scaled_views.items()
    radius, left = ([getattr(view, name) for view in views] for name in ("radius", "noise_left"))
    assert radius == sorted(radius)
    assert left == sorted(left, reverse=True) and left[-1] < 0.05 * left[0]
    # The picture has the same texture everywhere.
    assert left[2] == pytest.approx(found.maps.noise_left, rel=0.3)
    # Scale 1 is what denoising does.
    np.testing.assert_array_equal(views[2].kernels, found.views[point].kernels)


def test_what_frames_show_is_assumed_as_in_denoising_and_scales_are_of_that(
    tmp_path, weights, monkeypatch
):
    paths = write_burst(tmp_path / "burst", still(4, 64, 64), noise_of_gain(1))
    monkeypatch.setattr(selection, "observed_sigma_ratio", lambda *_: 2.0)
    told = []

    class Spy(TileMerger):
        def __init__(self, network, frames, shifts, noise, **more):
            super().__init__(network, frames, shifts, noise, **more)
            told.append((noise, self._noise_model, more["observed"]))

    monkeypatch.setattr(inspect, "TileMerger", Spy)
    how = options(tmp_path, weights)
    assumed = inspect.inspect(paths, how, [(60, 60)], scales=(0.5,)).noise.model
    assert assumed.shot[0] == pytest.approx(4 * noise_of_gain(1).shot[0], rel=1e-3)
    half = assumed.with_strength(0.5)
    assert {told[0], told[1]} == {(assumed, assumed, 1.0)}
    assert told[2] == (half, half, None)


# --- points and orientations ------------------------------------------------


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_the_kernels_of_a_turned_burst_are_turned_likewise(tmp_path, small, lively, turn):
    camera, noise = Camera(phase="GRBG"), noise_of_gain(1)
    noisy = noise.sample(still(3, 48, 60), np.random.default_rng(0))
    for n, frame in enumerate(noisy):
        tags = replace(camera.tags(noise, START, "m"), orientation=turn)
        write_cfa_dng(tmp_path / f"{n}.dng", camera.record(frame), tags)
    at = orientation.upright_position(40, 81, (96, 119), turn)
    found = inspect.inspect([tmp_path], options(tmp_path / "out", lively), [at])
    (point,) = found.views
    # GRBG starts in the middle of a cell, so 60 cells are 119 columns.
    assert point.cell == (20, 41)
    view = found.views[point]
    straight = inspect.inspect(
        [tmp_path],
        options(tmp_path / "out", lively),
        [(81, 40)],
        read=lambda path: (
            replace(loading.read_packed(path)[0], orientation=1),
            loading.read_packed(path)[1],
        ),
    )
    (expected,) = straight.views.values()
    assert (found.info.orientation, straight.info.orientation) == (turn, 1)
    for turned, lying in (
        *zip(view.kernels, expected.kernels, strict=True),
        (view.dilated, expected.dilated),
        *zip(view.clean, expected.clean, strict=True),
        *zip(found.maps.weights, straight.maps.weights, strict=True),
    ):
        np.testing.assert_array_equal(turned, orientation.upright(lying, turn))
    assert view.clean[0][view.middle] == expected.clean[0][expected.middle]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--at", "5"],
        ["--at", "5,x"],
        ["--at", "1,2,3"],
        ["--noise-scale", "0,1"],
        ["--noise-scale", "a"],
        ["--noise-scale", "nan"],
        ["--noise-scale", "1e9"],
        ["--strength", "9"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    assert kpn("inspect", "a.dng", *arguments).exit_code == 2


def test_a_network_or_a_strength_without_kernels_is_refused(tmp_path, small, tiny_config, weights):
    path = tmp_path / "pixels.safetensors"
    save_weights(path, KPN(replace(tiny_config, output="pixels", wide=False)), {})
    with pytest.raises(KpnError, match="no kernels"):
        inspect.inspect(small, options(tmp_path, path))
    with pytest.raises(KpnError, match="no kernels"):
        inspect.inspect(small, options(tmp_path, weights, strength=0))


# --- the page and the reference ---------------------------------------------


def test_a_link_to_a_page_is_never_replaced(tmp_path, small, weights):
    mine = tmp_path / "mine.html"
    mine.write_text('<meta name="generator" content="kpn inspect">')
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").symlink_to(mine)
    result = kpn("inspect", *small, "-o", tmp_path / "out", "--weights", weights)
    assert result.exit_code == 1 and "choose another folder" in result.stderr
    assert (tmp_path / "out" / "index.html").is_symlink()


def test_defects_are_repaired_as_in_denoising(tmp_path, weights):
    paths = listed_burst(tmp_path / "burst")
    camera = listing_camera(tmp_path / "camera.json")
    auto, off = (
        inspect.inspect(paths, options(tmp_path, weights, noise=camera, defects=how), [(9, 9)])
        for how in ("auto", "off")
    )
    assert np.abs(excess(auto.maps.reference)).max() < 4
    assert excess(off.maps.reference).min() > 8


def test_defects_can_be_left_as_they_are(tmp_path, small, weights):
    run = kpn("inspect", *small, "-o", tmp_path / "out", "--weights", weights, "--defects", "off")
    assert run.exit_code == 0, run.output
    assert kpn("inspect", *small, "--defects", "none").exit_code == 2


def test_the_reference_is_the_frame_that_was_chosen(tmp_path, small, weights):
    found = inspect.inspect(small, Options(tmp_path, weights=weights, reference="2"), [(9, 9)])
    assert isinstance(found, Inspection)
    assert found.info.path == small[2] == found.infos[0].path
