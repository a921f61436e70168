"""What each part of the GPT's training is worth: small models, the same steps, one part left out.

    python benchmarks/ablation.py --steps 300 --json ablation.json

Needs the encoded clips of the README (runs/codes_last, codes_long, codes_dev, codes_long_dev). Every model
begins with the same weights and takes as many steps; a task that is left out leaves its rows to plain ones.
All are measured alike, on held-out clips: nats a code of plain rows, of given-first ones, of later windows;
nats a text_id of captions and answers. Each model is small and hardly trained: read the differences, not
the values. The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from kinolenta.checkpoint import load_into, load_weights
from kinolenta.data.codes import open_shard
from kinolenta.errors import KinolentaError
from kinolenta.files import check_writable, write_json
from kinolenta.tokenizer import TextTokenizer
from kinolenta.training.loop import OptimConfig
from kinolenta.training.rows import MixtureConfig, Rows
from kinolenta.training.transformer import TransformerTrainConfig, evaluate, train
from kinolenta.transformer import GPT, GPTConfig

MIXTURE = MixtureConfig(ask=0.15, given=0.15, later=0.15, glances=32, caption_dropout=0.25)
MEASURES = ("dev_nats", "dev_given", "dev_later", "dev_read", "dev_ask", "dev_glance", "dev_look")


def variants(whole: TransformerTrainConfig) -> dict[str, TransformerTrainConfig]:
    """The whole recipe, and the same without each of its parts."""

    def mixture(**changes: float) -> TransformerTrainConfig:
        return replace(whole, mixture=replace(MIXTURE, **changes))

    return {
        "everything": whole,
        "no given parts": mixture(given=0.0),
        "no later windows": mixture(later=0.0),
        "no glances": mixture(glances=0),
        "no questions among the clips": mixture(ask=0.0),
        "no wrong codes": replace(whole, corruption=0.0),
        "no drafts": replace(whole, draft_window=0),
        "plain rows alone": mixture(given=0.0, later=0.0, glances=0, ask=0.0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train with one part left out.")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument(
        "--codes", type=Path, default=Path("runs"), help="folder that holds the encoded clips"
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    folders = {
        name: str(options.codes / folder)
        for name, folder in {
            "codes": "codes_last",
            "dev_codes": "codes_dev",
            "long_codes": "codes_long",
            "long_dev_codes": "codes_long_dev",
        }.items()
    }
    model = GPTConfig(n_layer=4, n_head=3, n_kv_head=3, d_model=192, d_ff=512, text_dim=96)
    whole = TransformerTrainConfig(
        **folders,  # type: ignore[arg-type]
        model=model,
        optim=OptimConfig(
            learning_rate=3e-3,
            muon_learning_rate=5e-3,
            muon_prefixes=("blocks.",),
            warmup_steps=30,
            final_fraction=0.03,
            ema_decay=0.97,
            save_every=1000,
        ),
        batch=options.batch,
        steps=options.steps,
        mixture=MIXTURE,
        corruption=0.3,
        draft_window=32,
        text_weight=0.7,
        dtype=options.dtype,
        eval_every=options.steps,
        eval_clips=16,
        seed=11,
    )
    found: dict[str, dict[str, float]] = {}
    try:
        if options.json:
            check_writable(options.json, KinolentaError, overwrite=True)
        dev = Rows(
            open_shard(Path(whole.dev_codes)),
            TextTokenizer.shipped(),
            model,
            MIXTURE,
            longer=open_shard(Path(str(whole.long_dev_codes))),
            seed=11,
        )
        print(f"{'':<30}" + "".join(f"{name.removeprefix('dev_'):>9}" for name in MEASURES), flush=True)
        for name, config in variants(whole).items():
            with tempfile.TemporaryDirectory() as folder:
                trained, state = load_weights(train(config, Path(folder) / "run"), GPTConfig)
            network = GPT(trained)
            load_into(network, state, name)
            measured = evaluate(network.eval(), dev, 64)
            found[name] = {measure: round(measured[measure], 4) for measure in MEASURES}
            print(f"{name:<30}" + "".join(f"{value:>9.3f}" for value in found[name].values()), flush=True)
    except KinolentaError as error:
        raise SystemExit(f"error: {error}") from error
    facts = {"steps": options.steps, "batch": options.batch, "dtype": options.dtype}
    result = {"benchmark": "ablation", **facts, "torch": torch.__version__, "models": found}
    if options.json:
        write_json(options.json, result, KinolentaError)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
