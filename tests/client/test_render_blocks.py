"""Rendering block by block: the same samples as at once, no input before there is room, failures where they belong."""

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from backline_client import AsyncClient, Audio, BacklineError, Client, Control, NotFound, Transport

RATE = 48_000


def noise(channels: int, samples: int) -> Audio:
    return np.random.default_rng(samples).uniform(-1, 1, (channels, samples)).astype(np.float32)


def cut(audio: Audio, *sizes: int) -> Iterator[Audio]:
    at = number = 0
    while at < audio.shape[1]:
        yield audio[:, at : at + sizes[number % len(sizes)]]
        at += sizes[number % len(sizes)]
        number += 1


@pytest.mark.parametrize("sizes", [(1_000,), (7, 9_000, 1), (100_000,)])
def test_blocks_in_and_blocks_out_are_what_a_rendering_at_once_is(client: Client, sizes: tuple[int, ...]) -> None:
    audio = noise(2, 40_001)
    controls = [Control("gain", 0.5, position=20_000)]
    expected = client.render("passthrough", audio, RATE, seed=3, controls=controls, transport=[Transport(120.0)])
    with client.render_blocks(
        "passthrough", cut(audio, *sizes), RATE, 2, seed=3, controls=controls, transport=[Transport(120.0)]
    ) as rendering:
        assert [port.name for port in rendering.ready.ports] == ["main"]
        assert rendering.ready.seed == 3
        end, parts = 0, []
        for block in rendering:
            assert (block.port, block.position) == ("main", end)
            end = block.end
            parts.append(block.audio)
        assert rendering.totals.samples_out == 40_001
        assert not rendering.warnings
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected["main"])


def test_input_is_asked_for_no_faster_than_output_is_taken(client: Client) -> None:
    asked = 0
    seconds = 120

    def blocks() -> Iterator[Audio]:
        nonlocal asked
        for _ in range(seconds):
            asked += 1
            yield np.zeros((2, RATE), np.float32)

    with client.render_blocks("passthrough", blocks(), RATE, 2, chunk_seconds=1.0) as rendering:
        taken = 0
        for block in rendering:
            taken = block.end
            assert asked - taken / RATE < 40  # gRPC's windows, the session's ring and its unread blocks
    assert (asked, taken) == (seconds, seconds * RATE)


def test_what_the_input_raises_reaches_whoever_iterates(client: Client) -> None:
    def blocks() -> Iterator[Audio]:
        yield noise(1, 1_000)
        raise OSError("the tape has torn")

    with pytest.raises(OSError, match="the tape has torn"):  # from the one or the other, as it comes
        list(client.render_blocks("passthrough", blocks(), RATE, 1))


def test_blocks_of_other_channels_are_refused(client: Client) -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 10\)"):
        list(client.render_blocks("passthrough", [noise(3, 10)], RATE, 2))


def test_a_refusal_comes_before_any_input_is_needed(client: Client) -> None:
    with pytest.raises(NotFound, match="no-such-pack"):
        client.render_blocks("no-such-pack", iter(()), RATE, 2)


def test_a_rendering_that_is_left_ends_on_the_server(client: Client) -> None:
    more = threading.Event()

    def blocks() -> Iterator[Audio]:
        yield noise(1, 4_096)
        more.wait(10)

    with client.render_blocks("passthrough", blocks(), RATE, 1, client_name="leaver") as rendering:
        assert next(iter(rendering)).position == 0
        assert "leaver" in [session.client_name for session in client.sessions()]
    with pytest.raises(BacklineError):
        list(rendering)
    more.set()


def test_asyncio_has_the_same(address: str) -> None:
    audio = noise(2, 30_000)

    async def rendered() -> list[Audio]:
        async with AsyncClient(address) as client:
            blocks = cut(audio, 4_000)
            async with await client.render_blocks("passthrough", blocks, RATE, 2, seed=4) as rendering:
                assert rendering.ready.seed == 4
                parts = [block.audio async for block in rendering]
                assert rendering.totals.samples_out == 30_000
                assert not rendering.warnings
                return parts

    np.testing.assert_array_equal(np.concatenate(asyncio.run(rendered()), axis=1), audio)


@pytest.mark.parametrize(
    ("channels", "layout", "place"), [(2, None, None), (6, None, 2), (8, "7.1", 2), (6, "discrete", 4)]
)
def test_the_pack_that_ships_hears_a_voice_wherever_it_lies(
    client: Client, channels: int, layout: str | None, place: int | None
) -> None:
    """In the middle of stereo and in the centre it is the voice, bit for bit; of six microphones it takes a moment."""
    time = np.arange(2 * RATE) / RATE
    voice = (0.2 * np.sin(2 * np.pi * 220 * time) * (time > 0.1)).astype(np.float32)[np.newaxis]
    audio = np.zeros((channels, voice.shape[1]), np.float32)
    audio[slice(None) if place is None else place] = voice
    named = {} if layout is None else {"channel_layout": layout}
    (expected,) = client.render("default", voice, RATE, seed=1).values()
    (heard,) = client.render("default", audio, RATE, seed=1, **named).values()
    if layout == "discrete":
        assert np.isfinite(heard).all()
        assert np.any(heard)
    else:
        np.testing.assert_array_equal(heard, expected)


def test_a_layout_that_there_is_not_is_named(client: Client) -> None:
    with pytest.raises(ValueError, match=r"'4\.0': use discrete, mono, stereo, 5\.1, 7\.1"):
        client.open("passthrough", RATE, 4, channel_layout="4.0")
    with pytest.raises(BacklineError, match=r"layout 5\.1 has 6 channels and the session has 2"):
        client.open("passthrough", RATE, 2, channel_layout="5.1")
