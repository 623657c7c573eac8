"""The configs that come with the package."""

from pathlib import Path

import mmgfnuc


def configs_folder() -> Path:
    """Folder `configs`: within the package where it is installed, beside it in a clone."""
    package = Path(mmgfnuc.__file__).parent
    installed = package / '.mim' / 'configs'
    return installed if installed.is_dir() else package.parent / 'configs'


def find_config(name: str) -> Path | None:
    """Find a config that is named as here, such as `configs/cpu/own_data.py`; None if there is none."""
    configs = configs_folder().resolve()
    path = (configs.parent / name).resolve()
    return path if path.is_file() and path.is_relative_to(configs) else None
