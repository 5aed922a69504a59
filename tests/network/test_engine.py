"""The U-Net by OpenVINO equals torch's, and every way in which it cannot run ends in a line."""

from __future__ import annotations

import signal
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from quantised import bursts_of, channels_of, in_integers

from kpn_cli.errors import KpnError
from kpn_cli.network import engine, precision, quantisation
from kpn_cli.network.kpn import KPN
from kpn_cli.network.precision import in_precision
from kpn_cli.network.weights import load_weights
from kpn_cli.system import device
from kpn_cli.system.device import CpuFeatures

VNNI = CpuFeatures(is_x86=True, amx=False, integer_products=True)


def runtime() -> None:
    pytest.importorskip("openvino", reason="int8 needs OpenVINO (pip install openvino)")


@pytest.fixture
def ranged_network(tiny_network) -> KPN:
    tiny_network.ranges = quantisation.record_ranges(tiny_network, bursts_of(tiny_network.config))
    return tiny_network.requires_grad_(False)


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    """A CPU without AMX that has integer arithmetic, whatever this machine has."""
    for module in (precision, device):
        monkeypatch.setattr(module, "cpu_features", lambda: VNNI)


# --- the runtime computes the network ---------------------------------------


def test_in_floating_point_the_runtime_equals_torch(ranged_network):
    runtime()
    channels = channels_of(ranged_network)
    with torch.inference_mode():
        found = engine.UNet(ranged_network, None)(channels)
        torch.testing.assert_close(found, ranged_network.unet(channels), atol=1e-5, rtol=1e-5)


def test_extra_blocks_of_the_runtime_equal_those_of_torch(tiny_config):
    runtime()
    torch.manual_seed(0)
    extra = (1,) * (len(tiny_config.widths) - 1) + (2,)
    network = KPN(replace(tiny_config, extra_blocks=extra)).eval()
    channels = channels_of(network)
    with torch.inference_mode():
        found = engine.UNet(network, None)(channels)
        torch.testing.assert_close(found, network.unet(channels), atol=1e-5, rtol=1e-5)


def test_in_integers_the_runtime_equals_the_same_rounding_in_torch(ranged_network):
    runtime()
    channels = channels_of(ranged_network, scaled=True)
    with torch.inference_mode():
        found = engine.UNet(ranged_network, ranged_network.ranges)(channels)
        expected = in_integers(ranged_network).unet(channels)
        plain = ranged_network.unet(channels_of(ranged_network))
    # A value between two integers may be rounded either way.
    rounding = (expected - plain).square().mean().sqrt()
    assert (found - expected).square().mean().sqrt() < 0.5 * rounding


def test_the_same_input_gives_the_same_bytes(ranged_network):
    runtime()
    burst = bursts_of(ranged_network.config)[0]
    with torch.inference_mode():
        ready = [in_precision(ranged_network, "int8")[0] for _ in range(2)]
        first, second, third = (network.encoded(*burst).features for network in (*ready, ready[0]))
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_a_picture_of_any_size_is_taken(ranged_network):
    runtime()
    ready, _ = in_precision(ranged_network, "int8")
    noise = torch.full((1, 4), 1e-4)
    for height, width in ((5, 9), (16, 16), (7, 30), (5, 9)):
        with torch.inference_mode():
            burst = torch.linspace(0, 0.5, width) + 0.01 * torch.randn(1, 8, 4, height, width)
            found = ready.encoded(burst, noise, noise).features
            plain = ranged_network.encoded(burst, noise, noise).features
        assert found.shape == plain.shape
        assert (found - plain).square().mean() < 0.1**2 * plain.square().mean()


def test_a_network_is_compiled_once_until_it_changes(ranged_network):
    runtime()
    first, second = (in_precision(ranged_network, "int8")[0].engine for _ in range(2))
    assert first is second
    with torch.no_grad():
        ranged_network.stem.weight.mul_(1.01)
    assert in_precision(ranged_network, "int8")[0].engine is not first


def test_a_network_that_was_made_in_inference_mode_is_taken(ranged_network):
    runtime()
    with torch.inference_mode():
        network = KPN(ranged_network.config).eval()
        network.load_state_dict(ranged_network.state_dict())
        network.ranges = ranged_network.ranges
        first, second = (in_precision(network, "int8")[0].engine for _ in range(2))
    assert first is second is not None


def test_a_tile_that_was_prepared_is_not_compiled_again(ranged_network, monkeypatch):
    runtime()
    ready, _ = in_precision(ranged_network, "int8")
    ready.engine.prepare(7, 30)
    monkeypatch.setattr(ready.engine, "_core", None)  # it would compile
    noise = torch.full((1, 4), 1e-4)
    with torch.inference_mode():
        ready.encoded(torch.rand(1, 8, 4, 7, 30), noise, noise)


def test_threads_that_share_a_network_get_the_results_of_their_own_pictures(ranged_network):
    runtime()
    ready, _ = in_precision(ranged_network, "int8")
    pictures = [channels_of(ranged_network, scaled=True) * factor for factor in (0.2, 0.5, 1, 0.1)]
    pictures = [picture.repeat(1, 1, 6, 6).contiguous() for picture in pictures]
    with torch.inference_mode():
        alone = [ready.engine(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, expected in zip(pool.map(ready.engine, pictures), alone, strict=True):
                assert torch.equal(found, expected)


def test_signals_are_handled_after_networks_were_dropped_in_the_order_of_their_making(
    ranged_network,
):
    runtime()
    first, second = (engine.UNet(ranged_network, ranged_network.ranges) for _ in range(2))
    # With a core each, the second would leave the freed signal stack of the first behind.
    assert first._core is second._core
    del first
    del second
    handled = []
    before = signal.signal(signal.SIGINT, lambda *_: handled.append(True))
    try:
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert handled


def test_a_runtime_that_fails_in_the_middle_of_a_picture_ends_in_a_line(
    ranged_network, monkeypatch
):
    runtime()
    ready, _ = in_precision(ranged_network, "int8")

    def fail(self, shape):
        raise RuntimeError("Exception from src/plugin.cpp:7:\nbroken primitive\n")

    monkeypatch.setattr(engine._Graph, "model", fail)
    with pytest.raises(KpnError, match=r"OpenVINO failed \(broken primitive\); use --precision"):
        ready.engine(torch.rand(1, channels_of(ranged_network).shape[1], 8, 24))


# --- fallbacks --------------------------------------------------------------


def test_small_pictures_take_floating_point_without_the_runtime(ranged_network, monkeypatch):
    monkeypatch.setattr(precision, "UNet", pytest.fail)
    small = precision.SMALLEST_FOR_INTEGERS - 1
    ready, chosen = in_precision(ranged_network, "auto", small)
    assert ready.engine is None and chosen.name in ("fp32", "bf16")
    assert "small picture" in chosen.reason and not chosen.note
    asked = []
    monkeypatch.setattr(precision, "UNet", lambda *_, half: asked.append(half))
    in_precision(ranged_network, "auto", small + 1)
    precision._compiled.clear()  # or it would not be compiled again
    in_precision(ranged_network, "int8", small)
    assert len(asked) == 2


def test_with_amx_integers_are_used_on_request_only(ranged_network, monkeypatch):
    amx = CpuFeatures(is_x86=True, amx=True, integer_products=True)
    for module in (precision, device):
        monkeypatch.setattr(module, "cpu_features", lambda: amx)
    made = []
    monkeypatch.setattr(precision, "UNet", lambda *_, half: made.append(half))
    ready, chosen = in_precision(ranged_network, "auto")
    assert ready.engine is None and (chosen.name, chosen.note) == ("bf16", "")
    assert "with AMX, bf16 is faster" in chosen.reason
    assert in_precision(ranged_network, "int8")[1].name == "int8"
    assert made == [True]


def test_the_network_that_is_given_is_left_as_it_is(ranged_network):
    runtime()
    ready, chosen = in_precision(ranged_network, "int8")
    assert (chosen.name, chosen.dtype, chosen.note) == ("int8", torch.float32, "")
    assert ready.engine is not None
    assert ranged_network.engine is None
    assert ready.stem.weight is ranged_network.stem.weight


def check_fallback(network, reason, noted_by_auto):
    for name, noted in (("int8", True), ("auto", noted_by_auto)):
        ready, chosen = in_precision(network, name)
        assert ready.engine is None
        assert chosen.name in ("fp32", "bf16")
        assert reason in chosen.reason
        assert (reason in chosen.note) is noted
        assert "\n" not in chosen.note


def test_without_the_runtime_floating_point_is_used(ranged_network, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    check_fallback(ranged_network, "OpenVINO is not installed", noted_by_auto=False)


def test_the_remedy_installs_the_runtime_on_every_kind_of_cpu(ranged_network, monkeypatch):
    """The extra is empty on CPUs where the runtime has not been tried."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(precision, "cpu_features", lambda: CpuFeatures(False, False, False))
    assert "(pip install openvino)" in in_precision(ranged_network, "int8")[1].note


@pytest.mark.parametrize(
    "error", [ImportError("libtbb.so: no such file"), OSError("x\ny"), SystemExit(3)]
)
def test_a_runtime_that_cannot_be_imported_is_told(ranged_network, monkeypatch, error):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "openvino":
                raise error

    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr("sys.meta_path", [Broken(), *sys.meta_path])
    check_fallback(ranged_network, "OpenVINO cannot be imported", noted_by_auto=True)


def test_a_runtime_that_lacks_what_is_used_is_told(ranged_network, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", types.ModuleType("openvino"))
    check_fallback(ranged_network, "OpenVINO failed", noted_by_auto=True)


def test_a_graph_that_cannot_be_compiled_is_told(ranged_network, monkeypatch):
    runtime()

    def fail(self, shape):
        raise RuntimeError("Exception from src/core.cpp:12:\ncannot compile\n")

    monkeypatch.setattr(engine._Graph, "model", fail)
    check_fallback(ranged_network, "OpenVINO failed (cannot compile)", noted_by_auto=True)


@pytest.mark.parametrize("spoil", ["halved", "in another order"])
def test_ranges_of_other_weights_are_told(spoil):
    runtime()
    network, _ = load_weights()
    generator = torch.Generator().manual_seed(1)
    for name, values in network.ranges.items():
        order = torch.randperm(len(values), generator=generator)
        network.ranges[name] = values / 2 if spoil == "halved" else values[order]
    ready, chosen = in_precision(network, "auto")
    assert ready.engine is None
    assert "by the activation ranges of the weight file" in chosen.note


def test_after_its_memory_was_released_the_runtime_gives_the_same_bytes(ranged_network):
    runtime()
    ready, _ = in_precision(ranged_network, "int8")
    channels = channels_of(ranged_network, scaled=True)
    with torch.inference_mode():
        before = ready.engine(channels)
        ready.engine.release_memory()
        assert torch.equal(ready.engine(channels), before)


@pytest.mark.parametrize("value", [0.0, float("nan"), 1e6])
def test_a_runtime_that_computes_nonsense_is_told(ranged_network, monkeypatch, value):
    runtime()
    monkeypatch.setattr(
        engine.UNet, "_run", lambda self, x: x.new_full((1, 8, *x.shape[2:]), value)
    )
    check_fallback(ranged_network, "wrong values", noted_by_auto=True)


def test_a_cpu_that_would_overflow_is_not_used(ranged_network, monkeypatch):
    monkeypatch.setattr(precision, "cpu_features", lambda: CpuFeatures(True, False, False))
    check_fallback(ranged_network, "VNNI", noted_by_auto=False)


def test_a_kind_of_cpu_that_was_not_tried_is_used_only_on_request(ranged_network, monkeypatch):
    runtime()
    monkeypatch.setattr(precision, "cpu_features", lambda: CpuFeatures(False, False, False))
    assert in_precision(ranged_network, "int8")[1].name == "int8"
    assert in_precision(ranged_network, "auto")[1].name == "fp32"


def test_a_network_without_ranges_runs_in_floating_point(tiny_network):
    check_fallback(tiny_network, "has no activation ranges", noted_by_auto=False)


def test_ranges_that_do_not_fit_are_told(tiny_network):
    tiny_network.ranges_fault = "stem: not a range around 0"
    check_fallback(tiny_network, "do not fit (stem: not a range", noted_by_auto=True)


def test_an_unknown_precision_is_refused(tiny_network):
    with pytest.raises(KpnError, match="int4: unknown"):
        in_precision(tiny_network, "int4")


def test_a_runtime_that_fails_is_tried_once(ranged_network, monkeypatch):
    tried = []

    def broken(*_, half):
        tried.append(half)
        raise engine.EngineError("OpenVINO failed (no such device)")

    monkeypatch.setattr(precision, "UNet", broken)
    reasons = [in_precision(ranged_network, "int8")[1].note for _ in range(2)]
    assert reasons[0] == reasons[1] != ""
    assert len(tried) == 1
