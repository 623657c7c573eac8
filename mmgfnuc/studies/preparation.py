"""What a study needs before its runs run: data that can be drawn, weights that can be fetched."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmgfnuc.datasets.synthetic import write_dataset
from mmgfnuc.errors import UserError
from mmgfnuc.extensions import load_parts
from mmgfnuc.files import file_sha256, lock_file, waiting_lock
from mmgfnuc.models.foundation import CATALOGUE, entry_of_config
from mmgfnuc.models.parts import check_part
from mmgfnuc.models.weights.locate import RANDOM, WEIGHTS_ENV, weights_at_hand
from mmgfnuc.registry import MODELS

from .runs import DRAWN, Run, data_root
from .storage import DONE, SCORED, run_folder, run_state, weights_of
from .study import Study

# Config of a foundation encoder.
Encoder = Mapping[str, Any]


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
            write_dataset(root, num_train=64, num_val=16, size=256, seed=0, types=study.types)


def encoders_at_hand() -> list[str]:
    """Names of the catalogue whose weight files are here, in `$MMGFNUC_WEIGHTS` or in the hub's cache.

    Raises:
        UserError: none are.
    """
    load_parts()
    names = [name for name in CATALOGUE if is_at_hand({'type': 'mmgfnuc.foundation_encoder', 'name': name})]
    if not names:
        folder = os.environ.get(WEIGHTS_ENV)
        looked = f'in ${WEIGHTS_ENV} ({folder})' if folder else f'in a folder, for ${WEIGHTS_ENV} is not set,'
        raise UserError(
            f"foundation='present': weights of no encoder are here, neither {looked} nor in the cache of the Hugging "
            'Face hub; put files there (docs/foundation_encoders.md says which), or name an encoder to have it fetched'
        )
    return names


def is_at_hand(encoder: Encoder) -> bool:
    """Say whether an encoder can be built without a download.

    Args:
        encoder: its config.

    Raises:
        UserError: there is no such encoder.
    """
    weights, entry = encoder.get('weights'), entry_of_config(encoder)
    if weights == RANDOM or (weights is None and entry.constructs_weights):
        return True
    return weights_at_hand(weights, entry)


def fetch_encoders(encoders: Iterable[Encoder]) -> None:
    """Find the weights of foundation encoders, or fetch them: once, not in every run at the same time.

    Args:
        encoders: their configs.

    Raises:
        UserError: an encoder does not exist, or its weights are not here and cannot be fetched.
    """
    for encoder in encoders:
        weight_file(encoder)


def encoders_of(runs: Iterable[Run]) -> list[Encoder]:
    """Configs of the foundation encoders of runs, those with the same weights once."""
    encoders = [run.config['model'].get('foundation') for run in runs]
    return list({_identity(encoder): encoder for encoder in encoders if encoder}.values())


def _identity(encoder: Encoder) -> tuple[Any, ...]:
    return encoder['type'], encoder.get('name'), encoder.get('weights')


def encoder_name(encoder: Encoder) -> str:
    """What an encoder is called, with its weights where these are named."""
    name, weights = entry_of_config(encoder).name, encoder.get('weights')
    return f'{name}:{weights}' if weights else name


def weight_file(encoder: Encoder) -> Path | None:
    """The weight file of an encoder; None where its weights are random, or those that its constructor gives.

    Raises:
        UserError: an encoder does not exist, or its weights are not here and cannot be fetched.
    """
    return entry_of_config(encoder).weight_file(encoder.get('weights'))


def weights_digest(encoder: Encoder) -> str | None:
    """SHA-256 of the weight file of an encoder, see `weight_file`."""
    path = weight_file(encoder)
    return file_sha256(path) if path else None


def check_models(runs: Iterable[Run]) -> None:
    """See to it that the parts of each arm take their settings.

    Raises:
        UserError: names the first arm with one that does not.
    """
    for arm, run in {run.arm.name: run for run in runs}.items():
        try:
            check_part('model', run.config['model'], MODELS)
        except UserError as error:
            raise UserError(f"arm '{arm}': {error}") from error


def check_weights(runs: Iterable[Run], root: Path) -> None:
    """Compare the weight files that are here with those that runs which are done were trained with.

    Weights do not go into the key of a run: with another file its arm would be compared with itself of before.

    Raises:
        UserError: they differ.
    """
    done = [run for run in runs if run_state(root, run) in (DONE, SCORED)]
    for encoder in encoders_of(done):
        path = weight_file(encoder) if is_at_hand(encoder) else None
        if path is None:
            continue
        now, folders = file_sha256(path), {run_folder(root, run): run for run in done if _has(run, encoder)}
        for folder, run in folders.items():
            if weights_of(folder) != now:
                raise UserError(
                    f"run '{run.name}' was trained with another weight file of '{encoder_name(encoder)}' than {path}; "
                    f'put that file back, or delete {folder} to train again'
                )


def _has(run: Run, encoder: Encoder) -> bool:
    own = run.config['model'].get('foundation')
    return own is not None and _identity(own) == _identity(encoder)
