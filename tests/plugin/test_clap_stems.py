"""A stems pack in the CLAP plugin: four stem outputs in the pack's order, and a main output that is the mixture."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from backline.models.stems.load import load, tiny_random
from backline.models.windowed.offline import separate_file
from backline.models.windowed.settings import make_finish
from backline.models.windowed.windows import Windows
from backline.packs.pack import write_pack
from backline.service.server import start_server
from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import parameter
from tests.plugin.clap_host import Bundle
from tests.plugin.test_clap_parameters import BUDGET, DRY_WET
from tests.plugin.test_clap_processing import delayed, noise
from tests.plugin.test_clap_server import PACK, PASSTHROUGH, WET, await_playing

RATE, BLOCK = 48_000, 4_096
TRACKS = ["vocals", "drums", "bass", "other"]


@pytest.fixture(scope="module")
def stems_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has a stems pack of random weights resident."""
    packs: Path = tmp_path_factory.mktemp("packs")
    config, tensors = tiny_random()
    write_pack(packs / config["name"], config, tensors)
    with start_server(packs=[packs], load=[config["name"]]) as server:
        yield server.address


@pytest.mark.slow
def test_a_bounce_has_each_stem_on_its_output_and_the_mixture_on_the_main_one(
    bundle: Bundle, stems_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLINE_ADDRESS", stems_address)
    config, tensors = tiny_random()
    stream = load(config, tensors, "cpu")
    assert [port.name for port in stream.spec.ports] == TRACKS
    with bundle.create() as plugin:
        plugin.flush([parameter(PACK, PASSTHROUGH), parameter(DRY_WET, WET), parameter(BUDGET, 1.6)])
        plugin.activate(RATE, BLOCK)
        await_playing(plugin)  # it knows the server's packs now, and shows them when it is activated again
        plugin.deactivate()
        plugin.activate(RATE, BLOCK)
        names = [plugin.text(PACK, float(index)) for index in range(8)]
        plugin.deactivate()
        plugin.flush([parameter(PACK, float(names.index(config["name"])))])
        plugin.set_render_mode(abi.RENDER_OFFLINE)
        plugin.activate(RATE, BLOCK)
        assert plugin.latency == 1.6 * RATE
        audio = noise(plugin.latency + RATE)
        heard = [plugin.process(audio[:, start : start + BLOCK]) for start in range(0, audio.shape[1], BLOCK)]
        latency = plugin.latency
    main, *stems = (np.concatenate(blocks, axis=1) for blocks in zip(*heard, strict=True))

    windows = Windows(192_000, 46_080, 23_040, 1_920, 3_840)
    expected = separate_file(stream.separator, audio, windows, make_finish(stream.settings, {}))
    assert len(stems) == len(TRACKS)
    for stem, wanted in zip(stems, expected, strict=True):
        assert np.abs(wanted).max() > 0.01
        np.testing.assert_allclose(stem, delayed(wanted, latency), atol=1e-5)
    np.testing.assert_allclose(main, delayed(audio, latency), atol=1e-5)
