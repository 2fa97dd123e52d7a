"""`backline live`: what is heard is the output, moved by the latency alone; without a sound card it says what to do."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from backline.cli.live import mix_heard
from backline.cli.paced import INPUT
from backline.service.server import start_server
from tests.cli.test_commands import Backline, write_pack
from tests.support.everything import CHUNK_SAMPLES, everything_pack

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


@contextmanager
def typing(lines: bytes) -> Iterator[None]:
    """Has the standard input hold these lines, and no end."""
    reading, writing = os.pipe()
    kept = os.dup(0)
    os.dup2(reading, 0)
    os.write(writing, lines)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        for each in (reading, writing, kept):
            os.close(each)


@pytest.mark.parametrize("line", ["a lonely harp", "prompt = a lonely harp", " a=lonely  harp "])
def test_what_is_typed_is_the_new_text(
    backline: Backline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    packs = everything_pack(tmp_path / "packs", monkeypatch, waits_for_frames=False)
    audio = np.random.default_rng(3).uniform(-0.4, 0.4, (12 * CHUNK_SAMPLES, 3)).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", audio, 24_000, subtype="FLOAT")
    with start_server(packs=[packs], device="cpu") as server, typing(f"{'x' * 513}\n\n{line}\n".encode()):
        said = backline(
            "live", "--input", tmp_path / "in.wav", "--output", f"{tmp_path}/out/", "--pack", "everything",
            "--server", server.address, "--inputs", "voice:1,band:2", "--port", "main", "--text", "prompt=strings",
            "--jitter-buffer", PATIENT,
        )  # fmt: skip
    assert said.code == 0, said.err
    words = line.removeprefix("prompt =").strip()
    assert said.err.splitlines() == [
        "text refused: a text is at most 512 bytes of UTF-8, without NUL: write less", f"text: prompt = {words}",
    ]  # fmt: skip
    main = soundfile.read(tmp_path / "out" / "main.wav", dtype="float32")[0]
    gains = ((main - audio[:, 1:]).sum(axis=1) / audio[:, 0] / 2).reshape(-1, CHUNK_SAMPLES)
    heard = np.round(100 * np.median(gains, axis=1))  # lengths of the text, chunk by chunk
    changed = int(np.argmax(heard == len(words)))
    assert changed < len(heard) / 2
    np.testing.assert_array_equal(heard, [len("strings")] * changed + [len(words)] * (len(heard) - changed))


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


def test_a_logged_take_is_rendered_again(backline: Backline, address: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(24_000).T, RATE, subtype="FLOAT")
    live = (
        "live", "--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav", "--pack", "passthrough",
        "--server", address, "--jitter-buffer", PATIENT, "--tempo", 96, "--set", "gain=0.5",
        "--log", tmp_path / "log.jsonl", "--log-audio", tmp_path / "heard.wav",
    )  # fmt: skip
    said = backline(*live)
    assert said.code == 0, said.err
    np.testing.assert_array_equal(soundfile.read(tmp_path / "heard.wav", dtype="float32")[0].T, voice(24_000))
    for heard in ("in.wav", "heard.wav"):
        said = backline(
            "render", "--replay", tmp_path / "log.jsonl", "--input", tmp_path / heard, "-o", tmp_path / "again.wav",
            "--server", address,
        )  # fmt: skip
        assert said.code == 0, said.err
        again = soundfile.read(tmp_path / "again.wav", dtype="float32")[0]
        np.testing.assert_array_equal(again, soundfile.read(tmp_path / "out.wav", dtype="float32")[0])
    said = backline(*live)
    assert said.code == 1
    assert "log.jsonl is there already: give the log another name" in said.err


def test_auto_plays_in_time_and_says_how_safe_that_is(backline: Backline, address: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "in.wav", voice(12_000).T, RATE, subtype="FLOAT")
    said = backline(
        "live", "--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav", "--pack", "passthrough",
        "--server", address, "--auto",
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "chunks of 0.01 s, visibility -0." in said.out
    assert ": safe (network " in said.out
    assert "end-to-end latency 0 ms" in said.out


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--auto", "--chunk", 1), "--auto chooses --chunk and --visibility"),
        (("--log", "x.jsonl", "--steered"), "are for one session"),
        (("--log-audio", "x.wav"), "--log-audio goes with --log"),
    ],
)
def test_what_does_not_go_together_is_said(backline: Backline, options: tuple[object, ...], remedy: str) -> None:
    said = backline("live", *options)
    assert said.code != 0
    assert remedy in " ".join(said.err.split())
