"""moesaic: pictures as sparse mixtures of experts.

Every public name is imported on first use, so `import moesaic` itself loads neither torch nor NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moesaic import degrade, explain, predict, restore, segment, upscale
    from moesaic.codec import decode, encode, load, save
    from moesaic.errors import MoesaicError
    from moesaic.image import Picture, read_picture, write_picture
    from moesaic.mixture.denoise import Denoised, denoise
    from moesaic.mixture.enlarge import enlarge
    from moesaic.mixture.fit import fit
    from moesaic.mixture.fit_many import fit_many
    from moesaic.mixture.model import Mixture
    from moesaic.mixture.render import render
    from moesaic.upscale.estimate import estimate
    from moesaic.zoo import create_model, list_models, load_model

__version__ = "0.1.0"

__all__ = [
    "Denoised",
    "Mixture",
    "MoesaicError",
    "Picture",
    "__version__",
    "create_model",
    "decode",
    "degrade",
    "denoise",
    "encode",
    "enlarge",
    "estimate",
    "explain",
    "fit",
    "fit_many",
    "list_models",
    "load",
    "load_model",
    "predict",
    "read_picture",
    "render",
    "restore",
    "save",
    "segment",
    "upscale",
    "write_picture",
]

_HOMES = {
    "Denoised": "moesaic.mixture.denoise",
    "Mixture": "moesaic.mixture.model",
    "MoesaicError": "moesaic.errors",
    "Picture": "moesaic.image",
    "create_model": "moesaic.zoo",
    "decode": "moesaic.codec",
    "degrade": "moesaic.degrade",
    "denoise": "moesaic.mixture.denoise",
    "encode": "moesaic.codec",
    "enlarge": "moesaic.mixture.enlarge",
    "estimate": "moesaic.upscale.estimate",
    "explain": "moesaic.explain",
    "fit": "moesaic.mixture.fit",
    "fit_many": "moesaic.mixture.fit_many",
    "list_models": "moesaic.zoo",
    "load": "moesaic.codec",
    "load_model": "moesaic.zoo",
    "predict": "moesaic.predict",
    "read_picture": "moesaic.image",
    "render": "moesaic.mixture.render",
    "restore": "moesaic.restore",
    "save": "moesaic.codec",
    "segment": "moesaic.segment",
    "upscale": "moesaic.upscale",
    "write_picture": "moesaic.image",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'moesaic' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    value = home if _HOMES[name] == f"{__name__}.{name}" else getattr(home, name)  # a folder that is a call, too
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
