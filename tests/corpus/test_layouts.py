"""Songs are found as data sets and people lay them out, and every stem is taken for what it is."""

import json
import os
import struct
from pathlib import Path

import pytest

from backline.corpus.layouts import FoundSong, find_songs


def lay(folder: Path, *names: str, **texts: str) -> Path:
    """Files in a folder: sounds by their names, and texts by theirs, with _ for the dot."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"sound")
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def found(folder: Path) -> dict[str, list[str]]:
    """Labels of the stems by title."""
    return {song.title: sorted(stem.label for stem in song.stems) for song in find_songs(folder)}


def only(folder: Path) -> FoundSong:
    (song,) = find_songs(folder)
    return song


FOUR = ["bass", "drums", "other", "vocals"]


def test_a_folder_of_stems_is_a_song(tmp_path: Path) -> None:
    lay(tmp_path / "My Song", "mixture.wav", "vocals.wav", "drums.wav", "bass.wav", "other.wav")
    assert found(tmp_path) == {"My Song": FOUR}


def test_folders_say_which_split_a_song_belongs_to(tmp_path: Path) -> None:
    for split in ("train", "test", "Validation", "any"):
        lay(tmp_path / "musdb" / split / f"song of {split}", "vocals.wav", "drums.wav")
    assert {song.title: song.split for song in find_songs(tmp_path / "musdb")} == {
        "song of train": "training",
        "song of test": "test",
        "song of Validation": "validation",
        "song of any": None,
    }
    assert [song.split for song in find_songs(tmp_path / "musdb" / "test")] == ["test"]


def test_stems_of_several_songs_lie_in_one_folder(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "1_A (Vocals).wav",
        "1_A (Instrumental).wav",
        "B - drums.wav",
        "B - bass.wav",
        "All about the Bass.mp3",
    )
    assert found(tmp_path) == {"1_A": ["instrumental", "vocals"], "B": ["bass", "drums"], "All about the Bass": ["mix"]}


def test_other_sounds_are_mixes_and_what_is_none_is_passed_over(tmp_path: Path) -> None:
    lay(tmp_path, "a.mp3", "sub/b.flac", ".hidden.wav", "._a.mp3", ".git/c.wav", "notes.mid", "cover.png", "Bass.ogg")
    assert found(tmp_path) == {"a": ["mix"], "b": ["mix"], "Bass": ["mix"]}
    assert found(tmp_path / "sub" / "b.flac") == {"b": ["mix"]}


def test_what_is_a_sum_of_others_is_not_counted_twice(tmp_path: Path) -> None:
    lay(tmp_path / "composed", "mix.flac", "vocal.flac", "accompaniment.flac", "drums.flac", "comp.flac")
    lay(tmp_path / "pair", "mix.wav", "vocals.wav", "no_vocals.wav")
    assert found(tmp_path) == {"composed": ["drums", "other", "vocals"], "pair": ["instrumental", "vocals"]}


def test_a_mix_with_one_stem_is_told_what_is_missing(tmp_path: Path) -> None:
    lay(tmp_path / "s", "mix.wav", "vocals.wav")
    assert "rest.wav" in only(tmp_path).problem


def test_moisesdb_sums_the_tracks_of_a_stem_and_follows_no_path(tmp_path: Path) -> None:
    said = {"song": "Title", "artist": "Artist", "stems": [{"stemName": "../..", "tracks": [{"id": "/etc/passwd"}]}]}
    folder = tmp_path / "0a1b"
    lay(folder, "bass/1.wav", "vocals/2.wav", "vocals/3.wav", "other_keys/4.wav", data_json=json.dumps(said))
    song = only(tmp_path)
    assert song.title == "Artist - Title"
    assert {stem.label: [part.file.name for part in stem.parts] for stem in song.stems} == {
        "bass": ["1.wav"],
        "vocals": ["2.wav", "3.wav"],
        "keys": ["4.wav"],
    }


def test_slakh_says_what_its_stems_are(tmp_path: Path) -> None:
    said = """UUID: x
stems:
  S00:
    inst_class: Strings (continued)
    is_drum: false
    program_num: 50
  S01:
    inst_class: Drums
    is_drum: true
  S02:
    inst_class: Bass
    is_drum: false
  S03:
    inst_class: Guitar
    is_drum: false
"""
    lay(tmp_path / "train/Track00001", "mix.flac", "stems/S00.flac", "stems/S01.flac", "stems/S02.flac", "MIDI/S00.mid")
    lay(tmp_path / "train/Track00001", metadata_yaml=said)
    song = only(tmp_path)
    assert [stem.label for stem in song.stems] == ["strings", "drums", "bass"]  # S03 was not rendered
    assert (song.title, song.split) == ("Track00001", "training")


def test_frets_on_fire_has_a_guitar_and_the_rest(tmp_path: Path) -> None:
    lay(tmp_path / "Feelings", "guitar.ogg", "song.ogg", "notes.mid", "song.ini")
    assert found(tmp_path) == {"Feelings": ["guitar", "rest"]}


def box(name: bytes, inside: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(inside), name) + inside


@pytest.mark.parametrize(
    ("tail", "labels"),
    [
        (b"", ["drums", "bass", "other", "vocals"]),
        (
            box(b"moov", box(b"udta", box(b"stem", b'{"version":1,"stems":[{"name":"Voice"},{"name":"Kick"}]}'))),
            ["vocals", "other"],
        ),
        (box(b"moov", box(b"udta", box(b"stem", b"{"))), ["drums", "bass", "other", "vocals"]),
        (struct.pack(">I4s", 1, b"moov"), ["drums", "bass", "other", "vocals"]),
        (struct.pack(">I4sQ", 1, b"moov", 1 << 63), ["drums", "bass", "other", "vocals"]),
        (struct.pack(">I4s", 0, b"moov") + bytes(9), ["drums", "bass", "other", "vocals"]),
    ],
)
def test_stem_files_say_what_their_streams_are(tmp_path: Path, tail: bytes, labels: list[str]) -> None:
    (tmp_path / "A - B.stem.mp4").write_bytes(box(b"ftyp", b"isom") + tail)
    song = only(tmp_path)
    assert song.title == "A - B"
    assert [(stem.label, stem.parts[0].stream) for stem in song.stems] == [(x, n) for n, x in enumerate(labels, 1)]


def test_names_of_any_bytes_become_text(tmp_path: Path) -> None:
    lay(tmp_path / os.fsdecode(b"a\xff\n"), "b.wav")
    assert only(tmp_path).source.name.endswith("/a\\xff\\x0a/b.wav")


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    lay(tmp_path / "a", "b.wav")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert found(tmp_path) == {"b": ["mix"]}
