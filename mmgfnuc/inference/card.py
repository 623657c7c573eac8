"""The card of a ready model, made of its config and its scores."""

from collections.abc import Mapping
from typing import Any


def make_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Write the card of a ready model as Markdown."""
    data = '\n'.join(f'- {one["name"]}, {one["licence"]}. {one["citation"]}' for one in config['data'])
    return f'# {config["name"]}\n\nLicence: {config["licence"]}\n\nTrained on:\n\n{data}\n'
