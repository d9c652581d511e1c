import pytest

from slimscan_edge import errors


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (errors.InputError, 2),
        (errors.ImageError, 2),
        (errors.BundleError, 2),
        (errors.MachineError, 4),
        (errors.InterpreterError, 4),
        (errors.MissingExtraError, 4),
    ],
)
def test_each_error_is_a_slimscan_error_with_its_exit_code(error, exit_code):
    assert issubclass(error, errors.SlimscanError)
    assert error.exit_code == exit_code


def test_a_missing_extra_says_what_to_run():
    message = str(errors.MissingExtraError("train", "train", "tensorflow"))
    assert "tensorflow is not installed" in message
    assert "pip install 'slimscan[train]'" in message
