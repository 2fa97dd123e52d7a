"""What leads a live session: notes at the sample at which they came, knobs, a beat; and ports that come and go."""

import _thread
import importlib.util
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from backline.cli import conductor
from backline.cli.arrival import Arrival
from backline.cli.beat import Beat, Metre
from backline.cli.conductor import Conductor, Knob, Leads, parse_map
from backline.cli.console import UserError
from backline.cli.midi_clock import TICKS
from backline.cli.midi_in import MidiInputs, MidiPort, Received
from backline.cli.scenes import Scene
from backline.cli.sound_card import _moments
from backline.service.server import start_server
from backline_client import Client, Control, Notes, Session, Transport
from backline_protos.v1 import backline_pb2 as pb
from tests.cli.test_commands import Backline, write_pack
from tests.support.midi import OWN, RtMidi
from tests.support.sound_card import SoundDevice

RATE, BLOCK = 48_000, 256
START = 5_000.0  # seconds by the monotonic clock at which sample 0 is captured
KEYBOARD, DAW = "Launchkey:Launchkey MIDI 1 24:0", "DAW:clock 130:0"
C, E = 60, 64


class Told:
    """A session that notes what it is told."""

    def __init__(self, latency_samples: int = 0) -> None:
        self.position, self.latency_samples = 0, latency_samples
        self.changes: list[Any] = []

    def change(self, change: Any) -> None:
        self.changes.append(change)

    def midi_live(self, position: int, data: bytes) -> None:
        self.changes.append(Notes(max(position, self.position), data))

    def of(self, kind: type) -> list[Any]:
        return [change for change in self.changes if isinstance(change, kind)]


class Stage:
    """A conductor whose time a test turns, with a keyboard and a DAW."""

    def __init__(self, latency_samples: int = 0, **options: Any) -> None:
        self.rtmidi, self.session = RtMidi(KEYBOARD, DAW), Told(latency_samples)
        self.inbox: queue.Queue[Received] = queue.Queue(64)
        inputs = MidiInputs(self.rtmidi)
        self.ports = [MidiPort(inputs, name, self.inbox) for name in ("launchkey", "1")]
        for port in self.ports:
            port.open()
        self.arrivals: deque[Arrival] = deque()
        session: Any = self.session
        self.conductor = Conductor(
            session, RATE, self.arrivals, inbox=self.inbox, ports=self.ports, **options
        )  # fmt: skip
        self.now = START

    def play(self, seconds: float, round_trip: float | None = None) -> None:
        """Audio goes on for so long, and all that waits is passed on."""
        until = self.now + seconds
        while (self.session.position + BLOCK) / RATE <= until - START:
            self.session.position += BLOCK
            at = START + self.session.position / RATE
            self.arrivals.append(Arrival(at, round_trip, self.session.position))
        self.now = until
        self.conductor.turn(self.now)

    def send(self, port: int, *messages: bytes) -> None:
        """At this moment."""
        for message in messages:
            self.inbox.put(Received(self.ports[port], message, self.now))


def test_a_note_lies_at_the_sample_that_was_captured_as_it_came_and_late_ones_come_at_once() -> None:
    stage = Stage()
    stage.send(0, bytes([0x90, C, 100]))  # before any audio
    stage.conductor.turn(stage.now)
    stage.play(1.001)
    stage.send(0, bytes([0x90, E, 100]))
    stage.conductor.turn(stage.now)
    stage.inbox.put(Received(stage.ports[0], bytes([0x80, E, 0]), stage.now - 0.5))
    stage.conductor.turn(stage.now)
    first, struck, late = stage.session.of(Notes)
    assert first.position == 0
    assert struck.position == pytest.approx(1.001 * RATE, abs=1)
    assert struck.data == bytes([0x90, E, 100])
    assert late.position == stage.session.position


def test_a_controller_moves_its_parameter_and_others_are_played(capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage(knobs={1: Knob(1, "guidance", 0.0, 10.0), 2: Knob(2, "key", 0.0, 24.0, integer=True)})
    stage.send(0, bytes([0xB0, 1, 3]), bytes([0xB0, 1, 127]), bytes([0xB3, 2, 64]), bytes([0xB0, 64, 127]))
    stage.play(0.1)
    assert stage.session.of(Control) == [Control("guidance", 10.0), Control("key", 12.0)]  # of many moves the last
    assert [notes.data for notes in stage.session.of(Notes)] == [bytes([0xB0, 64, 127])]


def knob(controller: int, parameter: str) -> Knob:
    if parameter not in ("guidance", "key"):
        raise UserError(f"there is no {parameter}")
    return Knob(controller, parameter, 0.0, 10.0)


def test_the_next_controller_that_moves_is_learned_and_what_to_map_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Not what a keyboard tells by itself: each controller's place once, or with a programme."""
    stage = Stage(knobs={7: Knob(7, "gain", 0.0, 1.0)}, knob=knob, learned=["guidance", "key"])
    assert stage.conductor.figures()["learning"] == ["guidance", "key"]
    stage.send(0, *(bytes([0xB0, number, 64]) for number in (0, 32, 21, 22)))
    stage.send(0, *(bytes([0xB0, number, 64]) for number in (0, 32, 123, 123)), bytes([0xB0, 123, 0]))
    stage.play(0.1)
    assert not stage.session.of(Control)
    stage.send(0, bytes([0xB0, 21, 127]), bytes([0x90, C, 1]))
    stage.play(0.1)
    stage.send(0, bytes([0xB0, 21, 0]), bytes([0xB0, 22, 0]), bytes([0xB0, 7, 0]), bytes([0xB0, 22, 127]))
    stage.play(0.1)
    assert stage.session.of(Control) == [
        Control("guidance", 10.0), Control("guidance", 0.0), Control("gain", 0.0), Control("key", 10.0),
    ]  # fmt: skip
    said = capfd.readouterr().err
    assert "learned: cc21=guidance" in said
    assert "cc21 of Launchkey:Launchkey MIDI 1 leads guidance; next time, --map cc21=guidance" in said
    assert "learned: cc22=key" in said
    told = stage.conductor.figures()
    assert (told["map"], told["learning"]) == (["cc7=gain", "cc21=guidance", "cc22=key"], [])
    assert told["newest"] == "cc22 = 127, channel 1 from Launchkey:Launchkey MIDI 1"
    assert told["ports"][1] == {"name": "DAW:clock", "open": True}


def test_what_is_to_be_learned_now_goes_before_what_was_and_nothing_ends_it() -> None:
    stage = Stage(knob=knob, learned=["guidance"])
    stage.conductor.learn("key")
    assert stage.conductor.figures()["learning"] == ["key"]
    stage.conductor.learn("")
    stage.send(0, bytes([0xB0, 21, 0]), bytes([0xB0, 21, 127]))
    stage.play(0.1)
    assert not stage.session.of(Control)
    assert stage.conductor.figures()["map"] == []


def test_a_fader_that_moves_on_does_not_learn_what_the_next_one_is_to_lead() -> None:
    stage = Stage(knob=knob, learned=["guidance", "key"])
    stage.send(0, *(bytes([0xB0, 21, place]) for place in range(0, 128, 4)))
    stage.play(0.1)
    assert (stage.conductor.mapped(), stage.conductor.figures()["learning"]) == ({21: "guidance"}, ["key"])
    stage.send(0, *(bytes([0xB0, number, place]) for place in (0, 127) for number in (21, 22)))
    stage.play(0.1)
    assert stage.conductor.mapped() == {21: "guidance", 22: "key"}
    stage.conductor.learn("key")  # which may have the first one, once that is what was asked for
    stage.send(0, *(bytes([0xB0, 21, place]) for place in (0, 127)))
    stage.play(0.1)
    assert stage.conductor.mapped() == {21: "key", 22: "key"}


def test_what_cannot_be_led_any_more_as_its_controller_moves_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    there = {"guidance", "key"}

    def changing(controller: int, parameter: str) -> Knob:
        return knob(controller, parameter if parameter in there else f"{parameter} any more")

    stage = Stage(knob=changing, learned=["guidance"])
    there.clear()  # with another pack
    stage.send(0, bytes([0xB0, 21, 0]), bytes([0xB0, 21, 127]), bytes([0x90, C, 100]))
    stage.play(0.1)
    assert "learn refused: there is no guidance any more" in capfd.readouterr().err
    assert not stage.conductor.mapped()
    assert stage.session.of(Notes)[-1].data == bytes([0x90, C, 100])


def test_what_is_learned_has_to_fit_what_plays_now_and_a_set_lists_scenes() -> None:
    def pack(name: str, *parameters: str) -> pb.Pack:
        return pb.Pack(name=name, parameters=[pb.Parameter(name=each, automatable=True) for each in parameters])

    packs = {"first": pack("first", "gain", "key"), "then": pack("then", "gain", "reverb")}
    client: Any = SimpleNamespace(pack=packs.__getitem__)
    port = MidiPort(MidiInputs(RtMidi(KEYBOARD)), "launchkey", queue.Queue())
    leads = Leads([port], queue.Queue(), {}, Metre(), None, link=False)
    for name, learned in (("", ["gain", "reverb"]), ("verse", ["gain"])):  # of no set list, and of one
        led = leads.conducting(
            client, [Scene(name, "first", {})], Told(), RATE, deque(), playing=lambda: [(packs["then"], "")]
        )
        assert isinstance(led, Conductor)
        taken = []
        for parameter in ("gain", "key", "reverb"):
            led.learn(parameter)
            taken += led.figures()["learning"]
        assert taken == learned


def test_what_cannot_be_learned_is_told_and_nothing_is_awaited(capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage(knob=knob)
    stage.conductor.learn("bass")
    assert "learn refused: there is no bass" in capfd.readouterr().err
    assert stage.conductor.figures()["learning"] == []


def test_a_programme_is_for_whoever_asks_for_it_and_else_the_packs() -> None:
    chosen: list[int] = []
    stage = Stage(program=chosen.append)
    stage.send(0, bytes([0xC0, 0]))
    stage.play(0.1)
    stage.send(0, bytes([0xC0, 3]), bytes([0xC3, 6]))
    stage.play(0.1)
    assert chosen == [1, 7]  # of several in a moment the last
    assert not stage.session.changes
    alone = Stage()
    alone.send(0, bytes([0xC0, 6]))
    alone.play(0.1)
    assert [notes.data for notes in alone.session.of(Notes)] == [bytes([0xC0, 6])]


def test_a_set_whose_packs_mean_other_numbers_by_a_parameter_cannot_be_mapped() -> None:
    def pack(name: str, maximum: float) -> pb.Pack:
        return pb.Pack(name=name, parameters=[pb.Parameter(name="gain", maximum=maximum, automatable=True)])

    packs = {"one": pack("one", 1.0), "other": pack("other", 2.0)}
    client: Any = SimpleNamespace(pack=packs.__getitem__)
    leads = Leads([], queue.Queue(), {1: "gain"}, Metre(), None, link=True)
    with pytest.raises(UserError, match=r"--map: one and other give a parameter other ranges: map what is alike"):
        leads.conducting(client, [Scene("", name, {}) for name in packs], Told(), RATE, deque())


def test_a_pack_that_takes_no_notes_says_so_once_and_gets_none(capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage(takes_notes=False)
    for _ in range(3):
        stage.send(0, bytes([0x90, C, 100]))
        stage.play(0.1)
    assert not stage.session.changes
    assert capfd.readouterr().err.count("takes no notes") == 1


def test_what_is_no_music_is_passed_over() -> None:
    stage = Stage()
    stage.send(0, b"", b"\x90", b"\x90\xff\x00", b"\x3c\x40", b"\xff")
    stage.play(0.1)
    assert not stage.session.changes


def test_a_flood_is_bounded_and_its_keys_are_let_go_of(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(conductor, "MOST_MESSAGES", 10)
    stage = Stage()
    stage.rtmidi.send(KEYBOARD, *[[0x95, C, 100]] * 100)  # 64 find room
    stage.play(0.1)
    stage.play(2.0)
    assert len(stage.session.of(Notes)) == 11
    assert stage.session.of(Notes)[-1].data == bytes([0xB5, 121, 0, 0xB5, 123, 0])
    said = capfd.readouterr().err
    assert "36 messages of Launchkey:Launchkey MIDI 1 came too fast" in said
    assert "more than 10 messages a second" in said


def test_a_port_that_is_unplugged_is_told_and_found_again(capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    stage.rtmidi.send(KEYBOARD, [0x92, C, 100])
    stage.play(0.1)
    stage.rtmidi.ports = [DAW]
    stage.play(2.0)
    assert "Launchkey:Launchkey MIDI 1 is gone" in capfd.readouterr().err
    assert stage.session.of(Notes)[-1].data == bytes([0xB2, 121, 0, 0xB2, 123, 0])
    stage.rtmidi.ports = ["Through 14:0", DAW, KEYBOARD.replace("24", "31")]  # ALSA gives another number
    stage.play(2.0)
    assert "Launchkey:Launchkey MIDI 1 is there again" in capfd.readouterr().err
    stage.rtmidi.send(KEYBOARD.replace("24", "31"), [0x92, E, 100])
    stage.play(0.1)
    assert stage.session.of(Notes)[-1].data == bytes([0x92, E, 100])


def test_keys_that_nobody_will_let_go_of_end_after_they_were_struck() -> None:
    stage = Stage()
    stage.play(1.0)
    stage.now += 0.05  # the card's next block is late, so that the note lies in one that is still to come
    stage.send(0, bytes([0x90, C, 100]))
    stage.conductor.turn(stage.now)
    stage.conductor._release()
    struck, off = stage.session.of(Notes)
    assert struck.position > stage.session.position
    assert off == Notes(struck.position, bytes([0xB0, 121, 0, 0xB0, 123, 0]))


def test_where_a_port_does_not_open_nothing_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    link: Any = SimpleNamespace(peers=0, beat=None, close=lambda: closed.append(True))
    stage = Stage(link=link)
    for port in stage.ports:
        port.close()

    def fails() -> None:
        raise UserError("busy")

    monkeypatch.setattr(stage.ports[1], "open", fails)
    with pytest.raises(UserError, match="busy"), stage.conductor:
        pass
    assert not stage.ports[0].is_open
    assert closed


def test_what_goes_wrong_once_leaves_the_conductor_hearing(capfd: pytest.CaptureFixture[str]) -> None:
    wrong = [ValueError("of ours, again"), ValueError("of ours")]

    def chosen(number: int) -> None:
        if wrong:
            raise wrong.pop()
        heard.set()

    stage, heard = Stage(program=chosen), threading.Event()
    for port in stage.ports:
        port.close()
    with stage.conductor:
        end = time.monotonic() + 20
        while not heard.wait(0.02):
            stage.send(0, bytes([0xC0, 0]))
            assert time.monotonic() < end
    assert capfd.readouterr().err.count("of ours") == 1


# ---- the beat ----------------------------------------------------------------------------------------


def drive(stage: Stage, tempo: float, beats: int, jitter: float, round_trip: float | None = None) -> None:
    """The DAW plays so many beats; its first begins with the tick after this moment."""
    random, begin = np.random.default_rng(1), stage.now
    stage.send(1, b"\xfa")
    for number in range(beats * TICKS):
        at = begin + number * 60 / tempo / TICKS + random.uniform(0, 2 * jitter)
        stage.play(max(0.0, at - stage.now), round_trip)
        stage.send(1, b"\xf8")
    stage.play(0.01, round_trip)


def seconds_of(transport: Transport, quarters: float) -> float:
    """When the session has that beat: at which moment its sample is captured."""
    assert transport.position is not None
    return START + transport.position / RATE + (quarters - transport.song_position) * 60 / transport.tempo


@pytest.mark.parametrize(("round_trip", "latency"), [(None, 0), (0.05, 0), (0.05, 2_400), (0.05, 3 * RATE)])
def test_a_daws_clock_lands_on_the_sample_or_is_heard_on_the_beat_where_the_band_plays_along(
    round_trip: float | None, latency: int
) -> None:
    stage = Stage(latency, metre=Metre(3, 4))
    stage.play(0.5)
    begin, heard_after = stage.now, {0: 0.05, 2_400: 0.1}.get(latency, 0.0) if round_trip else 0.0
    drive(stage, 97.0, 8, jitter=0.001, round_trip=round_trip)
    *earlier, newest = stage.session.of(Transport)
    assert newest.playing
    assert newest.tempo == pytest.approx(97.0, abs=0.1)
    assert (newest.numerator, newest.bar_start % 3) == (3, 0)
    meant = begin + 0.001 + 8 * 60 / 97.0 - heard_after  # ticks come late by 1 ms on average
    assert seconds_of(newest, 8.0) == pytest.approx(meant, abs=0.005)
    assert len(earlier) < 12  # it is told what is new, not every tick
    stage.send(1, b"\xfc")
    stage.play(0.1)
    assert not stage.session.of(Transport)[-1].playing


def test_ticks_that_found_no_room_are_part_of_the_song(capfd: pytest.CaptureFixture[str]) -> None:
    stage = Stage()
    stage.play(0.5)
    drive(stage, 120.0, 4, jitter=0.0)
    for number in range(2 * TICKS):
        stage.play(60 / 120 / TICKS - 0.01 * (number == 0))  # drive has waited so long
        if number in (3, 4):
            stage.ports[1].lost += 1
        else:
            stage.send(1, b"\xf8")
    stage.play(0.0)
    assert stage.conductor._leader is not None
    beat = stage.conductor._leader.beat
    assert beat is not None
    assert beat.quarters == pytest.approx(6 - 1 / TICKS)


def test_the_clock_that_was_started_last_leads() -> None:
    stage = Stage()
    stage.play(0.5)
    drive(stage, 120.0, 2, jitter=0.0)
    stage.send(0, b"\xfa")
    for _ in range(3 * TICKS):
        stage.play(60 / 90 / TICKS)
        stage.send(0, b"\xf8")
        stage.send(1, b"\xf8")
    stage.play(0.01)
    assert stage.session.of(Transport)[-1].tempo == pytest.approx(90.0, abs=0.1)


# ---- what was typed ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["guidance", "cc1", "cc1=", "cc120=key", "ccx=key", "1e3=key", "cc²=key"])
def test_a_mapping_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="ccNUMBER=PARAMETER"):
        parse_map([text])


def test_a_controller_moves_one_parameter() -> None:
    assert parse_map(["cc1=guidance", "CC74 = key"]) == {1: "guidance", 74: "key"}
    with pytest.raises(UserError, match="controller 1 twice"):
        parse_map(["cc1=guidance", "1=key"])


@pytest.fixture
def rtmidi(monkeypatch: pytest.MonkeyPatch) -> RtMidi:
    package = RtMidi(KEYBOARD, DAW)
    monkeypatch.setitem(sys.modules, "rtmidi", package)  # type: ignore[arg-type]
    return package


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--midi-in", "piano"], "there is no MIDI port 'piano', but 'Launchkey:Launchkey MIDI 1 24:0', 'DAW:clock"),
        (["--midi-in", "2"], "there is no MIDI port '2'"),
        (["--midi-in", ":"], "several MIDI ports are called ':': use one of 'Launchkey"),
        (["--map", "cc1=gain"], "--map moves parameters by MIDI: name its port with --midi-in"),
        (["--learn", "gain"], "--learn moves parameters by MIDI: name its port with --midi-in"),
        (["--midi-in", "DAW", "--learn", "bass"], "has no parameter 'bass' that may change while it plays: use gain"),
        (["--midi-in", "DAW", "--map", "cc1=bass"], "has no parameter 'bass' that may change while it plays: use gain"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_plays(
    backline: Backline, address: str, rtmidi: RtMidi, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    card = SoundDevice()
    monkeypatch.setitem(sys.modules, "sounddevice", card)  # type: ignore[arg-type]
    said = backline("live", "--pack", "passthrough", "--server", address, *arguments)
    assert said.code == 1
    assert words in said.err
    assert not card.played


def test_the_ports_are_listed(backline: Backline, rtmidi: RtMidi) -> None:
    said = backline("live", "--list-midi")
    assert said.out.splitlines() == [f"  0 {KEYBOARD}", f"  1 {DAW}", "Jack: JACK server not running?"]


# ---- on a card ---------------------------------------------------------------------------------------


def test_a_take_with_notes_is_what_a_render_of_these_notes_gives(
    backline: Backline, rtmidi: RtMidi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The pack clicks with every note."""
    packs = write_pack(tmp_path / "packs")
    manifest = packs / "pair" / "pack.toml"
    manifest.write_text(manifest.read_text() + "\nclicks = true\n")
    played: list[Any] = []
    midi_live = Session.midi_live

    def noted(session: Session, position: int, data: bytes) -> int:
        played.append(Notes(lies := midi_live(session, position, data), data))
        return lies

    begun: list[float] = []

    def clock(number: int) -> None:
        begun[:] = begun or [time.monotonic()]
        time.sleep(max(0.0, begun[0] + number * BLOCK / RATE - time.monotonic()))
        if number in (30, 57, 90):
            rtmidi.send(OWN, [0x90, C, 100], [0x90, E, 100])
        if number == 150:
            _thread.interrupt_main()

    monkeypatch.setattr(Session, "midi_live", noted)
    audio = np.random.default_rng(3).uniform(-0.5, 0.5, (2, 150 * BLOCK)).astype(np.float32)
    card = SoundDevice(captured=audio, clock=clock)
    monkeypatch.setitem(sys.modules, "sounddevice", card)  # type: ignore[arg-type]
    with start_server(packs=[packs], device="cpu") as server:
        said = backline(
            "live", "--output", tmp_path / "out.wav", "--pack", "pair", "--port", "drums", "--server", server.address,
            "--jitter-buffer", 1, "--midi-in", "virtual", "--block", BLOCK,
        )  # fmt: skip
        assert said.code == 0, said.err
        assert len(played) == 6
        with Client(server.address) as client:
            rendered = client.render("pair", audio, RATE, changes=played)["drums"]
    recorded, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    assert 3 <= np.count_nonzero((rendered != audio).any(0)) <= 6
    np.testing.assert_array_equal(recorded.T[:, : audio.shape[1]], rendered)
    for notes, block in zip(played[::2], (30, 57, 90), strict=True):
        assert abs(notes.position / BLOCK - block) < 20  # a busy machine's card is not in time


def test_a_controller_moves_a_parameter_of_the_session(
    backline: Backline, address: str, rtmidi: RtMidi, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved, change, heard = list[Any](), Session.change, threading.Event()

    def noted(session: Session, what: Any) -> None:
        moved.append(what)
        change(session, what)
        heard.set()

    def clock(number: int) -> None:
        if number == 5:
            rtmidi.send(KEYBOARD, [0xB0, 1, 0])
            assert heard.wait(20)
            _thread.interrupt_main()
        if number >= 5:
            time.sleep(0.005)

    monkeypatch.setattr(Session, "change", noted)
    monkeypatch.setitem(sys.modules, "sounddevice", SoundDevice(clock=clock))  # type: ignore[arg-type]
    said = backline(
        "live", "--pack", "passthrough", "--server", address, "--midi-in", "0", "--map", "cc1=gain", "--block", BLOCK
    )
    assert said.code == 0, said.err
    assert moved == [Control("gain", 0.0)]
    assert not rtmidi.open  # the port has been let go of


def test_the_cards_own_times_say_when_a_block_was_captured_and_is_heard() -> None:
    times = SimpleNamespace(currentTime=9.0, inputBufferAdcTime=8.97, outputBufferDacTime=9.02)
    assert _moments(times, 50.0, 0.01, True) == pytest.approx((49.98, 0.05))
    assert _moments(times, 50.0, 0.01, False) == pytest.approx((50.0, 0.03))
    zeros = SimpleNamespace(currentTime=9.0, inputBufferAdcTime=0.0, outputBufferDacTime=0.0)
    for strange in (zeros, None):
        assert _moments(strange, 50.0, 0.01, True) == (50.0, 0.01)


# ---- with others -------------------------------------------------------------------------------------

PEER = """
import sys, link
peer = link.Link(120.0)
peer.startStopSyncEnabled = peer.enabled = True
for line in sys.stdin:
    state, micros = peer.captureSessionState(), peer.clock().micros()
    tempo, playing = line.split()
    if abs(state.tempo() - float(tempo)) > 1e-6 or state.isPlaying() != (playing == "True"):
        state.setTempo(float(tempo), micros)
        state.setIsPlaying(playing == "True", micros)
        peer.commitSessionState(state)
    print(peer.numPeers(), state.beatAtTime(micros, 4), micros, flush=True)
"""


@pytest.mark.skipif(importlib.util.find_spec("link") is None, reason="needs LinkPython-extern")
@pytest.mark.paced
def test_another_programs_link_session_gives_tempo_phase_start_and_stop() -> None:
    import link as package

    from backline.cli.ableton_link import AbletonLink

    command = [sys.executable, "-c", PEER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        ours, clock = AbletonLink(None, 4.0), package.Link(120.0).clock()

        def differs(tempo: float, playing: bool, shown: bool) -> str:
            """What is not yet as the other program has it."""
            assert peer.stdin is not None
            assert peer.stdout is not None
            peer.stdin.write(f"{tempo} {playing}\n")
            peer.stdin.flush()
            others, quarters, micros = map(float, peer.stdout.readline().split())
            ahead, beat = time.monotonic() - clock.micros() / 1e6, ours.beat
            if not others or beat is None:
                return "alone"
            if abs(beat.tempo - tempo) > 1e-3 or beat.playing != shown:
                return f"{beat} for {tempo}, {shown}"
            at = beat.quarters + (micros / 1e6 + ahead - beat.seconds) * tempo / 60
            off = ((at - quarters + 2) % 4 - 2) * 60 / tempo  # Link keeps the phase in the bar
            return "" if abs(off) < 0.005 else f"{off} s off"

        try:
            for tempo, playing, shown in [(133.0, False, True), (133.0, True, True), (90.0, False, False)]:
                deadline = time.monotonic() + 10
                while what := differs(tempo, playing, shown) or (
                    playing and not ours._starts_and_stops and "not begun"
                ):
                    if what == "alone" and time.monotonic() > deadline:
                        pytest.skip("no multicast between the programs of this machine")
                    assert time.monotonic() < deadline, what
                    time.sleep(0.05)
        finally:
            ours.close()
            peer.kill()


def test_link_without_the_package_says_what_to_install(
    backline: Backline, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setitem(sys.modules, "link", None)  # type: ignore[arg-type]
    said = backline("live", "--pack", "passthrough", "--server", address, "--link")
    assert said.code == 1
    assert "pip install 'backline[link]'" in said.err


def test_a_link_session_leads_in_the_place_of_a_clock(capfd: pytest.CaptureFixture[str]) -> None:
    link: Any = SimpleNamespace(peers=2, beat=Beat(START, 3.0, 99.0), close=lambda: None)
    stage = Stage(link=link)
    stage.play(0.5)
    drive(stage, 120.0, 2, jitter=0.0)
    (transport,) = stage.session.of(Transport)
    assert transport.tempo == 99.0
    assert seconds_of(transport, 3.0) == pytest.approx(START, abs=1e-4)
    assert "Link: 2 other programs, 99 BPM" in capfd.readouterr().out
