"""Stanford Online Products: photographs of products for sale (Oh Song et al., CVPR 2016)."""

from __future__ import annotations

import os
from pathlib import Path

from cbal_optuna.data.images import ImageFiles
from cbal_optuna.data.layout import check_images
from cbal_optuna.data.layout import find_folder
from cbal_optuna.data.layout import name_of
from cbal_optuna.data.layout import read_table
from cbal_optuna.data.splits import evenly_spread


FOLDER = "Stanford_Online_Products"
LISTS = ("Ebay_train.txt", "Ebay_test.txt")
COLUMNS = ("image_id", "class_id", "super_class_id", "path")
SOURCE = (
    "get Stanford_Online_Products.zip (3,083,860,082 bytes, MD5 7f73d41a2f44250d4779881525aea32e) "
    "from https://cvgl.stanford.edu/projects/lifted_struct/ and unpack it"
)
WHOLE = (120_053, 22_634, 11_316)  # images, classes, classes of the test set


class StanfordOnlineProducts(ImageFiles):
    """Stanford Online Products in its official layout and split.

    120,053 images, about five of each of 22,634 products. The 11,318 products of Ebay_train.txt
    come first, the 11,316 of Ebay_test.txt last. In the lists the products are ordered by kind
    (bicycles, cabinets, ...), and the official test set has all kinds; so the training products
    are reordered, each kind spread evenly, and the last ones, which validate, have all kinds too.

    The archive has to be fetched by hand, from https://cvgl.stanford.edu/projects/lifted_struct/:
    its old address is no longer reliable. It should have 3,083,860,082 bytes and the MD5
    7f73d41a2f44250d4779881525aea32e.

    Args:
        root: The folder with Ebay_train.txt, Ebay_test.txt and the images, or the one that holds
            it as Stanford_Online_Products.

    Raises:
        FileNotFoundError: The data set, or an image that it lists, is missing.
        ValueError: Its lists are damaged.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        folder = find_folder(
            Path(os.path.abspath(root)),
            FOLDER,
            contents=LISTS,
            data_set="Stanford Online Products",
            source=SOURCE,
        )
        parts = [_products(folder / name) for name in LISTS]
        if both := parts[0].keys() & parts[1].keys():
            raise ValueError(
                f"{folder / LISTS[1]} must list other classes than {LISTS[0]}, got {min(both)} in "
                "both"
            )
        products = [*_spread(parts[0]), *parts[1].items()]
        paths = [path for _, images in products for path in images]
        for part, name in zip(parts, LISTS):
            check_images(
                folder, [path for images in part.values() for path in images], folder / name
            )
        counts = (len(paths), len(products), len(parts[1]))
        super().__init__(
            name_of("Stanford Online Products", folder, len(paths), whole=counts == WHOLE),
            folder,
            paths,
            [label for label, (_, images) in enumerate(products) for _ in images],
            [f"{_kind(images)}/{class_id}" for class_id, images in products],
            test_share=len(parts[1]) / len(products),
        )


def _products(path: Path) -> dict[str, list[str]]:
    """Images by product, in the order of the list."""
    products: dict[str, list[str]] = {}
    for _, class_id, _, image in read_table(path, COLUMNS):
        products.setdefault(class_id, []).append(image)
    if not products:
        raise ValueError(f"{path} must list images, but has none")
    return products


def _spread(products: dict[str, list[str]]) -> list[tuple[str, list[str]]]:
    items = list(products.items())
    return [items[i] for i in evenly_spread([_kind(images) for _, images in items])]


def _kind(images: list[str]) -> str:
    return os.path.dirname(images[0])
