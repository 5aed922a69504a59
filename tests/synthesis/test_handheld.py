"""Whole bursts as a hand takes them."""

from __future__ import annotations

import numpy as np
import pytest

from kpn_cli.synthesis import handheld, protocol


def test_tripods_rotations_and_objects_are_as_frequent_as_documented(scenes, monkeypatch):
    pictures, objects = [], []

    def photograph_planes(scene, shifts, angles):
        pictures.append((shifts, np.degrees(angles)))
        return np.zeros((len(shifts), 4, 2, 2), np.float32)

    def draw_object(rng, size, when, camera):
        objects.append(camera)
        return np.zeros((len(when), 2)), np.zeros((len(when), 4, 2, 2), np.float32)

    monkeypatch.setattr(protocol, "photograph_planes", photograph_planes)
    monkeypatch.setattr(handheld, "draw_object", draw_object)
    still, moving, degrees = [], [], []
    for seed in range(600):
        pictures.clear()
        objects.clear()
        handheld.draw_handheld(scenes, seed % len(scenes), np.random.default_rng(seed), 5)
        shifts, turn = pictures[0]  # the object's picture comes second
        still.append(not shifts.any())
        moving.append(bool(objects))
        degrees.append(turn)
    still, moving, degrees = map(np.array, (still, moving, degrees))
    assert still.mean() == pytest.approx(0.15, abs=0.05)
    assert moving.mean() == pytest.approx(0.25, abs=0.05)
    turned = degrees.any(1)
    assert not (turned & (still | moving)).any()
    assert turned[~still & ~moving].mean() == pytest.approx(0.3, abs=0.06)
    assert (degrees[:, 0] == 0).all()
    assert 0.19 < degrees.max() <= 0.2
    assert -0.2 <= degrees.min() < -0.19
