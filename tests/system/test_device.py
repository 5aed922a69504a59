"""The precision is chosen by the hardware's features."""

from __future__ import annotations

import pytest
import torch

from kpn_cli.errors import KpnError
from kpn_cli.system.device import cpu_features, float_precision

CPU = torch.device("cpu")


def with_capabilities(monkeypatch, **flags):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)


def test_bf16_is_chosen_where_the_cpu_has_amx(monkeypatch):
    with_capabilities(monkeypatch, avx512_bf16=True, amx_bf16=True)
    chosen = float_precision("auto", CPU)
    assert (chosen.name, chosen.dtype) == ("bf16", torch.bfloat16)
    assert "AMX" in chosen.reason


@pytest.mark.parametrize("flags", [{}, {"avx512_bf16": True}, {"bf16": True}, {"amx_int8": True}])
def test_without_amx_fp32_is_chosen_whatever_else_the_cpu_has(monkeypatch, flags):
    with_capabilities(monkeypatch, **flags)
    chosen = float_precision("auto", CPU)
    assert (chosen.name, chosen.dtype) == ("fp32", torch.float32)
    assert "no AMX" in chosen.reason


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_precision_given_by_the_user_is_used(name):
    assert float_precision(name, CPU).name == name
    assert float_precision(name, CPU).reason == "as given"


def test_an_unknown_precision_is_refused_with_the_known_ones():
    with pytest.raises(KpnError, match="int4: unknown; choose one of auto, fp32, bf16"):
        float_precision("int4", CPU)


@pytest.mark.parametrize(
    ("limit", "amx", "integers"),
    [
        ("", True, True),
        ("DEFAULT", True, True),
        ("avx512_core_amx", True, True),
        ("AVX512_CORE_BF16", False, True),
        ("AVX2_VNNI", False, True),
        ("AVX512_CORE", False, False),
        ("AVX2", False, False),
    ],
)
def test_instructions_that_the_user_hides_are_not_counted_on(monkeypatch, limit, amx, integers):
    with_capabilities(monkeypatch, amx_bf16=True, avx512_vnni=True)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    features = cpu_features()
    assert (features.amx, features.integer_products) == (amx, integers)
