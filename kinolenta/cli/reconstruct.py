"""``kinolenta reconstruct``: a film through the VQGAN and back, to see what the codes keep of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kinolenta.cli.output import print_result, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def reconstruct(
    clip: Annotated[Path, typer.Argument(help="Film to encode and decode: mp4, webm, gif, mkv, avi.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write: .mp4, .webm, .gif, or .png for a strip.")
    ] = Path("reconstruction.mp4"),
    num_frames: Annotated[
        int, typer.Option(min=1, max=1000, help="How much of the film, at the model's rate.")
    ] = 17,
    only: Annotated[bool, typer.Option("--only", help="Without the original at its left side.")] = False,
    model: Annotated[Path | None, typer.Option(help="Model folder; without it, the shipped demo.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print facts about the film as JSON.")] = False,
) -> None:
    """Send a film through the VQGAN and back.

    Original and reconstruction come out side by side. The film is brought to the model's frame size (cut to
    fill it) and frame rate first.
    """
    from kinolenta.media import check_output, read_video, resample, resize, write

    check_output(output, overwrite=overwrite)

    import numpy as np

    from kinolenta.checkpoint import demo_folder, load_index
    from kinolenta.pipeline import VideoPipeline

    wanted_s = num_frames / load_index(model or demo_folder()).fps
    frames, fps = read_video(clip, max_duration_s=wanted_s + 1.0)

    pipe = VideoPipeline.from_pretrained(model)
    frames = resample(frames, fps, pipe.fps)[:num_frames]
    usable = 1 + (len(frames) - 1) // pipe.time_stride * pipe.time_stride
    if usable < len(frames):
        say(
            f"{usable} of {len(frames)} frames are used: the model takes 1 + a multiple of {pipe.time_stride}"
        )
    frames = frames[:usable]
    frames = resize(frames, (pipe.height, pipe.width))
    decoded = pipe.reconstruct(frames)
    psnr_db = _psnr_db(frames, decoded)
    scale = max(1, 256 // pipe.height) if output.suffix.lower() != ".png" else 1
    shown = decoded if only else np.concatenate([frames, decoded], axis=2)
    path = write(shown, output, pipe.fps, overwrite=overwrite, scale=scale)
    say(f"PSNR {'infinite' if psnr_db is None else f'{psnr_db:.2f} dB'} over {len(frames)} frames")
    print_result(path, {"psnr_db": psnr_db, "frames": len(frames), "fps": pipe.fps}, as_json=as_json)


def _psnr_db(original: "NDArray[np.uint8]", decoded: "NDArray[np.uint8]") -> float | None:
    """Peak signal to noise ratio over all 8-bit values together; None if there is no noise at all."""
    import numpy as np

    squared = float(np.mean((original.astype(np.float64) - decoded.astype(np.float64)) ** 2))
    return None if squared == 0 else float(10 * np.log10(255.0**2 / squared))
