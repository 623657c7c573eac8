"""What arms cost."""

import pytest
import torch

from mmgfnuc.studies.costs import arm_costs, inference_costs, step_seconds
from mmgfnuc.studies.study import make_study

SMALL = {'backbone': {'widths': [4, 8, 16]}}


def study_of(**arm):
    return make_study({'title': '', 'arms': [{'parts': SMALL, **arm}], 'batch_size': 2, 'data': 'synthetic'})


def test_parameters_and_multiply_adds():
    """Without fusion all parameters are trained; a second decoder costs as much as the first and a little."""
    plain, twice = (study_of(head=head) for head in ('semantic', 'hover'))
    alone, both = (arm_costs(study, study.arms[0]) for study in (plain, twice))
    assert alone.parameters == alone.trained < both.parameters
    assert alone.macs < both.macs < 2 * alone.macs
    assert alone.token_stride is None


def test_a_frozen_encoder_is_not_trained():
    """The control takes the images of others too, at the cost of their channels."""
    study = study_of(foundation='vit-tiny', fusion='shuffled-context-image')
    costs = arm_costs(study, study.arms[0])
    assert costs.macs > arm_costs(study_of(), study_of().arms[0]).macs
    # ViT-Ti/16 has 5.5 million parameters without its classifier (Touvron et al. 2021, table 1: 5.7 with it).
    assert 5.4e6 < costs.parameters - costs.trained < 5.7e6
    assert costs.token_stride == 16


@pytest.mark.parametrize('head', ['semantic', 'dual-decoder', 'hover', 'boundary'])
def test_a_step_is_timed(head):
    study = study_of(head=head)
    assert step_seconds(study, study.arms[0]) > 0


def test_a_cpu_is_timed_with_the_thread_of_a_run(monkeypatch):
    """Both times are; afterwards the threads are as before."""
    seen = []

    def seconds(run):
        seen.append(torch.get_num_threads())
        return float(len(seen))

    monkeypatch.setattr('mmgfnuc.studies.costs._seconds', seconds)
    monkeypatch.setattr('mmgfnuc.studies.costs._device', lambda: 'cpu')
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        study = study_of()
        # Steps take 1 s (not counted), 2 s, 3 s and 4 s.
        assert step_seconds(study, study.arms[0]) == 3
        assert inference_costs(study, study.arms[0]).ratio == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


def test_ratios_are_those_of_pairs(monkeypatch):
    """The machine gets slower from pair to pair; the second arm takes three times as long in most of them."""
    times = iter([number * factor for number in range(1, 16) for factor in ((3.0, 1.0) if number < 13 else (1.0, 1.0))])
    monkeypatch.setattr('mmgfnuc.studies.costs._seconds', lambda run: next(times))
    study = make_study(
        {'title': '', 'arms': [{'parts': SMALL}, {'parts': SMALL, 'head': 'hover'}], 'data': 'synthetic'}
    )
    assert inference_costs(study, study.arms[1]).ratio == 3
