"""Files that hold one part of a pack."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from backline.models.errors import PackError
from backline.packs.parts import Component, read_part, save_part


def test_a_part_is_read_as_it_was_saved(tmp_path: Path) -> None:
    saved = Component({"width": 3}, {"a.weight": torch.arange(6.0).reshape(2, 3)})
    save_part(saved, tmp_path / "part.safetensors")
    read = read_part(tmp_path / "part.safetensors")
    assert read.table == saved.table
    assert torch.equal(read.tensors["a.weight"], saved.tensors["a.weight"])


def test_the_same_part_is_the_same_file(tmp_path: Path) -> None:
    part = Component({"width": 3}, {"a": torch.zeros(2)}, license="CC0-1.0", origin="tones")
    files = [tmp_path / f"{number}.safetensors" for number in range(20)]
    for file in files:
        save_part(part, file)
    assert len({file.read_bytes() for file in files}) == 1
    assert read_part(files[0]).license == "CC0-1.0"


def test_a_part_of_an_older_version_is_read(tmp_path: Path) -> None:
    said = {"table": '{"width": 3}', "origin": "tones"}
    save_file({"a": torch.zeros(2)}, tmp_path / "part.safetensors", metadata=said)
    part = read_part(tmp_path / "part.safetensors")
    assert (part.table, part.license, part.origin) == ({"width": 3}, "", "tones")


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"table": "no json"}, {"part": "{}"}, {"part": "[]"}])
def test_tensors_without_a_table_are_no_part(metadata: dict[str, str] | None, tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors", metadata=metadata)
    with pytest.raises(PackError, match=r"other.safetensors is no part that `backline train` has written"):
        read_part(tmp_path / "other.safetensors")


def test_what_is_no_safetensors_file_is_no_part(tmp_path: Path) -> None:
    (tmp_path / "song.wav").write_bytes(b"RIFF" * 100)
    with pytest.raises(PackError, match="is no part"):
        read_part(tmp_path / "song.wav")


def test_a_part_is_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save_part(Component({}, {"a": torch.zeros(2)}), tmp_path / "part.safetensors")
    finally:
        os.umask(old)
    assert (tmp_path / "part.safetensors").stat().st_mode & 0o777 == 0o640
