"""A Whisper of toy size with random weights, as CTranslate2 writes it: model.bin and tokenizer.json."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WIDTH, HEADS, BANDS, POSITIONS, LAYERS, LONGEST = 16, 2, 20, 25, 2, 24
TEXT, SPECIALS, STAMPS = 260, 105, 51  # tokens
VOCABULARY = TEXT + SPECIALS + STAMPS


def random_tensors(seed: int = 0, positions: int = POSITIONS) -> dict[str, NDArray[np.generic]]:
    """By CTranslate2's names."""
    draw = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return (draw.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)

    tensors: dict[str, NDArray[np.generic]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}/weight"], tensors[f"{name}/bias"] = normal(outputs, inputs), normal(outputs)

    def norm(name: str) -> None:
        tensors[f"{name}/gamma"], tensors[f"{name}/beta"] = 1 + normal(WIDTH), normal(WIDTH)

    def attention(name: str, widths: tuple[int, ...]) -> None:
        norm(f"{name}/layer_norm")
        for number, width in enumerate(widths):
            linear(f"{name}/linear_{number}", WIDTH, width * WIDTH)

    for half in ("encoder", "decoder"):
        tensors[f"{half}/num_heads"] = np.array(HEADS, np.int16)
        norm(f"{half}/layer_norm")
        tensors[f"{half}/position_encodings/encodings"] = normal(positions if half == "encoder" else LONGEST, WIDTH)
        for layer in range(LAYERS):
            attention(f"{half}/layer_{layer}/self_attention", (3, 1))
            if half == "decoder":
                attention(f"{half}/layer_{layer}/attention", (1, 2, 1))
            norm(f"{half}/layer_{layer}/ffn/layer_norm")
            linear(f"{half}/layer_{layer}/ffn/linear_0", WIDTH, 4 * WIDTH)
            linear(f"{half}/layer_{layer}/ffn/linear_1", 4 * WIDTH, WIDTH)
    for name, inputs in (("conv1", BANDS), ("conv2", WIDTH)):
        tensors[f"encoder/{name}/weight"] = normal(WIDTH, inputs, 3)
        tensors[f"encoder/{name}/bias"] = normal(WIDTH)
    tensors["decoder/embeddings/weight"] = normal(VOCABULARY, WIDTH)
    return tensors


def model_bytes(tensors: Mapping[str, NDArray[np.generic]], name: str = "WhisperSpec", version: int = 6) -> bytes:
    """A model.bin."""
    kinds = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}

    def text(words: str) -> bytes:
        return struct.pack("<H", len(words) + 1) + words.encode() + b"\0"

    data = struct.pack("<I", version) + text(name) + struct.pack("<II", 3, len(tensors))
    for key, values in tensors.items():
        data += text(key) + struct.pack(f"<B{values.ndim}I", values.ndim, *values.shape)
        data += struct.pack("<BI", kinds[values.dtype.name], values.nbytes) + values.tobytes()
    return data + struct.pack("<I", 1) + text("decoder/projection/weight") + text("decoder/embeddings/weight")


def tokenizer_bytes() -> bytes:
    """A tokenizer.json, as far as it is read: 256 bytes of text and four words, then the commands of `tiny.en`."""
    letters = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]
    letters += [chr(256 + n) for n in range(256 - len(letters))]
    words = {word: number for number, word in enumerate([*letters, "Ġhappy", "Ġbirthday", "Ġto", "Ġyou"])}
    commands = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|x{n}|>" for n in range(98))]
    commands += ["<|translate|>", "<|transcribe|>", "<|startofprev|>", "<|nocaptions|>", "<|notimestamps|>"]
    added = [{"id": TEXT + n, "content": command, "special": True} for n, command in enumerate(commands)]
    assert len(added) == SPECIALS
    return json.dumps({"version": "1.0", "added_tokens": added, "model": {"type": "BPE", "vocab": words}}).encode()


def write_whisper(folder: Path, seed: int = 0, positions: int = POSITIONS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(model_bytes(random_tensors(seed, positions)))
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes())
    return folder
