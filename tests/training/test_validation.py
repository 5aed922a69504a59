"""Validation is repeatable, and on the protocol's bursts."""

from __future__ import annotations

import pytest
from training_runs import CONFIG, log_of

from kpn_cli.synthesis import protocol
from kpn_cli.training import validation
from kpn_cli.training.run import TrainingRun


def test_validation_has_a_figure_for_each_set_and_gain(whole):
    table = log_of(whole)[-1]["table"]
    assert set(table) == {"shifted", "static", "bracket"}
    for row in table.values():
        assert list(row) == [str(gain) for gain in protocol.GAINS]
        figures = list(row.values())
        assert all(5 < figure < 80 for figure in figures)
        assert figures == sorted(figures, reverse=True)


def test_validation_is_repeatable_and_leaves_the_network_in_training(scenes, tmp_path):
    run = TrainingRun(tmp_path, CONFIG)
    tables = [
        validation.validate(
            run.network, validation.validation_bursts(scenes, CONFIG.data), run.device, run.dtype
        )
        for _ in range(2)
    ]
    assert tables[0] == tables[1]
    assert run.network.training


def test_validation_bursts_follow_the_protocol(scenes):
    sets = validation.validation_bursts(scenes, CONFIG.data)
    for name, gains in sets.items():
        for gain, bursts in gains.items():
            assert len(bursts) == len(scenes)
            for burst, white in zip(bursts, protocol.WHITE_LEVELS, strict=False):
                assert burst.burst.shape == (1, 8, 4, 16, 16)
                assert float(burst.white) == white
                shot, read = (value.reshape(-1, 4)[0, 0] for value in (burst.shot, burst.read))
                assert float(shot) == pytest.approx(protocol.GAINS[gain][0])
                noise = burst.burst - burst.target[:, None]
                expected = (shot * burst.target.mean() + read).item()
                if name == "static":  # else the frames differ by more than noise
                    assert noise.var().item() == pytest.approx(expected, rel=0.2)


def test_frames_of_a_validation_bracket_have_the_brightness_of_the_reference(scenes):
    bursts = validation.validation_bursts(scenes, CONFIG.data)["bracket"][0]
    for burst in bursts:
        assert burst.clip is not None
        assert set(burst.clip[0].tolist()) == {1, 4, 0.25}
        for frame, clip in zip(burst.burst[0], burst.clip[0], strict=True):
            unclipped = burst.burst[0, 0].amax(0) < 0.8 * clip
            ratio = frame[:, unclipped].mean() / burst.burst[0, 0][:, unclipped].mean()
            assert ratio.item() == pytest.approx(1, abs=0.2)  # what a shift changes
