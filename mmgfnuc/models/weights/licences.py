"""What a licence allows with weights, with data, and with what is trained on them."""

from enum import StrEnum
from typing import Any

from mmgfnuc.errors import UserError


class Terms(StrEnum):
    """What may become of weights or data under a licence."""

    FREE = 'copies and what is trained on them may be published, for any use'
    LIMITED = 'what is trained on them may be published under the same terms, copies are left to the publisher'
    FORBIDDEN = 'what is trained on them may not be published'
    UNKNOWN = 'nothing is known to be allowed'


DINOV3 = 'dinov3-license'
# As SPDX writes them, in small letters.
FREE = (
    *('apache-2.0', 'mit', 'bsd-2-clause', 'bsd-3-clause', 'isc', 'unlicense', 'cc0-1.0'),
    *('cc-by-2.0', 'cc-by-2.5', 'cc-by-3.0', 'cc-by-4.0'),
)
LIMITED = (
    *('cc-by-sa-3.0', 'cc-by-sa-4.0', 'cc-by-nc-3.0', 'cc-by-nc-4.0', 'cc-by-nc-sa-3.0', 'cc-by-nc-sa-4.0'),
    DINOV3,
)
# No derivatives, for which models that were trained on features are taken.
NO_DERIVATIVES = '-nd-'


def terms_of(licence: str | None) -> Terms:
    """Say what a licence allows; one that is not known here allows nothing.

    >>> [terms_of(licence).name for licence in ('CC BY 4.0', 'CC-BY-NC-SA-4.0', 'CC-BY-NC-ND-4.0', '')]
    ['FREE', 'LIMITED', 'FORBIDDEN', 'UNKNOWN']
    """
    name = _plain(licence)
    if name in FREE:
        return Terms.FREE
    if name in LIMITED:
        return Terms.LIMITED
    return Terms.FORBIDDEN if NO_DERIVATIVES in name else Terms.UNKNOWN


def hub_licence(licence: str) -> str:
    """Name a licence as a page of the Hugging Face hub does, which knows the usual ones and refuses others.

    >>> [hub_licence(licence) for licence in ('CC BY-SA 4.0', 'CC BY 4.0 and DINOv3 License')]
    ['cc-by-sa-4.0', 'other']
    """
    name = _plain(licence)
    return name if name in (*FREE, *LIMITED) and name != DINOV3 else 'other'


def _plain(licence: str | None) -> str:
    return '-'.join((licence or '').lower().replace('_', '-').split())


def require_publishable(what: str, licence: Any, fix: str) -> Terms:
    """Return the terms of weights or data of which a model that is to be published was trained.

    Args:
        what: they are, for an error.
        licence: of them.
        fix: where the licence is to be stated.

    Raises:
        UserError: the licence forbids to publish the model, or is unknown.
    """
    terms = terms_of(licence)
    if terms is Terms.FORBIDDEN:
        raise UserError(f"{what}: licence '{licence}' forbids publishing what is trained on them; train on others")
    if terms is Terms.UNKNOWN:
        raise UserError(
            f"{what}: licence '{licence or ''}' is not known to allow publishing what is trained on them; {fix}"
        )
    return terms
