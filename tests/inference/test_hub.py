"""Ready models on the Hugging Face hub, for which a folder stands in: its client is replaced where it would connect."""

import os
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors

from mmgfnuc.errors import UserError
from mmgfnuc.inference import hub
from mmgfnuc.inference.hub import fetch, push
from mmgfnuc.inference.predictor import load
from mmgfnuc.inference.ready import FILES, find_ready, read_ready

HUB_ID = 'ada/he-nuclei'


class FolderHub:
    """Keeps what is pushed in a folder, and gives it as the cache of the real client does: links beside their files."""

    def __init__(self, root):
        self.root, self.offline = root, []

    def create_repo(self, repo_id, exist_ok):
        (self.root / repo_id).mkdir(parents=True, exist_ok=exist_ok)

    def create_commit(self, repo_id, operations, commit_message):
        for one in operations:
            path = self.root / repo_id / one.path_in_repo
            path.parent.mkdir(exist_ok=True)
            with one.as_file() as file:
                path.write_bytes(file.read())

    def snapshot_download(self, repo_id, allow_patterns, local_files_only):
        self.offline.append(local_files_only)
        cache = self.root / 'cache' / f'models--{repo_id.replace("/", "--")}'
        snapshot, blobs = cache / 'snapshots' / 'abc', cache / 'blobs'
        shutil.rmtree(cache, ignore_errors=True)
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        for name in allow_patterns:
            shutil.copy(self.root / repo_id / name, blobs / name)
            (snapshot / name).symlink_to(Path('..', '..', 'blobs', name))
        return str(snapshot)


@pytest.fixture
def folder_hub(tmp_path, monkeypatch):
    stub = FolderHub(tmp_path)
    monkeypatch.setattr(huggingface_hub, 'HfApi', lambda: stub)
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', stub.snapshot_download)
    return stub


def test_what_is_pushed_is_loaded(ready, image, folder_hub, tmp_path):
    with_picture = shutil.copytree(ready, tmp_path / 'with_picture')
    (with_picture / 'pictures').mkdir()
    (with_picture / 'pictures' / '1.jpg').write_bytes(b'x')
    assert push(with_picture, HUB_ID) == f'https://huggingface.co/{HUB_ID}'
    pushed = tmp_path / HUB_ID
    assert {path.name for path in pushed.iterdir()} == {*FILES, 'README.md', 'pictures'}
    assert (pushed / 'pictures' / '1.jpg').read_bytes() == b'x'
    assert all((pushed / name).read_bytes() == (ready / name).read_bytes() for name in FILES)
    head, page = (pushed / 'README.md').read_text().split('---\n')[1:]
    assert 'license: apache-2.0\n' in head
    assert page.strip() == (ready / 'card.md').read_text().strip()
    np.testing.assert_array_equal(load(HUB_ID)(image).labels, load(ready)(image).labels)


def test_the_pictures_of_the_card_are_pushed_and_no_link_to_others(ready, folder_hub, tmp_path):
    folder = shutil.copytree(ready, tmp_path / 'pictured')
    (folder / 'pictures').mkdir()
    (folder / 'pictures' / '1.jpg').write_bytes(b'a picture')
    push(folder, HUB_ID)
    assert (tmp_path / HUB_ID / 'pictures' / '1.jpg').read_bytes() == b'a picture'
    (folder / 'pictures' / '2.jpg').symlink_to('/etc/passwd')
    with pytest.raises(UserError, match='a link out of its folder'):
        push(folder, HUB_ID)
    assert not (tmp_path / HUB_ID / 'pictures' / '2.jpg').exists()


def test_a_link_out_of_the_cache_is_refused(ready, folder_hub, tmp_path, monkeypatch):
    push(ready, HUB_ID)
    snapshot = Path(folder_hub.snapshot_download(HUB_ID, FILES, False))
    (snapshot / 'card.md').unlink()
    (snapshot / 'card.md').symlink_to('/etc/passwd')
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', lambda *_, **__: str(snapshot))
    with pytest.raises(UserError, match='a link out of its folder'):
        load(HUB_ID)


def test_a_name_that_is_a_folder_too_is_the_folder(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub, 'snapshot_download', lambda *_, **__: pytest.fail('asked'))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ready, tmp_path / HUB_ID)
    assert find_ready(HUB_ID) == Path(HUB_ID)
    assert load(HUB_ID).name == read_ready(ready).config['name']


def test_without_a_network_what_was_fetched_before_is_taken(ready, folder_hub, monkeypatch):
    push(ready, HUB_ID)
    monkeypatch.setattr(hub, 'hub_answers', lambda: False)
    load(HUB_ID)
    assert folder_hub.offline == [True]


def response(status):
    return type('Response', (), {'headers': {}, 'request': None, 'status_code': status})()


RAISED = [
    (errors.LocalEntryNotFoundError('x'), 'the hub cannot be reached; get its files from https://huggingface.co/ada/'),
    (OSError('x'), 'the hub cannot be reached'),
    (errors.OfflineModeIsEnabled('x'), 'the hub cannot be reached'),
    (errors.RepositoryNotFoundError('x', response=response(404)), 'huggingface.co has none of this name'),
    (errors.GatedRepoError('x', response=response(403)), 'it is gated; agree to the terms at'),
    (errors.HfHubHTTPError('500 Server Error\nmore', response=response(500)), r'the hub refuses it \(500 Server Error'),
]


@pytest.mark.parametrize(('error', 'said'), RAISED)
def test_what_the_hub_says_is_one_line(error, said, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', fail)
    with pytest.raises(UserError, match=said) as caught:
        fetch(HUB_ID)
    assert str(caught.value).startswith(f"model '{HUB_ID}' cannot be loaded: ")
    assert '\n' not in str(caught.value)


def test_offline_by_the_client_itself():
    """Nothing is replaced here, and nothing is in the cache."""
    with pytest.raises(UserError, match='the hub cannot be reached'):
        fetch(f'ada/nothing-{os.getpid()}')


def test_only_ready_models_are_pushed(tmp_path, ready, monkeypatch):
    monkeypatch.setattr(huggingface_hub, 'HfApi', lambda: pytest.fail('asked'))
    with pytest.raises(UserError, match='is not a ready model'):
        push(tmp_path, HUB_ID)
    with pytest.raises(UserError, match='is not a name on huggingface'):
        push(ready, 'he-nuclei')
