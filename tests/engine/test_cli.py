import pytest

from mmgfnuc.engine.cli import run_cli
from mmgfnuc.errors import UserError


def test_success_is_0_and_a_given_code_is_kept(capsys):
    assert run_cli(lambda: None) == 0
    assert run_cli(lambda: 3) == 3
    assert capsys.readouterr().err == ''


def test_a_mistake_of_the_user_is_one_line_and_2(capsys):
    def main():
        raise UserError('size=7 is odd; use 8')

    assert run_cli(main) == 2
    assert capsys.readouterr().err == 'error: size=7 is odd; use 8\n'


def test_a_bug_keeps_its_traceback():
    def main():
        raise ValueError('a bug')

    with pytest.raises(ValueError, match='a bug'):
        run_cli(main)
