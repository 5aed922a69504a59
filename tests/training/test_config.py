"""Schedules, settings and ablations."""

from __future__ import annotations

import dataclasses

import pytest

from kpn_cli.errors import KpnError
from kpn_cli.training.config import VARIANTS, TrainConfig, with_variant
from kpn_cli.training.losses import LossConfig


def test_a_constant_rate_falls_to_zero_over_a_cooldown():
    config = TrainConfig(patches=16_000, batch=16, rate=1e-3, schedule="constant", cooldown=8_000)
    assert config.rate_at(499) == config.rate_at(500) == 1e-3
    assert config.rate_at(750) == pytest.approx(5e-4)
    assert config.rate_at(999) == pytest.approx(2e-6)


def test_the_rate_rises_through_the_warm_up_then_falls_to_a_hundredth():
    config = TrainConfig(patches=160_000, batch=16, rate=1e-3)
    rates = [config.rate_at(step) for step in range(config.steps + 1)]
    assert rates[0] == pytest.approx(1e-3 / 200)
    assert max(rates) == pytest.approx(1e-3, rel=2e-3)
    top = rates.index(max(rates))
    assert 190 <= top <= 200
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5)
    assert config.rate_at(10 * config.steps) == rates[-1]


def test_the_per_frame_terms_are_gone_after_a_twentieth_of_the_run():
    config = TrainConfig(patches=160_000, batch=16)
    end = config.steps // 20
    assert config.loss.anneal_weight(0) == LossConfig.anneal
    assert config.loss.anneal_weight(end - 10) > 0
    assert config.loss.anneal_weight(end + 1) == 0


def test_a_given_loss_is_kept():
    loss = LossConfig(decay=0.5)
    assert TrainConfig(loss=loss).loss is loss


def test_the_number_of_steps_is_rounded_up():
    assert TrainConfig(patches=33, batch=16).steps == 3
    assert TrainConfig(patches=1, batch=16).steps == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"patches": 0},
        {"batch": 0},
        {"rate": 0},
        {"rate": -1.0},
        {"average": 1.0},
        {"average": -0.1},
        {"save_every": 0},
        {"validate_every": 0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(KpnError, match="training"):
        TrainConfig(**wrong)


@pytest.mark.parametrize("anneal", [1e-9, 0.0005, 0.001])
def test_an_annealing_weight_without_effect_is_refused(anneal):
    assert LossConfig(anneal=0.0).anneal_weight(0) == 0
    assert LossConfig(anneal=2 * anneal + 0.001).anneal_weight(0) > 0
    with pytest.raises(KpnError, match="has no effect"):
        LossConfig(anneal=anneal)


def test_a_constant_rate_stays():
    config = TrainConfig(patches=160_000, batch=16, rate=1e-3, schedule="constant")
    assert config.rate_at(0) == pytest.approx(1e-3 / 200)
    assert {config.rate_at(step) for step in (200, 5000, 10_000, 10**6)} == {1e-3}


def test_an_unknown_schedule_is_refused():
    with pytest.raises(KpnError, match="cosine or constant"):
        TrainConfig(schedule="linear")


def test_ablations_differ_from_the_network_in_one_thing_each():
    config = TrainConfig()
    assert with_variant(config, "kpn") == config
    direct, single, noanneal, blind = (with_variant(config, v) for v in VARIANTS[1:])
    assert direct.network == dataclasses.replace(config.network, output="pixels")
    assert not direct.network.wide and not direct.network.scales
    assert single.network.frames == single.data.frames == 1
    assert noanneal == dataclasses.replace(
        config, loss=dataclasses.replace(config.loss, anneal=0.0)
    )
    assert blind.network == dataclasses.replace(config.network, blind=True)
    for variant in (direct, single, noanneal, blind):
        same = {"network": config.network, "data": config.data, "loss": config.loss}
        assert dataclasses.replace(variant, **same) == config
    with pytest.raises(KpnError, match="variant paper"):
        with_variant(config, "paper")
