"""The asyncio client does what the threaded one does, in tasks."""

import asyncio

import numpy as np
import pytest

from backline_client import AsyncClient, BacklineError, ConnectionFailed, NotFound, Transport

RATE = 48_000
AUDIO = np.random.default_rng(1).uniform(-1, 1, (2, 9_000)).astype(np.float32)


def test_a_session_gives_back_what_was_sent(address: str) -> None:
    async def play() -> None:
        async with AsyncClient(address) as client:
            async with await client.open("passthrough", RATE, 2, offline=True) as session:
                session.transport(Transport(tempo=120.0))
                session.send(AUDIO)
                session.end_input()
                blocks = [block async for block in session]
            np.testing.assert_array_equal(np.concatenate([block.audio for block in blocks], axis=1), AUDIO)
            assert session.totals is not None
            assert session.totals.samples_in == 9_000

    asyncio.run(play())


def test_two_sessions_at_once_do_not_mix(address: str) -> None:
    async def one(client: AsyncClient, gain: float) -> None:
        async with await client.open("passthrough", RATE, 2, offline=True) as session:
            session.send(gain * AUDIO)
            assert (await session.close()).samples_in == 9_000
            blocks = [block async for block in session]
        np.testing.assert_array_equal(np.concatenate([block.audio for block in blocks], axis=1), gain * AUDIO)

    async def play() -> None:
        async with AsyncClient(address) as client:
            await asyncio.gather(one(client, 0.5), one(client, 0.25))

    asyncio.run(play())


def test_a_rendering_is_as_long_as_its_input_and_tells_its_progress(address: str) -> None:
    async def play() -> None:
        shares: list[float] = []
        async with AsyncClient(address) as client:
            outputs = await client.render("passthrough", AUDIO, RATE, progress=shares.append)
            await asyncio.sleep(0)
        np.testing.assert_array_equal(outputs["main"], AUDIO)
        assert shares[-1] == 1.0

    asyncio.run(play())


def test_small_calls(address: str) -> None:
    async def ask() -> None:
        async with AsyncClient(address) as client:
            assert "passthrough" in [pack.name for pack in await client.packs()]
            assert (await client.load_pack("passthrough")).name == (await client.pack("passthrough")).name
            assert (await client.stats()).version
            async with await client.open("passthrough", RATE, 1) as session:
                assert session.ready.session in [entry.id for entry in await client.sessions()]
                await client.close_session(session.ready.session)
                session.cancel()
            await client.unload_pack("passthrough", close_sessions=True)

    asyncio.run(ask())


def test_failures_keep_status_and_message(address: str) -> None:
    async def fail() -> None:
        async with AsyncClient("127.0.0.1:1") as nowhere:
            with pytest.raises(ConnectionFailed, match="`backline serve`"):
                await nowhere.packs()
        async with AsyncClient(address) as client:
            with pytest.raises(NotFound, match="no-such-pack"):
                await client.open("no-such-pack", RATE, 1)
            with pytest.raises(NotFound, match="no-such-pack"):
                await client.render("no-such-pack", AUDIO, RATE)
            session = await client.open("passthrough", RATE, 1)
            session.control("no-such-parameter", 1.0)
            with pytest.raises(BacklineError, match="no-such-parameter"):
                await session.receive()

    asyncio.run(fail())
