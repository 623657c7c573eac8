import subprocess
import sys

import pytest

from mmgfnuc import registry

CONFIG = """
default_scope = 'mmseg'
model = dict(type='mmgfnuc.FusionNeck', in_channels=(4, 8), context_channels=(6,), levels='all')
"""
SCRIPT = """
import sys
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
assert not [name for name in sys.modules if name.startswith('mmgfnuc')]
config = Config.fromfile('config.py')
init_default_scope(config.default_scope)
neck = MODELS.build(config.model)
print(type(neck).__module__, type(neck.blocks['1']).__name__)
"""


def test_components_are_found_by_scope_in_a_fresh_interpreter(tmp_path):
    """A config of another default scope names a part of ours: no `custom_imports`, no import in the program."""
    (tmp_path / 'config.py').write_text(CONFIG)
    (tmp_path / 'script.py').write_text(SCRIPT)
    run = subprocess.run([sys.executable, '-W', 'ignore', 'script.py'], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ['mmgfnuc.models.necks.fusion_neck', 'GatedFusionBlock']


NODES = [node for node in vars(registry).values() if getattr(node, 'scope', None) == 'mmgfnuc']


@pytest.mark.parametrize('node', NODES, ids=lambda node: node.name)
def test_every_node_is_a_direct_child_of_the_root(node):
    assert node.parent.scope == 'mmengine'
    assert node.parent.children['mmgfnuc'] is node


def test_every_kind_of_component_has_a_node():
    assert {node.name for node in NODES} >= {'model', 'dataset', 'data sampler', 'transform', 'metric', 'hook', 'loop'}
