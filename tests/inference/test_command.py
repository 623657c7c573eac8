"""`mmgfnuc predict` with a ready model; with a checkpoint: tests/tools/test_infer.py."""

import json
import signal

import pytest

from mmgfnuc.commands.predict import main
from mmgfnuc.errors import UserError

from .stub import states


@pytest.fixture
def predict(ready, many, tmp_path):
    """Runs the command on four images."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*options, model=ready, out=tmp_path / 'out'):
        main([str(many[0].parent), '--model', str(model), '--device', 'cpu', '--out', str(out), *options])
        return out

    yield run
    signal.signal(signal.SIGTERM, before)


def test_a_ready_model_is_known_by_its_name_and_its_settings_can_be_changed(predict, tmp_path, capsys):
    out = predict()
    assert set(states(out)) == set('abcd')
    described = json.loads((out / 'prediction.json').read_text())
    assert described['model'] == 'small'
    predict()
    assert '4 of 4 images are done already' in capsys.readouterr().out
    smaller = ('--cfg-options', 'model.test_cfg.scale=0.5')
    with pytest.raises(UserError, match=r'\(small; config\.test_cfg\.scale was None, is 0\.5\)'):
        predict(*smaller)
    predict(*smaller, '--overwrite')
    assert json.loads((out / 'prediction.json').read_text())['config']['test_cfg'] == {'scale': 0.5}


def test_settings_that_a_ready_model_does_not_have_are_refused(predict, tmp_path):
    for option in ('model.no_such=1', 'model.test_cfg.scal=1', 'optimizer.lr=1'):
        with pytest.raises(UserError, match=option.partition('=')[0].rpartition('.')[2]):
            predict('--cfg-options', option)
    with pytest.raises(UserError, match='unknown'):
        predict(model='no-such-model')
    assert not (tmp_path / 'out').exists()
