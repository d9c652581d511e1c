"""What the three harnesses share: the readers under coverage, seeds, and a fixed time.

atheris (libFuzzer for Python, in the `dev` group) sees the coverage of Python code only; native decoders are met with
whatever gets that far. A run ends after its time, or with a traceback and the input in `crash-*`:

    python tests/fuzz/image_reader.py -max_total_time=60
    python tests/fuzz/dicom_reader.py -max_total_time=60
    python tests/fuzz/bundle_reader.py -max_total_time=60

Without a corpus folder among the arguments it begins with the files of `tests/edge_runtime/bad_input/mutations.py`.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1] / "edge_runtime" / "bad_input"))

MOST_BYTES = 200_000


def fuzz(try_one: Callable[[bytes], None], *kinds: str, more: Sequence[bytes] = ()) -> None:
    """Run a harness over mutations of seeds, as the command line says.

    Args:
        try_one: Reads one input; whatever it raises is a finding.
        kinds: Which seeds of `mutations.seeds` to begin with.
        more: Other seeds.
    """
    from mutations import seeds

    warnings.simplefilter("ignore")
    whole = seeds()
    with tempfile.TemporaryDirectory() as folder:
        for number, raw in enumerate((*(raw for kind in kinds for raw in whole[kind]), *more)):
            (Path(folder) / f"seed-{number}").write_bytes(raw)
        corpus = [] if any(Path(word).is_dir() for word in sys.argv[1:]) else [folder]
        if os.fork():  # libFuzzer ends its process by itself, and the folder would stay
            _, status = os.wait()
            sys.exit(os.waitstatus_to_exitcode(status))
        atheris.Setup([*sys.argv, f"-max_len={MOST_BYTES}", "-timeout=60", "-rss_limit_mb=2048", *corpus], try_one)
        atheris.Fuzz()
