"""Python code that uses an exported model, with nothing of this package."""

from __future__ import annotations

from torch import nn

from cbal_optuna.export.timm_form import CONFIG
from cbal_optuna.export.timm_form import HEAD
from cbal_optuna.export.timm_form import TimmForm
from cbal_optuna.export.timm_form import WEIGHTS


_EMBED = """\
mean, std = (torch.tensor(data[name]).view(3, 1, 1) for name in ("mean", "std"))
resample = Image.Resampling[data["interpolation"].upper()]


def opaque(image):
    \"\"\"Upright, transparent pixels over white, as in the training.\"\"\"
    image = ImageOps.exif_transpose(image).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


@torch.inference_mode()
def embed(images):
    \"\"\"PIL images to unit vectors, of shape (n, width).\"\"\"
    size = data["input_size"][1:]
    squares = [ImageOps.fit(opaque(image), size, resample) for image in images]
    pixels = torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255
    return normalize(model((pixels - mean) / std))


embeddings = embed([Image.open("first.jpg"), Image.open("second.jpg")])
print("cosine similarity:", float(embeddings[0] @ embeddings[1]))
"""


def embedding_snippet(folder: str, form: TimmForm) -> str:
    """From PIL images to their cosine similarity, run where the folder is; without a projection
    head."""
    has_head = form.head is not None and not form.projects
    builds = bool(form.stem) or has_head
    lines = [
        *["import json", ""] * bool(form.stem),
        "import numpy as np",
        "from PIL import Image",
        "from PIL import ImageOps",
        *["from safetensors.torch import load_file"] * builds,
        "import timm",
        "import torch",
        *["from torch import nn"] * builds,
        "from torch.nn.functional import normalize",
        "",
        f"folder = {folder!r}  # that of this file",
        *_model_lines(form),
        "data = timm.data.resolve_model_data_config(model)",
        *(_head_lines(form) if has_head else []),
    ]
    return "\n".join(lines) + "\n" + _EMBED


def projection_snippet(form: TimmForm) -> str:
    """What is to follow the other for embeddings by the projection head."""
    lines = ["from safetensors.torch import load_file", "from torch import nn", ""]
    return "\n".join([*lines, *_head_lines(form)]) + "\n"


def _model_lines(form: TimmForm) -> list[str]:
    if not form.stem:
        return ['model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()']
    return [
        f'with open(f"{{folder}}/{CONFIG}") as file:',
        '    config = json.load(file)["pretrained_cfg"]',
        f'model = timm.create_model("{form.architecture}", pretrained_cfg=config).eval()',
        *(f'model.set_submodule("{name}", nn.{module!r})' for name, module in form.stem.items()),
        f'model.load_state_dict(load_file(f"{{folder}}/{WEIGHTS}"))',
    ]


def _head_lines(form: TimmForm) -> list[str]:
    layers = form.head if isinstance(form.head, nn.Sequential) else [form.head]
    code = [f"nn.{_code(layer)}" for layer in layers if layer is not None]
    return [
        f"head = nn.Sequential({', '.join(code)})" if len(code) > 1 else f"head = {code[0]}",
        f'head.load_state_dict(load_file(f"{{folder}}/{HEAD}"))',
        "model = nn.Sequential(model, head).eval()",
    ]


def _code(layer: nn.Module) -> str:
    # What torch prints of a BatchNorm is not what its earlier versions take.
    return (
        f"BatchNorm1d({layer.num_features})" if isinstance(layer, nn.BatchNorm1d) else repr(layer)
    )
