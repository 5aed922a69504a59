"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from clusters import two_workers, wait_for_workers
from hypothesis import settings
from pictures import scene

from kpn_cli.network.kpn import KPN, KPNConfig
from kpn_cli.network.precision import in_precision
from kpn_cli.network.weights import load_weights, save_weights
from kpn_cli.synthesis import demo
from kpn_cli.synthesis.photos import Scene
from kpn_cli.system.device import cpu_features

# The same examples in each run (a failure is then about the change at hand), and
# no deadline: on a busy machine time says nothing.
settings.register_profile("kpn", deadline=None, derandomize=True, max_examples=40)
settings.load_profile("kpn")

# The tests' pictures are so small that a second thread costs more than it brings.
torch.set_num_threads(1)

# Neither are defaults of whoever runs the tests.
os.environ["KPN_CONFIG"] = "none"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory) -> Iterator[None]:
    """Keep what kpn remembers between runs out of the user's folder for caches, on Linux."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def cluster_of_module() -> Iterator[object]:
    with two_workers() as cluster:
        yield cluster


@pytest.fixture
def dask_cluster(cluster_of_module):
    """Two workers of a Dask cluster; its `scheduler_address` is for `--dask`."""
    wait_for_workers(lambda: len(cluster_of_module.scheduler.workers))
    return cluster_of_module


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def scenes() -> list[Scene]:
    """Two random photos, large enough for patches of 16 cells."""
    return [scene(1, 120, 140), scene(2, 140, 120)]


@pytest.fixture(scope="session")
def tiny_config() -> KPNConfig:
    return KPNConfig(widths=(8, 8), head=8)


@pytest.fixture(scope="session")
def weights(tmp_path_factory, tiny_config) -> Path:
    """A file of a tiny network that begins as all do: with the robust mean."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, KPN(tiny_config), {})
    return path


@pytest.fixture(scope="session")
def averaging(tmp_path_factory, tiny_config) -> Path:
    """An untrained network: it returns the robust mean, which for one frame is that frame."""
    network = KPN(tiny_config)
    with torch.no_grad():
        network.head_weight.zero_()
    path = tmp_path_factory.mktemp("weights") / "averaging.safetensors"
    save_weights(path, network, {})
    return path


@pytest.fixture
def tiny_network(tiny_config: KPNConfig) -> KPN:
    """A network of two levels whose head has moved away from its timid start."""
    torch.manual_seed(0)
    network = KPN(tiny_config).eval()
    with torch.no_grad():
        network.head_weight.mul_(100)
        network.head_bias.normal_(0, 0.1)
        network.mix_weight.normal_(0, 0.1)
        network.mix_bias.normal_(0, 0.1)
    return network


@pytest.fixture(scope="session", params=["fp32", "int8"])
def shipped_network(request) -> KPN:
    """The network that ships, in floating point and, where the runtime is installed, in int8."""
    return shipped_in(request.param)


@pytest.fixture(scope="session")
def shipped_int8() -> KPN:
    """The network that ships in int8."""
    return shipped_in("int8")


@cache
def shipped_in(name: str) -> KPN:
    if name == "int8":
        pytest.importorskip("openvino", reason="int8 needs OpenVINO (pip install openvino)")
        if not cpu_features().integer_products:
            pytest.skip("int8 needs a CPU with VNNI")
    network, precision = in_precision(load_weights()[0], name)
    assert precision.name == name, precision.note
    return network


@pytest.fixture(scope="module")
def burst(tmp_path_factory) -> tuple[list[Path], Path]:
    """A hand-held burst of a part of a real picture at gain 2, and its truth."""
    whole = demo.bundled_scene()
    part = Scene("part", np.ascontiguousarray(whole.channels[:, 300:620, 400:780]))
    return demo.write_demo_burst(part, tmp_path_factory.mktemp("burst"), frames=5)
