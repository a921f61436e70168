"""Packing sprites from tiny archives in the layout of the real packages."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinolenta.data import sprites
from kinolenta.data.scene import STYLES, Noun
from kinolenta.data.sources import by_name
from kinolenta.data.sprites import SPRITE_PX, SpriteBank, build_sprites, decode_loop
from kinolenta.errors import DataError

PIL_Image = pytest.importorskip("PIL.Image")
pytest.importorskip("resvg_py")
BOX = '<rect x="8" y="12" width="16" height="8" fill="#ff0000"/>'


def noun(code: str, animated: bool = False) -> Noun:
    return Noun(
        code=code,
        name="кот",
        kind="walk",
        habitat="ground",
        faces="left",
        tintable=True,
        animated=animated,
        in_place_verb="",
        synonyms=(),
    )


def picture(box: tuple[int, int, int, int], side: int = 64) -> Any:
    image = PIL_Image.new("RGBA", (side, side), (0, 0, 255, 0))
    image.paste((0, 255, 0, 255), box)
    return image


def webp(*images: Any) -> bytes:
    file = io.BytesIO()
    images[0].save(
        file,
        "WEBP",
        lossless=True,
        **({"save_all": True, "append_images": images[1:], "duration": 42} if images[1:] else {}),
    )
    return file.getvalue()


def put(cache: Path, name: str, files: dict[str, bytes]) -> None:
    path = cache / "archives" / by_name(name).archive
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for inner, content in files.items():
            info = tarfile.TarInfo(f"package/{inner}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def icons(**extra: Any) -> dict[str, bytes]:
    table = {"width": 32, "height": 32, "icons": {"cat": {"body": BOX, **extra}}}
    return {
        "icons.json": json.dumps(table).encode(),
        "chars.json": json.dumps({"1f408-fe0f": "cat"}).encode(),
    }


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Archives that draw one noun, not animated, in every style."""
    monkeypatch.setattr(sprites, "nouns", lambda: {"1f408": noun("1f408")})
    put(tmp_path, "fluent-emoji-3d", {"assets/1f408-fe0f.webp": webp(picture((10, 20, 50, 40)))})
    for name in ("fluent-emoji-flat", "noto", "twemoji"):
        put(tmp_path, name, icons())
    return tmp_path


def build(cache: Path) -> SpriteBank:
    build_sprites(cache, progress=False)
    return SpriteBank.load(cache)


def test_sprite_fills_its_square_in_every_style(cache: Path) -> None:
    bank = build(cache)
    assert bank.codes == ("1f408",) and bank.styles("1f408") == STYLES
    for style in STYLES:
        sprite = bank.sprite("1f408", style)
        assert sprite.shape == (SPRITE_PX, SPRITE_PX, 4) and sprite.dtype == np.uint8
        seen = sprite[..., 3] > 128
        assert seen.any(axis=0).all(), "twice as wide as high: it touches both sides"
        assert seen.any(axis=1).sum() == SPRITE_PX // 2 and (seen == seen[::-1]).all()
        assert tuple(sprite[SPRITE_PX // 2, SPRITE_PX // 2]) == (
            (0, 255, 0, 255) if style == "fluent-3d" else (255, 0, 0, 255)
        )


def test_colour_of_transparent_pixels_does_not_bleed(cache: Path) -> None:
    sprite = build(cache).sprite("1f408", "fluent-3d")
    half_seen = (sprite[..., 3] > 20) & (sprite[..., 3] < 235)
    assert (sprite[half_seen][:, 2] < 40).all(), "the blue behind the green box must not show"


def test_icon_that_is_not_square_keeps_its_shape(cache: Path) -> None:
    put(cache, "noto", icons(height=64))
    seen = build(cache).sprite("1f408", "noto")[..., 3] > 128
    assert seen.any(axis=0).sum() == SPRITE_PX and seen.any(axis=1).sum() == SPRITE_PX // 2


def test_icon_with_a_shifted_view_box_is_drawn_whole(cache: Path) -> None:
    put(cache, "noto", icons(left=8, top=12, width=16, height=8))
    seen = build(cache).sprite("1f408", "noto")[..., 3] > 128
    assert seen.any(axis=0).sum() == SPRITE_PX and seen.any(axis=1).sum() == SPRITE_PX // 2


def test_loop_takes_every_third_frame_with_one_common_box() -> None:
    frames = decode_loop(webp(*(picture((4 * k, 0, 4 * k + 16, 32)) for k in range(7))))
    assert frames is not None and frames.shape == (3, SPRITE_PX, SPRITE_PX, 4)
    columns = [np.flatnonzero((frame[..., 3] > 128).any(axis=0)) for frame in frames]
    assert [len(column) for column in columns] == pytest.approx([38] * 3, abs=2)  # 16 of 40 px in the box
    assert columns[0][0] == 0 and columns[2][-1] == SPRITE_PX - 1


def test_still_webp_is_no_loop() -> None:
    assert decode_loop(webp(picture((0, 0, 8, 8)))) is None


def test_transparent_drawing_is_refused() -> None:
    with pytest.raises(DataError, match="fully transparent"):
        decode_loop(webp(picture((0, 0, 0, 0)), picture((8, 8, 40, 40))))  # the second is not used


def animate(cache: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sprites, "nouns", lambda: {"1f408": noun("1f408", animated=True)})
    monkeypatch.setattr(sprites, "ProcessPoolExecutor", ThreadPool)
    for name in sprites.ANIMATION_SOURCES:
        put(cache, name, {"assets/1f408.webp": content} if name.endswith("2") else {"README.md": b""})


class ThreadPool:
    """Stands in for the pool of processes, whose workers take seconds to start."""

    def __init__(self, processes: int, mp_context: Any) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(processes)

    def __enter__(self) -> Any:
        return self._pool.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._pool.__exit__(*error)


def test_animation_is_packed_beside_the_styles(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build(cache).animation("1f408") is None
    animate(cache, monkeypatch, webp(*(picture((k, 0, k + 16, 32)) for k in range(6))))
    with pytest.raises(DataError, match="packed for other nouns"):
        SpriteBank.load(cache)
    bank = build(cache)
    loop = bank.animation("1f408")
    assert loop is not None and loop.shape == (2, SPRITE_PX, SPRITE_PX, 4)
    assert bank.styles("1f408") == STYLES


def test_still_where_an_animation_is_due_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    animate(cache, monkeypatch, webp(picture((0, 0, 16, 32))))
    with pytest.raises(DataError, match="animated/1f408"):
        build_sprites(cache, progress=False)
    assert not list(cache.glob("*sprites*"))


def test_noun_without_a_drawing_is_an_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sprites, "nouns", lambda: {code: noun(code) for code in ("1f408", "1f999")})
    with pytest.raises(DataError, match=r"no drawing for.*noto/1f999"):
        build_sprites(cache, progress=False)


def test_pack_is_kept_until_it_no_longer_fits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = build_sprites(cache, progress=False)
    (cache / "archives" / by_name("noto").archive).unlink()
    assert build_sprites(cache, progress=False) == path
    path.write_bytes(b"damaged")
    with pytest.raises(DataError, match="kinolenta data fetch"):
        build_sprites(cache, progress=False)


def test_missing_pack_and_missing_drawing_are_one_sentence(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sprites\.safetensors is missing. Run 'kinolenta data fetch' first"):
        SpriteBank.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no drawing in style cubism"):
        build(cache).sprite("1f408", "cubism")
