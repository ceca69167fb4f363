"""In-Shop Clothes Retrieval, of DeepFashion (Liu et al., CVPR 2016)."""

from __future__ import annotations

import os
from pathlib import Path

from cbal_optuna.data.images import ImageFiles
from cbal_optuna.data.layout import check_images
from cbal_optuna.data.layout import name_of
from cbal_optuna.data.layout import read_table
from cbal_optuna.data.splits import evenly_spread


FOLDER = "In-shop Clothes Retrieval Benchmark"
LIST = "list_eval_partition.txt"
COLUMNS = ("image_name", "item_id", "evaluation_status")
SOURCE = (
    "get Img/img.zip and Eval/list_eval_partition.txt of the In-shop Clothes Retrieval Benchmark "
    "from https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html and unpack them"
)
WHOLE = (52_712, 7_982, 14_218)  # images, items, queries


class InShop(ImageFiles):
    """In-Shop Clothes Retrieval in its official layout and split.

    52,712 images of 7,982 articles of clothing. The 3,997 items to train on come first, the 3,985
    of the test set last, where 14,218 images are queries that search the other 12,612, the
    gallery. Training items are reordered, each kind of clothing spread evenly, so that the last
    ones, which validate, are like the others; there each image searches all others.

    The images have to be asked for: see
    https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html. What is read is
    Eval/list_eval_partition.txt (or that list in the folder itself), and the folder img, made by
    img.zip, in the folder itself or in Img.

    Args:
        root: That folder, or the one that holds it as "In-shop Clothes Retrieval Benchmark".

    Raises:
        FileNotFoundError: The data set, or an image that it lists, is missing.
        ValueError: Its list is damaged.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        partition = _find_list(Path(os.path.abspath(root)))
        folder = partition.parent.parent if partition.parent.name == "Eval" else partition.parent
        items = _items(partition)
        test = {item for item, images in items.items() if images[0][1] != "train"}
        train = [item for item in items if item not in test]
        order = [train[i] for i in evenly_spread([_kind(items[item]) for item in train])]
        order += [item for item in items if item in test]
        rows = [(label, *image) for label, item in enumerate(order) for image in items[item]]
        paths = [path for _, path, _ in rows]
        image_root = folder if (folder / "img").is_dir() else folder / "Img"
        check_images(image_root, paths, partition)
        is_query = [status == "query" for _, _, status in rows]
        counts = (len(paths), len(items), sum(is_query))
        super().__init__(
            name_of("In-Shop", folder, len(paths), whole=counts == WHOLE),
            image_root,
            paths,
            [label for label, _, _ in rows],
            order,
            test_share=len(test) / len(items),
            is_query=is_query,
        )


def _find_list(root: Path) -> Path:
    for folder in (root, root / FOLDER):
        for path in (folder / "Eval" / LIST, folder / LIST):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"`root` must be the folder of In-Shop Clothes Retrieval or the one that holds it as "
        f"{FOLDER}, but {root} has no Eval/{LIST}: {SOURCE}"
    )


def _items(partition: Path) -> dict[str, list[tuple[str, str]]]:
    """Path and status of the images of each item, in the order of the list."""
    rows = read_table(partition, COLUMNS, header=2)
    with partition.open("rb") as file:
        count = file.readline().strip()
    if count != str(len(rows)).encode():
        raise ValueError(
            f"{partition} must list as many images as its first line says, got {len(rows)} "
            f"below {count.decode(errors='replace')!r}"
        )
    items: dict[str, list[tuple[str, str]]] = {}
    for path, item, status in rows:
        if status not in ("train", "query", "gallery"):
            raise ValueError(
                f"{partition} must call {path} train, query or gallery, got {status!r}"
            )
        images = items.setdefault(item, [])
        images.append((path, status))
        if (images[0][1] == "train") != (status == "train"):
            raise ValueError(f"{partition} must not have {item} in both training and test set")
    if not items:
        raise ValueError(f"{partition} must list images, but has none")
    return items


def _kind(images: list[tuple[str, str]]) -> str:
    """The folder around that of the item: img/WOMEN/Dresses."""
    return os.path.dirname(os.path.dirname(images[0][0]))
