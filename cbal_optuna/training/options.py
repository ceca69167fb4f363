"""How a model is trained, apart from what is searched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import math

from cbal_optuna.number_kinds import is_number
from cbal_optuna.number_kinds import is_whole
from cbal_optuna.training.gradient_caching import check_batch_norm
from cbal_optuna.training.micro_batches import AUTO
from cbal_optuna.training.micro_batches import MicroBatches


LEARNING_RATE_RULES: dict[str, Callable[[float], float]] = {
    "none": lambda ratio: 1.0,
    "sqrt": math.sqrt,
    "linear": lambda ratio: ratio,
}
REFERENCE_BATCH_SIZE = 128


@dataclass(frozen=True)
class TrainingOptions:
    """How a model is trained.

    Args:
        samples:
            The budget: training images seen, whatever the batch size.
        images_per_class:
            Images of a class that come into a batch together.
        learning_rate_rule:
            How the learning rate follows the batch size: ``"none"``, or by the square root
            (``"sqrt"``) or the whole (``"linear"``) of its ratio to 128.
        warm_up:
            Share of the steps over which the learning rate rises; then it falls to zero by a
            cosine.
        n_evaluations:
            Evaluations at equal distances, the last one at the end.
        micro_batch:
            Images that go through the model at once, with the gradient of the whole batch all the
            same (:func:`cached_forward`): a number, ``"whole"`` for the whole batch, or
            ``"auto"`` for the whole batch as long as memory holds it, then for half of it as often
            as needed. That is for accelerators: a system that runs short of its own memory often
            ends the process instead of refusing.
        batch_norm:
            ``"train"``: BatchNorm normalises by the statistics of the images that go through the
            model at once, so that results depend on the micro-batch. ``"frozen"``: by its running
            statistics, which stay as they are, in micro-batches and in whole ones; for pretrained
            weights. ``"synchronised"``: as ``"train"``, but by the statistics of all processes
            that train together, on CUDA devices.
        compile:
            Whether the model is trained as ``torch.compile`` makes it: the same function but for
            rounding and the masks of dropout. That needs a compiler, takes a minute or so for each
            batch size, and pays after thousands of steps with it, or never.

    Raises:
        ValueError: An argument is out of its range.
    """

    samples: int
    images_per_class: int = 4
    learning_rate_rule: str = "none"
    warm_up: float = 0.1
    n_evaluations: int = 4
    micro_batch: int | str = AUTO
    batch_norm: str = "train"
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("samples", "images_per_class", "n_evaluations"):
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise ValueError(
                    f"`{name}` is {value!r}; it should be a whole number of at least 1."
                )
        if self.learning_rate_rule not in LEARNING_RATE_RULES:
            raise ValueError(
                f"`learning_rate_rule` is {self.learning_rate_rule!r}; it should be one of "
                f"{', '.join(LEARNING_RATE_RULES)}."
            )
        if not is_number(self.warm_up) or not 0 <= self.warm_up <= 1:
            raise ValueError(f"`warm_up` is {self.warm_up!r}; it should be a number from 0 to 1.")
        MicroBatches(self.micro_batch)
        check_batch_norm(self.batch_norm)

    def n_steps(self, batch_size: int) -> int:
        return max(1, self.samples // batch_size)
