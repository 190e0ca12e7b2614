"""Rotary frequencies: the same as transformers', and the shape of each rule."""

from __future__ import annotations

import math

import numpy as np
import pytest

from local_runtime.models.config import ModelConfig
from local_runtime.models.rope import inverse_frequencies
from tests.local_runtime.checkpoints import llama_config
from tests.local_runtime.parity_cases import PARITY_CASES, ParityCase, load_references

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def frequencies(head_dim: int = 64, **rope_parameters: object) -> np.ndarray:
    return inverse_frequencies(
        ModelConfig.from_dict(llama_config(head_dim=head_dim, rope_parameters=rope_parameters or None))
    )


@pytest.mark.parametrize("case", PARITY_CASES, ids=lambda case: case.name)
def test_frequencies_are_transformers(case: ParityCase) -> None:
    ours = inverse_frequencies(ModelConfig.from_dict(case.config))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, load_references()[case.name].inverse_frequencies, rtol=2e-7, atol=0)


@pytest.mark.parametrize("theta", [10000.0, 1000000.0])
@pytest.mark.parametrize("head_dim", [16, 64, 128])
def test_default_frequencies_follow_the_formula(head_dim: int, theta: float) -> None:
    expected = [theta ** (-2 * i / head_dim) for i in range(head_dim // 2)]
    np.testing.assert_allclose(frequencies(head_dim, rope_type="default", rope_theta=theta), expected, rtol=3e-7)


def test_linear_scaling_divides_every_frequency() -> None:
    plain = frequencies(rope_type="default", rope_theta=10000.0)
    np.testing.assert_allclose(frequencies(rope_type="linear", rope_theta=10000.0, factor=4.0), plain / 4, rtol=2e-7)


def test_llama3_scaling_divides_long_waves_keeps_short_ones_and_blends_between() -> None:
    plain = frequencies(128, rope_type="default", rope_theta=500000.0).astype(np.float64)
    ratio = frequencies(128, **LLAMA3) / plain
    wavelength = 2 * math.pi / plain
    np.testing.assert_allclose(ratio[wavelength < 8192 / 4], 1, rtol=1e-6)
    np.testing.assert_allclose(ratio[wavelength > 8192 / 1], 1 / 8, rtol=1e-6)
    between = (wavelength > 8192 / 4) & (wavelength < 8192 / 1)
    assert between.any()
    blend = (8192 / wavelength[between] - 1) / 3
    np.testing.assert_allclose(ratio[between], (1 - blend) / 8 + blend, rtol=1e-5)
