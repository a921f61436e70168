"""Draw the curves of a training log as an SVG picture.

    python benchmarks/curves.py runs/gpt/log.jsonl code_nats dev_nats -o curve.svg --label "nats per code"

Every named figure becomes one line over the steps; training figures are smoothed over ten logged steps.
"""

import argparse
import json
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 56, 40, 24
COLOURS = ("#3465a4", "#cc0000", "#4e9a06", "#75507b")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", type=Path)
    parser.add_argument("figures", nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--label", default="")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.log.read_text().splitlines()]
    series = {
        name: [(line["step"], line[name]) for line in lines if name in line] for name in arguments.figures
    }
    empty = [name for name, points in series.items() if not points]
    if empty:
        raise SystemExit(f"{arguments.log} logs no {empty[0]!r}.")
    smooth = {name: smoothed(points) if len(points) > 100 else points for name, points in series.items()}
    arguments.output.write_text(svg(smooth, arguments.label), encoding="utf-8")
    print(arguments.output)


def smoothed(points: list[tuple[float, float]], span: int = 10) -> list[tuple[float, float]]:
    """Running mean over ``span`` points."""
    groups = [points[max(0, end - span) : end] for end in range(1, len(points) + 1)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def svg(series: dict[str, list[tuple[float, float]]], label: str) -> str:
    """The picture, with the range of the values as its vertical axis."""
    values = [value for points in series.values() for _, value in points]
    last = max(step for points in series.values() for step, _ in points)
    low, high = min(values), max(values)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - 16) * step / last

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low or 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    for tick in range(5):
        value = low + (high - low) * tick / 4
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 16}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        step = last * tick / 4
        parts.append(f'<text x="{x(step):.1f}" y="{HEIGHT - 18}" text-anchor="middle">{step:.0f}</text>')
    parts.append(f'<text x="{LEFT}" y="14">{label}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        parts.append(
            f'<text x="{WIDTH - 20}" y="{TOP + 16 * (number + 1)}" text-anchor="end" fill="{colour}">'
            f"{name}</text>"
        )
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">step</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
