"""A stems pack: what does not fit is named before anything plays; what fits separates."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backline.models import families
from backline.models.errors import PackError
from backline.models.stems.load import load, tiny_random
from backline.models.windowed.offline import separate_file
from backline.models.windowed.settings import make_finish
from backline.models.windowed.stream import WindowedStream
from backline.models.windowed.windows import Windows
from backline.packs.pack import load_stream, read_pack, write_pack
from tests.support.playing import play, running

SESSION: dict[str, Any] = {"chunk_seconds": Fraction(24, 25), "visibility_seconds": 1.44, "sample_rate": 48_000}


def test_a_pack_says_without_weights_what_it_will_serve() -> None:
    config, tensors = tiny_random()
    spec = load(config, tensors, "cpu").spec
    assert spec == families.describe(config)
    assert [port.name for port in spec.ports] == ["vocals", "drums", "bass", "other"]
    assert spec.frame_rate == Fraction(25, 2)


def test_a_pack_from_disk_separates_as_its_separator_does_the_whole_file(tmp_path: Path) -> None:
    config, tensors = tiny_random()
    write_pack(tmp_path / "tiny-stems", config, tensors)
    stream = load_stream(read_pack(tmp_path / "tiny-stems"))
    assert isinstance(stream, WindowedStream)
    audio = (0.2 * np.random.default_rng(0).standard_normal((2, 100_000))).astype(np.float32)
    with running(stems=stream) as engine:
        heard = play(engine, "stems", audio, 4_096, **SESSION)
    found = np.stack([heard.audio(port) for port in range(4)])
    windows = Windows(192_000, 46_080, 23_040, 1_920, 3_840)
    expected = separate_file(stream.separator, audio, windows, make_finish(stream.settings, {}))
    assert np.abs(found - expected).max() < 1e-5
    assert np.abs(found.sum(axis=0) - audio).max() < 1e-5


@pytest.mark.parametrize(
    ("table", "changes", "problem"),
    [
        ("stream", {"guard_seconds": "1/2"}, "guard_seconds is 0.5: use a multiple of 0.08 s"),
        ("stream", {"guard_seconds": 0}, "guard_seconds is 0: use a multiple"),
        ("stream", {"guard_seconds": "2"}, "use less than half of the window of 4 s"),
        ("stream", {"chunk_seconds": 1}, "chunk_seconds is 1: use a multiple of 0.08 s, a codec frame, up to 3.04 s"),
        ("stream", {"fade_seconds": "1/10"}, "fade_seconds is 0.1: use more than 0, up to 0.08 s"),
        ("stream", {"consistency": 3}, "consistency is 3: use 0 to 2"),
        ("stream", {"mask_exponent": 0}, "mask_exponent is 0"),
        ("stream", {"transients": 2}, "transients is 2: use 0 to 1"),
        ("stream", {"hop": 1, "guard_seconds": "soon"}, r"unknown entries \['hop'\].*guard_seconds is 'soon'"),
        ("codec", {"kind": "encodec"}, "kind is 'encodec': use hcodec"),
        ("codec", {"depth": 3}, r"unknown entries \['depth'\]"),
        ("codec", {"codebooks": 4}, "tells 2 codebooks of 16, the codec has 4 of 16"),
        ("stems", {"hops_per_frame": 2}, "hears frames of 1920 samples at 48000 Hz, the codec's have 3840"),
        ("stems", {"order": "random"}, "order is 'random'"),
    ],
)
def test_what_the_tables_get_wrong_is_named(table: str, changes: dict[str, Any], problem: str) -> None:
    config, _ = tiny_random()
    config[table] = {**config.get(table, {}), **changes}
    with pytest.raises(PackError, match=problem):
        families.describe(config)


def test_tensors_that_do_not_fit_are_named_at_once() -> None:
    config, tensors = tiny_random()
    del tensors["stems.start"]
    codec = next(name for name in tensors if name.startswith("codec."))
    tensors[codec] = tensors[codec][..., None]
    with pytest.raises(PackError, match=rf"(?s)stems.start \[16\] is missing.*{codec}"):
        load(config, tensors, "cpu")
