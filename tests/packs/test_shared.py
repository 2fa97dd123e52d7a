"""Packs that share a file: it lies in one of them, and the others name it by its hash."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from backline.models.errors import PackError
from backline.packs import toml
from backline.packs.files import read_toml
from backline.packs.importers.checkpoint import Component
from backline.packs.pack import read_manifest, read_pack, read_tensors, share, write_pack
from backline.packs.parts import read_part, save_part, stored
from backline.packs.places import MANIFEST
from backline.packs.quantized import quantize
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


def test_a_pack_gives_up_its_copy_of_what_another_has(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    lender = write_pack(first, {"name": "first", **CONFIG}, CODEC)
    pack = write_pack(second, {"name": "second", **CONFIG}, {**CODEC, "net.weight": torch.ones(3)})
    before = read_tensors(pack)
    shared = share(pack, lender)
    assert [(file.path, bool(file.shared)) for file in shared.files] == [
        ("codec.safetensors", True),
        ("net.safetensors", False),
    ]
    assert not (second / "codec.safetensors").exists()
    after = read_tensors(read_pack(second))
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    with pytest.raises(PackError, match="no file in common with first"):
        share(shared, lender)


def test_files_are_not_left_to_a_pack_that_nobody_would_find(tmp_path: Path) -> None:
    lender = write_pack(tmp_path / "elsewhere" / "first", {"name": "first", **CONFIG}, CODEC)
    pack = write_pack(tmp_path / "here" / "second", {"name": "second", **CONFIG}, CODEC)
    with pytest.raises(PackError, match="put the two beside each other"):
        share(pack, lender)
    assert (pack.folder / "codec.safetensors").exists()


def test_a_part_is_the_same_file_in_every_pack(tmp_path: Path) -> None:
    """However it has come: as it was trained, or out of a file that has it in int8 already."""
    vae = Component(
        {"kind": "oobleck"}, {"vae.weight": torch.randn(64, 96), "vae.bias": torch.randn(64)}, license="CC0"
    )
    save_part(replace(vae, tensors=quantize(vae.tensors)), tmp_path / "vae.safetensors")
    once = read_part(tmp_path / "vae.safetensors")
    save_part(replace(once, tensors=stored(once)), tmp_path / "again.safetensors")
    again = read_part(tmp_path / "again.safetensors")
    assert (once.license, once.origin) == ("CC0", "")
    packs = [
        write_pack(tmp_path / name, {"name": name, **CONFIG}, stored(part) | {f"{name}.weight": torch.ones(3)})
        for name, part in (("mge", once), ("duotok", again))
    ]
    hashes = [next(file.sha256 for file in pack.files if file.path == "vae.safetensors") for pack in packs]
    assert hashes[0] == hashes[1]
