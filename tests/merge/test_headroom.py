"""What the reference clips is filled from shorter exposures, without a tint or a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mixed_bursts import BRACKET, NOISE, expose, matched, still

from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge import headroom as headroom_module
from kpn_cli.merge import merge
from kpn_cli.merge.headroom import MAX_WHITE, Headroom
from kpn_cli.network.weights import load_weights
from kpn_cli.synthesis.protocol import noise_of_gain

#: Colours of a warm light: red clips last.
COLOUR = np.float32([0.5, 1.0, 1.0, 0.7])[:, None, None]
NEUTRAL = (0.5, 1.0, 1.0, 0.7)
QUIET = NoiseModel.uniform(1e-4, 1e-7)
ROOM = Headroom(4.0, (1.0, 2.0, 2.0, 1.4))


def ramp(last=3.0, rows=64, columns=192):
    """A surface that brightens from left to right, beyond the reference's white."""
    return np.ascontiguousarray(
        COLOUR
        * np.broadcast_to(np.linspace(0.02, last, columns, dtype=np.float32), (rows, columns))
    )


def merged(network, scene, *, gains=BRACKET, noise=NOISE, headroom=ROOM, **more):
    frames = matched(expose(scene, gains, noise, **more), gains)
    return merge.denoise_frames(
        network, frames, still(frames), noise, headroom=headroom, measure_residual=False
    )


@pytest.mark.parametrize("gains", [BRACKET, (1.0, 0.25, 0.25, 1.0, 0.5)])
@pytest.mark.parametrize("noise", [NOISE, QUIET])
def test_beyond_the_reference_s_white_the_result_is_the_truth_but_for_noise(gains, noise):
    scene = ramp()
    done = merged(load_weights()[0], scene, gains=gains, noise=noise)
    assert done.white == 4
    off = done.planes - scene
    beyond = (scene.max(0) > 1.05)[8:-8, 8:-8]
    off = off[:, 8:-8, 8:-8]
    # The noise of one short exposure, or less.
    sigma = np.sqrt(noise.scaled(4).variance(scene))[:, 8:-8, 8:-8]
    relative = (off / sigma)[:, beyond]
    assert np.sqrt((relative**2).mean()) < 1.1
    assert abs(off[:, beyond].mean() / scene[:, 8:-8, 8:-8][:, beyond].mean()) < 5e-3
    everywhere = off.mean(1) / scene[:, 0, 8:-8]
    bright = scene[1, 0, 8:-8] > 0.3
    limit = 0.01 + 4 * (sigma / scene[:, 8:-8, 8:-8]).max() / 48**0.5
    assert np.abs(everywhere[:, bright]).max() < limit


def test_colours_do_not_change_where_the_reference_begins_to_clip():
    """The first plane to clip would be too dark; ratios to green of means over 48 rows and 8."""
    scene = ramp(2.0)
    done = merged(load_weights()[0], scene, noise=QUIET)
    planes = done.planes[:, 8:-8, 8:-8].reshape(4, 48, 22, 8).mean((1, 3))
    truth = scene[:, 8:-8, 8:-8].reshape(4, 48, 22, 8).mean((1, 3))
    near = (truth[1] > 0.5) & (truth[1] < 1.8)
    for plane in (0, 3):
        ratio = planes[plane] / planes[1] / (truth[plane] / truth[1])
        np.testing.assert_allclose(ratio[near], 1, atol=0.005)


def test_a_ramp_across_the_border_stays_a_ramp():
    done = merged(load_weights()[0], ramp(), noise=QUIET)
    along = done.planes[:, 8:-8, 8:-8].mean(1)
    step = (COLOUR[:, 0] * (3 - 0.02) / 191).ravel()
    sigma = np.sqrt(QUIET.scaled(4).variance(ramp()).max() * 2 / 48)
    assert (np.diff(along) > -4 * sigma).all()
    assert (np.diff(along) < step[:, None] + 4 * sigma + 0.005).all()


def test_something_bright_that_has_gone_in_the_short_exposures_becomes_neutral_white():
    scene = np.full((4, 64, 64), 0.1, np.float32) * COLOUR
    lit = scene.copy()
    lit[:, 20:44, 20:44] = 3 * COLOUR
    done = merged(load_weights()[0], [lit, scene, scene], noise=QUIET)
    middle = done.planes[:, 24:40, 24:40].mean((1, 2))
    np.testing.assert_allclose(middle, ROOM.neutral, rtol=0.01)
    around = done.planes[:, 2:14, 2:60].mean((1, 2))
    np.testing.assert_allclose(around, scene[:, 0, 0], rtol=0.02)


def test_where_all_frames_are_clipped_the_shortest_one_fills():
    scene = 6 * COLOUR * np.ones((4, 48, 48), np.float32)
    done = merged(load_weights()[0], scene, noise=QUIET, headroom=Headroom(4.0, (4.0,) * 4))
    np.testing.assert_allclose(done.planes[1:3], 4, rtol=1e-3)
    assert done.planes[0].mean() == pytest.approx(3, rel=0.002)  # not clipped there


def test_nothing_exceeds_the_white_level():
    scene = 3 * COLOUR * np.ones((4, 48, 48), np.float32)
    low = Headroom(2.0, (1.0, 2.0, 2.0, 1.4))
    assert merged(load_weights()[0], scene, headroom=low).planes.max() == 2


@pytest.mark.parametrize("saturation", [1.0, 0.9, 1.07])
def test_a_sensor_that_clips_elsewhere_than_at_white_is_filled_from_there(saturation):
    scene = ramp(2.5)
    done = merged(load_weights()[0], scene, noise=QUIET, saturation=saturation)
    along, truth = done.planes[1, 8:-8, 8:-8].mean(0), scene[1, 0, 8:-8]
    bright = truth > 0.3
    np.testing.assert_allclose(along[bright], truth[bright], rtol=0.02)
    assert done.white == 4


@pytest.mark.parametrize("gain", [0, 1, 4])
@pytest.mark.parametrize("top", [0.7, 0.95, 1.0])
def test_where_nothing_is_brighter_white_stays_and_so_does_the_picture(top, gain):
    """The noise of the short exposure reaches far beyond white: it makes nothing brighter."""
    network, noise, scene = load_weights()[0], noise_of_gain(gain), ramp(top, 48, 64)
    if gain == 4:
        assert expose(scene, BRACKET, noise)[1].samples.max() > 0.35  # 1.4 of white
    done, without = (merged(network, scene, noise=noise, headroom=room) for room in (ROOM, None))
    assert done.white == without.white == 1
    np.testing.assert_array_equal(done.planes, without.planes)


@pytest.mark.parametrize(("gain", "size", "light"), [(0, 3, 1.3), (1, 3, 2.5), (1, 5, 1.5)])
def test_a_small_light_is_brighter(gain, size, light):
    network, noise = load_weights()[0], noise_of_gain(gain)
    scene = np.full((4, 48, 48), 0.2, np.float32)
    scene[:, 20 : 20 + size, 20 : 20 + size] = light
    assert merged(network, scene, noise=noise).white == 4


def thin(shape, light, around=0.2):
    """Return a coloured scene with a highlight of few cells, and where it is."""
    lit = np.zeros((40, 48), bool)
    if shape == "diagonal":
        lit[np.arange(40), np.arange(40)] = True
    else:
        height, width = shape
        lit[12 : 12 + height, 20 : 20 + width] = True
    return np.where(lit, np.float32(light), np.float32(around)) * COLOUR, lit


@pytest.mark.parametrize(("light", "gain"), [(1.5, 0), (3.0, 0), (3.0, 1)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (16, 2), "diagonal"])
def test_highlights_of_a_few_cells_are_filled_without_a_tint_or_a_halo(shape, light, gain):
    network, noise = load_weights()[0], noise_of_gain(gain)
    scene, lit = thin(shape, light)
    done = merged(network, scene, noise=noise)
    plain = merged(network, scene, noise=noise, headroom=None)
    np.testing.assert_allclose(
        done.planes[:, lit].mean(1), scene[:, lit].mean(1), rtol=0.03 if gain == 0 else 0.15
    )
    # Nothing around changes, to the last bit.
    np.testing.assert_array_equal(done.planes[:, ~lit], plain.planes[:, ~lit])
    recorded = matched(expose(scene, BRACKET, noise))[0].planes()
    assert np.square(done.planes - scene).mean() < np.square(recorded - scene).mean()


@pytest.mark.parametrize("gain", [0, 1])
def test_a_thin_highlight_that_has_moved_is_not_filled_from_elsewhere(gain):
    network, noise = load_weights()[0], noise_of_gain(gain)
    scene, lit = thin((16, 2), 3.0)
    elsewhere = np.roll(scene, 4, 2)
    done = merged(network, [scene, elsewhere, elsewhere], noise=noise)
    assert done.planes.max() < 1.2
    assert done.planes[1:3, lit].mean() == pytest.approx(1, abs=0.05)


def test_a_highlight_is_thin_if_few_cells_are_clipped_and_the_fill_is_bright_there_only():
    clipped = torch.zeros(1, 1, 24, 24)
    clipped[..., 10:12, 10:12] = 1
    bright = headroom_module._thin_highlights(clipped, clipped)
    torch.testing.assert_close(bright, clipped)
    everywhere = torch.ones_like(clipped)
    for mask, brighter in (
        (clipped, torch.zeros_like(clipped)),  # no brighter than the reference can hold
        (clipped, everywhere),  # something brighter was there
        (everywhere, everywhere),  # wide
    ):
        assert not headroom_module._thin_highlights(mask, brighter)[..., 8:16, 8:16].any()


def test_a_thin_highlight_does_not_exceed_the_white_level():
    scene, _ = thin((2, 2), 3.0)
    low = Headroom(2.0, (1.0, 2.0, 2.0, 1.4))
    assert merged(load_weights()[0], scene, noise=QUIET, headroom=low).planes.max() == 2


def test_without_a_shorter_exposure_there_is_no_headroom(tiny_network):
    gains = (1.0, 1.0, 4.0)
    done, without = (
        merged(tiny_network, ramp(), gains=gains, headroom=room) for room in (ROOM, None)
    )
    np.testing.assert_array_equal(done.planes, without.planes)
    assert MAX_WHITE == 16


def test_tiles_fill_alike(tiny_network):
    frames = matched(expose(ramp()))
    whole, tiled = (
        merge.denoise_frames(
            tiny_network, frames, still(frames), NOISE, headroom=ROOM, tile=tile,
            measure_residual=False,
        ).planes
        for tile in (1024, 128)
    )  # fmt: skip
    np.testing.assert_allclose(tiled, whole, atol=1e-4)
    assert torch.from_numpy(whole).isfinite().all()
