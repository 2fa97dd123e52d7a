"""Files and values that are wrong in every way that people and machines get them wrong: one clear sentence each."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.ffmpeg import FfmpegSound
from tests.cli.conftest import Typed
from tests.cli.test_commands import Backline

RATE = 48_000


def sine(samples: int, channels: int = 1) -> np.ndarray:
    """[sample, channel]"""
    time = np.arange(samples)[:, np.newaxis] / RATE
    return 0.5 * np.sin(2 * np.pi * 440.0 * time * np.arange(1, channels + 1)).astype(np.float32)


def check_sentence(said: Typed, code: int, *words: str) -> None:
    assert said.code == code, said
    assert "Traceback" not in said.err + said.out
    text = " ".join(said.err.replace("│", " ").split())  # click draws a box around what is wrong with a command line
    for word in words:
        assert word in text
    if code == 1:
        assert len(said.err.splitlines()) == 1


# ---- values --------------------------------------------------------------------------------------------

VALUES: dict[tuple[str, ...], str] = {
    ("--seed", str(2**64)): "18446744073709551615",
    ("--seed", "-1"): "0",
    ("--signature", "-4/4"): "as in 4/4, 3/4 or 6/8",
    ("--signature", "0/4"): "as in 4/4, 3/4 or 6/8",
    ("--signature", "4/3"): "as in 4/4, 3/4 or 6/8",
    ("--signature", "4/4/4"): "as in 4/4, 3/4 or 6/8",
    ("--signature", "65/4"): "as in 4/4, 3/4 or 6/8",
    ("--signature", "٤/4"): "as in 4/4, 3/4 or 6/8",
    ("--signature", "\udcff/4"): "as in 4/4, 3/4 or 6/8",
    ("--tempo", "nan"): "--tempo",
    ("--tempo", "inf"): "999",
    ("--tempo", "0"): "1",
    ("--tempo", "-96"): "1",
    ("--tempo", "1e9"): "999",
    ("--tempo", "fast"): "tempo",
    ("--downbeat", "nan"): "--downbeat",
    ("--downbeat", "-inf"): "86400",
    ("--downbeat", "1e300"): "86400",
    ("--chunk", "nan"): "use a finite one",
    ("--chunk", "inf"): "use a finite one",
    ("--visibility", "nan"): "use a finite one",
    ("--guidance", "inf"): "use a finite one",
    ("--temperature", "nan"): "use a finite one",
    ("--set", "gain=nan"): "NAME=VALUE with a number",
    ("--set", "gain=-inf"): "NAME=VALUE with a number",
    ("--set", "gain=1e999"): "NAME=VALUE with a number",
    ("--set", "\udcff=1"): "NAME=VALUE with a number",
    ("--pack", "\udcff"): "is no name",
    ("--packs", "/nonexistent"): "there is no folder /nonexistent",
    ("--packs", "/dev/null"): "there is no folder /dev/null",
    ("--server", "host"): "use HOST:PORT with a port from 1 to 65535",
    ("--server", "host:"): "use HOST:PORT with a port from 1 to 65535",
    ("--server", ":50505"): "use HOST:PORT with a port from 1 to 65535",
    ("--server", "127.0.0.1:99999"): "use HOST:PORT with a port from 1 to 65535",
    ("--server", ":99999"): "use HOST:PORT with a port from 1 to 65535",
    ("--server", "127.0.0.1:0"): "use HOST:PORT with a port from 1 to 65535",
    ("--server", "::1"): "use HOST:PORT with a port from 1 to 65535",
    ("--server", "http://127.0.0.1:50505"): "use HOST:PORT with a port from 1 to 65535",
    ("--server", "unix:"): "unix:/path",
    ("--layout", "quadraphonic"): "discrete",
}


@pytest.mark.parametrize("command", ["render", "live"])
@pytest.mark.parametrize("option", VALUES, ids="=".join)
def test_a_value_that_nothing_can_use_is_named(backline: Backline, command: str, option: tuple[str, str]) -> None:
    start = ["render", "in.wav"] if command == "render" else ["live", "--input", "in.wav"]
    said = backline(*start, "--output", "out.wav", *option)
    check_sentence(said, 2, "Invalid value", VALUES[option])


@pytest.mark.parametrize(
    "arguments",
    [
        ["live", "--dry", "nan"],
        ["live", "--jitter-buffer", "nan"],
        ["live", "--jitter-buffer", "inf"],
        ["evaluate", "accompaniment", "--chunk", "nan"],
        ["evaluate", "grid", "--set", "gain=nan"],
        ["evaluate", "drift", "--minutes", "nan"],
        ["train", "default-pack", "--minutes", "nan"],
        ["train", "stems-pack", "--minutes", "inf"],
        ["demo", "--packs", "/nonexistent"],
        ["demo", "--seed", str(2**64)],
        ["doctor", "--packs", "/nonexistent"],
        ["serve", "--packs", "/nonexistent"],
        ["serve", "--load-limit", "nan"],
        ["packs", "list", "--packs", "/nonexistent"],
        ["packs", "verify", "--packs", "/nonexistent"],
    ],
    ids=" ".join,
)
def test_every_command_that_takes_such_a_value_names_it(backline: Backline, arguments: list[str]) -> None:
    check_sentence(backline(*arguments), 2, "Invalid value")


@pytest.mark.parametrize("server", ["127.0.0.1:1", "[::1]:1", "no-such-host.invalid:50505", "unix:/no/such/socket"])
def test_a_server_that_is_not_there_is_named(backline: Backline, tmp_path: Path, server: str) -> None:
    soundfile.write(tmp_path / "in.wav", sine(100), RATE)
    said = backline("render", tmp_path / "in.wav", "-o", tmp_path / "out.wav", "--server", server)
    check_sentence(said, 1, f"no Backline server answers at {server}: is `backline serve` running there?")
    assert not (tmp_path / "out.wav").exists()


# ---- files ---------------------------------------------------------------------------------------------


@pytest.fixture
def render(backline: Backline, address: str, tmp_path: Path) -> Callable[..., Typed]:
    """Renders a file through passthrough, to out.wav."""

    def rendered(source: Path | str, *options: object) -> Typed:
        out = tmp_path / "out.wav"
        return backline("render", source, "-o", out, "-p", "passthrough", "--server", address, *options)

    return rendered


def make(path: Path, kind: str) -> None:
    match kind:
        case "nothing":
            pass
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "socket":
            socket.socket(socket.AF_UNIX).bind(str(path))
        case "device":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "empty":
            path.touch()
        case "header":
            soundfile.write(path, sine(0), RATE)
        case "text":
            path.write_text("#EXTM3U\nhttp://127.0.0.1:1/x.m4a\n")
        case "noise":
            path.write_bytes(np.random.default_rng(0).bytes(10_000))


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("nothing", "a.wav", "there is no file"),
        ("folder", "a.wav", "is a folder: name one file in it"),
        ("pipe", "a.wav", "is a pipe, a socket or a device: save the sound to a file first"),
        ("socket", "a.wav", "is a pipe, a socket or a device: save the sound to a file first"),
        ("device", "a.wav", "is a pipe, a socket or a device: save the sound to a file first"),
        ("loop", "a.wav", "a.wav"),
        ("empty", "a.wav", "is empty: it has no bytes"),
        ("header", "a.wav", "holds no samples"),
        ("text", "a.wav", "is no audio file"),
        ("noise", "a.wav", "is no audio file"),
        ("noise", "a.raw", "is no audio file"),
        ("text", "a.m3u8", "is no audio file"),
        ("noise", "a.m4a", "is no audio file"),
    ],
)
@pytest.mark.parametrize("with_ffmpeg", [False, pytest.param(True, marks=pytest.mark.hosts)])
def test_what_is_no_sound_is_named(
    backline: Backline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str, sentence: str,
    with_ffmpeg: bool,
) -> None:  # fmt: skip
    if not with_ffmpeg:
        monkeypatch.setenv("PATH", "")
    path = tmp_path / name
    make(path, kind)
    for start in (["render", path], ["live", "--input", path]):
        check_sentence(backline(*start, "--output", tmp_path / "out.wav", "-p", "passthrough"), 1, sentence)
    assert not (tmp_path / "out.wav").exists()


def test_without_ffmpeg_its_package_is_named(
    render: Callable[..., Typed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / "song.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    check_sentence(render(tmp_path / "song.m4a"), 1, "install ffmpeg (Debian: apt install ffmpeg)")


def test_of_a_damaged_flac_what_could_be_read_is_played(render: Callable[..., Typed], tmp_path: Path) -> None:
    audio = 0.1 * np.random.default_rng(1).standard_normal((100_000, 2))
    soundfile.write(tmp_path / "whole.flac", audio, RATE)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "torn.flac").write_bytes(whole[: len(whole) // 2])
    said = render(tmp_path / "torn.flac")
    played = soundfile.read(tmp_path / "out.wav", always_2d=True)[0]
    assert 40_000 < len(played) < 52_000
    check_sentence(said, 1, f"torn.flac is damaged: its first {len(played)} of 100000 samples could be read")
    np.testing.assert_array_equal(played, soundfile.read(tmp_path / "whole.flac")[0][: len(played)])


def test_not_a_number_becomes_silence_and_is_said(render: Callable[..., Typed], tmp_path: Path) -> None:
    audio = sine(1_000)
    audio[100:200] = np.nan
    audio[300] = np.inf
    soundfile.write(tmp_path / "nan.wav", audio, RATE, subtype="FLOAT")
    said = render(tmp_path / "nan.wav")
    assert said.code == 0
    assert "NaN or infinite input samples were set to zero" in said.err
    played = soundfile.read(tmp_path / "out.wav", always_2d=True, dtype="float32")[0]
    np.testing.assert_array_equal(played, np.where(np.isfinite(audio), audio, 0.0))


def test_more_channels_than_are_sent_are_mixed_for_a_pack_or_refused(
    backline: Backline, render: Callable[..., Typed], address: str, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "in.wav", sine(24_000, 65), RATE)
    check_sentence(render(tmp_path / "in.wav"), 1, "has 65 channels", "64 at most: split the file")
    said = backline("render", tmp_path / "in.wav", "-o", tmp_path / "out.wav", "--server", address)  # the band is mono
    assert said.code == 0, said.err
    assert soundfile.info(tmp_path / "out.wav").frames == 24_000
    soundfile.write(tmp_path / "in.wav", sine(1_000, 64), RATE)
    assert render(tmp_path / "in.wav").code == 0
    assert soundfile.info(tmp_path / "out.wav").channels == 64


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_a_layout_that_the_file_does_not_have_is_named(
    render: Callable[..., Typed], tmp_path: Path, layout: str
) -> None:
    soundfile.write(tmp_path / "in.wav", sine(100, 2), RATE)
    check_sentence(render(tmp_path / "in.wav", "--layout", layout), 1, f"channel layout {layout} has")


NAMES = [b"caf\xe9.wav", b"\xff\xfe.wav", "naïve ♫.wav".encode(), b"-i.wav", b"new\nline.wav", b"[red]:x:.wav"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_a_file_can_have_will_do(
    backline: Backline, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("out").mkdir()
    soundfile.write("in.wav", sine(500), RATE, subtype="FLOAT")
    source, out = Path("in", os.fsdecode(name)), Path("out", os.fsdecode(name))
    Path("in.wav").rename(source)
    for start in (["render", source], ["live", "--input", source]):
        said = backline(*start, "--output", out, "-p", "passthrough", "--server", address)
        assert said.code == 0, said.err
        assert os.listdir(b"out") == [name]
        played = soundfile.read(os.fsencode(out), always_2d=True)[0]  # live: a stereo mix
        np.testing.assert_array_equal(played, np.repeat(sine(500), played.shape[1], axis=1))
        os.unlink(out)
    missing = backline("render", Path("out", os.fsdecode(b"\xff" + name)), "-o", "x.wav", "--server", address)
    assert missing.code == 1
    assert "there is no file" in missing.err


def test_a_c_locale_prints_such_names_too(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/\xff\xe2\x99\xab.wav"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "backline.cli.main", "render", name, "-o", os.fsencode(tmp_path) + b"/out.wav"]
    said = subprocess.run(command, env=environment, capture_output=True)
    assert said.returncode == 1
    assert said.stderr.startswith(b"error: there is no file ")
    assert b"Traceback" not in said.stderr


# ---- ffmpeg --------------------------------------------------------------------------------------------

needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


def encoded(folder: Path, name: str, channels: int = 2, samples: int = 48_000) -> Path:
    """Of one second; the name is what ffmpeg must not be led astray by."""
    soundfile.write(folder / "clear.wav", sine(samples, channels), RATE)
    made = folder / f"made{Path(name).suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-i", folder / "clear.wav", made], check=True)
    (folder / "clear.wav").unlink()
    return made.rename(folder / name)


@pytest.mark.hosts
@needs_ffmpeg
@pytest.mark.parametrize(
    "name", ["song.m4a", "-i.m4a", "http:x.m4a", "concat:a|b.m4a", "%d.mp4", "song.webm", "song.aac"]
)
def test_what_ffmpeg_decodes_is_played(
    render: Callable[..., Typed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    encoded(tmp_path, name)
    said = render(f"./{name}" if name.startswith("-") else name)
    assert said.code == 0, said.err
    audio, rate = soundfile.read(tmp_path / "out.wav", always_2d=True)
    assert rate == RATE
    assert abs(len(audio) - RATE) < 3_000  # raw AAC keeps its padding
    assert 0.3 < np.abs(audio[10_000:30_000]).max() < 0.7
    assert (tmp_path / "out.wav").read_bytes()[:4] == b"RIFF"


@pytest.mark.hosts
@needs_ffmpeg
def test_a_surround_m4a_goes_live_too(backline: Backline, address: str, tmp_path: Path) -> None:
    encoded(tmp_path, "song.m4a", channels=6, samples=12_345)
    said = backline(
        "live", "--input", tmp_path / "song.m4a", "--output", f"{tmp_path}/out/", "-p", "passthrough",
        "--server", address, "--jitter-buffer", 1,
    )  # fmt: skip
    assert said.code == 0, said.err
    info = soundfile.info(tmp_path / "out" / "main.wav")
    assert (12_345 <= info.frames < 12_345 + 1_024, info.channels) == (
        True,
        6,
    )  # ffmpeg may keep a last frame's padding


@pytest.mark.hosts
@needs_ffmpeg
def test_a_torn_m4a_is_named_and_one_without_sound_too(render: Callable[..., Typed], tmp_path: Path) -> None:
    whole = encoded(tmp_path, "song.m4a").read_bytes()
    (tmp_path / "torn.m4a").write_bytes(whole[:-200])
    check_sentence(render(tmp_path / "torn.m4a"), 1, "torn.m4a is no audio file that libsndfile or ffmpeg reads")
    picture = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=size=64x64:duration=0.2", tmp_path / "film.mp4"]
    subprocess.run(picture, check=True)
    check_sentence(render(tmp_path / "film.mp4"), 1, "film.mp4 holds no sound: ffmpeg finds no audio stream in it")


@pytest.mark.hosts
@needs_ffmpeg
def test_no_playlist_leads_ffmpeg_to_the_network(backline: Backline, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        port = listener.getsockname()[1]
        for name, text in (
            ("a.m3u8", f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:{port}/x.ts\n#EXT-X-ENDLIST\n"),
            ("b.txt", f"ffconcat version 1.0\nfile http://127.0.0.1:{port}/x.m4a\n"),
        ):
            (tmp_path / name).write_text(text)
            said = backline("render", tmp_path / name, "-o", tmp_path / "out.wav", "-p", "passthrough")
            check_sentence(said, 1, name)
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.hosts
@needs_ffmpeg
def test_a_decoder_that_is_left_early_ends(tmp_path: Path) -> None:
    sound = FfmpegSound(encoded(tmp_path, "song.m4a", samples=480_000))
    assert sound.read(100).shape == (2, 100)
    sound.stop()
    sound.close()
    assert sound._process.returncode is not None
