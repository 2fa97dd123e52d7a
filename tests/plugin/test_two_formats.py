"""Both plugins in one process, playing at once: neither disturbs the other."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.plugin import clap_abi as abi
from tests.plugin.clap_events import parameter
from tests.plugin.clap_host import Bundle
from tests.plugin.test_clap_parameters import NAMES
from tests.plugin.vst3 import Audio, factor, noise

pedalboard = pytest.importorskip("pedalboard", reason="pedalboard is not installed: pip install -e '.[dev]'")

RATE, BLOCK, GAIN = 48_000, 512, -6.0


def test_a_clap_and_a_vst3_instance_play_at_once(bundle: Bundle, vst3_bundle: Path, served: str) -> None:
    voices = [noise(2 * RATE, seed) for seed in (1, 2)]
    settings = {"Pack": 1.0, "Dry/Wet": 1.0, "Gain": GAIN, "Latency budget": 0.25}
    with bundle.create() as clap:
        clap.flush([parameter(NAMES.index(name), value) for name, value in settings.items()])
        clap.set_render_mode(abi.RENDER_OFFLINE)
        vst3 = pedalboard.load_plugin(str(vst3_bundle))
        vst3.pack, vst3.dry_wet, vst3.gain_db, vst3.latency_budget_s = "passthrough", 100.0, GAIN, 0.25

        def through_clap() -> Audio:
            clap.activate(RATE, BLOCK)
            return clap.play(voices[0], BLOCK)

        def through_vst3() -> Audio:
            heard: Audio = vst3.process(voices[1], RATE, buffer_size=BLOCK)
            return heard

        with ThreadPoolExecutor() as pool:
            first, second = pool.submit(through_clap), pool.submit(through_vst3)
            latency = clap.latency
            np.testing.assert_array_equal(first.result()[:, latency:], factor(GAIN) * voices[0][:, :-latency])
            np.testing.assert_array_equal(second.result(), factor(GAIN) * voices[1])
