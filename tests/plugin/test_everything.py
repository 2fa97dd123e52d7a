"""All of the contract through the plugin's core: two inputs, a text, notes, and parameters that the pack names."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray

from backline.models.stream import ChunkInput
from backline.service.server import start_server
from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import parameter
from tests.plugin.clap_host import Bundle, ClapPlugin
from tests.plugin.drive import DRY_WET, INPUT, LATENCY_BUDGET, PLAYING, PROMPT, REFUSED, Drive, driver, played_exactly
from tests.plugin.native import build, run
from tests.plugin.test_clap_parameters import NAMES
from tests.plugin.test_clap_state import PROJECT_OF_45799D0
from tests.support.everything import CHUNK_SAMPLES, LOADED, RATE, everything_pack

Columns = NDArray[np.float32]  # [sample, channel]
PATIENCE_SECONDS = 20.0
STYLE, DEPTH = (NAMES.index("Status") + 1 + slot for slot in range(2))  # as the pack has them, in its order
PACK, STATUS = NAMES.index("Pack"), NAMES.index("Status")
NAMED = (1001).to_bytes(4, "little")  # before every eight bytes of what a state keeps by name


@contextmanager
def serving(folder: Path, monkeypatch: pytest.MonkeyPatch, *, waits_for_frames: bool = False) -> Iterator[str]:
    """A server that has the pack, which plugins of this process know and find; its address."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    (folder / "state" / "backline").mkdir(parents=True)
    (folder / "state" / "backline" / "packs").write_text("everything\n")
    packs = everything_pack(folder / "packs", monkeypatch, waits_for_frames=waits_for_frames)
    with start_server(f"unix:{folder}/socket", packs=[packs], load=["everything"], device="cpu") as server:
        monkeypatch.setenv("BACKLINE_ADDRESS", server.address)
        yield server.address


@contextmanager
def playing(
    built: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, waits_for_frames: bool = False, **environment: str
) -> Iterator[Drive]:
    """The core with the pack chosen, all wet, in a bounce; a voice on its main input and a band on its sidechain."""
    with (
        serving(folder, monkeypatch, waits_for_frames=waits_for_frames) as address,
        driver(built, folder, address, XDG_STATE_HOME=os.environ["XDG_STATE_HOME"], **environment) as drive,
    ):
        assert drive.say("pack", "everything") == ""
        drive.say("set", DRY_WET, 1.0)
        drive.say("set", LATENCY_BUDGET, 0.5)
        drive.say("sidechain", 1)
        yield drive


def heard(audio: Columns, latency: int) -> tuple[Columns, Columns, Columns]:
    """What was played as `main` and as `voice`, and the band that belongs there."""
    return audio[latency:, 4:6], audio[latency:, 6:8], audio[: len(audio) - latency, 14:16]


def gains(audio: Columns, latency: int) -> NDArray[np.float64]:
    """By how much the voice was mixed into the band, chunk by chunk: a hundredth of the text's length."""
    main, voice, band = (part.astype(np.float64).sum(axis=1) for part in heard(audio, latency))
    chunks = len(main) // CHUNK_SAMPLES
    excess, voice = ((main - band)[: chunks * CHUNK_SAMPLES], voice[: chunks * CHUNK_SAMPLES])
    pairs = zip(np.split(excess, chunks), np.split(voice, chunks), strict=True)
    return np.array([e @ v / (v @ v) for e, v in pairs])


def test_a_second_input_comes_by_the_sidechain_and_notes_to_the_sample(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with playing(built, tmp_path, monkeypatch) as drive:
        drive.say("offline", 1)
        drive.say("sing", 0)  # so that the band alone is heard
        latency = int(drive.say("activate", RATE, 512))
        drive.say("note", 10_001)
        main, voice, band = heard(drive.run(2 * RATE, -700, 0), latency)
        assert drive.status() == PLAYING, drive.message()
    expected = band.copy()
    expected[10_001] += 1.0
    np.testing.assert_array_equal(main, expected)
    assert not voice.any()


def test_input_sidechain_puts_the_voice_there(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with playing(built, tmp_path, monkeypatch) as drive:
        drive.say("offline", 1)
        drive.say("set", INPUT, 1)
        drive.say("sidechain", 0)  # which is not connected: silence
        latency = int(drive.say("activate", RATE, 512))
        audio = drive.run(RATE, 512, 0)
        assert drive.status() == PLAYING, drive.message()
    np.testing.assert_array_equal(audio[latency:, 4:6], audio[:-latency, :2])
    assert not audio[:, 6:8].any()


def test_a_text_changed_live_is_heard_at_the_position_that_is_told(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with playing(built, tmp_path, monkeypatch) as drive:
        assert drive.say("write", "prompt", "a Märchen of 20") == ""
        assert drive.say("write", "unheard of", "no pack has it") == ""
        assert drive.say("write", "prompt", "x" * 513) == "refused"
        drive.say("offline", 1)
        latency = int(drive.say("activate", RATE, 512))
        first = drive.run(RATE, 512, 0)
        assert drive.say("text", "prompt") == "beginning a Märchen of 20"
        assert drive.say("write", "prompt", "fifty " * 8 + "xx") == ""
        time.sleep(0.1)  # the worker looks every 20 ms; how soon it does is heard, and told
        audio = np.concatenate([first, drive.run(2 * RATE, 512, 0)])
        since, text = drive.say("text", "prompt").split(maxsplit=1)
        assert drive.sessions() == 1
        assert drive.status() == PLAYING, drive.message()
    assert text == "fifty " * 8 + "xx"
    changed = int(since) // CHUNK_SAMPLES
    assert int(since) == changed * CHUNK_SAMPLES
    found = gains(audio, latency)
    assert 0 < changed < len(found)
    np.testing.assert_allclose(found[:changed], 0.15, atol=1e-4)
    np.testing.assert_allclose(found[changed:], 0.50, atol=1e-4)


def test_a_text_that_the_model_cannot_take_is_told_and_the_next_one_plays(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with playing(built, tmp_path, monkeypatch) as drive:
        drive.say("write", "prompt", "impossible")
        latency = int(drive.say("activate", RATE, 512))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "nobody can play that" not in drive.message() and time.monotonic() < deadline:
            drive.run(1200, 512, 1)
        assert "nobody can play that: write something else" in drive.message()
        drive.say("write", "prompt", "drums")
        assert int(drive.say("await", PLAYING, PATIENCE_SECONDS, 512)) >= 0
        assert drive.say("text", "prompt") == "beginning drums"
        assert latency == RATE // 2


def test_a_pack_that_waits_for_frames_says_so(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with playing(built, tmp_path, monkeypatch, waits_for_frames=True) as drive:
        drive.say("activate", RATE, 512)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "codec frames" not in drive.message() and time.monotonic() < deadline:
            drive.run(2400, 512, 1)
        assert "codec frames beside the audio, which no plugin sends" in drive.message()


@pytest.mark.slow
@pytest.mark.paced
def test_neither_texts_nor_moving_slots_break_the_real_time_rule(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with playing(built, tmp_path, monkeypatch, LD_PRELOAD=str(built / "realtime_guard.so")) as drive:
        drive.say("activate", RATE, 512)
        assert int(drive.say("await", PLAYING, PATIENCE_SECONDS, 128)) >= 0
        drive.say("sweep", DEPTH, 0, 1, 480)
        for prompt in ("drums", "a rhodes"):
            assert drive.say("write", "prompt", prompt) == ""
            drive.run(RATE, -512, 1)
        assert drive.say("text", "prompt").endswith(" a rhodes")
        shown = drive.say("slots")
        drive.say("sweep", PROMPT, 0, 7, 480)
        drive.run(RATE, -512, 1)
        assert drive.say("slots") == shown
        assert drive.say("slots") == "2|style=plain|depth=0.067", "the last step of the sweep"
        assert drive.sessions() == 1


# ---- parameters that the pack names ------------------------------------------------------------------------------


def settle(plugin: ClapPlugin, wanted: str) -> None:
    """Plays, and serves the main loop, until a parameter has this name."""
    block, deadline = np.zeros((2, 480), np.float32), time.monotonic() + PATIENCE_SECONDS
    while wanted not in names(plugin) and time.monotonic() < deadline:
        plugin.process(block)
        time.sleep(0.01)
    assert wanted in names(plugin)
    plugin.host.calls.clear()
    plugin.process(block)


def names(plugin: ClapPlugin) -> list[str]:
    return [info.name.decode() for info in plugin.params() if not info.flags & abi.PARAM_HIDDEN]


def chosen(plugin: ClapPlugin) -> float:
    number = plugin.value_of_text(PACK, "everything")
    assert number is not None
    return number


def test_the_pack_names_parameters_where_hosts_read_them(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, monkeypatch), bundle.create() as plugin:
        plugin.flush([parameter(PACK, chosen(plugin))])
        assert "style" not in names(plugin), "no server has told yet"
        plugin.activate(48_000, 480)
        plugin.host.rescans.clear()
        block, deadline = np.zeros((2, 480), np.float32), time.monotonic() + PATIENCE_SECONDS
        while not any(flags & abi.RESCAN_INFO for flags in plugin.host.rescans) and time.monotonic() < deadline:
            plugin.process(block)
            plugin.serve_callbacks()
            time.sleep(0.01)
        assert plugin.host.rescans[-1] & abi.RESCAN_VALUES
        assert names(plugin)[-5:] == ["style", "depth", "Prompt", "On jump", "Timing"]
        assert not any(flags & abi.RESCAN_ALL for flags in plugin.host.rescans), "no range has changed"
        infos = plugin.params()
        assert [infos[slot].default_value for slot in (STYLE, DEPTH)] == [plugin.value(STYLE), plugin.value(DEPTH)]
        assert [plugin.text(STYLE, step / 2) for step in range(3)] == ["plain", "swing", "wild"]
        assert [plugin.value_of_text(STYLE, text) for text in ("plain", "Swing", "2")] == [0.0, 0.5, 1.0]
        assert plugin.value_of_text(STYLE, "polka") is plugin.value_of_text(DEPTH, "1.5") is None
        assert plugin.text(DEPTH, 0.25) == "0.250"
        assert [plugin.text(PROMPT, slot) for slot in range(3)] == ["a rhodes", "drums", "vocals"], "as it suggests"
        assert plugin.host.misuse == []
        plugin.process(block, events=[parameter(PACK, 1.0)])
        settle(plugin, "gain")  # of the pack that passes through
        assert "style" not in names(plugin)


def test_values_are_kept_by_name(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, monkeypatch):
        with bundle.create() as plugin:
            plain = plugin.save()
            plugin.flush([parameter(PACK, chosen(plugin))])
            plugin.activate(48_000, 480)
            settle(plugin, "depth")
            block = np.zeros((2, 480), np.float32)
            plugin.process(block, events=[parameter(STYLE, 1.0), parameter(DEPTH, 0.3)])
            project = plugin.save()
            plugin.process(block, events=[parameter(PACK, 1.0)])
            settle(plugin, "gain")
            plugin.process(block, events=[parameter(PACK, chosen(plugin))])
            settle(plugin, "depth")
            assert (plugin.value(STYLE), plugin.value(DEPTH)) == (1.0, 0.3), "other packs have left them alone"
        with bundle.create() as plugin:  # without a server: it keeps what it cannot show
            assert plugin.load(project)
            assert plugin.value(STYLE) == 0.0
            assert plugin.save() == project != plain
            plugin.activate(48_000, 480)
            settle(plugin, "depth")
            assert (plugin.value(STYLE), plugin.value(DEPTH)) == (1.0, 0.3)
            assert plugin.text(STYLE, 1.0) == "wild"
            assert plugin.save() == project


def test_automation_comes_to_the_model_at_its_sample(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first chunk that begins at or after the event hears the new value, and none before."""
    seen: list[dict[str, float]] = []

    def note(inputs: Sequence[ChunkInput]) -> None:
        seen.extend(dict(given.parameters) for given in inputs if given.audio.shape[1])

    with serving(tmp_path, monkeypatch), bundle.create() as plugin:
        plugin.flush([parameter(PACK, chosen(plugin)), parameter(LATENCY_BUDGET, 0.2)])
        plugin.set_render_mode(abi.RENDER_OFFLINE)
        plugin.activate(RATE, 480)
        settle(plugin, "depth")
        plugin.deactivate()
        stream, deadline = LOADED[-1], time.monotonic() + PATIENCE_SECONDS
        while stream.rows and time.monotonic() < deadline:  # of the session that has just ended
            time.sleep(0.01)
        stream.before_step = note
        plugin.activate(RATE, 480)
        for start in range(0, 15 * CHUNK_SAMPLES, 480):
            events = [parameter(STYLE, 1.0, 480 - 1)] if start + 480 == 4 * CHUNK_SAMPLES else []
            events += [parameter(DEPTH, 0.25, 1)] if start == 6 * CHUNK_SAMPLES else []
            plugin.process(np.zeros((2, 480), np.float32), events=events)
        plugin.deactivate()
    assert len(seen) >= 8
    assert [given["style"] for given in seen[:8]] == [0.0] * 4 + [2.0] * 4
    assert [given["depth"] for given in seen[:8]] == [1.0] * 7 + [0.25]


# ---- prompts -----------------------------------------------------------------------------------------------------


@contextmanager
def bouncing(
    bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch, state: bytes = b""
) -> Iterator[tuple[ClapPlugin, list[float]]]:
    """A bounce at the pack, after a state; and what the text comes to, chunk by chunk: a hundredth of its length."""
    heard: list[float] = []

    def note(inputs: Sequence[ChunkInput]) -> None:
        heard.extend(given.texts["prompt"] for given in inputs if given.audio.shape[1])

    with serving(folder, monkeypatch), bundle.create() as plugin:
        assert not state or plugin.load(state)
        plugin.flush([parameter(PACK, chosen(plugin)), parameter(LATENCY_BUDGET, 0.2)])
        plugin.set_render_mode(abi.RENDER_OFFLINE)
        LOADED[-1].before_step = note
        plugin.activate(RATE, 480)
        yield plugin, heard
        plugin.deactivate()


def play(plugin: ClapPlugin, chunks: int, switches: Mapping[int, int] = MappingProxyType({})) -> None:
    """Plays silence, and switches prompts at samples of it."""
    for start in range(0, chunks * CHUNK_SAMPLES, 480):
        here = {at - start: slot for at, slot in switches.items() if start <= at < start + 480}
        events = [parameter(PROMPT, slot, frame) for frame, slot in sorted(here.items())]
        plugin.process(np.zeros((2, 480), np.float32), events=events)


def test_prompts_switch_on_the_timeline_at_their_sample(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first chunk that begins at or after the switch plays by the new words, and none before."""
    with bouncing(bundle, tmp_path, monkeypatch) as (plugin, heard):
        play(plugin, 15, {4 * CHUNK_SAMPLES: 1, 6 * CHUNK_SAMPLES + 1: 3, 9 * CHUNK_SAMPLES - 1: 0})
        words = [plugin.text(PROMPT, slot) for slot in (0, 1, 3)]
        assert words == ["a rhodes", "drums", "bass"]
        assert plugin.host.misuse == []
    rhodes, drums, bass = (len(text or "") / 100 for text in words)
    assert heard[:12] == [rhodes] * 4 + [drums] * 3 + [bass] * 2 + [rhodes] * 3


def test_words_that_are_typed_play_and_hosts_are_told_to_read_them(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bouncing(bundle, tmp_path, monkeypatch) as (plugin, heard):
        play(plugin, 5)
        assert plugin.value_of_text(PROMPT, "DRUMS ") == 1.0, "a slot holds it"
        for typed in ("a lonely harp", "Märchenwald"):  # the second where its slot is selected already
            plugin.serve_callbacks()
            plugin.host.rescans.clear()
            assert plugin.value_of_text(PROMPT, typed) == 7.0
            assert plugin.text(PROMPT, 7.0) == typed
            plugin.process(np.zeros((2, 480), np.float32), events=[parameter(PROMPT, 7)])
            plugin.serve_callbacks()
            assert plugin.host.rescans[-1] & abi.RESCAN_TEXT
            deadline = time.monotonic() + PATIENCE_SECONDS
            while heard[-1] != len(typed) / 100 and time.monotonic() < deadline:
                play(plugin, 1)
            assert heard[-1] == len(typed) / 100
        project = plugin.save()
        assert plugin.host.misuse == []
    with bundle.create() as plugin:  # where no server is
        assert plugin.load(project)
        assert plugin.value(PROMPT) == 7.0
        assert [plugin.text(PROMPT, slot) for slot in (0, 7)] == ["a rhodes", "Märchenwald"]
        for refused in ("", " ", "x" * 121, "two\nlines"):
            assert plugin.value_of_text(PROMPT, refused) is None
        assert plugin.save() == project


def test_an_older_project_begins_with_what_its_pack_suggests(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bundle.create() as plugin:
        assert plugin.load(PROJECT_OF_45799D0.read_bytes())
        assert (plugin.value(PROMPT), plugin.text(PROMPT, 0.0)) == (0.0, "vocals")
    with bouncing(bundle, tmp_path, monkeypatch, PROJECT_OF_45799D0.read_bytes()) as (plugin, heard):
        play(plugin, 6)
        assert plugin.text(PROMPT, 0.0) == "a rhodes"
    assert set(heard) == {len("a rhodes") / 100}


def test_a_file_says_what_new_projects_begin_with(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "backline").mkdir(parents=True)
    file = tmp_path / "config" / "backline" / "prompts.txt"
    file.write_bytes("a choir\r\n\n  Märchen \n".encode() + b"M\xe4rchen\n" + b"x" * 121 + b"\ndrums\nnot ended")
    begins = ["a choir", "Märchen", "drums", "not ended", "vocals", "bass", "piano", "guitar"]
    with bouncing(bundle, tmp_path, monkeypatch) as (plugin, heard):
        play(plugin, 5)
        assert [plugin.text(PROMPT, slot) for slot in range(8)] == begins, "whatever the pack suggests"
        assert set(heard) == {len("a choir") / 100}
        project = plugin.save()
    file.write_text("other words")
    with bouncing(bundle, tmp_path / "again", monkeypatch, project) as (plugin, heard):
        play(plugin, 5)
        assert [plugin.text(PROMPT, slot) for slot in range(8)] == begins, "the project keeps its own"
    file.unlink()
    os.mkfifo(file)  # which nobody writes into
    with bouncing(bundle, tmp_path / "pipe", monkeypatch) as (plugin, heard):
        play(plugin, 5)
        assert plugin.text(PROMPT, 0) == "a rhodes"


def test_another_prompt_is_asked_for_where_one_was_refused(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with playing(built, tmp_path, monkeypatch) as drive:
        drive.say("write", "prompt", "impossible")
        drive.say("activate", RATE, 512)
        assert int(drive.say("await", REFUSED, PATIENCE_SECONDS, 512)) >= 0
        drive.say("set", PROMPT, 2)
        assert int(drive.say("await", PLAYING, PATIENCE_SECONDS, 512)) >= 0
        assert drive.say("text", "prompt") == "beginning drums"


def test_a_pack_without_texts_plays_on_whatever_the_prompt(built: Path, tmp_path: Path, served_address: str) -> None:
    with driver(built, tmp_path, served_address) as drive:
        drive.say("offline", 1)
        drive.say("sweep", PROMPT, 0, 7, 1000)
        latency = drive.activate(48_000, seconds=0.1)
        audio = drive.run(48_000, 512, 0)
        assert drive.sessions() == 1
        assert drive.status() == PLAYING, drive.message()
    assert played_exactly(audio, latency).all()


def test_vst3_hosts_are_told_of_names(
    plugins: Path, vst3_binary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = build(plugins, "", "vst3_host") / "vst3_host"
    with serving(tmp_path, monkeypatch):
        run(host, vst3_binary, "server_names")


def test_what_is_new_in_a_state_older_versions_pass_over(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To them it is parameters of numbers that they do not know, as `older_reader` reads it."""
    with serving(tmp_path, monkeypatch), bundle.create() as plugin:
        plugin.flush([parameter(PACK, chosen(plugin))])
        without = older_reader(plugin.save())
        plugin.activate(48_000, 480)
        settle(plugin, "depth")
        plugin.process(np.zeros((2, 480), np.float32), events=[parameter(DEPTH, 0.3)])
        project = plugin.save()
        assert b"depth" in project.replace(NAMED, b"")
        assert older_reader(project) == without


def older_reader(state: bytes) -> dict[int, bytes]:
    """The parameters in a state as version 45799d0 read it: to the last byte, and those above 12 passed over."""
    body, at = state[16:], 0

    def take(count: int) -> bytes:
        nonlocal at
        assert at + count <= len(body)
        at += count
        return body[at - count : at]

    def number() -> int:
        return int.from_bytes(take(4), "little")

    take(number())
    for _ in range(number()):
        take(number())
    read = {number(): take(8) for _ in range(number())}
    assert at == len(body)
    return {index: value for index, value in read.items() if index < 13}
