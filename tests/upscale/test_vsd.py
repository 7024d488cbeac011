"""Score distillation: the gradient by its formula, who gets it, and where it leads."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from moesaic.errors import ArgumentError
from moesaic.upscale.vsd import denoiser, fitting_loss, vsd_loss
from tests.upscale.tiny_diffusion import schedule, text, unet


def latents(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_gradient_equals_the_formula(prediction):
    told, clean = schedule(prediction), latents().requires_grad_()
    with_text, without = text(1), text(2)

    def frozen(noisy, times, words):
        return 0.3 * noisy + words.mean()

    def fitted(noisy, times, words):
        return 0.1 * noisy - words.mean()

    loss = vsd_loss(clean, frozen, fitted, told, text=with_text, no_text=without, guidance=7.5, generator=seeded())
    (gradient,) = torch.autograd.grad(loss, clean)

    generator = seeded()
    times = torch.randint(20, 980, (2,), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    z = clean.detach()
    a = told.alphas_cumprod[times].view(2, 1, 1, 1)
    noisy = a.sqrt() * z + (1 - a).sqrt() * noise
    led = 0.3 * noisy + without.mean() + 7.5 * (with_text.mean() - without.mean())
    own = 0.1 * noisy - with_text.mean()
    if prediction == "epsilon":
        likely, seen = ((noisy - (1 - a).sqrt() * made) / a.sqrt() for made in (led, own))
    else:
        likely, seen = (a.sqrt() * noisy - (1 - a).sqrt() * made for made in (led, own))
    grad = (seen - likely) / (z - likely).abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(gradient, 2 * grad / grad.numel(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.detach(), (grad**2).mean(), rtol=1e-4, atol=1e-6)


def test_the_student_moves_and_the_judges_do_not():
    frozen, fitted, student = unet(0), unet(1), nn.Conv2d(4, 4, 1)
    frozen_before = [weight.clone() for weight in frozen.parameters()]
    fitted.requires_grad_(True)
    clean = student(latents())
    options = {"text": text(1), "no_text": text(2), "generator": seeded()}
    vsd_loss(clean, denoiser(frozen), denoiser(fitted), schedule(), **options).backward()
    assert bool((student.weight.grad != 0).any())
    assert all(weight.grad is None for judge in (frozen, fitted) for weight in judge.parameters())
    assert all(torch.equal(one, two) for one, two in zip(frozen.parameters(), frozen_before, strict=True))

    student.zero_grad()
    fitting_loss(student(latents()), denoiser(fitted), schedule(), text=text(1), generator=seeded()).backward()
    assert student.weight.grad is None
    assert all(weight.grad is not None for weight in fitted.parameters())
    assert all(weight.grad is None for weight in frozen.parameters())


def test_where_both_agree_nothing_moves():
    network, clean = denoiser(unet(0)), latents().requires_grad_()
    loss = vsd_loss(clean, network, network, schedule(), text=text(), no_text=text(3), guidance=1.0, generator=seeded())
    (gradient,) = torch.autograd.grad(loss, clean)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_the_student_goes_to_what_the_frozen_one_finds_likely():
    """Perfect judges of two single latents: one that the student is at, and one that it is to reach."""
    told, goal = schedule(), torch.full((2, 4, 6, 6), 0.7)
    clean = torch.zeros_like(goal).requires_grad_()

    def knows(place):
        def predict(noisy, times, words):
            a = told.alphas_cumprod[times].view(-1, 1, 1, 1)
            return (noisy - a.sqrt() * place()) / (1 - a).sqrt()

        return predict

    optimiser, generator = torch.optim.SGD([clean], lr=0.02 * clean.numel()), seeded()
    for _ in range(60):
        optimiser.zero_grad()
        vsd_loss(
            clean,
            knows(lambda: goal),
            knows(clean.detach),
            told,
            text=text(),
            no_text=text(),
            generator=generator,
        ).backward()
        optimiser.step()
    assert abs(clean.detach() - goal).max() < 0.1


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_network_has_nothing_to_fit(prediction):
    told, clean = schedule(prediction), latents()

    def perfect(noisy, times, words):
        a = told.alphas_cumprod[times].view(-1, 1, 1, 1)
        noise = (noisy - a.sqrt() * clean) / (1 - a).sqrt()
        return noise if prediction == "epsilon" else a.sqrt() * noise - (1 - a).sqrt() * clean

    assert fitting_loss(clean, perfect, told, text=text(), generator=seeded()) < 1e-5
    assert fitting_loss(clean, lambda z, t, w: 0 * z, told, text=text(), generator=seeded()) > 0.5


def test_the_same_seed_gives_the_same_loss():
    network, other = denoiser(unet(0)), denoiser(unet(1))
    values = [
        float(
            vsd_loss(
                latents(), network, other, schedule(), text=text(), no_text=text(1), generator=seeded(seed)
            ).detach()
        )
        for seed in (0, 0, 1)
    ]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("span", [(0.5, 0.5), (-0.1, 1), (0.5, 1.1), ("a", 1)])
def test_a_span_that_is_none_is_refused(span):
    with pytest.raises(ArgumentError, match="span"):
        fitting_loss(latents(), denoiser(None), schedule(), text=text(), span=span)
