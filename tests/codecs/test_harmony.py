"""Our semantic encoder: what its features say, and that a stream says exactly what the whole signal says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt
from torch import Tensor

from backline.codecs.harmony import (
    BAND_EDGES_HZ,
    BASS_BELOW,
    HOP,
    LOOKAHEAD,
    SAMPLE_RATE,
    TREBLE_FROM,
    VOCABULARY,
    HarmonyEncoder,
    HarmonyFeatures,
    HarmonyTables,
)
from backline.kernels.chroma import FEATURES, LEVEL, ONSETS, TONALITY
from tests.support.contract import Semantics, verify_streaming_contract

LATE = LOOKAHEAD // HOP


def tone(pitch: float, seconds: float = 1.0, amplitude: float = 0.2) -> Tensor:
    """A sine of the MIDI pitch, [sample]."""
    time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return amplitude * torch.sin(2 * torch.pi * 440 * 2 ** ((pitch - 69) / 12) * time)


def music(rows: int, frames: int, seed: int = 0) -> Tensor:
    """Notes over noise that come and go, [row, 1, sample]."""
    generator = torch.Generator().manual_seed(seed)
    audio = torch.zeros(rows, 1, frames * HOP)
    for row in range(rows):
        for start in range(0, frames, 9):
            pitch = int(torch.randint(30, 86, (1,), generator=generator))
            part = audio[row, 0, start * HOP : (start + 9) * HOP]
            part += tone(pitch, 0.18)[: len(part)] + 0.02 * torch.randn(len(part), generator=generator)
    return audio


def encoder(seed: int = 0) -> HarmonyEncoder:
    """With centroids among the features of random music, so that all tokens are in play."""
    features = HarmonyFeatures()(music(2, 300, seed + 100)).reshape(-1, FEATURES)
    mean, gain = features.mean(0), 1 / features.std(0).clamp_min(0.1)
    return HarmonyEncoder(HarmonyTables(mean, gain, ((features - mean) * gain)[:VOCABULARY].contiguous()))


ENCODER = encoder()


def stream(audio: Tensor, blocks: list[int]) -> Tensor:
    """Tokens of `audio` in blocks of so many frames, repeated, without the late start."""
    frames = audio.shape[-1] // HOP + LATE
    audio = torch.nn.functional.pad(audio, (0, LOOKAHEAD))
    out: list[Tensor] = []
    state, at = ENCODER.init_state(audio.shape[0]), 0
    while at < frames:
        block = min(blocks[len(out) % len(blocks)], frames - at)
        tokens, state = ENCODER.step(audio[..., at * HOP : (at + block) * HOP], state)
        out.append(tokens)
        at += block
    return torch.cat(out, 1)[:, LATE:]


@settings(max_examples=15, deadline=None)
@given(blocks=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_a_stream_gives_the_same_tokens_for_any_block_split(blocks: list[int], seed: int) -> None:
    audio = music(1, 60, seed)
    assert torch.equal(stream(audio, blocks), ENCODER.encode(audio))


def test_the_contract_is_kept() -> None:
    seeds = iter(range(1000))
    verify_streaming_contract(Semantics(ENCODER), lambda rows, steps: music(rows, steps // HOP, next(seeds)), blocks=24)


def test_stepping_leaves_the_given_state_alone() -> None:
    audio = music(1, 30)
    state = ENCODER.init_state(1)
    first, _ = ENCODER.step(audio, state)
    again, _ = ENCODER.step(audio, state)
    assert torch.equal(first, again)


def test_nothing_beyond_the_declared_lookahead_is_heard() -> None:
    audio = music(1, 60)
    changed = audio.clone()
    changed[..., 30 * HOP + LOOKAHEAD :] = 0.3
    features = HarmonyFeatures()
    assert torch.equal(features(audio)[:, :30], features(changed)[:, :30])
    assert not torch.equal(features(audio)[:, 30], features(changed)[:, 30])


def test_a_partial_last_frame_counts() -> None:
    audio = music(1, 20)
    assert ENCODER.encode(audio[..., : 19 * HOP + 1]).shape == (1, 20)


@pytest.mark.parametrize("pitch", range(48, 86, 3))
def test_a_note_sounds_in_its_pitch_class(pitch: int) -> None:
    treble = HarmonyFeatures()(tone(pitch)[None, None])[0, 25, 12:24]
    assert int(treble.argmax()) == pitch % 12


@pytest.mark.parametrize("pitch", range(33, 53, 2))
def test_a_bass_note_sounds_in_its_pitch_class(pitch: int) -> None:
    assert int(HarmonyFeatures()(tone(pitch)[None, None])[0, 30, :12].argmax()) == pitch % 12


def test_chroma_does_not_depend_on_loudness() -> None:
    features = HarmonyFeatures()
    loud, soft = features(tone(60, amplitude=0.8)[None, None]), features(tone(60, amplitude=0.08)[None, None])
    assert torch.allclose(loud[0, 25, 12:24], soft[0, 25, 12:24], atol=0.02)
    assert float(loud[0, 25, LEVEL] - soft[0, 25, LEVEL]) == pytest.approx(2 * np.log(10), abs=0.01)


def test_noise_as_loud_as_in_training_has_little_chroma() -> None:
    noise = 0.01 * torch.randn(1, 1, SAMPLE_RATE, generator=torch.Generator().manual_seed(1))
    assert float(HarmonyFeatures()(noise)[0, :, :24].max()) < 0.3


def test_silence_has_no_chroma_and_no_onset() -> None:
    quiet = HarmonyFeatures()(torch.zeros(1, 1, 20 * HOP))[0]
    assert not quiet[:, :24].any()
    assert not quiet[:, ONSETS].any()


def test_an_onset_is_heard_in_its_frame_and_band() -> None:
    audio = torch.zeros(1, 1, 40 * HOP)
    audio[0, 0, 20 * HOP :] = tone(96, 0.4)  # 2.1 kHz: the third band
    onsets = HarmonyFeatures()(audio)[0, :, ONSETS]
    assert onsets[:, 2].argmax() == 20
    assert not onsets[:20].any()
    assert float(onsets[21:, 2].max()) < 0.1  # of 5: what is left is the beating of tone and frame


def test_a_tone_is_tonal_and_noise_is_not() -> None:
    noise = 0.1 * torch.randn(1, 1, SAMPLE_RATE, generator=torch.Generator().manual_seed(0))
    features = HarmonyFeatures()
    assert features(tone(69)[None, None])[0, 25, TONALITY] > 0.9
    assert features(noise)[0, 25, TONALITY] < 0.3


def oracle(audio: np.ndarray, frame: int) -> np.ndarray:
    """The features of one frame of `audio` [sample], slowly and from the definition."""
    newest = (frame + 1) * HOP + LOOKAHEAD
    padded = np.concatenate([np.zeros(SAMPLE_RATE), audio, np.zeros(SAMPLE_RATE)])[: SAMPLE_RATE + newest]
    powers = {}
    for pitch in range(28, 89):
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        taps = round(SAMPLE_RATE * min(max(34 / hertz, 0.1), 0.3))
        future = LOOKAHEAD + HOP // 2
        past = taps - future
        window = np.concatenate(
            [
                0.5 - 0.5 * np.cos(np.pi * (np.arange(past) + 0.5) / past),
                0.5 + 0.5 * np.cos(np.pi * (np.arange(future) + 0.5) / future),
            ]
        )
        wave = np.exp(-2j * np.pi * hertz / SAMPLE_RATE * np.arange(taps))
        powers[pitch] = abs(2 * np.sum(padded[-taps:] * window * wave) / window.sum()) ** 2
    row = np.zeros(FEATURES)
    for offset, pitches in ((0, range(28, BASS_BELOW)), (12, range(TREBLE_FROM, 89))):
        chroma = np.zeros(12)
        for pitch in pitches:
            chroma[pitch % 12] += powers[pitch]
        row[offset : offset + 12] = np.sqrt(chroma / (chroma.sum() + 1e-4))
    frames = audio[: (frame + 1) * HOP].reshape(-1, HOP)
    for band, edges in enumerate(BAND_EDGES_HZ):
        filtered = sosfilt(butter(2, edges, "bandpass", output="sos", fs=SAMPLE_RATE), frames.ravel())
        loudness = np.log((filtered.reshape(-1, HOP) ** 2).mean(1) + 1e-5)
        trail = np.log(1e-5)
        for value in loudness[:-1]:
            trail = max(value, trail - 0.2)
        row[24 + band] = np.clip(loudness[-1] - trail, 0, 5)
    energy = (frames[-1] ** 2).mean()
    row[28] = min(0.5 * sum(powers.values()) / (energy + 1e-5), 2)
    row[29] = np.log(energy + 1e-5)
    return row


@pytest.mark.parametrize("frame", [0, 1, 9, 10, 33])
def test_features_are_what_their_definition_says(frame: int) -> None:
    audio = music(1, 40)
    fast = HarmonyFeatures()(audio)[0, frame].numpy()
    assert np.allclose(fast, oracle(audio[0, 0].double().numpy(), frame), atol=2e-4)


def test_tables_survive_a_pack_and_report_every_mismatch_at_once() -> None:
    tensors = ENCODER.tables.tensors("semantics.vocal.")
    loaded = HarmonyTables.from_tensors(tensors, "semantics.vocal.")
    assert torch.equal(loaded.centroids, ENCODER.tables.centroids)
    damaged = {"semantics.vocal.mean": torch.zeros(29), "semantics.vocal.gain": torch.zeros(FEATURES)}
    with pytest.raises(ValueError, match=r"mean is \[29\], must be \[30\]; .*centroids \[500, 30\] is missing"):
        HarmonyTables.from_tensors(damaged, "semantics.vocal.")


def test_blocks_that_are_no_whole_frames_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 1, 481\].*multiple of 480"):
        ENCODER.step(torch.zeros(1, 1, HOP + 1), ENCODER.init_state(1))
