"""Text to text_ids: characters per token, microseconds for one caption, megabytes a second for many.

``python benchmarks/tokenizer.py [--captions 2000] [--repeats 20] [--json FILE]`` prints a table, then a line
of JSON. Every timed text is first checked to come back exactly. Normalising is in the times, loading is not.
"""

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import tokenizers

from kinolenta.data.captions import caption
from kinolenta.data.film import takes
from kinolenta.data.sampling import sample_scene
from kinolenta.tokenizer import TextTokenizer, normalize


def world_captions(count: int) -> list[str]:
    """Captions of the training split from seeds that the vocabulary was not trained on."""
    captions = []
    for number in range(count):
        rng = random.Random(f"benchmark {number}")
        captions.append(caption(sample_scene(rng), rng))
    return captions


def timed(call: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Seconds a call: median, 20th and 80th percentile, after one warm-up."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    fifths = statistics.quantiles(seconds, n=5, method="inclusive")
    return statistics.median(seconds), fifths[0], fifths[3]


def measure(tokenizer: TextTokenizer, lines: list[str], repeats: int) -> dict[str, float | int]:
    """Figures of one set of texts. Raises SystemExit if a text does not come back."""
    rows = tokenizer.encode_batch(lines)
    for line, ids in zip(lines, rows, strict=True):
        if tokenizer.decode(ids) != normalize(line) or tokenizer.encode(line) != ids:
            raise SystemExit(f"{line!r} does not come back; nothing is timed.")
    characters, tokens = sum(len(normalize(line)) for line in lines), sum(map(len, rows))
    megabytes = sum(len(line.encode()) for line in lines) / 1e6
    single = timed(lambda: [tokenizer.encode(line) for line in lines], repeats)
    batch = timed(lambda: tokenizer.encode_batch(lines), repeats)
    return {
        "texts": len(lines),
        "chars_per_token": round(characters / tokens, 2),
        "tokens_per_text": round(tokens / len(lines), 2),
        "most_tokens": max(map(len, rows)),
        "us_per_text": round(single[0] / len(lines) * 1e6, 1),
        "us_per_text_p20": round(single[1] / len(lines) * 1e6, 1),
        "us_per_text_p80": round(single[2] / len(lines) * 1e6, 1),
        "batch_mb_per_s": round(megabytes / batch[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=2000, help="captions of the world")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the line of JSON to this file")
    options = parser.parse_args()

    start = time.perf_counter()
    tokenizer = TextTokenizer.shipped()
    load_ms = (time.perf_counter() - start) * 1e3
    sets = {
        "world captions": world_captions(options.captions),
        "film captions": [take.caption for take in takes() if take.caption],
        "longest prompt": [("рыжая кошка бежит вправо по траве, " * 200)[:4096]],
    }
    print(
        f"tokenizer  |  {platform.machine()}  python {platform.python_version()}"
        f"  tokenizers {tokenizers.__version__}  vocabulary {tokenizer.vocab_size}  loads in {load_ms:.0f} ms"
    )
    print(
        f"{'texts':16}{'n':>6}{'chars/token':>13}{'tokens':>8}{'most':>6}"
        f"{'us each [p20 p80]':>26}{'batch MB/s':>12}"
    )
    results = {}
    for name, lines in sets.items():
        row = results[name] = measure(tokenizer, lines, options.repeats)
        spread = f"{row['us_per_text']:.1f} [{row['us_per_text_p20']:.1f} {row['us_per_text_p80']:.1f}]"
        print(
            f"{name:16}{row['texts']:6}{row['chars_per_token']:13.2f}{row['tokens_per_text']:8.1f}"
            f"{row['most_tokens']:6}{spread:>26}{row['batch_mb_per_s']:12.2f}"
        )
    line = json.dumps({"benchmark": "tokenizer", "load_ms": round(load_ms, 1), "results": results})
    print(line)
    if options.json:
        options.json.write_text(line + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
