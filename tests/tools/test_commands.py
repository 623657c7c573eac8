"""The console command and its scripts: help without PyTorch, exit codes, configs of the package from any folder."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmgfnuc.commands import main as console
from mmgfnuc.engine.config import load_config
from mmgfnuc.errors import UserError
from mmgfnuc.shipped import configs_folder

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
SCRIPTS = {
    **{name: f'{name}.py' for name in ('train', 'test', 'benchmark', 'doctor')},
    **{name: f'datasets/{name}.py' for name in ('prepare', 'check', 'browse')},
    'predict': 'infer.py',
    **{name: f'weights/{name}.py' for name in ('publish', 'score')},
}
HEAVY = ('torch', 'mmengine', 'mmcv', 'mmseg', 'sklearn')
LIGHT = ('mmgfnuc.evaluation.functional', 'mmgfnuc.datasets.canonical', 'mmgfnuc.datasets.converters')
# A script, then the subcommand in its place: both print the same help.
HELP = f"""
import contextlib, io, runpy, sys
from mmgfnuc.commands.main import main

def printed(run):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        try:
            run()
        except SystemExit as end:
            assert end.code == 0
    return text.getvalue()

script, *command = sys.argv[1:]
sys.argv = [script, '--help']
of_script = printed(lambda: runpy.run_path(script, run_name='__main__'))
sys.argv = ['mmgfnuc', *command, '--help']
print(of_script if not command or of_script == printed(main) else '')
assert not set({HEAVY}) & set(sys.modules), set({HEAVY}) & set(sys.modules)
"""


def fresh(*command):
    """Output of a Python process of its own."""
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize('module', LIGHT)
def test_a_light_module_imports_nothing_heavy(module):
    """Workers of a conversion import the converters, and nothing else."""
    assert fresh('-c', f'import {module}, sys; print(set({HEAVY}) & set(sys.modules))') == 'set()\n'


@pytest.mark.parametrize('name', SCRIPTS)
def test_help_of_a_command_and_of_its_script_needs_nothing_heavy(name):
    assert fresh('-c', HELP, TOOLS / SCRIPTS[name], name).startswith(f'usage: mmgfnuc {name} ')


def test_help_of_the_demo_needs_nothing_heavy():
    assert fresh('-c', HELP, TOOLS / 'demo.py').startswith('usage: demo.py ')


def test_every_command_has_a_script_and_a_line_of_help(monkeypatch, capsys):
    assert set(SCRIPTS) == set(console.COMMANDS)
    monkeypatch.setattr(sys, 'argv', ['mmgfnuc', '--help'])
    with pytest.raises(SystemExit, match='0'):
        console.main()
    text = capsys.readouterr().out
    assert all(f'\n  {name:11}{line}\n' in text for name, line in console.COMMANDS.items())


@pytest.mark.parametrize(
    ('arguments', 'said'), [(['nosuch'], "invalid choice: 'nosuch'"), (['check', 'nowhere'], 'error: nowhere holds no')]
)
def test_a_mistake_ends_with_code_2(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['mmgfnuc', *arguments])
    with pytest.raises(SystemExit, match='2'):
        console.main()
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_a_config_of_the_package_is_found_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = 'configs/cpu/own_data.py'
    assert load_config(name).train_cfg.max_iters == 1000
    path = configs_folder().resolve() / 'cpu' / 'own_data.py'
    assert capsys.readouterr().err == f"notice: '{name}' is taken from the package: {path}\n"
    for outside in ('setup.py', 'configs/../setup.py', 'configs/cpu', 'configs/cpu/none.py', str(TOOLS / 'none.py')):
        with pytest.raises(UserError, match='is not there; give the path'):
            load_config(outside)
    # A file of the user's own goes first.
    (tmp_path / 'configs' / 'cpu').mkdir(parents=True)
    (tmp_path / name).write_text("work_dir = 'mine'\n")
    assert load_config(name).work_dir == 'mine'
