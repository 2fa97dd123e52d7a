"""What separators are compared with does what its name says: oracles, clicks from tones, a codec without seams."""

import numpy as np
import pytest
import torch

from backline.codecs.hcodec.network import HCodec, HCodecConfig
from backline.codecs.hcodec.windowed import WINDOW, WindowedHCodec
from backline.evaluation.codec import decode, encode
from backline.evaluation.live import Sound
from backline.evaluation.separation_baselines import (
    FADED_FRAMES,
    hpss,
    ideal_ratio_mask,
    mixture,
    resynthesis,
)
from backline.measures.spectra import si_sdr
from backline.music.stems import SAMPLE_RATE, TRACKS, Stems

SECONDS = 3
TIME = np.arange(SECONDS * SAMPLE_RATE) / SAMPLE_RATE
VOCALS, DRUMS, BASS, OTHER = range(len(TRACKS))


def sine(hertz: float) -> Sound:
    return (0.2 * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)


def vibrato(hertz: float) -> Sound:
    """Half a semitone to either side, 6 times a second."""
    return (0.2 * np.sin(2 * np.pi * hertz * TIME + hertz * 0.03 / 6 * np.sin(2 * np.pi * 6 * TIME))).astype(np.float32)


def clicks() -> Sound:
    sound = np.zeros(len(TIME), np.float32)
    sound[SAMPLE_RATE // 4 :: SAMPLE_RATE // 2] = 0.9
    return sound


def apart() -> Stems:
    """Four stems that hardly meet."""
    return np.stack([vibrato(1500), clicks(), sine(60), sine(440)])


def test_the_mixture_is_every_stem() -> None:
    true = apart()
    np.testing.assert_array_equal(mixture(true.sum(axis=0), true), np.tile(true.sum(axis=0), (4, 1)))


def test_an_ideal_mask_gives_back_what_lies_apart_and_sums_to_the_mixture() -> None:
    true = apart()
    found = ideal_ratio_mask(true.sum(axis=0), true)
    np.testing.assert_allclose(found.sum(axis=0), true.sum(axis=0), atol=1e-5)
    for track in range(len(TRACKS)):
        assert si_sdr(found[track], true[track]) > 15, TRACKS[track]


def test_an_ideal_mask_shares_silence_evenly() -> None:
    silence = np.zeros((4, SAMPLE_RATE), np.float32)
    found = ideal_ratio_mask(np.ones(SAMPLE_RATE, np.float32), silence)
    np.testing.assert_allclose(found, 0.25, atol=1e-5)


def test_hpss_puts_clicks_low_tones_steady_tones_and_vibrato_into_a_stem_each() -> None:
    true = apart()
    mixed = true.sum(axis=0)
    found = np.stack([*hpss(mixed).values()])
    np.testing.assert_allclose(found.sum(axis=0), mixed, atol=1e-5)
    for track in range(len(TRACKS)):
        best = max(range(len(TRACKS)), key=lambda other, track=track: si_sdr(found[track], true[other]))
        assert best == track, f"{TRACKS[track]} is {TRACKS[best]}"
        assert si_sdr(found[track], true[track]) > si_sdr(mixed, true[track]) + 5, TRACKS[track]


def random_codec() -> WindowedHCodec:
    torch.manual_seed(0)
    sizes = dict.fromkeys(("width", "feed_forward", "semantic_width", "latent", "feature_width"), 32)
    blocks = {"encoder_blocks": 1, "decoder_blocks": 1, "transformer_layers": 0}
    return WindowedHCodec(HCodec(HCodecConfig(codebooks=2, codebook_size=8, features="mel", **blocks, **sizes)).eval())


class Echo(WindowedHCodec):
    """Its codes say everything: what is encoded is decoded."""

    def encode(self, audio: torch.Tensor) -> torch.Tensor:
        assert audio.shape == (1, 1, WINDOW * self.hop)
        return audio

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes


@pytest.mark.parametrize("samples", [1, 3840, WINDOW * 3840, 500_001])
def test_windows_of_a_codec_that_changes_nothing_join_to_the_sound(samples: int) -> None:
    sound = np.random.default_rng(0).uniform(-1, 1, samples).astype(np.float32)
    np.testing.assert_allclose(resynthesis(Echo(random_codec().network))(sound), sound, atol=1e-6)


def test_through_a_codec_comes_what_it_decodes() -> None:
    codec = random_codec()
    window = np.random.default_rng(0).uniform(-0.5, 0.5, WINDOW * codec.hop).astype(np.float32)
    faded = FADED_FRAMES * codec.hop  # in which the next window is mixed in
    whole = decode(codec, encode(codec, window))
    np.testing.assert_allclose(resynthesis(codec)(window)[:-faded], whole[:-faded], atol=1e-6)
