"""What kinds there are, in which order light meets them, and how a severity becomes their parameters."""

from __future__ import annotations

KINDS = (
    "noise",
    "poisson",
    "grain",
    "rain",
    "heavy_rain",
    "haze",
    "snow",
    "motion_blur",
    "defocus",
    "low_light",
    "jpeg",
    "resize",
    "composite",
    "wild",
)
"""Every kind by name."""

ORDER = (
    *("haze", "rain", "heavy_rain", "snow"),  # weather, between scene and lens
    *("motion_blur", "defocus"),  # optics
    *("low_light", "poisson", "noise", "grain"),  # sensor
    *("resize", "jpeg"),  # what is done to the finished picture
)
"""The kinds that act once, in the order in which light and data meet them."""

LABELS = ("noise", "rain", "haze", "snow", "blur", "low_light", "jpeg", "resize")
"""What a detector is asked for: kinds that look alike are one label."""

LABEL_OF = {
    "noise": "noise",
    "poisson": "noise",
    "grain": "noise",
    "rain": "rain",
    "heavy_rain": "rain",
    "haze": "haze",
    "snow": "snow",
    "motion_blur": "blur",
    "defocus": "blur",
    "low_light": "low_light",
    "jpeg": "jpeg",
    "resize": "resize",
}
"""The label of each kind of `ORDER`."""

WILD_LABELS = ("noise", "blur", "jpeg", "resize")
"""What the second-order chain does to every picture."""

FAMILIES: dict[str, tuple[str, ...]] = {
    "noise": ("clipped",),
    "grain": ("grey", "soft", "camera"),
    "haze": ("plane", "colour", "field"),
    "motion_blur": ("line", "trajectory"),
    "defocus": ("disc", "bell"),
    "wild": ("x1",),
}
"""The ways in which a kind is made, one of which is drawn unless it is named."""

NAMED_FAMILIES: dict[str, tuple[str, ...]] = {
    "noise": ("unclipped",),
    "haze": ("layers",),
    "motion_blur": ("arc",),
    "wild": ("x2", "x3", "x4"),
}
"""Further ways that are never drawn: to ask whether a network learned the kind, or only the families it has met."""

FACTORS = (("haze", "low_light"), ("rain", "snow"), ("motion_blur", "defocus"), ("resize",), ("noise",), ("jpeg",))
"""What a composite is made of: two or three of these, and one kind of each."""

COMPOSITE_SEVERITY = (0.1, 0.7)
"""Severities of a composite's parts: together they are as hard as a single strong one."""

RANGES: dict[str, dict[str, tuple[float, float]]] = {
    "noise": {"sigma": (5.0, 55.0)},  # levels of 255
    "poisson": {"gain": (0.002, 0.03), "read": (1.0, 12.0)},  # variance per unit of light; levels of 255
    "grain": {"sigma": (5.0, 45.0)},  # levels of 255
    "rain": {"density": (0.001, 0.004), "length": (9.0, 27.0), "gain": (0.3, 0.6)},  # seeds per px, px, light
    "heavy_rain": {"density": (0.001, 0.004), "length": (15.0, 45.0), "gain": (0.3, 0.6), "veil": (0.05, 0.35)},
    "haze": {"beta": (0.6, 2.2)},  # scattering over the depth of the scene
    "snow": {"density": (0.0005, 0.003), "radius": (1.0, 2.5)},  # flakes per px, px
    "motion_blur": {"length": (7.0, 25.0)},  # px
    "defocus": {"radius": (1.0, 5.0)},  # px
    "low_light": {"power": (1.5, 5.0), "gain": (0.0005, 0.004), "read": (0.5, 4.0)},
    "jpeg": {"quality": (60.0, 10.0)},
    "resize": {"scale": (2.0, 4.0)},
}
"""Parameters that follow the severity, from mildest (0) to strongest (1)."""

GRAIN = {  # by family: the share of the variance that channels have in common, the width of a grain in px
    "grey": ((1.0, 1.0), (0.2, 0.8)),
    "soft": ((0.0, 0.5), (0.4, 1.2)),
    "camera": ((0.0, 0.6), (0.2, 0.8)),
}
GRAIN_QUALITY = (70, 98)  # of the JPEG that "camera" writes
PATH_POINTS = 96  # of a camera's path while the shutter is open
PATH_REACH = 14  # px from the middle of a blur's kernel to its side: half of the longest path, and a pixel of tent
STREAK_REACH = 25  # px from the middle of a streak or flake to the side of its kernel
DEPTH_MODES = 6  # cosine waves along each side of a smooth depth map
RAIN_LAYERS = {"rain": 1, "heavy_rain": 3}
SNOW_LAYERS = 3  # sizes of flakes
GAMMA = 2.2  # light is a picture's values to this power


def at(kind: str, name: str, severity: float) -> float:
    """The parameter `name` of a kind at a severity in [0, 1]."""
    mild, strong = RANGES[kind][name]
    return mild + severity * (strong - mild)


def severity_of(kind: str, severity: float) -> float:
    """The severity of a kind on the scale of its label: heavy rain begins where light rain ends."""
    if kind == "rain":
        return severity / 2
    if kind == "heavy_rain":
        return 0.5 + severity / 2
    return severity
