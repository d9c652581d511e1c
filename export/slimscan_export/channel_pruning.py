"""Channel pruning: a physically narrower network that fewer multiply-accumulates are enough for.

Channels that depthwise convolutions, norms and residual sums tie together are one stream and go together, so that the
narrower network is whole again: every layer that makes, passes on or reads a removed channel loses it. Which channels
go is decided over all streams at once, by how little the logits would move for each multiply-accumulate saved.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_edge.errors import InputError
from slimscan_export.keras_graph import sources_of
from slimscan_export.macs import keras_macs
from slimscan_train.model import normalise_pixels

MULTIPLE = 8
"""Channel counts are multiples of this, as the int8 kernels like them, and at least as many."""

_LEAVE_OUT = "leave out the rows that prune channels"
_MAKERS = ("Conv2D", "Dense")
_KEEPERS = (
    "Activation",
    "Add",
    "BatchNormalization",
    "DepthwiseConv2D",
    "Dropout",
    "GlobalAveragePooling2D",
    "ReLU",
    "SpatialDropout2D",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Channels that are the same ones in several layers.

    Attributes:
        name: The first layer that makes them.
        channels: How many.
        layers: Layers whose output has these channels, in the model's order.
        readers: Convolutions that take them in and make others.
        fixed: They are the model's inputs or outputs and none can go.
    """

    name: str
    channels: int
    layers: tuple[str, ...]
    readers: tuple[str, ...]
    fixed: bool


def prune_channels(model: Any, macs: int, pixels: NDArray[np.uint8]) -> Any:
    """Build a narrower network that keeps the channels that matter most; it wants some training to recover.

    Args:
        model: The Keras model; left as it is.
        macs: Multiply-accumulates that the result may have.
        pixels: Training images that tell what matters, uint8 `[N, H, W, C]`.

    Returns:
        A Keras model of the same layers.

    Raises:
        InputError: The model's channels cannot be followed, or it cannot be as narrow.
    """
    streams = find_streams(model)
    importance = channel_importance(model, streams, pixels)
    return narrow(model, streams, choose_channels(model, streams, importance, macs))


def find_streams(model: Any) -> tuple[Stream, ...]:
    """Which channels are tied, in the order in which the model makes them.

    Raises:
        InputError: The model has a layer whose channels cannot be followed.
    """
    home: dict[str, str] = {}
    readers: dict[str, str] = {}

    def root(name: str) -> str:
        while home[name] != name:
            name = home[name]
        return name

    for layer in model.layers:
        kind, sources = type(layer).__name__, sources_of(layer)
        home[layer.name] = layer.name
        if getattr(layer, "depth_multiplier", 1) != 1 or getattr(layer, "groups", 1) != 1:
            raise InputError(f"layer {layer.name} works on groups of channels; {_LEAVE_OUT}")
        if kind in _MAKERS:
            readers[layer.name] = sources[0]
        elif kind in _KEEPERS:
            for source in sources:
                home[root(layer.name)] = root(source)
        elif kind != "InputLayer":
            raise InputError(f"layer {layer.name} is a {kind}, whose channels cannot be followed; {_LEAVE_OUT}")
    ends = {root(tensor.node.layer.name) for tensor in (*model.inputs, *model.outputs)}
    members: dict[str, list[Any]] = {}
    for layer in model.layers:
        members.setdefault(root(layer.name), []).append(layer)
    return tuple(
        Stream(
            name=layers[0].name,
            channels=int(layers[0].output.shape[-1]),
            layers=tuple(layer.name for layer in layers),
            readers=tuple(reader for reader, source in readers.items() if root(source) == name),
            fixed=name in ends,
        )
        for name, layers in members.items()
    )


def channel_importance(
    model: Any, streams: Sequence[Stream], pixels: NDArray[np.uint8]
) -> dict[str, NDArray[np.float64]]:
    """How far the logits would move without a channel, to first order.

    A channel's share in a logit is the sum of weight times gradient over the kernels that read it (Molchanov et al.
    2019, arXiv:1906.10771, there of the loss). Of the logit, since the narrower network is to decide as the wider one
    does, and a loss that has been minimised hardly has a gradient. Kernels behind a norm and an activation carry its
    scale and what the training images make of it: a channel that is always near zero counts for nothing.

    Args:
        model: The Keras model.
        streams: Of the model.
        pixels: Training images, uint8 `[N, H, W, C]`.

    Returns:
        For each stream that can be pruned, the mean over images of the squared share, float64 `[channels]`.
    """
    import tensorflow as tf

    kernels = {
        stream.name: [model.get_layer(reader).kernel for reader in stream.readers]
        for stream in streams
        if not stream.fixed
    }

    @tf.function  # type: ignore[untyped-decorator]
    def squared_shares(image: Any) -> dict[str, Any]:
        with tf.GradientTape(persistent=True) as tape:
            logits = tf.unstack(model(image, training=False)[0][0])
        totals = dict.fromkeys(kernels, 0.0)
        for logit in logits:
            gradients = tape.gradient(logit, kernels)
            for name, read_by in kernels.items():
                products = [kernel * gradient for kernel, gradient in zip(read_by, gradients[name], strict=True)]
                totals[name] += tf.square(tf.add_n([_over_inputs(product) for product in products]))  # [channels]
        return totals

    found = [squared_shares(normalise_pixels(image[np.newaxis])) for image in pixels]
    return {name: np.mean([one[name] for one in found], axis=0, dtype=np.float64) for name in kernels}


def _over_inputs(products: Any) -> Any:
    """Sum a tensor shaped like a kernel, `[..., in, out]`, to one of `[in]`."""
    import tensorflow as tf

    return tf.reduce_sum(products, axis=[*range(len(products.shape) - 2), -1])


def choose_channels(
    model: Any, streams: Sequence[Stream], importance: Mapping[str, NDArray[np.float64]], macs: int
) -> dict[str, NDArray[np.int64]]:
    """Which channels stay when those go that cost the least importance for each multiply-accumulate saved.

    Always `MULTIPLE` channels of one stream go at a time, or as many as it is wider than a multiple of that.

    Args:
        model: The Keras model.
        streams: Of the model.
        importance: Of each channel.
        macs: Multiply-accumulates that may be left.

    Returns:
        Sorted indices of the channels that stay, by stream; of those that lose some.

    Raises:
        InputError: No network of these layers is as small.
    """
    widths = {stream.name: stream.channels for stream in streams}
    cost = _Cost(model, streams)
    ranked = {name: np.argsort(values, kind="stable")[::-1] for name, values in importance.items()}  # best first
    while cost.of(widths) > macs:
        steps = []
        for name, order in ranked.items():
            fewer = (widths[name] - 1) // MULTIPLE * MULTIPLE
            if fewer >= MULTIPLE:
                saved = cost.of(widths) - cost.of({**widths, name: fewer})
                steps.append((float(importance[name][order[fewer : widths[name]]].sum()) / saved, name, fewer))
        if not steps:
            raise InputError(
                f"the network cannot be cut to {macs:,} multiply-accumulates: at {MULTIPLE} channels everywhere it has "
                f"{cost.of(widths):,}; ask for more"
            )
        _, name, fewer = min(steps)
        widths[name] = fewer
    return {name: np.sort(order[: widths[name]]) for name, order in ranked.items() if widths[name] < len(order)}


class _Cost:
    """Multiply-accumulates of a model by the widths of its streams."""

    def __init__(self, model: Any, streams: Sequence[Stream]) -> None:
        made_in = {layer: stream for stream in streams for layer in stream.layers}
        read_in = {reader: stream for stream in streams for reader in stream.readers}
        self._layers: list[tuple[int, tuple[str, ...]]] = []
        for name, macs in keras_macs(model).items():
            tied = (made_in[name], read_in[name]) if name in read_in else (made_in[name],)
            each = macs // math.prod(stream.channels for stream in tied)
            self._layers.append((each, tuple(stream.name for stream in tied)))

    def of(self, widths: Mapping[str, int]) -> int:
        return sum(each * math.prod(widths[name] for name in names) for each, names in self._layers)


def narrow(model: Any, streams: Sequence[Stream], kept: Mapping[str, NDArray[np.int64]]) -> Any:
    """Build the narrower network, with the weights of the channels that stay.

    Args:
        model: The Keras model; left as it is.
        streams: Of the model.
        kept: Indices of the channels that stay, by stream; a stream that is not named keeps all.

    Returns:
        A Keras model of the same layers.
    """
    import tf_keras

    channels = {stream.name: kept.get(stream.name, np.arange(stream.channels)) for stream in streams}
    made = {layer: channels[stream.name] for stream in streams for layer in stream.layers}
    read = {reader: channels[stream.name] for stream in streams for reader in stream.readers}

    def narrower(layer: Any) -> Any:
        config = layer.get_config()
        for size in ("filters", "units"):
            if size in config:
                config[size] = len(made[layer.name])
        return type(layer).from_config(config)

    result = tf_keras.models.clone_model(model, clone_function=narrower)
    for layer, source in zip(result.layers, model.layers, strict=True):
        layer.set_weights([_part(weights, source, made, read) for weights in source.get_weights()])
    return result


def _part(
    weights: NDArray[np.float32],
    layer: Any,
    made: Mapping[str, NDArray[np.int64]],
    read: Mapping[str, NDArray[np.int64]],
) -> NDArray[np.float32]:
    """The part of a layer's weights that stays: vectors, kernels `[..., in, out]`, depthwise kernels `[..., in, 1]`."""
    if weights.ndim == 1:
        return weights[made[layer.name]]
    if layer.name in read:
        return weights[..., read[layer.name], :][..., made[layer.name]]
    return weights[..., made[layer.name], :]
