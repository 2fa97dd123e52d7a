"""Tokens of mel frames: 25 a second, the nearest centroid of four frames, and fitted on what is heard."""

import math

import pytest
import torch

from backline.codecs.mel_clusters import BANDS, STACKED, MelClusters, stacked_mels
from backline.nn.mel import LogMel


def tones(seconds: float = 2.0) -> torch.Tensor:
    """Half a second of each of some tones, one after the other."""
    time = torch.arange(int(24_000 * seconds)) / 24_000
    hertz = torch.tensor([220.0, 880.0, 3520.0])[(time / 0.5).long() % 3]
    return (0.3 * torch.sin(2 * math.pi * hertz * time)).float()


def test_a_token_is_the_nearest_centroid_of_four_mel_frames() -> None:
    sound = tones()
    tokenizer = MelClusters.fit([sound], entries=4)
    codes = tokenizer.encode(sound[None, None])
    assert codes.shape == (1, 1, 50)
    mels = LogMel(24_000, BANDS, 1024, 240, 1e-5)(sound[None, None])[0].T  # [mel frame, band]
    for frame, token in enumerate(codes[0, 0].tolist()):
        heard = (mels[STACKED * frame : STACKED * (frame + 1)].reshape(-1) - tokenizer.mean) / tokenizer.deviation
        assert token == int((tokenizer.centroids - heard).square().sum(1).argmin())
    assert torch.equal(tokenizer.vectors(codes[0]), tokenizer.centroids[codes[0, 0]])


def test_sounds_that_differ_have_different_tokens() -> None:
    sound = tones()
    codes = MelClusters.fit([sound], entries=12).encode(sound[None, None])[0, 0]
    middles = codes[[6, 18, 31]]
    assert len(middles.unique()) == 3


def test_a_frame_of_mels_is_not_heard_by_another_token() -> None:
    sound = tones()
    changed = sound.clone()
    changed[960 * 10 : 960 * 11] = 0
    apart = (stacked_mels(sound[None, None]) != stacked_mels(changed[None, None])).any(-1)[0]
    assert apart.nonzero().flatten().tolist() == [9, 10, 11]  # windows of 43 ms reach into the neighbours


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="give more songs, or fewer clusters"):
        MelClusters.fit([tones(0.2)], entries=64)
