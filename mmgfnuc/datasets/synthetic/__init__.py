"""Synthetic H&E tiles with exact maps of nuclei and types: stains are drawn, light absorption makes the colours.

Four maps of stain concentration c (hematoxylin, eosin, erythrocyte, pigment) become light by Beer-Lambert absorption,
in base 10 and per colour channel: I = I0 * 10 ** -(c_H v_H + c_E v_E + c_R v_R + c_P v_P). I0 is the unevenly lit white
field, v the unit stain vectors; focus blur and sensor noise follow. Nuclei differ from the dark distractors
(erythrocytes, pigment, basophilic haze) in hue, texture and shape, not in darkness alone: no global threshold segments
them.
"""

from .nuclei import CLASSES
from .scan import StainStyle
from .tiles import MPP, dataset_tile, render_tile, render_typed_tile, write_dataset

__all__ = ['CLASSES', 'MPP', 'StainStyle', 'dataset_tile', 'render_tile', 'render_typed_tile', 'write_dataset']
