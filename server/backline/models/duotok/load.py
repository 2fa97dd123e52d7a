"""A DuoTok pack made resident: its tables read, every tensor checked, the parts put together.

[tokenizer]  fields of DuoTokConfig; tensors `tokenizer.`…; the codebooks' tables follow from its seed
[lm]         fields of LmConfig; tensors `lm.`…; without `lm.tokens` its tables are the tokenizer's. May be left out
[renderer]   fields of RendererConfig; tensors `renderer.vocals.`… and `renderer.accompaniment.`…, and
[vae]        kind, and fields of its sizes; tensors `vae.`…: what makes sound. Both may be left out
[stream]     fields of DuoSettings; seconds as fractions ("12/25")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from backline.codecs.duotok.config import ROLES, DuoTokConfig, read_tokenizer_table
from backline.codecs.duotok.load import load as load_tokenizer
from backline.codecs.duotok.renderer import Precision, Renderer, RendererConfig, read_renderers
from backline.codecs.duotok.tokenizer import Tokenizer
from backline.codecs.duotok.windowed import WindowedRenderer
from backline.codecs.vae.config import Config as VaeConfig
from backline.codecs.vae.config import read_vae_table
from backline.codecs.vae.load import load as load_vae
from backline.codecs.vae.load import make as make_vae
from backline.models.duotok.config import LmConfig
from backline.models.duotok.lm import LanguageModel, read_network
from backline.models.duotok.stream import CAPACITY, DuoSettings, DuoStream, Painting, make_spec, problems
from backline.models.errors import PackError
from backline.models.hafm.band import Backend
from backline.models.rows import rows_of
from backline.models.stream import StreamSpec
from backline.nn.tables import TableError, read_table

Part = TypeVar("Part")


@dataclass(frozen=True)
class PackTables:
    """The tables of pack.toml, checked."""

    tokenizer: DuoTokConfig
    lm: LmConfig | None
    renderer: RendererConfig | None
    vae: VaeConfig | None
    settings: DuoSettings

    @property
    def painting(self) -> Painting | None:
        """Of the renderers, where there are any."""
        if self.renderer is None or self.vae is None:
            return None
        with torch.device("meta"):
            return Painting.of(self.renderer, make_vae(self.vae))


def load(config: Mapping[str, Any], tensors: Mapping[str, Tensor], device: str) -> DuoStream:
    """The stream of a pack: on the CPU the language model runs through the fused step, on a GPU through torch.

    Raises:
        PackError: names everything that is missing or does not fit.
    """
    return build(config, tensors, device, "torch" if torch.device(device).type == "cuda" else "bfloat16")


def build(
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: str,
    backend: Backend,
    precision: Precision = "auto",
) -> DuoStream:
    """`load` with a choice of what decodes, and of the precision of the renderers' products."""
    tables, capacity = read_tables(config), rows_of(config, CAPACITY)
    wrong: list[str] = []

    def attempt(make: Callable[[], Part]) -> Part | None:
        try:
            return make()
        except ValueError as error:
            wrong.extend(error.problems if isinstance(error, PackError | TableError) else [str(error)])
            return None

    tokenizer = attempt(lambda: load_tokenizer(config["tokenizer"], tensors).to(device))
    lm, networks, vae = None, None, None
    if tables.lm is not None and tokenizer is not None:
        lm = attempt(lambda: language_model(tables.lm, tokenizer, tensors, device, capacity + 1, backend))  # type: ignore[arg-type]
    if tables.renderer is not None:
        networks = attempt(lambda: read_renderers(config["renderer"], tensors))
        vae = attempt(lambda: load_vae(config["vae"], tensors).to(device))
        wrong += [
            f"there is no renderer of the {role}: give both tracks one" for role in set(ROLES) - set(networks or ROLES)
        ]
    if wrong or tokenizer is None:
        raise PackError(wrong, str(config.get("name", "")))
    renderers = {}
    if networks is not None and vae is not None:
        for role in ROLES:
            vectors = partial(tokenizer.vectors, role=role)
            renderers[role] = WindowedRenderer(Renderer(networks[role], vae, vectors, device, precision))
    return DuoStream(tokenizer, renderers, lm, tables.settings, device, capacity)


def language_model(
    config: LmConfig, tokenizer: Tokenizer, tensors: Mapping[str, Tensor], device: str, rows: int, backend: Backend
) -> LanguageModel:
    """Raises ValueError with everything that does not fit."""
    network = read_network(config, tensors, codebooks(tokenizer))
    return LanguageModel(config, network.to(device), rows, backend)


def codebooks(tokenizer: Tokenizer) -> Tensor:
    """[track, entry, code_dim] the vectors of a tokenizer's tokens."""
    with torch.no_grad():
        return torch.stack([tokenizer.track(role).codebook.codebook().vectors for role in ROLES])


def describe(config: Mapping[str, Any]) -> StreamSpec:
    """What `load` would serve. Raises PackError."""
    tables = read_tables(config)
    return make_spec(tables.tokenizer, tables.settings, tables.painting, tables.lm is not None)


def read_tables(config: Mapping[str, Any]) -> PackTables:
    """The tables of a pack.toml.

    Raises:
        PackError: names everything that is missing or impossible.
    """
    wrong: list[str] = []

    def read(name: str, reader: Callable[[Any], Part]) -> Part | None:
        try:
            return reader(config[name]) if name in config else None
        except TableError as error:
            wrong.extend(error.problems)
            return None

    tokenizer = read("tokenizer", read_tokenizer_table)
    lm = read("lm", lambda table: read_table(LmConfig, table, "lm"))
    renderer = read("renderer", lambda table: read_table(RendererConfig, table, "renderer"))
    vae = read("vae", read_vae_table)
    settings = read("stream", lambda table: read_table(DuoSettings, table, "stream")) or DuoSettings()
    if "tokenizer" not in config:
        wrong.append("pack.toml lacks [tokenizer]: give its sizes")
    if ("renderer" in config) != ("vae" in config):
        wrong.append("[renderer] and [vae] belong together: give both, or neither for a pack that plays no sound")
    if not wrong and tokenizer is not None:
        tables = PackTables(tokenizer, lm, renderer, vae, settings)
        wrong = mismatched(tables) or problems(tokenizer, lm, renderer, tables.painting, settings)
        if not wrong:
            return tables
    raise PackError(wrong, str(config.get("name", "")))


def mismatched(tables: PackTables) -> list[str]:
    """What keeps the renderers from playing in the VAE's latents; mostly nothing."""
    if tables.renderer is None or tables.vae is None:
        return []
    with torch.device("meta"):
        vae = make_vae(tables.vae)
    try:
        fitted = tables.renderer.fitted(vae, tables.renderer.code_dim)
    except ValueError as error:
        return [str(error)]
    return (
        [] if fitted == tables.renderer else ["[renderer] is not of the VAE's latents: use the VAE it was trained with"]
    )
