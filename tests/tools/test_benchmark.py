"""`mmgfnuc benchmark`: by the name of a study, by a file, by flags."""

import json
import re

import pytest

from mmgfnuc.commands import benchmark
from mmgfnuc.studies import report
from mmgfnuc.studies.arms import Arm
from mmgfnuc.studies.storage import inside_file, run_folder

STUDY = """
title: Two heads
data: synthetic
splits: [default]
steps: 4
batch_size: 2
arms:
  - head: [semantic, hover]
    parts: {backbone: {widths: [4, 8, 16]}}
"""
FLAGS = ['--unets', 'unet', 'unet++', '--encoders', 'vit-tiny', '--fusions', 'none', 'paper', '--data', 'synthetic']


@pytest.fixture
def study(tmp_path, data_root):
    path = tmp_path / 'two_heads.yaml'
    path.write_text(f'{STUDY}\ndata_root: {data_root}\n')
    return path


@pytest.fixture
def bench(tool, tmp_path, monkeypatch):
    """The tool in a folder of its own, without the network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('mmgfnuc.models.weights.locate.hf_hub_download', lambda *_: pytest.fail('a download'))
    return lambda *arguments: tool('benchmark', *arguments)


@pytest.fixture
def calls(monkeypatch):
    """What would be run and reported."""
    made = {}
    monkeypatch.setattr(benchmark, 'run_all', lambda *arguments: made.update(run=arguments))
    monkeypatch.setattr(report, 'write_report', lambda *arguments: made.update(report=arguments))
    return made


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            [],
            'give a study (encoders, fusions, he_nuclei_s, paper_tables, recipe, recipe_length, smoke, or a file), '
            'or arms: --unets',
        ),
        (['smok'], "study='smok' is unknown; did you mean smoke?"),
        (
            ['smoke', '--unets', 'unet'],
            "the arms are those of study 'smoke' or those of --unets",
        ),
        (['smoke', '--data', 'synthetic', 'conic', '--data-root', 'x'], "data_root='x' is the folder of one data set"),
        (['smoke', '--steps', '0'], 'steps=0: give a whole number from 1'),
        (['fusions'], "data='nuinsseg': folder data/nuinsseg is not there; prepare it first"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(bench, capsys, arguments, message):
    assert bench(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'error: {message}')
    assert error.count('\n') == 1


def test_help_lists_the_ready_studies(bench, capsys):
    assert bench('--help') == 0
    text = capsys.readouterr().out
    assert '  smoke           Smoke test on synthetic tiles' in text
    assert '  encoders        Which encoder helps' in text


def test_flags_make_a_study(bench, calls, capsys, data_root, monkeypatch, tmp_path):
    (tmp_path / 'vit-tiny.pth').touch()
    monkeypatch.setenv('MMGFNUC_WEIGHTS', str(tmp_path))
    conditions = ['--data-root', data_root, '--splits', 'default', '--seeds', 0, 1, '--steps', 7, '--batch-size', 2]
    assert bench(*FLAGS, *conditions, '--amp', '--engine', 'ray', '--cache-gb', 2, '--processes', 3) == 0
    made, runs, root, folder, command = calls['report']
    assert made.arms == tuple(
        Arm(unet=unet, **fused)
        for unet in ('unet', 'unet++')
        for fused in ({}, {'foundation': 'vit-tiny', 'fusion': 'paper'})
    )
    assert (made.seeds, made.steps, made.batch_size, made.amp) == ((0, 1), 7, 2, True)
    assert len(runs) == 8
    assert calls['run'] == (runs, root, 3, 'ray', 2.0)
    assert re.fullmatch(r'work_dirs/benchmark/unet-unet\+\+-vit-tiny-none-paper-[0-9a-f]{6}', folder.as_posix())
    assert '--unets unet unet++ --encoders vit-tiny' in command
    assert capsys.readouterr().out == f'8 runs done; report: {folder}/report.html\n'


def test_flags_change_the_conditions_of_a_file(bench, calls, study):
    assert bench(study, '--seeds', 5, 6, '--title', 'Again', '--out', 'elsewhere') == 0
    made, _, root, folder, _ = calls['report']
    assert (made.seeds, made.title, made.steps) == ((5, 6), 'Again', 4)
    assert root.as_posix() == 'elsewhere/runs'
    assert re.fullmatch('elsewhere/two_heads-[0-9a-f]{6}', folder.as_posix())


def test_studies_do_not_overwrite_each_others_reports(bench, calls, study):
    """Each change of a flag has its own folder, and always the same."""
    folders = []
    for flags in ([], ['--steps', 5], ['--steps', 6], ['--steps', 5, '--amp'], ['--steps', 5]):
        assert bench(study, *flags) == 0
        folders.append(calls['report'][3].name)
    assert folders[0] == 'two_heads'
    assert folders[1] == folders[4]
    assert len(set(folders)) == 4


def test_weights_that_are_missing_are_told_before_anything_runs(bench, calls, capsys, data_root, monkeypatch, tmp_path):
    def offline(*_):
        raise OSError('offline')

    monkeypatch.delenv('MMGFNUC_WEIGHTS', raising=False)
    monkeypatch.setattr('mmgfnuc.models.weights.locate.hf_hub_download', offline)
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_CACHE', str(tmp_path / 'hub'))
    arguments = ['--encoders', 'vit-tiny', '--fusions', 'concat', '--data', 'synthetic', '--data-root', data_root]
    arguments += ['--splits', 'default']
    monkeypatch.setattr('mmgfnuc.studies.costs.step_seconds', lambda *_: 1.0)
    assert bench(*arguments, '--dry-run') == 0
    assert "weights 'vit-tiny' are not here; they are looked for on the hub" in capsys.readouterr().out
    assert bench(*arguments) == 2
    assert capsys.readouterr().err.startswith("error: weights 'vit-tiny' (model.foundation.weights) are not there")
    assert not calls


@pytest.mark.slow
def test_what_a_study_costs(bench, capsys, study):
    assert bench(study, '--dry-run') == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[:2]] == [
        f'open    unet/none/{head} default seed 0 on synthetic' for head in ('semantic', 'hover')
    ]
    assert lines[2].startswith('unet/none/semantic: 0.0')
    assert lines[-2] == '2 runs: 2 open'
    assert lines[-1].endswith(' of training are left, without start, loading and scoring')


@pytest.mark.parametrize(('failed', 'reported'), [('hover', ['semantic']), ('semantic', [])])
def test_a_report_without_the_arms_that_have_failed(bench, calls, capsys, study, monkeypatch, failed, reported):
    """There is none without the baseline. Of the arm that has failed one of two runs is done."""

    def fail(runs, root, *_):
        for run in runs:
            if (run.arm.head, run.seed) != (failed, 1):
                folder = run_folder(root, run)
                folder.mkdir(parents=True)
                (folder / 'run.json').touch()
                inside_file(folder).touch()
        raise benchmark.FailedRunsError('1 of 4 runs failed')

    monkeypatch.setattr(benchmark, 'run_all', fail)
    assert bench(study, '--seeds', 0, 1) == 2
    said = capsys.readouterr()
    if reported:
        made, runs, *_ = calls['report']
        assert [arm.head for arm in made.arms] == reported
        assert [(run.arm.head, run.seed) for run in runs] == [('semantic', 0), ('semantic', 1)]
        assert said.out.startswith('2 runs done; report: work_dirs/benchmark/two_heads')
        words = 'of the report left out, as runs of them failed: unet/none/hover'
    else:
        assert not calls
        words = 'no report without the baseline, unet/none/semantic'
    assert said.err == f'error: 1 of 4 runs failed\n{words}; the same command runs them again, and only them\n'


def test_status(bench, capsys, study):
    assert bench(study, '--status') == 0
    assert capsys.readouterr().out == '2 runs: 2 open\n'


@pytest.mark.parametrize('flag', ['--status', '--dry-run'])
def test_to_look_at_a_study_draws_no_data(bench, capsys, tmp_path, flag):
    assert bench('smoke', flag) == 2
    assert capsys.readouterr().err == (
        "error: data='synthetic': folder data/synthetic is not there; it is drawn when the study is run\n"
    )
    assert not (tmp_path / 'data').exists()


@pytest.mark.slow
def test_a_study_from_its_file_to_its_report(process, bench, study, tmp_path):
    """Then again: nothing is left to run, and the results are the same, without the runs too."""
    done = process('benchmark.py', study, '--seeds', 1, '--processes', 2, cwd=tmp_path)
    (folder,) = (tmp_path / 'work_dirs' / 'benchmark').glob('two_heads-*')
    assert done.stdout.endswith(f'2 runs done; report: work_dirs/benchmark/{folder.name}/report.html\n')
    made = {'scores.csv', 'results.json', 'pictures.json', 'tables.md', 'report.html'}
    assert {path.name for path in folder.iterdir()} >= made
    results = json.loads((folder / 'results.json').read_text())
    (data_set,) = results['data_sets']
    assert [arm['name'] for arm in data_set['arms']] == ['unet/none/semantic', 'unet/none/hover']
    assert results['provenance']['command'].startswith(f'mmgfnuc benchmark {study} --seeds 1 ')
    assert bench(study, '--seeds', 1) == 0
    assert json.loads((folder / 'results.json').read_text())['data_sets'] == [data_set]
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / 'report.html').unlink()
    (tmp_path / 'work_dirs' / 'benchmark' / 'runs').rename(tmp_path / 'elsewhere')
    assert bench('--rewrite', folder) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
