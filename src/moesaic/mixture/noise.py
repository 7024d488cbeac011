"""How much white Gaussian noise a picture carries, told from the picture alone.

Noise that is independent from pixel to pixel has the same energy at all frequencies, a picture has less and less of it
towards the high ones. So the patches are ranked by their low frequencies, and the noise is read from the high
frequencies of the smoothest: as many of them as look white, with no more energy at low frequencies than at high ones.
Ranking by one part of the spectrum and measuring in another keeps the choice from bending the measure.

Two corrections follow. Where even the smoothest patches hold texture, what the channels share is taken off, since the
noise of one channel is independent of the others'. And where pixels were clipped to [0, 1], each patch is known to have
lost a part of its variance that depends on its mean, so that the level before clipping can be solved for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from moesaic.errors import ArgumentError, ShapeError

PATCH = 8  # px
LOW = 8  # sum of the two frequencies of a patch's cosines, up to which they rank the patch
HIGH = 10  # and from which they measure the noise
PATCHES = 50_000  # at most, of each channel, whatever the size of the picture
FEWEST = 128  # patches that an estimate is taken from, where there are so many
LEAST, MOST = 0.01, 0.5  # share of the patches that an estimate is taken from
LEFT = 0.25  # of the variance must be left by clipping for a patch to be asked
STEPS = 12  # of the search for a level that fits its own choice of patches
SAME = 0.002  # relative change at which that search ends
STILL = 1e-11  # mean square below which a patch counts as constant
LOUDEST = 1.0  # 255 on the scale of 8 bits: beyond it clipped noise tells nothing of its level

Floats = NDArray[np.float64]


def estimate_noise(
    picture: NDArray[np.float32],  # (C, H, W), nominally in [0, 1]
) -> float:  # on the 0-255 scale
    """Standard deviation of white Gaussian noise in a picture, as a root mean square over its channels.

    It is the level before clipping where pixels were clipped to [0, 1] (some lie exactly at 0 or 1 and none beyond).
    Noise that is not white, such as a camera's after its development, reads lower than it is. A picture of one colour
    has no noise, and so has one of which more than half is without any change, as drawings are. On photographs the
    estimate is within 10 % from sigma 5 to 75; a fine texture that fills the whole picture, such as a lawn, reads as
    more noise. Below 32x32 px it rests on few pixels, and below 8x8 on differences of neighbours, which take texture
    for noise; below 3x3 it is 0.

    Args:
        picture: the colour channels; leave alpha out. Values beyond [0, 1] are taken as they are.

    Raises:
        ShapeError: the array is not (C, H, W), or empty.
        ArgumentError: a pixel is not a finite number.

    Source: ranking by low and measuring at high frequencies after Ponomarenko et al., "An automatic approach to lossy
    compression of AVIRIS images" (IGARSS 2007); the moments of clipped noise after Foi, "Clipped noisy images"
    (Signal Processing 89, 2009); the rule for how many patches, and the channels' common part, are our own.
    """
    return float(np.sqrt(np.mean(noise_by_channel(picture) ** 2)))


def noise_by_channel(
    picture: NDArray[np.float32],  # (C, H, W), nominally in [0, 1]
) -> Floats:  # (C,), on the 0-255 scale
    """The same for each channel by itself; see `estimate_noise`."""
    if picture.ndim != 3 or 0 in picture.shape:
        raise ShapeError(f"a picture is (channels, height, width) with at least one pixel, not {picture.shape}")
    if not np.isfinite(picture).all():
        raise ArgumentError("the picture holds values that are no finite numbers; noise cannot be told from them")
    picture = picture.astype(np.float32, copy=False)
    if (picture[1:] == picture[:1]).all():  # grey stored as colour: what the channels share is not texture
        return np.repeat(255.0 * _levels(picture[:1]), len(picture))
    return 255.0 * _levels(picture)


def _levels(picture: NDArray[np.float32]) -> Floats:  # (C, H, W) -> (C,), in units of the pixels
    """Standard deviation of the noise of each channel."""
    if min(picture.shape[1:]) < PATCH:
        return np.array([_from_differences(channel) for channel in picture])
    clipped = picture.min() == 0.0, picture.max() == 1.0
    channels = [_Channel.of(channel) for channel in picture]
    found = np.array([math.sqrt(np.median(np.mean(c.high**2, axis=1))) for c in channels])
    for _ in range(STEPS):
        left = [c.variance_left(level, clipped) for c, level in zip(channels, found, strict=True)]
        before = found
        found = np.array([_measure(k, channels, left, float(level)) for k, level in enumerate(before)])
        if np.all(np.abs(found - before) <= SAME * before):
            break
    return found


def _measure(k: int, channels: list[_Channel], left: list[Floats], level: float) -> float:
    """The noise of channel k from the smoothest of its patches, which a first guess of the level helps to choose."""
    own = channels[k]
    if np.mean(own.still) > 0.5:
        return 0.0
    open_ = np.flatnonzero(~own.still & (left[k] >= LEFT))
    fewest = max(FEWEST, int(LEAST * len(own.low)))
    if len(open_) < fewest:  # nearly everything is clipped: ask the least clipped
        open_ = np.argsort(np.where(own.still, 0.0, -left[k]), kind="stable")[:fewest]
        open_ = open_[(left[k][open_] > 0.0) & ~own.still[open_]]
    if not len(open_):
        return 0.0
    low = own.low[open_] / left[k][open_]
    most = min(len(open_), max(fewest, int(MOST * len(own.low))))
    smooth = np.argpartition(low, most - 1)[:most]
    smooth = smooth[np.argsort(low[smooth], kind="stable")]
    white = np.cumsum(low[smooth]) <= level * level * np.arange(1, most + 1)
    smooth = smooth[: max(fewest, int(np.count_nonzero(white)))]
    chosen = open_[smooth]
    high, share = own.high[chosen], left[k][chosen]
    variance = float(np.mean(high**2) / np.mean(share))
    common = 0.0  # of the channels
    for other in range(len(channels)):
        if other != k:
            together = np.mean(np.sqrt(share * left[other][chosen]))
            product = np.mean(high * channels[other].high[chosen])
            common += float(product / max(together, 1e-6)) / (len(channels) - 1)
    texture = max(float(np.mean(low[smooth])) - variance, 0.0)  # above what white noise has at low frequencies
    return min(math.sqrt(max(variance - min(max(common, 0.0), texture), 0.0)), LOUDEST)


@dataclass(frozen=True, slots=True, eq=False)
class _Channel:
    """The patches of a channel, by what is asked of them."""

    mean: Floats  # (P,)
    low: Floats  # (P,), mean square of the cosines at low frequencies
    high: NDArray[np.float32]  # (P, D), the cosines at high ones
    still: NDArray[np.bool_]  # (P,), whether all pixels are the same

    @classmethod
    def of(cls, channel: NDArray[np.float32]) -> _Channel:  # (H, W)
        """Overlapping patches, further apart in a large picture."""
        step = math.ceil(math.sqrt(channel.size / PATCHES))
        patches = sliding_window_view(channel, (PATCH, PATCH))[::step, ::step].reshape(-1, PATCH * PATCH)
        mean = patches.mean(axis=1, dtype=np.float64)
        waves, sums = _cosines()
        spectrum = (patches - mean[:, None].astype(np.float32)) @ waves.T
        still = np.mean(spectrum**2, axis=1) <= STILL
        low = np.asarray(np.mean(spectrum[:, (sums > 0) & (sums <= LOW)] ** 2, axis=1, dtype=np.float64))
        return cls(mean, low, np.ascontiguousarray(spectrum[:, sums >= HIGH]), still)

    def variance_left(self, level: float, clipped: tuple[bool, bool]) -> Floats:  # (P,)
        """The share of noise of this level that clipping at 0 and at 1 has left in each patch, told by its mean."""
        if not any(clipped) or level <= 0.0:
            return np.ones_like(self.mean)
        means, variances = clipped_moments(_grid(level), level, clipped)
        # The mean of a patch is itself noisy, and the variance bends with it: take off what that adds on average.
        apart = np.sqrt(3.0 * variances / PATCH**2)
        around = np.interp(means - apart, means, variances) + np.interp(means + apart, means, variances)
        variances = np.maximum(variances - (around - 2.0 * variances) / 6.0, 0.0)
        return np.minimum(np.interp(self.mean, means, variances) / level**2, 1.0)


def clipped_moments(
    mean: Floats,  # (M,)
    sigma: float,
    clipped: tuple[bool, bool],  # at 0, at 1
) -> tuple[Floats, Floats]:  # (M,), (M,)
    """Mean and variance of Gaussian noise around `mean` after clipping at 0, at 1, or at both."""
    below = -mean / sigma if clipped[0] else np.full_like(mean, -40.0)
    above = (1.0 - mean) / sigma if clipped[1] else np.full_like(mean, 40.0)
    under, over = _normal(below), 1.0 - _normal(above)
    inside = 1.0 - under - over
    first, second = (np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) for z in (below, above))
    # Moments about the unclipped mean, in units of sigma
    centre = below * under + above * over + first - second
    square = below**2 * under + above**2 * over + inside + below * first - above * second
    return mean + sigma * centre, sigma**2 * np.maximum(square - centre**2, 0.0)


def _normal(z: Floats) -> Floats:
    """The share of a normal distribution that lies below z."""
    return 0.5 + 0.5 * np.array([math.erf(value / math.sqrt(2.0)) for value in z])


def _grid(level: float) -> Floats:
    """Means before clipping, dense within five sigma of the bounds; what is clipped further out is constant."""
    beside = np.linspace(-5.0, 5.0, 161) * level
    return np.unique(np.concatenate([beside, np.linspace(0.0, 1.0, 101), 1.0 + beside]))


def _cosines() -> tuple[NDArray[np.float32], NDArray[np.int64]]:  # (64, 64), (64,)
    """The orthonormal cosines of a patch as rows, and the sum of the two frequencies of each."""
    k = np.arange(PATCH)
    line = math.sqrt(2.0 / PATCH) * np.cos(math.pi * (2 * k + 1) * k[:, None] / (2 * PATCH))
    line[0] /= math.sqrt(2.0)
    return np.kron(line, line).astype(np.float32), (k[:, None] + k).ravel()


def _from_differences(channel: NDArray[np.float32]) -> float:  # (H, W), too narrow for a patch
    """From the median of second differences along the axes that hold three pixels; 0 where none does."""
    seconds = [np.diff(channel.astype(np.float64), 2, axis=axis).ravel() for axis in (0, 1) if channel.shape[axis] > 2]
    if not seconds:
        return 0.0
    return float(np.median(np.abs(np.concatenate(seconds)))) / (0.674490 * math.sqrt(6.0))
