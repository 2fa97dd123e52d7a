"""`backline live` with a sound card, on stage: what a card and a server do to it, and what the performer is told."""

from __future__ import annotations

import _thread
import itertools
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from backline.cli import sound_card
from backline.cli.console import UserError
from backline.cli.paced import INPUT, Audio, Host, Recording
from backline.cli.sound_card import Played, find_card, play_on_card
from backline.service.server import start_server
from backline_client import Block, Client, Event, Session
from tests.cli.test_commands import Backline
from tests.support.sound_card import Flags, SoundDevice, device

RATE, BLOCK = 48_000, 256

Live = Callable[..., Any]


def voice(channels: int, samples: int) -> Audio:
    """[channel, sample]"""
    return np.random.default_rng(3).uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)


def stop_at(block: int) -> Callable[[int], None]:
    """A clock: the user presses Ctrl+C at this block, and the card waits for that."""

    def clock(number: int) -> None:
        if number == block:
            _thread.interrupt_main()
        if number >= block:
            time.sleep(0.01)

    return clock


@pytest.fixture
def live(backline: Backline, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Live:
    """Types `backline live` on a machine with this card; what is recorded is out.wav."""

    def type_command(card: SoundDevice, *arguments: object, server: str | None = address) -> Any:
        monkeypatch.setitem(sys.modules, "sounddevice", card)
        where = [] if server is None else ["--server", server]
        recorded = ["--output", tmp_path / "out.wav"]
        return backline("live", "--pack", "passthrough", "--block", BLOCK, *where, *recorded, *arguments)

    return type_command


def recorded(folder: Path) -> tuple[Audio, int]:
    """[channel, sample] and Hz"""
    samples, rate = soundfile.read(folder / "out.wav", dtype="float32", always_2d=True)
    return samples.T, rate


class Noted:
    """A session that notes which output has been put where it is played from; of several, that of `port`."""

    def __init__(self, session: Session, port: str | None = None) -> None:
        self._session, self._port = session, port
        self._arrival = threading.Condition()
        self._end = 0
        self._newest: Event | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def receive_event(self, timeout: float | None = None) -> Event | None:
        if isinstance(block := self._newest, Block) and block.port == (self._port or block.port):
            with self._arrival:  # whoever wants the next event has put away the one before
                self._end = block.end
                self._arrival.notify_all()
        self._newest = self._session.receive_event(timeout)
        return self._newest

    def await_output(self, position: int) -> None:
        with self._arrival:
            assert self._arrival.wait_for(lambda: self._end >= position, 20)


def card_of(package: SoundDevice, listens: bool) -> sound_card.Card:
    return find_card(package, (None, None), None, RATE, None, listens)


# ---- what is heard ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [64, 1_000])
def test_a_file_is_played_to_its_end(client: Client, block: int) -> None:
    audio = voice(2, 10_000)
    with client.open("passthrough", RATE, 2, block_size=block, jitter_buffer_seconds=1.0) as session:
        noted: Any = Noted(session)
        host, recording, latency = Host(noted, RATE, 2), Recording(), session.latency_samples
        package = SoundDevice(clock=lambda number: noted.await_output((number + 1) * block - latency))
        padded = np.pad(audio, ((0, 0), (0, latency)))

        def hear(blocks: dict[str, Audio]) -> Audio:
            recording.hear(blocks)
            return blocks["main"]

        play_on_card(card_of(package, False), host, padded, block, hear, Played())
        recording.hear(host.finish())
    played = np.concatenate(package.played).T[:, : padded.shape[1]]
    assert np.isfinite(played).all()
    np.testing.assert_array_equal(played[:, latency:], audio)
    np.testing.assert_array_equal(recording.aligned(latency)[INPUT], padded)


def test_a_microphone_on_the_second_input_is_heard(live: Live, tmp_path: Path) -> None:
    captured = np.concatenate([np.zeros((1, 40 * BLOCK), np.float32), voice(1, 40 * BLOCK)])
    package = SoundDevice(captured=captured, clock=stop_at(40))
    said = live(package, "--dry", 1, "--jitter-buffer", 1)
    assert said.code == 0, said.err
    assert package.shape["channels"] == (2, 2)
    heard, _ = recorded(tmp_path)
    assert not heard[0].any()
    np.testing.assert_array_equal(heard[1, : 40 * BLOCK], 2 * captured[1])  # the pack's output and the dry input


def test_an_input_can_be_chosen(live: Live, tmp_path: Path) -> None:
    captured = voice(8, 40 * BLOCK)
    package = SoundDevice(device("Interface [USB] (hw:2,0)", 8, 2), captured=captured, clock=stop_at(40))
    said = live(package, "--input-channel", 5, "--dry", 1, "--jitter-buffer", 1, "--input-device", "[usb]")
    assert said.code == 0, said.err
    assert package.shape["channels"] == (5, 2)
    heard, _ = recorded(tmp_path)
    np.testing.assert_array_equal(heard[:, : 40 * BLOCK], np.stack([2 * captured[4]] * 2))
    refused = live(package, "--input-channel", 9)
    assert refused.code == 1
    assert "error: Interface [USB] (hw:2,0) has no input 9: it has inputs 1 to 8" in refused.err


def test_a_card_with_one_output_plays_the_mean_of_both(client: Client) -> None:
    package = SoundDevice(device("mono", 0, 1))
    with client.open("passthrough", RATE, 2) as session:
        left_only = np.stack([np.ones(BLOCK), np.zeros(BLOCK)]).astype(np.float32)
        host = Host(session, RATE, 2)
        play_on_card(card_of(package, False), host, left_only, BLOCK, lambda blocks: left_only, Played())
        session.cancel()
    np.testing.assert_array_equal(package.played[0], np.full((BLOCK, 1), 0.5))


# ---- the rate --------------------------------------------------------------------------------------------------------


def test_a_card_that_lacks_the_usual_rate_plays_at_its_own(live: Live, tmp_path: Path) -> None:
    package = SoundDevice(device("old", 2, 2, rates=(44_100,), default=44_100), clock=stop_at(10))
    said = live(package)
    assert said.code == 0, said.err
    assert "the sound card has no 48000 Hz: it plays at 44100 Hz" in said.out
    assert package.shape["samplerate"] == recorded(tmp_path)[1] == 44_100


def test_microphone_and_speakers_are_played_at_a_rate_that_both_have(live: Live) -> None:
    microphone = device("microphone", 1, 0, rates=(16_000, 44_100), default=16_000)
    speakers = device("speakers", 0, 2, rates=(44_100, 48_000))
    package = SoundDevice(microphone, speakers, clock=stop_at(10))
    assert live(package).code == 0
    assert package.shape["samplerate"] == 44_100
    assert package.shape["device"] == (0, 1)
    apart = live(SoundDevice({**microphone, "rates": (16_000,)}, speakers))
    assert apart.code == 1
    assert "microphone does not open (Invalid sample rate [PaErrorCode -9997])" in apart.err


def test_a_rate_that_the_card_lacks_is_refused_with_those_it_has(live: Live) -> None:
    said = live(SoundDevice(device("card", 2, 2, rates=(44_100, 48_000))), "--rate", 96_000)
    assert said.code == 1
    assert "error: card has no 96000 Hz: use --rate 44100 or 48000" in said.err


def test_a_file_is_played_at_a_rate_that_the_card_has(
    backline: Backline, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "in.wav", voice(2, 2_205).T, 22_050, subtype="FLOAT")
    package = SoundDevice(device("speakers", 0, 2))
    monkeypatch.setitem(sys.modules, "sounddevice", package)
    said = backline("live", "--input", tmp_path / "in.wav", "--pack", "passthrough", "--server", address)
    assert said.code == 0, said.err
    assert "the sound card has no 22050 Hz: it plays at 48000 Hz" in said.out
    assert package.shape["samplerate"] == 48_000
    assert sum(len(block) for block in package.played) >= 4_800


# ---- dropouts --------------------------------------------------------------------------------------------------------


def test_dropouts_are_counted_in_the_cards_thread_and_told_by_another(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float, str]] = []  # thread, seconds, words
    now = 0.0
    heard_of_it = threading.Event()

    def say(text: object, **_: object) -> None:
        told.append((threading.current_thread().name, now, str(text)))
        heard_of_it.set()

    def clock(number: int) -> None:
        nonlocal now
        now = number * BLOCK / RATE
        if number == 2_000:
            assert heard_of_it.wait(20)

    monkeypatch.setattr(sound_card.error_console, "print", say)
    monkeypatch.setattr(sound_card.time, "monotonic", lambda: now)
    package = SoundDevice(clock=clock, flags=lambda number: Flags("output_underflow") if number < 3_000 else Flags())
    played = Played()
    with client.open("passthrough", RATE, 2) as session:
        host = Host(session, RATE, 2)
        song = np.zeros((2, 3_100 * BLOCK), np.float32)
        play_on_card(card_of(package, False), host, song, BLOCK, lambda blocks: song[:, :BLOCK], played)
        session.cancel()
    assert played.dropouts == 3_000
    assert played.blocks == 3_100
    assert {thread for thread, _, _ in told} == {threading.current_thread().name}
    moments = [moment for _, moment, _ in told]
    assert all(later - earlier >= 0.99 for earlier, later in itertools.pairwise(moments)), moments
    assert all("dropouts: close other programs, or use a larger --block" in words for _, _, words in told)


def test_dropouts_are_in_the_totals_and_the_filling_of_buffers_is_none(live: Live) -> None:
    def flags(number: int) -> Flags:
        return Flags("priming_output") if number < 3 else Flags("input_overflow") if number < 8 else Flags()

    said = live(SoundDevice(clock=stop_at(20), flags=flags))
    assert said.code == 0, said.err
    assert ", 5 dropouts of the sound card" in said.out


# ---- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["finished", "still"])
def test_an_unplugged_card_is_told_and_the_recording_kept(
    live: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    monkeypatch.setattr(sound_card, "STILL_SECONDS", 0.3)
    said = live(SoundDevice(captured=voice(2, 100 * BLOCK), unplugged=(50, how)), "--dry", 1, "--jitter-buffer", 1)
    assert said.code == 1
    assert "error: the sound card has" in said.err
    assert "was it unplugged?" in said.err
    assert "out.wav" in said.out
    heard, _ = recorded(tmp_path)
    assert heard.shape[1] == 50 * BLOCK
    assert abs(heard).max() > 0.4


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once the main thread has said something about what went wrong."""
    event, say = threading.Event(), sound_card.error_console.print

    def say_and_note(*words: Any, **options: Any) -> None:
        say(*words, **options)
        event.set()

    monkeypatch.setattr(sound_card.error_console, "print", say_and_note)
    return event


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_the_input_and_the_recording(
    live: Live, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: threading.Event
) -> None:
    """It is a process of its own: a model must not hold Python's lock while the card calls back."""
    monkeypatch.setattr("backline.service.server.start_server", None)
    before = set(psutil.Process().children())
    captured = voice(2, 3_000 * BLOCK)
    known: list[int] = []  # blocks since it was told

    def clock(number: int) -> None:
        if number == 50:
            (server,) = set(psutil.Process().children()) - before
            server.kill()
        if told.is_set():
            known.append(number)
            stop_at(known[0] + 40)(number)
        elif number > 50:
            time.sleep(0.005)

    said = live(SoundDevice(captured=captured, clock=clock), "--dry", 1, server=None)
    assert said.code == 1
    assert "server lost: the server at 127.0.0.1:" in said.err
    assert "Only your input is heard from here on" in said.err
    assert "error: the server at 127.0.0.1:" in said.err
    heard, _ = recorded(tmp_path)
    lost = slice(known[0] * BLOCK, (known[0] + 30) * BLOCK)
    np.testing.assert_array_equal(heard[:, lost], captured[:, lost])


def test_a_server_that_shuts_down_leaves_the_recording_of_a_card(
    live: Live, tmp_path: Path, told: threading.Event
) -> None:
    captured = voice(2, 100 * BLOCK)
    serving = start_server(device="cpu", drain_seconds=0.0)
    server = serving.__enter__()

    def clock(number: int) -> None:
        if number == 50:
            serving.__exit__(None, None, None)
        if number == 60:
            assert told.wait(20)
        stop_at(100)(number)

    said = live(SoundDevice(captured=captured, clock=clock), "--dry", 1, server=server.address)
    assert said.code == 1
    assert "server lost: the server " in said.err
    heard, _ = recorded(tmp_path)
    np.testing.assert_array_equal(heard[:, 60 * BLOCK : 90 * BLOCK], captured[:, 60 * BLOCK : 90 * BLOCK])


def test_a_server_that_shuts_down_leaves_the_recording_of_a_file(
    backline: Backline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "in.wav", voice(2, 40_000).T, RATE, subtype="FLOAT")
    turn, turns = Host.turn, 0
    serving = start_server(device="cpu", drain_seconds=0.0)
    server = serving.__enter__()

    def turn_at_last(host: Host, block: Audio) -> dict[str, Audio]:
        nonlocal turns
        turns += 1
        if turns == 50:
            serving.__exit__(None, None, None)
        return turn(host, block)

    monkeypatch.setattr(Host, "turn", turn_at_last)
    said = backline(
        "live", "--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav", "--pack", "passthrough",
        "--server", server.address, "--dry", 1,
    )  # fmt: skip
    assert said.code == 1
    assert "error: the server " in said.err
    assert 40 * BLOCK <= recorded(tmp_path)[0].shape[1] < 80 * BLOCK


def test_what_fails_in_the_cards_thread_is_raised(client: Client) -> None:
    def hear(_: dict[str, Audio]) -> Audio:
        raise ArithmeticError("no more speakers")

    with client.open("passthrough", RATE, 2) as session:
        host = Host(session, RATE, 2)
        with pytest.raises(ArithmeticError, match="no more speakers"):
            play_on_card(card_of(SoundDevice(), True), host, None, BLOCK, hear, Played())
        session.cancel()


NO_MICROPHONE = device("speakers", 0, 2)
TWINS = (device("Mic [1]", 1, 0), device("Mic [1] (2)", 1, 0), device("out", 0, 2))


@pytest.mark.parametrize(
    ("package", "arguments", "words"),
    [
        (SoundDevice(NO_MICROPHONE), [], "this machine has no microphone (Error querying device -1): connect one"),
        (SoundDevice(device("mic", 1, 0)), [], "this machine has no loudspeaker"),
        (SoundDevice(), ["--input-device", "[none]"], "there is no microphone '[none]' (No input device matching"),
        (SoundDevice(), ["--output-device", "7"], "there is no loudspeaker '7'"),
        (SoundDevice(*TWINS), ["--input-device", "mic [1]"], "'mic [1]': [0] Mic [1] [1] Mic [1] (2))"),
        (SoundDevice(fails={"open": SoundDevice.PortAudioError("busy")}), [], "the sound card does not open (busy)"),
        (SoundDevice(fails={"start": SoundDevice.PortAudioError("busy")}), [], "the sound card does not start (busy)"),
    ],
)
def test_a_card_that_cannot_be_played_is_told_in_one_line(
    live: Live, package: SoundDevice, arguments: list[str], words: str
) -> None:
    said = live(package, *arguments)
    assert said.code == 1
    assert "Traceback" not in said.err
    (line,) = (line for line in said.err.splitlines() if line.startswith("error: "))
    assert words in line


def test_ctrl_c_while_the_card_opens_leaves_nothing_behind(live: Live, address: str) -> None:
    said = live(SoundDevice(fails={"open": KeyboardInterrupt()}))
    assert "Traceback" not in said.err
    with Client(address) as client:
        assert not client.sessions()


def test_find_card_needs_no_microphone_for_a_file() -> None:
    with pytest.raises(UserError, match="microphone"):
        card_of(SoundDevice(NO_MICROPHONE), True)
    assert card_of(SoundDevice(NO_MICROPHONE), False).microphone is None
