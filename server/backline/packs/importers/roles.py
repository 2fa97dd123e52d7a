"""Which tensor of a foreign HAFM stage is which: by its shape, by hints in its name, and last by order.

The names in published checkpoints are unknown, but the network is not. Of all ways to give the tensors the roles that
the network has, those remain whose shapes fit together and that no hint in a name contradicts. One must be left. Only
between twins of the same shape within a block (gate and up, the two norms, the norms of queries and keys) may order
decide, and between the coarse stage's two sources; that is an assumption, and is reported as one.

    mapped = map_stage("coarse", read_checkpoint(file))     # the tensors by Backline's names, and warnings
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from backline.models.errors import PackError
from backline.models.hafm.interleaved.config import PAPER
from backline.packs.importers.blocks import Work, joined, map_blocks, numbers_in, unfilled

TABLE_HINTS = (
    (r"cond|source|src|prompt|vocal|voice|context|prefix", "conditions"),
    (r"pred|target|tgt|output_emb|out_emb", "prediction"),
    (r"head|logit|_lm_|classif|out_proj|to_out", "heads"),
    (r"seg|type|modal", "segment"),
    (r"off|quant|codebook|level", "quantizer_offset"),
)
TABLES = tuple(role for _, role in TABLE_HINTS)
SHORT = {"segment", "quantizer_offset"}  # tables of a few entries; the others have one for every token
FEW = 16
REMEDY = "if this is the stage, give its tensors Backline's own names (hafm/interleaved/network.py) and import it again"


@dataclass(frozen=True)
class Mapped:
    """A stage's tensors by Backline's names, and what was assumed on the way."""

    tensors: dict[str, Tensor]
    warnings: list[str]


@dataclass(frozen=True)
class _Group:
    """Embedding tables or heads that are numbered in their names, or stacked in one tensor, or one alone."""

    names: tuple[str, ...]
    tables: tuple[Tensor, ...]  # each [token, width]

    @property
    def rows(self) -> set[int]:
        return {len(table) for table in self.tables}

    def members(self) -> list[tuple[str, Tensor]]:
        """Every table and the name that it comes from."""
        names = self.names if len(self.names) == len(self.tables) else (self.names[0],) * len(self.tables)
        return list(zip(names, self.tables, strict=True))

    def __str__(self) -> str:
        return f"{' + '.join(self.names)} {len(self.tables)} x {sorted(self.rows)}"


def map_stage(stage: str, tensors: Mapping[str, Tensor]) -> Mapped:
    """Gives every tensor of stage `semantic`, `coarse` or `fine` its role.

    Raises:
        PackError: some cannot be assigned, or in more than one way; names all of them and their candidates.
    """
    common = _common_beginning(list(tensors))
    work = Work(stage, {name.removeprefix(common): tensor for name, tensor in tensors.items()})
    _drop_idle(work)
    width = _width(work)
    heads = map_blocks(work, width)
    if heads is not None:
        _map_final_norm(work, width)
        _map_bias(work, width, heads)
        _map_tables(work, width)
    if work.problems:
        raise PackError([*work.problems, REMEDY], stage)
    return Mapped(work.found, work.warnings)


def _common_beginning(names: Sequence[str]) -> str:
    """The module that all names begin with, as in "module." or "model.decoder."; it says nothing about roles."""
    common = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(f"{parts[0]}.")
    return "".join(common)


def _drop_idle(work: Work) -> None:
    """Takes out what changes nothing: buffers that are no floats, and biases that are zero."""
    idle = []
    for name, tensor in list(work.left.items()):
        beside = work.left.get(f"{name.removesuffix('bias')}weight") if name.endswith(".bias") else None
        if not tensor.is_floating_point():
            idle.append(name)
        elif beside is not None and beside.dim() < 2:
            work.problems.append(f"{name} makes a LayerNorm of {name.removesuffix('.bias')}: HAFM has RMSNorm")
        elif beside is not None and tensor.any():
            work.problems.append(f"{name} is a bias that is not zero: HAFM's projections and heads have none")
        elif beside is None:
            continue
        else:
            idle.append(name)
        del work.left[name]
    if idle:
        work.warnings.append(f"left out, because they change nothing (zero biases, integer buffers): {', '.join(idle)}")


def _width(work: Work) -> int:
    """Width of the model: what most matrices outside of numbered blocks, or else all of them, have in common."""
    lasts = Counter(t.shape[-1] for t in work.left.values() if t.dim() >= 2)
    vectors = Counter(len(t) for t in work.left.values() if t.dim() == 1)
    common = [width for width, _ in lasts.most_common() if width in vectors]
    return common[0] if common else 0


def _map_final_norm(work: Work, width: int) -> None:
    vectors = [name for name, tensor in work.left.items() if tuple(tensor.shape) == (width,)]
    named = [name for name in vectors if re.search(r"norm|ln|rms", joined(name))]
    if len(named or vectors) != 1:
        work.problems.append(f"the final norm [{width}] should be one of: {', '.join(named or vectors) or 'nothing'}")
        return
    work.found["transformer.norm.weight"] = work.left.pop((named or vectors)[0])


def _map_bias(work: Work, width: int, heads: int) -> None:
    """Maps the one table that all blocks share; where the blocks did not tell their `heads`, that is 0."""
    fitting = [
        name
        for name, tensor in work.left.items()
        if tensor.dim() == 2 and tensor.shape[1] != width and heads in (0, tensor.shape[1])
    ]
    if len(fitting) != 1:
        work.problems.append(
            f"the relative position bias [buckets, {heads or 'heads'}] should be one of: "
            f"{', '.join(fitting) or 'nothing'}"
        )
        for name in fitting:
            del work.left[name]
        return
    work.found["transformer.bias"] = work.left.pop(fitting[0])


def _map_tables(work: Work, width: int) -> None:
    """Maps embeddings and heads; what is left then has no role."""
    groups = _groups(work, width)
    work.problems += [f"{name} {list(tensor.shape)} has no role in a stage" for name, tensor in work.left.items()]
    hints = [_table_hints(group) for group in groups]
    sources = PAPER.stages()[work.stage].sources
    single = work.stage != "fine"  # one table for each source, or all of them for the codebooks of one source

    def can(role: str) -> list[int]:
        return [index for index, roles in enumerate(hints) if role in roles]

    ways = []
    for head, prediction, segment, offset in product(
        can("heads"), can("prediction"), can("segment"), [*can("quantizer_offset"), None]
    ):
        chosen = [index for index in (head, prediction, segment, offset) if index is not None]
        rest = [index for index in range(len(groups)) if index not in chosen]
        if len({*chosen}) == len(chosen) and all("conditions" in hints[index] for index in rest):
            way = _Tables(
                heads=groups[head],
                prediction=groups[prediction],
                segment=groups[segment],
                offset=None if offset is None else groups[offset],
                conditions=tuple((name, table) for i in rest for name, table in groups[i].members()),
            )
            if way.fits(len(sources), single):
                ways.append(way)
    if len(ways) != 1:
        said = ", ".join(f"{group} ({' or '.join(sorted(roles))})" for group, roles in zip(groups, hints, strict=True))
        work.problems.append(
            f"embeddings and heads can be assigned in {len(ways) or 'no'} way{'s' * (len(ways) != 1)}: "
            f"{said or 'there are none'}; a {work.stage} stage has Q heads of V tokens, Q tables of V + 1 for what it "
            f"predicts, {len(sources) + 1} segments, Q quantizer offsets, and "
            + (f"{len(sources)} table(s) of conditioning" if single else "tables of one size for its conditioning")
            + unfilled([TABLES], {str(group): roles for group, roles in zip(groups, hints, strict=True)})
        )
        return
    _keep_tables(work, ways[0], [source.name for source in sources], single)


@dataclass(frozen=True)
class _Tables:
    """One way to tell the embeddings and heads of a stage apart."""

    heads: _Group
    prediction: _Group
    segment: _Group
    offset: _Group | None
    conditions: tuple[tuple[str, Tensor], ...]  # names and tables

    def fits(self, sources: int, single: bool) -> bool:
        """Whether sizes agree, for a stage of that many sources with a single table each, or one with several."""
        quantizers = len(self.heads.tables)
        predicted = max(self.prediction.rows)
        conditions = {len(table) for _, table in self.conditions}
        return (
            len(self.prediction.tables) == quantizers
            and self.prediction.rows == {predicted}
            and self.heads.rows in ({predicted - 1}, {predicted})
            and [len(table) for table in self.segment.tables] == [sources + 1]
            and (quantizers == 1 if self.offset is None else [len(t) for t in self.offset.tables] == [quantizers])
            and (len(self.conditions) == sources if single else len(conditions) == 1)
        )


def _keep_tables(work: Work, tables: _Tables, sources: Sequence[str], single: bool) -> None:
    prediction = torch.stack(tables.prediction.tables)
    heads = torch.stack(tables.heads.tables)
    if heads.shape[1] == prediction.shape[1]:
        work.warnings.append(f"assumed: the last output of {', '.join(tables.heads.names)} is BOS, and is left out")
        heads = heads[:, :-1]
    if tables.offset is None:
        work.warnings.append("there is no quantizer offset: with one quantizer, zeros are the same")
        offset = torch.zeros_like(prediction[:, 0])
    else:
        offset = tables.offset.tables[0]
    conditions = list(tables.conditions)
    if single and len(conditions) > 1:
        conditions = _sorted_sources(work, conditions)
    by_source = [[table] for _, table in conditions] if single else [[table for _, table in conditions]]
    for source, own in zip(sources, by_source, strict=True):
        work.found[f"conditions.{source}"] = torch.stack(own)
    work.found |= {
        "prediction": prediction,
        "heads": heads,
        "segment": tables.segment.tables[0],
        "quantizer_offset": offset,
    }


def _sorted_sources(work: Work, conditions: list[tuple[str, Tensor]]) -> list[tuple[str, Tensor]]:
    """The coarse stage's two tables: the vocal one, then the instrumental one."""
    (first, _), (second, _) = conditions
    voice, band = r"voc|voice|sing|_s?v_", r"inst|acc|band|_s?i_"
    if re.search(voice, joined(second)) and re.search(band, joined(first)):
        return conditions[::-1]
    if not (re.search(voice, joined(first)) and re.search(band, joined(second))):
        work.warnings.append(f"assumed by their order: the voice's table is {first}, the instruments' {second}")
    return conditions


def _groups(work: Work, width: int) -> list[_Group]:
    """Tables that differ only in the last number of their names, or that are stacked. Takes them out."""
    alike: dict[str, list[str]] = {}
    for name, tensor in work.left.items():
        if tensor.dim() in (2, 3) and tensor.shape[-1] == width:
            alike.setdefault(re.sub(r"\d+(?!.*\d)", "*", name), []).append(name)
    groups = []
    for names in alike.values():
        ordered = sorted(names, key=numbers_in)
        tensors = [work.left.pop(name) for name in ordered]
        tables = [table for tensor in tensors for table in (tensor if tensor.dim() == 3 else [tensor])]
        groups.append(_Group(tuple(ordered), tuple(tables)))
    return groups


def _table_hints(group: _Group) -> set[str]:
    """Roles for which the group is long or short enough, and of these the ones its name speaks of, if any."""
    name = joined(group.names[0])
    possible = SHORT if max(group.rows) <= FEW else set(TABLES) - SHORT
    return {role for pattern, role in TABLE_HINTS if re.search(pattern, name)} & possible or possible
