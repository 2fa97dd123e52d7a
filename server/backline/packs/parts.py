"""Parts that a pack of ours is made of, from where they are: an official file, or another pack.

read_semantics_part("hubert:hubert_fairseq_large_ll60k.pth")     # without centroids: they are to be fitted
read_semantics_part("pack:default")                              # with its own
read_codec_part("encodec:encodec_24khz-d7cc33bc.th")
save_part(part, run / "codec.safetensors"); read_part(run / "codec.safetensors")     # quantised or as they are
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from backline.codecs.hubert import HubertConfig
from backline.codecs.whisper_files import WhisperMissing, read_whisper
from backline.codecs.whisper_semantics import WhisperSemanticsConfig, noise_baseline
from backline.models.errors import PackError
from backline.nn.weights import part
from backline.packs.importers.checkpoint import Component
from backline.packs.importers.encodec import read_encodec
from backline.packs.importers.hubert import read_network
from backline.packs.pack import read_pack, read_tensors, save_tensors
from backline.packs.quantized import quantize, restore
from backline.packs.registry import PackRegistry

SEMANTICS, CODECS = "hubert:FILE, whisper:WHEEL-OR-FOLDER or pack:NAME", "encodec:FILE or pack:NAME"
CODEBOOKS = 8  # of EnCodec at 6 kbit/s, the paper's


def read_semantics_part(source: str, registry: PackRegistry, layer: int | None = None) -> Component:
    """The [semantics] table and tensors "semantics.*" that `source` names; a network's have no centroids.

    Args:
        layer: of the network, counted from 1; None: the usual one, 9 of HuBERT's, as in the paper.
    Raises:
        PackError: it cannot be read, or is something else.
        PackNotFound: there is no such pack.
    """
    kind, _, place = source.partition(":")
    if kind == "pack" and place:
        return _of_pack(place, registry, "semantics", "semantics.")
    if kind == "hubert" and place:
        return read_network(Path(place), HubertConfig() if layer is None else HubertConfig(layers=layer))
    if kind == "whisper" and place:
        try:
            network = read_whisper(Path(place)).encoder()
            sizes = WhisperSemanticsConfig(**asdict(network.config))
            sizes = sizes if layer is None else replace(sizes, layer=layer)
        except (WhisperMissing, ValueError) as error:
            raise PackError([str(error)], place) from error
        state = {**network.state_dict(), "baseline": noise_baseline(network, sizes.layer)}
        tensors = {f"semantics.whisper.{name}": tensor for name, tensor in state.items()}
        return Component({"kind": "whisper", **sizes.to_table()}, tensors)
    raise PackError([f"{source!r} names no semantic encoder: use {SEMANTICS}"])


def read_codec_part(source: str, registry: PackRegistry) -> Component:
    """The [codec] table and tensors "codec.*" that `source` names.

    Raises:
        PackError: it cannot be read, or is something else.
        PackNotFound: there is no such pack.
    """
    kind, _, place = source.partition(":")
    if kind == "pack" and place:
        return _of_pack(place, registry, "codec", "codec.")
    if kind == "encodec" and place:
        return read_encodec(Path(place), CODEBOOKS)
    raise PackError([f"{source!r} names no codec: use {CODECS}"])


def save_part(component: Component, path: Path) -> None:
    """One file with the table, the tensors, their licence and their origin; it appears whole or not at all."""
    partial = path.with_suffix(".partial")
    said = {"table": json.dumps(component.table), "license": component.license, "origin": component.origin}
    save_tensors(component.tensors, partial, {key: text for key, text in said.items() if text})
    partial.replace(path)


def read_part(path: Path) -> Component:
    """What `save_part` wrote; tensors that were quantised are float32 again.

    Raises:
        OSError: it cannot be read.
        PackError: it is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            said = file.metadata()
            table = json.loads(said["table"])
            return Component(table, restore(tensors), license=said.get("license", ""), origin=said.get("origin", ""))
    except (SafetensorError, TypeError, KeyError, ValueError) as error:  # TypeError: no metadata at all
        raise PackError([f"{path} is no part that `backline train` has written: {error!r}"]) from error


def stored(component: Component) -> dict[str, Tensor]:
    """A part's tensors as every pack stores them that has it, so that packs can share the file (`share` of pack.py).

    Those that a file had in int8 come out as they were: who has learnt with them has learnt with these.
    """
    return quantize({name: tensor.half() for name, tensor in component.tensors.items()})


def _of_pack(name: str, registry: PackRegistry, table: str, prefix: str) -> Component:
    pack = read_pack(registry.entry(name).folder)
    if table not in pack.config:
        raise PackError([f"it has no [{table}]: use a pack that has one"], name)
    tensors = {prefix + key: tensor for key, tensor in part(read_tensors(pack), prefix).items()}
    return Component(dict(pack.config[table]), tensors)
