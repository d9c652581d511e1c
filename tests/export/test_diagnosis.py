"""Noise by layer: the decibels are those of the powers, and the layer that int8 hurts is named."""

import math

import numpy as np
import pytest

from slimscan_export.convert import float_tensors, saved_model
from slimscan_export.diagnosis import LOW_SQNR_DB, Diagnosis, LayerNoise, convert_partly, diagnose, noisiest, sqnr_db
from slimscan_export.repair import not_deployable


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(1.0, 1.0, 0.0), (1.0, 0.01, 20.0), (2.0, 1.0, 3.0103), (0.001, 1.0, -30.0), (1.0, 0.0, math.inf)],
)
def test_decibels_of_two_powers(signal, noise, expected):
    assert sqnr_db(signal, noise) == pytest.approx(expected, abs=1e-4)


def test_noise_without_a_signal_is_the_worst_there_is():
    assert sqnr_db(0.0, 1.0) == -math.inf
    assert sqnr_db(0.0, 0.0) == math.inf


def test_rounding_even_values_to_8_bits_gives_the_textbook_figure():
    """Values spread evenly over -1 to 1 have a power of 1/3, rounding them to steps of 1/128 one of 1/128^2 / 12."""
    values = np.linspace(-1, 1, 1_000_003)
    rounded = np.round(values * 128) / 128
    found = sqnr_db(float(np.mean(values**2)), float(np.mean((rounded - values) ** 2)))
    assert found == pytest.approx(20 * math.log10(256), abs=0.01)


def test_the_noisiest_comes_first_and_low_ones_are_called_out():
    layers = [
        LayerNoise(layer=name, operator="CONV_2D", tensor=f"x/{name}", sqnr_db=found)
        for name, found in (("stem", 40.0), ("", LOW_SQNR_DB - 10), ("head", LOW_SQNR_DB))
    ]
    diagnosis = Diagnosis(images=2, layers=tuple(layers))
    assert [found.name for found in diagnosis.worst_first] == ["CONV_2D x/", "head", "stem"]
    assert [found.name for found in diagnosis.called_out] == ["CONV_2D x/"]
    assert noisiest(diagnosis, most=2) == "CONV_2D x/ (10.0 dB), head (20.0 dB)"


@pytest.mark.slow
def test_every_layer_of_a_sound_network_is_named_and_well(exported):
    names = [found.layer for found in exported.diagnosis.layers]
    kernels = {
        layer.name for layer in exported.model.layers if hasattr(layer, "kernel") or layer.name.endswith("depthwise")
    }
    assert kernels <= set(names)
    assert set(exported.model.output_names) <= set(names)
    assert len(set(names)) == len(names)
    assert all(found.sqnr_db > LOW_SQNR_DB for found in exported.diagnosis.layers)


@pytest.mark.slow
def test_the_layer_whose_weights_were_rescaled_is_named_and_in_float_it_does_no_harm(exported, broken):
    """Its noise is its own: the layers after it, which take in what is left, are as good as they were."""
    from slimscan_bench.models import tflite_logits
    from slimscan_train.fit import predict_logits

    with saved_model(broken) as saved:
        diagnosis = diagnose(saved, broken, exported.calibration)
        worst, second = diagnosis.worst_first[:2]
        partly = convert_partly(saved, exported.calibration, [worst.tensor])
    assert worst.layer == "block5_pointwise"
    assert worst.sqnr_db < LOW_SQNR_DB < second.sqnr_db
    assert any("block5_pointwise" in name for name in float_tensors(partly))
    assert not_deployable(partly) == ""
    expected = predict_logits(exported.model, exported.pixels)
    in_int8 = np.abs(tflite_logits(exported.variants["int8"])(exported.pixels) - expected).max()
    assert np.abs(tflite_logits(partly)(exported.pixels) - expected).max() < 3 * in_int8
