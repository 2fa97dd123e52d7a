"""What the papers have published of the same measures, to stand beside ours: quoted, on their songs, by their tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backline.measures.report import Figure, Quoted


def _quoted(source: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> Quoted:
    return Quoted(source, {name: dict(zip(columns, map(Figure, values), strict=True)) for name, values in rows.items()})


HAFM = _quoted(
    "HAFM (arXiv 2604.09054v2), Table 2: FAD in VGGish on MUSDB18's test songs, of stem or mix is not said. Its text "
    "has 2.02 for HAFM's FAD_i, and its gap of .33 is not that of its two figures",
    ("FAD_i", "FAD_s", "gap"),
    {
        "Retrieval": (3.85, 3.40, 0.45),
        "SingSong-Base": (1.36, 1.17, 0.19),
        "SingSong-XL": (1.28, 0.96, 0.32),
        "HAFM-Base": (2.08, 2.30, 0.33),
    },
)
MSS_LM = _quoted(
    "MSS-LM (arXiv 2604.09371), Table 1: ViSQOL on MUSDB18-HQ, references and baselines through HCodec, so as our "
    "column of coded sounds",
    ("vocals", "drums", "bass", "other", "mean"),
    {
        "HTDemucs": (3.72, 3.88, 4.11, 3.11, 3.71),
        "BS-RoFormer": (3.72, 3.87, 4.12, 3.13, 3.71),
        "SCNet": (3.60, 3.77, 3.92, 3.19, 3.62),
        "MSS-LM": (3.55, 3.44, 4.11, 3.11, 3.55),
    },
)
MSS_LM_VOCALS = _quoted(
    "MSS-LM, Table 2: DNSMOS and NISQA of the separated vocals of the same songs, through HCodec",
    ("SIG", "BAK", "OVRL", "NISQA"),
    {
        "HTDemucs": (2.71, 3.22, 2.25, 2.19),
        "BS-RoFormer": (2.88, 3.41, 2.40, 2.47),
        "SCNet": (2.65, 2.89, 2.17, 2.33),
        "MSS-LM": (2.62, 3.02, 2.19, 2.50),
    },
)
