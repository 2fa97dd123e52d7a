"""DNSMOS (Reddy et al. 2022): what listeners would say of a voice by itself, 1 to 5: signal, background and overall.

It was made for speech, and hears singing as such; the paper of MSS-LM judges vocals by it. The network is that of the
PyPI package speechmos, of which nothing else is used: it would want librosa.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RATE = 16_000
WINDOW = int(9.01 * RATE)  # samples that the network hears; shorter sounds are repeated
MODEL = "dnsmos_models/sig_bak_ovr.onnx"
FITS = {  # from what the network says to opinions, highest power first
    "SIG": (-0.08397278, 1.22083953, 0.0052439),
    "BAK": (-0.13166888, 1.60915514, -0.39604546),
    "OVRL": (-0.06766283, 1.11546468, 0.04602535),
}


def check_dnsmos() -> None:
    """Raises ValueError: a package is not installed."""
    missing = [name for name in ("onnxruntime", "speechmos") if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)} not installed: `pip install --no-deps speechmos` and `pip install "
            "onnxruntime`, or leave --dnsmos out"
        )


def dnsmos(sound: NDArray[np.float32], sample_rate: int) -> dict[str, float]:
    """SIG, BAK and OVRL of [sample]: the mean over windows that begin a second apart."""
    heard = np.clip(soxr.resample(sound, sample_rate, RATE), -1, 1).astype(np.float32)
    if len(heard) < WINDOW:
        heard = np.resize(heard, WINDOW)
    starts = range(0, (int(len(heard) // RATE - 9.01) + 1) * RATE, RATE)  # as many as the package has
    said = np.array([_session().run(None, {"input_1": heard[None, at : at + WINDOW]})[0][0] for at in starts])
    return {name: float(np.mean(np.polyval(fit, said[:, column]))) for column, (name, fit) in enumerate(FITS.items())}


@cache
def _session() -> InferenceSession:
    from onnxruntime import InferenceSession, SessionOptions

    spec = find_spec("speechmos")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    quiet = SessionOptions()
    quiet.log_severity_level = 3
    quiet.intra_op_num_threads = 1
    return InferenceSession(Path(spec.submodule_search_locations[0]) / MODEL, quiet)
