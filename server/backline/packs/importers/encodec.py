"""The official EnCodec 24 kHz as a pack, or as the codec of one.

    import_encodec(Path("encodec_24khz-d7cc33bc.th"), user_packs() / "encodec-24khz")

Every tensor is checked by name and shape, and all that does not fit is reported at once.
"""

from __future__ import annotations

from pathlib import Path

from backline.codecs.encodec import (
    CODEBOOKS_IN_CHECKPOINT,
    HOP,
    SAMPLE_RATE,
    EncodecStream,
    checkpoint_layout,
    layout_mismatches,
)
from backline.models.errors import PackError
from backline.packs.importers.checkpoint import Component, Imported, hash_warnings, read_checkpoint
from backline.packs.pack import write_pack

OFFICIAL_HASH = "d7cc33bc"  # as the official file is named: the beginning of its SHA-256
UNUSED = ("inited", "cluster_size", "embed_avg")  # statistics that the quantiser was trained with


def import_encodec(file: Path, folder: Path, codebooks: int = 8) -> Imported:
    """Writes the pack `folder` from the official EnCodec 24 kHz checkpoint; its family plays the codec by itself.

    Args:
        file: `encodec_24khz-d7cc33bc.th`, or another file of the same layout.
        folder: the pack's own folder, e.g. user_packs() / "encodec-24khz".
        codebooks: to keep; 8 make 6 kbit/s.

    Raises:
        PackError: the file cannot be read or is not EnCodec 24 kHz; names everything that does not fit.
    """
    component = read_encodec(file, codebooks)
    config = {
        "name": "encodec-24khz",
        "version": "1.0.0",
        "family": "codec",
        "description": f"EnCodec 24 kHz at {0.75 * codebooks:g} kbit/s, imported from {file.name}",
        "license": "as the imported checkpoint; see https://github.com/facebookresearch/encodec",
        "codec": component.table,
    }
    return Imported(write_pack(folder, config, component.tensors), component.warnings)


def read_encodec(file: Path, codebooks: int = 8) -> Component:
    """The [codec] table and the tensors "codec.*" of a pack that plays through EnCodec. Raises PackError."""
    if not 1 <= codebooks <= CODEBOOKS_IN_CHECKPOINT:
        raise PackError([f"{codebooks} codebooks: EnCodec 24 kHz has 1 to {CODEBOOKS_IN_CHECKPOINT}"], file.name)
    tensors = read_checkpoint(file)
    layout = checkpoint_layout()
    problems = layout_mismatches(tensors, CODEBOOKS_IN_CHECKPOINT)
    problems += [
        f"{name} is not part of EnCodec 24 kHz"
        for name in tensors
        if name not in layout and name.rpartition(".")[2] not in UNUSED
    ]
    if problems:
        raise PackError([*problems, "give the official encodec_24khz checkpoint"], file.name)
    warnings = hash_warnings(file, OFFICIAL_HASH, "EnCodec 24 kHz")
    table = {
        "kind": "encodec",
        "sample_rate": SAMPLE_RATE,
        "hop": HOP,
        "codebooks": codebooks,
        "codebook_size": EncodecStream.codebook_size,
    }
    return Component(table, {f"codec.{name}": tensors[name] for name in checkpoint_layout(codebooks)}, warnings)
