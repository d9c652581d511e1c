"""What a network costs whatever it runs on: multiply-accumulates, by layer of a Keras model.

Those of a `.tflite` file are counted by `slimscan_bench.macs`. Counted are those of convolutions and fully connected
layers for one image. Norms are folded into them by the conversion; sums, activations and pooling cost a percent beside
them and are left out, as is usual.
"""

from typing import Any

import numpy as np


def keras_macs(model: Any) -> dict[str, int]:
    """Multiply-accumulates of one image, by layer of a Keras model; of layers that have some."""
    import tf_keras

    layers = tf_keras.layers
    found = {}
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            rows, columns = layer.output.shape[1:3]
            found[layer.name] = rows * columns * int(np.prod(layer.depthwise_kernel.shape))
        elif isinstance(layer, layers.Conv2D):
            rows, columns = layer.output.shape[1:3]
            found[layer.name] = rows * columns * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, layers.Dense):
            found[layer.name] = int(np.prod(layer.kernel.shape))
    return found
