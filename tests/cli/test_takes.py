"""No take is ever lost: not by its own output, not by a full disk, not by Ctrl+C, and live not by anything."""

import os
import resource
import signal
import socket
import stat
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from backline.cli import take_file
from backline.cli.console import UserError
from backline.cli.paced import FADE_SECONDS, Host
from backline.cli.take_file import TakeFile, write_audio
from backline.cli.takes import LiveTake, PortFiles, RenderedTakes
from backline.service.server import start_server
from backline.sound_files import Audio
from backline.whole_file import whole_file
from tests.cli.test_commands import Backline, write_pack
from tests.support.sound_card import SoundDevice

RATE = 48_000
OLDER = b"RIFF an older take, the only one"


def noise(channels: int, samples: int) -> Audio:
    return np.random.default_rng(samples).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def recorded(path: Path, samples: int = 4_000, channels: int = 2) -> Audio:
    """Writes and returns a take."""
    audio = noise(channels, samples)
    soundfile.write(path, audio.T, RATE, subtype="FLOAT")
    return audio


def read(path: Path) -> Audio:
    return np.asarray(soundfile.read(path, dtype="float32", always_2d=True)[0].T)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def small_disk(limit: int) -> Iterator[None]:
    """A disk on which no file grows beyond `limit` bytes; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---- output over input ---------------------------------------------------------------------------------


def other_name(take: Path, way: str) -> Path | str:
    """Another way to name `take` as an output."""
    folder = take.parent
    match way:
        case "same":
            return take
        case "dots":
            return f"{folder}/./x/../{take.name}"
        case "symbolic":
            (folder / "link.wav").symlink_to(take)
            return folder / "link.wav"
        case "hard":
            (folder / "hard.wav").hardlink_to(take)
            return folder / "hard.wav"
        case "folder":
            return folder
        case _:
            (folder.parent / "elsewhere").symlink_to(folder)
            return f"{folder.parent}/elsewhere/"


WAYS = ["same", "dots", "symbolic", "hard", "folder", "linked folder"]


@pytest.mark.parametrize("command", ["render", "live"])
@pytest.mark.parametrize("way", WAYS)
def test_the_input_is_never_its_own_output(
    backline: Backline, address: str, tmp_path: Path, command: str, way: str
) -> None:
    folder = tmp_path / "takes"
    (folder / "x").mkdir(parents=True)
    take = folder / "main.wav"  # as the port is named
    recorded(take)
    before = take.read_bytes()
    out = other_name(take, way)
    source = [take] if command == "render" else ["--input", take]
    said = backline(command, *source, "--output", out, "-p", "passthrough", "--server", address)
    assert said.code == 1
    assert "is the input itself" in said.err
    assert len(said.err.splitlines()) == 1
    assert take.read_bytes() == before
    assert not list(folder.glob(".*"))


def test_a_file_beside_the_input_may_have_its_name_in_part(backline: Backline, tmp_path: Path) -> None:
    """`-o song.wav` of a pack with two outputs writes song-drums.wav and song-bass.wav."""
    audio = recorded(tmp_path / "song.wav")
    packs = write_pack(tmp_path / "packs")
    said = backline("render", tmp_path / "song.wav", "-o", tmp_path / "song.wav", "-p", "pair", "--packs", packs)
    assert said.code == 0, said.err
    for name in ("song.wav", "song-drums.wav", "song-bass.wav"):
        np.testing.assert_array_equal(read(tmp_path / name), audio)


@pytest.mark.parametrize("port", ["../../evil", "/abs", "..", "a\\b", ".hidden", "", "line\nbreak"])
def test_an_outputs_name_is_no_path(tmp_path: Path, port: str) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="cannot be written to files"):
        PortFiles.at(f"{tmp_path}/out/").paths([port], None)
    with pytest.raises(UserError, match="cannot be written to files"):
        PortFiles.at(f"{tmp_path}/out.wav").paths([port, "bass"], None)


# ---- targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [("folder", "this is a folder"), ("pipe", "a pipe"), ("socket", "a socket"), ("device", "a device")],
)
def test_what_is_no_file_is_refused_before_the_work(backline: Backline, tmp_path: Path, kind: str, text: str) -> None:
    recorded(tmp_path / "in.wav")
    out = tmp_path / "main.wav"
    match kind:
        case "folder":
            out.mkdir()
        case "pipe":
            os.mkfifo(out)
        case "socket":
            socket.socket(socket.AF_UNIX).bind(str(out))
        case "device":
            out.symlink_to(os.devnull)
    target = f"{tmp_path}/" if kind == "folder" else out
    said = backline("render", tmp_path / "in.wav", "-o", target, "-p", "passthrough")
    assert said.code == 1
    assert text in said.err
    assert len(said.err.splitlines()) == 1
    assert names(tmp_path) == ["in.wav", "main.wav"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_write_protected_file_and_folder_are_refused_before_the_work(backline: Backline, tmp_path: Path) -> None:
    recorded(tmp_path / "in.wav")
    (tmp_path / "out.wav").write_bytes(OLDER)
    (tmp_path / "out.wav").chmod(0o444)
    said = backline("render", tmp_path / "in.wav", "-o", tmp_path / "out.wav", "-p", "passthrough")
    assert (said.code, "write-protected" in said.err) == (1, True)
    tmp_path.chmod(0o555)
    said = backline("render", tmp_path / "in.wav", "-o", tmp_path / "new.wav", "-p", "passthrough")
    tmp_path.chmod(0o755)
    assert (said.code, "nothing can be written" in said.err) == (1, True)


def test_a_link_stays_one_and_leads_to_the_new_take(backline: Backline, address: str, tmp_path: Path) -> None:
    audio = recorded(tmp_path / "in.wav")
    store = tmp_path / "store"
    store.mkdir()
    (store / "real.wav").write_bytes(OLDER)
    (store / "real.wav").chmod(0o640)
    (store / "hard.wav").hardlink_to(store / "real.wav")
    (tmp_path / "link.wav").symlink_to(store / "real.wav")
    said = backline(
        "render", tmp_path / "in.wav", "-o", tmp_path / "link.wav", "-p", "passthrough", "--server", address
    )
    assert said.code == 0, said.err
    assert (tmp_path / "link.wav").is_symlink()
    np.testing.assert_array_equal(read(store / "real.wav"), audio)
    assert stat.S_IMODE((store / "real.wav").stat().st_mode) == 0o640
    assert (store / "hard.wav").read_bytes() == OLDER
    assert names(store) == ["hard.wav", "real.wav"]


def test_a_new_take_may_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_audio(tmp_path / "new.wav", noise(1, 10), RATE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new.wav").stat().st_mode) == 0o640


# ---- a full disk, Ctrl+C -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.aiff", "out.w64"])
@pytest.mark.parametrize("limit", [2_000, 50_000], ids=["at once", "midway"])
def test_a_full_disk_leaves_the_older_take_and_no_half_file(
    backline: Backline, address: str, tmp_path: Path, name: str, limit: int
) -> None:
    recorded(tmp_path / "in.wav", samples=60_000)
    (tmp_path / name).write_bytes(OLDER)
    with small_disk(limit):
        said = backline("render", tmp_path / "in.wav", "-o", tmp_path / name, "-p", "passthrough", "--server", address)
    assert said.code == 1
    assert said.err == f"error: {tmp_path / name}: File too large\n"
    assert (tmp_path / name).read_bytes() == OLDER
    assert names(tmp_path) == ["in.wav", name]


def test_a_disk_that_takes_not_even_a_header_is_named(tmp_path: Path) -> None:
    with small_disk(10), pytest.raises(OSError, match="File too large") as failure:
        TakeFile(tmp_path / "out.wav", RATE, 2, 1_000)
    assert failure.value.filename == str(tmp_path / "out.wav")
    assert names(tmp_path) == []


def test_of_several_takes_all_are_replaced_or_none(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(OLDER)
    paths = {name: tmp_path / f"{name}.wav" for name in ("a", "b")}
    with small_disk(30_000), RenderedTakes(paths, {"a": 1, "b": 1}, (RATE, RATE), 9_000) as made:
        made.write("a", 0, noise(1, 5_000))  # fits
        with pytest.raises(OSError, match="File too large"):
            made.write("b", 0, noise(1, 9_000))
    assert names(tmp_path) == ["a.wav", "b.wav"]
    assert all(path.read_bytes() == OLDER for path in paths.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_rendering_that_is_stopped_leaves_the_older_take(
    backline: Backline, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    recorded(tmp_path / "in.wav", samples=30_000)
    (tmp_path / "out.wav").write_bytes(OLDER)
    written = RenderedTakes.write

    def stopped(self: RenderedTakes, port: str, position: int, audio: Audio) -> None:
        written(self, port, position, audio)
        if position > 10_000:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(RenderedTakes, "write", stopped)
    out = tmp_path / "out.wav"
    said = backline("render", tmp_path / "in.wav", "-o", out, "-p", "passthrough", "--server", address)
    assert said.code != 0
    assert "Traceback" not in said.err
    assert out.read_bytes() == OLDER
    assert names(tmp_path) == ["in.wav", "out.wav"]


def test_what_else_is_written_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("older")
    with small_disk(100), pytest.raises(OSError, match="File too large"), whole_file(path) as fresh:
        fresh.write_text("x" * 1_000)

    def fail() -> None:
        with whole_file(path) as fresh:
            fresh.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (names(tmp_path), path.read_text()) == (["figures.json"], "older")
    with whole_file(path) as fresh:
        fresh.write_text("newer")
    assert (names(tmp_path), path.read_text()) == (["figures.json"], "newer")


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "codec", "-o", "taken.json"],
        ["evaluate", "grid", "--picture", "taken.png"],
        ["evaluate", "drift", "-o", "taken.json"],
        ["demo", "--folder", "taken"],
        ["demo", "--folder", "a-file"],
        ["music", "compose", "-o", "a-file"],
    ],
)
def test_every_command_checks_its_target_before_the_work(
    backline: Backline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("taken.json", "taken.png", "taken/mix.wav"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a-file").touch()
    said = backline(*arguments)
    assert said.code == 1
    assert "this is a f" in said.err  # a folder, or a file
    assert said.out == ""


# ---- long takes ----------------------------------------------------------------------------------------


def test_a_wav_beyond_what_its_header_counts_is_rf64(
    backline: Backline, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(take_file, "LIMIT_BYTES", 100_000)
    audio = recorded(tmp_path / "in.wav", samples=20_000)  # 160,000 bytes
    out = tmp_path / "out.wav"
    said = backline("render", tmp_path / "in.wav", "-o", out, "-p", "passthrough", "--server", address)
    assert said.code == 0, said.err
    assert out.read_bytes()[:4] == b"RF64"
    np.testing.assert_array_equal(read(out), audio)
    said = backline(
        "render", tmp_path / "in.wav", "-o", tmp_path / "out.aiff", "-p", "passthrough", "--server", address
    )
    assert said.code == 1
    assert "use .wav or .flac" in said.err
    assert names(tmp_path) == ["in.wav", "out.wav"]


@pytest.mark.parametrize(("limit", "head"), [(2**32 - 2**16, b"RIFF"), (100_000, b"RF64")])
@pytest.mark.parametrize("samples", [20_001, 20_000])
def test_a_take_of_unknown_length_becomes_wav_where_that_counts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, head: bytes, samples: int
) -> None:
    monkeypatch.setattr(take_file, "LIMIT_BYTES", limit)
    take = TakeFile(tmp_path / "take.wav", RATE, 3, None)
    audio = noise(3, samples)
    take.write(audio)
    take.finish()
    take.put()
    assert (tmp_path / "take.wav").read_bytes()[:4] == head
    assert int.from_bytes((tmp_path / "take.wav").read_bytes()[4:8], "little") in (
        0xFFFFFFFF,
        (tmp_path / "take.wav").stat().st_size - 8,
    )
    np.testing.assert_array_equal(read(tmp_path / "take.wav"), audio)


def test_a_format_that_ends_at_four_gib_ends_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take_file, "LIMIT_BYTES", 10_000)
    take = TakeFile(tmp_path / "take.aiff", RATE, 1, None)
    take.write(noise(1, 2_000))
    with pytest.raises(OSError, match=r"4 GiB: use \.wav or \.flac"):
        take.write(noise(1, 2_000))
    take.discard()
    assert names(tmp_path) == []


def test_twenty_minutes_take_the_memory_of_one(backline: Backline, address: str, tmp_path: Path) -> None:
    peaks = []
    for minutes in (1, 1, 20):  # the first compiles and loads
        with soundfile.SoundFile(tmp_path / "in.wav", "w", 8_000, 1) as file:
            for minute in range(minutes):
                file.write(noise(1, 60 * 8_000)[0] * (minute + 1) / minutes)
        tracemalloc.start()
        try:
            said = backline(
                "render", tmp_path / "in.wav", "-o", tmp_path / "out.wav", "-p", "passthrough", "--server", address,
                "--chunk", 1,
            )  # fmt: skip
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        assert said.code == 0, said.err
    assert soundfile.info(tmp_path / "out.wav").frames == 20 * 60 * 8_000
    assert peaks[2] < 1.25 * peaks[1] + 1_000_000  # all of it would be 38 MB, twice


# ---- live ----------------------------------------------------------------------------------------------


def live(backline: Backline, folder: Path, address: str, *more: object) -> Any:
    return backline(
        "live", "--input", folder / "in.wav", "--output", folder / "out.wav", "-p", "passthrough", "--server", address,
        "--jitter-buffer", 0.1, *more,
    )  # fmt: skip


@pytest.fixture
def at_turn(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Has something happen at a turn of the host, to a recording that is under way."""

    def arrange(number: int, happens: Callable[[], object]) -> None:
        turns = 0
        turn = Host.turn

        def counted(self: Host, block: Audio) -> dict[str, Audio]:
            nonlocal turns
            turns += 1
            if turns == number:
                happens()
            return turn(self, block)

        monkeypatch.setattr(Host, "turn", counted)

    return arrange


def check_kept(path: Path, audio: Audio) -> None:
    kept = read(path)
    assert 5_000 < kept.shape[1] < audio.shape[1]
    played = audio[:, : kept.shape[1]]
    np.testing.assert_array_equal(kept[:, :5_000], played[:, :5_000])
    lost = np.flatnonzero((kept != played).any(axis=0))  # where the output did not come any more
    if lost.size:  # its last sample dies away, then there is silence
        assert not kept[:, lost[0] + round(FADE_SECONDS * RATE) :].any()


@pytest.mark.parametrize("older", [True, False])
def test_a_server_that_goes_away_leaves_what_was_recorded(
    backline: Backline, tmp_path: Path, at_turn: Callable[..., None], older: bool
) -> None:
    audio = recorded(tmp_path / "in.wav", samples=40_000)
    if older:
        (tmp_path / "out.wav").write_bytes(OLDER)
    with ExitStack() as stack:
        server = stack.enter_context(start_server(drain_seconds=0.0))
        at_turn(100, stack.close)
        said = live(backline, tmp_path, server.address)
    assert said.code == 1
    kept = tmp_path / ("out-unfinished.wav" if older else "out.wav")
    assert f"the take broke off, and is kept as far as it came: {kept}" in said.out
    check_kept(kept, audio)
    assert names(tmp_path) == (["in.wav", "out-unfinished.wav", "out.wav"] if older else ["in.wav", "out.wav"])
    if older:
        assert (tmp_path / "out.wav").read_bytes() == OLDER


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_what_was_recorded(
    backline: Backline, tmp_path: Path, at_turn: Callable[..., None]
) -> None:
    from backline.cli.connection import server_process

    audio = recorded(tmp_path / "in.wav", samples=144_000)
    with server_process([]) as server:
        at_turn(150, server.process.kill)
        said = live(backline, tmp_path, server.address, "--reconnect", 0)
    assert said.code == 1
    assert "went away" in said.err
    check_kept(tmp_path / "out.wav", audio)


def test_ctrl_c_ends_a_take_in_order_and_a_second_one_keeps_it_too(
    backline: Backline, address: str, tmp_path: Path, at_turn: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = recorded(tmp_path / "in.wav", samples=40_000)
    at_turn(100, lambda: os.kill(os.getpid(), signal.SIGINT))
    said = live(backline, tmp_path, address)
    assert said.code == 0, said.err
    assert f"recorded {tmp_path / 'out.wav'}" in said.out
    assert read(tmp_path / "out.wav").shape[1] == 99 * 256  # to the last block that was sent
    (tmp_path / "out.wav").unlink()

    def impatient(self: Host) -> dict[str, Audio]:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal comes first")

    monkeypatch.setattr(Host, "finish", impatient)
    at_turn(100, lambda: os.kill(os.getpid(), signal.SIGINT))
    said = live(backline, tmp_path, address)
    assert said.code != 0
    assert "Traceback" not in said.err
    check_kept(tmp_path / "out.wav", audio)


def test_ctrl_c_while_a_take_is_put_in_its_place_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = TakeFile.finish

    def interrupted(self: TakeFile) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        finish(self)

    monkeypatch.setattr(TakeFile, "finish", interrupted)
    audio = noise(1, 5_000)
    take = LiveTake({"a": tmp_path / "a.wav"}, {"a": 1}, RATE, 0, None, dict)
    take.hear({"a": audio})
    take.complete()
    with pytest.raises(KeyboardInterrupt):
        take.__exit__()
    np.testing.assert_array_equal(read(tmp_path / "a.wav"), audio)


def test_a_sound_card_that_is_lost_leaves_what_was_recorded(
    backline: Backline, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", SoundDevice(unplugged=(200, "finished")))
    said = backline("live", "--output", tmp_path / "out.flac", "-p", "passthrough", "--server", address)
    assert said.code == 1
    assert "was it unplugged?" in said.err
    assert "the take broke off" in said.out
    assert soundfile.info(tmp_path / "out.flac").frames == 200 * 256


def test_a_disk_that_fills_up_leaves_what_was_recorded(backline: Backline, address: str, tmp_path: Path) -> None:
    audio = recorded(tmp_path / "in.wav", samples=40_000)
    with small_disk(100_000):
        said = live(backline, tmp_path, address)
    assert said.code == 1
    assert "File too large; from here on nothing is recorded" in said.err
    check_kept(tmp_path / "out.wav", audio)
    assert names(tmp_path) == ["in.wav", "out.wav"]


def test_a_take_in_which_nothing_was_heard_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(OLDER)
    with LiveTake({"a": tmp_path / "a.wav"}, {"a": 1}, RATE, 1_000, None, dict) as take:
        take.hear({"a": noise(1, 999)})  # all of it lies before the input
        take.complete()
    assert (names(tmp_path), (tmp_path / "a.wav").read_bytes()) == (["a.wav"], OLDER)
