"""Images in several threads: each has a network of its own, with the weights of the first."""

import threading
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmgfnuc.datasets import limits
from mmgfnuc.datasets.limits import SharedMemory
from mmgfnuc.errors import UserError
from mmgfnuc.inference import side_by_side as module
from mmgfnuc.inference.folder import segment_images
from mmgfnuc.inference.side_by_side import side_by_side

from .small_models import whole
from .stub import Stub, states, table


@pytest.fixture(autouse=True)
def three_cores():
    """Whatever the machine has."""
    cores = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(cores)


def remembering(part):
    """Make a part keep what it sees until a later step of the same pass, as hooks do."""

    def forward(self, x):
        self.seen = x
        time.sleep(0.01)
        return kind.forward(self, self.seen)

    kind = type(part)
    part.__class__ = type('Remembering', (kind,), {'forward': forward})


def test_parts_that_keep_what_they_see_give_each_image_its_own(plain, image):
    predictor = whole(plain)
    remembering(predictor.model.backbone)
    images = [np.roll(image, 40 * shift, axis=1) for shift in range(8)]
    expected = [predictor(each).labels for each in images]

    def action(own, number):
        return number, own(images[number]).labels

    found = dict(side_by_side(predictor, action, [(number,) for number in range(8)]))
    assert sorted(found) == list(range(8))
    for number, labels in found.items():
        np.testing.assert_array_equal(labels, expected[number])


def test_a_twin_has_the_same_weights_in_parts_of_its_own(predictor):
    twin = predictor.twin()
    assert {id(part) for part in twin.model.modules()}.isdisjoint(id(part) for part in predictor.model.modules())
    for mine, own in zip(twin.model.state_dict().values(), predictor.model.state_dict().values(), strict=True):
        assert mine.data_ptr() == own.data_ptr()
    assert twin.pixel_sizes is predictor.pixel_sizes


def test_calls_run_at_once_and_no_two_with_one_predictor(predictor):
    """Three calls wait for each other; a fourth waits for its turn."""
    meeting, used = threading.Barrier(3, timeout=20), []

    def action(own, number):
        used.append((id(own), torch.get_num_threads(), cv2.getNumThreads()))
        meeting.wait()
        return number

    assert sorted(side_by_side(predictor, action, [(number,) for number in range(6)])) == list(range(6))
    for three in (used[:3], used[3:]):
        assert len({own for own, *_ in three}) == 3
        assert {(cores, opencv) for _, cores, opencv in three} == {(1, max(1, cv2.getNumThreads() // 3))}


def test_one_image_has_all_cores(predictor):
    assert list(side_by_side(predictor, lambda own: (own, torch.get_num_threads()), [()])) == [(predictor, 3)]
    assert list(side_by_side(predictor, print, [])) == []


@pytest.mark.parametrize('error', [KeyboardInterrupt(), RuntimeError('illegal memory access')])
def test_what_has_not_begun_never_does_after_an_error(predictor, error):
    begun = []

    def action(own, number):
        begun.append(number)
        if number == 1:
            raise error
        time.sleep(0.05)

    with pytest.raises(type(error)):
        list(side_by_side(predictor, action, [(number,) for number in range(50)]))
    assert len(begun) < 10


def test_an_iterator_that_is_closed_waits_for_what_has_begun(predictor):
    ended = []

    def action(own, number):
        time.sleep(0.02 * number)
        ended.append(number)

    jobs = side_by_side(predictor, action, [(number,) for number in range(50)])
    next(jobs)
    jobs.close()
    number = len(ended)
    time.sleep(0.1)
    assert len(ended) == number < 10


def test_a_folder_is_the_same_as_one_image_after_the_other(predictor, image, tmp_path, monkeypatch):
    paths = []
    for number in range(6):
        paths.append(tmp_path / f'{number}.png')
        Image.fromarray(np.roll(image, 30 * number, axis=1)).save(paths[-1])
    segment_images(predictor, paths, tmp_path / 'at once')
    monkeypatch.setattr(module, 'MOST', 1)
    segment_images(predictor, paths, tmp_path / 'in turn')
    assert table(tmp_path / 'at once', 'nuclei.csv') == table(tmp_path / 'in turn', 'nuclei.csv')
    for folder in ('labels', 'masks', 'overlays', 'geojson'):
        for path in (tmp_path / 'in turn' / folder).iterdir():
            assert path.read_bytes() == (tmp_path / 'at once' / folder / path.name).read_bytes()


class Twins(Stub):
    """Fails with some images, by their name, in any thread."""

    def __init__(self, failing):
        super().__init__()
        self.failing = failing

    def twin(self):
        return self

    def __call__(self, image, mpp=None, *, name=None):
        if image.stem in self.failing:
            raise MemoryError
        return super().__call__(image, mpp, name=name)


def test_images_that_fail_leave_the_others_alone(many, tmp_path):
    out = tmp_path / 'out'
    with pytest.raises(UserError, match='2 of 4 images failed'):
        segment_images(Twins('ac'), many, out)
    assert states(out) == {'a': ('failed', None), 'b': ('done', 3), 'c': ('failed', None), 'd': ('done', 3)}


def test_large_images_wait_until_there_is_room(monkeypatch):
    """Of 100 bytes two of 40 fit at once; what is larger than all goes alone, to be refused; small ones never wait."""
    monkeypatch.setattr(limits, 'SMALL', 10)
    monkeypatch.setattr(limits, 'free_memory', lambda: 100)
    memory, taken, most = SharedMemory(), [], []

    def work(needed):
        with memory.take(needed):
            taken.append(needed)
            most.append(sum(taken))
            time.sleep(0.02)
            taken.remove(needed)

    threads = [threading.Thread(target=work, args=(needed,)) for needed in (40, 40, 40, 200, 40, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 6
    assert max(total for total in most if total < 200) == 80
    assert 200 in most
    with memory.take(90), memory.take(9):
        pass
