import numpy as np
import pytest

from mmgfnuc.datasets.canonical import read_image, read_split, write_split
from mmgfnuc.studies.inside import load_trained
from mmgfnuc.studies.pictures import choose_images, disagreement_region, study_pictures, tile_features
from mmgfnuc.studies.storage import inside_file, run_folder

from .trained_runs import FUSED, SMALL, runs_of, write_data, write_trained

PLAIN = {'unet': 'unet', 'parts': SMALL}
CONTROL = FUSED | {'fusion': 'shuffled-context-image'}
ARMS = ['unet/none/semantic', 'unet/context/vit-tiny:random/semantic']
FOLDS = ['fold-0', 'fold-1']


def rows_of(table, **more):
    """Image -> Dice of each arm."""
    return [
        {'arm': arm, 'fold': 'default', 'seed': 0, 'image': image, 'group': 'a', 'dice': dice, **more}
        for image, scores in table.items()
        for arm, dice in scores.items()
    ]


def test_images_are_chosen_by_their_mean_over_arms_and_seeds():
    rows = rows_of({'a': {'x': 0.2, 'y': 0.3}, 'b': {'x': 0.9, 'y': 0.7}, 'c': {'x': 0.6, 'y': 0.5}})
    assert choose_images(rows, {'a', 'b', 'c'}) == {'best': 'b', 'median': 'c', 'worst': 'a'}
    # Another seed turns best and median around.
    rows += rows_of({'b': {'x': 0.1, 'y': 0.1}, 'c': {'x': 0.8, 'y': 0.8}}, seed=1)
    assert choose_images(rows, {'a', 'b', 'c'}) == {'best': 'c', 'median': 'b', 'worst': 'a'}
    assert choose_images(rows, {'a'}) == {'median': 'a'}
    assert choose_images(rows, {'a', 'c'}) == {'median': 'c', 'worst': 'a'}
    assert choose_images([], set()) == {}


def test_an_image_without_scores_of_all_arms_is_not_chosen():
    rows = rows_of({'a': {'x': 0.2, 'y': 0.3}, 'b': {'x': 0.9}, 'c': {'x': 1.0, 'y': None}})
    assert choose_images(rows, {'a', 'b', 'c'}) == {'median': 'a'}


def test_the_region_of_most_disagreement():
    rng = np.random.default_rng(0)
    masks, ignore = rng.random((3, 261, 263)) < 0.5, np.zeros((261, 263), bool)
    ignore[:3] = True
    share = masks.mean(axis=0)
    differs = np.where(ignore, 0, share * (1 - share))
    expected = max(
        ((top, left) for top in range(6) for left in range(8)),
        key=lambda corner: differs[corner[0] : corner[0] + 256, corner[1] : corner[1] + 256].sum(),
    )
    rows, columns = disagreement_region(list(masks), ignore)
    assert (rows.start, columns.start) == expected
    assert rows.stop - rows.start == columns.stop - columns.start == 256


def test_a_small_image_is_shown_as_a_whole():
    masks = [np.zeros((40, 300), bool), np.zeros((40, 300), bool)]
    masks[0][5, 290] = True
    rows, columns = disagreement_region(masks, np.zeros((40, 300), bool))
    assert (rows.start, rows.stop) == (0, 40)
    assert columns.start <= 290 < columns.stop


@pytest.fixture(scope='module')
def study(tmp_path_factory):
    """Three test images in two folds, three arms that look trained, two seeds of which the first is."""
    folder = tmp_path_factory.mktemp('pictures')
    data, root = write_data(folder / 'data'), folder / 'runs'
    parts = read_split(data, 'default')
    images = parts['val']
    for fold, val in zip(FOLDS, (images[:1], images[1:]), strict=True):
        # A partner is another image of the same part.
        write_split(data, fold, {'train': parts['train'], 'val': val + parts['train'][:1]})
    runs = runs_of(data, PLAIN, FUSED | {'fusion': 'context'}, CONTROL, splits=FOLDS, seeds=[3, 4])
    for run in runs:
        if run.seed == 3:
            inside_file(write_trained(root, run)).write_text('{}\n')
    rows = [
        {'arm': run.arm.name, 'fold': run.split, 'seed': 3, 'image': image, 'group': 'a', 'dice': dice}
        for run in runs[:6]
        for image, dice in zip(images, (0.5, 0.75, 0.25), strict=True)
        if (image == images[0]) == (run.split == FOLDS[0])
    ]
    return data, root, runs, rows


def test_pictures_of_a_study(study):
    _, root, runs, rows = study
    galleries = study_pictures(runs, root, rows)
    assert [gallery.title for gallery in galleries] == [
        'Best image',
        'Median image',
        'Worst image',
        'Features before and after fusion',
    ]
    shown = [('val_0001', 0.75), ('val_0000', 0.5), ('val_0002', 0.25)]
    for gallery, (image, dice) in zip(galleries, shown, strict=False):
        assert f'Image {image}, the ' in gallery.caption
        assert 'Shown is all of it' in gallery.caption
        captions = [lines for lines, _ in gallery.pictures]
        assert captions[:2] == [['tissue'], ['truth']]
        assert captions[2:] == [[arm, f'Dice {dice:.3f}'] for arm in [run.arm.name for run in runs[:3]]]
    # The median image is another than those of the second fold.
    assert 'val_0000' in galleries[3].caption
    of_features = [lines[1] for lines, _ in galleries[3].pictures]
    assert of_features == [runs[1].arm.name] * 4 + [runs[2].arm.name] * 4


def test_the_encoder_of_the_control_sees_another_image(study):
    """Shown are the 256 pixels that the model sees of an image of 64 pixels: the image in the middle, mirrored."""
    data, root, runs, _ = study
    seen = {}
    for run in runs[1:3]:
        trained = load_trained(run_folder(root, run))
        inputs, sample = trained.load(0)
        features = tile_features(trained, inputs)
        seen[run.arm.fusion] = features.seen[96:160, 96:160]
        assert sample.img_id == 'val_0000'
        assert features.encoder.shape == (24, 16, 16)
        assert features.before.shape == features.after.shape == (16, 64, 64)
        assert not np.allclose(features.before, features.after)
    own, partner = (read_image(data / 'images' / f'{image}.png') for image in ('val_0000', 'train_0000'))
    np.testing.assert_array_equal(seen['context'], own)
    np.testing.assert_array_equal(seen['shuffled-context-image'], partner)


def test_features_of_a_fusion_within_the_encoder(tmp_path):
    """Those of the deepest level, before and after its block."""
    (run,) = runs_of(write_data(tmp_path / 'data'), FUSED | {'fusion': 'released-multilevel'})
    trained = load_trained(write_trained(tmp_path / 'runs', run))
    features = tile_features(trained, trained.load(0)[0])
    assert features.before.shape == features.after.shape == (16, 64, 64)
    assert not np.allclose(features.before, features.after)


def test_without_checkpoints_there_are_no_pictures(study):
    _, root, runs, rows = study
    checkpoint = run_folder(root, runs[0]) / 'iter_1.pth'
    hidden = checkpoint.rename(checkpoint.with_suffix('.hidden'))
    try:
        with pytest.warns(UserWarning, match=r'no pictures: checkpoint .*iter_1.pth. is not there'):
            assert study_pictures(runs, root, rows) == []
    finally:
        hidden.rename(checkpoint)
