"""How close a separated stem is to the true one: SI-SDR, SDR, log-mel distance, ViSQOL; and what the stems sum to.

All sounds are mono [sample] at 48 kHz. The packages that measure are the extra `evaluate`, imported when they are used.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from backline.measures.level import level_dbfs
from backline.measures.spectra import log_mel_distance
from backline.music.stems import SAMPLE_RATE, Stems

if TYPE_CHECKING:
    from visqol import VisqolApi

Sound = NDArray[np.float32]  # [sample], mono

SI_SDR, SDR, SECONDS_SDR = "SI-SDR dB", "SDR dB", "SDR by the second dB"  # columns
LOG_MEL, VISQOL = "log-mel L1", "ViSQOL"
LIMIT_DB = 100.0  # of SI-SDR and SDR, either way: what is perfect, or silent, stays a number
FAINTEST = 2.0**-24  # root mean square of what 24 bits hold
WORST_VISQOL = 1.0  # the lowest that the scale has


def check_packages(with_visqol: bool) -> None:
    """Finds out before the work whether everything can be measured.

    Raises:
        ValueError: a package is not installed.
    """
    wanted = {"fast_bss_eval": "fast-bss-eval"} | ({"visqol": "visqol-python"} if with_visqol else {})
    missing = [package for module, package in wanted.items() if find_spec(module) is None]
    if missing:
        leave = ", or leave it out with --no-visqol" if missing == ["visqol-python"] else ""
        raise ValueError(f"{' and '.join(missing)} not installed: pip install 'backline[evaluate]'{leave}")


def measure(found: Sound, wanted: Sound, with_visqol: bool) -> dict[str, float]:
    """Every figure of one stem by its column; `wanted` is not silent."""
    figures = {
        SI_SDR: si_sdr(found, wanted),
        SDR: sdr(found, wanted),
        SECONDS_SDR: seconds_sdr(found, wanted),
        LOG_MEL: log_mel_distance(found, wanted, SAMPLE_RATE),
    }
    return figures | ({VISQOL: visqol(found, wanted)} if with_visqol else {})


def si_sdr(found: Sound, wanted: Sound) -> float:
    """Scale-invariant signal-to-distortion ratio, in dB."""
    from fast_bss_eval import si_sdr

    return float(si_sdr(_row(wanted), _row(found), clamp_db=LIMIT_DB)[0])


def sdr(found: Sound, wanted: Sound) -> float:
    """Signal-to-distortion ratio of BSS Eval, in dB: what a filter of 512 taps can do to the stem is no distortion."""
    from fast_bss_eval import sdr

    return float(sdr(_row(wanted), _row(found), clamp_db=LIMIT_DB)[0])


def seconds_sdr(found: Sound, wanted: Sound) -> float:
    """Signal-to-distortion ratio as museval has it for MUSDB18 (BSS Eval 4, images), in dB, of mono sounds.

    The median over whole seconds of the ratio of the stem to all that differs from it, no filter and no scale allowed;
    seconds in which the stem is silent, or quieter than a recording of 24 bits can hold, do not count. A sound of less
    than a second is one.
    """
    length = min(SAMPLE_RATE, len(wanted))
    true, error = (
        np.square(each[: len(each) // length * length].astype(np.float64)).reshape(-1, length).sum(axis=1)
        for each in (wanted, found - wanted)
    )
    sounding = true > length * FAINTEST**2
    ratios = 10 * np.log10(true[sounding] / np.maximum(error[sounding], 1e-20))
    return float(np.clip(np.median(ratios), -LIMIT_DB, LIMIT_DB))


def visqol(found: Sound, wanted: Sound) -> float:
    """Quality as ViSQOL predicts that listeners judge it, audio mode: 1 to about 4.73, which equals have."""
    if not found.any():
        return WORST_VISQOL  # its scaling to equal loudness has no answer to silence
    return float(_visqol().measure_from_arrays(wanted, found, SAMPLE_RATE).moslqo)


def sum_error(stems: Stems, mixed: Sound) -> float:
    """How far the sum of the stems is from the mixture, in dB of the mixture's level."""
    return level_dbfs(stems.sum(axis=0) - mixed) - level_dbfs(mixed)


def _row(sound: Sound) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return sound[np.newaxis].astype(np.float64)


@cache
def _visqol() -> VisqolApi:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="audio")
    return api
