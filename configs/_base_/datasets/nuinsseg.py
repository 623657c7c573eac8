# NuInsSeg (Mahbod et al. 2024). `organs` keeps every organ, that is every slide, in one part;
# official-0 to official-4 are the authors' folds, written where all 665 images are there.
from mmengine.config import read_base

from mmgfnuc.datasets import NucleiDataset, SeededSampler
from mmgfnuc.evaluation import NucleiInstanceMetric, NucleiSemanticMetric

with read_base():
    from ..augmentations.paper import inference, test_pipeline, train_pipeline

dataset = dict(type=NucleiDataset, data_root='data/nuinsseg', split='organs')
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type=SeededSampler, shuffle=True),
    dataset=dict(**dataset, part='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, shuffle=False, round_up=False),
    dataset=dict(**dataset, part='val', pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type=NucleiSemanticMetric), dict(type=NucleiInstanceMetric)]
test_evaluator = val_evaluator
