"""The quick start: scikit-learn's handwritten digits, a small ConvNeXt, a few minutes on
a CPU."""

from __future__ import annotations

from cbal_optuna.command_line import main
from cbal_optuna.command_line import StudyScript
from cbal_optuna.data import Digits
from cbal_optuna.training import Augmentation


SCRIPT = StudyScript(
    name="digits",
    description="Balance the contrastive loss on scikit-learn's handwritten digits: a first run, "
    "in minutes on a CPU.",
    dataset=lambda options: Digits(),
    defaults={
        "backbone": "test_convnext",
        "weights": "random",
        "image_size": 32,
        "embedding_dim": 64,
        "samples": 8_000,
        "learning_rate": 3e-3,
        "repeats": 2,
        "n_trials": 25,
    },
    # Digits turn into others when mirrored.
    augmentation=Augmentation(min_area=0.6, rotation=15.0, flip=False),
    # Of ten classes, half would leave too few to train on: four are for training, three each for
    # validation and test.
    test_share=0.3,
)

if __name__ == "__main__":
    main(SCRIPT)
