"""What the model reads in clips, and what its own scores are worth.

    python benchmarks/reading.py --clips 100 --asked 400

Held-out scenes are rendered and encoded. The model writes a caption of each and answers questions about it,
in wordings of training and in others; rules decide what a caption names (``kinolenta.evaluation.wording``),
and beside each share stands what the best constant answer would reach. Every text is scored against every
clip by log p(text | clip), less what the text scores on average. The last line is JSON.
"""

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a checkout need not be installed

from quality import real_clips  # beside this file

from kinolenta.data.questions import KINDS, Question, kinds_of, question
from kinolenta.data.scene import Scene
from kinolenta.evaluation.quality import Share, held_out
from kinolenta.evaluation.retrieval import centred, recall
from kinolenta.evaluation.wording import said_background, said_motion
from kinolenta.pipeline import VideoPipeline
from kinolenta.transformer import Reading

SHOWN = 12  # captions that are printed
ASKED = 32  # questions that are answered side by side
LONGEST_ANSWER = 24  # text_ids


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what the model's scores find.")
    parser.add_argument("--model", type=Path, help="model folder; without it, the shipped demo")
    parser.add_argument("--split", default="T1", choices=("dev", "T1", "T2", "T4"))
    parser.add_argument("--clips", type=int, default=100, help="clips to read, and texts to match (100)")
    parser.add_argument("--asked", type=int, help="clips to ask about, the same and more (as many)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.asked = max(options.clips, options.asked or 0)
    return options


def captioning(
    pipe: VideoPipeline, codes: torch.Tensor, scenes: list[Scene], captions: list[str]
) -> dict[str, Any]:
    """How many captions that the model writes name the motion and the background."""
    reading = Reading(pipe.transformer, codes)
    written = [pipe.tokenizer.decode(ids) for ids in reading.write(pipe.transformer.config.text_len)]
    for text, own in zip(captions[:SHOWN], written, strict=False):
        print(f"  {text}\n    -> {own}")
    pairs = list(zip(written, scenes, strict=True))
    return {
        "motion": shares([(said_motion(text), scene.motion) for text, scene in pairs]),
        "background": shares([(said_background(text), scene.background) for text, scene in pairs]),
    }


def answering(pipe: VideoPipeline, codes: torch.Tensor, scenes: list[Scene], *, held: bool) -> dict[str, Any]:
    """How many answers are right, by kind of question. Motions may be named in any words, all else in one."""
    asked: list[tuple[int, Question]] = []
    for number, scene in enumerate(scenes):
        rng = random.Random(f"reading/{number}")
        asked += [(number, question(scene, rng, kind, held=held)) for kind in kinds_of(scene)]
    given: list[str] = []
    for start in range(0, len(asked), ASKED):
        some = asked[start : start + ASKED]
        left = [pipe.tokenizer.encode(one.text) for _, one in some]
        reading = Reading(pipe.transformer, codes[[number for number, _ in some]], left)
        given += [pipe.tokenizer.decode(ids) for ids in reading.write(LONGEST_ANSWER)]
    found: dict[str, list[tuple[str | None, str]]] = {kind: [] for kind in KINDS}
    for (number, one), answer in zip(asked, given, strict=True):
        is_motion = one.kind == "motion"
        said = answer.strip(" .").lower()  # the tokenizer knows no capitals
        pair = (said_motion(answer), scenes[number].motion) if is_motion else (said, one.answer.lower())
        found[one.kind].append(pair)
    return {kind: shares(pairs) for kind, pairs in found.items() if pairs}


def shares(pairs: list[tuple[str | None, str]]) -> dict[str, Any]:
    """How many said what is so, and how many the commonest answer would have got right."""
    commonest = Counter(so for _, so in pairs).most_common(1)[0][1]
    right = Share(sum(said == so for said, so in pairs), len(pairs))
    return {**right.to_dict(), "constant": round(commonest / len(pairs), 4)}


def matching(pipe: VideoPipeline, codes: torch.Tensor, captions: list[str]) -> dict[str, Any]:
    """Recall both ways."""
    text_ids = [pipe.tokenizer.encode(text) for text in captions]
    rows = []
    for clip in tqdm(codes, desc="matching", file=sys.stderr):
        reading = Reading(pipe.transformer, clip[None])
        rows.append(reading.log_probs(text_ids, [0] * len(text_ids)).numpy())
    scores = centred(np.stack(rows))
    return {
        f"{name} at {at}": round(recall(matrix, at), 4)
        for name, matrix in (("text of clip", scores), ("clip of text", scores.T))
        for at in (1, 10)
    }


def main() -> None:
    options = parse()
    pipe = VideoPipeline.from_pretrained(options.model)
    scenes, texts = held_out(options.asked, split=options.split, seed=options.seed)
    all_codes = torch.stack([pipe.encode(clip) for clip in real_clips(scenes, pipe.height)])
    seen, texts, codes = scenes[: options.clips], texts[: options.clips], all_codes[: options.clips]
    print(f"reading  |  {options.split}, seed {options.seed}, torch {torch.__version__}\n")
    captioned = captioning(pipe, codes, seen, texts)
    tables = {"captions": captioned}
    tables["answers"] = answering(pipe, all_codes, scenes, held=False)
    tables["answers to other wordings"] = answering(pipe, all_codes, scenes, held=True)
    for title, table in tables.items():
        print(f"\n{title:<28}right, % [95 %]         best constant, %")
        for name, row in table.items():
            share = Share(row["right"], row["count"])
            print(f"  {name:<22} {share}  of {share.count:<6} {100 * row['constant']:6.1f}")
    found = matching(pipe, codes, texts)
    print(f"\nof {options.clips}, chance {1 / options.clips:.0%} at 1 and {10 / options.clips:.0%} at 10")
    for name, value in found.items():
        print(f"  {name:<22}{value:7.1%}")
    print(json.dumps({"benchmark": "reading", "clips": options.clips, **tables, **found}))


if __name__ == "__main__":
    main()
