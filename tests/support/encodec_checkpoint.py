"""A checkpoint in EnCodec's official layout, written by the `encodec` package itself, with random weights."""

import warnings
from pathlib import Path

import torch

from backline.codecs.torchaudio_import import import_torchaudio


def write_official_layout(path: Path) -> Path:
    """Saves it at `path`. Codebooks are spread like the encoder's output, so that all of them matter."""
    import_torchaudio()
    from encodec import EncodecModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package uses a deprecated weight_norm
        torch.manual_seed(0)
        model = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    with torch.no_grad():
        spread = model.encoder(0.3 * torch.randn(1, 1, 32_000)).std()
        for layer in model.quantizer.vq.layers:
            layer._codebook.embed.copy_(0.6 * spread * torch.randn(1024, 128))
        # Random weights make a decoder nearly silent; this brings it to the level of music.
        model.decoder.model[15].conv.conv.weight_g.mul_(10)
    torch.save(model.state_dict(), path)
    return path
