"""The `.moe` file: a mixture, quantised and entropy coded, in a versioned container."""

from moesaic.codec.container import Header, Info
from moesaic.codec.decoder import decode
from moesaic.codec.encoder import Encoded, encode
from moesaic.codec.file import (
    FileInfo,
    MoeFile,
    decode_bytes,
    encode_mixture,
    load,
    load_file,
    read_header,
    read_info,
    save,
)
from moesaic.codec.limits import Limits
from moesaic.codec.quantise import Steps

__all__ = [
    "Encoded",
    "FileInfo",
    "Header",
    "Info",
    "Limits",
    "MoeFile",
    "Steps",
    "decode",
    "decode_bytes",
    "encode",
    "encode_mixture",
    "load",
    "load_file",
    "read_header",
    "read_info",
    "save",
]
