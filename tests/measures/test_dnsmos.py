"""DNSMOS says of a voice what the package itself says, and hears noise."""

from pathlib import Path

import numpy as np
import pytest

from backline.measures import dnsmos as module
from backline.measures.dnsmos import check_dnsmos, dnsmos


def test_without_its_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install --no-deps speechmos.* leave --dnsmos out"):
        check_dnsmos()


def test_a_voice_in_noise_is_heard_to_be_worse(recordings: Path) -> None:
    check_or_skip()
    from backline.evaluation.voices import recorded

    voice = recorded(recordings, "speech")
    assert voice is not None
    clean = dnsmos(voice, 48_000)
    noisy = dnsmos(voice + np.float32(0.05) * np.random.default_rng(0).standard_normal(len(voice), np.float32), 48_000)
    assert clean.keys() == {"SIG", "BAK", "OVRL"}
    assert 2.5 < clean["OVRL"] < 5
    assert noisy["BAK"] < clean["BAK"] - 1
    assert noisy["OVRL"] < clean["OVRL"] - 0.5
    short = dnsmos(voice[: 3 * 48_000], 48_000)  # is repeated
    again = dnsmos(np.tile(voice[: 3 * 48_000], 4)[: int(9.01 * 48_000) + 9], 48_000)
    assert short["OVRL"] == pytest.approx(again["OVRL"], abs=0.2)


def check_or_skip() -> None:
    try:
        check_dnsmos()
    except ValueError as error:
        pytest.skip(str(error))
