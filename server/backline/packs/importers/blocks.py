"""Which tensor of a foreign stage's transformer blocks is which: by shapes that must fit together, hints, and order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import torch
from torch import Tensor

Shape = tuple[int, ...]
Assignment = dict[str, str]  # role -> name

VECTORS = ("norm1", "norm2", "q_norm", "k_norm")
MATRICES = (  # of a block, by how its projections are fused
    ("qkv", "out", "gate", "up", "down"),
    ("qkv", "out", "gate_up", "down"),
    ("q", "k", "v", "out", "gate", "up", "down"),
    ("q", "k", "v", "out", "gate_up", "down"),
)
TWINS = (("norm1", "norm2"), ("q_norm", "k_norm"), ("gate", "up"))  # in the order in which they stand in a block
NEEDED = "norms [d], query and key norms [h], qkv [3a, d], out [a -> d], gate and up [f, d], down [d, f]"

# Patterns on a name in lower case, its parts joined and surrounded by "_". Vectors: the first that matches decides.
VECTOR_HINTS = (
    (r"_(q|query)_?(norm|ln|rms)|(norm|ln|rms)_?(q|query)_", "q_norm"),
    (r"_(k|key)_?(norm|ln|rms)|(norm|ln|rms)_?(k|key)_", "k_norm"),
    (r"(norm|ln|rms)_?2_|_(ffn?|mlp|feed_?forward|post)", "norm2"),
    (r"(norm|ln|rms)_?1_|_(self_)?(attn|attention|input|pre)", "norm1"),
)
ATTENTION = frozenset({"qkv", "q", "k", "v", "out"})
FEED_FORWARD = frozenset({"gate", "up", "gate_up", "down"})
SCOPES = (
    (r"attn|attention|qkv|_sa_", ATTENTION),
    (r"_(ffn?|mlp|feed_?forward)\d?_|geglu|_w_?[0-3]_|_fc_?[0-3]_", FEED_FORWARD),
)
MATRIX_HINTS = (  # matrices: every pattern that matches, within the part of the block that the name speaks of
    (r"qkv|c_attn|query_key_value", {"qkv"}),
    (r"_(w?q|q_proj|query|to_q)_", {"q"}),
    (r"_(w?k|k_proj|key|to_k)_", {"k"}),
    (r"_(w?v|v_proj|value|to_v)_", {"v", "up"}),
    (r"_in_|in_proj|_wi_|_w_in_", {"qkv", "gate_up"}),
    (r"gate_?(up|value)|_w_?12_", {"gate_up"}),
    (r"gate(?!_?(up|value))", {"gate"}),
    (r"(?<!gate)(?<!gate_)_?up_|_val_", {"up"}),
    (r"down", {"down"}),
    (r"_(w?o|o_proj|out|out_proj|to_out|c_proj|dense)_", {"out", "down"}),
    (r"_(w|fc|lin|linear|proj)_?[0-3]_", {"gate", "up", "gate_up", "down"}),
)


@dataclass
class Work:
    """One stage on its way: what is still without a role, what has one, what is wrong, what was assumed."""

    stage: str
    left: dict[str, Tensor]
    found: dict[str, Tensor] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def map_blocks(work: Work, width: int) -> int | None:
    """Maps the stack of blocks; how many heads they have, 0 where they do not tell, None where there is no stack."""
    stacks = _stacks(work.left)
    if len(stacks) != 1:
        said = "no stack of numbered blocks" if not stacks else f"several stacks of blocks: {', '.join(stacks)}"
        work.problems.append(f"there is {said} among {listed(work.left)}: a stage has one, each block with {NEEDED}")
        return None
    [(prefix, blocks)] = stacks.items()
    layers = sorted(blocks)
    if layers != list(range(len(layers))):
        work.problems.append(f"blocks of {prefix!r} are numbered {layers}: some are missing")
    shapes = _common_shapes(work, prefix, blocks)
    vectors = {part: shape for part, shape in shapes.items() if len(shape) == 1}
    matrices = {part: shape for part, shape in shapes.items() if len(shape) == 2}
    for part, shape in shapes.items():
        if len(shape) not in (1, 2):
            work.problems.append(f"{prefix}N.{part} {list(shape)} has no role in a block")

    hints = {part: _vector_hints(part) for part in vectors}
    roles = _assign(work, f"{prefix}N.", [VECTORS], vectors, hints, lambda sizes: _vectors_fit(sizes, width))
    if roles is None:
        return 0
    head_width = vectors[roles["q_norm"]][0]

    hints = {part: _matrix_hints(part) for part in matrices}
    more = _assign(
        work, f"{prefix}N.", MATRICES, matrices, hints, lambda sizes: _matrices_fit(sizes, width, head_width)
    )
    if more is None:
        return 0
    heads = matrices[more["out"]][1] // head_width
    if work.problems:
        return heads
    for layer, parts in blocks.items():
        given = {role: parts[part] for role, part in (roles | more).items() if part in parts}
        for role, tensor in _split(given).items():
            work.found[f"transformer.blocks.{layer}.{role}.weight"] = tensor
    if "qkv" in more:
        work.warnings.append(f"assumed: the rows of {prefix}N.{more['qkv']} are queries, keys, values in this order")
    if "gate_up" in more:
        work.warnings.append(f"assumed: the first half of {prefix}N.{more['gate_up']} is what goes through GELU")
    return heads


def _vectors_fit(sizes: Mapping[str, Shape], width: int) -> bool:
    return sizes["norm1"] == sizes["norm2"] == (width,) and sizes["q_norm"] == sizes["k_norm"]


def _matrices_fit(sizes: Mapping[str, Shape], width: int, head_width: int) -> bool:
    inner, wide = sizes["out"][1], sizes["down"][1]
    expected = {
        "qkv": (3 * inner, width),
        "q": (inner, width),
        "k": (inner, width),
        "v": (inner, width),
        "out": (width, inner),
        "gate": (wide, width),
        "up": (wide, width),
        "gate_up": (2 * wide, width),
        "down": (width, wide),
    }
    return inner % head_width == 0 and all(sizes[role] == expected[role] for role in sizes)


def _stacks(tensors: dict[str, Tensor]) -> dict[str, dict[int, dict[str, Tensor]]]:
    """Numbered things that hold as many tensors as a block: prefix -> number -> rest of the name. Takes them out."""
    found: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, tensor in tensors.items():
        for number in re.finditer(r"(?<=\.)\d+(?=\.)", f".{name}"):
            prefix, rest = name[: number.start() - 1], name[number.end() :]
            found.setdefault(prefix, {}).setdefault(int(number[0]), {})[rest] = tensor
    fewest = len(VECTORS) + min(map(len, MATRICES)) - 1  # so that a block that lacks one is still found
    found = {prefix: blocks for prefix, blocks in found.items() if max(map(len, blocks.values())) >= fewest}
    found = {p: b for p, b in found.items() if not any(p != inner and inner.startswith(p) for inner in found)}
    for prefix, blocks in found.items():
        for layer, parts in blocks.items():
            for rest in parts:
                del tensors[f"{prefix}{layer}.{rest}"]
    return found


def _common_shapes(work: Work, prefix: str, blocks: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Shape]:
    """The shape that most blocks give a part; reports the blocks that differ or lack it."""
    shapes = {}
    for part in dict.fromkeys(part for parts in blocks.values() for part in parts):
        counts = Counter(tuple(parts[part].shape) for parts in blocks.values() if part in parts)
        shapes[part] = shape = counts.most_common(1)[0][0]
        for layer, parts in sorted(blocks.items()):
            if part not in parts:
                work.problems.append(f"{prefix}{layer}.{part} {list(shape)} is missing: other blocks have it")
            elif tuple(parts[part].shape) != shape:
                work.problems.append(
                    f"{prefix}{layer}.{part} is {list(parts[part].shape)}, must be {list(shape)} as in other blocks"
                )
    return shapes


def _split(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A block's tensors by role, fused and parted as Backline has them."""
    split = dict(parts)
    if split.keys() >= {"q", "k", "v"}:
        split["qkv"] = torch.cat([split.pop(role) for role in ("q", "k", "v")])
    if "gate_up" in split:
        split["gate"], split["up"] = split.pop("gate_up").chunk(2)
    return split


def _vector_hints(part: str) -> set[str]:
    name = joined(part)
    return next(({role} for pattern, role in VECTOR_HINTS if re.search(pattern, name)), set(VECTORS))


def _matrix_hints(part: str) -> set[str]:
    name = joined(part)
    scopes = [scope for pattern, scope in SCOPES if re.search(pattern, name)]
    scope = set(scopes[0]) if len(scopes) == 1 else set(ATTENTION | FEED_FORWARD)
    hinted = {role for pattern, roles in MATRIX_HINTS if re.search(pattern, name) for role in roles}
    return hinted & scope or scope


def _assign(
    work: Work,
    where: str,
    schemas: Sequence[Sequence[str]],
    shapes: Mapping[str, Shape],
    hints: Mapping[str, set[str]],
    fit: Callable[[Mapping[str, Shape]], bool],
) -> Assignment | None:
    """The one way to give the parts of a block the roles of a schema; None, and a problem, where there is no such."""
    ways = [
        way
        for schema in schemas
        if len(schema) == len(shapes)
        for way in (dict(zip(schema, parts, strict=True)) for parts in permutations(shapes))
        if all(role in hints[part] for role, part in way.items())
        and fit({role: shapes[part] for role, part in way.items()})
    ]
    for first, second in TWINS:
        turned = [way for way in ways if first in way and _turned(way, first, second) in ways]
        if turned:
            wrong = [way for way in turned if not _stands_before(way[first], way[second], list(shapes))]
            ways = [way for way in ways if way not in wrong]
            chosen = ways[0]
            work.warnings.append(
                f"assumed by their order: {first} is {where}{chosen[first]}, {second} {chosen[second]}"
            )
    if len(ways) == 1:
        return ways[0]
    said = ", ".join(f"{part} {list(shape)} ({' or '.join(sorted(hints[part]))})" for part, shape in shapes.items())
    work.problems.append(
        f"{where} {said} can be assigned in {len(ways) or 'no'} way{'s' * (len(ways) != 1)}: a block has {NEEDED}"
        + unfilled(schemas, hints)
    )
    return None


def unfilled(schemas: Sequence[Sequence[str]], hints: Mapping[str, set[str]]) -> str:
    """Which roles nothing can take, in the schema that comes closest."""
    takers = set().union(*hints.values())
    lacking = min(([role for role in schema if role not in takers] for schema in schemas), key=len)
    return f"; nothing is left for {', '.join(lacking)}" if lacking else ""


def _turned(way: Assignment, first: str, second: str) -> Assignment:
    return {**way, first: way[second], second: way[first]}


def _stands_before(first: str, second: str, order: Sequence[str]) -> bool:
    """Whether a part stands before another: by number where only numbers differ, else in the file."""
    if re.sub(r"\d+", "", first) == re.sub(r"\d+", "", second):
        return numbers_in(first) < numbers_in(second)
    return order.index(first) < order.index(second)


def numbers_in(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def listed(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())


def joined(part: str) -> str:
    """A name as the hints want it."""
    plain = re.sub(r"\.(weight|scale|gamma|g)$", "", part.lower())
    return f"_{re.sub(r'[^a-z0-9]+', '_', plain)}_"
