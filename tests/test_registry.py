import pytest

from mmgfnuc import registry

NODES = [node for node in vars(registry).values() if getattr(node, 'scope', None) == 'mmgfnuc']


@pytest.mark.parametrize('node', NODES, ids=lambda node: node.name)
def test_every_node_is_a_direct_child_of_the_root(node):
    assert node.parent.scope == 'mmengine'
    assert node.parent.children['mmgfnuc'] is node


def test_every_kind_of_component_has_a_node():
    assert {node.name for node in NODES} >= {'model', 'dataset', 'data sampler', 'transform', 'metric', 'hook', 'loop'}
