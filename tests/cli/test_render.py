"""`backline render`: what comes back is as long as what went in, at its rate, a file for each output."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.models.mge.load import tiny_random as tiny_mge
from backline.models.stems.load import tiny_random
from backline.packs.pack import write_pack as write_stems_pack
from backline.service.server import start_server
from tests.cli.test_commands import Backline, write_pack
from tests.support.everything import everything_pack


def sine(path: Path, rate: int, channels: int, samples: int) -> np.ndarray:
    """Writes and returns [sample, channel]."""
    time = np.arange(samples)[:, np.newaxis] / rate
    audio = 0.5 * np.sin(2 * np.pi * 440.0 * time * np.arange(1, channels + 1))
    soundfile.write(path, audio, rate)
    return soundfile.read(path, always_2d=True, dtype="float32")[0]


@pytest.mark.parametrize(
    ("name", "rate", "channels", "samples"),
    [
        ("a.wav", 44_100, 2, 30_011),
        ("b.flac", 48_000, 1, 4_800),
        ("c.ogg", 16_000, 1, 16_001),
        ("d.wav", 8_000, 5, 800),
        ("e.wav", 192_000, 2, 20_000),
        ("f.wav", 48_000, 2, 1),
    ],
)
def test_passthrough_gives_back_the_file(
    backline: Backline, address: str, tmp_path: Path, name: str, rate: int, channels: int, samples: int
) -> None:
    audio = sine(tmp_path / name, rate, channels, samples)
    out = tmp_path / "out.wav"
    said = backline("render", tmp_path / name, "-o", out, "--pack", "passthrough", "--server", address)
    assert said.code == 0, said.err
    rendered, rendered_rate = soundfile.read(out, always_2d=True, dtype="float32")
    assert rendered_rate == rate
    np.testing.assert_array_equal(rendered, audio)


@pytest.mark.parametrize("rate", [4_000, 384_000])
def test_rates_that_the_wire_does_not_take_are_converted_there_and_back(
    backline: Backline, address: str, tmp_path: Path, rate: int
) -> None:
    audio = sine(tmp_path / "in.wav", rate, 1, 20_003)
    out = tmp_path / "out.wav"
    assert backline("render", tmp_path / "in.wav", "-o", out, "-p", "passthrough", "--server", address).code == 0
    rendered, rendered_rate = soundfile.read(out, always_2d=True, dtype="float32")
    assert rendered_rate == rate
    assert rendered.shape == audio.shape
    middle = slice(2_000, -2_000)  # the filters need room at both ends
    np.testing.assert_allclose(rendered[middle], audio[middle], atol=1e-3)


def test_a_server_of_its_own_renders_a_file_for_each_output(backline: Backline, tmp_path: Path) -> None:
    audio = sine(tmp_path / "in.wav", 48_000, 2, 10_000)
    packs = write_pack(tmp_path / "packs")
    said = backline(
        "render", tmp_path / "in.wav", "-o", tmp_path / "out.flac", "--pack", "pair", "--packs", packs, "--seed", 3,
        "--chunk", 0.05, "--tempo", 96, "--signature", "3/4", "--downbeat", 0.5,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "seed 3" in said.out
    for port in ("drums", "bass"):
        rendered = soundfile.read(tmp_path / f"out-{port}.flac", always_2d=True, dtype="float32")[0]
        np.testing.assert_allclose(rendered, audio, atol=1 / 32_000)


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_gets_a_file_named_after_each_output(backline: Backline, tmp_path: Path, made: bool) -> None:
    audio = sine(tmp_path / "in.wav", 44_100, 2, 10_007)
    folder = tmp_path / "stems"
    if made:
        folder.mkdir()
    out = folder if made else f"{folder}/"
    said = backline(
        "render", tmp_path / "in.wav", "-o", out, "--pack", "pair", "--packs", write_pack(tmp_path / "packs")
    )
    assert said.code == 0, said.err
    assert sorted(path.name for path in folder.iterdir()) == ["bass.wav", "drums.wav"]
    for path in folder.iterdir():
        assert str(path) in said.out
        rendered, rate = soundfile.read(path, always_2d=True, dtype="float32")
        assert rate == 44_100
        np.testing.assert_array_equal(rendered, audio)


@pytest.mark.slow
def test_a_separator_writes_four_stems_that_sum_to_the_song(backline: Backline, tmp_path: Path) -> None:
    audio = sine(tmp_path / "song.wav", 44_100, 2, 60_001)
    config, tensors = tiny_random()
    write_stems_pack(tmp_path / "packs" / config["name"], config, tensors)
    said = backline(
        "render", tmp_path / "song.wav", "-o", f"{tmp_path}/stems/", "-p", config["name"], "--packs", tmp_path / "packs"
    )
    assert said.code == 0, said.err
    stems = {}
    for path in (tmp_path / "stems").iterdir():
        stems[path.name], rate = soundfile.read(path, always_2d=True, dtype="float32")
        assert rate == 44_100
        assert stems[path.name].shape == audio.shape
    assert sorted(stems) == ["bass.wav", "drums.wav", "other.wav", "vocals.wav"]
    middle = slice(1_000, -1_000)  # at the ends the resamplers hear the silence outside
    assert np.abs(sum(stems.values()) - audio)[middle].max() < 1e-3


@pytest.mark.slow
def test_an_instrument_is_asked_for_by_text_and_the_rest_is_the_song_without_it(
    backline: Backline, tmp_path: Path
) -> None:
    audio = sine(tmp_path / "song.wav", 44_100, 2, 60_001)
    config, tensors = tiny_mge()
    write_stems_pack(tmp_path / "packs" / "tiny-mge", config, tensors)
    typed = ("render", tmp_path / "song.wav", "-p", "tiny-mge", "--packs", tmp_path / "packs", "--seed", 1)
    said = backline(*typed, "-o", f"{tmp_path}/apart/", "--text", "query=the bass")
    assert said.code == 0, said.err
    apart = {path.name: soundfile.read(path, dtype="float32")[0] for path in (tmp_path / "apart").iterdir()}
    assert sorted(apart) == ["rest.wav", "source.wav"]
    assert np.abs(sum(apart.values()) - audio)[1_000:-1_000].max() < 1e-3
    joined = tmp_path / "joined.wav"
    said = backline(*typed, "-o", joined, "--task", "impute", "--text", "query=a rhodes", "--set", "steps=2")
    assert said.code == 0, said.err
    made = soundfile.read(joined, dtype="float32")[0]
    assert made.shape == audio.shape
    assert np.abs(made).max() > 0.01


@pytest.mark.parametrize(("out", "remedy"), [("file.wav/", "is a file"), ("none/stems/", "make it first")])
def test_a_folder_that_cannot_be_is_refused_before_the_work(
    backline: Backline, tmp_path: Path, out: str, remedy: str
) -> None:
    sine(tmp_path / "file.wav", 48_000, 1, 100)
    said = backline("render", tmp_path / "file.wav", "-o", f"{tmp_path}/{out}", "-p", "passthrough")
    assert said.code == 1
    assert remedy in said.err


@pytest.mark.parametrize("option", [["--set", "nonsense=1"], ["--temperature", "0.5"], ["--chunk", "77"]])
def test_the_servers_refusal_is_the_commands_error(
    backline: Backline, address: str, tmp_path: Path, option: list[str]
) -> None:
    sine(tmp_path / "in.wav", 48_000, 2, 100)
    out = tmp_path / "out.wav"
    said = backline("render", tmp_path / "in.wav", "-o", out, "-p", "passthrough", "--server", address, *option)
    assert said.code == 1
    assert said.err.startswith("error: ")
    assert not out.exists()


def test_a_file_that_is_no_audio_and_one_without_samples_are_refused(backline: Backline, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not audio")
    said = backline("render", tmp_path / "text.wav", "-o", tmp_path / "out.wav")
    assert said.code == 1
    assert "no audio file" in said.err
    sine(tmp_path / "empty.wav", 48_000, 2, 0)
    said = backline("render", tmp_path / "empty.wav", "-o", tmp_path / "out.wav")
    assert said.code == 1
    assert "no samples" in said.err


def test_a_server_that_is_not_there_is_said_so(backline: Backline, tmp_path: Path) -> None:
    sine(tmp_path / "in.wav", 48_000, 2, 100)
    said = backline("render", tmp_path / "in.wav", "-o", tmp_path / "out.wav", "--server", "127.0.0.1:1")
    assert said.code == 1
    assert "is `backline serve` running there?" in said.err


def test_texts_task_and_inputs_are_told_and_shown(
    backline: Backline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packs = everything_pack(tmp_path / "packs", monkeypatch)
    shown = backline("packs", "show", "everything", "--packs", packs).out
    for line in (
        "input voice: 1 channels who sings",
        "text prompt: 'a rhodes', or 'a rhodes', 'drums' what to play",
        "task hum: hums along",
        "plays the notes (MIDI) that a session sends",
        "takes tokens: book0 of 8, book1 of 16, 25 a second",
        "style: 0, 0 to 2 (plain, swing, wild)",
    ):
        assert line in shown.splitlines()
    audio = sine(tmp_path / "in.wav", 24_000, 3, 24_000)
    out = tmp_path / "out.wav"
    with start_server(packs=[packs]) as server:
        typed = ("render", tmp_path / "in.wav", "-o", out, "--pack", "everything", "--server", server.address)
        said = backline(*typed, "--task", "hum", "--inputs", "band:2,voice:1")
        assert "no input 'band'" in said.err  # hums to a voice alone
        assert "no text 'lyrics'" in backline(*typed, "--text", "lyrics=la").err
        assert "no task 'polka'" in backline(*typed, "--task", "polka").err
        sine(tmp_path / "in.wav", 24_000, 1, 24_000)
        assert backline(*typed, "--task", "hum", "--inputs", "voice:1").code == 0
    np.testing.assert_array_equal(soundfile.read(out, always_2d=True, dtype="float32")[0], audio[:, :1])


def test_a_text_is_heard(backline: Backline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packs = everything_pack(tmp_path / "packs", monkeypatch, waits_for_frames=False)
    audio, words = sine(tmp_path / "in.wav", 24_000, 3, 24_000), "the bass"
    with start_server(packs=[packs], device="cpu") as server:
        said = backline(
            "render", tmp_path / "in.wav", "-o", f"{tmp_path}/out/", "--pack", "everything",
            "--inputs", "voice:1,band:2", "--text", f"prompt={words}", "--server", server.address,
        )  # fmt: skip
    assert said.code == 0, said.err
    main = soundfile.read(tmp_path / "out" / "main.wav", dtype="float32")[0]
    np.testing.assert_array_equal(main, audio[:, 1:] + np.float32(len(words) / 100) * audio[:, :1])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--text", "prompt"), "use NAME=TEXT"),
        (("--inputs", "voice"), "use NAME:CHANNELS"),
        (("--inputs", "voice:0"), "use NAME:CHANNELS"),
        (("--inputs", "voice:1,voice:1"), "given twice"),
    ],
)
def test_options_that_say_nothing_are_refused(
    backline: Backline, tmp_path: Path, option: tuple[str, str], said: str
) -> None:
    typed = backline("render", tmp_path / "in.wav", "-o", tmp_path / "out.wav", *option)
    assert typed.code == 2
    assert said in typed.err
