"""DuoTok through the real server: a band under a voice, both tracks as tokens, and those tokens sung elsewhere."""

from collections.abc import Iterator

import numpy as np
import pytest

from backline.models.duotok.load import build
from backline.models.duotok.stream import DuoStream
from backline.packs.pack import write_pack
from backline.service.server import start_server
from backline_client import BacklineError, Block, Client, Frames
from tests.models.duotok.test_stream import Played, play, session
from tests.support.toy_duo_pack import RATE, song, toy_pack

SECONDS = 4.0
INPUTS = {"vocals": 1, "accompaniment": 1}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    packs = tmp_path_factory.mktemp("packs")
    write_pack(packs / "toy-duotok", *toy_pack())
    with start_server(packs=[packs], load=["toy-duotok"]) as server, Client(server.address) as opened:
        yield opened


def stream() -> DuoStream:
    return build(*toy_pack(), "cpu", "bfloat16")


def alone(task: str) -> Played:
    """What the family plays without a server."""
    own = stream()
    one = Played(own, session(task), song(SECONDS), transport=None)
    play(own, [one])
    return one


def test_a_band_answers_a_voice_and_says_in_which_tokens(client: Client) -> None:
    rendering = client.render(
        "toy-duotok", song(SECONDS)[:1], RATE, task="accompany", inputs={"vocals": 1}, seed=3, want_frames=True,
        parameters={"steps": 2},
    )  # fmt: skip
    expected = alone("accompany")
    assert list(rendering) == ["accompaniment"]
    codes = np.concatenate([frames.codes for frames in rendering.frames])
    np.testing.assert_array_equal(codes[: len(expected.frames)], expected.frames)
    sound = expected.audio()
    assert rendering["accompaniment"].shape == (2, song(SECONDS).shape[1])
    np.testing.assert_allclose(rendering["accompaniment"][:, : sound.shape[1]], sound, atol=5e-3)


def test_tokens_alone_are_both_tracks_and_no_sound_and_another_machine_sings_them(client: Client) -> None:
    events = []
    with client.open("toy-duotok", RATE, 2, offline=True, task="tokens", want_audio=False, inputs=INPUTS) as tokens:
        for start in range(0, song(SECONDS).shape[1], 777):  # no whole tokens
            tokens.send(song(SECONDS)[:, start : start + 777])
        tokens.end_input()
        events = list(iter(lambda: tokens.receive_event(20), None))
    assert not any(isinstance(event, Block) for event in events)
    codes = np.concatenate([event.codes for event in events if isinstance(event, Frames)])
    expected = alone("tokens").frames
    np.testing.assert_array_equal(codes[: len(expected)], expected)
    assert len(codes) >= SECONDS * 25

    with client.open("toy-duotok", RATE, 1, offline=True, task="render", seed=3, parameters={"steps": 2}) as render:
        render.frames(codes)
        render.end_input()
        blocks = [event for event in iter(lambda: render.receive_event(20), None) if isinstance(event, Block)]
    expected_sound = alone("resynthesis")
    for port, name in enumerate(("vocals", "accompaniment")):
        sung = np.concatenate([block.audio for block in blocks if block.port == name], axis=1)
        sound = expected_sound.audio(port)
        assert sung.shape[1] >= SECONDS * RATE - 1
        np.testing.assert_allclose(sung[:, : sound.shape[1]], sound, atol=5e-3)


def test_a_task_that_takes_no_frames_says_so(client: Client) -> None:
    pack = client.pack("toy-duotok")
    assert {task.name: list(task.takes) for task in pack.tasks} == {
        "accompany": [],
        "resynthesis": [],
        "tokens": [],
        "render": ["vocals", "accompaniment"],
    }

    def send() -> None:
        with client.open("toy-duotok", RATE, 2, offline=True, task="resynthesis") as opened:
            opened.frames(np.zeros((3, 2), np.int32))
            list(iter(lambda: opened.receive_event(20), None))

    with pytest.raises(BacklineError, match="takes no codec frames"):
        send()
