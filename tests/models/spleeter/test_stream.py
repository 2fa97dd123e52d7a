"""Spleeter as a stream gives what it makes of the whole file, in any channels; a pack that makes none is named."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from backline.models import families
from backline.models.errors import PackError
from backline.models.spleeter.load import FRAME, load, tiny_random
from backline.models.stream import Audio
from backline.models.windowed.consistency import OFF
from backline.models.windowed.offline import separate_file
from backline.models.windowed.separator import Window
from backline.models.windowed.settings import make_finish
from backline.models.windowed.stream import WindowedStream
from backline.models.windowed.windows import Windows
from tests.support.playing import play, running

RATE, STEP = 44_100, 1024
WINDOWS = Windows(128 * STEP, 64 * STEP, 16 * STEP, STEP, STEP)
SESSION: dict[str, Any] = {
    "sample_rate": RATE, "chunk_seconds": 64 * FRAME, "visibility_seconds": float(80 * FRAME)
}  # fmt: skip
FIVE = ("vocals", "drums", "bass", "other", "piano")


def music(seconds: float, channels: int = 2) -> Audio:
    """Noise in bursts, different in every channel."""
    samples = round(seconds * RATE)
    noise = np.random.default_rng(0).standard_normal((channels, samples)).astype(np.float32)
    return 0.2 * noise * np.exp(-8 * (np.arange(samples, dtype=np.float32) / RATE % 0.37))


def tiny(tracks: tuple[str, ...] = ("vocals", "accompaniment"), **changes: Any) -> WindowedStream:
    return load(*tiny_random(tracks, **changes), "cpu")


def streamed(stream: WindowedStream, audio: Audio, block: int = 4_096, **parameters: float) -> Audio:
    """[track, channel, sample]"""
    with running(spleeter=stream) as engine:
        heard = play(engine, "spleeter", audio, block, **SESSION, parameters=parameters)
    return np.stack([heard.audio(port) for port in range(len(stream.spec.ports))])


@pytest.mark.parametrize(
    ("tracks", "changes", "channels", "mode"),
    [
        (("vocals", "accompaniment"), {}, 2, 1),
        (("vocals", "accompaniment"), {"extension": "zeros"}, 1, OFF),
        (FIVE[:4], {"activation": "elu"}, 2, OFF),
        (FIVE, {"activation": "elu", "masks": "softmax"}, 2, 1),
        (FIVE, {"activation": "elu", "masks": "softmax"}, 5, OFF),
    ],
)
def test_the_stream_gives_what_the_whole_file_gives(
    tracks: tuple[str, ...], changes: dict[str, Any], channels: int, mode: int
) -> None:
    stream, audio = tiny(tracks, **changes), music(3.2, channels)
    expected = separate_file(stream.separator, audio, WINDOWS, make_finish(stream.settings, {"consistency": mode}))
    found = streamed(stream, audio, 1_777, consistency=mode)
    assert found.shape == expected.shape == (len(tracks), channels, audio.shape[1])
    assert np.abs(expected).max(axis=(1, 2)).min() > 0.005, "every track has something to compare"
    assert np.abs(found - expected).max() < 1e-5
    if "extension" not in changes:  # what no U-Net hears is shared out, too
        assert np.abs(found.sum(axis=0) - audio).max() < 1e-4


def test_above_what_the_networks_hear_the_tracks_get_their_mean_share_or_nothing() -> None:
    audio = music(3)[:, : 128 * STEP]
    windows = [Window(0, audio, tiny().separator.silence(), 128)]
    found = {}
    for extension in ("average", "zeros"):
        (told,) = tiny(extension=extension).separator.separate(windows)
        found[extension] = np.abs(np.fft.rfft(told.estimates[..., STEP:-4096]))  # type: ignore[union-attr]
    above = slice(found["zeros"].shape[-1] * 1030 // 2048, None)
    assert found["zeros"][..., above].max() < 1e-2 * found["average"][..., above].max()
    below = slice(0, found["zeros"].shape[-1] * 1000 // 2048)
    least = 0.01 * found["average"].max()  # frames end where the part that is looked at does
    np.testing.assert_allclose(found["zeros"][..., below], found["average"][..., below], atol=least)


def test_a_voice_in_one_channel_is_masked_there_as_it_is_masked_alone() -> None:
    """Two channels go through the networks together; one channel is heard as the same in both."""
    voice = music(3, channels=1)
    both = streamed(tiny(), np.repeat(voice, 2, axis=0))
    alone = streamed(tiny(), voice)
    assert alone.shape[1] == 1
    np.testing.assert_allclose(both.mean(axis=1), alone[:, 0], atol=1e-5)


def test_channels_out_of_phase_are_heard() -> None:
    voice = music(3, channels=1)
    opposite = streamed(tiny(), np.concatenate([voice, -voice]))
    in_phase = streamed(tiny(), np.concatenate([voice, voice]))
    np.testing.assert_allclose(opposite * [[[1], [-1]]], in_phase, atol=1e-5)


def test_a_pack_says_without_weights_what_it_will_serve() -> None:
    config, tensors = tiny_random(FIVE, activation="elu", masks="softmax")
    spec = families.load(config, tensors, "cpu").spec
    assert spec == families.describe(config)
    assert tuple(port.name for port in spec.ports) == FIVE
    assert spec.chunk_quantum_seconds == Fraction(256, 11_025)
    assert [parameter.name for parameter in spec.parameters] == ["consistency", "transients"]


@pytest.mark.parametrize(
    ("table", "changes", "problem"),
    [
        ("spleeter", {"window_frames": 100}, "window_frames is 100: use a multiple of 64"),
        ("spleeter", {"tracks": ["vocals"]}, r"tracks is \['vocals'\]: list 2 to 16"),
        ("spleeter", {"tracks": ["vocals", "../x"]}, "tracks: '../x' is no name"),
        ("spleeter", {"filters": [16, 10**9]}, r"filters\[1\] is 1000000000"),
        ("spleeter", {"masks": "wiener"}, "masks is 'wiener': use one of sigmoid, softmax"),
        ("stream", {"guard_seconds": "1/10"}, "guard_seconds is 0.1: use a multiple of 0.0232"),
        ("stream", {"chunk_seconds": "1/2"}, "chunk_seconds is 0.5: use a multiple of 0.0232"),
    ],
)
def test_what_the_tables_get_wrong_is_named(table: str, changes: dict[str, Any], problem: str) -> None:
    config, _ = tiny_random()
    config[table] = {**config[table], **changes}
    with pytest.raises(PackError, match=problem):
        families.describe(config)


def test_tensors_that_do_not_fit_are_named_at_once() -> None:
    config, tensors = tiny_random()
    del tensors["spleeter.1.up.3.bias"]
    tensors["spleeter.0.mask.weight"] = torch.zeros(2, 1, 3, 3)
    with pytest.raises(PackError, match=r"(?s)1.up.3.bias \[2\] is missing.*0.mask.weight is \[2, 1, 3, 3\], must be"):
        load(config, tensors, "cpu")


@pytest.mark.parametrize("extension", ["average", "zeros"])
def test_rows_that_share_a_call_are_as_alone_and_one_that_fails_ends_alone(extension: str) -> None:
    separator: Any = tiny(FIVE, extension=extension).separator
    sounds = [music(3.0, channels)[:, : WINDOWS.window] for channels in (1, 2, 5)]
    sounds.append(np.concatenate([sounds[0], -sounds[0]]))
    windows = [Window(row, sound, separator.silence(), 10) for row, sound in enumerate(sounds)]
    expected = separator.separate(windows)
    calls, forward = [], separator.network.forward
    separator.network.forward = lambda heard: calls.append(len(heard)) or forward(heard)
    separator.batches = True
    for one, other in zip(separator.separate(windows), expected, strict=True):
        np.testing.assert_allclose(one.estimates, other.estimates, atol=1e-6)
    assert calls == [4]
    windows[1] = replace(windows[1], audio=windows[1].audio[:, :100])
    answers = separator.separate(windows)
    assert isinstance(answers[1], Exception)
    for row in (0, 2, 3):
        np.testing.assert_allclose(answers[row].estimates, expected[row].estimates, atol=1e-6)
