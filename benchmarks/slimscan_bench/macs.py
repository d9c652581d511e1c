"""What a `.tflite` file costs whatever it runs on: multiply-accumulates by operator, and the zeros in its kernels.

Counted are those of convolutions and fully connected layers for one image. Norms are folded into them by the
conversion; sums, activations and pooling count a percent beside them and are left out, as is usual.
"""

from slimscan_bench.tflite_file import TfliteFile
from slimscan_edge.errors import InputError


def tflite_macs(model: bytes) -> dict[str, int]:
    """Multiply-accumulates of one image, by the name of the tensor that an operator of a `.tflite` file makes.

    Raises:
        MachineError: ai-edge-litert is not installed.
    """
    file = TfliteFile(model)
    return {file.tensor(made).name.decode(): count for made, count in file.macs().items()}


def tflite_sparsity(model: bytes) -> float:
    """Share of zeros among the kernels of a `.tflite` file as it is stored, 0 to 1.

    Raises:
        InputError: It has no kernels.
        MachineError: ai-edge-litert is not installed.
    """
    file = TfliteFile(model)
    kernels = [file.values(kernel) for _, kernel in file.weighted_operators()]
    if not kernels:
        raise InputError("the model has neither convolutions nor fully connected layers, expected at least one")
    return float(sum((kernel == 0).sum() for kernel in kernels) / sum(kernel.size for kernel in kernels))
