"""Weight files: what is written is read, and what is not ours is refused with a reason."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kpn_cli.errors import KpnError
from kpn_cli.network import weights
from kpn_cli.network.kpn import KPN, KPNConfig
from kpn_cli.network.weights import (
    in_current_fields,
    load_tensors,
    load_weights,
    save_tensors,
    save_weights,
)

RECIPE = {"photos": 3, "train": {"rate": 1e-3}, "name": "Öl"}


@pytest.fixture
def path(tmp_path, tiny_network):
    save_weights(tmp_path / "kpn.safetensors", tiny_network, RECIPE)
    return tmp_path / "kpn.safetensors"


def rewrite(path, tensors=None, **header):
    """Write a file again with other tensors or other (raw) header entries."""
    with weights.safe_open(path, framework="pt") as file:
        entries = json.loads(file.metadata()["kpn-1"])
    parts = {key: json.dumps(value) for key, value in entries.items()} | header
    text = ", ".join(f'"{key}": {value}' for key, value in parts.items() if value is not None)
    save_file(tensors or load_file(path), path, {"kpn-1": f"{{{text}}}"})


def config_with(**changes):
    config = {"frames": 8, "kernel": 5, "widths": [8, 8], "head": 8}
    return json.dumps(config | changes)


# --- round trips ------------------------------------------------------------


def test_a_network_is_read_as_it_was_written(path, tiny_network):
    network, recipe = load_weights(path)
    assert recipe == RECIPE
    assert network.config == tiny_network.config
    before, after = tiny_network.state_dict(), network.state_dict()
    assert list(before) == list(after)
    for name, value in before.items():
        assert torch.equal(after[name], value), name


def test_a_network_that_was_read_gives_the_same_kernels(path, tiny_network):
    burst, noise = torch.rand(1, 8, 4, 9, 10), torch.full((1, 4), 1e-3)
    with torch.no_grad():
        expected = tiny_network(burst, noise, noise)
        found = load_weights(path)[0](burst, noise, noise)
    torch.testing.assert_close(tuple(found), tuple(expected), rtol=1e-5, atol=1e-6)


def test_the_same_network_and_recipe_are_the_same_bytes(path, tmp_path, tiny_network):
    save_weights(tmp_path / "again.safetensors", tiny_network, RECIPE)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_network_that_was_read_is_ready_for_use(path):
    network, _ = load_weights(path)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_memory_layout_does_not_change_the_file(path, tmp_path, tiny_network):
    turned = tiny_network.to(memory_format=torch.channels_last)
    save_weights(tmp_path / "other.safetensors", turned, RECIPE)
    before, after = load_file(path), load_file(tmp_path / "other.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text()
            | st.floats(allow_nan=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)  # fmt: skip
def test_any_json_fits_into_the_header(tmp_path, header):
    tensors = {"a.b": torch.arange(6.0).view(2, 3), "empty": torch.zeros(0)}
    save_tensors(tmp_path / "x.safetensors", tensors, header)
    found, again = load_tensors(tmp_path / "x.safetensors")
    assert again == header
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert torch.equal(found[name], value)


# --- refusals ---------------------------------------------------------------


def refused(path, match):
    with pytest.raises(KpnError, match=match) as caught:
        load_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_refused_wherever_it_was_cut(path, share):
    content = path.read_bytes()
    cut = path.with_name("cut.safetensors")
    cut.write_bytes(content[: int(share * len(content))])
    refused(cut, "damaged or not weights|cannot be read")


def test_a_missing_file_is_refused(tmp_path):
    refused(tmp_path / "none.safetensors", "cannot be read .*No such file")


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, "cannot be read|damaged")


def test_a_pickled_checkpoint_is_refused_unopened(tmp_path, tiny_network):
    torch.save(tiny_network.state_dict(), tmp_path / "kpn.pth")
    refused(tmp_path / "kpn.pth", "damaged or not weights")


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"kpn-99": "{}"}])
def test_another_program_s_safetensors_are_refused(tmp_path, metadata):
    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors", metadata)
    refused(tmp_path / "foreign.safetensors", "not weights of kpn")


def test_a_file_far_too_large_is_refused_unread(path):
    with pytest.raises(KpnError, match="too large"):
        load_tensors(path, max_bytes=100)


def test_a_misspelt_key_of_the_shape_is_refused_and_named(path):
    rewrite(path, config=config_with(kernal=3))
    refused(path, "kernal.*update kpn")


def test_a_missing_shape_is_refused(path):
    rewrite(path, config=None)
    refused(path, "another version")


@pytest.mark.parametrize("config", ["{", "[1, 2]", '"8"', "null", "", "nonsense"])
def test_a_header_that_is_no_shape_is_refused(path, config):
    rewrite(path, config=config)
    refused(path, "another version|damaged")


@pytest.mark.parametrize(
    "changes",
    [
        {"frames": "8"},
        {"frames": None},
        {"frames": 8.5},
        {"frames": -1},
        {"kernel": 4},
        {"widths": 8},
        {"widths": []},
        {"widths": ["wide"]},
        {"head": [8]},
        {"frames": 10**9},
        {"head": 10**12},
        {"head": 10**30},
        {"widths": [10**10, 8]},
    ],
)
def test_an_impossible_shape_is_refused(path, changes):
    rewrite(path, config=config_with(**changes))
    refused(path, "choose another file|does not fit")


@pytest.mark.parametrize("changes", [{"frames": 4}, {"head": 4}, {"widths": [8, 8, 8]}])
def test_tensors_of_another_shape_than_the_header_says_are_refused(path, changes):
    rewrite(path, config=config_with(**changes))
    refused(path, "does not fit")


def test_missing_and_additional_tensors_are_refused(path):
    tensors = load_file(path)
    rewrite(path, tensors | {"surprise": torch.zeros(1)})
    refused(path, "does not fit.*surprise")
    del tensors["head_bias"]
    rewrite(path, tensors)
    refused(path, "does not fit.*head_bias")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(path, value):
    tensors = load_file(path)
    tensors["head_bias"][3] = value
    rewrite(path, tensors)
    refused(path, "not numbers")


def test_a_recipe_of_the_wrong_kind_does_no_harm(path):
    rewrite(path, recipe="[1]")
    assert load_weights(path)[1] == {}


# --- writing ----------------------------------------------------------------


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, tiny_network, monkeypatch):
    before = path.read_bytes()

    def fail(self, content):
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "write_bytes", fail)
    with pytest.raises(KeyboardInterrupt):
        save_weights(path, tiny_network, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_writing_replaces_what_was_there(path, tiny_config):
    torch.manual_seed(9)
    other = KPN(tiny_config)
    save_weights(path, other, {"second": True})
    network, recipe = load_weights(path)
    assert recipe == {"second": True}
    assert torch.equal(network.head_weight, other.head_weight)


def test_a_missing_folder_is_an_error_for_the_user(tmp_path, tiny_network):
    with pytest.raises(KpnError, match="gone"):
        save_weights(tmp_path / "gone" / "kpn.safetensors", tiny_network, {})


def test_the_defaults_of_the_shape_are_those_of_the_class(path):
    """A file written before a key existed reads as the default, but for what was new then."""
    before = KPNConfig(widths=(8, 8), head=8, **in_current_fields({}))
    save_weights(path, KPN(before), {})
    rewrite(path, config='{"widths": [8, 8], "head": 8}')
    assert load_weights(path)[0].config == before


def test_files_that_say_no_noise_ratios_are_read(path):
    """Networks never have them now; a network that was trained with them cannot be run."""
    config = KPNConfig(widths=(8, 8), head=8)
    save_weights(path, KPN(config), {})
    shape = {"widths": [8, 8], "head": 8, "wide": True, "scales": 2}
    rewrite(path, config=json.dumps(shape | {"noise_ratios": False}))
    assert load_weights(path)[0].config == config
    rewrite(path, config=json.dumps(shape | {"noise_ratios": True}))
    with pytest.raises(KpnError, match="no longer has; train again"):
        load_weights(path)
