"""Checkpoints that are whole, whenever the process is killed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend, LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmgfnuc.engine.resume import POINTER
from mmgfnuc.errors import UserError
from mmgfnuc.files import remove_unfinished, whole_file, write_text
from mmgfnuc.registry import HOOKS

from .finite_loss import FiniteLossHook
from .scores import better_is, check_given

BACKEND = 'mmgfnuc.whole'
OUTDATED = 'outdated_ckpts'


@register_backend(BACKEND)
class WholeFileBackend(LocalBackend):
    """MMEngine's files of this machine, each written whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes."""
        with whole_file(Path(filepath)) as file:
            file.write_bytes(obj)


class _LaterRemoval(WholeFileBackend):
    """Notes what to remove at a time when nothing is lost by it."""

    def __init__(self) -> None:
        self.noted: list[Path] = []

    def remove(self, filepath: str | Path) -> None:
        self.noted.append(Path(filepath))


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook; a killed process or a full disk leaves only whole checkpoints.

    A checkpoint and `last_checkpoint` are written under another name and renamed; the oldest of `max_keep_ckpts` and
    the former best are deleted after the new one is there. What a killed process has left of both is deleted when the
    training goes on. Names, contents and arguments are those of MMEngine's hook; checkpoints in a remote store
    (`backend_args`) are written by that store.

    A checkpoint of a step that is validated is written again after the validation, with what that has changed: the best
    score, a schedule that follows scores, an early stop. A training that is stopped early saves its last step
    (`save_last`). `save_best='dice'` keeps the weights of the best validation, `best_dice_<name>.pth`; which scores of
    this package are better it knows without a `rule`.
    """

    file_backend: BaseStorageBackend
    backend_args: dict[str, str] | None

    # Scores of a validation, and the last step that was saved.
    followed: tuple[str, ...] = ()
    saved_step: int | None = None

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        _check_template(self.filename_tmpl)
        if self.save_best:
            self.followed = tuple(name for name in self.key_indicators if name != 'auto')

    def _init_rule(self, rules: Sequence[str | None], key_indicators: Sequence[str]) -> None:
        """Add which scores are better, where MMEngine, which guesses it by parts of a name, does not know."""
        rules = [*rules] * len(key_indicators) if len(rules) == 1 else rules
        known = [rule or better_is(score) for rule, score in zip(rules, key_indicators, strict=True)]
        super()._init_rule(known, key_indicators)

    def before_train(self, runner: Runner) -> None:
        """Delete what a process that was killed has left."""
        super().before_train(runner)
        if runner._resume and runner._load_from:
            # The checkpoint itself says where it lay when it was written.
            runner.message_hub.update_info('last_ckpt', str(runner._load_from))
        self.is_local = isinstance(self.file_backend, LocalBackend) and self.backend_args is None
        if self.is_local and is_main_process():
            remove_unfinished(Path(self.out_dir))
            self._remove(runner.message_hub.runtime_info.get(OUTDATED, []))

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        """Keep the best weights; save the step again, or for the first time where the training ends with it."""
        check_given(self, self.followed, metrics)
        step = runner.epoch if self.by_epoch else runner.iter
        due = self.saved_step == step or (self.save_last and runner.train_loop.stop_training)
        self.saved_step = None
        super().after_val_epoch(runner, metrics)
        if due and self.saved_step is None:
            self._save_checkpoint_with_step(runner, step, dict(epoch=runner.epoch, iter=runner.iter))

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: Mapping[str, Any]) -> None:
        self.saved_step = step
        _refuse_not_finite(runner)
        if not self.is_local:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        runner.message_hub.update_info(OUTDATED, self._keep(runner, step))
        name = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=dict(meta),
            by_epoch=self.by_epoch,
            backend_args=dict(backend=BACKEND),
            **self.args,
        )
        if is_main_process():
            write_text(Path(runner.work_dir) / POINTER, self.last_ckpt)
            self._remove(runner.message_hub.get_info(OUTDATED))

    def _keep(self, runner: Runner, step: int) -> list[str]:
        """Count a step among those that are kept; return the names of the checkpoints that are so no longer.

        They go into the new checkpoint, so that a run that is killed before it deletes them does so when it goes on.
        """
        if self.max_keep_ckpts <= 0 or step in list(self.keep_ckpt_ids)[-1:]:
            return runner.message_hub.runtime_info.get(OUTDATED, [])
        former = list(self.keep_ckpt_ids)
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        outdated = [self.filename_tmpl.format(each) for each in former if each not in self.keep_ckpt_ids]
        return [name for name in outdated if name != self.filename_tmpl.format(step)]

    def _save_best_checkpoint(self, runner: Runner, metrics: Mapping[str, Any]) -> None:
        if not self.save_best:
            return
        _refuse_not_finite(runner)
        if not self.is_local:
            super()._save_best_checkpoint(runner, metrics)
            return
        backend, later = self.file_backend, _LaterRemoval()
        self.file_backend, self.backend_args = later, dict(backend=BACKEND)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend, self.backend_args = backend, None
        # After an error nothing comes here: the former best stays.
        best = self.best_ckpt_path_dict.values() if len(self.key_indicators) > 1 else [self.best_ckpt_path]
        for path in later.noted:
            if str(path) not in best:
                path.unlink(missing_ok=True)

    def _remove(self, names: list[str]) -> None:
        for name in names:
            (Path(self.out_dir) / name).unlink(missing_ok=True)


def _check_template(template: str) -> None:
    try:
        names = {template.format(step) for step in (1, 2)}
    except (IndexError, KeyError, ValueError, AttributeError):
        names = set()
    if len(names) < 2:
        raise UserError(
            f"filename_tmpl='{template}' does not give each step a name of its own, so that each would take the place "
            'of the one before; put {} where the number of the step belongs, such as iter_{}.pth'
        )


def _refuse_not_finite(runner: Runner) -> None:
    """Let the hook that guards the weights look at them; every process comes here, one alone writes the file."""
    for hook in runner.hooks:
        if isinstance(hook, FiniteLossHook):
            hook.check_weights(runner)
