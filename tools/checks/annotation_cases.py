"""Hostile and unlucky files of annotations, each with how its reader must end."""

import gzip
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SIZE = 48, 64
SOUND = [[2, 2], [12, 2], [12, 12], [2, 12], [2, 2]]
HUGE = int('9' * 400)
ERROR, NOTICE, READ = 'error', 'notice', 'read'

Write = Callable[[Path], Any]
Case = tuple[str, str, Write]


def geojson(*objects: Any, sound: bool = True) -> Write:
    """Write objects, and a nucleus that is sound."""
    return as_json([*([feature(SOUND)] if sound else []), *objects])


def feature(ring: Any, **changes: Any) -> dict[str, Any]:
    geometry = {'type': 'Polygon', 'coordinates': [ring]}
    return {'type': 'Feature', 'geometry': geometry, 'properties': {'objectType': 'annotation'}} | changes


def classified(given: Any) -> dict[str, Any]:
    return feature(SOUND, properties={'classification': given})


def coco(*segmentations: Any, **changes: Any) -> Write:
    """Write annotations, the first one sound."""
    sound = [[20, 20, 30, 20, 30, 30, 20, 30]]
    content = {
        'images': [{'id': 1, 'file_name': 'a.png'}],
        'annotations': [
            {'id': number, 'image_id': 1, 'category_id': 1, 'segmentation': segmentation}
            for number, segmentation in enumerate([sound, *segmentations])
        ],
        'categories': [{'id': 1, 'name': 'nucleus'}],
    }
    return as_json(content | changes)


def annotation(**changes: Any) -> dict[str, list[dict[str, Any]]]:
    entry = {'id': 1, 'image_id': 1, 'category_id': 1, 'segmentation': [[20, 20, 30, 20, 30, 30]]}
    return {'annotations': [entry | changes]}


def runs(*counts: Any, size: Any = SIZE) -> dict[str, Any]:
    return {'size': list(size) if isinstance(size, tuple) else size, 'counts': list(counts)}


def imagescope(*regions: str, head: str = '<Annotations>', sound: bool = True) -> Write:
    """Write regions, and one that is sound."""
    every = [*([region(SOUND)] if sound else []), *regions]
    text = f'{head}<Annotation><Regions>{"".join(every)}</Regions></Annotation></Annotations>'
    return lambda path: path.write_text(text)


def region(points: Any, attributes: str = '') -> str:
    return f'<Region {attributes}><Vertices>{"".join(vertex(*point) for point in points)}</Vertices></Region>'


def vertex(x: Any, y: Any) -> str:
    return f'<Vertex X="{x}" Y="{y}"/>'


def as_json(content: Any) -> Write:
    return lambda path: path.write_text(json.dumps(content))


def as_text(text: str) -> Write:
    return lambda path: path.write_text(text)


def as_bytes(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def link(target: str) -> Write:
    return lambda path: path.symlink_to(target)


def packed(content: bytes) -> Write:
    return lambda path: path.with_name('a.geojson.gz').write_bytes(content)


def any_file(sound: bytes) -> Iterator[tuple[str, str, Write]]:
    """What may happen to a file of any format."""
    yield 'named pipe', ERROR, os.mkfifo
    yield 'device', ERROR, link('/dev/zero')
    yield 'dangling link', ERROR, link('nowhere')
    yield 'folder', ERROR, Path.mkdir
    yield 'nothing', ERROR, as_bytes(b'')
    yield 'zeros', ERROR, as_bytes(bytes(10**6))
    yield 'random bytes', ERROR, as_bytes(np.random.default_rng(0).bytes(10**5))
    yield 'cut off', ERROR, as_bytes(sound[: len(sound) // 2])
    yield 'not UTF-8', ERROR, as_bytes(sound.replace(b'a', b'\xff', 1))


def geojson_cases() -> Iterator[Case]:
    yield from any_file(json.dumps([feature(SOUND)]).encode())
    for name, text in {
        'deep lists': '[' * 10**6,
        'deep lists that end': '[' * 10**5 + ']' * 10**5,
        'deep objects': '{"a":' * 10**5,
        'a number of 5000 digits': f'[{"9" * 5000}]',
        'null': 'null',
        'a number': '7',
        'a text': '"nuclei"',
        'an object': '{}',
        'features that are a text': '{"features": "x"}',
        'features that are null': '{"features": null}',
        'a COCO file': '{"images": [], "annotations": [], "categories": []}',
    }.items():
        yield name, ERROR, as_text(text)
    yield 'a bomb', ERROR, packed(gzip.compress(bytes(2**28)))
    yield 'packed, cut off', ERROR, packed(gzip.compress(b'[]')[:-4])
    yield 'not packed', ERROR, packed(b'[]')
    for number, value in enumerate([None, True, 7, 'x', [], {}, [[]], {'geometry': 5}, {'geometry': {}}, HUGE]):
        yield f'feature of type {number}', NOTICE, geojson(value)
        yield f'geometry of type {number}', NOTICE, geojson(feature(SOUND, geometry=value))
        yield f'ring of type {number}', NOTICE, geojson(feature(value))
        yield f'point of type {number}', NOTICE, geojson(feature([[1, 1], value, [5, 5], [5, 1]]))
        yield f'number of type {number}', NOTICE, geojson(feature([[1, 1], [value, value], [value, 1]]))
    for number, value in enumerate([[1], 'x', 7, True, [{}]]):
        yield f'properties of type {number}', NOTICE, geojson(feature(SOUND, properties=value))
    for number, value in enumerate([7, [1], {'name': 5}, {'names': [1]}, {'name': {'x': 1}}, {'parentClass': 7}]):
        yield f'classification of type {number}', NOTICE, geojson(classified(value))
    deep: Any = {'name': 'x'}
    for _ in range(300):
        deep = {'name': 'x', 'parentClass': deep}
    yield 'a class of 300 parents', READ, geojson(classified(deep), sound=False)
    strange = [classified({'name': name}) for name in ('\ud800', 'a\nb', '\0')]
    yield 'classes that are not text, on one nucleus', NOTICE, geojson(*strange, sound=False)
    yield '300 nucleus types', ERROR, geojson(*(classified({'name': f'{k}'}) for k in range(300)), sound=False)
    for name, ring in {
        'empty': [],
        'one point': [[3, 3]],
        'two points': [[3, 3], [9, 9], [3, 3]],
        'one point ten times': [[3, 3]] * 10,
        'infinite': [[1, 1], [float('inf'), 2], [5, 5]],
        'not a number': [[1, 1], [float('nan'), 2], [5, 5]],
        'beyond 2**31': [[1, 1], [1e300, 2], [5, 5]],
        'outside': [[100, 100], [110, 100], [110, 110]],
        'negative': [[-20, -20], [-10, -20], [-10, -10]],
        'of a slide': [[51234, 20987], [51250, 20987], [51250, 21000]],
        'of micrometres': [[0.1, 0.1], [0.3, 0.1], [0.3, 0.3]],
        'a bow tie': [[20, 20], [40, 40], [40, 20], [20, 40]],
        'twice around': [[20, 20], [30, 20], [30, 30], [20, 30]] * 2,
        'the same again': SOUND,
        'texts': [['1', '1'], ['5', '1'], ['5', '5']],
    }.items():
        yield f'outline: {name}', NOTICE, geojson(feature(ring))
    for kind in ('Point', 'LineString', 'MultiPoint', 'GeometryCollection', 'Circle', '', 'x\ny', None, ['Polygon']):
        yield f'geometry: {kind!r}', NOTICE, geojson(feature(SOUND, geometry={'type': kind, 'coordinates': [1, 2]}))
    for kind in ('tile', 'tmaCore', 'root', 'cell'):
        yield f'object: {kind}', NOTICE, geojson(feature(SOUND, properties={'objectType': kind}))
    yield 'object: another', READ, geojson(feature(SOUND, properties={'objectType': [7]}), sound=False)
    many = np.random.default_rng(0).uniform(0, 60, (10**5, 2)).tolist()
    yield 'an outline of 100,000 random points', NOTICE, geojson(feature(many))
    pixels = ([x, y, x + 1, y + 1] for x in range(60) for y in range(40))
    yield (
        '2,400 outlines',
        READ,
        geojson(*(feature([[x, y], [u, y], [u, v], [x, v]]) for x, y, u, v in pixels), sound=False),
    )
    children: Any = [feature(SOUND)]
    for _ in range(200):
        children = [feature(SOUND, properties={'objectType': 'root', 'childObjects': children})]
    yield '200 levels of children', NOTICE, geojson(*children, sound=False)
    yield (
        'nothing but bad ones',
        ERROR,
        geojson(None, feature([]), feature([[100, 100], [110, 100], [110, 110]]), sound=False),
    )
    yield (
        'everything ignored',
        ERROR,
        geojson(feature([[0, 0], [64, 0], [64, 48], [0, 48]], properties={'classification': {'name': 'Ignore*'}})),
    )


def coco_cases() -> Iterator[Case]:
    yield from any_file(json.dumps({'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': 'a'}]}).encode())
    pixels = SIZE[0] * SIZE[1]
    for name, text in {'deep lists': '[' * 10**6, 'deep objects': '{"images":' * 10**5, 'a list': '[]'}.items():
        yield name, ERROR, as_text(text)
    for name, segmentation in {
        'runs that wrap around': runs(*[2**62] * 4, 4096),
        'runs that wrap around to the right sum': runs(*[2**62] * 4, pixels),
        'runs of 64 bits': runs(2**64 - 1, pixels + 1),
        'runs of 400 digits': runs(HUGE),
        'runs below 0': runs(pixels + 8, -8),
        'runs too few': runs(5),
        'runs too many': runs(10**15),
        'runs that are fractions': runs(pixels - 0.5, 0.5),
        'runs that are texts': runs(str(pixels)),
        'runs that are lists': runs([pixels]),
        'runs that are null': runs(None),
        'no runs': {'size': list(SIZE)},
        'runs of another size': runs(25, size=[5, 5]),
        'a size of another type': runs(pixels, size='48x64'),
        'a size of 400 digits': runs(pixels, size=[HUGE, 1]),
        'compressed, not ASCII': {'size': list(SIZE), 'counts': 'é'},
        'compressed, endless number': {'size': list(SIZE), 'counts': 'o' * 10**5},
        'compressed, large': {'size': list(SIZE), 'counts': 'oooooooooooo0' * 4},
        'compressed, empty': {'size': list(SIZE), 'counts': ''},
        'a box alone': [],
        'null': None,
        'a number': 7,
        'a text': '[[1,2,3]]',
        'polygons of numbers': [1, 2, 3, 4, 5, 6],
        'an odd polygon': [[1, 1, 5, 1, 5]],
        'a polygon of texts': [[1, 1, 5, '1', 5, 5]],
        'a polygon of lists': [[1, 1, [5], 1, 5, 5]],
        'a polygon of 400 digits': [[1, 1, HUGE, 1, 5, 5]],
        'a polygon of nulls': [[None] * 6],
        'two points': [[1, 1, 5, 5]],
        'not a number': [[1, 1, float('nan'), 1, 5, 5]],
        'outside': [[100, 100, 110, 100, 110, 110]],
        'a bow tie': [[2, 2, 12, 12, 12, 2, 2, 12]],
        'one sound part, one bad': [[1, 1, 5, 1, 5, 5], [7, 7]],
    }.items():
        yield f'segmentation: {name}', NOTICE, coco(segmentation)
    for key in ('images', 'annotations', 'categories'):
        for number, value in enumerate([None, {}, 'x', 7, [None], ['x'], [[]], [{}], [{'id': [1]}], [{'id': 1.5}]]):
            yield f'{key} of type {number}', ERROR, coco(**{key: value})
    for name, changes in {
        'a file name that is a number': {'images': [{'id': 1, 'file_name': 5}]},
        'a file name that leads out': {'images': [{'id': 1, 'file_name': '../../etc/passwd'}]},
        'a file name with a zero': {'images': [{'id': 1, 'file_name': 'a\0.png'}]},
        'a file name of 10,000 letters': {'images': [{'id': 1, 'file_name': 'a' * 10**4}]},
        'a file name that is not text': {'images': [{'id': 1, 'file_name': '\ud800.png'}]},
        'an empty file name': {'images': [{'id': 1, 'file_name': ''}]},
        'two images of one id': {'images': [{'id': 1, 'file_name': 'a.png'}] * 2},
        'a height that is a text': {'images': [{'id': 1, 'file_name': 'a.png', 'height': 'high'}]},
        'a height of 400 digits': {'images': [{'id': 1, 'file_name': 'a.png', 'height': HUGE}]},
        'a category that is a number': {'categories': [{'id': 1, 'name': 7}]},
        'two categories of one id': {'categories': [{'id': 1, 'name': 'a'}] * 2},
        '300 categories': {'categories': [{'id': number, 'name': f'{number}'} for number in range(300)]},
        'an unknown category': annotation(category_id='x\ny'),
        'an unknown image': annotation(image_id=99),
        'a crowd that is a list': annotation(iscrowd=[1]),
        'a crowd that is a text': annotation(iscrowd='yes'),
    }.items():
        yield name, ERROR, coco(**changes)


def groups_cases() -> Iterator[Case]:
    """Tables of groups beside sound annotations."""
    for name, text in {'deep': '[' * 10**6, 'a list': '["a"]', 'nulls': '{"a": null}', 'lists': '{"a": [1]}'}.items():
        yield f'groups.json: {name}', ERROR, beside('groups.json', as_text(text))
    for name in ('groups.json', 'groups.csv'):
        yield f'{name}: named pipe', ERROR, beside(name, os.mkfifo)
        yield f'{name}: not UTF-8', ERROR, beside(name, as_bytes(b'{"a": "\xff"}'))
        yield f'{name}: zeros', ERROR, beside(name, as_bytes(bytes(1000)))


def beside(name: str, write: Write) -> Write:
    """Write sound annotations, and another file into the source."""

    def both(path: Path) -> None:
        geojson()(path)
        write(path.parent.parent / name)

    return both


def imagescope_cases() -> Iterator[Case]:
    yield from any_file(b'<Annotations><Annotation><Regions></Regions></Annotation></Annotations>')
    entities = ''.join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10 if k else "ha"}">' for k in range(10))
    for name, text in {
        'a million tags': '<Annotations>' + '<a>' * 10**6,
        'a billion laughs': f'<!DOCTYPE a [{entities}]><Annotations>&l9;</Annotations>',
        'a file of the machine': '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/passwd">]><Annotations>&a;</Annotations>',
        'another root': '<html/>',
        'an encoding that is none': '<?xml version="1.0" encoding="none"?><Annotations/>',
        'a pixel size that is a text': '<Annotations MicronsPerPixel="wide"/>',
    }.items():
        yield name, ERROR, as_text(text)
    yield 'deep tags that end', READ, as_text(f'<Annotations>{"<a>" * 10**5}{"</a>" * 10**5}</Annotations>')
    for value in ('nan', 'inf', '-1', '9' * 400):
        yield f'a pixel size of {value[:9]}', READ, imagescope(head=f'<Annotations MicronsPerPixel="{value}">')
    for name, points in {
        'no point': [],
        'one point': [(1, 1)],
        'two points': [(1, 1), (5, 5)],
        'a text': [(1, 1), ('x', 1), (5, 5)],
        'an empty text': [(1, 1), ('', 1), (5, 5)],
        'not a number': [(1, 1), ('nan', 1), (5, 5)],
        'infinite': [(1, 1), ('inf', 1), (5, 5)],
        '400 digits': [(1, 1), (HUGE, 1), (5, 5)],
        'outside': [(100, 100), (110, 100), (110, 110)],
    }.items():
        yield f'region: {name}', NOTICE, imagescope(region(points))
    yield 'region: no vertices', NOTICE, imagescope('<Region/>')
    yield 'region: a vertex without Y', NOTICE, imagescope('<Region><Vertices><Vertex X="1"/></Vertices></Region>')
    yield 'a hole in nothing', NOTICE, imagescope(region([(30, 30), (35, 30), (35, 35)], 'NegativeROA="1"'))
    yield 'a hole', READ, imagescope(region([(4, 4), (8, 4), (8, 8)], 'NegativeROA="1"'))
    yield 'a hole outside', NOTICE, imagescope(region([(100, 100), (110, 100), (110, 110)], 'NegativeROA="1"'))
    yield 'nothing but bad ones', ERROR, imagescope(region([(1, 1)]), sound=False)


def cases() -> dict[str, tuple[str, str, Write]]:
    """Name, source, outcome and file of each case."""
    tables = (
        ('geojson', geojson_cases),
        ('geojson', groups_cases),
        ('coco', coco_cases),
        ('monuseg', imagescope_cases),
    )
    return {
        f'{source}, {name}': (source, outcome, write) for source, table in tables for name, outcome, write in table()
    }
