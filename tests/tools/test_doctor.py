from collections import namedtuple
from importlib.metadata import PackageNotFoundError

import pytest
import torch

from mmgfnuc.commands import doctor
from mmgfnuc.commands.doctor import FAIL, PASS, WARN

Usage = namedtuple('Usage', 'free')


@pytest.fixture(autouse=True)
def weights(tmp_path, monkeypatch):
    """A folder with one weight file."""
    folder = tmp_path / 'weights'
    folder.mkdir()
    (folder / 'uni.bin').touch()
    monkeypatch.setenv('MMGFNUC_WEIGHTS', str(folder))
    return folder


@pytest.fixture
def distributions(monkeypatch):
    """What is installed, beside or in the place of what really is."""
    changes = {}
    real = doctor.version

    def version(name):
        found = changes.get(name, real)
        if found is None:
            raise PackageNotFoundError(name)
        return real(name) if found is real else found

    monkeypatch.setattr(doctor, 'version', version)
    return changes


def find(folder, what):
    (check,) = [check for check in doctor.checks(folder) if check.what == what]
    return check


def test_this_installation_is_sound(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert doctor.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f'PASS  PyTorch: {torch.__version__}' in lines
    assert not [line for line in lines if line.startswith('FAIL')]
    parts = [line.split('  ')[1].split(':')[0] for line in lines if line[:4] in (PASS, WARN)]
    assert parts[:4] == ['Python', 'PyTorch', 'torchvision', 'CUDA']
    assert {'onedl-mmcv', 'timm', 'peft', 'weights', 'write access', 'disk'} < set(parts)
    assert lines[-1].startswith(f'{len(parts)} checks: 0 failed')


def test_everything_that_is_not_well_has_a_fix(tmp_path, monkeypatch, distributions):
    monkeypatch.delenv('MMGFNUC_WEIGHTS')
    distributions.update(dict.fromkeys((*doctor.EXTRAS, *doctor.MAINTAINED)))
    found = list(doctor.checks(tmp_path))
    assert all(bool(check.fix) == (check.status != PASS) for check in found)
    assert {check.what for check in found if check.status == FAIL} == set(doctor.MAINTAINED)


def test_old_openmmlab_packages_fail(tmp_path, monkeypatch, distributions, capsys):
    monkeypatch.chdir(tmp_path)
    distributions.update({'mmcv': '2.1.0', 'mmengine': '0.10.7'})
    check = find(tmp_path, 'OpenMMLab')
    assert check.status == FAIL
    assert 'mmengine 0.10.7, mmcv 2.1.0' in check.found
    assert check.fix.startswith('pip uninstall -y mmengine mmcv; pip install -c requirements/constraints.txt')
    # Their removal takes files of the maintained ones along.
    assert check.fix.endswith('--force-reinstall --no-deps onedl-mmengine onedl-mmcv onedl-mmsegmentation')
    assert doctor.main([]) == 1
    assert '      fix: pip uninstall -y mmengine mmcv;' in capsys.readouterr().out


@pytest.mark.parametrize('fault', ['import', 'operator'])
def test_torchvision_of_another_torch(fault, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError('operator torchvision::nms does not exist\nand more')

    if fault == 'import':
        real = doctor.importlib.import_module
        monkeypatch.setattr(
            doctor.importlib, 'import_module', lambda name: broken() if name == 'torchvision' else real(name)
        )
    else:
        monkeypatch.setattr(torch.ops.torchvision, 'nms', broken)
    check = find(tmp_path, 'torchvision')
    assert check.status == FAIL
    assert f'does not fit PyTorch {torch.__version__}: ' in check.found
    assert check.found.endswith('operator torchvision::nms does not exist')
    assert check.fix == 'pip install -c requirements/constraints.txt torch torchvision'


def test_without_torch_the_rest_is_still_examined(tmp_path, monkeypatch):
    real = doctor.importlib.import_module

    def importing(name):
        if name in ('torch', 'mmcv'):
            raise ImportError('libtorch.so: cannot open shared object file')
        return real(name)

    monkeypatch.setattr(doctor.importlib, 'import_module', importing)
    found = {check.what: check for check in doctor.checks(tmp_path)}
    assert found['PyTorch'].status == found['onedl-mmcv'].status == FAIL
    assert 'torchvision' not in found
    assert found['disk'].status in (PASS, WARN)


def test_opencv_without_graphics_is_as_good_and_one_that_lacks_libgl_fails(tmp_path, monkeypatch, distributions):
    distributions.update({'opencv-python': None, 'opencv-python-headless': '4.12'})
    assert find(tmp_path, 'opencv-python').status == PASS
    message = 'ImportError: libGL.so.1: cannot open shared object file'
    monkeypatch.setattr(doctor, 'import_error', lambda name: message if name == 'cv2' else None)
    check = find(tmp_path, 'opencv-python')
    assert (check.status, check.found) == (FAIL, message)
    assert check.fix.endswith('opencv-python-headless')


def test_old_python(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.sys, 'version_info', (3, 9, 1))
    check = find(tmp_path, 'Python')
    assert (check.status, check.found) == (FAIL, '3.9.1')
    assert 'make setup PYTHON=python3.11' in check.fix


@pytest.mark.parametrize(
    ('change', 'status', 'found'),
    [
        (lambda folder: None, PASS, 'uni.bin'),
        (lambda folder: (folder / 'uni.bin').unlink(), WARN, 'is empty'),
        (lambda folder: folder.rename(folder.with_name('elsewhere')), FAIL, 'is not a folder'),
    ],
)
def test_weights_folder(change, status, found, weights, tmp_path):
    change(weights)
    check = find(tmp_path, 'weights')
    assert check.status == status
    assert found in check.found


@pytest.mark.parametrize(('free', 'status'), [(2 * 10**9, WARN), (70 * 10**9, PASS)])
def test_disk(free, status, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda _: Usage(free))
    assert find(tmp_path, 'disk').status == status


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch):
    def denied(**_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(doctor.tempfile, 'NamedTemporaryFile', denied)
    check = find(tmp_path, 'write access')
    assert check.status == FAIL
    assert check.found.endswith('Permission denied')


@pytest.mark.filterwarnings('ignore:own parts of broken')
def test_parts_of_other_packages(own_parts, tmp_path):
    own_parts('broken', 'import nosuch', 'broken')
    own_parts(entry_point='own_parts')
    check = find(tmp_path, 'parts of own-parts 1.2')
    assert check.status == PASS
    assert 'own_parts' in check.found
    assert 'fusion film' in check.found
    check = find(tmp_path, 'parts of broken 1.2')
    assert check.status == FAIL
    assert "No module named 'nosuch'" in check.found
