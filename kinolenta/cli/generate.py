"""``kinolenta generate``: a sentence to a film."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from kinolenta.cli.output import print_result, progress_bar

if TYPE_CHECKING:
    from kinolenta.media.geometry import Policy

MAX_STDIN_CHARS = 1_000_000
MAX_DIGITS = 9


def generate(
    prompt: Annotated[
        str | None, typer.Argument(help="What happens in the clip, in Russian; - reads it from stdin.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .mp4, .webm, .gif, or .png for a strip.")
    ] = Path("clip.mp4"),
    image: Annotated[Path | None, typer.Option(help="Picture to start from: the first frame.")] = None,
    rows: Annotated[
        int | None, typer.Option(help="Keep only so many rows of codes from the top of --image.")
    ] = None,
    last_image: Annotated[Path | None, typer.Option(help="Picture to end with: the last frame.")] = None,
    keyframe: Annotated[
        list[str] | None,
        typer.Option(metavar="N=PICTURE", help="Picture of frame N: 0, 4, 8, 12 or 16. Repeatable."),
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Film to go on from.")] = None,
    video_frames: Annotated[
        int | None,
        typer.Option(help="Keep only so many frames of --video: 1, 5, 9, 13, ... (of 7 the first 5)"),
    ] = None,
    border: Annotated[
        int | None, typer.Option(help="Keep only so many rows and columns of codes at the sides of --video.")
    ] = None,
    resize_policy: Annotated[
        str, typer.Option(help="How pictures are brought to the frame size: cover, contain or exact.")
    ] = "cover",
    keep_pixels: Annotated[
        bool, typer.Option("--keep-pixels", help="Show what was given as it was, not as the codes keep it.")
    ] = False,
    num_frames: Annotated[int | None, typer.Option(help="Length of the clip: 1, 5, 9, 13, 17, ...")] = None,
    seed: Annotated[
        int, typer.Option(help="Another number, another clip; the same number, the same clip.")
    ] = 0,
    guidance_scale: Annotated[
        float | None, typer.Option(help="How closely to follow the prompt; 1 is no guidance.")
    ] = None,
    guidance_frames: Annotated[
        int | None,
        typer.Option(help="Guidance leads so many first frames: 1, 5, 9, ...; the rest follows them."),
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What guidance shall lead away from.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Below 1: safer draws; above 1: wilder.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k likeliest codes only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw among the likeliest codes of this total only.")
    ] = None,
    first_frame_temperature: Annotated[
        float | None, typer.Option(help="Temperature of the first frame, if it shall differ.")
    ] = None,
    first_frame_top_k: Annotated[int | None, typer.Option(help="The same for --top-k.")] = None,
    first_frame_top_p: Annotated[float | None, typer.Option(help="The same for --top-p.")] = None,
    best_of: Annotated[
        int, typer.Option(help="Draw so many candidates, keep the one that the model finds to fit best.")
    ] = 1,
    decoding: Annotated[
        str, typer.Option(help="parallel or sequential (the same clip, slower); preview: faster and worse.")
    ] = "parallel",
    window: Annotated[
        int | None,
        typer.Option(help="Codes that a pass of parallel decoding looks at, 1 to 64; the clip is the same."),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(help="Numbers to draw with: float32, bfloat16 or int8; each makes clips of its own."),
    ] = "float32",
    unconditional: Annotated[
        bool, typer.Option("--unconditional", help="Leave everything to the model; takes no prompt.")
    ] = False,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Cut a prompt of too many tokens instead of refusing it.")
    ] = False,
    model: Annotated[Path | None, typer.Option(help="Model folder; without it, the shipped demo.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print facts about the clip as JSON.")] = False,
) -> None:
    """Make a clip from a Russian sentence."""
    if (prompt is None) != unconditional:
        raise typer.BadParameter(
            "--unconditional takes no prompt; leave one of the two out."
            if unconditional
            else "say in Russian what happens in the clip, or pass --unconditional."
        )
    from kinolenta.errors import ConfigError, require
    from kinolenta.prompt import check_prompt

    # Everything that can be refused is refused before the seconds that loading takes.
    if prompt is not None:
        prompt = check_prompt(_from_stdin() if prompt == "-" else _decoded(prompt))
    away = None if negative_prompt is None else check_prompt(_decoded(negative_prompt), "negative_prompt")
    from kinolenta.media import check_output, read_image, read_video

    check_output(output, overwrite=overwrite)
    first_frame = None if image is None else read_image(image)
    last_frame = None if last_image is None else read_image(last_image)
    pictures = {}
    for number, path in map(_keyframe, keyframe or []):
        require(number not in pictures, ConfigError, "--keyframe {} is given twice.", number)
        pictures[number] = read_image(path)
    if video is not None:
        read_video(video, max_frames=1)

    from kinolenta.pipeline import VideoPipeline

    start_s = time.perf_counter()
    pipe = VideoPipeline.from_pretrained(model, precision=precision)
    loaded_s = time.perf_counter()
    with progress_bar("generating") as progress:
        clip = pipe(
            prompt,
            image=first_frame,
            rows=rows,
            last_image=last_frame,
            keyframes=pictures or None,
            video=video,
            video_frames=video_frames,
            border=border,
            resize_policy=cast("Policy", resize_policy),  # the pipeline refuses other words
            keep_pixels=keep_pixels,
            num_frames=num_frames,
            seed=seed,
            guidance_scale=guidance_scale,
            guidance_frames=guidance_frames,
            negative_prompt=away,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            first_frame_temperature=first_frame_temperature,
            first_frame_top_k=first_frame_top_k,
            first_frame_top_p=first_frame_top_p,
            best_of=best_of,
            decoding=decoding,
            window=window,
            truncate=truncate,
            progress=progress,
        )
    done_s = time.perf_counter()
    path = clip.save(output, overwrite=overwrite)
    facts = {
        "prompt": clip.prompt,
        "seed": clip.seed,
        "candidate": clip.candidate,
        "frames": len(clip),
        "fps": clip.fps,
        "height": clip.frames.shape[1],
        "width": clip.frames.shape[2],
        "log_prob": clip.log_prob,
        "score": clip.score,
        "text_log_prob": clip.text_log_prob,
        "passes": clip.passes,
        "precision": precision,
        "load_s": round(loaded_s - start_s, 3),
        "generate_s": round(done_s - loaded_s, 3),
    }
    print_result(path, facts, as_json=as_json)


def _keyframe(argument: str) -> tuple[int, Path]:
    from kinolenta.errors import ConfigError, require

    number, separator, path = argument.partition("=")
    require(
        bool(separator and path) and number.isdecimal() and len(number) <= MAX_DIGITS,
        ConfigError,
        "--keyframe {!r} is not of the form N=PICTURE, such as 16=last.png.",
        argument,
    )
    return int(number), Path(path)


def _decoded(argument: str) -> str:
    """The argument as it was typed; bytes that are not UTF-8 reach Python as lone surrogates."""
    from kinolenta.errors import PromptError

    try:
        argument.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError("The prompt is not UTF-8 text.") from error
    return argument


def _from_stdin() -> str:
    import sys

    from kinolenta.errors import PromptError

    if sys.stdin is None:
        raise PromptError("The prompt is to be read from stdin, which is closed.")
    try:
        text = sys.stdin.read(MAX_STDIN_CHARS).strip()
        text.encode("utf-8")  # under some locales, bytes that are no text arrive as lone surrogates
        return text
    except UnicodeError as error:
        raise PromptError("The prompt on stdin is not UTF-8 text.") from error
