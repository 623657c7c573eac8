"""One evaluation on a single process and on two, for any metric of ours."""

import pickle

import torch.distributed
import torch.multiprocessing
from mmengine.dataset import DefaultSampler
from mmengine.evaluator import Evaluator


def evaluate(metric_class, samples, dataset_meta=None, **options):
    evaluator = Evaluator(metric_class(**options))
    evaluator.dataset_meta = dataset_meta
    for sample in samples:
        evaluator.process([sample])
    return evaluator.evaluate(len(samples))


def evaluate_shards(rank, folder, metric_class, samples, dataset_meta):
    """Score five images on two processes, once as MMEngine's sampler deals them out, once as overlapping blocks."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2)
    shards = {'dealt': list(DefaultSampler(samples, shuffle=False)), 'blocks': [[0, 1, 2], [2, 3, 4]][rank]}
    outcome = {}
    for name, indices in shards.items():
        metric = metric_class(collect_dir=f'{folder}/collect', out_dir=f'{folder}/{name}_{rank}')
        evaluator = Evaluator(metric)
        evaluator.dataset_meta = dataset_meta
        evaluator.process([samples[i] for i in indices])
        outcome[name] = (indices, evaluator.evaluate(len(samples)))
    (folder / f'rank_{rank}.pkl').write_bytes(pickle.dumps(outcome))
    torch.distributed.destroy_process_group()


def assert_two_processes_equal_one(folder, metric_class, samples, dataset_meta=None):
    assert len(samples) == 5
    single = evaluate(metric_class, samples, dataset_meta, out_dir=folder / 'single')
    arguments = folder, metric_class, samples, dataset_meta
    # Forked processes need not import everything again.
    torch.multiprocessing.start_processes(evaluate_shards, arguments, nprocs=2, start_method='fork')
    first, second = (pickle.loads((folder / f'rank_{rank}.pkl').read_bytes()) for rank in (0, 1))
    assert (first['dealt'][0], second['dealt'][0]) == ([0, 2, 4], [1, 3, 0])  # the sampler padded image 0
    for name in ('dealt', 'blocks'):
        assert first[name][1] == second[name][1] == single
        assert not (folder / f'{name}_1').exists()
        for report in (metric_class.csv_name, metric_class.json_name):
            assert (folder / f'{name}_0' / report).read_bytes() == (folder / 'single' / report).read_bytes()
