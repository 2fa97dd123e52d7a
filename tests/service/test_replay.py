"""A live session and its replay through a real server: the same tokens, and the same samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from backline.cli.main import app
from backline.cli.replay import TokenCheck, changes_of, session_options
from backline.engine.event_log import EventLog, read_log
from backline.models.passthrough import PassthroughConfig, PassthroughStream
from backline.models.stream import Audio
from backline.service.server import RunningServer, start_server
from backline.service.session_log import FileSink, LogFolder, SessionLog
from backline_client import Block, Client, Control, Frames, LogLine, Take, Transport
from tests.support.clock import TurnedClock
from tests.support.playing import open_session, running

RATE = 24_000
WORDS = {"default": 6.0, "stems": 3.0, "passthrough": 6.0, "mge": 5.0}  # seconds that each is played


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def server(logs: Path) -> Iterator[RunningServer]:
    clock = TurnedClock()  # stands still: nothing comes too late, however slow this machine is
    with start_server(logs=LogFolder(logs, with_audio=True), clock=clock) as server:
        yield server
        clock.release()


def sung(seconds: float, channels: int = 1) -> Audio:
    time = np.arange(int(seconds * RATE)) / RATE
    melody = 220 * 2 ** (np.array([0, 4, 7, 12])[(time * 2).astype(int) % 4] / 12)
    voice = 0.3 * np.sin(2 * np.pi * np.cumsum(melody) / RATE) * (np.sin(2 * np.pi * time) > -0.5)
    return np.repeat(voice[None], channels, axis=0).astype(np.float32)


def played(client: Client, pack: str, audio: Audio, seed: int = 5) -> tuple[list[object], list[str]]:
    """A live session with all that can happen in one; its events, and the lines of its log."""
    with client.open(
        pack, RATE, audio.shape[0], block_size=4_800, seed=seed, want_frames=True, want_log=True, new_takes=True
    ) as session:
        half = audio.shape[1] // 2
        session.transport(Transport(120.0, loop=(0.0, 4.0)))
        session.midi(2_000, bytes([0x90, 60, 100, 0x90, 64, 100, 0x90, 67, 100]))
        for at in range(0, audio.shape[1], 4_800):
            if at == half - half % 4_800:
                for parameter in client.pack(pack).parameters:
                    if parameter.automatable and not parameter.integer:
                        session.control(parameter.name, (parameter.minimum + parameter.maximum) / 2)
                for text in client.pack(pack).texts:
                    session.text(text.name, "drums")
                session.transport(Transport(96.0, song_position=40.0, position=at - 3_000))  # told late
            session.send(audio[:, at : at + 4_800])
        session.close()
        events = list(iter(lambda: session.receive_event(30.0), None))
    return events, [event.line for event in events if isinstance(event, LogLine)]


def heard(events: Sequence[object], samples: int) -> dict[str, Audio]:
    blocks = [event for event in events if isinstance(event, Block)]
    found = {block.port: np.full((block.audio.shape[0], samples), np.nan, np.float32) for block in blocks}
    for block in blocks:
        found[block.port][:, block.position : block.end] = block.audio
    return found


def saved(lines: Sequence[str], path: Path) -> EventLog:
    path.write_text("\n".join(lines) + "\n")
    return read_log(path)


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["passthrough", "stems", "default", "mge"])
def test_a_replay_has_the_sessions_tokens_and_samples(server: RunningServer, pack: str, tmp_path: Path) -> None:
    audio = sung(WORDS[pack], 2 if pack == "stems" else 1)
    with Client(server.address) as client:
        events, lines = played(client, pack, audio)
        log = saved(lines, tmp_path / "log.jsonl")
        assert log.end.end == "closed"
        assert log.end.samples == audio.shape[1]
        assert log.end.late == 0
        assert log.end.audio == hashlib.sha256(audio.T.astype("<f4", order="C").tobytes()).hexdigest()
        assert log.header.digest == client.pack(pack).digest != ""
        again = client.render(pack, audio, RATE, changes=list(changes_of(log)), **session_options(log))
    check = TokenCheck(log)
    for frames in again.frames:
        check.take(frames)
    assert not check.differs
    assert check.chunks == len(again.frames)
    tokens = [event for event in events if isinstance(event, Frames)]
    for live, replayed in zip(tokens, again.frames, strict=False):
        np.testing.assert_array_equal(live.codes, replayed.codes)
    if pack in ("stems", "default"):  # the others have none
        assert check.frames > 0
    takes = [event for event in events if isinstance(event, Take)]
    assert takes
    assert takes == again.takes
    assert log.chunks
    for port, live_audio in heard(events, audio.shape[1]).items():
        np.testing.assert_array_equal(live_audio, again[port])


def test_what_is_skipped_is_skipped_again(server: RunningServer, tmp_path: Path) -> None:
    audio = sung(1.0)
    with Client(server.address) as client:
        with client.open("passthrough", RATE, 1, block_size=480, want_log=True) as session:
            session.send(audio[:, :4_801])
            events = []
            while not events or not isinstance(events[-1], Block):
                events.append(session.receive_event(10.0))
            session.change(Take(12_000, skipped=True))
            session.send(audio[:, 4_801:])
            session.close()
            events += list(iter(lambda: session.receive_event(10.0), None))
        log = saved([event.line for event in events if isinstance(event, LogLine)], tmp_path / "log.jsonl")
        again = client.render("passthrough", audio, RATE, changes=list(changes_of(log)), **session_options(log))
    (live,) = heard(events, audio.shape[1]).values()
    (take,) = log.takes
    assert take.skipped
    assert not live[:, take.heard_from : 12_000].any()
    np.testing.assert_array_equal(live[:, 12_000:], audio[:, 12_000:])
    np.testing.assert_array_equal(live, again["main"])


@pytest.mark.parametrize("stops", ["among takes", "in a gap"])
def test_of_a_block_that_is_partly_taken_the_log_has_that_part(stops: str, tmp_path: Path) -> None:
    """Chunks that nobody wants yet take no input, so that a block finds too little room; then the session is closed."""
    audio, chunk, block = sung(0.5), RATE // 100, 4_800
    options: dict[str, Any] = {
        "channels": 1,
        "sample_rate": RATE,
        "chunk_seconds": Fraction(1, 100),
        "visibility_seconds": 0.01,
    }
    with running(passthrough=PassthroughStream(PassthroughConfig())) as engine:
        session, listener = open_session(engine, "passthrough", block, **options)
        path = tmp_path / "log.jsonl"
        writes = SessionLog(session, "", [FileSink(path, None)])
        session.grant(0)
        session.write(700, audio[:, :chunk])
        at = 700 + chunk
        if stops == "among takes":
            for seam in range(at + chunk, at + block, 2 * chunk):
                session.begin_take(seam)
        else:
            at += 50 * RATE
        assert not session.try_write(at, audio[:, chunk : chunk + block])
        session.close_input()
        taken = listener.finished().totals.samples_in
        writes.wait()
        log = read_log(path)
        assert chunk < taken < at - 700 + block
        assert (log.end.start, log.end.samples) == (700, taken)
        heard_audio = np.pad(audio[:, : chunk + block], ((0, 0), (0, taken)))[:, :taken]
        if stops == "in a gap":
            heard_audio[:, chunk:] = 0.0
        assert log.end.audio == hashlib.sha256(heard_audio.T.astype("<f4", order="C").tobytes()).hexdigest()
        again, replayed = open_session(engine, "passthrough", taken, **options)
        for take in log.takes:
            again.begin_take(take.position - 700, take.heard_from - 700)
        again.write(0, heard_audio)
        again.close_input()
        replayed.finished()
    assert (len(log.takes) > 1) == (stops == "among takes")
    np.testing.assert_array_equal(listener.audio(), replayed.audio())


def test_a_server_keeps_logs_where_it_is_told_to_for_its_user_alone(server: RunningServer, logs: Path) -> None:
    audio = sung(0.5)
    with Client(server.address) as client, client.open("passthrough", RATE, 1, client_name="me") as session:
        session.send(audio)
        name = session.ready.session
        session.close()
    (path,) = logs.glob(f"*-passthrough-{name}.jsonl")
    for _ in range(1_000):  # the log ends on a thread of its own
        if '"end"' in path.read_text():
            break
        session._ended.wait(0.01)
    log = read_log(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_suffix(".wav").stat().st_mode & 0o777 == 0o600
    assert log.end.samples == audio.shape[1]
    for _ in range(1_000):
        kept = soundfile.read(path.with_suffix(".wav"), dtype="float32")[0]
        if len(kept) == audio.shape[1]:
            break
        session._ended.wait(0.01)
    np.testing.assert_array_equal(kept, audio[0])


@pytest.fixture(scope="module")
def recorded(server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log, and the file that its session heard."""
    folder, audio = tmp_path_factory.mktemp("recorded"), sung(1.0)
    with Client(server.address) as client:
        _, lines = played(client, "passthrough", audio)
    saved(lines, folder / "log.jsonl")
    soundfile.write(folder / "voice.wav", audio.T, RATE, subtype="FLOAT")
    return folder / "log.jsonl", folder / "voice.wav"


def replayed(server: RunningServer, log: Path, voice: Path, out: Path, *more: str) -> tuple[int, str]:
    arguments = ["render", "--replay", str(log), "--input", str(voice), "-o", str(out), "--server", server.address]
    result = CliRunner().invoke(app, [*arguments, *more], env={"COLUMNS": "300"})
    return result.exit_code, result.output + str(result.exception or "")


def test_the_command_plays_a_log_again(server: RunningServer, recorded: tuple[Path, Path], tmp_path: Path) -> None:
    code, said = replayed(server, *recorded, tmp_path / "out.wav")
    assert code == 0, said
    np.testing.assert_array_equal(
        soundfile.read(tmp_path / "out.wav", dtype="float32")[0].shape, soundfile.read(recorded[1])[0].shape
    )


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        (lambda lines: lines[:-1], "has no end"),
        (lambda lines: lines[1:], "does not begin with one's header"),
        (lambda lines: [], "is empty"),
        (lambda lines: [lines[0].replace('"backline_log":1', '"backline_log":9'), *lines[1:]], "version 9"),
        (lambda lines: [*lines[:1], "{", *lines[1:]], "line 2: no line of an event log"),
        (lambda lines: [*lines[:1], '{"chunk": 1e300, "take": 0}', *lines[1:]], "line 2: no line of an event log"),
        (lambda lines: [altered(lines[0], digest="0" * 64), *lines[1:]], "was played by another 'passthrough'"),
    ],
)  # fmt: skip
def test_a_log_that_is_none_is_refused(
    server: RunningServer, recorded: tuple[Path, Path], tmp_path: Path, change: object, remedy: str
) -> None:
    lines = recorded[0].read_text().splitlines()
    (tmp_path / "log.jsonl").write_text("\n".join(change(lines)))  # type: ignore[operator]
    code, said = replayed(server, tmp_path / "log.jsonl", recorded[1], tmp_path / "out.wav")
    assert code != 0
    assert remedy in said
    assert not (tmp_path / "out.wav").exists()


def altered(line: str, **fields: object) -> str:
    return json.dumps({**json.loads(line), **fields})


def test_another_file_is_refused(server: RunningServer, recorded: tuple[Path, Path], tmp_path: Path) -> None:
    audio, rate = soundfile.read(recorded[1], dtype="float32")
    for name, other, remedy in (
        ("short", audio[:-1], "the session heard 1 channels and 24000"), ("loud", audio * 1.01, "it sounds otherwise"),
    ):  # fmt: skip
        soundfile.write(tmp_path / f"{name}.wav", other, rate, subtype="FLOAT")
        code, said = replayed(server, recorded[0], tmp_path / f"{name}.wav", tmp_path / "out.wav")
        assert code != 0
        assert remedy in said
    code, said = replayed(server, *recorded, tmp_path / "out.wav", "--seed", "3")
    assert code != 0
    assert "stands in the log" in said


def test_notes_and_late_transports_come_again_where_they_were_obeyed(recorded: tuple[Path, Path]) -> None:
    changes = list(changes_of(read_log(recorded[0])))
    late = [change for change in changes if isinstance(change, Transport) and change.tempo == 96.0]
    assert len(late) == 1
    assert late[0].after is not None
    assert late[0].position is not None
    assert any(isinstance(change, Control) for change in changes)
