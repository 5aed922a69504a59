"""Fixtures that several files of this folder use."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from inspected_bursts import still, write_burst

from kpn_cli.network.kpn import KPN
from kpn_cli.network.weights import save_weights
from kpn_cli.synthesis.protocol import noise_of_gain


@pytest.fixture(scope="module")
def lively(tmp_path_factory, tiny_config) -> Path:
    """A tiny network whose kernels differ from tap to tap."""
    torch.manual_seed(0)
    network = KPN(tiny_config)
    with torch.no_grad():
        network.head_weight.mul_(30)
        network.head_bias.normal_(0, 0.02)
    path = tmp_path_factory.mktemp("lively") / "lively.safetensors"
    save_weights(path, network, {})
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> list[Path]:
    """Three frames of 48 x 60 cells."""
    folder = tmp_path_factory.mktemp("small") / "burst"
    return write_burst(folder, still(3, 48, 60), noise_of_gain(1))
