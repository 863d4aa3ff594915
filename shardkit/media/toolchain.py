"""Versions of what makes stored media: two builds with the same ones give the same bytes.

Here: the components for each modality.
Elsewhere: recording them per lane and refusing to resume with others (build).
"""

from __future__ import annotations

import io
import platform
import struct
from collections.abc import Iterable
from functools import cache

from shardkit.media.sound import STEADY_DECODERS
from shardkit.spec import MediaOptions


def toolchain(modalities: Iterable[str], options: MediaOptions | None = None) -> dict[str, str]:
    """Component to version for `image`, `audio`, `video` (others add nothing); with `options`, what they add.

    The kind of processor is named where floating point is involved (`soxr`): other kinds may round otherwise.
    """
    wanted = set(modalities)
    found: dict[str, str] = {}
    if wanted & {"image", "video"}:
        found |= _pillow()
    if wanted & {"audio", "video"}:
        found |= _sound() | _ffmpeg()
        if options and options.audio.loudness is not None:
            import pyloudnorm

            found["pyloudnorm"] = str(pyloudnorm.__version__)
    return dict(sorted(found.items()))


@cache
def _pillow() -> dict[str, str]:
    import PIL
    from PIL import features

    names = {"libjpeg_turbo": "libjpeg-turbo", "zlib_ng": "zlib-ng", "zlib": "zlib", "webp": "libwebp"}
    found = {shown: str(features.version(name)) for name, shown in names.items() if features.check(name)}
    return {"pillow": PIL.__version__} | found


@cache
def _sound() -> dict[str, str]:
    import soundfile
    import soxr

    return {
        "flac": flac_encoder(),
        "libsndfile": str(soundfile.__libsndfile_version__),
        "soxr": f"{soxr.__version__} {soxr.__libsoxr_version__} {platform.machine()}",
    }


@cache
def flac_encoder() -> str:
    """The name that the FLAC encoder writes into every file (`reference libFLAC 1.4.3 20230623`)."""
    import numpy as np
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(16, np.int16), 16_000, format="FLAC", subtype="PCM_16")
    data = buffer.getvalue()
    at = 4
    while at + 4 <= len(data):
        kind, size = data[at] & 0x7F, int.from_bytes(data[at + 1 : at + 4], "big")
        if kind == 4:  # VORBIS_COMMENT, which opens with the vendor's text
            length = struct.unpack_from("<I", data, at + 4)[0]
            return data[at + 8 : at + 8 + length].decode("utf-8", "replace")
        at += 4 + size
    return "unnamed"


@cache
def _ffmpeg() -> dict[str, str]:
    import av

    names = ("libavcodec", "libavformat", "libswscale")
    versions = av.library_versions
    decoders = " ".join(sorted(name for name in STEADY_DECODERS.values() if name in av.codecs_available))
    return {"av": av.__version__, "av decoders": decoders} | {
        name: ".".join(map(str, versions[name])) for name in names
    }
