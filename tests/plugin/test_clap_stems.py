"""Separators in the CLAP plugin: a stem output each in the pack's order, and a main output that is the mixture."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backline.models import families
from backline.models.spleeter.load import tiny_random as tiny_spleeter
from backline.models.stems.load import tiny_random as tiny_stems
from backline.models.windowed.offline import separate_file
from backline.models.windowed.settings import make_finish
from backline.models.windowed.stream import WindowedStream
from backline.models.windowed.windows import Windows
from backline.packs.pack import write_pack
from backline.service.server import start_server
from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import parameter
from tests.plugin.clap_host import Bundle
from tests.plugin.test_clap_parameters import BUDGET, DRY_WET
from tests.plugin.test_clap_processing import delayed, noise
from tests.plugin.test_clap_server import PACK, PASSTHROUGH, WET, await_playing

BLOCK, OUTPUTS = 4_096, 5
FIVE = ("vocals", "drums", "bass", "other", "piano")
# Each with the rate of the session, its own, the latency budget, and its windows.
PACKS: dict[str, tuple[Callable[[], tuple[dict[str, Any], Any]], int, float, Windows]] = {
    "tiny-stems": (tiny_stems, 48_000, 1.6, Windows(192_000, 46_080, 23_040, 1_920, 3_840)),
    "tiny-spleeter": (lambda: tiny_spleeter(FIVE), 44_100, 2.1, Windows(131_072, 65_536, 16_384, 1_024, 1_024)),
}


@pytest.fixture(scope="module")
def stems_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that has separators of random weights resident."""
    packs: Path = tmp_path_factory.mktemp("packs")
    for name, (make, *_) in PACKS.items():
        write_pack(packs / name, *make())
    with start_server(packs=[packs], load=list(PACKS)) as server:
        yield server.address


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKS)
def test_a_bounce_has_each_stem_on_its_output_and_the_mixture_on_the_main_one(
    bundle: Bundle, stems_address: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("BACKLINE_ADDRESS", stems_address)
    make, rate, budget, windows = PACKS[name]
    stream = families.load(*make(), "cpu")
    assert isinstance(stream, WindowedStream)
    with bundle.create() as plugin:
        plugin.flush([parameter(PACK, PASSTHROUGH), parameter(DRY_WET, WET), parameter(BUDGET, budget)])
        plugin.activate(rate, BLOCK)
        await_playing(plugin)  # it knows the server's packs now, and shows them when it is activated again
        plugin.deactivate()
        plugin.activate(rate, BLOCK)
        names = [plugin.text(PACK, float(index)) for index in range(8)]
        plugin.deactivate()
        plugin.flush([parameter(PACK, float(names.index(name)))])
        plugin.set_render_mode(abi.RENDER_OFFLINE)
        plugin.activate(rate, BLOCK)
        assert plugin.latency == budget * rate
        audio = noise(plugin.latency + rate)
        heard = [plugin.process(audio[:, start : start + BLOCK]) for start in range(0, audio.shape[1], BLOCK)]
        latency = plugin.latency
    main, *stems = (np.concatenate(blocks, axis=1) for blocks in zip(*heard, strict=True))

    expected = separate_file(stream.separator, audio, windows, make_finish(stream.settings, {}))
    assert len(stems) == OUTPUTS
    for stem, wanted in zip(stems, expected, strict=False):
        assert np.abs(wanted).max() > 0.005
        np.testing.assert_allclose(stem, delayed(wanted, latency), atol=1e-5)
    for unused in stems[len(expected) :]:
        assert not unused.any()
    np.testing.assert_allclose(main, delayed(audio, latency), atol=1e-4)
