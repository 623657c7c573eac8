"""What a study needs before its cells run: data that can be drawn, weights that can be fetched."""

import sys
from collections.abc import Iterable

from mmgfnuc.datasets.synthetic import write_dataset

from .cells import data_root
from .encoders import fetch_weights
from .study import Arm, Study


def draw_missing_data(study: Study) -> None:
    """Draw the tiles of the preset `synthetic` where a study asks for them and they are not there.

    Raises:
        UserError: a preset does not exist.
    """
    if 'synthetic' in study.data:
        root = data_root(study, 'synthetic')
        if not root.exists():
            print(f'{root} is not there: the synthetic tiles are being drawn', file=sys.stderr)
            # What tools/datasets/prepare.py draws by default.
            write_dataset(root, num_train=64, num_val=16, size=256, seed=0)


def fetch_encoders(arms: Iterable[Arm]) -> None:
    """Find the weights of foundation encoders, or fetch them: once, not in every cell at the same time.

    Raises:
        UserError: an encoder does not exist, or its weights are not here and cannot be fetched.
    """
    for name, weights in encoder_weights(arms):
        fetch_weights(name, weights)


def encoder_weights(arms: Iterable[Arm]) -> list[tuple[str, str | None]]:
    """Encoders of arms and what their weights are, each once; None are those of the encoder's own entry."""
    pairs = [
        (arm.foundation, arm.parts.get('foundation', {}).get('weights', arm.weights)) for arm in arms if arm.foundation
    ]
    return list(dict.fromkeys(pairs))
