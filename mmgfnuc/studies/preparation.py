"""What a study needs before its runs run: data that can be drawn, weights that can be fetched."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.errors import UserError
from mmgfnuc.files import file_sha256, lock_file, waiting_lock
from mmgfnuc.models.foundation import CATALOGUE, find_entry
from mmgfnuc.models.weights.locate import RANDOM, WEIGHTS_ENV, find_weights, weights_at_hand

from .runs import DRAWN, Run, data_root
from .storage import DONE, SCORED, run_folder, run_state, weights_of
from .study import Arm, Study


def draw_missing_data(study: Study) -> None:
    """Draw the tiles of the preset `synthetic` where a study asks for them and they are not there.

    Of two that begin at the same time one draws, and the other waits.

    Raises:
        UserError: a preset does not exist.
    """
    if DRAWN not in study.data or (root := data_root(study, DRAWN)).exists():
        return
    # That of `output_lock`, which the drawing takes too.
    with waiting_lock(lock_file(root)):
        if not root.exists():
            print(f'{root} is not there: the synthetic tiles are being drawn', file=sys.stderr)
            # What `mmgfnuc prepare synthetic` draws by default.
            write_dataset(root, num_train=64, num_val=16, size=256, seed=0)


def encoders_at_hand() -> list[str]:
    """Names of the catalogue whose weight files are here, in `$MMGFNUC_WEIGHTS` or in the hub's cache.

    Raises:
        UserError: none are.
    """
    names = [name for name in CATALOGUE if is_at_hand(name)]
    if not names:
        folder = os.environ.get(WEIGHTS_ENV)
        looked = f'in ${WEIGHTS_ENV} ({folder})' if folder else f'in a folder, for ${WEIGHTS_ENV} is not set,'
        raise UserError(
            f"foundation='present': weights of no encoder are here, neither {looked} nor in the cache of the Hugging "
            'Face hub; put files there (docs/foundation_encoders.md says which), or name an encoder to have it fetched'
        )
    return names


def is_at_hand(name: str, weights: str | None = None) -> bool:
    """Say whether an encoder can be built without a download.

    Args:
        name: of the catalogue, or `timm:<name>`.
        weights: as `mmgfnuc.create_model` takes them.

    Raises:
        UserError: there is no such encoder.
    """
    entry = find_entry(name)
    return weights == RANDOM or weights_at_hand(weights, entry)


def fetch_encoders(arms: Iterable[Arm]) -> None:
    """Find the weights of foundation encoders, or fetch them: once, not in every run at the same time.

    Raises:
        UserError: an encoder does not exist, or its weights are not here and cannot be fetched.
    """
    for name, weights in encoder_weights(arms):
        if weights != RANDOM:
            find_weights(weights, find_entry(name))


def encoder_weights(arms: Iterable[Arm]) -> list[tuple[str, str | None]]:
    """Encoders of arms and what their weights are, each once; None are those of the encoder's own entry."""
    return list(dict.fromkeys((arm.foundation, arm.encoder_weights) for arm in arms if arm.foundation))


def weights_digest(name: str, weights: str | None) -> str | None:
    """SHA-256 of the weight file of an encoder; None where its weights are random.

    Raises:
        UserError: an encoder does not exist, or its weights are not here and cannot be fetched.
    """
    if weights == RANDOM:
        return None
    return file_sha256(find_weights(weights, find_entry(name)))


def check_weights(runs: Iterable[Run], root: Path) -> None:
    """Compare the weight files that are here with those that runs which are done were trained with.

    Weights do not go into the key of a run: with another file its arm would be compared with itself of before.

    Raises:
        UserError: they differ.
    """
    done = [run for run in runs if run.arm.foundation and run_state(root, run) in (DONE, SCORED)]
    for name, weights in encoder_weights(run.arm for run in done):
        if weights == RANDOM or not is_at_hand(name, weights):
            continue
        now = weights_digest(name, weights)
        for run in (run for run in done if (run.arm.foundation, run.arm.encoder_weights) == (name, weights)):
            folder = run_folder(root, run)
            if weights_of(folder) != now:
                raise UserError(
                    f"run '{run.name}' was trained with another weight file of '{name}' than "
                    f'{find_weights(weights, find_entry(name))}; put that file back, or delete {folder} to train again'
                )
