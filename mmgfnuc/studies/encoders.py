"""Which foundation encoders have their weights on this machine."""

import os

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import CATALOGUE, find_entry
from mmgfnuc.models.weights.locate import RANDOM, WEIGHTS_ENV, find_weights, weights_at_hand


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


def fetch_weights(name: str, weights: str | None = None) -> None:
    """Make sure that the weights of an encoder are here; those that the hub offers are fetched.

    Raises:
        UserError: they are not here and cannot be fetched; says what to do.
    """
    if weights != RANDOM:
        find_weights(weights, find_entry(name))
