"""The whole stage at once: what is trained on comes out again, code for code."""

import torch

from kinolenta.transformer import GPT, GPTConfig, SamplingConfig, generate, strip_loss


def test_overfits_eight_clips_and_generates_them_from_their_captions() -> None:
    torch.manual_seed(0)
    config = GPTConfig(
        n_layer=2,
        n_head=2,
        n_kv_head=1,
        d_model=64,
        d_ff=128,
        text_vocab_size=32,
        text_dim=16,
        text_len=6,
        codebook_size=64,
        code_levels=(4, 4, 4),
        grid=(2, 4, 4),
    )
    model = GPT(config)
    captions = [[5 + i, *[20] * (i % 3), 13 + i // 2] for i in range(8)]
    clips = torch.randint(0, 64, (8, 32), generator=torch.Generator().manual_seed(1))
    strip = model.layout.pack(captions, clips.view(8, 2, 4, 4))
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for _ in range(150):
        optimiser.zero_grad()
        loss = strip_loss(model, strip)
        loss.total.backward()
        optimiser.step()
        if loss.code_nats.max() < 2e-3:
            break
    greedy = generate(model, captions, seeds=[0] * 8, sampling=SamplingConfig(temperature=0))
    assert torch.equal(greedy.codes.flatten(1), clips)
    drawn = generate(model, captions, seeds=range(8), sampling=SamplingConfig(temperature=0.5))
    assert torch.equal(drawn.codes.flatten(1), clips)
    assert (drawn.log_prob.exp() > 0.8).all()
