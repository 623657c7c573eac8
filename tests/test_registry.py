import pytest
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS, VISUALIZERS

from mmgfnuc import registry
from mmgfnuc.errors import UserError
from mmgfnuc.models.parts import check_part

NODES = [node for node in vars(registry).values() if getattr(node, 'scope', None) == 'mmgfnuc']


@pytest.mark.parametrize('node', NODES, ids=lambda node: node.name)
def test_every_node_is_a_direct_child_of_the_root(node):
    assert node.parent.scope == 'mmengine'
    assert node.parent.children['mmgfnuc'] is node


def test_every_kind_of_component_has_a_node():
    assert {node.name for node in NODES} >= {'model', 'dataset', 'data sampler', 'transform', 'metric', 'hook', 'loop'}


@pytest.mark.parametrize(
    ('root', 'kind', 'scope'),
    [
        (MODELS, 'EncoderDecoder', 'mmseg'),
        (DATASETS, 'ADE20KDataset', 'mmseg'),
        (TRANSFORMS, 'PackSegInputs', 'mmseg'),
        (METRICS, 'IoUMetric', 'mmseg'),
        (HOOKS, 'SegVisualizationHook', 'mmseg'),
        (VISUALIZERS, 'SegLocalVisualizer', 'mmseg'),
        (MODELS, 'UNetHead', 'mmgfnuc'),
        (MODELS, 'other.ResNet', 'mmseg'),
    ],
)
def test_a_part_of_another_scope_is_found_there(root, kind, scope, capsys):
    """A missing default scope is the cause, and said to be it."""
    name = kind.rpartition('.')[2]
    with pytest.raises(UserError) as error:
        check_part('part', {'type': kind}, root)
    assert f"part.type='{kind}'; it is a part of {scope}: write '{scope}.{name}'" in str(error.value)
    assert capsys.readouterr().out == ''


def test_a_part_of_no_scope_has_near_ones():
    with pytest.raises(UserError, match=r"part.type='mmseg.ResNett'; near it: ResNet"):
        check_part('part', {'type': 'mmseg.ResNett'}, MODELS)
