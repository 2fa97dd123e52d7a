"""How much of both tracks comes back from their tokens: log-mel distance, SI-SDR, and of the voice PESQ and STOI."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import soxr
from torch import Tensor

from backline.evaluation.tokens.tokenizers import VOCALS, Renderer, Sound, Tokenizer
from backline.measures.level import SILENCE_DBFS, level_dbfs
from backline.measures.spectra import log_mel_distance, si_sdr

LOG_MEL, SI_SDR, PESQ, STOI = "log-mel L1", "SI-SDR dB", "PESQ", "STOI"
SPEECH_RATE = 16_000  # Hz, of PESQ's wide band and of STOI
WORST_PESQ = 1.04  # the lowest that the wide band's scale has
LONGEST_SECONDS = 30.0  # that are decoded of a song


def missing_packages() -> list[str]:
    """What measures voices and is not installed."""
    return [name for name in ("pesq", "pystoi") if find_spec(name) is None]


def reconstruction(
    renderer: Renderer, tokenizer: Tokenizer, codes: Tensor, wanted: Sound, track: str
) -> dict[str, float]:
    """Figures by column of one track: codes [codebook, frame] made sound, against what they were made of, [sample].

    Of its first LONGEST_SECONDS; none of a track that is silent there. Rates that differ are measured at the lower one.
    """
    frames = min(codes.shape[1], int(LONGEST_SECONDS * tokenizer.frame_rate))
    wanted = wanted[: frames * tokenizer.hop]
    if level_dbfs(wanted) < SILENCE_DBFS:
        return {}
    rate = min(tokenizer.sample_rate, renderer.sample_rate)
    found = resampled(renderer.render(codes[:, :frames]).numpy(), renderer.sample_rate, rate)
    wanted = resampled(wanted, tokenizer.sample_rate, rate)
    length = min(len(found), len(wanted))
    found, wanted = found[:length], wanted[:length]
    figures = {LOG_MEL: log_mel_distance(found, wanted, rate), SI_SDR: si_sdr(found, wanted)}
    return figures | (voice_scores(found, wanted, rate) if track == VOCALS else {})


def voice_scores(found: Sound, wanted: Sound, sample_rate: int) -> dict[str, float]:
    """PESQ in the wide band (1 to 4.6) and STOI (0 to 1), as far as their packages are installed."""
    spoken, true = resampled(found, sample_rate, SPEECH_RATE), resampled(wanted, sample_rate, SPEECH_RATE)
    missing = missing_packages()
    figures: dict[str, float] = {}
    if "pesq" not in missing:
        from pesq import NoUtterancesError, pesq

        try:
            figures[PESQ] = float(pesq(SPEECH_RATE, true, spoken, "wb"))
        except NoUtterancesError:  # no voice is left
            figures[PESQ] = WORST_PESQ
    if "pystoi" not in missing:
        from pystoi import stoi

        figures[STOI] = float(stoi(true, spoken, SPEECH_RATE))
    return figures


def resampled(sound: Sound, rate: int, wanted: int) -> Sound:
    """[sample] at another rate."""
    return sound if rate == wanted else soxr.resample(sound, rate, wanted).astype(np.float32)
