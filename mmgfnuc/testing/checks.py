"""What several batteries, and tests of one's own, ask of a module."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmgfnuc.errors import UserError

Run = Callable[[slice], Any]
Part = TypeVar('Part', bound=nn.Module)


def fill_with_noise(module: Part, scale: float = 0.1) -> Part:
    """Replace every parameter, also those that start at zero or one and would hide a mistake."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=scale)
    return module


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum what MMEngine trains on: the values whose keys contain `loss`."""
    return torch.stack([value for key, value in losses.items() if 'loss' in key]).sum()


def random_sum(outputs: Sequence[Tensor]) -> Tensor:
    """Weigh outputs at random and add them: unlike their mean square, this is not constant for what is normalised."""
    return torch.stack([(output * torch.randn_like(output)).sum() for output in outputs]).sum()


def assert_gradients(module: nn.Module) -> None:
    """Every trainable parameter has a finite gradient that is not all zero."""
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert _has_gradient(name, parameter), f'the gradient of {name} is all zero'


def assert_trains(module: nn.Module, loss: Callable[[], Tensor], may_stay: tuple[str, ...] = ()) -> None:
    """Every trainable parameter gets a finite gradient at each step, and by the second step one that is not zero.

    What starts at zero on purpose, such as the last layer of a residual branch, keeps others from a gradient at first.

    Args:
        module: whose parameters are asked.
        loss: computes it anew.
        may_stay: how the names of parameters end whose gradient is zero by their nature.
    """
    trained = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not trained:
        return
    optimizer = torch.optim.Adam(trained.values(), lr=1e-2)
    untouched = {name for name in trained if not name.endswith(may_stay or ('\n',))}
    for _ in range(2):
        optimizer.zero_grad()
        loss().backward()
        untouched -= {name for name, parameter in trained.items() if _has_gradient(name, parameter)}
        if not untouched:
            return
        optimizer.step()
    raise AssertionError(
        f'the gradient is zero at every step: {", ".join(sorted(untouched))}; leave out what does not take part, or '
        'name it in may_stay where this must be so'
    )


def _has_gradient(name: str, parameter: nn.Parameter) -> bool:
    assert parameter.grad is not None, f'{name} gets no gradient: it takes no part in the output, and DDP would fail'
    assert parameter.grad.isfinite().all(), f'the gradient of {name} is not finite'
    return bool(parameter.grad.any())


def assert_round_trip(module: nn.Module, other: nn.Module, *inputs: Any) -> None:
    """A second module with the state dict of the first gives the same output, in evaluation mode."""
    fill_with_noise(module).eval()
    other.load_state_dict(module.state_dict(), strict=True)
    with torch.no_grad():
        assert_same(other.eval()(*inputs), module(*inputs), 'a checkpoint does not bring back what was computed')


@torch.no_grad()
def assert_image_by_image(run: Run, batch: int = 2) -> None:
    """The same input gives the same output, and an image the same one whatever images are beside it.

    Args:
        run: computes the outputs of these images of the batch, in evaluation mode.
        batch: number of images.
    """
    whole = run(slice(None))
    assert_same(run(slice(None)), whole, 'in evaluation mode the same input gives another output the second time')
    alone = [as_tuple(run(slice(index, index + 1))) for index in range(batch)]
    joined = [torch.cat(outputs) for outputs in zip(*alone, strict=True)]
    for output, expected in zip(as_tuple(whole), joined, strict=True):
        assert_near(output, expected, 'in evaluation mode the output of an image depends on the others of its batch')


@torch.no_grad()
def assert_in_place(run: Callable[[Tensor], Sequence[Tensor]], images: Tensor) -> None:
    """Each map lies over the image: where a corner of the image changes, the map changes most in that corner."""
    rows, columns = (side // 4 for side in images.shape[-2:])
    before = run(images)
    for corner in (slice(None, rows), slice(-columns, None)), (slice(-rows, None), slice(None, columns)):
        changed = images.clone()
        changed[(..., *corner)] = torch.rand_like(changed[(..., *corner)])
        for number, (old, new) in enumerate(zip(before, run(changed), strict=True)):
            moved = (new - old).abs().float().mean((0, 1))
            if min(moved.shape) < 4 or not moved.any():
                continue
            height, width = (side // 2 for side in moved.shape)
            quarters = [
                moved[top, left].mean().item()
                for top in (slice(None, height), slice(-height, None))
                for left in (slice(None, width), slice(-width, None))
            ]
            expected = 1 if corner[0].start is None else 2
            assert quarters.index(max(quarters)) == expected, (
                f'output {number} does not lie over its pixels: a change in one corner of the image is found in another'
            )


def assert_unchanged(run: Callable[[], Any], inputs: Sequence[Tensor]) -> None:
    """Running leaves the inputs as they are: other parts of the model get the same tensors."""
    before = [tensor.clone() for tensor in inputs]
    run()
    assert_same(list(inputs), before, 'an input is changed in place, and other parts of the model get the same tensor')


def assert_refused(run: Callable[[], Any], what: str) -> None:
    """A UserError is raised, which the commands print as one line."""
    try:
        run()
    except UserError:
        return
    raise AssertionError(f'not refused: {what}; raise mmgfnuc.errors.UserError')


def assert_finite(outputs: Any, where: str = '') -> None:
    """No output is infinite or no number."""
    for number, output in enumerate(as_tuple(outputs)):
        assert output.isfinite().all(), f'output {number} is not finite {where}'


def assert_same(outputs: Any, expected: Any, rule: str) -> None:
    """Outputs are equal to the last bit."""
    torch.testing.assert_close(outputs, expected, rtol=0, atol=0, msg=lambda reason: f'{rule}\n{reason}')


def assert_near(outputs: Any, expected: Any, rule: str, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Outputs are equal but for rounding."""
    torch.testing.assert_close(outputs, expected, rtol=rtol, atol=atol, msg=lambda reason: f'{rule}\n{reason}')


def as_tuple(outputs: Any) -> tuple[Tensor, ...]:
    """Outputs of a module that gives one or several."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
