"""Set lists and the stage: scenes change on the bar's sample, without a gap, and what fails leaves what plays."""

import os
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from backline.cli import stage as stages
from backline.cli.console import UserError
from backline.cli.live import ports_of
from backline.cli.paced import INPUT, Audio, Host
from backline.cli.scenes import SET_BYTES, Scene, read_set
from backline.cli.stage import FADE_SECONDS, MIXED, Stage, bar_from
from backline.service.server import start_server
from backline_client import (
    BacklineError,
    Client,
    ConnectionFailed,
    Control,
    Session,
    SessionEnded,
    SessionOptions,
    Transport,
)
from backline_protos.v1 import backline_pb2 as pb
from tests.cli.test_commands import Backline, write_pack
from tests.cli.test_live import RATE, typing
from tests.cli.test_sound_card import BLOCK, Noted
from tests.support.everything import LOADED, everything_pack
from tests.support.server import address

__all__ = ["address"]

FADE = round(FADE_SECONDS * RATE)
HEARD_SECONDS = 0.1  # here, so that tests are quick
LEVEL = 0.25  # of the input, all the time
SOFT, LOUD = Scene("soft", "passthrough", {"parameters": {"gain": 0.5}}), Scene("loud", "passthrough", {})


class NotedClient:
    """A client whose sessions note what comes, and what transports they are told."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.opened: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def open(self, *arguments: Any, **options: Any) -> Any:
        session: Any = NotedSession(self._client.open(*arguments, **options))
        self.opened.append(session)
        return session


class NotedSession(Noted):
    """That of all outputs has come, which the last of them tells."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, session.ready.ports[-1].name)
        self.told: list[Transport] = []

    def __enter__(self) -> "NotedSession":
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()

    def transport(self, transport: Transport) -> None:
        self.told.append(transport)
        self._session.transport(transport)


@contextmanager
def on_stage(
    client: Any, scenes: list[Scene], *transport: Transport, mapped: Mapping[int, str] | None = None
) -> Iterator[Stage]:
    with client.open(scenes[0].pack, RATE, 2, block_size=BLOCK, **scenes[0].options) as session:
        stage = Stage(client, scenes, session, ports_of, (RATE, 2, BLOCK), transport, mapped)
        try:
            yield stage
        finally:
            stage.close()


def heard_of(stage: Stage, blocks: int, at: Callable[[int], None]) -> Audio:
    """What is heard [2, sample] of a constant input, each block once its output has come; `at` before each block."""
    heard = []
    for number in range(blocks):
        at(number)
        end = (number + 1) * BLOCK - stage.latency_samples
        for act in stage._playing():
            if end > act.start:
                act.session.await_output(end)  # type: ignore[attr-defined]
        heard.append(stage.turn(np.full((2, BLOCK), LEVEL, np.float32))[MIXED])
    return np.concatenate(heard, axis=1)


def ask_at(stage: Stage, block: int, *lines: str) -> Callable[[int], None]:
    """At this block these are asked for, and the last is open."""

    def at(number: int) -> None:
        if number == block:
            for line in lines:
                stage.ask(line)
            end = time.monotonic() + 20
            while stage._offer is None:
                assert time.monotonic() < end
                time.sleep(0.001)

    return at


def obeyed(stage: Stage) -> None:
    """All that was asked for is open or refused, and all is told; nothing is done from then on."""
    reached = threading.Event()
    stage._orders.put(reached.set)
    assert reached.wait(20)
    end = time.monotonic() + 20
    while stage._wanted is not None:
        assert time.monotonic() < end
        time.sleep(0.001)
    stage._orders.put(None)
    stage._director.join(20)


def hearing(stage: Stage) -> int:
    """Samples that a scene hears before its first bar."""
    return round((HEARD_SECONDS - stage._now.session.ready.visibility_seconds) * RATE)


def faded(samples: int, latency: int, fade_at: int, before: float, after: float) -> Audio:
    """What must be heard: silence for the latency, then one level, then the other, and a straight line between."""
    share = np.clip((np.arange(samples) - fade_at + 1) / FADE, 0.0, 1.0)
    return np.where(np.arange(samples) < latency, 0.0, before + share * (after - before)).astype(np.float32)


@pytest.fixture(autouse=True)
def hears_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "HEARD_SECONDS", HEARD_SECONDS)


@pytest.fixture
def client(address: str) -> Iterator[Any]:
    with Client(address) as client:
        yield NotedClient(client)


# ---- the switch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["next", "scene loud", "scene 2"])
def test_a_scene_comes_on_the_sample_of_the_bar_without_a_gap(
    client: NotedClient, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = Transport(931.0, 0, song_position=1.5, numerator=3)
    with on_stage(client, [SOFT, LOUD], begun) as stage:
        latency, asked = stage.latency_samples, 37
        heard = heard_of(stage, 100, ask_at(stage, asked, line))
        quarter = 60.0 / 931.0 * RATE
        enough = asked * BLOCK + hearing(stage)
        bars = [round((3 * bar - 1.5) * quarter) for bar in range(1, 20)]
        [bar] = [bar for bar in bars if bar >= enough][:1]
        np.testing.assert_allclose(heard[0], faded(heard.shape[1], latency, bar + latency, LEVEL / 2, LEVEL), rtol=1e-6)
        assert stage.measured.underrun_samples == 0
        ahead = client.opened[-1].told
        assert [(each.tempo, each.numerator) for each in ahead] == [(931.0, 3)]  # it keeps the beat
        assert bar_from(ahead[0], bar - 100, RATE) == bar
        stage.finish()
    assert "scene: loud" in capfd.readouterr().err


def test_without_a_beat_a_scene_comes_as_soon_as_it_has_heard_enough(client: NotedClient) -> None:
    with on_stage(client, [SOFT, LOUD]) as stage:
        latency, start = stage.latency_samples, 20 * BLOCK
        heard = heard_of(stage, 60, ask_at(stage, 20, "next"))
        fade_at = start + hearing(stage) + latency
        np.testing.assert_allclose(heard[1], faded(heard.shape[1], latency, fade_at, LEVEL / 2, LEVEL), rtol=1e-6)
        assert client.opened[-1].told == []


def test_a_scene_with_a_tempo_of_its_own_begins_its_bar_where_it_comes(client: NotedClient) -> None:
    waltz = Scene("waltz", "passthrough", {}, transport=Transport(180.0, 0, numerator=3))
    with on_stage(client, [SOFT, waltz], Transport(960.0, 0)) as stage:
        heard_of(stage, 100, ask_at(stage, 10, "next"))
        kept, own = client.opened[-1].told
        assert (kept.tempo, kept.position) == (960.0, 10 * BLOCK)
        bar = own.position
        assert (own.tempo, own.numerator, own.song_position, own.bar_start, bar) == (180.0, 3, 4.0, 4.0, RATE // 4)
        stage.transport(Transport(100.0, playing=False))  # of a clock outside
        assert client.opened[-1].told[-1].tempo == 100.0


def test_the_newest_word_counts(client: NotedClient) -> None:
    loudest = Scene("loudest", "passthrough", {"parameters": {"gain": 0.8}})
    with on_stage(client, [SOFT, LOUD, loudest]) as stage:
        first, second = ask_at(stage, 10, "next"), ask_at(stage, 25, "next")

        def at(number: int) -> None:
            first(number)
            second(number)

        heard = heard_of(stage, 100, at)
        fade_at = 25 * BLOCK + hearing(stage) + stage.latency_samples
        wanted = faded(heard.shape[1], stage.latency_samples, fade_at, LEVEL / 2, 0.8 * LEVEL)
        np.testing.assert_allclose(heard[0], wanted, rtol=1e-6)


def test_a_take_has_the_seed_that_was_asked_for(client: NotedClient) -> None:
    with on_stage(client, [SOFT]) as stage:
        heard = heard_of(stage, 60, ask_at(stage, 10, "take 7"))
        assert client.opened[-1].ready.seed == 7
        assert client.opened[-1].ready.parameters["gain"] == 0.5
        np.testing.assert_allclose(heard[0, stage.latency_samples :], LEVEL / 2)


def test_a_scene_whose_output_never_comes_in_time_is_given_up(
    client: NotedClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "MISSES", 2)
    with on_stage(client, [SOFT, LOUD]) as stage:
        ask = ask_at(stage, 10, "next")

        def at(number: int) -> None:
            ask(number)
            if stage._coming is not None:
                stage._coming.host._output.push = lambda block: None  # type: ignore[method-assign]

        heard = heard_of(stage, 80, at)
        np.testing.assert_array_equal(heard[:, stage.latency_samples :], np.float32(LEVEL / 2))
        obeyed(stage)
    assert "scene refused: loud: what it plays comes too late" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("scene broken", "broken: parameter 'gain' is 1000: use 0 to"),
        ("scene missing", "missing: there is no pack 'nothing'"),
        ("scene 9", "there is no scene '9': use soft, broken, missing, or 1 to 3"),
        ("take x", "'take x' is nothing that is done here: write scene NAME"),
    ],
)
def test_a_scene_that_fails_leaves_the_old_one_and_says_why(
    client: NotedClient, line: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    broken, missing = Scene("broken", "passthrough", {"parameters": {"gain": 1000.0}}), Scene("missing", "nothing", {})
    with on_stage(client, [SOFT, broken, missing]) as stage:
        said = capfd.readouterr().err
        assert "broken, scene 2, does not open" in said
        assert "missing, scene 3, does not open" in said

        def at(number: int) -> None:
            if number == 10:
                stage.ask(line)

        heard = heard_of(stage, 60, at)
        np.testing.assert_array_equal(heard[:, stage.latency_samples :], np.float32(LEVEL / 2))
        obeyed(stage)
    said = " ".join(capfd.readouterr().err.split())
    assert f"scene refused: {words}" in said
    assert "; soft plays on" in said


def test_the_next_scenes_pack_is_resident_before_it_is_asked_for(client: NotedClient, tmp_path: Path) -> None:
    from backline.service.server import start_server

    folder = write_pack(tmp_path)
    with start_server(packs=[folder], device="cpu") as server, Client(server.address) as own:
        noted: Any = NotedClient(own)
        pair = Scene("pair", "pair", {}, ports=("bass",))
        with on_stage(noted, [SOFT, pair, LOUD]) as stage:
            own.unload_pack("pair")
            stage._load_next()
            assert {pack.name for pack in own.packs() if pack.state == 2} == {"pair", "passthrough"}
            heard = heard_of(stage, 60, ask_at(stage, 10, "next"))
            np.testing.assert_allclose(heard[:, -BLOCK:], LEVEL)  # one of the two outputs


# ---- what is told meanwhile ------------------------------------------------------------------------------------------


def coming_on(stage: Stage, line: str) -> Any:
    """What was asked for has begun to hear; its act."""
    heard_of(stage, 2, ask_at(stage, 0, line))
    assert stage._coming is not None
    return stage._coming


def test_that_a_scene_which_comes_has_ended_is_no_matter_of_whoever_plays_on(client: NotedClient) -> None:
    with on_stage(client, [SOFT, LOUD]) as stage:
        coming_on(stage, "next").session.cancel()
        stage.change(Control("gain", 0.4))
        stage.transport(Transport(77.0))
        stage.midi_live(0, bytes([0x90, 60, 100]))
        assert client.opened[0].told[-1].tempo == 77.0
        stage._now.session.cancel()
        with pytest.raises(SessionEnded):
            stage.change(Control("gain", 0.4))


def test_a_beat_that_is_told_as_a_scene_begins_to_hear_reaches_it(
    client: NotedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with on_stage(client, [SOFT, LOUD], Transport(120.0, 0)) as stage:

        def host(*arguments: Any, **options: Any) -> Host:
            stage.transport(Transport(77.0))
            return Host(*arguments, **options)

        monkeypatch.setattr(stages, "Host", host)
        coming_on(stage, "next")
        assert client.opened[-1].told[-1].tempo == 77.0


def test_a_scene_that_comes_has_the_keys_and_the_pedal_that_are_down(
    client: NotedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[tuple[str, int, bytes]] = []
    midi_live = Session.midi_live

    def noted(session: Session, position: int, data: bytes) -> int:
        played.append((session.ready.session, position, data))
        return midi_live(session, position, data)

    monkeypatch.setattr(Session, "midi_live", noted)
    with on_stage(client, [SOFT, LOUD]) as stage:
        stage.midi_live(0, bytes([0x90, 60, 100, 0x90, 64, 90, 0x80, 64, 0, 0xB0, 64, 127, 0x90, 67, 80, 0x80, 67, 0]))
        heard_of(stage, 3, lambda number: None)
        coming = coming_on(stage, "next")
        at_once = [(position, data) for who, position, data in played if who == coming.session.ready.session]
        assert at_once == [
            (coming.start, data) for data in (b"\xb0\x40\x7f", bytes([0x90, 60, 100, 0x90, 67, 80]), b"\x80\x43\x00")
        ]
        assert coming.start == 3 * BLOCK
        stage.midi_live(0, b"\xb0\x79\x00\xb0\x7b\x00")
        assert stage._keys.told() == []


def test_of_many_scenes_that_are_asked_for_at_once_only_the_newest_is_opened_beside_what_plays(
    client: NotedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    opens, opening = threading.Event(), threading.Event()
    with on_stage(client, [SOFT, LOUD, Scene("third", "passthrough", {})]) as stage:
        opened, before = stage._opened, len(client.opened)

        def slow(scene: Scene, index: int) -> Any:
            opening.set()
            assert opens.wait(20)
            return opened(scene, index)

        monkeypatch.setattr(stage, "_opened", slow)
        stage.ask("next")
        assert opening.wait(20)
        for line in ("take 3", "scene nothing", "scene 1", "next", "next"):
            stage.ask(line)
        stage.ask("nonsense")
        opens.set()
        heard_of(stage, 60, ask_at(stage, 0))
        end = time.monotonic() + 20
        while stage._now.scene.name != "third":
            assert time.monotonic() < end
            heard_of(stage, 5, lambda number: None)
        first, newest = client.opened[before:]  # "next" was being opened already
        assert newest is stage._now.session
        with pytest.raises(SessionEnded):
            first.send(np.zeros((2, BLOCK), np.float32))


def test_what_was_to_come_ends_before_the_next_is_opened(client: NotedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_stage(client, [SOFT, LOUD], Transport(60.0, 0)) as stage:  # the next bar is far
        coming, opened, there = coming_on(stage, "next"), stage._opened, list[bool]()

        def noted(scene: Scene, index: int) -> Any:
            there.append(coming.session._cancelled)
            return opened(scene, index)

        monkeypatch.setattr(stage, "_opened", noted)
        heard_of(stage, 3, ask_at(stage, 0, "take 3"))
        assert there == [True]
        assert stage._coming is not None
        assert stage._coming.session.ready.seed == 3
        stage.ask("scene nothing")
        obeyed(stage)
        assert not stage._coming.session._cancelled  # what cannot be done ends nothing


def test_what_is_opened_as_the_stage_closes_is_ended(client: NotedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_stage(client, [SOFT, LOUD]) as stage:
        opened = stage._opened

        def late(scene: Scene, index: int) -> Any:
            act = opened(scene, index)
            stage.close()
            return act

        monkeypatch.setattr(stage, "_opened", late)
        stage.ask("next")
        stage._director.join(20)
        assert client.opened[-1]._cancelled


def test_where_what_is_heard_has_failed_nothing_comes_any_more(
    client: NotedClient, capfd: pytest.CaptureFixture[str]
) -> None:
    with on_stage(client, [SOFT, LOUD], Transport(60.0, 0)) as stage:
        coming, before = coming_on(stage, "next"), len(client.opened)
        stage._now.session.cancel()
        block = np.zeros((2, BLOCK), np.float32)
        with pytest.raises(BacklineError):
            stage.turn(block)
        stage.ask("take 3")
        obeyed(stage)
        stage.turn_alone(block)
        assert coming.session._cancelled
        assert stage._playing() == [stage._now]
        assert len(client.opened) == before
    assert "scene refused: soft: what was heard has ended by itself" in capfd.readouterr().err


def test_a_scene_that_is_left_ends_even_where_nobody_knows_what_it_came_to(
    client: NotedClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def unknown() -> list[Any]:
        raise ConnectionFailed("no answer")

    with on_stage(client, [SOFT, LOUD]) as stage:
        left, ask = stage._now, ask_at(stage, 10, "next")

        def at(number: int) -> None:
            ask(number)
            monkeypatch.setattr(client, "sessions", unknown, raising=False)

        heard_of(stage, 60, at)
        obeyed(stage)
        assert stage._now.scene is LOUD
        assert left.session._cancelled
    assert "scene: loud" in capfd.readouterr().err


def test_what_scenes_came_to_counts_together(client: NotedClient) -> None:
    with on_stage(client, [SOFT, LOUD]) as stage:
        heard_of(stage, 100, ask_at(stage, 50, "next"))
        assert stage._now.scene is LOUD
        obeyed(stage)
        stage.finish()
        totals = stage.measured.totals
        assert totals.samples_in == 100 * BLOCK
        assert totals.samples_out >= 100 * BLOCK


def test_while_the_next_pack_loads_scenes_are_asked_for(client: NotedClient, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = threading.Event()
    monkeypatch.setattr(client, "load_pack", lambda name: loaded.wait(20), raising=False)
    try:
        with on_stage(client, [SOFT, LOUD]) as stage:
            heard_of(stage, 60, ask_at(stage, 0, "next"))
            assert stage._now.scene is LOUD
            assert not loaded.is_set()
    finally:
        loaded.set()


def test_where_a_clock_outside_leads_a_scenes_own_tempo_is_passed_over_and_that_is_said_once(
    client: NotedClient, capfd: pytest.CaptureFixture[str]
) -> None:
    waltz = Scene("waltz", "passthrough", {}, transport=Transport(180.0, 0, numerator=3))
    with on_stage(client, [SOFT, waltz, waltz]) as stage:
        stage.change(Transport(960.0, 0))  # as the conductor tells it
        for scene in ("2", "3"):
            heard_of(stage, 60, ask_at(stage, 0, f"scene {scene}"))
            assert {each.tempo for each in client.opened[-1].told} == {960.0}
        assert stage._now.scene is waltz
        obeyed(stage)
    assert capfd.readouterr().err.count("a clock outside gives the beat") == 1


def test_a_scene_that_has_missed_its_bar_comes_on_the_next_one_of_what_is_heard(client: NotedClient) -> None:
    waltz = Scene("waltz", "passthrough", {}, transport=Transport(70.0, 0, numerator=3))
    with on_stage(client, [SOFT, waltz], Transport(960.0, 0)) as stage:
        ask = ask_at(stage, 5, "next")

        def at(number: int) -> None:
            ask(number)
            coming = stage._coming
            if coming is not None and coming.misses == 0:  # what it says is lost
                push = type(coming.host._output).push
                coming.host._output.push = (  # type: ignore[method-assign]
                    lambda block: push(coming.host._output, block) if coming.misses or block.port == INPUT else None
                )

        heard_of(stage, 200, at)
        told = client.opened[-1].told
        assert [each.tempo for each in told] == [960.0, 70.0, 960.0, 70.0]
        bars = [each.position for each in told if each.tempo == 70.0]
        assert all(bar % (RATE // 4) == 0 for bar in bars)
        assert bars[1] - bars[0] < 2 * RATE  # a bar of 70 lasts longer


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other", "--map: passthrough and other give a parameter other ranges"),
        ("fixed", "--map: fixed has no parameter 'gain' that may change while it plays: use none"),
    ],
)
def test_a_pack_without_what_a_controller_moves_does_not_come(
    client: NotedClient,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    name: str,
    words: str,
    learned: bool,
) -> None:
    """Or the first move of it would end what plays. It does not matter whether it was mapped, or learned on stage."""
    there = client.pack("passthrough")
    gain = next(each for each in there.parameters if each.name == "gain")
    other = pb.Parameter(name="gain", minimum=0, maximum=gain.maximum + 1, automatable=True)
    packs = {
        "passthrough": there,
        "other": pb.Pack(name="other", parameters=[other]),
        "fixed": pb.Pack(name="fixed", parameters=[gain], tasks=[pb.Task(name="hum")]),
    }
    monkeypatch.setattr(client, "pack", packs.__getitem__, raising=False)
    with on_stage(client, [SOFT], mapped={} if learned else {1: "gain"}) as stage:
        if learned:
            stage.mapped = lambda: {1: "gain"}
        stage.ask(f"pack {name}")
        obeyed(stage)
        assert len(client.opened) == 1
    assert words in " ".join(capfd.readouterr().err.split())


def test_what_is_learned_while_a_pack_is_opened_has_to_fit_that_too(
    client: NotedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    playing: list[list[str]] = []
    opened = client.open
    with on_stage(client, [SOFT]) as stage:

        def opens(*arguments: Any, **options: Any) -> Any:
            playing.append([pack.name for pack, _ in stage.playing()])
            return opened(*arguments, **options)

        monkeypatch.setattr(client, "open", opens)
        stage.ask("pack passthrough")
        obeyed(stage)
        assert playing == [["passthrough"] * 2]
        assert len(stage.playing()) == 2  # it is to come


# ---- bars ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tempo", [61.7, 120.0, 233.1])
def test_each_bar_is_found_once_however_the_blocks_lie(tempo: float) -> None:
    transport = Transport(tempo, 1234, numerator=7, denominator=8, song_position=101.3, bar_start=98.25)
    quarter = 60.0 / tempo * RATE
    bars = [1234 + (98.25 + 3.5 * bar - 101.3) * quarter for bar in range(1, 60)]
    found = list[int]()
    for begin in range(1234, round(bars[-1]), 77):
        bar = bar_from(transport, begin, RATE)
        if bar < begin + 77:
            found.append(bar)
    np.testing.assert_allclose(found, bars[: len(found)], atol=0.5001)
    assert len(found) >= 58


# ---- set lists -------------------------------------------------------------------------------------------------------

SET = """
[[scene]]
name = "soft"
tempo = 960
parameters = { gain = 0.5 }

[[scene]]
name = "loud"
signature = "3/4"
tempo = 180
seed = 7
"""


def test_a_set_list_says_what_its_scenes_are_and_the_command_line_the_rest(tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(SET)
    common = Scene("", "passthrough", {"parameters": {"gain": 2.0, "other": 1.0}, "seed": 3}, ("main",))
    soft, loud = read_set(tmp_path / "set.toml", common)
    options = {"parameters": {"gain": 0.5, "other": 1.0}, "seed": 3}
    assert soft == Scene("soft", "passthrough", options, ("main",), Transport(960, 0, song_position=-0.0))  # type: ignore[arg-type]
    assert loud.options == {"parameters": {"gain": 2.0, "other": 1.0}, "seed": 7}
    assert loud.transport == Transport(180, 0, numerator=3, song_position=-0.0)


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        ("[[scene]\n", ["is no TOML", 'begin each scene with [[scene]], then name = "verse"']),
        ("", ["1 fault", "there is no scene: begin each with [[scene]]"]),
        ("scene = 3\nfade = 2", ["2 faults", "'fade' is no key of a set list", "there is no scene"]),
        (
            '[[scene]]\nname = "a"\ntempo = 0\nseed = -1\nports = []\npack = "nothing"\n'
            '[[scene]]\nname = "a"\nsignature = "3/4"\nparameters = { gain = true }\nlevel = 3\n'
            '[[scene]]\nname = "7"\nvisibility = nan\nchunk = 0\ntexts = { prompt = 3 }\n[[scene]]',
            [
                "12 faults",
                "scene 1 (a): tempo = '0': use 1 to 999 quarter notes a minute",
                "scene 1 (a): seed = '-1': use a whole number from 0",
                "scene 1 (a): ports = '[]': use a list",
                "scene 2 (a): another scene has its name",
                "scene 2 (a): a signature needs a tempo",
                "scene 2 (a): parameters = \"{'gain': True}\": use a table of numbers",
                "scene 2 (a): 'level' is no key of a scene: use name, pack",
                "scene 3 (7): name = '7': use a name that is no number",
                "scene 3 (7): visibility",
                "scene 3 (7): chunk = '0': use seconds above 0",
                "scene 3 (7): texts",
                'scene 4: it has no name: add one such as name = "verse"',
            ],
        ),
        (
            '[[scene]]\nname = "a"\npack = "nothing"\n'
            '[[scene]]\nname = "b"\npack = "passthrough"\nparameters = { gain = 99, more = 1 }\nports = ["out"]\n'
            'task = "hum"\ntexts = { prompt = "x" }',
            [
                "6 faults",
                "scene 1 (a): there is no pack 'nothing': use ",
                "scene 2 (b): passthrough has no task 'hum': use none",
                "scene 2 (b): passthrough has no output 'out': use main",
                "scene 2 (b): passthrough has no parameter 'more': use gain",
                "scene 2 (b): passthrough has no text 'prompt': use none",
                "scene 2 (b): parameter 'gain' is 99: use 0 to",
            ],
        ),
    ],
)
def test_every_fault_of_a_set_list_is_named_at_once(
    backline: Backline, address: str, tmp_path: Path, content: str, faults: list[str]
) -> None:
    (tmp_path / "set.toml").write_text(content)
    said = backline("scenes", "check", tmp_path / "set.toml", "--server", address)
    assert said.code == 1
    for fault in faults:
        assert fault in said.err


def test_a_set_list_without_a_fault_is_said_to_have_none(backline: Backline, address: str, tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(SET.replace('"soft"', '"soft"\npack = "passthrough"').replace("seed", "chunk"))
    said = backline("scenes", "check", tmp_path / "set.toml", "--server", address)
    assert "loud): default" not in said.err, said.err
    assert (said.code, said.out.strip()) == (0, f"{tmp_path / 'set.toml'}: 2 scenes, no fault")


def test_the_readmes_set_list_has_no_fault(backline: Backline, address: str, tmp_path: Path) -> None:
    lines = (Path(__file__).parents[2] / "README.md").read_text().split("    # set.toml\n")[1].split("    backline")[0]
    (tmp_path / "set.toml").write_text(textwrap.dedent(lines))
    said = backline("scenes", "check", tmp_path / "set.toml", "--server", address)
    assert said.out.strip().endswith("2 scenes, no fault"), said.err


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"x = " + b"[" * 100_000, b"[[scene]]\nname = 'a'\ntempo = 0x" + b"f" * 10_000, b"x = " + b"9" * 5_000],
)
def test_a_file_of_nonsense_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "set.toml").write_bytes(content)
    with pytest.raises(UserError, match=r"no TOML|use 1 to 999"):
        read_set(tmp_path / "set.toml", LOUD)


def test_only_a_file_of_some_size_is_read_as_a_set_list(tmp_path: Path) -> None:
    (tmp_path / "large.toml").write_text(SET + "#" * SET_BYTES)
    os.mkfifo(tmp_path / "pipe.toml")  # that nobody writes
    for name in ("large.toml", "pipe.toml", ""):
        with pytest.raises(UserError, match="is no file of at most 1048576 bytes"):
            read_set(tmp_path / name, LOUD)


def test_whoever_steers_is_told_nothing_of_another_file(backline: Backline, address: str, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text('secret = "of mine"\n[[scene]]\nsesame = 3\n')
    (tmp_path / "words").write_text("secret = { of = mine }")
    for name in ("keys.toml", "words"):
        said = backline("live", "--steered", "--scenes", tmp_path / name, "--server", address)
        assert said.code == 1
        assert "is no set list that can be played: `backline scenes check` tells why" in said.err
        for word in ("secret", "sesame", "mine", "line 1"):
            assert word not in said.err
    assert "'secret' is no key" in backline("live", "--scenes", tmp_path / "keys.toml", "--server", address).err


def test_a_text_is_for_what_plays_and_its_further_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packs = everything_pack(tmp_path / "packs", monkeypatch, waits_for_frames=False)
    hears: SessionOptions = {"inputs": {"voice": 2}, "texts": {"prompt": "strings"}}
    with (
        start_server(packs=[packs], device="cpu") as server,
        Client(server.address) as client,
        on_stage(NotedClient(client), [Scene("it", "everything", hears)]) as stage,
    ):
        stage.ask("text a lonely harp")
        stage.ask("take 7")
        obeyed(stage)
        assert stage._offer is not None
        assert stage._offer.session.ready.texts == {"prompt": "a lonely harp"}
        assert [words for _, words, _ in LOADED[-1].prepared[-2:]] == ["strings", "a lonely harp"]
    assert "text: prompt = a lonely harp" in capsys.readouterr().err


def test_a_text_for_what_hears_none_is_refused(client: NotedClient, capsys: pytest.CaptureFixture[str]) -> None:
    with on_stage(client, [SOFT, LOUD]) as stage:
        stage.ask("text drums")
        obeyed(stage)
    assert "scene refused: what plays hears no text" in capsys.readouterr().err


# ---- the command -----------------------------------------------------------------------------------------------------


def test_what_is_typed_changes_the_scene(backline: Backline, address: str, tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(SET)
    soundfile.write(tmp_path / "in.wav", np.full((3 * RATE, 2), LEVEL), RATE, subtype="FLOAT")
    with typing(b"next\n"):
        said = backline(
            "live", "--scenes", tmp_path / "set.toml", "--pack", "passthrough", "--server", address,
            "--input", tmp_path / "in.wav", "--output", tmp_path / "out.wav", "--jitter-buffer", 0.3,
        )  # fmt: skip
    assert said.code == 0, said.err
    assert said.err.splitlines() == ["scene: soft", "scene: loud"]
    heard = soundfile.read(tmp_path / "out.wav", dtype="float32")[0].T[0]
    assert len(heard) == 3 * RATE
    assert heard[0] == LEVEL / 2
    assert heard[-1] == LEVEL


def test_a_folder_of_outputs_is_not_recorded_of_scenes(backline: Backline, tmp_path: Path) -> None:
    (tmp_path / "set.toml").write_text(SET)
    said = backline("live", "--scenes", tmp_path / "set.toml", "--output", f"{tmp_path}/out/", "--input", "x.wav")
    assert said.code == 1


def test_the_input_comes_back_as_it_is_while_scenes_fade(client: NotedClient) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, (2, 200 * BLOCK)).astype(np.float32)
    with on_stage(client, [SOFT, LOUD]) as stage:
        stage.ask("next")
        blocks = [stage.turn(noise[:, at : at + BLOCK])[INPUT] for at in range(0, noise.shape[1], BLOCK)]
        back = np.concatenate(blocks, axis=1)[:, stage.latency_samples :]
        np.testing.assert_allclose(back, noise[:, : back.shape[1]], atol=1e-6)
