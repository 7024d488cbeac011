"""The `Picture`: pixels with the depth, profile and metadata that have to survive beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from moesaic.errors import ArgumentError, LimitError, PictureError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Picture:
    """Pixels with what has to survive beside them: the depth of their container, ICC profile, EXIF and XMP.

    Colours are as stored: in the space of the ICC profile (sRGB where there is none), gamma-encoded, and not
    premultiplied by alpha.

    Raises:
        ShapeError: the pixels are not (H, W, C) with 1 to 4 channels, or there are none.
        ArgumentError: the pixels are not float32 in [0, 1], or the depth is neither 8 nor 16.
    """

    pixels: NDArray[np.float32]  # (H, W, C) in [0, 1]; C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    depth: int = 8  # bits a channel of the container: 8 or 16
    icc: bytes | None = None  # ICC profile
    exif: bytes | None = None  # starts with b"Exif\0\0"; orientation reset to 1, no thumbnail
    xmp: bytes | None = None

    def __post_init__(self) -> None:
        _check_shape(self.pixels)
        if self.pixels.dtype != np.float32:
            raise ArgumentError(f"the pixels of a Picture are float32, not {self.pixels.dtype}; see read_picture")
        _check_range(self.pixels)
        if self.depth not in (8, 16):
            raise ArgumentError(f"a picture has a depth of 8 or 16 bits a channel, not {self.depth}")

    def __repr__(self) -> str:
        kind = ("grey", "grey and alpha", "RGB", "RGB and alpha")[self.channels - 1]
        carried = "".join(f", {name}" for name in ("icc", "exif", "xmp") if getattr(self, name))
        return f"Picture({self.width}x{self.height}, {kind}, {self.depth} bits{carried})"

    @property
    def height(self) -> int:
        """Number of rows H, px."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Number of columns W, px."""
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        """Number of channels C, alpha included: 1 to 4."""
        return int(self.pixels.shape[2])

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)

    def premultiplied(self) -> NDArray[np.float32]:  # (H, W, C), a new array
        """The pixels with colours multiplied by alpha, the form in which they may be resampled or mixed."""
        if not self.has_alpha:
            return self.pixels.copy()
        alpha = self.pixels[..., -1:]
        return np.concatenate([self.pixels[..., :-1] * alpha, alpha], axis=2)

    @classmethod
    def from_premultiplied(
        cls,
        pixels: NDArray[Any],  # (H, W, C), colours multiplied by alpha where C = 2 or 4
        *,
        depth: int = 8,
        icc: bytes | None = None,
        exif: bytes | None = None,
        xmp: bytes | None = None,
    ) -> Picture:
        """A picture from premultiplied pixels; values beyond [0, 1] are clipped, and colour is 0 where alpha is.

        Raises:
            ShapeError: the pixels are not (H, W, C) with 1 to 4 channels, or there are none.
            ArgumentError: a pixel is not a number.
        """
        _check_shape(pixels)
        clipped = np.clip(pixels, 0, 1, dtype=np.float32, casting="unsafe")
        if pixels.shape[2] in (2, 4):
            colour, alpha = clipped[..., :-1], clipped[..., -1:]
            shown = np.divide(colour, alpha, out=np.zeros_like(colour), where=alpha > 0)
            clipped = np.concatenate([np.minimum(shown, 1, out=shown), alpha], axis=2)
        return cls(pixels=clipped, depth=depth, icc=icc, exif=exif, xmp=xmp)

    def with_depth(self, depth: Literal[8, 16]) -> Picture:
        """The same picture bound for a container of another depth; values are rounded only when it is written."""
        return replace(self, depth=depth)

    def without_metadata(self) -> Picture:
        """The same pixels without ICC profile, EXIF and XMP."""
        return replace(self, icc=None, exif=None, xmp=None)

    def over(self, background: float | Sequence[float] = 1.0) -> Picture:
        """The picture laid over a plain background, without alpha.

        Args:
            background: one value for all colour channels or one for each, in [0, 1]; 1 is white.

        Raises:
            ArgumentError: the background does not fit the colour channels, or lies outside [0, 1].
        """
        if not self.has_alpha:
            return self
        plain = np.asarray(background, np.float32)
        if plain.shape not in ((), (self.channels - 1,)):
            raise ArgumentError(f"the background has {plain.size} values for {self.channels - 1} colour channels")
        _check_range(plain)
        alpha = self.pixels[..., -1:]
        return replace(self, pixels=np.clip(self.pixels[..., :-1] * alpha + plain * (1 - alpha), 0, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """All that a picture is but its pixels; what is known of one of which only bands of rows are in memory."""

    width: int  # px
    height: int  # px
    channels: int  # 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha
    depth: int = 8  # bits a channel of the container: 8 or 16
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    @classmethod
    def of(cls, picture: Picture) -> Frame:
        """A picture's."""
        return cls(
            width=picture.width,
            height=picture.height,
            channels=picture.channels,
            depth=picture.depth,
            icc=picture.icc,
            exif=picture.exif,
            xmp=picture.xmp,
        )

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.channels in (2, 4)

    def filled(
        self,
        pixels: NDArray[np.float32],  # (rows, columns, C), all of the picture's or a part
    ) -> Picture:
        """A picture of these pixels with all that this holds.

        Raises:
            ShapeError: there are no pixels.
            ArgumentError: they are not float32 in [0, 1].
        """
        return Picture(pixels=pixels, depth=self.depth, icc=self.icc, exif=self.exif, xmp=self.xmp)


def to_pillow(picture: Picture) -> Image.Image:
    """A Pillow image in mode L, LA, RGB or RGBA, or I;16 for 16-bit grey; metadata is in its `info`.

    Raises:
        PictureError: 16 bits of colour or alpha, for which Pillow has no mode; use `picture.with_depth(8)`.
    """
    if picture.depth == 16 and picture.channels > 1:
        raise PictureError("Pillow has no mode for 16-bit colour or alpha; narrow it first: picture.with_depth(8)")
    image = image_of(to_integers(picture))
    carried = {"icc_profile": picture.icc, "exif": picture.exif, "xmp": picture.xmp}
    image.info.update({name: value for name, value in carried.items() if value})
    return image


def to_integers(picture: Picture) -> NDArray[Any]:  # (H, W, C), uint8 or uint16 after the picture's depth
    """The pixels rounded to the integers that a container of the picture's depth holds."""
    return rounded(picture.pixels, picture.depth)


def rounded(
    pixels: NDArray[np.float32],  # (rows, columns, C), in [0, 1]
    depth: int,
) -> NDArray[Any]:  # of the same shape, uint8 or uint16 after the depth
    """Pixels rounded to the integers that a container of that depth holds."""
    top, kind = (255, np.uint8) if depth == 8 else (65535, np.uint16)
    integers: NDArray[Any] = np.rint(pixels * np.float32(top)).astype(kind)
    return integers


def image_of(
    integers: NDArray[Any],  # (H, W, C), uint8, or uint16 where C = 1
) -> Image.Image:
    """An image of Pillow in mode L, LA, RGB, RGBA or I;16."""
    return Image.fromarray(integers[..., 0] if integers.shape[2] == 1 else integers)


def check_pixel_limit(width: int, height: int, limit: int, name: str) -> None:
    """Refuse a picture that is empty or larger than the caller allows.

    Raises:
        PictureError: a side is 0.
        LimitError: more than `limit` pixels.
    """
    if width < 1 or height < 1:
        raise PictureError(f"{name}: a picture of {width}x{height} has no pixels")
    if not width * height <= limit:  # true for NaN, too
        raise LimitError(f"{name}: {width}x{height} exceeds the limit of {limit} pixels; raise pixel_limit to read it")


def from_array(
    array: NDArray[Any],  # (H, W) or (H, W, C)
    *,
    pixel_limit: int,
) -> Picture:
    """A picture from an array of uint8, uint16 or floats in [0, 1]; see `moesaic.read_picture`."""
    if array.ndim == 2:
        array = array[..., None]
    _check_shape(array)
    check_pixel_limit(array.shape[1], array.shape[0], pixel_limit, "the array")
    if array.dtype.kind == "u" and array.itemsize <= 2:
        top = np.iinfo(array.dtype).max
        return Picture(pixels=np.divide(array, top, dtype=np.float32, order="C"), depth=8 if top == 255 else 16)
    if array.dtype.kind != "f":
        raise ArgumentError(f"arrays are uint8, uint16 or floats in [0, 1], not {array.dtype}")
    _check_range(array)
    return Picture(pixels=np.array(array, np.float32, order="C"))  # a copy: the caller may go on writing into theirs


def from_tensor(
    tensor: Tensor,  # (H, W) or (C, H, W)
    *,
    pixel_limit: int,
) -> Picture:
    """A picture from a tensor of uint8 or floats in [0, 1]; see `moesaic.read_picture`."""
    if tensor.ndim not in (2, 3):
        raise ShapeError(f"tensors are (C, H, W) or (H, W), not {tuple(tensor.shape)}")
    if tensor.ndim == 3 and not 1 <= tensor.shape[0] <= 4:
        raise ShapeError(f"tensors are (C, H, W) with 1 to 4 channels, not {tuple(tensor.shape)}")
    if tensor.is_meta or tensor.is_quantized or str(tensor.layout) != "torch.strided":
        form = "meta" if tensor.is_meta else "quantised" if tensor.is_quantized else str(tensor.layout)
        raise ArgumentError(f"tensors are dense and hold numbers; this one is {form}: pass x.to_dense() or its like")
    tensor = tensor.detach().cpu()
    array = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return from_array(array if array.ndim == 2 else np.moveaxis(array, 0, -1), pixel_limit=pixel_limit)


def _check_shape(pixels: ArrayLike) -> None:
    shape = np.shape(pixels)
    if len(shape) != 3 or not 1 <= shape[2] <= 4:
        raise ShapeError(f"pixels are (H, W, C) with 1 to 4 channels, or (H, W); not {shape}")
    if 0 in shape:
        raise ShapeError(f"a picture of shape {shape} has no pixels")


def _check_range(values: NDArray[Any]) -> None:
    low, high = values.min(), values.max()  # both are NaN if any value is
    if not (low >= 0 and high <= 1):
        raise ArgumentError(f"values must lie in [0, 1] and be numbers; these reach from {low} to {high}")
