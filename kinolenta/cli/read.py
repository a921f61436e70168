"""``kinolenta caption``, ``answer`` and ``score``: a film read back into Russian."""

import json
from pathlib import Path
from typing import Annotated

import typer

Film = Annotated[Path, typer.Argument(help="Film to read: mp4, webm, gif, mkv, avi; its first two seconds.")]
Model = Annotated[Path | None, typer.Option(help="Model folder; without it, the shipped demo.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def caption(clip: Film, model: Model = None, as_json: AsJson = False) -> None:
    """Say in Russian what a film shows."""
    from kinolenta.media import read_video

    read_video(clip, max_frames=1)  # what is no film is refused before the model is loaded
    from kinolenta.pipeline import VideoPipeline

    text = VideoPipeline.from_pretrained(model).caption(clip)
    print(json.dumps({"path": str(clip), "caption": text}, ensure_ascii=False) if as_json else text)


def answer(
    clip: Film,
    question: Annotated[str, typer.Argument(help="Question about it in Russian: кто это? куда он бежит?")],
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Answer a Russian question about a film."""
    from kinolenta.media import read_video
    from kinolenta.prompt import check_prompt

    check_prompt(question, "question")
    read_video(clip, max_frames=1)
    from kinolenta.pipeline import VideoPipeline

    text = VideoPipeline.from_pretrained(model).answer(clip, question)
    facts = {"path": str(clip), "question": question, "answer": text}
    print(json.dumps(facts, ensure_ascii=False) if as_json else text)


def score(
    clip: Film,
    texts: Annotated[list[str], typer.Argument(help="Russian sentences to compare with it.")],
    model: Model = None,
    as_json: AsJson = False,
) -> None:
    """Say how well Russian sentences fit a film, the best first.

    gain is log p(film | text) - log p(film), and what the order goes by; text is log p(text | film). Both
    are nats, and the higher the better.
    """
    from kinolenta.media import read_video
    from kinolenta.prompt import check_prompt

    read_video(clip, max_frames=1)
    for text in texts:
        check_prompt(text, "text")
    from kinolenta.pipeline import VideoPipeline

    scores = VideoPipeline.from_pretrained(model).score(clip, texts)
    ranked = sorted(zip(scores, texts, strict=True), key=lambda pair: -pair[0].gain)
    if as_json:
        rows = [{"text": text, **found._asdict()} for found, text in ranked]
        print(json.dumps({"path": str(clip), "scores": rows}, ensure_ascii=False))
        return
    for found, text in ranked:
        print(f"{found.gain:+9.2f}  {found.text_log_prob:9.2f}  {text}")
