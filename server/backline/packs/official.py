"""Official checkpoints: where their publishers put them, what they are known by, under which licence.

An address or a checksum stands here only where the publisher's own code has it, which `source` names; else it is empty.
Of a checksum that is the end of a file's name only the beginning is known (torch.hub checks such names as prefixes).
"""

from __future__ import annotations

from dataclasses import dataclass

from backline.packs.download import Unavailable, file_name


@dataclass(frozen=True)
class Official:
    """One file."""

    name: str  # by which it is asked for
    what: str
    file: str
    url: str  # "": unknown
    sha256: str  # all of it or its beginning; "": unknown
    license: str
    source: str  # of address and checksum
    importer: str = ""  # whose only file it is; else what it becomes a part of
    command: str = ""  # that uses it, where it is one of several files
    index: str = ""  # where the publisher lists checksums, as JSON; `file` without its ending is the key


SPLEETER = "https://github.com/deezer/spleeter/releases/download/v1.4.0"
OFFICIAL = (
    Official(
        "encodec",
        "EnCodec 24 kHz",
        "encodec_24khz-d7cc33bc.th",
        "https://dl.fbaipublicfiles.com/encodec/v0/encodec_24khz-d7cc33bc.th",
        "d7cc33bc",
        "MIT for the code; of the weights nothing is said",
        "facebookresearch/encodec, encodec/model.py: ROOT_URL, and the file's name",
        importer="encodec",
    ),
    Official(
        "hubert-large",
        "HuBERT Large, ll60k",
        "hubert_fairseq_large_ll60k.pth",
        "https://download.pytorch.org/torchaudio/models/hubert_fairseq_large_ll60k.pth",
        "",
        "MIT",
        "pytorch/audio, torchaudio/pipelines/_wav2vec2/utils.py and impl.py",
        command="backline packs import hafm --hubert {file} ...",
    ),
    Official(
        "hcodec",
        "HCodec 2.0, 48 kHz",
        "large_12.5hz_weights.pt",
        "",
        "",
        "Apache-2.0 for the code; of the weights nothing is said",
        "alibaba/unified-audio, QuarkAudio-HCodec/HCodec-2.0/audio_tokenizer.py: the file's name only",
        command="backline packs import hcodec {file} --hubert ...",
    ),
    *(
        Official(
            f"spleeter-{count}stems",
            f"Spleeter, {count} stems",
            f"{count}stems.tar.gz",
            f"{SPLEETER}/{count}stems.tar.gz",
            "",
            "MIT",
            "deezer/spleeter, spleeter/model/provider/github.py; the licence of the models in paper.md",
            importer="spleeter",
            index=f"{SPLEETER}/checksum.json",
        )
        for count in (2, 4, 5)
    ),
    Official(
        "htdemucs",
        "Hybrid Transformer Demucs, 4 stems",
        "955717e8-8726e21a.th",
        "https://dl.fbaipublicfiles.com/demucs/hybrid_transformer/955717e8-8726e21a.th",
        "8726e21a",
        "MIT",
        "facebookresearch/demucs, demucs/pretrained.py: ROOT_URL, demucs/remote/files.txt and htdemucs.yaml",
        importer="demucs",
    ),
)


def find(asked: str) -> tuple[Official, str]:
    """The checkpoint of that name and its address; of an address, the checkpoint whose file is called so there.

    Raises:
        Unavailable: there is none, or nobody knows where it is.
    """
    names = ", ".join(each.name for each in OFFICIAL)
    if "://" in asked:
        file = file_name(asked)
        for each in OFFICIAL:
            if each.file == file:
                return each, asked
        files = ", ".join(each.file for each in OFFICIAL)
        raise Unavailable(
            f"{file} is no official checkpoint: download it yourself and use `backline packs import`, or give an "
            f"address that ends in {files}"
        )
    for each in OFFICIAL:
        if each.name == asked:
            if not each.url:
                raise Unavailable(
                    f"its publisher's code says nowhere where {each.file} is: look at {each.source.partition(',')[0]} "
                    "on GitHub, and give its address instead of its name"
                )
            return each, each.url
    raise Unavailable(f"there is no official checkpoint {asked!r}: use an address, or {names}")
