"""The card of a ready model, made of its config and its scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmgfnuc.files import read_json


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a metrics.json of `mmgfnuc score`."""
    return read_json(path, 'score the model again with mmgfnuc score')


def make_card(
    config: Mapping[str, Any], metrics: Mapping[str, Any] | None = None, speed: Mapping[str, Any] | None = None
) -> str:
    """Write the card of a ready model as Markdown."""
    data = '\n'.join(f'- {one["name"]}, {one["licence"]}. {one["citation"]}' for one in config['data'])
    return f'# {config["name"]}\n\nLicence: {config["licence"]}\n\nTrained on:\n\n{data}\n'
