"""Real recordings, speech, trumpet and strings, played along with and separated by the packs that ship: files, live."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.service.server import start_server
from tests.cli.test_commands import Backline


@pytest.fixture(scope="module")
def lenient_address() -> Iterator[str]:
    """Of a server that admits whatever comes: a busy machine must not make these tests fail."""
    with start_server(load_limit=4.0) as server:
        yield server.address


RECORDINGS = ["speech.ogg", "solo_trumpet.ogg", "hungarian_dance.ogg"]


def check_sound(path: Path, samples: int, rate: int) -> None:
    audio, found_rate = soundfile.read(path, always_2d=True, dtype="float32")
    assert (len(audio), found_rate) == (samples, rate)
    assert np.isfinite(audio).all()
    assert np.sqrt(np.mean(audio**2)) > 1e-3, "silent"
    assert np.abs(audio).max() < 1.0, "clips"


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_rendered_to_sound_of_its_length(
    backline: Backline, address: str, recordings: Path, tmp_path: Path, name: str
) -> None:
    info = soundfile.info(recordings / name)
    said = backline("render", recordings / name, "-o", tmp_path / "band.wav", "--seed", 1, "--server", address)
    assert said.code == 0, said.err
    check_sound(tmp_path / "band.wav", info.frames, info.samplerate)


@pytest.mark.slow
@pytest.mark.paced
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_is_played_along_with_live(
    backline: Backline, lenient_address: str, recordings: Path, tmp_path: Path, name: str
) -> None:
    rate = soundfile.info(recordings / name).samplerate
    audio = soundfile.read(recordings / name, frames=4 * rate)[0]
    soundfile.write(tmp_path / "voice.wav", audio, rate)
    said = backline(
        "live", "--input", tmp_path / "voice.wav", "--output", tmp_path / "band.wav", "--server", lenient_address,
        "--jitter-buffer", 2.0,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert " 0 late" in said.out
    check_sound(tmp_path / "band.wav", len(audio), rate)


@pytest.mark.slow
def test_a_recording_is_separated_into_four_files_that_sum_to_it(
    backline: Backline, address: str, recordings: Path, tmp_path: Path
) -> None:
    source = recordings / "hungarian_dance.ogg"
    rate = soundfile.info(source).samplerate
    mixture = soundfile.read(source, frames=10 * rate, dtype="float32", always_2d=True)[0]
    soundfile.write(tmp_path / "song.wav", mixture, rate, subtype="FLOAT")
    said = backline("render", tmp_path / "song.wav", "--pack", "stems", "-o", f"{tmp_path}/stems/", "--server", address)
    assert said.code == 0, said.err
    stems = {path.stem: soundfile.read(path, always_2d=True)[0] for path in (tmp_path / "stems").glob("*.wav")}
    assert sorted(stems) == ["bass", "drums", "other", "vocals"]
    rest = sum(stems.values()) - mixture
    assert np.sum(rest**2) < 1e-6 * np.sum(mixture**2)


@pytest.mark.slow
@pytest.mark.paced
def test_a_recording_is_separated_live(
    backline: Backline, lenient_address: str, recordings: Path, tmp_path: Path
) -> None:
    rate = soundfile.info(recordings / "hungarian_dance.ogg").samplerate
    audio = soundfile.read(recordings / "hungarian_dance.ogg", frames=4 * rate)[0]
    soundfile.write(tmp_path / "song.wav", audio, rate)
    said = backline(
        "live", "--input", tmp_path / "song.wav", "--output", f"{tmp_path}/stems/", "--pack", "stems",
        "--server", lenient_address, "--jitter-buffer", 4.0,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert " 0 late" in said.out
    assert sorted(path.name for path in (tmp_path / "stems").iterdir()) == [
        "bass.wav", "drums.wav", "other.wav", "vocals.wav"
    ]  # fmt: skip
