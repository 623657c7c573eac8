"""A real tissue image that comes with the package; README.md says whose it is."""

from pathlib import Path


def sample_image() -> Path:
    """Give the path of a small H&E image, human salivary gland of NuInsSeg (Mahbod et al. 2024, CC BY 4.0)."""
    return Path(__file__).with_name('tissue.png')
