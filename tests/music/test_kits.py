"""Kits of samples: read from what Hydrogen writes, struck as strongly as is written, never a test kit in training."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from backline.music.kits import INSTEAD, KITS, ROLES, Kit, KitsMissing, kits, play, read_drums
from backline.music.production import FONTS, Production
from backline.music.seeds import HELD_OUT_SEED, TEST_SEED, Purpose, purpose, training_seed
from backline.music.styles import DRUMS

RATE = 48_000
LAYER = "<layer><filename>{}</filename><min>{}</min><max>{}</max><gain>1</gain><pitch>0</pitch></layer>"


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A kick of two strengths, a snare, an open and a closed hat; sounds tell themselves by their frequency."""

    def sample(name: str, hertz: float, seconds: float) -> str:
        time = np.arange(round(44_100 * seconds)) / 44_100
        soundfile.write(tmp_path / name, 0.5 * np.sin(2 * np.pi * hertz * time), 44_100)
        return name

    instruments = {
        "Kick": [(sample("soft.wav", 60, 0.2), 0, 0.5), (sample("hard.wav", 90, 0.2), 0.5, 1)],
        "Snare Rock": [(sample("snare.wav", 200, 0.2), 0, 1)],
        "Closed HH": [(sample("closed.wav", 6_000, 0.05), 0, 1)],
        "Open HH": [(sample("open.wav", 8_000, 2.0), 0, 1)],
    }
    parts = "".join(
        f"<instrument><name>{name}</name>{''.join(LAYER.format(*layer) for layer in layers)}</instrument>"
        for name, layers in instruments.items()
    )
    head = '<drumkit_info xmlns="http://www.hydrogen-music.org/drumkit"><license>CC0</license><instrumentList>'
    (tmp_path / "drumkit.xml").write_text(f"{head}{parts}</instrumentList></drumkit_info>")
    return tmp_path


def test_every_drum_of_every_style_sounds_by_itself_or_by_another(kit: Path) -> None:
    found = read_drums(kit)
    assert found.license == "CC0"
    assert set(DRUMS.values()) <= set(ROLES) == set(found.layers)
    assert all(found.layers.values())
    assert found.layers[39] == found.layers[38]  # nobody claps: the snare does
    assert found.layers[70] == found.layers[42]
    assert set(INSTEAD) == set(ROLES) - {36}


def test_a_stroke_sounds_where_it_is_written_by_the_sample_of_its_strength(kit: Path) -> None:
    def hertz(velocity: int) -> float:
        sound = play(kit, [(4_800, 36, velocity)], RATE, RATE)
        assert not sound[:4_800].any()
        struck = sound[4_800 : 4_800 + RATE // 10]
        assert np.abs(struck).max() > 0.05
        return float(np.argmax(np.abs(np.fft.rfft(struck, 10 * RATE)))) / 10

    assert hertz(40) == pytest.approx(60, abs=4)
    assert hertz(120) == pytest.approx(90, abs=4)


def test_the_closed_hat_chokes_the_open_one(kit: Path) -> None:
    alone, choked = play(kit, [(0, 46, 100)], RATE, RATE), play(kit, [(0, 46, 100), (9_600, 42, 1)], RATE, RATE)
    assert np.abs(alone[20_000:]).max() > 0.05
    assert np.abs(choked[20_000:]).max() < 1e-3
    np.testing.assert_array_equal(alone[:9_600], choked[:9_600])


def test_a_kit_without_a_licence_is_refused(kit: Path, tmp_path: Path) -> None:
    text = (kit / "drumkit.xml").read_text().replace("<license>CC0</license>", "")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "drumkit.xml").write_text(text)
    with pytest.raises(KitsMissing, match="names no licence"):
        read_drums(tmp_path / "other")


def test_what_is_missing_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKLINE_SOUNDS", str(tmp_path))
    with pytest.raises(KitsMissing, match=r"GMRockKit is missing: apt-get install hydrogen-data.*BACKLINE_SOUNDS"):
        KITS[0].located()
    with pytest.raises(KitsMissing, match="apt-get install"):
        [Production.draw(seed, "training") for seed in range(9)]


@pytest.mark.parametrize(
    ("wanted", "seeds"),
    [
        ("training", [training_seed(run, number) for run in (0, 65_535) for number in range(100)]),
        ("validation", range(HELD_OUT_SEED, HELD_OUT_SEED + 50)),
        ("test", range(TEST_SEED, TEST_SEED + 100)),
    ],
    ids=["training", "validation", "test"],
)
def test_kits_are_those_of_the_songs_purpose(
    wanted: Purpose, seeds: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKLINE_SOUNDS", str(tmp_path))
    for path in (*(each.path for each in KITS), FONTS[0][0]):
        (tmp_path / path).mkdir(parents=True)
    drawn = {Production.draw(seed, purpose(seed)).gear.kit for seed in seeds}
    assert drawn - {None} == set(kits(wanted)) == {each for each in KITS if each.purpose == wanted}


INSTALLED = [each for each in KITS if not each.is_font and (Path("/usr/share") / each.path).exists()]


@pytest.mark.parametrize("each", INSTALLED, ids=lambda each: each.name)
def test_every_drum_of_debians_kits_sounds(each: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BACKLINE_SOUNDS", raising=False)
    assert read_drums(each.located()).license
    for key in ROLES:
        assert 0.002 < np.abs(play(each.located(), [(0, key, 110)], RATE, RATE)).max() < 2
