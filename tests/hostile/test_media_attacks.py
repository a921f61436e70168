"""Files made to hurt: each ends in MediaError with the file's name, and nothing else is opened."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from kinolenta.errors import MediaError
from kinolenta.media import read_image, read_video, write


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Small good files of every kind that is read."""
    folder = tmp_path_factory.mktemp("seeds")
    frames = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    for suffix in ("mp4", "webm", "gif", "png"):
        write(frames, folder / f"a.{suffix}", 8.0)
    for suffix in ("jpg", "bmp", "webp", "tiff"):
        Image.fromarray(frames[0]).save(folder / f"a.{suffix}")
    return {path.suffix[1:]: path.read_bytes() for path in folder.iterdir()}


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Truncate, flip bits, fill a stretch, insert, or put an extreme 4-byte number somewhere."""
    body = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, max(1, len(body))))
        match int(rng.integers(0, 5)):
            case 0:
                del body[at:]
            case 1:
                for place in rng.integers(0, max(1, len(body)), 8):
                    if place < len(body):
                        body[place] ^= 1 << int(rng.integers(0, 8))
            case 2:
                body[at : at + 16] = bytes([int(rng.choice([0, 255]))]) * len(body[at : at + 16])
            case 3:
                body[at:at] = rng.bytes(int(rng.integers(1, 64)))
            case 4:
                extreme = int(rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
                body[at : at + 4] = extreme.to_bytes(4, "big")
    return bytes(body)


@pytest.mark.parametrize("kind", ["mp4", "webm", "gif", "png", "jpg", "bmp", "webp", "tiff"])
def test_mutated_files_end_in_frames_or_media_error(
    tmp_path: Path, seeds: dict[str, bytes], kind: str
) -> None:
    rng = np.random.default_rng(sum(kind.encode()))
    path = tmp_path / f"a.{kind}"
    refused = 0
    for _ in range(60):
        path.write_bytes(mutated(seeds[kind], rng))
        try:
            pixels = read_image(path) if kind not in ("mp4", "webm", "gif") else read_video(path)[0]
        except MediaError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert pixels.dtype == np.uint8 and pixels.shape[-1] == 3
    assert refused > 0, "no mutation was noticed: the files are not being read"


@pytest.mark.parametrize("read", [read_image, read_video])
def test_files_that_are_not_media_say_what_they_are(
    tmp_path: Path, read: Callable[[Path], object], seeds: dict[str, bytes]
) -> None:
    (tmp_path / "text.png").write_text("рыжая кошка\n" * 900, encoding="utf-8")
    (tmp_path / "empty.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    other = "mp4" if read is read_image else "png"
    (tmp_path / "other").write_bytes(seeds[other])
    for name, words in (
        ("text.png", "looks like text"),
        ("empty.png", "is empty"),
        ("pipe.png", "not a regular file"),
        ("missing.png", "does not exist"),
        (".", "not a regular file"),
        ("other", "looks like a film" if read is read_image else "looks like a picture"),
        ("nul\0.png", "cannot be opened"),
    ):
        with pytest.raises(MediaError, match=words):
            read(tmp_path / name)


def test_sound_without_pictures_is_refused_by_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match=r"a\.mp4 has no video stream \(found: 1 audio\)"):
        read_video(path)


@pytest.mark.parametrize("kind", ["concat", "playlist"])
def test_text_cannot_open_other_files_or_the_network(
    tmp_path: Path, kind: str, seeds: dict[str, bytes]
) -> None:
    server = socket.create_server(("127.0.0.1", 0))
    visits: list[object] = []
    threading.Thread(target=lambda: visits.append(server.accept()), daemon=True).start()
    address = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
    (tmp_path / "real.mp4").write_bytes(seeds["mp4"])
    for target in ("real.mp4", str(tmp_path / "real.mp4"), address):
        path = tmp_path / "list.mp4"
        body = {
            "concat": f"ffconcat version 1.0\nfile '{target}'\n",
            "playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
        }[kind]
        path.write_text(body)
        with pytest.raises(MediaError, match="looks like text"):
            read_video(path)
    with pytest.raises(MediaError, match="does not exist"):
        read_video(address)
    server.close()
    assert not visits


def test_picture_name_with_a_pattern_reads_that_file_only(tmp_path: Path, seeds: dict[str, bytes]) -> None:
    (tmp_path / "a1.jpg").write_bytes(seeds["jpg"])
    with pytest.raises(MediaError, match="does not exist"):
        read_image(tmp_path / "a%d.jpg")
    (tmp_path / "a%d.jpg").write_bytes(b"\xff\xd8\xff" + bytes(50))
    with pytest.raises(MediaError):
        read_image(tmp_path / "a%d.jpg")


def test_many_pixels_in_few_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    Image.new("1", (5000, 5000)).save(path)
    assert path.stat().st_size < 10_000
    with pytest.raises(MediaError, match=r"5000x5000 px; at most 4096"):
        read_image(path)
    with pytest.raises(MediaError, match=r"5000x5000 px; at most 4096"):
        read_image(np.zeros((5000, 5000, 3), np.uint8))
