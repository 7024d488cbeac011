"""The endless zoom in a real browser: every pixel as moesaic renders it, at any place and scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from moesaic.app.kernels import kernel_bytes
from moesaic.mixture import reference
from moesaic.mixture.model import Mixture
from tests.app.zooming import HEIGHT, REFUSED, WIDTH, Screen, agree, nasty, resting, serve, shot, text, wanted


def test_a_fitted_picture_is_as_rendered_at_three_scales(screen, fitted):
    screen.load(fitted)
    whole = min(WIDTH / fitted.width, HEIGHT / fitted.height)
    for left, top, scale in [
        ((fitted.width - WIDTH / whole) / 2, (fitted.height - HEIGHT / whole) / 2, whole),  # fit
        (40.0, 30.0, 4.0),
        (63.97, 41.03, 64.0),
        (20.3, 71.1, 64.0),
        (fitted.width - 0.08, fitted.height - 0.07, 1000.0),  # the far corner, half of it outside
        (-25.0, -15.0, 4.0),  # the near one
    ]:
        agree(screen, fitted, (left, top, scale))


def test_no_pixel_falls_between_two_cells(screen, fitted):
    screen.load(fitted)
    rng = np.random.default_rng(0)
    for scale, row in zip(rng.uniform(2.2, 3, 40), rng.integers(40, 90, 40), strict=True):
        # the line between two cells, at 48 px, meets the middle of a row of pixels
        found = screen.see((5.0, 48 - (row + 0.5) / scale, scale))
        assert found[..., 3].min() == 255, (scale, row)


def test_a_slow_machine_shows_no_holes_and_comes_to_an_end(screen):
    rng = np.random.default_rng(3)
    mixture = Mixture(
        centres=torch.from_numpy(rng.uniform(0, 140, (6000, 2)).astype(np.float32)),
        factors=torch.tensor([[0.8, 0.0, 0.8]]).repeat(6000, 1),
        log_priors=torch.zeros(6000),
        colours=torch.from_numpy(rng.uniform(0.2, 0.8, (6000, 3)).astype(np.float32)),
        width=200,
        height=140,
    )
    screen.load(mixture)
    resting(screen)
    screen.page.evaluate("() => { zoom.budget = -1 }")  # every frame is late from its beginning
    for place in ((30, 20), (170, 120), (40, 110)):
        screen.page.evaluate("() => zoom.fit()")
        screen.page.evaluate("([x, y]) => zoom.zoomBy(30, { x, y, glide: false })", place)
        for _ in range(4):
            assert shot(screen).max() < 240  # the page's white would show through a hole
        resting(screen)
    resting(screen)
    view = screen.view()
    found = screen.read()
    assert np.abs(found - wanted(mixture, (view["left"], view["top"], view["scale"]))).max() <= 1


def test_it_goes_on_beyond_its_edges_where_that_is_asked_for(screen, fitted):
    screen.load(fitted)
    for view in [(-300.0, -200.0, 0.5), (128.0, 96.0, 4.0), (5000.0, -3000.0, 2.0), (-1e5, 1e5, 0.01)]:
        agree(screen, fitted, view, beyond=True)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_nasty_kernels_are_as_rendered(screen, channels, order):
    mixture = nasty(10 * channels + order, channels=channels, order=order)
    screen.load(mixture)
    for view in [(-10.0, 0.0, 2.0), (20.2, 30.7, 16.0), (50.0, 40.0, 64.0), (33.3, 21.1, 1000.0)]:
        agree(screen, mixture, view)
    for view in [(-60.0, -45.0, 1.0), (-2000.0, 900.0, 8.0)]:
        agree(screen, mixture, view, beyond=True)


def test_one_kernel_is_one_colour_however_far_away(screen):
    mixture = nasty(3, kernels=1)
    screen.load(mixture)
    for view in [(0.0, 0.0, 2.0), (1e6, -1e6, 1.0), (1e6, 1e6, 1000.0)]:
        agree(screen, mixture, view, beyond=True)


def test_priors_far_apart_and_colours_far_out(screen):
    mixture = nasty(4)
    steep = Mixture(
        centres=mixture.centres,
        factors=mixture.factors,
        log_priors=mixture.log_priors * 30,
        colours=mixture.colours * 100 - 50,
        width=90,
        height=70,
    )
    screen.load(steep)
    for view in [(-10.0, 0.0, 2.0), (20.2, 30.7, 16.0), (50.0, 40.0, 200.0)]:
        agree(screen, steep, view, most=2)  # a level is a 36 000th of the range of colours, close to a float's digits


def test_kernels_that_are_all_far_away_are_told_apart(screen):
    """Their logits are some 400 000 below their priors, and differ by less than one."""
    wide = Mixture(
        centres=torch.tensor([[19000.0, 20000.0], [21000.0, 20700.0]]),
        factors=torch.tensor([[1e-4, 0.0, 1e-4]] * 2),
        log_priors=torch.tensor([62.85, 0.0]),  # as much as the second is nearer to the places below
        colours=torch.tensor([[0.0, 0.2, 1.0], [1.0, 0.8, 0.0]]),
        width=40000,
        height=40000,
    )
    screen.load(wide)
    for view in [(20000.0, 9e6, 0.05), (20000.0, 9e6, 30.0), (20500.0, 8.996e6, 700.0)]:
        agree(screen, wide, view, beyond=True)


LISTS = """async (text) => {
  const { readKernels } = await import("/static/zoom_kernels.js");
  const { Lists } = await import("/static/zoom_lists.js");
  const kernels = readKernels(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const lists = new Lists(kernels);
  const cells = [];
  const visit = (cell, depth) => {
    cells.push({ x0: cell.x0, y0: cell.y0, side: cell.side, bar: cell.bar, top: cell.top, list: [...cell.list] });
    if (depth) for (const child of lists.divide(cell)) visit(child, depth - 1);
  };
  visit(lists.root(lists.side, 0, 0), 4);
  visit(lists.root(lists.side, -1, 2), 2);
  return cells;
}"""


@pytest.mark.parametrize("order", [0, 1])
def test_what_lists_leave_out_weighs_next_to_nothing_anywhere_in_their_cells(screen, order):
    mixture = nasty(9 + order, order=order).to(dtype=torch.float64)
    pull = float(mixture.colours.max() - mixture.colours.min())
    made = torch.Generator().manual_seed(0)
    shortest = len(mixture)
    for cell in screen.page.evaluate(LISTS, text(kernel_bytes(mixture))):
        inside = torch.rand(64, 2, generator=made, dtype=torch.float64)
        points = torch.tensor([cell["x0"], cell["y0"]]) + cell["side"] * torch.cat([inside, inside.round()])
        logits = reference.logits(mixture.centres, mixture.factors, mixture.log_priors, points)
        best = logits.max(dim=1).values
        assert (best >= cell["bar"] - 1e-6).all()
        assert (best <= cell["top"] + 1e-6).all()
        out = torch.ones(len(mixture), dtype=torch.bool)
        out[cell["list"]] = False
        assert torch.softmax(logits, dim=1)[:, out].sum(dim=1).max() * pull <= 1 / 1024 + 1e-5
        shortest = min(shortest, len(cell["list"]))
    assert shortest < len(mixture) / 4


def test_a_screen_of_twice_the_pixels_gets_twice_the_pixels(new_page, fitted):
    page = new_page(device_scale_factor=2, reduced_motion="reduce")
    serve(page)
    screen = Screen(page)
    screen.load(fitted)
    found = screen.see((40.0, 30.0, 8.0))
    assert found.shape == (2 * HEIGHT, 2 * WIDTH, 4)
    assert np.abs(found - wanted(fitted, (40.0, 30.0, 8.0), ratio=2)).max() <= 1


def test_what_is_on_the_screen_is_what_was_drawn(screen, fitted):
    screen.load(fitted)
    resting(screen)
    for view in [None, (40.0, 30.0, 8.0)]:
        if view:
            screen.page.evaluate("(v) => zoom.show(v)", dict(zip(("left", "top", "scale"), view, strict=True)))
            resting(screen)
        seen = shot(screen)
        drawn = screen.read()
        over_white = drawn[..., :3] + 255 - drawn[..., 3:]
        assert np.abs(seen - over_white).max() <= 1


def test_what_lets_light_through_lies_over_a_checkerboard_inside_the_picture(screen):
    plain = nasty(5, kernels=1, channels=4)
    clear = Mixture(
        centres=plain.centres,
        factors=plain.factors,
        log_priors=plain.log_priors,
        colours=torch.tensor([[0.25, 0.0, 0.0, 0.5]]),
        width=90,
        height=70,
    )
    screen.load(clear)
    resting(screen)
    seen = shot(screen)
    left = (WIDTH - HEIGHT * 90 / 70) / 2
    assert (seen[:, : int(left)] == 255).all()  # outside of the picture there is the page
    inside = seen[:, math.ceil(left) : math.floor(WIDTH - left)].reshape(-1, 3)
    shades = np.unique(inside, axis=0)
    assert len(shades) == 2
    assert (shades[:, 0] - shades[:, 1] == 64).all()
    assert abs(np.ptp(shades[:, 1]) - 255 * 0.15 / 2) <= 1


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda data: b"", "too short"),
        (lambda data: data[:-1], "bytes where"),
        (lambda data: data + b"\0", "bytes where"),
        (lambda data: b"JUNK" + data[4:], "does not begin like one"),
        (lambda data: data[:4] + b"\x63" + data[5:], "version 99"),
        (lambda data: data[:8] + b"\0\0\0\0" + data[12:], "header"),
        (lambda data: data[:8] + b"\xff\xff\xff\xff" + data[12:], "bytes where"),
        (lambda data: data[:12] + b"\x07" + data[13:], "header"),
        (lambda data: data[:-4] + b"\0\0\xc0\x7f", "no numbers"),
        (lambda data: data[:-4] + b"\xff\xff\x7f\x7f", "no numbers"),
        (lambda data: data[: 32 + 16 * 4] + bytes(12 * 4) + data[32 + 28 * 4 :], "no width"),
    ],
)
def test_damaged_bytes_are_refused_with_a_sentence(screen, damage, sentence):
    message = screen.page.evaluate(REFUSED, text(damage(kernel_bytes(nasty(6, kernels=4)))))
    assert sentence in message
    assert message.endswith(".")
