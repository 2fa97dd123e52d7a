"""What separators are compared with: the mixture, an oracle's mask, harmonic and percussive, the codec, other packs.

An `Oracle` gets the mixture and the true stems, and answers in their order. A `Finder` gets the mixture and a seed, and
answers by what each stem is. Everything is at SAMPLE_RATE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, rfft, rfftfreq
from scipy.ndimage import median_filter
from scipy.signal import istft, stft

from backline.codecs.base import Codec
from backline.codecs.hcodec.windowed import WINDOW
from backline.engine.timeline import OutputTimeline
from backline.evaluation.codec import decode, encode
from backline.evaluation.live import Sound, at_rate
from backline.music.stems import SAMPLE_RATE, TRACKS, Stems

Oracle = Callable[[Sound, Stems], Stems]  # mixture [sample] and true stems [stem, sample] -> estimated stems
Finder = Callable[[Sound, int], Mapping[str, Sound]]  # mixture [sample] and a seed -> stems by their labels
Resynthesise = Callable[[Sound], Sound]  # [sample], encoded and decoded by a codec

MASK_WINDOW, MASK_OVERLAP = 2048, 1536  # samples of the oracle's transform
LONG_WINDOW, SHORT_WINDOW = 16_384, 2048  # samples of the two transforms of `hpss`: 341 and 43 ms
MEDIAN = 17  # frames, or bins, that a median is taken over
BASS_HERTZ = 200.0  # what lies below is bass
FADED_FRAMES = 10  # codec frames over which one window of `resynthesis` passes into the next


def mixture(mixed: Sound, true: Stems) -> Stems:
    """Every stem is the mixture: where improvements start from."""
    return np.repeat(mixed[np.newaxis], len(true), axis=0)


def ideal_ratio_mask(mixed: Sound, true: Stems) -> Stems:
    """Every stem is its share of the power in each bin, as an oracle knows it: as well as masking magnitudes can do.

    The masks sum to one everywhere, so the stems sum to the mixture.
    """
    powers = np.abs(_stft(true, MASK_WINDOW, MASK_OVERLAP)) ** 2  # [track, bin, frame]
    masks = _share(powers, powers.sum(axis=0), 1 / len(true))
    return _istft(masks * _stft(mixed, MASK_WINDOW, MASK_OVERLAP), MASK_WINDOW, MASK_OVERLAP, len(mixed))


def hpss(mixed: Sound, seed: int = 0) -> Mapping[str, Sound]:
    """Stems by what lasts and what strikes (Fitzgerald 2010), over windows of two lengths (Fitzgerald and Gainza 2010).

    Over a long window a voice moves and so counts as striking, as drums do: what lasts is bass below BASS_HERTZ and
    other above. The rest is split over a short window: what strikes is drums, and what lasts vocals, or bass below
    BASS_HERTZ. The stems sum to the mixture.
    """
    lasting, moving = harmonic_percussive(mixed, LONG_WINDOW)
    voiced, drums = harmonic_percussive(moving, SHORT_WINDOW)
    low, other = split_at(lasting, BASS_HERTZ)
    low_voiced, vocals = split_at(voiced, BASS_HERTZ)
    return dict(zip(TRACKS, (vocals, drums, low + low_voiced, other), strict=True))


def harmonic_percussive(sound: Sound, window: int) -> tuple[Sound, Sound]:
    """[sample] as what lasts and what strikes, with soft masks; both sum to `sound`."""
    spectrum = _stft(sound, window, window * 3 // 4)
    magnitude = np.abs(spectrum)  # [bin, frame]
    lasting = median_filter(magnitude, size=(1, MEDIAN)) ** 2
    striking = median_filter(magnitude, size=(MEDIAN, 1)) ** 2
    mask = _share(lasting, lasting + striking, 0.5)
    harmonic = _istft(mask * spectrum, window, window * 3 // 4, len(sound))
    return harmonic, sound - harmonic


def split_at(sound: Sound, hertz: float) -> tuple[Sound, Sound]:
    """[sample] below and above a frequency; both sum to `sound`."""
    spectrum = rfft(sound)
    spectrum[rfftfreq(len(sound), 1 / SAMPLE_RATE) > hertz] = 0
    low = irfft(spectrum, len(sound)).astype(np.float32)
    return low, sound - low


def resynthesis(codec: Codec) -> Resynthesise:
    """There and back through a codec, in windows as long as a separator's, cross-faded over FADED_FRAMES."""
    window, step = WINDOW * codec.hop, (WINDOW - FADED_FRAMES) * codec.hop

    def there_and_back(sound: Sound) -> Sound:
        audio = at_rate(sound, SAMPLE_RATE, codec.sample_rate)
        timeline = OutputTimeline(channels=1)
        for start in range(0, len(audio), step):
            heard = audio[start : start + window]
            timeline.lay(start, decode(codec, encode(codec, np.pad(heard, (0, window - len(heard)))))[np.newaxis])
        return at_rate(timeline.commit()[0, : len(audio)], codec.sample_rate, SAMPLE_RATE, len(sound))

    return there_and_back


def _share(part: NDArray[np.float32], total: NDArray[np.float32], of_nothing: float) -> NDArray[np.float32]:
    """`part` [..., bin, frame] of `total` [bin, frame]; `of_nothing` where the total is nothing."""
    return np.divide(part, total, out=np.full_like(part, of_nothing), where=total > 0)


def _stft(sound: Sound, window: int, overlap: int) -> NDArray[np.complex64]:
    """[..., sample] -> [..., bin, frame]"""
    return stft(sound, nperseg=window, noverlap=overlap)[2]


def _istft(spectrum: NDArray[np.complex64], window: int, overlap: int, length: int) -> Sound:
    return istft(spectrum, nperseg=window, noverlap=overlap)[1][..., :length].astype(np.float32)
