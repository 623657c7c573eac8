import json
import re
from argparse import Namespace

import pytest
import timm
import torch
from huggingface_hub import errors
from safetensors.torch import save_file

from mmgfnuc.errors import UserError
from mmgfnuc.models.foundation import find_entry, foundation_encoder
from mmgfnuc.models.weights import locate
from mmgfnuc.models.weights.locate import WeightSource, check_published, find_weights
from mmgfnuc.testing import fill_with_noise

VIT = {'embed_dim': 24, 'depth': 2, 'num_heads': 3}
UNI = find_entry('uni')
DINO = find_entry('dinov2-vit-s14')


def state_of(name='vit-tiny', **arch):
    return fill_with_noise(foundation_encoder(name, weights='random', arch=VIT | arch)).network.state_dict()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'vit.safetensors'
    save_file(state_of(), path)
    return path


def load(path, name='vit-tiny', **arch):
    return foundation_encoder(name, weights=str(path), arch=VIT | arch)


@pytest.mark.parametrize('weights', ['uni', None])
@pytest.mark.parametrize(
    'name', ['uni.safetensors', 'uni.pth', 'uni.pt', 'uni.bin', 'uni/pytorch_model.bin', 'uni/model.safetensors']
)
def test_a_name_in_the_folder(weights, name, weights_folder):
    path = weights_folder / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert find_weights(weights, UNI) == path


@pytest.mark.parametrize('name', ['dinov2_vits14_pretrain.pth', 'vit_small_patch14_dinov2.safetensors'])
def test_official_names_and_those_of_timm(name, weights_folder):
    (weights_folder / name).touch()
    (weights_folder / 'model.safetensors').touch()
    assert find_weights(None, DINO) == weights_folder / name


@pytest.mark.parametrize(
    ('name', 'file'),
    [
        ('h-optimus-0', 'vit_giant_patch14_reg4_dinov2.safetensors'),
        ('uni', 'vit_large_patch16_224.safetensors'),
        ('medsam-vit-b', 'vit_b.pth'),
        ('medsam-vit-b', 'sam_vit_b_01ec64.pth'),
        ('sam2.1-hiera-tiny', 'sam2_hiera_tiny.safetensors'),
        ('dinov3-convnext-tiny', 'convnext_tiny.safetensors'),
        ('clip-vit-b32-datacomp', 'vit_base_patch32_clip_224.laion2b.safetensors'),
    ],
)
def test_the_file_of_another_encoder_is_left_alone(name, file, weights_folder):
    """Of the same architecture, so that it would load."""
    (weights_folder / file).touch()
    with pytest.raises(UserError, match='are not there'):
        find_weights(None, find_entry(name))


@pytest.mark.parametrize('tagged', ['vit_base_patch32_clip_224.datacompxl.safetensors', 'clip-vit-b32-datacomp.bin'])
def test_names_of_timm_with_their_tag(tagged, weights_folder):
    (weights_folder / tagged).touch()
    assert find_weights(None, find_entry('clip-vit-b32-datacomp')) == weights_folder / tagged


def test_the_publishers_file_by_its_hash(tmp_path):
    openai = find_entry('clip-vit-b32-openai')
    check_published(tmp_path / 'ViT-B-32.pt', openai.sha256, openai)
    check_published(tmp_path / 'mine.pt', 'ab' * 32, openai)
    with pytest.raises(
        UserError, match=r'ViT-B-32\.pt bears the name .* SHA-256 abababababab\.\.\. and not 40d365715913'
    ):
        check_published(tmp_path / 'ViT-B-32.pt', 'ab' * 32, openai)


def test_a_path_is_as_good_as_its_text(file):
    torch.testing.assert_close(
        foundation_encoder('vit-tiny', weights=file, arch=VIT).network.state_dict(), load(file).network.state_dict()
    )


def test_a_general_name_says_nothing(weights_folder):
    """`model.safetensors` in the folder of all weights could be anybody's."""
    (weights_folder / 'model.safetensors').touch()
    with pytest.raises(UserError, match='the hub cannot be reached'):
        find_weights(None, DINO)


def test_files_and_folders(tmp_path):
    (tmp_path / 'any.pth').touch()
    (tmp_path / 'open_clip_pytorch_model.bin').touch()
    assert find_weights(str(tmp_path / 'any.pth'), UNI) == tmp_path / 'any.pth'
    assert find_weights(str(tmp_path), UNI) == tmp_path / 'open_clip_pytorch_model.bin'
    (tmp_path / 'model.safetensors').touch()
    assert find_weights(str(tmp_path), UNI) == tmp_path / 'model.safetensors'
    (tmp_path / 'pytorch_model.bin').touch()  # UNI's own
    assert find_weights(str(tmp_path), UNI) == tmp_path / 'pytorch_model.bin'


def test_nothing_is_fetched_for_a_name_that_was_given(weights_folder, monkeypatch):
    monkeypatch.setattr(locate, 'hf_hub_download', lambda *_: pytest.fail('fetched'))
    with pytest.raises(UserError, match=rf"weights 'mine' .* are not there nor in .*{weights_folder.name}.*; download"):
        find_weights('mine', UNI)


def test_a_missing_file_names_file_address_and_key(weights_folder):
    """As the backbones of timm ask for theirs: always by name, and never from the hub."""
    source = WeightSource(name='resnet18', hub='timm/resnet18', config_key='model.part.weights', untrained=None)
    (weights_folder / 'resnet18.tv.safetensors').touch()
    assert find_weights('resnet18.tv', source) == weights_folder / 'resnet18.tv.safetensors'
    with pytest.raises(UserError, match=r'^weights .mine. \(model\.part\.weights\) are not there nor in') as error:
        find_weights('mine', source)
    assert 'from https://huggingface.co/timm/resnet18 and' in str(error.value)
    assert str(error.value).endswith('or set model.part.weights=None for an untrained encoder')


def test_the_hub_comes_last(monkeypatch, tmp_path):
    monkeypatch.delenv('MMGFNUC_WEIGHTS', raising=False)
    asked = []
    monkeypatch.setattr(locate, 'hf_hub_download', lambda *of: asked.append(of) or str(tmp_path / 'fetched'))
    assert find_weights(None, UNI) == tmp_path / 'fetched'
    assert asked == [('MahmoodLab/UNI', 'pytorch_model.bin')]


def test_an_encoder_whose_file_is_not_known(monkeypatch):
    monkeypatch.delenv('MMGFNUC_WEIGHTS', raising=False)
    with pytest.raises(
        UserError, match=r"'hibou-l' .*and \$MMGFNUC_WEIGHTS is not set; download them from https://hugg"
    ):
        find_weights(None, find_entry('hibou-l'))


def hub_error(cls):
    response = type('Response', (), {'headers': {}, 'request': None, 'status_code': 403})()
    return cls('403 Client Error\nfor url', response=response)


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (
            hub_error(errors.GatedRepoError),
            "the weights of 'uni' are gated: agree to the terms at https://huggingface.co/MahmoodLab/UNI, then log in",
        ),
        (hub_error(errors.RepositoryNotFoundError), r'the hub has no pytorch_model.bin in MahmoodLab/UNI'),
        (
            hub_error(errors.HfHubHTTPError),
            r"the hub refuses pytorch_model.bin of MahmoodLab/UNI \('uni'\): 403 Client",
        ),
        (errors.LocalEntryNotFoundError('offline'), "'uni' .* are not there .*and the hub cannot be reached; download"),
        (errors.OfflineModeIsEnabled('offline'), 'the hub cannot be reached; download pytorch_model.bin from https://'),
        (OSError('no route'), 'the hub cannot be reached'),
    ],
)
def test_errors_of_the_hub(error, message, weights_folder, monkeypatch):
    def refuse(*_):
        raise error

    monkeypatch.setattr(locate, 'hf_hub_download', refuse)
    with pytest.raises(UserError, match=message) as caught:
        find_weights(None, UNI)
    assert '\n' not in str(caught.value)


def test_checkpoints_are_unwrapped(tmp_path):
    state = state_of()
    for number, wrapped in enumerate(
        [
            {'model': state},
            {'state_dict': {f'module.{key}': value for key, value in state.items()}},
            {'model': {'state_dict': state}, 'epoch': 3},
            state | {'head.weight': torch.rand(10, 24), 'head.bias': torch.rand(10)},
        ]
    ):
        path = tmp_path / f'{number}.pth'
        torch.save(wrapped, path)
        own = load(path).network.state_dict()
        assert all(torch.equal(own[key], value) for key, value in state.items())


def test_the_teacher_of_dino(tmp_path):
    """Checkpoints of DINO's and iBOT's own training: the teacher's backbone, its blocks in chunks, and what else."""
    state = state_of()
    chunked = {
        re.sub(r'^blocks\.(\d+)', lambda block: f'blocks.0.{block[1]}', key): value for key, value in state.items()
    }
    names = ('dino_head.mlp.0.weight', 'ibot_head.last_layer.weight', 'head.mlp.0.weight', 'head.last_layer2.weight_v')
    heads = {name: torch.rand(2, 2) for name in names}
    for number, blocks in enumerate((state, chunked)):
        teacher = {f'backbone.{key}': value for key, value in blocks.items()} | heads
        student = {f'module.{key}': torch.zeros_like(value) for key, value in teacher.items()}
        path = tmp_path / f'{number}.pth'
        torch.save({'student': student, 'teacher': teacher, 'epoch': 3, 'args': Namespace(lr=0.1)}, path)
        own = load(path).network.state_dict()
        assert all(torch.equal(own[key], value) for key, value in state.items())
    torch.save({'teacher': teacher | {'projector.weight': torch.rand(2)}}, path)
    with pytest.raises(UserError, match=r'training checkpoint of DINO or iBOT, but also has projector\.weight'):
        load(path)


def test_offline_is_said_at_once(weights_folder, monkeypatch, tmp_path):
    """Without the retries of the hub's client; what was fetched before is still found."""
    monkeypatch.setattr(locate.constants, 'HF_HUB_OFFLINE', False)
    for name in ('http_proxy', 'https_proxy', 'all_proxy', 'HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(locate.constants, 'ENDPOINT', 'http://127.0.0.1:9')  # where nobody listens
    monkeypatch.setattr(locate, 'hf_hub_download', lambda *_: pytest.fail('asked'))
    with pytest.raises(UserError, match='the hub cannot be reached'):
        find_weights(None, UNI)
    monkeypatch.setattr(locate, 'try_to_load_from_cache', lambda *_: str(tmp_path / 'cached'))
    assert find_weights(None, UNI) == tmp_path / 'cached'


def test_truncated_files(file, tmp_path):
    torch.save(state_of(), tmp_path / 'vit.pth')
    for path in (file, tmp_path / 'vit.pth'):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(UserError, match=r'is not a readable weight file \(.*\); download it again') as error:
            load(path)
        assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (
            b'<!DOCTYPE html><html>Log in</html>',
            'is a web page: the address was not that of the file, or asks for a login',
        ),
        (b'\n\n<html>', 'is a web page'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:1', 'is a pointer of Git LFS, without the file'),
        (json.dumps({'a': 1}).encode(), 'is not a readable weight file'),
        (b'', 'is not a readable weight file'),
    ],
)
@pytest.mark.parametrize('name', ['weights.pth', 'weights.safetensors', 'weights.bin'])
def test_what_is_no_weight_file(content, message, name, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(tmp_path / name)


class Malicious:
    """Its unpickling would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def test_pickled_objects_are_refused(tmp_path):
    torch.save({'a': torch.rand(2), 'b': Malicious(tmp_path / 'harm')}, tmp_path / 'weights.pth')
    with pytest.raises(UserError, match='is not a readable weight file'):
        load(tmp_path / 'weights.pth')
    assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize(
    ('name', 'arch', 'message'),
    [
        ('vit-tiny', {'depth': 3}, r'it lacks blocks.2.norm1.weight; .*; and \d+ more'),
        ('vit-tiny', {'embed_dim': 48}, r'has cls_token as \(1, 1, 24\), the model as \(1, 1, 48\)'),
        ('dinov2-vit-s14', {}, 'it is for patches of 16 pixels, the encoder for 14'),
        ('dinov3-vit-s16', {}, 'it lacks '),
    ],
)
def test_another_architecture(name, arch, message, file):
    with pytest.raises(UserError, match=rf'does not fit .*{message}') as error:
        load(file, name, **arch)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
    ('name', 'arch', 'message'),
    [
        ('vit-tiny', {'patch_size': 8}, 'it is for patches of 16 pixels, the encoder for 8'),
        (
            'vit-tiny',
            {'img_size': 256},
            r"it has 197 position embeddings, the encoder a grid of 16x16; .*arch=\{'img_size",
        ),
        ('eva02-clip-b16', {'patch_size': 8}, 'it is for patches of 16 pixels, the encoder for 8'),
        ('eva02-clip-b16', {'img_size': 192}, 'it has 197 position embeddings, the encoder a grid of 12x12'),
        ('clip-vit-b16-openai', {'img_size': 336}, 'it has 197 position embeddings, the encoder a grid of 21x21'),
    ],
)
def test_nothing_is_bent_to_another_patch_or_grid(name, arch, message, tmp_path):
    """timm's own filters would resample both without a word."""
    torch.save(state_of(name), tmp_path / 'native.pth')
    with pytest.raises(UserError, match=rf'native\.pth does not fit the encoder .*{message}'):
        load(tmp_path / 'native.pth', name, **arch)


def test_another_size_on_purpose(tmp_path):
    torch.save(state_of(img_size=256), tmp_path / 'finetuned.pth')
    assert load(tmp_path / 'finetuned.pth', img_size=256).network.pos_embed.shape[1] == 257


@pytest.mark.slow
@pytest.mark.parametrize(
    'name', ['resnet18', 'efficientnet_b0', 'fastvit_t8', 'selecsls42', 'rexnet_100', 'test_convnext', 'test_vit']
)
def test_whole_files_of_timm(name, tmp_path):
    """With the classifier, whatever its name, as timm publishes them: features are those of timm."""
    whole = timm.create_model(name).eval()
    save_file(dict(fill_with_noise(whole, 0.05).state_dict()), tmp_path / f'{name}.safetensors')
    encoder = foundation_encoder(f'timm:{name}', weights=str(tmp_path / f'{name}.safetensors')).eval()
    images = torch.randn(1, 3, 128, 128)
    given = {'indices': encoder.out_layers, 'intermediates_only': True, 'norm': name == 'test_vit'}
    with torch.no_grad():
        for own, expected in zip(encoder.encode(images), whole.forward_intermediates(images, **given), strict=True):
            torch.testing.assert_close(own, expected)


def test_parts_that_are_not_known_are_listed(tmp_path):
    state = {f'visual.trunk.{key}': value for key, value in state_of('conch').items()}
    torch.save(state | {'visual.trunk.surprise': torch.rand(1)}, tmp_path / 'a.bin')
    with pytest.raises(UserError, match=r'a\.bin does not fit .*has surprise, which the model lacks'):
        load(tmp_path / 'a.bin', 'conch')
    torch.save(state | {f'audio.{i}': torch.rand(1) for i in range(9)}, tmp_path / 'b.bin')
    listed = 'open_clip with a tower of timm, but also has audio.0, .*audio.4 and 4 more; give the publisher'
    with pytest.raises(UserError, match=rf'b\.bin does not fit the encoder .*: it looks like {listed}'):
        load(tmp_path / 'b.bin', 'conch')
