"""What moves between the frames of a burst."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pictures import scene

from kpn_cli.synthesis import motion
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.motion import draw_angles, draw_object, draw_planes, draw_residual_shifts
from kpn_cli.synthesis.photos import scene_from_srgb

CONFIG = SynthConfig(cells=16)
#: Nothing left to chance but the place in the photo.
STILL = SynthConfig(
    cells=16, full=1, static=1, partly=0, rough=0, turning=0, softer=0, moving=0, parallax=0,
    torn=0, mixed=0, clipped=0, quantised=0, row_noise=0, defects=0, bracket=0, uneven=0,
    misjudged=0,
)  # fmt: skip


def test_on_a_tripod_all_frames_are_equal(scenes, rng):
    for _ in range(5):
        planes = draw_planes(scenes, rng, 8, STILL)
        assert planes.shape == (8, 4, 16, 16)
        assert planes.dtype == np.float32
        assert 0 <= planes.min() <= planes.max() <= 1
        assert (planes == planes[:1]).all()


def test_in_a_hand_held_burst_hardly_a_frame_equals_the_reference(scenes, rng):
    config = dataclasses.replace(STILL, static=0, failed=0, off_by_one=0)
    equal = [
        (frame == planes[0]).all()
        for planes in (draw_planes(scenes, rng, 8, config) for _ in range(5))
        for frame in planes[1:]
    ]
    # A shift of zero photo pixels out of 5 x 5 is drawn now and then.
    assert np.mean(equal) < 0.15


def test_partly_aligned_bursts_have_exactly_aligned_and_shifted_frames(scenes, rng):
    config = dataclasses.replace(STILL, static=0, partly=1, failed=0, off_by_one=0)
    equal = [
        (frame == planes[0]).all()
        for planes in (draw_planes(scenes, rng, 8, config) for _ in range(10))
        for frame in planes[1:]
    ]
    assert 0.3 < np.mean(equal) < 0.8


def test_residual_shifts_keep_frames_alike_and_failures_do_not(scenes, rng):
    def unlikeness(**changes):
        config = dataclasses.replace(STILL, static=0, **changes)
        bursts = [draw_planes(scenes, rng, 8, config) for _ in range(8)]
        return np.mean([np.abs(burst[1:] - burst[:1]).mean() for burst in bursts])

    close = unlikeness(failed=0, off_by_one=0)
    assert close < 0.6 * unlikeness(failed=1, off_by_one=0)
    assert close < 0.8 * unlikeness(failed=0, off_by_one=1)


def test_patches_of_the_smallest_photo_do_not_leave_it(rng):
    side = CONFIG.photo_pixels
    smallest = [scene(0, side, side)]
    for _ in range(20):
        planes = draw_planes(smallest, rng, 2, dataclasses.replace(STILL, softer=0.5))
        # Mirrored pictures repeat their rows or columns about the border.
        assert len(np.unique(planes[0, 0], axis=0)) == 16
        assert len(np.unique(planes[0, 0], axis=1).T) == 16


def test_a_moving_object_changes_a_static_burst_in_places(scenes):
    config = dataclasses.replace(STILL, moving=1)
    shares = []
    for seed in range(20):
        planes = draw_planes(scenes, np.random.default_rng(seed), 8, config)
        assert 0 <= planes.min() <= planes.max() <= 1
        shares.append(np.mean(planes != planes[:1]))
    assert 0.05 < np.mean(shares) < 0.8


def test_a_near_layer_shifts_against_the_far_one_as_a_whole(scenes):
    tripod = dataclasses.replace(STILL, parallax=1)
    planes = draw_planes(scenes, np.random.default_rng(0), 8, tripod)
    assert (planes == planes[:1]).all()  # the camera has not moved
    config = dataclasses.replace(tripod, static=0, partly=1, failed=0, off_by_one=0)
    changed = []
    for seed in range(10):
        planes = draw_planes(scenes, np.random.default_rng(seed), 8, config)
        changed += list((planes[1:] != planes[:1]).any(1).mean((1, 2)))
    # Half of the frames are aligned to the far layer, and differ in the near one only,
    # unless it fills the patch or lies just beside it.
    assert 0.25 < np.mean([0.05 < share < 0.95 for share in changed]) < 0.6


def shown(monkeypatch, shifts, way=None):
    """Frames of a photo under known shifts and, if it is given, all covered by an object."""
    count = len(shifts)
    monkeypatch.setattr(motion, "draw_residual_shifts", lambda *_: np.array(shifts, float))
    config = dataclasses.replace(STILL, cells=40, moving=way is not None)
    if way is not None:
        covered = np.ones((count, 4, 40, 40), np.float32)
        monkeypatch.setattr(motion, "draw_object", lambda *_: (np.array(way, float), covered))
    return draw_planes([scene(3, 400, 400)], np.random.default_rng(0), count, config)


def over(frame, down, right):
    """What a frame shows so many cells further, in the middle."""
    return frame[:, 8 + down : 32 + down, 8 + right : 32 + right]


def test_a_frame_shows_at_a_cell_what_the_photo_has_at_the_cell_plus_the_shift(monkeypatch):
    shifts = [(0, 0), (3, 0), (0, -2), (-5, 4)]
    frames = shown(monkeypatch, shifts)
    for frame, (down, right) in zip(frames, shifts, strict=True):
        np.testing.assert_array_equal(over(frame, 0, 0), over(frames[0], down, right))
    assert not np.array_equal(over(frames[0], 0, 0), over(frames[0], 2, 0))


def test_the_texture_of_an_object_moves_with_it(monkeypatch):
    """It goes its way over the scene, and the camera its own."""
    shifts, way = [(0, 0), (0, 0), (2, 1), (-1, 3)], [(0, 0), (3, -4), (0, 0), (4, 2)]
    frames = shown(monkeypatch, shifts, way)
    for frame, shift, (down, right) in zip(frames, shifts, way, strict=True):
        moved = over(frames[0], shift[0] - down, shift[1] - right)
        np.testing.assert_allclose(over(frame, 0, 0), moved, atol=1e-6)


# --- how far, how often -----------------------------------------------------


def drawn(bursts=1500, **changes):
    """Shifts of many bursts, but the references', `(bursts, 7, 2)`."""
    nothing = {"static": 0, "partly": 0, "rough": 0, "failed": 0, "off_by_one": 0}
    config = dataclasses.replace(SynthConfig(), **nothing | changes)
    seeds = range(bursts)
    return np.stack([draw_residual_shifts(np.random.default_rng(n), 8, config)[1:] for n in seeds])


def on_grid(shifts):
    return shifts * 4 == np.round(shifts * 4)


@pytest.mark.parametrize(("rough", "reach"), [(0, 0.5), (1, 1.5)])
def test_residual_shifts_are_uniform_over_their_range(rough, reach):
    shifts = drawn(rough=rough)
    for axis in (0, 1):
        one = shifts[..., axis]
        assert reach * 0.99 < one.max() <= reach
        assert -reach <= one.min() < -reach * 0.99
        assert np.abs(one).mean() == pytest.approx(reach / 2, rel=0.05)
    assert abs(np.corrcoef(shifts[..., 0].ravel(), shifts[..., 1].ravel())[0, 1]) < 0.05


def test_most_bursts_shift_by_whole_photo_pixels_and_others_do_not():
    whole = on_grid(drawn()).all((1, 2))
    assert whole.mean() == pytest.approx(0.7, abs=0.04)
    fractions = drawn()[~whole]
    assert on_grid(fractions).mean() < 0.01


def test_tripods_and_exactly_aligned_frames_are_as_frequent_as_configured():
    static = ~drawn(static=0.3).any((1, 2))
    assert static.mean() == pytest.approx(0.3, abs=0.04)
    exact = ~drawn(partly=1).any(2)
    by_chance = 0.7 / 16  # rounded to zero both ways: half a pixel of two each
    assert exact.mean() == pytest.approx(0.5 + 0.5 * by_chance, abs=0.03)


def test_off_by_one_errors_are_whole_cells():
    errors = drawn(off_by_one=1) - drawn()  # the same random numbers but for the last
    np.testing.assert_allclose(errors, np.round(errors), atol=1e-12)
    assert {*np.unique(np.round(errors))} == {-1, 0, 1}
    assert errors.any(2).mean() == pytest.approx(8 / 9, abs=0.02)
    seldom = drawn(off_by_one=0.2) - drawn()
    assert seldom.any(2).mean() == pytest.approx(0.2 * 8 / 9, abs=0.02)


def test_failed_alignments_are_uniform_up_to_the_largest_failure():
    shifts = drawn(failed=1)
    limit = SynthConfig().failure
    assert limit == 12
    assert limit * 0.99 < np.abs(shifts).max() <= limit
    assert np.abs(shifts).mean() == pytest.approx(limit / 2, rel=0.05)
    assert (np.abs(drawn(failed=0.1)) > 0.5).any(2).mean() == pytest.approx(0.1, abs=0.02)


def test_bursts_rotate_as_often_as_configured_and_by_up_to_half_a_degree():
    rng, config = np.random.default_rng(2), SynthConfig()
    shifts = np.ones((8, 2))
    shifts[0] = 0
    angles = np.degrees([draw_angles(rng, shifts, config) for _ in range(2000)])
    assert (angles[:, 0] == 0).all()
    turned = angles[:, 1:].any(1)
    assert turned.mean() == pytest.approx(config.turning, abs=0.03)
    assert 0.49 < angles.max() <= 0.5
    assert -0.5 <= angles.min() < -0.49
    assert np.abs(angles[turned, 1:]).mean() == pytest.approx(0.25, rel=0.05)


def test_a_frame_is_rotated_by_the_angle_drawn(monkeypatch):
    """About the middle: what lay 15 cells beside it goes up or down by the angle's sine."""
    angle = 0.1
    monkeypatch.setattr(motion, "draw_residual_shifts", lambda *_: np.zeros((2, 2)))
    monkeypatch.setattr(motion, "draw_angles", lambda *_: np.array([0, angle]))
    config = dataclasses.replace(STILL, cells=41)
    still, turned = draw_planes([scene(3, 400, 400)], np.random.default_rng(0), 2, config)[:, 1]
    steps = []
    for column in (5, 35):
        part = turned[16:25, column - 1 : column + 2]
        errors = [
            np.abs(part - still[16 + d : 25 + d, column - 1 : column + 2]).mean()
            for d in range(-4, 5)
        ]
        steps.append(int(np.argmin(errors)) - 4)
    assert abs(steps[1] - steps[0]) == pytest.approx(30 * np.sin(angle), abs=1)


def test_objects_are_sometimes_missing_from_frames():
    covered = np.array(
        [
            draw_object(np.random.default_rng(n), (200, 200), np.zeros(8), np.zeros((8, 2)))[1]
            .any((1, 2, 3))
            for n in range(300)
        ]
    )  # fmt: skip
    some = covered.any(1) & ~covered.all(1)
    assert some.mean() == pytest.approx(0.3, abs=0.06)
    assert covered[some].mean() == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("size", [(16, 16), (12, 40)])
def test_an_object_covers_a_part_of_frames_of_any_size(size):
    covered = []
    for seed in range(20):
        way, mask = draw_object(np.random.default_rng(seed), size, np.arange(3), np.zeros((3, 2)))
        assert way.shape == (3, 2)
        assert mask.shape == (3, 4, *size)
        assert 0 <= mask.min() <= mask.max() <= 1
        covered.append(mask.mean())
    assert 0.02 < np.mean(covered) < 0.6


def test_an_object_moves_steadily_over_the_scene_and_the_scene_over_the_frame():
    """The middle of its outline goes by its way less the camera's, up to the quarter cell."""
    camera = np.array([[0, 0], [3, -2], [-4, 5.0]])
    for seed in range(10):
        rng = np.random.default_rng(seed)
        way, mask = draw_object(rng, (200, 200), np.arange(3), camera)
        np.testing.assert_allclose(np.diff(way, axis=0)[0], np.diff(way, axis=0)[1], atol=0.26)
        if not mask.any((1, 2, 3)).all() or mask[:, :, [0, -1]].any() or mask[..., [0, -1]].any():
            continue  # appears, vanishes or leaves the frame
        grid = np.mgrid[:200, :200]
        middles = [[(axis * m[0]).sum() / m[0].sum() for axis in grid] for m in mask]
        moved = np.array(middles) - middles[0]
        np.testing.assert_allclose(moved, way - way[0] - camera, atol=0.3)


def test_exactly_aligned_frames_are_not_rotated(scenes, rng):
    config = dataclasses.replace(STILL, static=0, partly=1, turning=1, failed=0, off_by_one=0)
    equal = [
        (frame == planes[0]).all()
        for planes in (draw_planes(scenes, rng, 8, config) for _ in range(10))
        for frame in planes[1:]
    ]
    assert 0.3 < np.mean(equal) < 0.7


def test_a_torn_frame_is_correct_on_one_side(scenes):
    shaky = dataclasses.replace(STILL, static=0, failed=0, off_by_one=0)
    partly_equal = 0
    for seed in range(10):
        torn, whole = (
            draw_planes(scenes, np.random.default_rng(seed), 2, dataclasses.replace(shaky, torn=t))
            for t in (1, 0)
        )
        assert np.array_equal(torn[0], whole[0])
        partly_equal += 0 < np.mean(torn[1] == whole[1]) < 1
    assert partly_equal >= 8  # else it was torn by no cells at all


def test_other_colours_are_mixed_before_the_mosaic_is_sampled(scenes):
    """White stays white, grey grey; a pure red photo shows in the other planes."""
    red = scene_from_srgb("red", np.full((120, 120, 3), (255, 0, 0), np.uint8))
    matrix = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]])
    planes = draw_planes([red], np.random.default_rng(0), 2, STILL, matrix)
    for plane, expected in zip(planes[0], (0.7, 0.2, 0.2, 0.1), strict=True):
        np.testing.assert_allclose(plane, expected, atol=1e-4)
    grey = scene_from_srgb("grey", np.full((120, 120, 3), 128, np.uint8))
    plain, mixed = (
        draw_planes([grey], np.random.default_rng(0), 2, STILL, m) for m in (None, matrix)
    )
    np.testing.assert_allclose(mixed, plain, atol=1e-4)


def test_the_identity_matrix_changes_no_colours(scenes):
    """The part that is cut out for mixing holds all that the frames see, mirrored borders too."""
    config = dataclasses.replace(CONFIG, torn=1, turning=1, failure=6.0)
    for seed in range(20):
        plain, same = (
            draw_planes(scenes, np.random.default_rng(seed), 4, config, m)
            for m in (None, np.eye(3))
        )
        np.testing.assert_allclose(same, plain, atol=1.5 / 65535)
