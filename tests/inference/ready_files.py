"""What config.json and metrics.json of a ready model hold; names in them are hostile."""

SCORE = {'mean': 0.5, 'mean_of_groups': 0.4, 'interval': [0.25, 0.75]}
HOSTILE = 'bowel <script>|`x` [a](javascript:b)'


def counted(mean, matched, found=8):
    states = {'merged': 1, 'split': 2}
    return {
        'images': 3,
        'unscored': 0,
        'scores': {name: {**SCORE, 'mean': mean} for name in ('dice', 'aji', 'pq', 'detection_f1')},
        'truth': {'matched': matched, **states, 'false negative': 3},
        'predicted': {'matched': matched, **states, 'false positive': found - matched - 3},
    }


CONFIG = {
    'format': 1,
    'name': 'small',
    'model': {'test_cfg': {'scale': 0.5}},
    'preprocessing': {'mpp': 0.25, 'classes': ['background', 'nucleus'], 'nucleus_diameter_um': 6.5},
    'data': [
        {'name': 'own', 'licence': 'CC0', 'citation': HOSTILE, 'images': 9, 'groups': ['skin', HOSTILE], 'mpp': []}
    ],
    'pretrained': [],
    'parameters': 1_500_000,
    'licence': 'Apache-2.0',
    'versions': {'mmgfnuc': '0.1.0'},
    'checkpoint_sha256': 'abc',
}
METRICS = {
    'format': 1,
    'model': {'name': 'iter_9.pth', 'sha256': 'def'},
    'data': [{'name': 'other', 'licence': 'CC0', 'citation': '', 'images': 6}],
    'settings': {'split': None, 'mpp': None, 'cfg_options': {}},
    'made': {'command': 'mmgfnuc score ```', 'date': '2026-01-01', 'commit': '', 'hardware': '', 'versions': {}},
    **counted(0.5, 4),
    'groups': {'skin': counted(0.625, 4), HOSTILE: counted(0.375, 0)},
    'pixel_sizes': [{'mpp': 0.25, **counted(0.5, 4)}, {'mpp': 0.5, **counted(0.4, 4, found=10)}],
    'worst': [{'image': 'a_1', 'group': HOSTILE, 'picture': 'pictures/1.jpg', **counted(0.1, 0)}],
}
METRICS['worst'][0]['scores'] = {'aji': 0.125}
