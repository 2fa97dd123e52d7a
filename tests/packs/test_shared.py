"""Packs that share a file: it lies in one of them, and the others name it by its hash."""

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from backline.models.errors import PackError
from backline.packs import toml
from backline.packs.files import read_toml
from backline.packs.pack import read_manifest, read_pack, read_tensors, write_pack
from backline.packs.places import MANIFEST
from backline.packs.registry import PackRegistry, PackState

CONFIG = {"version": "1", "family": "passthrough", "description": "an echo", "license": "Apache-2.0"}
CODEC = {"codec.weight": torch.arange(6.0)}


@pytest.fixture
def packs(tmp_path: Path) -> Path:
    """`first` has a codec, `second` has its own weights and the codec of the first."""
    write_pack(tmp_path / "first", {"name": "first", **CONFIG}, CODEC)
    write_pack(tmp_path / "second", {"name": "second", **CONFIG}, {"net.weight": torch.ones(3)})
    (codec,) = read_manifest(tmp_path / "first").files
    told = read_toml(tmp_path / "second" / MANIFEST)
    told["files"].append({"path": codec.path, "shared": codec.sha256.upper()})
    (tmp_path / "second" / MANIFEST).write_text(toml.dumps(told))
    return tmp_path


def test_a_shared_file_is_read_where_it_lies(packs: Path) -> None:
    tensors = read_tensors(read_pack(packs / "second"))
    assert set(tensors) == {"codec.weight", "net.weight"}
    assert torch.equal(tensors["codec.weight"], CODEC["codec.weight"])
    assert not (packs / "second" / "codec.safetensors").exists()


def test_a_shared_file_that_no_pack_has_is_named_and_found_once_it_is_installed(packs: Path, tmp_path: Path) -> None:
    shutil.move(packs / "first", tmp_path.parent / f"{tmp_path.name}-away")
    with pytest.raises(PackError, match=r"codec\.safetensors \(sha256 .*\) is another pack's.*install that one"):
        read_manifest(packs / "second")
    registry = PackRegistry([packs])
    assert registry.entry("second").state is PackState.DAMAGED
    shutil.move(tmp_path.parent / f"{tmp_path.name}-away", packs / "first")
    assert registry.entry("second").state is PackState.AVAILABLE


def test_a_shared_file_that_has_changed_is_refused(packs: Path) -> None:
    path = packs / "first" / "codec.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(PackError, match=r"codec\.safetensors has changed since the pack was made"):
        read_pack(packs / "second")


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/hostname"])
def test_a_pack_shares_what_lies_in_its_own_folder_only(packs: Path, place: str) -> None:
    """Another pack's manifest is the work of a stranger: it hands out nothing beyond its folder."""
    outside = packs / "outside.safetensors"
    shutil.move(packs / "first" / "codec.safetensors", outside)
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()
    (packs / "first" / MANIFEST).write_text(toml.dumps({"files": [{"path": place, "sha256": digest}]}))
    with pytest.raises(PackError, match="another pack's"):
        read_manifest(packs / "second")


@pytest.mark.parametrize("entry", [{}, {"sha256": "a" * 64, "shared": "a" * 64}, {"shared": "xyz"}])
def test_a_file_has_one_hash(packs: Path, entry: dict[str, str]) -> None:
    told = read_toml(packs / "first" / MANIFEST)
    told["files"] = [{"path": "codec.safetensors", **entry}]
    (packs / "first" / MANIFEST).write_text(toml.dumps(told))
    with pytest.raises(PackError, match=r"sha256|shared"):
        read_manifest(packs / "first")
