"""Images made small enough that a page holds many of them."""

from __future__ import annotations

from base64 import b64decode
from base64 import b64encode
from io import BytesIO
import re

from PIL import Image

from cbal_optuna.data import central_square


# Of a side, in pixels.
LARGEST = 72
# Up to this side JPEG saves nothing, and shows.
_SMALLEST_JPEG = 32
_URI = re.compile("data:image/(png|jpeg);base64,[A-Za-z0-9+/]+=*")


def thumbnail(image: Image.Image) -> str:
    """The central square of an image as the data URI of a JPEG, or a PNG if it is tiny."""
    side = min(LARGEST, *image.size)
    small = central_square(image, side, "lanczos")
    kind = "png" if side <= _SMALLEST_JPEG else "jpeg"
    content = BytesIO()
    small.save(content, kind, optimize=True, **({"quality": 75} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{b64encode(content.getvalue()).decode()}"


def is_thumbnail(uri: str) -> bool:
    """Whether it is the URI of a small image, and not one that has something loaded."""
    return _URI.fullmatch(uri) is not None


def image_of(uri: str) -> Image.Image:
    """What :func:`thumbnail` has made small."""
    return Image.open(BytesIO(b64decode(uri.partition(",")[2]))).convert("RGB")
