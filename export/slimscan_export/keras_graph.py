"""How the layers of a Keras model hang together."""

from typing import Any


def sources_of(layer: Any) -> list[str]:
    """Names of the layers that a layer takes in; none for an input."""
    if type(layer).__name__ == "InputLayer":
        return []
    tensors = layer.input if isinstance(layer.input, list) else [layer.input]
    return [tensor.node.layer.name for tensor in tensors]
