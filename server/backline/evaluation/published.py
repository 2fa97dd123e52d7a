"""What the papers have published of the same measures, to stand beside ours: quoted, on their songs, by their tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backline.measures.report import Figure, Quoted


def _quoted(source: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]]) -> Quoted:
    """None: the paper has no such figure; nor has it those that a row ends before."""
    return Quoted(
        source,
        {
            name: {column: Figure(value) for column, value in zip(columns, values, strict=False) if value is not None}
            for name, values in rows.items()
        },
    )


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
T1, T2, T3, T4 = (
    f"MGE-LDM {told}" for told in ("T1, Slakh's four", "T2, Slakh", "T3, MUSDB18 and MoisesDB", "T4, all")
)
_SLAKH_FOUR = ("bass", "drums", "guitar", "piano")
_SLAKH_REST = ("brass", "chromatic percussion", "organ", "pipe", "reed", "strings", "synth lead", "synth pad")
_NONE: tuple[None, ...] = (None,) * len(_SLAKH_REST)
MGE_EXTRACTION = _quoted(
    "MGE-LDM (arXiv 2505.23305), Table 3: log-mel L1 of extraction on Slakh2100's test songs, at 16 kHz, 250 steps",
    (*_SLAKH_FOUR, *_SLAKH_REST),
    {
        "HDemucs": (1.49, 0.90, None, None, *_NONE),
        "AudioSep": (2.36, 1.67, 3.41, 2.42, 3.13, 2.84, 3.26, 3.04, 3.15, 2.57, 2.80, 2.06),
        "MSDM": (1.90, 1.51, 3.32, 2.70, *_NONE),
        "MSG-LD": (1.20, 1.24, 2.24, 1.85, *_NONE),
        T1: (1.28, 0.66, 1.27, 1.07, 3.22, 3.07, 3.13, 3.11, 3.30, 2.77, 2.68, 2.30),
        T2: (1.68, 2.71, 2.69, 2.16, 3.43, 2.16, 1.84, 2.33, 3.07, 2.44, 2.31, 1.93),
        T3: (1.80, 0.99, 2.89, 2.01, 3.17, 2.51, 3.61, 2.13, 2.86, 2.22, 2.78, 2.22),
        T4: (1.67, 0.83, 2.61, 1.77, 3.15, 2.29, 2.22, 1.95, 2.61, 1.85, 2.71, 3.68),
    },
)
MGE_EXTRACTION_REAL = _quoted(
    "MGE-LDM, Table 3: the same on recorded songs, MUSDB18's (Mu) and MoisesDB's (Mo)",
    ("Mu vocals", "Mu bass", "Mu drums", "Mo vocals", "Mo bass", "Mo drums", "Mo guitar", "Mo piano"),
    {
        "HDemucs": (1.50, 1.99, 1.53, 0.83, 1.71, 1.10, None, None),
        "AudioSep": (2.66, 4.07, 1.89, 1.54, 3.37, 1.87, 1.31, 1.42),
        T1: (3.80, 1.91, 1.33, 5.15, 1.61, 1.10, 2.86, 2.68),
        T2: (3.55, 2.14, 2.15, 4.66, 1.86, 2.11, 2.28, 2.18),
        T3: (1.85, 1.56, 1.17, 0.98, 1.10, 0.90, 1.04, 1.58),
        T4: (1.76, 1.56, 1.13, 1.01, 1.07, 0.86, 1.02, 1.40),
    },
)
MGE_REPAINT = _quoted(
    "MGE-LDM, Table 5: log-mel L1 of extraction by T steps of U repeats, one time for all tracks, on Slakh2100",
    (*_SLAKH_FOUR, "mean of four"),
    {
        "adaptive times, T = 250": (1.68, 2.71, 2.69, 2.16, 2.31),
        "RePaint, T = 250, U = 1": (2.00, 3.20, 3.15, 2.83, 2.79),
        "RePaint, T = 125, U = 2": (1.89, 2.75, 2.91, 2.68, 2.55),
        "RePaint, T = 50, U = 5": (1.80, 2.43, 2.83, 2.55, 2.40),
        "RePaint, T = 25, U = 10": (1.77, 2.28, 2.80, 2.51, 2.34),
    },
)
MGE_IMPUTATION = _quoted(
    "MGE-LDM, Table 2: sub-FAD of what is imputed in place of stems, on Slakh2100's test songs of four",
    (*_SLAKH_FOUR, "bass and drums"),
    {
        "MSDM": (0.56, 1.06, 0.49, 0.70, 2.23),
        "MSG-LD": (0.33, 0.34, 0.49, 0.48, 0.70),
        T1: (1.02, 1.41, 1.17, 1.19, 1.15),
        T2: (2.11, 2.99, 1.99, 2.74, 4.07),
        T3: (1.43, 1.29, 3.34, 2.30, 1.85),
        T4: (1.14, 1.50, 3.75, 2.47, 2.06),
    },
)
MGE_GENERATION = _quoted(
    "MGE-LDM, Table 1: FAD of songs generated from nothing, 300 segments of each test set; prompted, for the bass, "
    "drums, guitar, and piano",
    ("Slakh's four", "prompted", "Slakh", "MUSDB18", "MoisesDB"),
    {
        "MSDM": (4.21, None, 6.04, 7.92, 7.41),
        "MSG-LD": (1.38, None, 1.55, 4.61, 4.26),
        T1: (0.47, 3.57, 1.79, 6.34, 5.90),
        T2: (3.14, 2.24, 0.63, 5.46, 4.73),
        T3: (8.80, 3.96, 6.56, 2.87, 1.59),
        T4: (6.83, 5.05, 4.22, 2.78, 1.47),
    },
)
_ACCURACIES = ("Acc@1", "Acc@10", "Acc@50")
DUOTOK = _quoted(
    "DuoTok (arXiv 2511.20224v2), Table 1: cnBPT by Qwen2-1B, log-mel distance by a scale that is not said, tags of "
    "MagnaTagATune",
    ("Hz", "kbit/s", "MTT AP", "MTT AUC", "cnBPT", "log-mel L1"),
    {
        "DAC": (75, 6.00, 0.20, 0.79, 0.76, 0.73),
        "EnCodec": (75, 6.00, 0.18, 0.76, 0.71, 0.78),
        "WavTokenizer": (40, 0.48, 0.17, 0.74, 0.61, 1.15),
        "SemantiCodec": (50, 1.30, 0.32, 0.88, 0.54, 0.98),
        "X-Codec": (50, 4.00, 0.32, 0.87, 0.56, 0.91),
        "X-Codec (YuE)": (50, 8.00, 0.32, 0.87, 0.63, 0.90),
        "MuCodec (LeVo)": (25, 0.70, 0.26, 0.84, 0.50, 1.37),
        "DuoTok": (25, 0.75, 0.35, 0.87, 0.48, 0.95),
    },
)
DUOTOK_TRACKS = _quoted(
    "DuoTok, Tables 2, 3, 5, 6 and 11: predictability of each track, and of the accompaniment where the voice is known",
    ("BPT", "cnBPT", "enBPT", "cnBPS", *_ACCURACIES, "entries in use", "entropy share"),
    {
        "X-Codec (YuE): vocals": (6.315, 0.632, 0.773, None, 0.15, 0.44, 0.70, 0.9162, 0.8165),
        "X-Codec (YuE): accompaniment": (6.303, 0.630, 0.735, None, 0.15, 0.45, 0.73, 0.9299, 0.8579),
        "X-Codec (YuE): both": (None, 0.631, 0.754, 504.0),
        "X-Codec (YuE): V>A": (5.928, 0.593, 0.691, None, 0.15, 0.46, 0.73),
        "MuCodec (LeVo): vocals": (6.793, 0.485, 0.497, None, 0.15, 0.45, 0.67, 0.9929, 0.9767),
        "MuCodec (LeVo): accompaniment": (7.242, 0.517, 0.536, None, 0.15, 0.41, 0.64, 0.9719, 0.9660),
        "MuCodec (LeVo): both": (None, 0.501, 0.516, 25.0),
        "MuCodec (LeVo): V>A": (6.836, 0.488, 0.505, None, 0.17, 0.46, 0.69),
        "DuoTok: vocals": (6.911, 0.461, 0.501, None, 0.14, 0.43, 0.67, 0.9996, 0.9188),
        "DuoTok: accompaniment": (7.586, 0.506, 0.533, None, 0.11, 0.36, 0.61, 0.9995, 0.9494),
        "DuoTok: both": (None, 0.483, 0.516, 24.0),
        "DuoTok: V>A": (6.962, 0.464, 0.489, None, 0.13, 0.41, 0.66),
    },
)
DUOTOK_MATCHED = _quoted(
    "DuoTok, Table 4 (a): the same latent diffusion decoder for both, 276,000 steps; and Fig. 3: what a voice of "
    "another song costs",
    ("vocals PESQ", "vocals STOI", "vocals log-mel L1", "accompaniment log-mel L1", "mismatch %"),
    {
        "X-Codec (YuE)": (None, None, None, None, 3.6),
        "MuCodec (LeVo)": (1.28, 0.35, 1.39, 1.85, 15.5),
        "DuoTok": (1.76, 0.55, 0.81, 1.14, 17.3),
    },
)
DUOTOK_ABLATIONS = _quoted(
    "DuoTok, Tables 9 and 10: what its training owes to its parts; log-mel distance by another scale than Table 1's",
    ("cnBPT", "vocals cnBPT", "accompaniment cnBPT", "vocals log-mel L1", "accompaniment log-mel L1"),
    {
        "DuoTok": (0.4832, 0.4607, 0.5057, 0.240, 0.219),
        "without source separation": (0.4800, 0.4469, 0.5129, 0.249, 0.223),
        "without noise": (0.5374, 0.5148, 0.5599, 0.248, 0.219),
        "without freezing": (0.6004, 0.6079, 0.5929, 0.250, 0.210),
    },
)
