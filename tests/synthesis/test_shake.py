"""Smear by shake during an exposure."""

from __future__ import annotations

import numpy as np
from pictures import scene

from kpn_cli.synthesis import protocol
from kpn_cli.synthesis.photos import Scene
from kpn_cli.synthesis.shake import smeared


def dot() -> Scene:
    channels = np.zeros((3, 41, 41), np.float32)
    channels[:, 20, 20] = 1
    return Scene("dot", channels)


def test_a_dot_becomes_a_line_of_the_path_s_length_around_the_dot():
    for path in ((8.0, 0.0), (0.0, 5.5), (3.0, -4.0), (0.4, 0.2)):
        picture = smeared(dot(), np.array(path)).channels[0].astype(float)
        assert abs(picture.sum() - 1) < 1e-5
        y, x = np.indices(picture.shape) - 20
        assert abs((picture * x).sum()) < 1e-4
        assert abs((picture * y).sum()) < 1e-4
        # A line has a twelfth of its squared length as variance; sharing samples adds up to 1/4
        # along each axis.
        variance = (picture * (x * x + y * y)).sum()
        assert 0 <= variance - np.hypot(*path) ** 2 / 12 < 0.55
        assert (picture * x * y).sum() * np.prod(path) >= 0


def test_a_scene_that_does_not_move_stays_the_same_to_the_bit():
    picture = scene(1, 100, 120)
    assert smeared(picture, np.zeros(2)) is picture


def test_only_frames_with_a_path_smear():
    shifts, shake = np.zeros((2, 2), int), np.array([[0.0, 0], [6, 2]])
    sharp, soft = protocol.photograph_planes(scene(1, 120, 140), shifts, shake=shake)
    np.testing.assert_array_equal(sharp, protocol.photograph_planes(scene(1, 120, 140), shifts)[0])
    assert np.diff(soft.astype(float)).std() < 0.8 * np.diff(sharp.astype(float)).std()
