"""What every fast backend promises, held against the float64 reference in value and in each gradient."""

from __future__ import annotations

from dataclasses import replace

import torch

from moesaic.mixture import reference
from moesaic.mixture.render import render

# what fast backends promise against the float64 reference: absolute for the picture, in relative norm for gradients
TOLERANCE = {"picture": 1e-4, "centres": 1e-3, "factors": 1e-3, "log_priors": 1e-3, "colours": 1e-3, "slopes": 1e-3}
COSINE = 1 - 1e-6  # between gradients
NOTICED = 1e-2  # rows whose gradient exceeds this share of the largest must not be dropped
SINGLE = torch.float32


def gradients(mixture, draw, slope):
    """The picture, and dL/dparameter by name for the loss sum(slope * picture)."""
    leaves = replace(mixture, **{k: t.detach().clone() for k, t in mixture._tensors().items()}).requires_grad_()
    picture = draw(leaves)
    picture.backward(slope.to(picture))
    return picture.detach().cpu().double(), {name: t.grad.cpu().double() for name, t in leaves._tensors().items()}


def check(mixture, *, size=None, region=None, floor=0.0, stride=1, backend="cpu", device="cpu"):
    """Compare a backend with the reference in value and every gradient; mixture is float64, exact in float32.

    Linear experts reach values far beyond 1, and the picture's tolerance grows with them. `floor`, a share of what a
    gradient would be if nothing cancelled, is granted where gradients vanish by cancellation. With a
    stride, the loss sees only every so many pixels, which spares the reference its time.
    """
    width, height = size or (mixture.width, mixture.height)
    random = torch.Generator().manual_seed(1)
    slope = torch.randn(mixture.channels, height, width, generator=random, dtype=torch.float64)
    slope *= (torch.arange(height * width) % stride == 0).reshape(height, width)
    points = reference.pixel_points((width, height), region or (0, 0, mixture.width, mixture.height))[::stride]
    _, wanted = gradients(mixture, lambda m: reference.evaluate(m, points).T, slope.flatten(1)[:, ::stride])
    true = reference.render(mixture, size=size, region=region)
    single = mixture.to(dtype=SINGLE, device=device)
    drawn, found = gradients(single, lambda m: render(m, size=size, region=region, backend=backend), slope)
    assert drawn.shape == (mixture.channels, height, width)
    brightest = max(1.0, float(true.abs().max()))
    assert float((drawn - true).abs().max()) <= TOLERANCE["picture"] * brightest
    offset = float((mixture.centres.abs() + torch.tensor([mixture.width, mixture.height])).max())  # px, at most
    sharpest = float(mixture.factors.abs().max())
    unit = {"centres": sharpest**2 * offset, "factors": sharpest * offset**2, "slopes": offset}
    natural = brightest * float(slope.abs().sum())
    for name, gradient in wanted.items():
        error, size_of = float((found[name] - gradient).norm()), float(gradient.norm())
        allowed = floor * unit.get(name, 1.0) * natural
        assert error <= TOLERANCE[name] * size_of + allowed, f"{name}: {error:.3g} of {size_of:.3g}"
        if floor:
            continue
        cosine = float((found[name] * gradient).sum()) / (size_of * float(found[name].norm()))
        assert cosine >= COSINE, f"{name}: cosine {cosine}"
        rows = gradient.flatten(1) if gradient.ndim > 1 else gradient[:, None]
        seen = found[name].reshape(rows.shape)
        noticed = rows.norm(dim=1) > NOTICED * rows.norm(dim=1).max()
        ratio = (seen.norm(dim=1) / rows.norm(dim=1))[noticed]
        assert bool(((ratio > 0.95) & (ratio < 1.05)).all()), f"{name}: rows dropped or doubled"
