"""Features of GeoJSON, as QuPath writes them, and files of them in the source of a user."""

import json

import numpy as np

from .own_source import add_image


def rectangle(left, top, right, bottom):
    """Corners of a rectangle of pixels, `right` and `bottom` excluded."""
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def box(left, top, right, bottom):
    return np.array(rectangle(left, top, right, bottom), float)


def feature(kind, coordinates, name=None, object_type='annotation', **fields):
    properties = {'objectType': object_type}
    if name:
        properties['classification'] = {'name': name, 'color': [200, 0, 0]}
    geometry = {'type': kind, 'coordinates': coordinates}
    return {'type': 'Feature', 'id': 'x', 'geometry': geometry, 'properties': properties} | fields


def closed(*corners):
    """Ring of GeoJSON: the last point is the first."""
    ring = rectangle(*corners)
    return [*ring, ring[0]]


def add_features(source, content, stem='a', suffix='.geojson'):
    add_image(source, stem)
    (source / 'annotations').mkdir(exist_ok=True)
    if isinstance(content, list):
        content = {'type': 'FeatureCollection', 'features': content}
    text = content if isinstance(content, str) else json.dumps(content)
    (source / 'annotations' / f'{stem}{suffix}').write_text(text)
