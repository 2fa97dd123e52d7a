"""About a hundred damaged packs in one folder with whole ones: each says what is wrong with it, and no other suffers.

All lie side by side, as in a user's folder, so that every test of one is a test of the listing of all.
"""

from __future__ import annotations

import json
import os
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from backline.models.errors import PackError
from backline.models.hafm.load import tiny_random as tiny_hafm
from backline.models.mge.load import tiny_random as tiny_mge
from backline.models.spleeter.load import tiny_random as tiny_spleeter
from backline.models.stems.load import tiny_random as tiny_stems
from backline.packs import toml
from backline.packs.pack import read_manifest, write_pack
from backline.packs.registry import PackEntry, PackRegistry, PackState
from tests.support.playing import play, running

SLOWEST_SECONDS = 5.0  # for one pack, on a busy machine; what is damaged is told in milliseconds
HEAD = 'format = 1\nname = "{name}"\nversion = "1"\nfamily = "{family}"\ndescription = "d"\nlicense = "MIT"\n'
BIG = 10**9
FAMILIES = {
    "hafm": tiny_hafm,
    "aligned": lambda: tiny_hafm(layout="aligned"),
    "stems": tiny_stems,
    "spleeter": tiny_spleeter,
    "mge": tiny_mge,
}

# What pack.toml holds after the head of a passthrough: text, and what the problem must speak of.
MANIFESTS: dict[str, tuple[str | bytes, str]] = {
    "no-table": ("passthrough = 3", r"\[passthrough\] is 3: make it a table"),
    "5000-digits": ("x = " + "9" * 5000, "not valid TOML"),
    "long-hex": ("[passthrough]\nlatency_samples = 0x" + "f" * 5000, r"latency_samples is a number of \d+ digits"),
    "deep-lists": ("x = " + "[" * 100_000, "nested too deeply"),
    "deep-tables": ("x = " + "{a=" * 3000 + "1" + "}" * 3000, "nested too deeply"),
    "overflow": ("[passthrough]\nlatency_seconds = 1e9999", "latency_seconds is inf"),
    "long-exponent": ('[passthrough]\nlatency_seconds = "1e999999999"', "latency_seconds is '1e999999999'"),
    "nan": ("[passthrough]\nlatency_seconds = nan", "latency_seconds is nan"),
    "minus-infinity": ("[passthrough]\nmaximum_chunk = -inf", "maximum_chunk is -inf"),
    "no-fraction": ('[passthrough]\nchunk_quantum = "1/0"', "chunk_quantum is '1/0'"),
    "truth": ("[passthrough]\nlatency_samples = true", "latency_samples is True: use a whole number"),
    "long-key": (".".join(["a"] * 20_000) + " = 1", "key of more than 64 parts"),
    "long-quoted-key": (".".join(['"a"'] * 20_000) + " = 1", "key of more than 64 parts"),
    "long-header": ("[" + " . ".join(["a"] * 20_000) + "]", "key of more than 64 parts"),
    "huge": ("x = '" + "y" * (2 << 20) + "'", "larger than 1048576 bytes"),
    "not-text": (b"\xff\xfe\x00", "not valid TOML"),
    "twice": ("[passthrough]\n[passthrough]", "not valid TOML"),
    "no-end": ("x = '", "not valid TOML"),
    "files-number": ("files = 3", "files is 3"),
    "files-numbers": ("files = [1, 2]", r"\[files\[0\]\] is 1: make it a table"),
    "files-many": ("files = [" + "1," * 5000 + "]", "files is"),
    "files-up": ('[[files]]\npath = "../a.safetensors"\nsha256 = "' + "0" * 64 + '"', "inside the pack's folder"),
    "files-absolute": ('[[files]]\npath = "/a.safetensors"\nsha256 = "' + "0" * 64 + '"', "inside the pack's folder"),
    "files-drive": ("[[files]]\npath = 'C:a.safetensors'\nsha256 = '" + "0" * 64 + "'", "inside the pack's folder"),
    "files-nul": ('[[files]]\npath = "a\\u0000.safetensors"\nsha256 = "' + "0" * 64 + '"', "inside the pack's folder"),
    "files-folder": ('[[files]]\npath = ".safetensors"\nsha256 = "' + "0" * 64 + '"', "inside the pack's folder"),
    "files-hash": ('[[files]]\npath = "a.safetensors"\nsha256 = 5', "sha256 is 5"),
    "port-up": ('[passthrough]\nports = ["../../evil"]', r"'\.\./\.\./evil' is no name"),
    "port-absolute": ('[passthrough]\nports = ["/abs"]', "'/abs' is no name"),
    "port-nul": ('[passthrough]\nports = ["a\\u0000b"]', r"'a\\x00b' is no name"),
    "port-escape": ('[passthrough]\nports = ["\\u001b[2J"]', "is no name"),
    "port-reserved": ('[passthrough]\nports = ["NUL.x"]', "'NUL.x' is no name"),
    "port-long": ('[passthrough]\nports = ["' + "a" * 300 + '"]', "is no name"),
    "port-wide": ('[passthrough]\nports = ["' + "\N{MUSICAL SYMBOL G CLEF}" * 60 + '"]', "is no name"),
    "port-dots": ('[passthrough]\nports = [".."]', "'..' is no name"),
    "port-ends": ('[passthrough]\nports = ["a."]', "'a.' is no name"),
    "ports-alike": ('[passthrough]\nports = ["Lead", "lead"]', "are one name on some systems"),
    "ports-many": ("[passthrough]\nports = [" + "'a'," * 5000 + "]", "list 1 to 64 of them"),
    "ports-mixed": ('[passthrough]\nports = ["a", 3, {}]', r"ports\[1\] is 3"),
    "chunk-long": ("[passthrough]\nmaximum_chunk = 1000000000", "maximum_chunk is 1000000000: use 0 to 60"),
    "chunk-none": ("[passthrough]\nchunk_quantum = 0", "chunk_quantum is 0: use more than 0"),
}

# What a head may get wrong, whole.
HEADS: dict[str, tuple[str, str]] = {
    "empty": ("", "lacks format, name, version, family, description, license"),
    "format": (HEAD.replace("format = 1", "format = 2"), "format is 2"),
    "format-huge": (HEAD.replace("format = 1", f"format = {10**4000}"), "format is a number of 4001 digits"),
    "name-number": (HEAD.replace('"{name}"', "3"), "name is 3"),
    "name-path": (HEAD.replace("{name}", "../../evil"), r"name is '\.\./\.\./evil'"),
    "name-ends": (HEAD.replace("{name}", "a\\n"), r"name is 'a\\n'"),
    "family": (HEAD.replace("{family}", "polka"), "family is 'polka': use one of codec, demucs, duotok, hafm"),
    "family-list": (HEAD.replace('"{family}"', "[]"), r"family is \[\]"),
    "description": (HEAD.replace('"d"', '"\\u001b[31m"'), "description is"),
    "license": (HEAD.replace('"MIT"', '"' + "x" * 20_000 + '"'), "license is 'xxx"),
}

# Family, where in its tables, what stands there, and what the problem must speak of.
VALUES: list[tuple[str, str, Any, str]] = [
    ("hafm", "network", 3, r"\[network\] is 3: make it a table"),
    ("hafm", "network.layout", [], r"layout is \[\]"),
    ("hafm", "network.semantic", "x", r"\[network.semantic\] is 'x': make it a table"),
    ("hafm", "network.semantic.layers", BIG, r"\[network.semantic\] layers is 1000000000: use 1 to 128"),
    ("hafm", "network.semantic.layers", -1, "layers is -1: use 1 to 128"),
    ("hafm", "network.coarse.heads", 0, r"\[network.coarse\] heads is 0: use 1 to 256"),
    ("hafm", "network.coarse.heads", 2.5, "heads is 2.5: use a whole number, 1 to 256"),
    ("hafm", "network.fine.width", "32", r"\[network.fine\] width is '32': use a whole number"),
    ("hafm", "network.fine.window", BIG, "window is 1000000000: use 1 to 65536"),
    ("hafm", "network.fine.vocabulary", BIG, "vocabulary is 1000000000: use 1 to 65536"),
    ("hafm", "network.fine.buckets", 1, "buckets is 1: use 2 to 1024"),
    ("hafm", "network.fine.max_distance", 8, "max_distance is 8: use more than 16, half of the buckets"),
    ("hafm", "network.fine.feed_forward_multiple", float("inf"), "feed_forward_multiple is inf"),
    ("hafm", "network.fine.norm_epsilon", float("nan"), "norm_epsilon is nan"),
    ("hafm", "network.fine.null", "none", "null is 'none': use one of zero_token"),
    ("hafm", "network.fine.sources", [], r"sources is \[\]: list 1 to 16"),
    ("hafm", "network.fine.sources", [{"name": "../x"}], r"sources\[0\]\] lacks vocabulary, rate, reach"),
    ("hafm", "network.coarse.rate", 50, r"\[network.coarse\] predicts 50 frames a second, the codec has 75"),
    ("hafm", "codec.hop", 0, r"\[codec\] hop is 0: use 1 to 65536"),
    ("hafm", "codec.window", 1281, "use a multiple of twice the hop"),
    ("hafm", "codec.codebooks", BIG, r"\[codec\] codebooks is 1000000000: use 1 to 128"),
    ("hafm", "codec.encoder_blocks", 10**12, "encoder_blocks is 1000000000000: use 0 to 256"),
    ("hafm", "codec.sample_rate", 48_000, "use a whole number of them a second at 24000 Hz"),
    ("hafm", "codec", [1], r"\[codec\] is \[1\]: make it a table"),
    ("hafm", "semantics.vocal_noise", -3, "vocal_noise is -3: use 0 to 1"),
    ("hafm", "semantics.kind", "ears", "kind is 'ears': use one of harmony, hubert"),
    ("hafm", "sampling", {"top_k": 0, "temperature": 9}, r"temperature is 9: use 0 to 2; .*top_k is 0: use 1 to"),
    ("hafm", "stream.default_chunk_seconds", "1/3", "default_chunk_seconds is 0.333333: use a multiple of 0.04"),
    ("hafm", "stream.cache", {}, "cache is {}"),
    ("aligned", "network.acoustic.delays", [0, BIG, 2, 3], r"delays\[1\] is 1000000000: use 0 to 128"),
    ("aligned", "network.acoustic.window", 129, ""),  # the state and no tensor is as long
    ("aligned", "network.acoustic.head_width", 1024, "acoustic.transformer"),
    ("aligned", "network.semantic.rate", 75, "a score has"),
    ("stems", "stems.encoder.heads", 0, r"\[stems.encoder\] heads is 0: use 1 to 256"),
    ("stems", "stems.encoder.width", 17, "width is 17: use a multiple of 4, twice the heads"),
    ("stems", "stems.encoder.kernel", 4, "kernel is 4: use an odd number"),
    ("stems", "stems.decoder.layers", 10**30, "layers is 1000000000000000000000000000000: use 1 to 128"),
    ("stems", "stems.decoder.rope_base", 0, "rope_base is 0: use more than 1"),
    ("stems", "stems.mel.bands", BIG, r"\[stems.mel\] bands is 1000000000: use 1 to 1024"),
    ("stems", "stems.mel.window", 7, "window is 7: use 960, the hop, or more"),
    ("stems", "stems.codebook_size", 0, "codebook_size is 0: use 1 to 65536"),
    ("stems", "codec.latent", -5, "latent is -5: use 1 to 16384"),
    ("stems", "codec.frames_per_code", 3, "frames_per_code is 3: use an even number"),
    ("stems", "codec.transformer_layers", 1, "use a multiple of 64 with transformer_layers"),
    ("stems", "stream.guard_seconds", "1e9", "guard_seconds is '1e9'"),
    ("stems", "decoder", {}, ""),  # a table that nobody reads
    ("stems", "stems.decoder.width", 16_384, r"must be \[16384"),
    ("mge", "mge.network.layers", BIG, r"\[mge.network\] layers is 1000000000: use 1 to 128"),
    ("mge", "mge.network.tracks", 4, "network has 4 tracks: use 3"),
    ("mge", "mge.network.channels", 5, "hears 5 channels, the VAE's latents have 4"),
    ("mge", "mge.network.width", 16_384, r"must be \[.*49152"),
    ("mge", "mge.window_frames", 4096, ""),  # the state and no tensor is as long
    ("mge", "mge.window_frames", 10**12, "window_frames is 1000000000000: use 2 to 4096"),
    ("mge", "vae.kind", "oboe", r"\[vae\] kind is 'oboe': use one of oobleck, spectral"),
    ("mge", "vae.codec.latent", -5, "latent is -5: use 1 to 16384"),
    ("mge", "towers.width", 9, "is told 8 dimensions of a text, its reader says 9"),
    ("mge", "towers", [], r"\[towers\] is \[\]: make it a table"),
    ("mge", "clap", {}, r"it has towers and clap to hear texts: give one of \[towers\] and \[clap\]"),
    ("mge", "stream.steps", 0, "steps is 0: use 1 to 250"),
    ("mge", "stream.guard_seconds", "1/3", "guard_seconds is 0.333333: use less than half"),
    ("spleeter", "spleeter.filters", [BIG], r"filters\[0\] is 1000000000: use 1 to 4096"),
    ("spleeter", "spleeter.filters", [4096] * 6, r"must be \[4096"),
    ("spleeter", "spleeter.window_frames", 100, "window_frames is 100: use a multiple of 64"),
    ("spleeter", "spleeter.tracks", ["a", "A"], "are one name on some systems"),
]


def no_weights(folder: Path) -> None:
    (folder / "codec.safetensors").unlink()


def fifo_as(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def folder_as(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def socket_as(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        held = os.getcwd()
        os.chdir(folder)  # a socket's path may have 108 bytes
        try:
            socket.socket(socket.AF_UNIX).bind(name)
        finally:
            os.chdir(held)

    return damage


def link_to(target: str, name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(target)

    return damage


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Changes the header of the codec's file, which keeps its length in bytes."""

    def damage(folder: Path) -> None:
        path = folder / "codec.safetensors"
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        said = json.loads(content[8 : 8 + length])
        change(said)
        fresh = json.dumps(said).encode()
        path.unlink()  # others share the file
        path.write_bytes(len(fresh).to_bytes(8, "little") + fresh + content[8 + length :])

    return damage


def raw_header(text: bytes, length: int | None = None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "codec.safetensors"
        path.unlink()
        path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text)

    return damage


def first(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for name, entry in said.items() if name != "__metadata__")
    return found


# What is done to the files of a whole tiny HAFM, and what the problem must speak of.
FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights-missing": (no_weights, "codec.safetensors is missing"),
    "weights-fifo": (fifo_as("codec.safetensors"), "codec.safetensors is a FIFO, not a file"),
    "weights-folder": (folder_as("codec.safetensors"), "codec.safetensors is a folder, not a file"),
    "weights-socket": (socket_as("codec.safetensors"), "codec.safetensors is a socket, not a file"),
    "weights-device": (link_to("/dev/zero", "codec.safetensors"), "codec.safetensors is a device, not a file"),
    "weights-loop": (link_to("codec.safetensors", "codec.safetensors"), "codec.safetensors cannot be read"),
    "manifest-fifo": (fifo_as("pack.toml"), "pack.toml is a FIFO, not a file"),
    "manifest-folder": (folder_as("pack.toml"), "pack.toml is a folder, not a file"),
    "manifest-socket": (socket_as("pack.toml"), "pack.toml is a socket, not a file"),
    "manifest-device": (link_to("/dev/zero", "pack.toml"), "pack.toml is a device, not a file"),
    "manifest-loop": (link_to("pack.toml", "pack.toml"), "pack.toml cannot be read"),
    "manifest-nowhere": (link_to("/nonexistent", "pack.toml"), "there is no pack.toml"),
    "header-long": (raw_header(b"{}", 1 << 62), "no safetensors header"),
    "header-none": (raw_header(b"", 0), "no safetensors header"),
    "header-deep": (raw_header(b'{"a":' * 200_000 + b"1" + b"}" * 200_000), "no safetensors header"),
    "header-deep-inside": (raw_header(b'{"a":{"dtype":"F32","x":' + b"[" * 200_000 + b"}}"), "no safetensors header"),
    "header-list": (raw_header(b"[]"), "no safetensors header"),
    "header-text": (raw_header(b'{"a": {"dtype": 3, "shape": "x", "data_offsets": [0]}}'), "no safetensors header"),
    "offsets-back": (header(lambda said: first(said).update(data_offsets=[8, 0])), "codec.safetensors is damaged"),
    "offsets-below": (header(lambda said: first(said).update(data_offsets=[-8, 8])), "codec.safetensors is damaged"),
    "offsets-huge": (
        header(lambda said: first(said).update(data_offsets=[0, 1 << 70])),
        "codec.safetensors is damaged",
    ),
    "overlapping": (header(lambda said: said.update(twice=dict(first(said)))), "does not fill bytes"),
    "shape": (header(lambda said: first(said).update(shape=[3, 3])), "does not fill bytes"),
    "shape-below": (header(lambda said: first(said).update(shape=[-1, -1])), "does not fill bytes"),
    "shape-huge": (header(lambda said: first(said).update(shape=[1 << 40] * 40)), "does not fill bytes"),
    "type": (header(lambda said: first(said).update(dtype="F8192")), "does not fill bytes"),
}

# What is done to the tensors before they are written, and what loading must say.
Tensors = dict[str, torch.Tensor]
TENSORS: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "whole-numbers": (
        lambda t: t.update({"fine.heads": t["fine.heads"].int()}),
        "fine.heads holds int32, must hold floating-point numbers",
    ),
    "truth-values": (lambda t: t.update({"fine.heads": t["fine.heads"] > 0}), "fine.heads holds bool"),
    "complex": (lambda t: t.update({"fine.heads": t["fine.heads"] + 0j}), "fine.heads holds complex64"),
    "not-finite": (
        lambda t: t["semantic.transformer.norm.weight"].view(-1)[3:4].fill_(float("nan")),
        "semantic.transformer.norm.weight holds numbers that are not finite",
    ),
    "infinite-codec": (lambda t: t["codec.quantizer.codebooks"].view(-1)[:1].fill_(float("inf")), "not finite"),
    "infinite-table": (lambda t: t["semantics.vocal.mean"].view(-1)[:1].fill_(-float("inf")), "not finite"),
    "shape-of-table": (lambda t: t.update({"semantics.vocal.gain": torch.ones(())}), r"gain is \[\], must be"),
    "unknown": (lambda t: t.update({"fine.more": torch.ones(3)}), "fine.more is not part of this network"),
    "none-of-stage": (lambda t: [t.pop(name) for name in list(t) if name.startswith("fine.")], "fine.heads .* missing"),
    "quantized-alone": (
        lambda t: t.update({"codec.x.int8": torch.zeros(3, 3, dtype=torch.int8)}),
        "x.scale is missing",
    ),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder: every damaged pack, and two whole ones."""
    root = tmp_path_factory.mktemp("shop")
    whole = {}
    for family, make in FAMILIES.items():
        config, tensors = make()
        whole[family] = (config, write_pack(root / f"whole-{family}", {**config, "name": f"whole-{family}"}, tensors))

    def copied(name: str, family: str, config: dict[str, Any]) -> Path:
        """A pack with the files of a whole one; they are shared, which saves writing them a hundred times."""
        folder = root / name
        folder.mkdir()
        files = [vars(file) | {"quantization": file.quantization} for file in whole[family][1].files]
        files = [{key: value for key, value in file.items() if value} for file in files]
        (folder / "pack.toml").write_text(toml.dumps({**config, "name": name, "files": files}))
        for file in files:
            os.link(root / f"whole-{family}" / file["path"], folder / file["path"])
        return folder

    write_pack(
        root / "echo",
        {"name": "echo", "version": "1", "family": "passthrough", "description": "an echo", "license": "MIT"},
        {},
    )
    for name, (text, _) in MANIFESTS.items():
        (root / name).mkdir()
        head = HEAD.format(name=name, family="passthrough").encode()
        (root / name / "pack.toml").write_bytes(head + (text if isinstance(text, bytes) else text.encode()))
    for name, (text, _) in HEADS.items():
        (root / f"head-{name}").mkdir()
        said = text.replace("{name}", f"head-{name}").replace("{family}", "passthrough")
        (root / f"head-{name}" / "pack.toml").write_text(said)
    for number, (family, where, value, _) in enumerate(VALUES):
        copied(f"value-{number}", family, changed(whole[family][0], where, value))
    for name, (damage, _) in FILES.items():
        damage(copied(f"file-{name}", "hafm", whole["hafm"][0]))
    for name, (change, _) in TENSORS.items():
        config, tensors = tiny_hafm()
        tensors = {key: tensor.clone() for key, tensor in tensors.items()}
        change(tensors)
        write_pack(root / f"tensors-{name}", {**config, "name": f"tensors-{name}"}, tensors)
    (root / "loop").symlink_to("loop")
    (root / "gone").symlink_to("/nonexistent")
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    with open(os.fsencode(root) + b"/caf\xe9/pack.toml", "w") as manifest:
        manifest.write("name = ")
    return root


def changed(config: dict[str, Any], where: str, value: Any) -> dict[str, Any]:
    """A copy of `config` with `value` at a dotted place."""
    key, _, rest = where.partition(".")
    return {**config, key: changed(config.get(key, {}), rest, value) if rest else value}


@pytest.fixture(scope="module")
def registry(shop: Path) -> PackRegistry:
    return PackRegistry([shop])


@pytest.fixture(scope="module")
def listing(registry: PackRegistry) -> dict[str, PackEntry]:
    """All of it at once, by the folders' names."""
    return {os.fsencode(entry.folder).split(b"/")[-1].decode("latin-1"): entry for entry in registry.entries()}


def problem_of(registry: PackRegistry, entry: PackEntry) -> str:
    """What listing or loading says of a pack; "" where it is whole."""
    begin = time.monotonic()
    try:
        registry.load(entry.name)
        problem = ""
    except PackError as error:
        problem = str(error)
    assert not problem or time.monotonic() - begin < SLOWEST_SECONDS
    assert registry.entry(entry.name).state is (PackState.DAMAGED if problem else PackState.AVAILABLE)
    return problem


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_nobody_would_write_is_its_packs_problem(
    listing: dict[str, PackEntry], registry: PackRegistry, name: str
) -> None:
    assert listing[name].state is PackState.DAMAGED
    assert listing[name].name == name
    assert_says(problem_of(registry, listing[name]), MANIFESTS[name][1])


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_tells_no_pack_is_called_by_its_folder(
    listing: dict[str, PackEntry], registry: PackRegistry, name: str
) -> None:
    assert listing[f"head-{name}"].state is PackState.DAMAGED
    assert listing[f"head-{name}"].name == f"head-{name}"
    assert_says(problem_of(registry, listing[f"head-{name}"]), HEADS[name][1])


@pytest.mark.parametrize("number", range(len(VALUES)), ids=[f"{where}={value!r:.20}" for _, where, value, _ in VALUES])
def test_a_value_that_no_network_can_have_is_named(
    listing: dict[str, PackEntry], registry: PackRegistry, number: int
) -> None:
    assert_says(problem_of(registry, listing[f"value-{number}"]), VALUES[number][3])


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_file_of_weights_is_named(
    listing: dict[str, PackEntry], registry: PackRegistry, name: str
) -> None:
    assert listing[f"file-{name}"].state is PackState.DAMAGED
    assert_says(problem_of(registry, listing[f"file-{name}"]), FILES[name][1])


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_are_not_the_networks_are_named(
    listing: dict[str, PackEntry], registry: PackRegistry, name: str
) -> None:
    assert_says(problem_of(registry, listing[f"tensors-{name}"]), TENSORS[name][1])


def assert_says(problem: str, pattern: str) -> None:
    """The problem that was to be found, in bounded length, and text that can be sent; "" is for none."""
    assert bool(problem) == bool(pattern), problem
    assert re.search(pattern, problem), problem
    assert len(problem) < 20_000
    problem.encode()


def test_a_folder_whose_name_is_no_text_is_listed_in_text(listing: dict[str, PackEntry]) -> None:
    entry = listing["caf\xe9"]
    assert entry.state is PackState.DAMAGED
    assert entry.name == r"caf\xe9"


def test_links_to_nowhere_are_no_packs(listing: dict[str, PackEntry]) -> None:
    assert not {"loop", "gone"} & listing.keys()


def test_the_whole_ones_among_them_load(listing: dict[str, PackEntry], registry: PackRegistry) -> None:
    for name in ("echo", "whole-hafm", "whole-aligned", "whole-stems"):
        assert listing[name].state is PackState.AVAILABLE
        assert problem_of(registry, listing[name]) == ""


def test_a_session_plays_on_exactly_while_every_damaged_pack_is_tried(
    listing: dict[str, PackEntry], registry: PackRegistry
) -> None:
    audio = np.random.default_rng(0).standard_normal((2, 48_000)).astype(np.float32)
    damaged = [entry.name for entry in listing.values() if entry.state is PackState.DAMAGED]
    assert len(damaged) > 90
    damaged = random.Random(0).sample(damaged, 25)
    with running(echo=registry.load("echo")) as engine:
        tried = threading.Thread(target=lambda: [try_to_load(registry, name) for name in damaged])
        tried.start()
        heard = play(engine, "echo", audio, block=480)
        while tried.is_alive():
            heard = play(engine, "echo", audio, block=480)
            tried.join(0)
        assert np.array_equal(heard.audio(), audio)


def try_to_load(registry: PackRegistry, name: str) -> None:
    with pytest.raises(PackError):
        registry.load(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_whatever_is_written_over_a_manifest_is_a_pack_or_a_problem(shop: Path, family: str, tmp_path: Path) -> None:
    """Seeded: bytes changed, lines lost, and every value in turn something else."""
    choose = random.Random(family)
    whole = (shop / f"whole-{family}" / "pack.toml").read_text()
    lines = whole.splitlines()
    odd = ["0", "-1", "1.5", "nan", "true", '""', "[]", "{}", "1e300", str(BIG), '"\\u0000"', "[[[1]]]", "1979-05-27"]
    folder = tmp_path / "odd"
    folder.mkdir()
    for file in read_manifest(shop / f"whole-{family}").files:
        os.link(shop / f"whole-{family}" / file.path, folder / file.path)
    damaged = 0
    for turn in range(60):
        if turn % 3 == 0:
            content = bytearray(whole.encode())
            content[choose.randrange(len(content))] = choose.randrange(256)
            (folder / "pack.toml").write_bytes(content)
        else:
            fresh = list(lines)
            at = choose.choice([number for number, line in enumerate(lines) if " = " in line])
            fresh[at] = fresh[at].partition(" = ")[0] + " = " + choose.choice(odd)
            if turn % 3 == 2:
                del fresh[choose.randrange(len(fresh))]
            (folder / "pack.toml").write_text("\n".join(fresh))
        (entry,) = [entry for entry in PackRegistry([folder]).entries() if entry.folder == folder]
        assert (entry.state is PackState.DAMAGED) == bool(entry.problem)
        damaged += entry.state is PackState.DAMAGED
    assert damaged > 30


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "backline" / "packs"


def test_a_damaged_pack_hides_no_whole_one(home: Path) -> None:
    """As where a user's own `default` was half copied: what comes with Backline plays, and the listing shows both."""
    (home / "passthrough").mkdir(parents=True)
    (home / "passthrough" / "pack.toml").write_text("name = ")
    entries = {entry.name: entry for entry in PackRegistry().entries()}
    assert entries["passthrough"].state is PackState.AVAILABLE
    assert entries["passthrough (2)"].state is PackState.DAMAGED
    assert entries["passthrough (2)"].folder == home / "passthrough"
    with pytest.raises(PackError, match="not valid TOML"):
        PackRegistry().load("passthrough (2)")


def test_a_resident_pack_stays_what_it_is_when_its_folder_is_damaged(home: Path) -> None:
    config = {"name": "mine", "version": "1", "family": "passthrough", "description": "d", "license": "MIT"}
    write_pack(home / "folder", config, {})
    registry = PackRegistry()
    resident = {"mine": replace(registry.entry("mine"), state=PackState.RESIDENT)}
    (home / "folder" / "pack.toml").write_text("name = ")
    assert [entry for entry in registry.entries(resident) if entry.folder == home / "folder"] == [resident["mine"]]
    assert registry.entry("mine", resident) is resident["mine"]
    assert registry.entry("folder").state is PackState.DAMAGED


def test_a_name_is_never_a_path(home: Path, tmp_path: Path) -> None:
    config = {"name": "out", "version": "1", "family": "passthrough", "description": "d", "license": "MIT"}
    write_pack(tmp_path / "out", config, {})
    home.mkdir(parents=True)
    for name in ("../../../out", str(tmp_path / "out"), "..", "passthrough/../passthrough", "\0"):
        with pytest.raises(LookupError, match="there is no pack"):
            PackRegistry().entry(name)
