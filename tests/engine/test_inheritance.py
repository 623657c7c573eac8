"""What a config inherits and changes: where it has an effect, and where it is refused."""

import pytest

from mmgfnuc.engine.config import load_config
from mmgfnuc.errors import UserError

HEAD = 'from mmengine.config import read_base\n\nwith read_base():\n'
FINISHED = HEAD + '    from mmgfnuc.configs.instances.unet_context_hover import *\n'
PARTS = (
    HEAD
    + """
    from mmgfnuc.configs._base_.datasets.nuinsseg import *
    from mmgfnuc.configs._base_.schedules.adam_steps import *
    from mmgfnuc.configs._base_.unets.unet import backbone, decode_head

model = dict(type='mmgfnuc.FusionSegmentor', backbone=backbone)
model.update(decode_head=decode_head)
"""
)


@pytest.fixture
def load(tmp_path):
    def write(text, name='mine.py'):
        path = tmp_path / name
        path.write_text(text)
        return load_config(str(path))

    return write


@pytest.mark.parametrize(
    ('lines', 'line', 'instead'),
    [
        ("foundation.update(tune='lora')", 5, r'write model\.foundation\.update\(\.\.\.\)$'),
        ("foundation.tune = 'lora'", 5, r'write model\.foundation\.update'),
        ("foundation['lora'] = dict(rank=4)", 5, r'write model\.foundation\.update'),
        ("foundation = dict(foundation, tune='lora')", 5, r'write model\.foundation = \.\.\.$'),
        ("del foundation['name']", 5, r'write model\.foundation\.update'),
        # The network decoder, which the head of that config holds.
        ('decode_head.loss_decode.update(gamma=1)', 5, r'write model\.decode_head\.decoder\.update'),
        ('head.update(num_classes=3)', 5, r'write model\.decode_head\.update'),
        ("train_pipeline.insert(0, dict(type='x'))", 5, r'change the setting that was made of it'),
        # Of a file further down.
        ('scale = 0.25', 5, 'change the setting that was made of it, such as model.test_cfg'),
        ("model.update(neck=neck)\nneck.update(levels='all')", 6, r'write model\.neck\.update'),
    ],
)
def test_a_change_that_nothing_uses_is_refused(load, lines, line, instead):
    with pytest.raises(UserError, match=rf'mine\.py, line {line}: .*{instead}') as caught:
        load(FINISHED + lines)
    assert '\n' not in str(caught.value)


def test_what_comes_from_a_finished_config_is_changed_where_the_model_has_it(load):
    config = load(
        FINISHED
        + """
model.foundation.update(tune='lora', lora=dict(rank=8))
model.decode_head.decoder.update(skip_channels=8)
model.neck = dict(type='mmgfnuc.FusionNeck', block=dict(type='mmgfnuc.AddFusionBlock'))
backbone.update(widths=(8, 16))
model.update(backbone=backbone)
mine = dict(a=1)
mine.update(b=2)
del foundation
train_dataloader.dataset.pipeline.pop(0)
"""
    )
    assert (config.model.foundation.name, config.model.foundation.lora) == ('vit-tiny', {'rank': 8})
    assert config.model.decode_head.decoder.skip_channels == 8
    assert config.model.neck == {'type': 'mmgfnuc.FusionNeck', 'block': {'type': 'mmgfnuc.AddFusionBlock'}}
    assert config.model.backbone.widths == (8, 16)


def test_parts_of_a_model_that_the_file_makes_are_changed_after_it_too(load):
    """There they are the same objects."""
    config = load(f'{PARTS}backbone.update(widths=(8, 16))\ndecode_head.update(skip_channels=8)\n')
    assert config.model.backbone.widths == (8, 16)
    assert config.model.decode_head.skip_channels == 8


def test_a_variable_with_another_value_comes_too_late_for_the_model(load):
    with pytest.raises(UserError, match=r'mine\.py, line 11: .* write model\.backbone = \.\.\.$'):
        load(f"{PARTS}backbone = dict(type='mmgfnuc.UNetEncoder', widths=(8, 16))\n")


def test_a_key_of_a_dict_that_the_file_makes_is_no_attribute(load):
    with pytest.raises(
        UserError, match=r"no attribute 'backbone'; in the file that makes a dict write \['backbone'\]$"
    ):
        load(f'{PARTS}model.backbone.update(widths=(8, 16))')
    config = load(f"{PARTS}model['backbone'].update(widths=(8, 16))")
    assert config.model.backbone.widths == (8, 16)


def test_changes_of_an_inherited_config_count_with_those_who_inherit_it(load):
    """A preset is there to be used or not; a config with a model is not."""
    load(f'{PARTS}mine = 0.5\ninference.update(tile=128)\nmodel.update(test_cfg=inference)', 'base.py')
    unused = f"{FINISHED}foundation.update(tune='lora')\n"
    with pytest.raises(UserError, match=r'base\.py, line 5'):
        load(unused, 'base.py')
    with pytest.raises(UserError, match=r'base\.py, line 5'):
        load(f'{HEAD}    from .base import *\n')
    used = load(f'{HEAD}    from .base import *\nmodel.update(foundation=foundation)\n')
    assert used.model.foundation.tune == 'lora'
    imports = f'{HEAD}    from .base import model, foundation as encoder, train_dataloader\n'
    assert load(f'{imports}model.update(foundation=encoder)\n').model.foundation.tune == 'lora'


@pytest.mark.parametrize(
    ('base', 'module'),
    [
        ("'mmgfnuc::cpu/own_data.py'", 'mmgfnuc.configs.cpu.own_data'),
        ("['mmgfnuc::configs/_base_/unets/unet.py']", 'mmgfnuc.configs._base_.unets.unet'),
    ],
)
def test_a_base_line_cannot_name_a_config_of_the_package(load, base, module):
    with pytest.raises(UserError, match=f'mine.py, line 2: .* with read_base..: from {module} import .$'):
        load(f'resume = False\n_base_ = {base}\n')
