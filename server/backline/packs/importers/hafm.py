"""The published HAFM as a pack: its three stages, HuBERT with its centroids, and EnCodec, each an official local file.

    import_hafm(HafmFiles(semantic=..., coarse=..., fine=..., hubert=..., centroids=..., encodec=...), folder)

A stage's sizes are read off its tensors, under Backline's own names or under foreign ones (roles.py). What no shape
tells (greatest distance, window, what a dropped source becomes, where the BOS token stands) is taken from the paper,
said in a warning, and can be changed in pack.toml, where it has a name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from torch import Tensor

from backline.codecs.hubert import HubertConfig
from backline.models import families
from backline.models.errors import PackError
from backline.models.hafm.interleaved.config import COARSE_CODES, INSTRUMENTAL, PAPER, InterleavedConfig, StageConfig
from backline.models.hafm.load import read_network
from backline.models.hafm.sources import TRANSPORT, VOCAL, SourceConfig
from backline.models.hafm.tables import VOCAL_NOISE
from backline.packs.importers.checkpoint import Component, Imported, read_checkpoint
from backline.packs.importers.encodec import read_encodec
from backline.packs.importers.hubert import read_hubert
from backline.packs.importers.roles import map_stage
from backline.packs.pack import write_pack

OWN_NAME = re.compile(
    r"conditions\.\w+|prediction|quantizer_offset|segment|clock|heads|transformer\.(bias|norm\.weight"
    r"|blocks\.\d+\.(norm1|qkv|q_norm|k_norm|out|norm2|gate|up|down)\.weight)"
)
SOURCES = (VOCAL, TRANSPORT, INSTRUMENTAL, COARSE_CODES)  # in the order of their segments
MAX_DISTANCES = tuple(stage.max_distance for stage in PAPER.stages().values())
CHUNK_SECONDS = Fraction(
    3
)  # the fine stage's clip: a session's first chunk is then just what the stages were trained on
CARD = (
    "Trained on whole clips, conditioning first. A session's first chunk of 3 s is such a clip; later ones are "
    "not, and play with less certainty."
)


@dataclass(frozen=True)
class HafmFiles:
    """Where the parts lie."""

    semantic: Path
    coarse: Path
    fine: Path
    hubert: Path
    centroids: Path
    encodec: Path

    def stages(self) -> dict[str, Path]:
        return {"semantic": self.semantic, "coarse": self.coarse, "fine": self.fine}


@dataclass(frozen=True)
class Stage:
    """One stage that was read: its sizes, its tensors by Backline's names, and what was assumed."""

    config: StageConfig
    tensors: dict[str, Tensor]
    warnings: list[str]


def import_hafm(
    files: HafmFiles,
    folder: Path,
    max_distances: tuple[int, ...] = MAX_DISTANCES,
    hubert: HubertConfig = HubertConfig(),  # noqa: B008
) -> Imported:
    """Writes the pack `folder`.

    Args:
        files: the six files.
        folder: the pack's own folder, e.g. user_packs() / "hafm".
        max_distances: of the relative position bias, for the semantic, the coarse and the fine stage.
        hubert: HuBERT Large, unless a checkpoint of another size is given.

    Raises:
        PackError: files cannot be read, tensors cannot be told apart, or parts do not fit; names all of it.
    """
    problems: list[str] = []
    stages: dict[str, Stage] = {}
    components: dict[str, Component] = {}

    def attempt(part: str, file: Path, read: Callable[[], None]) -> None:
        try:
            read()
        except PackError as error:
            problems.extend(f"{part} ({file.name}): {problem}" for problem in error.problems)

    for (name, file), distance in zip(files.stages().items(), max_distances, strict=True):
        attempt(name, file, lambda n=name, f=file, d=distance: stages.update({n: read_stage(n, f, d)}))  # type: ignore[misc]
    attempt(
        "semantics",
        files.hubert,
        lambda: components.update(semantics=read_hubert(files.hubert, files.centroids, hubert)),
    )
    predicted = [stages[name].config.quantizers for name in ("coarse", "fine") if name in stages]
    codebooks = sum(predicted) if len(predicted) == 2 else 8
    attempt("codec", files.encodec, lambda: components.update(codec=read_encodec(files.encodec, codebooks)))
    if problems:
        raise PackError(problems, "hafm")
    config = _tables({name: stage.config for name, stage in stages.items()}, components)
    families.describe(config)  # reports what keeps the parts from working together
    tensors = {f"{name}.{key}": tensor for name, stage in stages.items() for key, tensor in stage.tensors.items()}
    tensors |= components["codec"].tensors | components["semantics"].tensors
    warnings = [f"{name}: {warning}" for name, stage in stages.items() for warning in stage.warnings]
    warnings += [warning for component in components.values() for warning in component.warnings]
    return Imported(write_pack(folder, config, tensors), [*warnings, CARD])


def read_stage(stage: str, file: Path, max_distance: int) -> Stage:
    """Stage `semantic`, `coarse` or `fine` out of a checkpoint.

    Raises:
        PackError: the file cannot be read, or its tensors cannot be told apart; names all of them.
    """
    tensors = read_checkpoint(file)
    warnings = []
    plain = {name.removeprefix("module.").removeprefix("_orig_mod."): tensor for name, tensor in tensors.items()}
    if 2 * sum(OWN_NAME.fullmatch(name) is not None for name in plain) > len(plain):
        tensors = plain
    else:
        mapped = map_stage(stage, tensors)
        tensors = mapped.tensors
        warnings += [*mapped.warnings, "assumed: the last entry of a table is its mask or BOS token"]
    config = infer_config(stage, tensors, max_distance)
    try:
        read_network(stage, config, {f"{stage}.{name}": tensor for name, tensor in tensors.items()})
    except ValueError as error:
        raise PackError(str(error).split("; "), stage) from error
    warnings.append(
        f"assumed, for shapes do not tell: max_distance = {config.max_distance}, window = {config.window}, "
        f'null = "{config.null}", quantizer_offset = "{config.quantizer_offset}", '
        f'token_table = "{config.token_table}", first_head = {config.first_head}; see [network.{stage}] of pack.toml'
    )
    return Stage(config, tensors, warnings)


def infer_config(stage: str, tensors: Mapping[str, Tensor], max_distance: int) -> StageConfig:
    """The sizes of a stage from the shapes of its tensors by Backline's names; the rest is the paper's.

    Raises:
        PackError: tensors that tell the sizes are missing or of another rank; names all of them.
    """
    needed = {
        "prediction": 3,
        "transformer.bias": 2,
        "transformer.blocks.0.q_norm.weight": 1,
        "transformer.blocks.0.gate.weight": 2,
    }
    sources = {name.removeprefix("conditions."): t for name, t in tensors.items() if name.startswith("conditions.")}
    known = {source.name for source in SOURCES}
    problems = [f"{name} is missing" for name in needed if name not in tensors]
    problems += [
        f"{name} is {list(tensors[name].shape)}: it has {rank} dimensions"
        for name, rank in needed.items()
        if name in tensors and tensors[name].dim() != rank
    ]
    problems += [f"conditions.{name} is no source: use {', '.join(sorted(known))}" for name in sources.keys() - known]
    problems += [
        f"conditions.{name} is {list(tensor.shape)}, must be [codebook, token, width]"
        for name, tensor in sources.items()
        if tensor.dim() != 3
    ]
    paper = PAPER.stages()[stage]
    problems += [
        f"conditions.{source.name} is missing: is this the {stage} stage?"
        for source in paper.sources
        if source.name not in sources
    ]
    exact = len(tensors["transformer.bias"]) // 2 if "transformer.bias" in tensors else 0
    if max_distance <= exact:
        problems.append(
            f"max_distance is {max_distance}: use more than {exact}, since these distances have own buckets"
        )
    if problems:
        raise PackError(problems, stage)
    quantizers, tokens, width = tensors["prediction"].shape
    buckets, heads = tensors["transformer.bias"].shape
    numbers = [int(found[1]) for name in tensors if (found := re.match(r"transformer\.blocks\.(\d+)\.", name))]
    return dataclasses.replace(
        paper,
        sources=tuple(_source(source, sources[source.name]) for source in SOURCES if source.name in sources),
        vocabulary=tokens - 1,
        quantizers=quantizers,
        layers=max(numbers) + 1,
        width=width,
        heads=heads,
        head_width=len(tensors["transformer.blocks.0.q_norm.weight"]),
        feed_forward_multiple=_multiple(width, len(tensors["transformer.blocks.0.gate.weight"])),
        buckets=buckets,
        max_distance=max_distance,
        chunk_clock="clock" in tensors,
    )


def _source(source: SourceConfig, table: Tensor) -> SourceConfig:
    """`source` with the sizes of its table [codebook, token, width]; the last token is the mask."""
    return dataclasses.replace(source, codebooks=table.shape[0], vocabulary=table.shape[1] - 1)


def _multiple(width: int, feed_forward: int) -> float:
    """The simplest multiple of the width, two thirds of which is the inner width [I] of the GEGLU."""
    whole = Fraction(3 * feed_forward, 2 * width)
    for parts in (1, 2, 4, 8, 16, 32, 64):
        rounded = Fraction(-(-whole.numerator * parts // whole.denominator), parts)
        if int(Fraction(2, 3) * width * rounded) == feed_forward:
            return float(rounded)
    return float(Fraction(3 * feed_forward, 2 * width) + Fraction(1, 2 * width))


def _tables(stages: Mapping[str, StageConfig], components: Mapping[str, Component]) -> dict[str, Any]:
    """pack.toml."""
    return {
        "name": "hafm",
        "version": "1.0.0",
        "family": "hafm",
        "description": "The published HAFM, imported: a band under a voice in three stages, HuBERT and EnCodec",
        "license": "as the imported checkpoints",
        "network": InterleavedConfig(**stages).to_dict(),
        "codec": components["codec"].table,
        "semantics": {**components["semantics"].table, "vocal_noise": VOCAL_NOISE},
        "stream": {
            "default_chunk_seconds": str(CHUNK_SECONDS),
            "default_visibility_seconds": float(CHUNK_SECONDS),
        },
        "card": {"training": CARD},
    }
