"""What QuPath writes, version by version, in tiny hand-made folders of a user."""

import numpy as np
import pytest

from mmgfnuc.datasets import canonical
from mmgfnuc.datasets.converters.geojson import read_annotations

from .features import add_features, closed, feature
from .own_source import CONVERTERS, SIZE, convert, fault, instances, labels_of


def tree(depth):
    """A feature with a chain of children."""
    content = feature('Polygon', [closed(2, 3, 6, 8)])
    for _ in range(depth):
        parent = feature('Polygon', [closed(0, 0, 16, 12)], object_type='tmaCore')
        parent['properties']['childObjects'] = [content]
        content = parent
    return content


class TestQuPath:
    """What QuPath writes, version by version."""

    def read(self, source, content):
        add_features(source, content)
        return read_annotations(source / 'annotations' / 'a.geojson')

    @pytest.mark.parametrize('key', ['objectType', 'object_type', 'type', 'id'])
    @pytest.mark.parametrize(
        ('kind', 'former', 'nuclei'),
        [
            ('annotation', 'PathAnnotationObject', 1),
            ('detection', 'PathDetectionObject', 1),
            ('cell', 'PathCellObject', 1),
            ('tile', 'PathTileObject', 0),
            ('tmaCore', 'TMACoreObject', 0),
            ('root', 'PathRootObject', 0),
        ],
    )
    def test_types_of_objects(self, source, key, kind, former, nuclei):
        content = feature('Polygon', [closed(1, 1, 8, 8)])
        content['nucleusGeometry'] = {'type': 'Polygon', 'coordinates': [closed(3, 3, 5, 5)]}
        del content['properties']['objectType']
        (content if key == 'id' else content['properties'])[key] = former if key == 'id' else kind
        found = self.read(source, [content])
        assert len(found.nuclei) == nuclei
        assert list(found.notices.values()) == [['feature 1']] * (not nuclei)

    @pytest.mark.parametrize(
        ('classification', 'name'),
        [
            ({'name': 'Tumor', 'colorRGB': -3670016}, 'Tumor'),
            ({'name': 'Tumor', 'color': [200, 0, 0]}, 'Tumor'),
            ({'names': ['Tumor', 'Positive'], 'color': [1, 2, 3]}, 'Tumor: Positive'),
            ({'name': 'Positive', 'colorRGB': -1, 'parentClass': {'name': 'Tumor', 'colorRGB': -2}}, 'Tumor: Positive'),
            ({'name': 'Tumor: Positive'}, 'Tumor: Positive'),
            ('Tumor', 'Tumor'),
            ({}, ''),
            (None, ''),
            ({'name': None}, ''),
            ({'names': [None]}, ''),
            ({'name': 'two\nlines'}, 'two lines'),
            ({'name': '\ud800'}, '?'),
        ],
    )
    def test_names_of_classes(self, source, classification, name):
        content = feature('Polygon', [closed(1, 1, 8, 8)])
        content['properties']['classification'] = classification
        (nucleus,) = self.read(source, [content]).nuclei
        assert (nucleus.kind, nucleus.fault) == (name, '')

    @pytest.mark.parametrize('classification', [5, {'name': 5}, {'names': 'x', 'name': 'y'}, ['Tumor']])
    def test_classifications_of_other_types(self, source, classification):
        content = feature('Polygon', [closed(1, 1, 8, 8)])
        content['properties']['classification'] = classification
        (nucleus,) = self.read(source, [content]).nuclei
        assert nucleus.fault or nucleus.kind == 'x'

    @pytest.mark.parametrize('key', ['childObjects', 'children'])
    def test_children_are_found_and_named(self, source, key):
        child = feature('Polygon', [closed(2, 3, 6, 8)], object_type='detection')
        parent = feature('Polygon', [closed(0, 0, 16, 12)], object_type='tmaCore')
        middle = feature('Polygon', [closed(0, 0, 16, 12)], 'Stroma')
        middle['properties'][key] = [child, child]
        parent['properties'][key] = [middle]
        found = self.read(source, [child, parent])
        assert [nucleus.name for nucleus in found.nuclei] == ['feature 1', 'feature 2.1.1', 'feature 2.1.2']
        assert [area.name for area in found.annotated] == ['feature 2.1']

    def test_many_levels_of_children(self, source):
        assert len(self.read(source, [tree(100)]).nuclei) == 1
        add_features(source, '[' * 10**5)
        with pytest.raises(canonical.BadFileError, match='nested too deeply'):
            read_annotations(source / 'annotations' / 'a.geojson')

    @pytest.mark.parametrize('name', [None, 'Tumor', 'Region*'])
    def test_outside_of_the_annotated_area_is_ignored(self, source, tmp_path, name):
        """Nuclei stay where they are, also those outside."""
        area = feature('Polygon', [closed(0, 0, 10, 12)], name)
        nuclei = [feature('Polygon', [closed(*c)]) for c in ((1, 1, 4, 4), (5, 5, 8, 8), (9, 9, 12, 12))]
        add_features(source, [area, *nuclei])
        report = convert(CONVERTERS['geojson'], source, tmp_path / 'out')
        expected = instances(np.s_[1:4, 1:4], np.s_[5:8, 5:8], np.s_[9:12, 9:12])
        np.testing.assert_array_equal(labels_of(tmp_path / 'out'), expected)
        ignored = np.zeros(SIZE, bool)
        ignored[:, 10:] = True
        ignored[9:12, 10:12] = False
        np.testing.assert_array_equal(canonical.read_ignore(tmp_path / 'out' / 'ignore' / 'a.png'), ignored)
        (notice,) = report.notices
        assert 'annotated area' in notice
        assert f'(a: feature 1{f" ({name})" if name else ""})' in notice
        assert canonical.read_meta(tmp_path / 'out')['classes'] == canonical.CLASSES

    def test_classes_with_a_star_are_no_types(self, source, tmp_path):
        """Ignore* wins over nuclei, other ones do not."""
        nuclei = [feature('Polygon', [closed(1, 1, 4, 4)], 'one'), feature('Polygon', [closed(5, 5, 8, 8)], 'two')]
        add_features(
            source,
            [
                feature('Polygon', [closed(0, 0, 5, 5)], 'Debris*'),
                *nuclei,
                feature('Polygon', [closed(7, 0, 16, 12)], 'Ignore*'),
            ],
        )
        report = convert(CONVERTERS['geojson'], source, tmp_path / 'out')
        assert canonical.read_meta(tmp_path / 'out')['classes'] == ['background', 'one', 'two']
        assert canonical.count_nuclei(labels_of(tmp_path / 'out')) == 2
        ignored = np.zeros(SIZE, bool)
        ignored[:5, :5] = ignored[:, 7:] = True
        ignored[1:4, 1:4] = False
        np.testing.assert_array_equal(canonical.read_ignore(tmp_path / 'out' / 'ignore' / 'a.png'), ignored)
        assert len(report.notices) == 2

    @pytest.mark.parametrize('name', [None, 'Tissue'])
    @pytest.mark.parametrize('types', [(None, None), ('one', 'two')])
    def test_an_area_without_nuclei_is_an_area_where_another_holds_some(self, source, tmp_path, name, types):
        """Also in a typed set, in which it has no type."""
        content = [feature('Polygon', [closed(0, 0, 7, 10)], name), feature('Polygon', [closed(8, 0, 16, 12)], name)]
        content += [
            feature('Polygon', [closed(*c)], t) for c, t in zip(((1, 1, 4, 4), (4, 5, 7, 8)), types, strict=True)
        ]
        add_features(source, content)
        (notice,) = convert(CONVERTERS['geojson'], source, tmp_path / 'out').notices
        assert 'annotated area' in notice
        np.testing.assert_array_equal(labels_of(tmp_path / 'out'), instances(np.s_[1:4, 1:4], np.s_[5:8, 4:7]))
        ignored = instances(np.s_[:, 7:8], np.s_[10:, :8]) > 0
        np.testing.assert_array_equal(canonical.read_ignore(tmp_path / 'out' / 'ignore' / 'a.png'), ignored)

    def test_a_small_area_without_nuclei_is_an_area_where_another_holds_some(self, source):
        """It is ten times as large as the nuclei; one of nine times is one of them."""
        content = [feature('Polygon', [closed(*c)]) for c in ((0, 0, 100, 100), (200, 0, 210, 10), (200, 20, 209, 30))]
        content += [feature('Polygon', [closed(k * 9, 0, k * 9 + 2, 5)], object_type='detection') for k in range(6)]
        found = self.read(source, content)
        assert [area.name for area in found.annotated] == ['feature 1', 'feature 2']
        assert len(found.nuclei) == 7

    def test_an_ignored_area_makes_no_area_of_nuclei(self, source):
        content = [feature('Polygon', [closed(0, 0, 6, 6)], 'Debris*')]
        content += [
            feature('Polygon', [closed(*c)]) for c in ((1, 1, 3, 3), (4, 4, 5, 6), (0, 8, 2, 10), (8, 0, 16, 12))
        ]
        found = self.read(source, content)
        assert found.annotated == []
        assert len(found.nuclei) == 5

    @pytest.mark.parametrize('name', ['ignore*', 'IGNORE*', 'region*'])
    def test_case_does_not_matter(self, source, name):
        content = [feature('Polygon', [closed(1, 1, 4, 4)]), feature('Polygon', [closed(8, 0, 16, 12)], name)]
        found = self.read(source, content)
        assert [len(found.nuclei), len(found.ignored) + len(found.annotated)] == [1, 1]

    def test_an_image_that_is_all_ignored_is_refused(self, source, tmp_path):
        add_features(source, [feature('Polygon', [closed(50, 50, 70, 70)], 'Region*')])
        assert 'all of the image is ignored' in fault('geojson', source, tmp_path)

    def test_cells_around_nuclei_and_specks_in_them_are_no_areas(self, source):
        """Neither an outline four times as large as the one in it, nor a nucleus with a slip of the pen in it."""
        content = [feature('Polygon', [closed(0, 0, 8, 8)]), feature('Polygon', [closed(2, 2, 6, 6)])]
        assert self.read(source, content).annotated == []
        speck = feature('Polygon', [closed(3, 3, 4, 4)])
        content = [feature('Polygon', [closed(4 * i, 0, 4 * i + 4, 6)]) for i in range(4)] + [speck]
        found = self.read(source, content)
        assert found.annotated == []
        assert len(found.nuclei) == 5

    def test_found_and_drawn_nuclei_are_both_taken(self, source, tmp_path):
        """A nucleus drawn over one that was found wins; what is left of the other is a sliver, and ignored."""
        places = [(1, 1, 5, 5), (6, 1, 9, 5), (10, 1, 14, 5)]
        kinds = ['detection', 'annotation', 'cell']
        content = [feature('Polygon', [closed(*c)], object_type=kind) for c, kind in zip(places, kinds, strict=True)]
        content[2]['nucleusGeometry'] = content[2]['geometry']
        content.append(feature('Polygon', [closed(1, 2, 5, 6)]))
        add_features(source, content)
        report = convert(CONVERTERS['geojson'], source, tmp_path / 'out')
        nuclei = instances(np.s_[2:6, 1:5], np.s_[1:5, 6:9], np.s_[1:5, 10:14])
        np.testing.assert_array_equal(labels_of(tmp_path / 'out') > 0, nuclei > 0)
        assert canonical.count_nuclei(labels_of(tmp_path / 'out')) == 3
        ignored = canonical.read_ignore(tmp_path / 'out' / 'ignore' / 'a.png')
        np.testing.assert_array_equal(ignored, instances(np.s_[1:2, 1:5]) > 0)
        (notice,) = report.notices
        assert 'cover more than half' in notice
        assert 'feature 1' in notice
