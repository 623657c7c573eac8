"""The configs that come with the package."""

from pathlib import Path

import mmgfnuc


def configs_folder() -> Path:
    """Folder `configs` of the package; in a clone a link to the folder beside it."""
    return Path(mmgfnuc.__file__).parent / 'configs'


def find_config(name: str) -> Path | None:
    """Find a config that is named as here, such as `configs/cpu/own_data.py`; None if there is none."""
    configs = configs_folder().resolve()
    path = (configs.parent / name).resolve()
    return path if path.is_file() and path.is_relative_to(configs) else None
