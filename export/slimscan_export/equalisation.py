"""Cross-layer equalisation: the same float function with weights and ranges that 8 bits hold better.

A channel may be made f times as strong where it is made if whatever reads it takes it 1/f times as strongly: through a
ReLU, max(0, f x) = f max(0, x), and through a residual sum whose terms are all scaled alike, the function stays what it
was (Nagel et al. 2019, arXiv:1906.04721, section 4.1). There f balances the ranges of two kernels. TFLite gives every
output channel of a kernel a scale of its own, so that how strongly a channel is made costs nothing; what shares one
scale is the tensor of activations on the one side and a kernel's input channels on the other. So f balances these two:
f_c = sqrt(r2_c / r1_c) up to a common factor, r1_c the largest activation of channel c over calibration images and r2_c
its largest weight in the kernels that read it. A depthwise kernel has a scale a channel, and counts as 1 throughout.

ReLU6 cuts off at 6 whatever the scale, so a channel that comes near it keeps its scale, and no other is scaled to more
than `HEADROOM` of it. For calibration images the function is then the same exactly, and for any picture that drives no
channel a third beyond what they do. (Nagel et al. put ReLU in ReLU6's place, which is another network.)

Channels that norms, activations, pooling and sums pass on are one group. The model's own inputs and outputs, and groups
with a layer that a scale does not pass through, are left as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimscan_export.keras_graph import sources_of
from slimscan_train.model import normalise_pixels

HEADROOM = 0.75
"""Share of an activation's upper end that an equalised channel may reach on calibration images."""

_LEAST = 1e-6
"""A channel whose largest activation or weight is less than this share of the strongest one's is dead and keeps its
scale."""

_KERNELS = ("Conv2D", "DepthwiseConv2D", "Dense")
_PASSED = (
    "Add",
    "BatchNormalization",
    "Dropout",
    "GlobalAveragePooling2D",
    "ReLU",
    "SpatialDropout2D",
    "ZeroPadding2D",
)
_BATCH = 32

Factors = NDArray[np.float64]
"""By which each channel is made stronger, float64 `[channels]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Channels that are the same ones in several layers, between the kernels that make and those that read them.

    Attributes:
        makers: Convolutions that make them.
        passed: Layers that pass them on.
        readers: Convolutions that read them.
    """

    makers: tuple[str, ...]
    passed: tuple[str, ...]
    readers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Equalised:
    """An equalised network.

    Attributes:
        model: The Keras model; the one it came from is left as it is.
        factors: Of each group, by the name of its first maker.
    """

    model: Any
    factors: dict[str, Factors]

    @property
    def most(self) -> tuple[str, float]:
        """The group with the largest factor, either way, by its first maker, and that factor's size, 1 or more."""
        sizes = {name: float(np.exp(np.abs(np.log(found)).max())) for name, found in self.factors.items()}
        return max(sizes.items(), key=lambda entry: entry[1], default=("", 1.0))


def equalise(model: Any, pixels: NDArray[np.uint8]) -> Equalised:
    """Equalise a network of convolutions, norms, ReLUs and sums.

    Args:
        model: A Keras model from normalised pixels.
        pixels: Calibration images, uint8 `[N, H, W, C]`, at least one.

    Returns:
        The equalised copy, with no factors when there is nothing to equalise.
    """
    import tf_keras

    groups = find_groups(model)
    peaks = _peaks(model, groups, pixels)
    factors = {group.makers[0]: _factors(model, group, peaks) for group in groups}
    copy = tf_keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    for group in groups:
        _scale(copy, group, factors[group.makers[0]])
    return Equalised(model=copy, factors=factors)


def find_groups(model: Any) -> tuple[Group, ...]:
    """The groups of a model's channels that can be scaled, in the order in which it makes them."""
    home: dict[str, str] = {}

    def root(name: str) -> str:
        while home[name] != name:
            name = home[name]
        return name

    reads: dict[str, str] = {}  # a kernel and the layer that it reads
    ends = {tensor.node.layer.name for tensor in (*model.inputs, *model.outputs)}
    for layer in model.layers:
        home[layer.name] = layer.name
        sources = sources_of(layer)
        if type(layer).__name__ in _KERNELS:
            reads[layer.name] = sources[0]
        else:
            for source in sources:
                home[root(layer.name)] = root(source)
        if not _can_be_scaled(layer, model):
            ends |= {layer.name, *sources}
    members: dict[str, list[str]] = {}
    for name in home:
        members.setdefault(root(name), []).append(name)
    fixed = {root(name) for name in ends}
    groups = (
        Group(
            makers=tuple(name for name in names if name in reads),
            passed=tuple(name for name in names if name not in reads),
            readers=tuple(kernel for kernel, source in reads.items() if root(source) == place),
        )
        for place, names in members.items()
        if place not in fixed
    )
    return tuple(group for group in groups if group.makers and group.readers)


def _can_be_scaled(layer: Any, model: Any) -> bool:
    """Whether what a layer makes or passes on may be scaled by channel, so that what comes after can undo it."""
    kind = type(layer).__name__
    if kind in _KERNELS:
        linear = layer.activation is None or layer.activation.__name__ == "linear"
        return linear and getattr(layer, "depth_multiplier", 1) == 1 and getattr(layer, "groups", 1) == 1
    if kind == "ReLU":
        return float(layer.threshold) == 0.0
    if kind == "BatchNormalization":  # its own gain and offset are scaled, so it must be all that reads its kernel
        (source,) = sources_of(layer)
        maker = model.get_layer(source)
        alone = len(maker.outbound_nodes) == 1
        return type(maker).__name__ in _KERNELS and alone and bool(layer.scale and layer.center)
    return kind in (*_PASSED, "InputLayer")


def _peaks(model: Any, groups: Sequence[Group], pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
    """The largest value that comes into each activation, by channel; of a group without one, into its readers.

    Args:
        model: The Keras model.
        groups: Of the model.
        pixels: Images, uint8 `[N, H, W, C]`.

    Returns:
        By layer, float64 `[channels]`: of an activation before it cuts off anything above.
    """
    import tensorflow as tf
    import tf_keras

    watched = [name for group in groups for name in _watched(model, group)]
    sources = [_input_of(model.get_layer(name)) for name in watched]
    probe = tf_keras.Model(model.inputs, sources)
    peaks = {name: np.zeros(source.shape[-1]) for name, source in zip(watched, sources, strict=True)}
    for start in range(0, len(pixels) if watched else 0, _BATCH):
        found = tf.nest.flatten(probe(normalise_pixels(pixels[start : start + _BATCH]), training=False))
        for name, values in zip(watched, found, strict=True):
            one_sided = type(model.get_layer(name)).__name__ == "ReLU" and not model.get_layer(name).negative_slope
            strength = np.maximum(values, 0) if one_sided else np.abs(values)
            peaks[name] = np.maximum(peaks[name], strength.max(axis=tuple(range(strength.ndim - 1))))
    return peaks


def _watched(model: Any, group: Group) -> list[str]:
    """The layers whose input tells how strong a group's channels are: its activations, or without one its readers."""
    relus = [name for name in group.passed if type(model.get_layer(name)).__name__ == "ReLU"]
    return relus or [*group.readers]


def _input_of(layer: Any) -> Any:
    return layer.input[0] if isinstance(layer.input, list) else layer.input


def _factors(model: Any, group: Group, peaks: dict[str, NDArray[np.float64]]) -> Factors:
    watched = _watched(model, group)
    active = np.max([peaks[name] for name in watched], axis=0)
    caps = [float(layer.max_value) for layer in map(model.get_layer, watched) if getattr(layer, "max_value", None)]
    room = HEADROOM * min(caps, default=np.inf)
    read = _read_strength(model, group, len(active))
    held = active >= room
    alive = (active > _LEAST * active.max()) & (read > _LEAST * read.max())
    free = alive & ~held
    factors = np.ones(len(active))
    if not free.any():
        return factors
    ideal = np.sqrt(read[alive] / active[alive])
    factors[alive] = ideal
    if (held & alive).any():  # those that keep their scale say how strong the others are to be
        factors /= np.exp(np.median(np.log(factors[held & alive])))
    else:  # else the strongest stays as strong
        factors *= active[alive].max() / (ideal * active[alive]).max()
    factors[~free] = 1.0
    factors[free] = np.minimum(factors[free], np.maximum(room, active[free]) / active[free])
    return factors


def _read_strength(model: Any, group: Group, channels: int) -> NDArray[np.float64]:
    """The largest weight that reads each channel, over the kernels that give several input channels one scale."""
    strengths = [np.ones(channels)] if not _shared(model, group) else []
    for name in _shared(model, group):
        kernel = np.abs(_kernel(model.get_layer(name)).numpy())  # [..., in, out]
        strengths.append(kernel.max(axis=(*range(kernel.ndim - 2), kernel.ndim - 1)))
    return np.asarray(np.max(strengths, axis=0), np.float64)


def _shared(model: Any, group: Group) -> list[str]:
    return [name for name in group.readers if type(model.get_layer(name)).__name__ != "DepthwiseConv2D"]


def _scale(model: Any, group: Group, factors: Factors) -> None:
    """Make a group's channels so many times as strong, and read them so many times less strongly; in place."""
    for name in group.makers:
        _strengthen(model.get_layer(name), factors)
    for name in group.readers:
        reader = model.get_layer(name)
        _multiply(_kernel(reader), 1 / factors[:, np.newaxis])  # [..., in, out], or [..., in, 1]


def _strengthen(maker: Any, factors: Factors) -> None:
    """Scale what a kernel makes, by the norm after it or, without one, by its own weights."""
    after = [node.layer for node in maker.outbound_nodes]
    if [type(layer).__name__ for layer in after] == ["BatchNormalization"]:
        _multiply(after[0].gamma, factors)
        _multiply(after[0].beta, factors)
        return
    depthwise = type(maker).__name__ == "DepthwiseConv2D"
    _multiply(_kernel(maker), factors[:, np.newaxis] if depthwise else factors)
    if maker.use_bias:
        _multiply(maker.bias, factors)


def _kernel(layer: Any) -> Any:
    return layer.depthwise_kernel if type(layer).__name__ == "DepthwiseConv2D" else layer.kernel


def _multiply(variable: Any, factors: Factors) -> None:
    variable.assign((variable.numpy() * factors).astype(np.float32))
