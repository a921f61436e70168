"""The laws of the VQGAN: causality, streaming, sizes, and that it can learn at all."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from kinolenta.decoder import VideoVQGAN, VQGANConfig
from kinolenta.decoder.attention import FrameAttention
from kinolenta.decoder.haar import HaarPatch, haar_matrix
from kinolenta.errors import ConfigError, ShapeError

SMALL = VQGANConfig(channels=(16, 24), encoder_blocks=(1, 1), decoder_blocks=(1, 1), size=32)
ATTENTIVE = VQGANConfig(
    channels=(16, 64), encoder_blocks=(1, 1), decoder_blocks=(1, 2), decoder_attention=3, size=32
)


@pytest.fixture(params=[SMALL, ATTENTIVE], ids=["convolutions", "attention"])
def vqgan(request: pytest.FixtureRequest) -> VideoVQGAN:
    torch.manual_seed(0)
    model = VideoVQGAN(request.param)
    for parameter in model.parameters():  # zero-initialised layers would hide a leak from the future
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def clips(batch: int = 2, num_frames: int = 17, size: int = 32) -> Tensor:
    return torch.rand(batch, 3, num_frames, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_haar_is_orthonormal_and_inverts_exactly() -> None:
    matrix = haar_matrix().double()
    assert torch.allclose(matrix @ matrix.T, torch.eye(4, dtype=torch.float64), atol=1e-7)
    haar, frames = HaarPatch(), clips()
    assert torch.allclose(haar.unpatch(haar.patch(frames)), frames, atol=1e-5)


def test_codes_of_a_prefix_are_the_prefix_of_the_codes(vqgan: VideoVQGAN) -> None:
    frames = clips()
    whole = vqgan.encode(frames)
    assert whole.unique().numel() > 50
    for num_frames in (1, 5, 9, 13):
        prefix = vqgan.encode(frames[:, :, :num_frames])
        assert torch.equal(prefix, whole[:, : prefix.shape[1]])


def test_latents_of_a_picture_are_those_of_a_first_frame_in_every_bit() -> None:
    torch.manual_seed(0)
    vqgan = VideoVQGAN(VQGANConfig()).eval()
    for parameter in vqgan.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    patches = vqgan.haar.patch(clips(num_frames=17, size=64))
    with torch.inference_mode():
        whole = vqgan.encoder(patches)
        for count in (1, 2, 3):
            assert torch.equal(vqgan.encoder(patches[:1, :count]), whole[:1, :count])


def test_changing_a_frame_leaves_earlier_codes_and_frames_bit_equal(vqgan: VideoVQGAN) -> None:
    frames = clips()
    changed = frames.clone()
    changed[:, :, 9] = -changed[:, :, 9]  # frame 9 lies in latent frame 3
    before, after = vqgan.encode(frames), vqgan.encode(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert not torch.equal(before[:, 3], after[:, 3])
    codes = before.clone()
    codes[:, 3] = (codes[:, 3] + 1) % SMALL.codebook_size
    first, second = vqgan.decode(before), vqgan.decode(codes)
    assert torch.equal(first[:, :, :9], second[:, :, :9])
    assert not torch.equal(first[:, :, 9:13], second[:, :, 9:13])


@pytest.mark.parametrize("pieces", [(1, 1, 1, 1, 1), (2, 3), (1, 4), (4, 1)])
def test_streamed_decode_equals_whole_decode(vqgan: VideoVQGAN, pieces: tuple[int, ...]) -> None:
    codes = vqgan.encode(clips())
    stream = vqgan.stream()
    streamed = torch.cat([stream.push(piece) for piece in codes.split(list(pieces), dim=1)], dim=2)
    whole = vqgan.decode(codes)
    assert torch.equal(streamed, whole)
    trained_as = vqgan.haar.unpatch(vqgan.decoder(vqgan.quantizer.lookup(codes))).clamp(-1, 1)
    assert torch.allclose(whole, trained_as, atol=1e-5)  # all at once, as in training


@pytest.mark.parametrize(("num_frames", "size"), [(1, 32), (5, 64), (17, 48)])
def test_shapes_round_trip(vqgan: VideoVQGAN, num_frames: int, size: int) -> None:
    codes = vqgan.encode(clips(1, num_frames, size))
    assert codes.shape == (1, 1 + (num_frames - 1) // 4, size // 8, size // 8)
    assert codes.min() >= 0 and codes.max() < SMALL.codebook_size
    assert vqgan.decode(codes).shape == (1, 3, num_frames, size, size)


def test_a_still_image_is_a_clip_of_one_frame(vqgan: VideoVQGAN) -> None:
    frames = clips()
    assert torch.equal(vqgan.encode(frames[:, :, :1])[:, 0], vqgan.encode(frames)[:, 0])


def test_overfits_one_clip() -> None:
    torch.manual_seed(0)
    model = VideoVQGAN(SMALL)
    ramp = torch.linspace(-0.8, 0.8, 32)
    frames = (ramp[:, None] * ramp[None, :]).expand(1, 3, 5, 32, 32).clone()
    frames[:, :, 2:, 8:24, 8:24] = 0.9
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = (model(frames).frames - frames).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 < 0.3 < losses[0]
    decoded = model.decode(model.encode(frames))
    assert (decoded - frames).abs().mean() < 0.06


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 16, 32, 32), "Use 13 or 17 frames"),
        ((1, 3, 5, 30, 34), "Resize to 32x32"),
        ((1, 3, 5, 4, 32), "Resize to 32x8"),
        ((3, 5, 32, 32), r"\[batch, 3, T, H, W\]"),
        ((1, 4, 5, 32, 32), r"\[batch, 3, T, H, W\]"),
    ],
)
def test_wrong_sizes_are_refused_by_the_size_wanted(
    vqgan: VideoVQGAN, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        vqgan.encode(torch.zeros(shape))


def test_codes_outside_the_codebook_are_refused(vqgan: VideoVQGAN) -> None:
    with pytest.raises(ShapeError, match="this codebook holds 0 to 4374"):
        vqgan.decode(torch.full((1, 1, 4, 4), 4375))


@pytest.mark.parametrize("levels", [(8, 8, 8, 6, 5), (7, 5, 5, 5, 5), (2, 3)])
def test_fsq_codes_are_a_bijection(levels: tuple[int, ...]) -> None:
    quantizer = VideoVQGAN(VQGANConfig(channels=(8, 8), fsq_levels=levels)).quantizer
    codes = torch.arange(quantizer.codebook_size)
    latents = quantizer.lookup(codes)
    assert latents.abs().max() <= 1 and latents.unique(dim=0).shape[0] == quantizer.codebook_size
    # The lookup is the image of the quantizer: the inverse of its squashing gives the same code back.
    inside = torch.logit((latents + 1) / 2, eps=1e-4) / 2
    assert torch.equal(quantizer(inside).codes, codes)


def test_fsq_passes_the_gradient_straight_through() -> None:
    quantizer = VideoVQGAN(SMALL).quantizer
    latents = torch.zeros(3, 5, requires_grad=True)
    quantizer(latents).latents.sum().backward()
    assert latents.grad is not None
    assert np.allclose(latents.grad.numpy(), 1.0)  # d(2 sigmoid(2x) - 1)/dx at 0


def test_bad_configurations_are_named() -> None:
    with pytest.raises(ConfigError, match="fsq_levels make"):
        VQGANConfig(fsq_levels=(64, 64, 64, 64))
    with pytest.raises(ConfigError, match="Did you mean 'fsq_levels'"):
        VQGANConfig.from_dict({"fsq_level": [7, 5]})


def test_attention_begins_as_the_identity_and_reaches_far_places_of_recent_frames_only() -> None:
    torch.manual_seed(0)
    attention = FrameAttention(64, window=3)
    x = torch.randn(1, 6, 4, 4, 64)
    assert torch.equal(attention(x), x)
    torch.nn.init.normal_(attention.out.weight)
    before = attention(x)
    x[0, 1, 0, 0] += 1
    moved = (attention(x) - before)[0, :, 3, 3].abs().amax(-1) > 0
    assert moved.tolist() == [False, True, True, True, False, False]


def test_attention_needs_whole_heads() -> None:
    with pytest.raises(ConfigError, match=r"channels\[1\] a multiple of 64; got 3 and 24"):
        VQGANConfig(channels=(16, 24), decoder_attention=3)


def test_a_clip_is_developed_by_the_weights_of_now(vqgan: VideoVQGAN) -> None:
    model, codes = copy.deepcopy(vqgan), vqgan.encode(clips(1))
    before = model.decode(codes)
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.mul_(1.2)
    after = model.decode(codes)
    assert not torch.equal(before, after) and torch.equal(before, vqgan.decode(codes))
    with torch.no_grad():
        plain = model.haar.unpatch(model.decoder(model.quantizer.lookup(codes))).clamp(-1, 1)
    torch.testing.assert_close(after, plain, atol=1e-4, rtol=1e-4)


def test_a_stream_takes_codes_of_one_size_only(vqgan: VideoVQGAN) -> None:
    codes, stream = vqgan.encode(clips(2)), vqgan.stream()
    stream.push(codes[:, :1])
    for other in (codes[:1, :1], codes[:, :1, :2]):
        with pytest.raises(ShapeError, match="this stream develops codes"):
            stream.push(other)
    for bad in (codes[:0], codes.float(), codes[:, :0]):
        with pytest.raises(ShapeError, match="codes must be whole numbers"):
            vqgan.decode(bad)
