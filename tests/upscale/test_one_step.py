"""The step from a noisy latent to a clean one, against its formula in float64."""

from __future__ import annotations

import pytest
import torch

from moesaic.errors import ArgumentError, ModelError
from moesaic.upscale.one_step import OneStep, Schedule


def schedule(prediction: str = "epsilon") -> Schedule:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return Schedule(alphas_cumprod=(1 - betas).cumprod(0).float(), prediction=prediction)


def drawn(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_last_time_is_that_of_stable_diffusion():
    step = OneStep(schedule=schedule(), mode="eps_t")
    assert step.at == 999
    assert float(step.schedule.alphas_cumprod[999]) == pytest.approx(0.00466, abs=5e-6)


def test_eps_t_equals_the_formula_in_float64():
    step, z, eps = OneStep(schedule=schedule(), mode="eps_t"), drawn(0), drawn(1)
    abar = float(step.schedule.alphas_cumprod[999])
    expected = (z.double() - (1 - abar) ** 0.5 * eps.double()) / abar**0.5
    made = step.clean(z, eps)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made.double(), expected, rtol=1e-6, atol=1e-5)
    exact = step.clean(z.double(), eps.double())
    torch.testing.assert_close(exact, expected, rtol=1e-12, atol=1e-12)


def test_half_precision_is_left_before_the_step():
    step, z, eps = OneStep(schedule=schedule(), mode="eps_t"), drawn(0), drawn(1).half()
    made = step.clean(z, eps)
    assert made.dtype == torch.float32
    assert torch.equal(made, step.clean(z, eps.float()))


def test_residual_takes_the_noise_off():
    step, z, eps = OneStep(schedule=schedule()), drawn(0), drawn(1)
    assert step.at == 1
    assert torch.equal(step.clean(z, eps), z - eps)
    assert torch.equal(step.clean(z.half(), eps.half()), z.half().float() - eps.half().float())


@pytest.mark.parametrize("time", [0, 1, 500, 999])
@pytest.mark.parametrize("mode", ["residual", "eps_t"])
def test_v_says_the_same_as_noise(time, mode):
    clean, noise = drawn(0, torch.float64), drawn(1, torch.float64)
    times = torch.full((2,), time)
    by_noise, by_v = schedule(), schedule("v_prediction")
    z = by_v.noised(clean, noise, times)
    v = by_v.goal(clean, noise, times)
    torch.testing.assert_close(by_v.clean_in(z, v, times), clean)
    torch.testing.assert_close(by_v.noise_in(z, v, times), noise)
    one = OneStep(schedule=by_noise, mode=mode, time=time).clean(z, noise)
    two = OneStep(schedule=by_v, mode=mode, time=time).clean(z, v)
    torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-7)


def test_each_latent_has_its_own_time():
    clean, noise, told = drawn(0), drawn(1), schedule()
    both = told.noised(clean, noise, torch.tensor([3, 700]))
    assert torch.equal(both[0], told.noised(clean, noise, torch.tensor([3, 3]))[0])
    assert torch.equal(both[1], told.noised(clean, noise, torch.tensor([700, 700]))[1])


def test_what_means_nothing_is_refused():
    with pytest.raises(ArgumentError, match="residual, eps_t"):
        OneStep(schedule=schedule(), mode="ddim")
    for time in (-1, 1000, 1.5, True):
        with pytest.raises(ArgumentError, match="0 to 999"):
            OneStep(schedule=schedule(), time=time)
    with pytest.raises(ModelError, match="prediction_type"):
        schedule("sample")
    for bad in (torch.tensor([[0.5]]), torch.tensor([1.5]), torch.tensor([float("nan")]), torch.zeros(0)):
        with pytest.raises(ModelError, match="alphas_cumprod"):
            Schedule(alphas_cumprod=bad)


def test_noise_cannot_be_taken_off_where_nothing_else_is():
    silent = torch.linspace(0.99, 0, 10)
    with pytest.raises(ModelError, match="mode='residual'"):
        OneStep(schedule=Schedule(alphas_cumprod=silent), mode="eps_t")
    told = OneStep(schedule=Schedule(alphas_cumprod=silent, prediction="v_prediction"), mode="eps_t")
    assert torch.equal(told.clean(drawn(0), drawn(1)), -drawn(1))
