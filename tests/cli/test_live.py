"""`backline live`: what is heard is the output, moved by the latency alone; without a sound card it says what to do."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from backline.cli.live import mix_heard
from backline.cli.paced import INPUT
from tests.cli.test_commands import Backline, write_pack

RATE = 48_000
PATIENT = 1.0  # seconds of jitter buffer, so that a busy machine drops nothing


def voice(samples: int) -> np.ndarray:
    """[channel, sample]"""
    return np.random.default_rng(3).uniform(-0.5, 0.5, (2, samples)).astype(np.float32)


def test_from_file_to_file_the_recording_lies_under_the_input(backline: Backline, address: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(12_000).T, RATE, subtype="FLOAT")
    said = backline(
        "live", "--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav", "--pack", "passthrough",
        "--server", address, "--jitter-buffer", PATIENT, "--tempo", 96,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "0 late" in said.out
    recorded, rate = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert rate == RATE
    np.testing.assert_array_equal(recorded.T, voice(12_000))


def test_the_dry_input_is_heard_with_the_output_that_belongs_under_it() -> None:
    blocks = {"band": np.ones((1, 4), np.float32), INPUT: np.full((2, 4), 0.5, np.float32)}
    np.testing.assert_array_equal(mix_heard(blocks, ["band"], dry=0.5), np.full((2, 4), 1.25))


def test_only_the_outputs_that_were_asked_for_are_heard(backline: Backline, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(12_000).T, RATE, subtype="FLOAT")
    packs = write_pack(tmp_path / "packs")  # two outputs, each of them the input

    def record(*ports: str) -> np.ndarray:
        options = [text for port in ports for text in ("--port", port)]
        said = backline(
            "live", "--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav", "--pack", "pair",
            "--packs", packs, "--jitter-buffer", PATIENT, *options,
        )  # fmt: skip
        assert said.code == 0, said.err
        return soundfile.read(tmp_path / "out.wav", dtype="float32")[0].T

    np.testing.assert_array_equal(record("bass"), voice(12_000))
    np.testing.assert_allclose(record(), 2 * voice(12_000))


def test_a_folder_records_each_output_that_is_heard_in_a_file_of_its_own(backline: Backline, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(12_000).T, RATE, subtype="FLOAT")
    said = backline(
        "live", "--input", tmp_path / "in.wav", "--output", f"{tmp_path}/heard/", "--pack", "pair",
        "--packs", write_pack(tmp_path / "packs"), "--jitter-buffer", PATIENT, "--port", "drums",
    )  # fmt: skip
    assert said.code == 0, said.err
    (path,) = (tmp_path / "heard").iterdir()
    assert path.name == "drums.wav"
    np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0].T, voice(12_000))


def test_an_output_that_the_pack_does_not_have_is_named(backline: Backline, address: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(1_000).T, RATE)
    said = backline(
        "live", "--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav", "--pack", "passthrough",
        "--server", address, "--port", "vocals",
    )  # fmt: skip
    assert said.code == 1
    assert "has no output 'vocals': use main" in said.err


@pytest.mark.parametrize("arguments", [["live"], ["live", "--list-devices"]])
def test_a_machine_without_audio_devices_is_told_what_to_do(
    backline: Backline, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", SimpleNamespace(query_devices=list))
    said = backline(*arguments)
    assert said.code == 1
    assert "no audio device" in said.err
    assert "--input FILE --output FILE" in said.err


def test_missing_portaudio_is_named_with_its_package(
    backline: Backline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    said = backline("live")
    assert said.code == 1
    assert "libportaudio2" in said.err
