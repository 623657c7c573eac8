"""Continuing a run from its last checkpoint."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import carried_config, read_checkpoint

from .cli import notice
from .config import set_seed

POINTER = 'last_checkpoint'
# Settings that may differ between calls of the same training, and how many of the others are listed.
OF_THE_CALL = ('work_dir', 'resume', 'load_from', 'launcher', 'model_wrapper_cfg')
MOST_CHANGES = 8


def find_resume(cfg: Config, resume: str | None) -> None:
    """Set a config to continue a run with the run's own seed, from a path or, with `auto`, the last checkpoint.

    Where the working folder has no checkpoint yet, `auto` begins a new run. `resume=True` in the config is the same as
    `auto`, or as the path in its `load_from`. A notice names a new run in a folder with checkpoints of an earlier one.

    Raises:
        UserError: the checkpoint is missing or damaged, or all those of the working folder are.
    """
    if resume is None and cfg.get('resume'):
        resume = cfg.get('load_from') or 'auto'
    if resume is None:
        if any(Path(cfg.work_dir).glob('*.pth')):
            notice(
                f'{cfg.work_dir} holds checkpoints of an earlier run, which this new run does not continue and may '
                'replace; to continue it give --resume, to keep it another --work-dir. Until the new run has saved '
                'one, a later --resume would continue the earlier run'
            )
        return
    found = last_checkpoint(Path(cfg.work_dir)) if resume == 'auto' else (Path(resume), _read_meta(Path(resume)))
    if found is None:
        notice(f'{cfg.work_dir} has no checkpoint to resume from: a new run begins')
        cfg.resume = False
        return
    path, meta = found
    cfg.resume, cfg.load_from = True, str(path)
    seed, own = meta['seed'], cfg.get('randomness', {}).get('seed')
    if own not in (None, seed):
        notice(f'the run goes on with its own seed, {seed}; seed {own} of the config or the command line is not used')
    # MMEngine takes the seed over too late for the order of the samples and their augmentation.
    set_seed(cfg, seed)
    changes = config_changes(carried_config({'meta': meta}, path), cfg)
    if changes:
        more = f' and {len(changes) - MOST_CHANGES} more' if len(changes) > MOST_CHANGES else ''
        notice(f'the run goes on with another config than before: {", ".join(changes[:MOST_CHANGES])}{more}')


def config_changes(before: Config, now: Config) -> list[str]:
    """List the settings that differ between the config that a checkpoint carries and the one it is resumed with."""
    # Of a config file the types are classes, and names where it is written down.
    written = carried_config({'meta': {'cfg': now.pretty_text}}, 'the config')
    old, new = (dict(_settings(config.to_dict())) for config in (before, written))
    return [
        f'{name} {old.get(name, "(none)")} -> {new.get(name, "(none)")}'
        for name in dict.fromkeys([*old, *new])
        if name.partition('.')[0] not in OF_THE_CALL and old.get(name, ...) != new.get(name, ...)
    ]


def _settings(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted paths and values of all settings; anything without a dict in it is one setting."""
    if isinstance(node, dict) and node:
        items = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, list | tuple) and any(isinstance(value, dict) for value in node):
        items = [(str(index), value) for index, value in enumerate(node)]
    else:
        yield path, list(node) if isinstance(node, tuple) else node
        return
    for name, value in items:
        yield from _settings(value, f'{path}.{name}' if path else name)


def check_resumable(checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose run cannot go on, such as the best one that MMEngine keeps.

    Raises:
        UserError: it holds only weights.
    """
    if 'optimizer' not in checkpoint:
        raise UserError(
            'the checkpoint holds weights alone, without the state of the optimiser, so that its run cannot go on; '
            'resume from another one, or begin a new run from these weights: --cfg-options load_from=CHECKPOINT'
        )


def last_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Find the checkpoint to resume from: the one that `last_checkpoint` names, else the newest whole one of a folder.

    A notice names what is passed over.

    Returns:
        the file, and the `meta` that it holds; None where the folder has no checkpoint.

    Raises:
        UserError: it has some, and none is whole.
    """
    faults: list[str] = []
    named = _named(folder, faults)
    metas = _read_metas([named] if named else [], faults)
    if not metas:
        metas = _read_metas([path for path in sorted(folder.glob('*.pth')) if path != named], faults)
        if not metas and any(folder.glob('*.pth')):
            raise UserError(
                f'{folder} has no checkpoint to resume from ({"; ".join(faults)}); name another one, --resume '
                'CHECKPOINT, or begin anew in another --work-dir'
            )
        for fault in faults:
            notice(f'passed over: {fault}')
    if not metas:
        return None
    newest = max(metas, key=lambda path: metas[path]['iter'])
    if newest != named:
        notice(f'resuming from {newest}, the newest checkpoint that is whole (step {metas[newest]["iter"]:,})')
    return newest, metas[newest]


def _named(folder: Path, faults: list[str]) -> Path | None:
    """Read which checkpoint `last_checkpoint` names; in a folder that was moved or copied it is the one beside it."""
    pointer = folder / POINTER
    try:
        text = pointer.read_text(encoding='utf-8', errors='replace').strip()
        for path in (folder / Path(text).name, Path(text)):
            if path.is_file():
                return path
        faults.append(f'{pointer} ' + (f"names '{text[:200]}', which is not there" if text else 'is empty'))
    except FileNotFoundError:
        pass
    except OSError as error:  # no file, or its content is not a path
        faults.append(f'{pointer} cannot be used ({error.strerror})')
    return None


def _read_metas(paths: Sequence[Path], faults: list[str]) -> dict[Path, dict[str, Any]]:
    metas = {}
    for path in paths:
        try:
            metas[path] = _read_meta(path)
        except UserError as error:
            faults.append(f'{path.name}: {error}')
    return metas


def _read_meta(path: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(path)
    check_resumable(checkpoint)
    return checkpoint['meta']
