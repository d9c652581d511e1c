"""Networks that have seen ImageNet, as teachers of small ones: what they see in photographs helps them on X-rays.

Each ends in the same evidence map as the small network, so that it can teach where it sees something
(`slimscan_train.distillation`).
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError, MachineError
from slimscan_train import efficientnet_lite

Pretrained = Literal["efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "mobilenet-v2", "resnet50-v2"]
LITE = "efficientnet-lite"
APPLICATIONS = {"mobilenet-v2": "MobileNetV2", "resnet50-v2": "ResNet50V2"}
"""Of `keras.applications`: those that take pixels from -1 to 1, have no dropout of their own, and whose last map has a
32nd of the picture's sides, as that of the small network."""


def build_pretrained(
    network: Pretrained,
    height: int,
    width: int,
    channels: int,
    *,
    outputs: int,
    dropout: float,
    batch_norm_momentum: float,
    seed: int = 0,
) -> Any:
    """Build a network with a new evidence map in place of its thousand classes, all with random weights.

    Args:
        network: Which.
        height: Rows of the input.
        width: Columns of the input.
        channels: 1 (grey) or 3 (RGB).
        outputs: Logits.
        dropout: Share of channels dropped before the evidence map, in training.
        batch_norm_momentum: Of the moving statistics.
        seed: Of the random weights.

    Returns:
        A Keras model from float32 `[B, H, W, C]` in -1 to 1 to logits `[B, K]` and evidence `[B, H/32, W/32, K]`.
    """
    import tf_keras

    layers = tf_keras.layers
    tf_keras.utils.set_random_seed(seed)
    if network.startswith(LITE):
        features = efficientnet_lite.build_features(
            _lite_size(network), height, width, channels, batch_norm_momentum=batch_norm_momentum
        )
    else:
        features = _application(network, (height, width, channels))
        for layer in features.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = batch_norm_momentum
    x = layers.SpatialDropout2D(dropout, seed=seed, rng_type="stateful", name="dropout")(features.output)
    evidence = layers.Conv2D(outputs, 1, name="evidence")(x)
    logits = layers.GlobalAveragePooling2D(name="logits")(evidence)
    return tf_keras.Model(features.input, [logits, evidence], name=network.replace("-", "_"))


def load_imagenet_weights(model: Any, network: Pretrained, file: Path | None = None) -> None:
    """Give a network of `build_pretrained` the weights learnt on ImageNet; its evidence map stays as it is.

    For grey input the stem's weights are summed over red, green and blue, which is what a grey picture in three
    channels would give.

    Args:
        model: The network, changed in place.
        network: Which it is.
        file: Its published weights: for EfficientNet-Lite a `.pth` of PyTorch before 1.6, else the `.h5` that Keras
            offers without the classifier ("notop"). None for the package that carries them, or Keras' download.

    Raises:
        InputError: The file is in another format or of another network.
        MachineError: The package is not installed, or they cannot be downloaded.
    """
    if network.startswith(LITE):
        published = efficientnet_lite.published_weights(_lite_size(network), file)
    else:
        published = _weights_of_application(network, file)
    fitting = []
    for layer in model.layers:
        if not layer.weights or layer.name == "evidence":
            continue
        given = published.get(layer.name, [])
        if given and given[0].ndim == 4 and given[0].shape[2] == 3 and model.input_shape[-1] == 1:
            given = [given[0].sum(axis=2, keepdims=True), *given[1:]]
        if [weight.shape for weight in given] != [tuple(weight.shape) for weight in layer.weights]:
            raise InputError(f"{file or 'what is installed'} holds no weights of {network}: {layer.name} does not fit")
        fitting.append((layer, given))
    for layer, given in fitting:
        layer.set_weights(given)


def _lite_size(network: Pretrained) -> int:
    return int(network.removeprefix(LITE))


def _application(network: Pretrained, shape: tuple[int, int, int], weights: str | None = None) -> Any:
    import tf_keras

    build = getattr(tf_keras.applications, APPLICATIONS[network])
    return build(include_top=False, weights=weights, input_shape=shape)


def _weights_of_application(network: Pretrained, file: Path | None) -> dict[str, list[NDArray[np.float32]]]:
    import h5py

    shape = (224, 224, 3)  # a size that every one of them is published for
    if file is None:
        try:
            loaded = _application(network, shape, "imagenet")
        except Exception as exc:  # Keras raises no narrower one
            raise MachineError(
                f"the ImageNet weights of {network} cannot be downloaded ({exc}); download them where there is a "
                "network and give them with --weights FILE"
            ) from exc
    else:
        if not h5py.is_hdf5(file):
            raise InputError(f"{file} is no HDF5 file; expected the weights of {network} that Keras offers as .h5")
        loaded = _application(network, shape)
        try:
            loaded.load_weights(file)
        except (OSError, ValueError, KeyError) as exc:
            raise InputError(f"{file} holds no weights of {network} without its classifier ({exc})") from exc
    return {layer.name: layer.get_weights() for layer in loaded.layers}
