import argparse
import errno
import sys
import warnings

import pytest

from mmgfnuc.engine.cli import notice, positive_float, run_cli, seed
from mmgfnuc.errors import UserError


@pytest.fixture(autouse=True)
def _one_process(monkeypatch):
    for variable in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(variable, raising=False)


def mistake():
    raise UserError('size=7 is odd; use 8')


def test_success_is_0_and_a_given_code_is_kept(capsys):
    assert run_cli(lambda: None) == 0
    assert run_cli(lambda: 3) == 3
    assert capsys.readouterr().err == ''


def test_a_mistake_of_the_user_is_one_line_and_2(capsys):
    assert run_cli(mistake) == 2
    assert capsys.readouterr().err == 'error: size=7 is odd; use 8\n'


def test_a_file_that_cannot_be_used_is_one_line_and_2(tmp_path, capsys):
    (tmp_path / 'file').touch()
    assert run_cli((tmp_path / 'file' / 'folder').mkdir) == 2
    assert capsys.readouterr().err == f'error: {tmp_path / "file" / "folder"}: Not a directory\n'
    assert run_cli((tmp_path / 'none').open) == 2
    assert capsys.readouterr().err == f'error: {tmp_path / "none"}: No such file or directory\n'


@pytest.mark.parametrize('where', [[], ['out/log.txt']])
def test_a_full_disk_is_one_line_and_2(capsys, where):
    def write():
        raise OSError(errno.ENOSPC, 'No space left on device', *where)

    assert run_cli(write) == 2
    name = (where or ['a file'])[0]
    assert capsys.readouterr().err == f'error: {name} cannot be written: the disk is full; make room\n'


@pytest.mark.parametrize('variable', ['RANK', 'SLURM_PROCID'])
def test_of_several_processes_the_first_prints(monkeypatch, capsys, variable):
    printed = []
    for process in range(3):
        monkeypatch.setenv(variable, str(process))
        assert run_cli(mistake) == 2
        printed.append(capsys.readouterr().err)
    assert printed == ['error: size=7 is odd; use 8\n', '', '']


@pytest.mark.parametrize('bug', [ValueError('a bug'), OSError('a bug without a file')])
def test_a_bug_keeps_its_traceback(bug, capsys):
    def main():
        raise bug

    with pytest.raises(type(bug), match='a bug'):
        run_cli(main)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('process', 'printed'), [('0', 1), ('1', 0)])
def test_notices_and_warnings_are_lines_of_the_first_process(monkeypatch, capsys, process, printed):
    def main():
        notice('8 files are passed over')
        # What Python calls to show a warning; pytest keeps the warnings themselves.
        print(warnings.formatwarning('RANDOM weights', UserWarning, 'a.py', 3), end='', file=sys.stderr)

    monkeypatch.setenv('RANK', process)
    before = warnings.formatwarning
    assert run_cli(main) == 0
    assert warnings.formatwarning is before
    assert capsys.readouterr().err == 'notice: 8 files are passed over\nwarning: RANDOM weights\n' * printed


def parse(kind, text):
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument('option', type=kind)
    return parser.parse_args([text]).option


def test_positive_float():
    assert parse(positive_float, '0.25') == 0.25
    assert parse(positive_float, '1e-9') == 1e-9


def test_seed():
    for number in (0, 7, 2**32 - 1):
        assert parse(seed, str(number)) == number


@pytest.mark.parametrize(
    ('kind', 'text', 'message'),
    [
        (positive_float, '0', '0 is not a number above 0'),
        # A word that begins with a minus would be an option.
        (positive_float, ' -0.5', '-0.5 is not a number above 0'),
        (positive_float, 'nan', 'nan is not a number above 0'),
        (positive_float, 'inf', 'inf is not a number above 0'),
        (positive_float, 'half', "invalid positive_float value: 'half'"),
        (seed, ' -1', '-1 is not in 0 to'),
        (seed, str(2**32), f'{2**32} is not in 0 to'),
        (seed, '1.5', "invalid seed value: '1.5'"),
    ],
)
def test_numbers_out_of_range(kind, text, message):
    with pytest.raises(argparse.ArgumentError) as caught:
        parse(kind, text)
    assert message in str(caught.value)
