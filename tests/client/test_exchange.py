"""Tokens from one session to another, live and offline: what is sent is heard, and files lie on the way as well."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import backline.engine.frames
from backline.packs.pack import write_pack
from backline.service.server import start_server
from backline_client import Audio, BacklineError, Client, Frames, TokenHeader, TokenReader, TokenWriter
from tests.support.dual_track import FRAME_RATE, HOP, RATE, TRACKS, dual_track_packs, levels, tokens_of

ROOT = Path(__file__).parents[2]
FRAMES = 36  # of a song: three chunks
BOTH = dict.fromkeys(TRACKS, 1)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    folder = dual_track_packs(tmp_path / "packs", monkeypatch)
    with start_server(packs=[folder], device="cpu") as server, Client(server.address) as connected:
        yield connected


def test_one_session_sings_and_another_is_heard(client: Client, tmp_path: Path) -> None:
    song = levels(1, FRAMES)
    header = TokenHeader.of(client.pack("toy"), RATE)
    heard: dict[str, list[Audio]] = {track: [] for track in TRACKS}
    with (
        (tmp_path / "song.duo").open("w+b") as file,
        client.open("toy", RATE, 1, task="render") as rendering,
        client.open("toy", RATE, 2, inputs=BOTH, task="tokens", want_audio=False) as singing,
    ):
        writer = TokenWriter(file, header)
        assert not singing.ready.ports
        singing.send(song)
        singing.end_input()
        while (event := singing.receive_event(20)) is not None:
            if isinstance(event, Frames):
                writer.add(event)
                rendering.change(event)
        rendering.end_input()
        while (block := rendering.receive(20)) is not None:
            assert block.position == sum(part.shape[1] for part in heard[block.port])
            heard[block.port].append(block.audio)
        writer.finish(song.shape[1])
    for track, audio in zip(TRACKS, song, strict=True):
        np.testing.assert_allclose(np.concatenate(heard[track], axis=1)[0], audio, atol=1e-6)
    with TokenReader(tmp_path / "song.duo") as reader:
        reader.check(client.pack("toy"))
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks())), tokens_of(song))
        with client.render_blocks("toy", reader.frames(), RATE, 1, task="render") as offline:
            rendered: dict[str, list[Audio]] = {track: [] for track in TRACKS}
            for block in offline:
                rendered[block.port].append(block.audio)
    for track in TRACKS:
        np.testing.assert_array_equal(np.concatenate(rendered[track], 1), np.concatenate(heard[track], 1))


def test_a_render_waits_for_room_for_frames_as_for_sound(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backline.engine.frames, "PENDING_CODES", 200)
    codes = np.random.default_rng(0).integers(0, 32_768, (25 * 60, 2))
    parts = [Frames(at, codes[at : at + 50]) for at in range(0, len(codes), 50)]
    with client.render_blocks("toy", parts, RATE, 1, task="render", want_frames=True) as rendering:
        found = [event.codes for event in rendering.events() if isinstance(event, Frames)]
        assert rendering.totals.samples_out == len(codes) * HOP
    np.testing.assert_array_equal(np.concatenate(found)[: len(codes)], codes)
    with (
        pytest.raises(BacklineError, match="101 frames would wait in this session"),
        client.render_blocks("toy", [Frames(0, codes[:101])], RATE, 1, task="render") as rendering,
    ):
        list(rendering)


def test_the_readmes_way_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    _, example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    said: dict[str, Any] = {"np": np}
    exec(example, said)
    folder = dual_track_packs(tmp_path / "packs", monkeypatch, "duotok")
    with start_server(packs=[folder], device="cpu") as server, Client(server.address) as client:
        said["send_on"](client, client, levels(4, FRAMES), tmp_path / "song.duo", RATE)
    assert f"accompaniment {FRAMES * HOP}" in capsys.readouterr().out
    with TokenReader(tmp_path / "song.duo") as reader:
        np.testing.assert_array_equal(next(reader.blocks()), tokens_of(levels(4, FRAMES)))


def test_a_pack_keeps_its_tokenizer_while_its_other_parts_change(client: Client, tmp_path: Path) -> None:
    told = client.pack("toy").tokenizer
    assert len(told) == 64
    assert not client.pack("passthrough").tokenizer
    tables = {"tokenizer": {"seed": 1}, "lm": {"layers": 1}}
    config = {"name": "p", "version": "1", "family": "codec", "description": "d", "license": "Apache-2.0"}

    def digest(**changes: Any) -> str:
        weights = {"tokenizer.a": torch.zeros(2), "lm.a": torch.zeros(2)}
        tensors = weights | {name: tensor for name, tensor in changes.items() if name in weights}
        said = {**config, **tables, **{name: table for name, table in changes.items() if name not in weights}}
        return write_pack(tmp_path / "p", said, tensors).tokenizer(("tokenizer",))

    assert digest() == digest(version="2", lm={"layers": 9}, **{"lm.a": torch.ones(2)})
    assert digest() != digest(tokenizer={"seed": 2})
    assert digest() != digest(**{"tokenizer.a": torch.ones(2)})
    assert [book.rate for book in client.pack("toy").takes] == [FRAME_RATE] * 2
