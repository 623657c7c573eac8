"""Files of Aperio ImageScope become outlines or one clear error."""

import os

import numpy as np
import pytest

from mmgfnuc.datasets.canonical import BadFileError
from mmgfnuc.datasets.converters.imagescope import read_mpp, read_regions
from mmgfnuc.datasets.converters.outlines import draw
from mmgfnuc.errors import UserError

from .features import box

BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;">]>\n<Annotations>&b;</Annotations>'
OUTSIDE_ENTITY = '<!DOCTYPE a [<!ENTITY a SYSTEM "file:///etc/hostname">]>\n<Annotations>&a;</Annotations>'


def test_outlines_layers_and_pixel_size_of_an_imagescope_file(tmp_path, write_imagescope):
    first, second, third = box(1, 1, 4, 4), box(5.25, 5.5, 7, 8), box(0, 0, 2, 2)
    layers = {'Epithelial': [first, second], 'Lymphocyte ': [third], 'Empty': []}
    path = write_imagescope(tmp_path / 'a.xml', layers)
    regions = read_regions(path)
    assert [region.kind for region in regions] == ['Epithelial', 'Epithelial', 'Lymphocyte']
    assert [region.name for region in regions][1:] == [
        "region 2 of layer 'Epithelial'",
        "region 1 of layer 'Lymphocyte'",
    ]
    for region, points in zip(regions, (first, second, third), strict=True):
        np.testing.assert_array_equal(region.area, [[points]])
    assert read_mpp(path) == 0.252
    assert read_mpp(write_imagescope(tmp_path / 'b.xml', {}, mpp=None)) is None
    assert read_mpp(write_imagescope(tmp_path / 'c.xml', {}, mpp=0)) is None


def test_stray_clicks_are_left_out_and_named(tmp_path, write_imagescope):
    outlines = [[], [(1, 1)], [(1, 1), (5, 5)], box(1, 1, 4, 4), [(1, 1), (5, 5), (1, 1), (5, 5)]]
    path = write_imagescope(tmp_path / 'a.xml', {'Description': outlines})
    drawing = draw(path, read_regions(path), (5, 6))
    assert np.unique(drawing.instances).tolist() == [0, 4]
    ((what, names),) = drawing.notices.items()
    assert 'enclose nothing' in what
    assert names == [f"region {number} of layer 'Description'" for number in (1, 2, 3, 5)]


def test_coordinates_of_imagescope_count_from_the_corner_of_the_image(tmp_path, write_imagescope):
    path = write_imagescope(tmp_path / 'a.xml', {'': [box(0, 0, 4, 2)]})
    labels = draw(path, read_regions(path), (5, 6)).instances
    np.testing.assert_array_equal(np.argwhere(labels), [(r, c) for r in (0, 1) for c in (0, 1, 2, 3)])


OUTSIDE = [box(-9, 1, 0, 4), box(6, 1, 9, 4), box(1, 5, 4, 9), box(1, -9, 4, -2)]


def test_outlines_outside_of_the_image_are_left_out_and_named(tmp_path, write_imagescope):
    path = write_imagescope(tmp_path / 'a.xml', {'': [box(0, 0, 4, 2), *OUTSIDE]})
    drawing = draw(path, read_regions(path), (5, 6))
    assert np.count_nonzero(drawing.instances) == 8
    ((what, names),) = drawing.notices.items()
    assert 'outside of the image' in what
    assert len(names) == 4


@pytest.mark.parametrize('outline', OUTSIDE)
def test_a_file_of_which_nothing_lies_in_the_image_is_an_error(tmp_path, write_imagescope, outline):
    path = write_imagescope(tmp_path / 'a.xml', {'': [outline]})
    with pytest.raises(BadFileError, match=r'a\.xml: .* 5 x 6 pixels .* region 1 .*outside of the image'):
        draw(path, read_regions(path), (5, 6))


@pytest.mark.parametrize('text', ['1', 'True'])
def test_negative_regions_are_holes_of_the_smallest_region_around_them(tmp_path, text):
    """Two nuclei, one in the ring of the other; a hole in each."""
    rings = [box(0, 0, 14, 12), box(4, 4, 10, 10), box(3, 3, 11, 11), box(6, 6, 8, 8)]
    negative = [False, False, True, True]
    regions = ''.join(
        f'<Region NegativeROA="{text if hole else 0}"><Vertices>'
        + ''.join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring)
        + '</Vertices></Region>'
        for ring, hole in zip(rings, negative, strict=True)
    )
    path = tmp_path / 'a.xml'
    path.write_text(f'<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>')
    expected = np.zeros((12, 14), int)
    expected[:, :] = 1
    expected[3:11, 3:11] = 0
    expected[4:10, 4:10] = 2
    expected[6:8, 6:8] = 0
    np.testing.assert_array_equal(draw(path, read_regions(path), (12, 14)).instances, expected)


def test_a_negative_region_in_no_other_is_named(tmp_path):
    regions = ''.join(
        f'<Region NegativeROA="{hole}"><Vertices>'
        + ''.join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring)
        + '</Vertices></Region>'
        for ring, hole in ((box(0, 0, 4, 4), 0), (box(8, 8, 9, 9), 1))
    )
    path = tmp_path / 'a.xml'
    path.write_text(f'<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>')
    drawing = draw(path, read_regions(path), (12, 14))
    np.testing.assert_array_equal(np.argwhere(drawing.instances).max(axis=0), [3, 3])
    assert list(drawing.notices.values()) == [["region 2 of layer ''"]]


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        (BOMB, 'EntitiesForbidden'),
        (OUTSIDE_ENTITY, 'EntitiesForbidden'),
        ('', 'unreadable'),
        ('<Annotations><Annotation>', 'unreadable'),
        ('<?xml version="1.0" encoding="no-such"?><Annotations/>', 'unreadable'),
        ('<html/>', 'outermost tag is <html>'),
        ('\x00\x01', 'unreadable'),
    ],
)
def test_what_is_no_imagescope_file_is_an_error(tmp_path, text, fault):
    path = tmp_path / 'a.xml'
    path.write_text(text)
    with pytest.raises(BadFileError, match=rf'a\.xml: .*{fault}'):
        read_regions(path)


@pytest.mark.parametrize('text', [BOMB, '<html/>', '', '<Annotations MicronsPerPixel="wide"/>'])
def test_a_pixel_size_that_cannot_be_read_is_an_error(tmp_path, text):
    path = tmp_path / 'a.xml'
    path.write_text(text)
    with pytest.raises(BadFileError, match=r'a\.xml'):
        read_mpp(path)


@pytest.mark.parametrize(
    ('text', 'mpp'),
    [('nan', None), ('inf', None), ('-1', None), ('1' * 400, None), ('', None), (' ', None), ('0.5', 0.5)],
)
def test_a_pixel_size_that_is_none(tmp_path, text, mpp):
    path = tmp_path / 'a.xml'
    path.write_text(f'<Annotations MicronsPerPixel="{text}"/>')
    assert read_mpp(path) == mpp


@pytest.mark.parametrize('vertex', ['<Vertex X="1"/>', '<Vertex X="1" Y="high"/>', '<Vertex X="1" Y="nan"/>'])
def test_a_point_without_place_costs_its_region_alone(tmp_path, vertex):
    path = tmp_path / 'a.xml'
    sound = ''.join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in box(0, 0, 4, 2))
    path.write_text(
        f'<Annotations><Annotation><Regions><Region><Vertices>{sound}</Vertices></Region>'
        f'<Region><Vertices>{vertex * 3}</Vertices></Region></Regions></Annotation></Annotations>'
    )
    drawing = draw(path, read_regions(path), (5, 6))
    assert np.count_nonzero(drawing.instances) == 8
    assert list(drawing.notices.values()) == [["region 2 of layer ''"]]


@pytest.mark.parametrize('text', ['0.0001', '500'])
def test_a_pixel_size_that_no_microscope_gives_is_refused(tmp_path, text):
    path = tmp_path / 'a.xml'
    path.write_text(f'<Annotations MicronsPerPixel="{text}"/>')
    with pytest.raises(UserError, match=rf'a\.xml: {text} micrometres'):
        read_mpp(path)


@pytest.mark.parametrize('kind', ['3', '4'])
def test_rulers_and_arrows_are_no_nuclei(tmp_path, kind):
    """Even with three points; of the layers that outlines are on the type means nothing."""
    path = tmp_path / 'a.xml'
    regions = ''
    for type_, corners in (('0', box(0, 0, 4, 2)), (kind, box(0, 3, 4, 5))):
        vertices = ''.join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in corners)
        regions += f'<Region Type="{type_}"><Vertices>{vertices}</Vertices></Region>'
    path.write_text(f'<Annotations><Annotation Type="4"><Regions>{regions}</Regions></Annotation></Annotations>')
    drawing = draw(path, read_regions(path), (5, 6))
    assert np.unique(drawing.instances).tolist() == [0, 1]
    assert not drawing.unsure.any()
    assert list(drawing.notices.values()) == [["region 2 of layer ''"]]


def test_a_named_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / 'a.xml'
    os.mkfifo(path)
    for read in (read_regions, read_mpp):
        with pytest.raises(BadFileError, match=r'a\.xml: a folder, named pipe or device'):
            read(path)
