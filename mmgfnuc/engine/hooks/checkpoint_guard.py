"""What a checkpoint says about itself, and what is checked when it is loaded."""

import time
from pathlib import Path
from typing import Any, NoReturn

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner

from mmgfnuc.engine.provenance import commit, hardware, versions
from mmgfnuc.errors import UserError
from mmgfnuc.inference.checkpoint import TRAIN_SECONDS, check_fit, check_state, load_checkpoint
from mmgfnuc.inference.preprocessing import describe_preprocessing
from mmgfnuc.models.weights.locate import RANDOM
from mmgfnuc.registry import HOOKS

from .average_weights import refuse_averages
from .whole_checkpoint import OUTDATED

# What MMEngine takes for an address, as it has them registered.
ADDRESSES = (
    'http://',
    'https://',
    'pavi://',
    r'(\S+\:)?s3://',
    r'(\S+\:)?petrel://',
    'modelzoo://',
    'torchvision://',
    'open-mmlab://',
    'openmmlab://',
    'mmcls://',
)


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any) -> dict[str, Any]:
    """Read what `load_from`, `resume` and `init_cfg` name as data; MMEngine's own reader may run what a file says.

    Raises:
        UserError: see `load_checkpoint`.
    """
    return load_checkpoint(filename, map_location)


@CheckpointLoader.register_scheme(prefixes=ADDRESSES, force=True)
def load_from_address(filename: str, map_location: Any) -> NoReturn:
    """Refuse to load from elsewhere: MMEngine would not read that as data.

    Raises:
        UserError: always.
    """
    raise UserError(f"'{filename}' is an address; download the file and give its path")


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Write into every checkpoint where it comes from; refuse to load one that does not fit the model.

    Written are the preprocessing, the versions, the hardware, the commit, and the seconds of training (those before a
    resume included). MMEngine itself adds config, seed and data set, and would load a checkpoint of another model with
    no more than a warning.

    Of a pretrained foundation encoder its name, licence and terms are written too; where these restrict the use of the
    weights, the log says so once.
    """

    def __init__(self) -> None:
        self.seconds_before = 0.0
        self.start = 0.0
        self.provenance: dict = {}

    def before_train(self, runner: Runner) -> None:
        """Start the clock; note what runs now, as the files may be changed before a checkpoint is saved."""
        self.start = time.monotonic()
        preprocessing = describe_preprocessing(runner.train_dataloader.dataset)
        self.provenance = dict(preprocessing=preprocessing, versions=versions(), hardware=hardware(), commit=commit())
        encoder = getattr(_unwrapped(runner.model), 'foundation', None)
        if encoder is not None and encoder.weights != RANDOM:
            entry = encoder.entry
            self.provenance['foundation'] = dict(name=entry.name, licence=entry.licence, terms=entry.terms)
            if entry.terms:
                runner.logger.warning(entry.terms)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add where it comes from."""
        seconds = self.seconds_before + time.monotonic() - self.start
        checkpoint['meta'].update(self.provenance, train_seconds=seconds)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare keys and shapes before anything is loaded; forget what it says of files that are not of this run."""
        # Of a run that is resumed all has been checked; others use no more than these.
        used = {key: checkpoint[key] for key in ('message_hub',) if key in checkpoint}
        meta = checkpoint.get('meta', {})
        check_state({**used, 'meta': {key: meta[key] for key in (TRAIN_SECONDS,) if key in meta}}, runner._load_from)
        refuse_averages(runner, checkpoint)
        _forget_foreign_files(runner, checkpoint.get('message_hub', {}).get('runtime_info', {}))
        check_fit(_unwrapped(runner.model).state_dict(), checkpoint.get('state_dict', checkpoint))
        self.seconds_before = meta.get(TRAIN_SECONDS, 0.0)


def _forget_foreign_files(runner: Runner, info: dict) -> None:
    """Take out of what a checkpoint remembers the files that MMEngine would delete, unless they are of this run."""
    for key in [key for key in info if key.startswith('best_ckpt')]:
        if not isinstance(info[key], str) or Path(info[key]).parent != Path(runner.work_dir):
            del info[key]
    if 'keep_ckpt_ids' in info:
        info['keep_ckpt_ids'] = [step for step in info['keep_ckpt_ids'] if isinstance(step, int)]
    if OUTDATED in info:
        info[OUTDATED] = [name for name in info[OUTDATED] if isinstance(name, str) and Path(name).name == name]


def _unwrapped(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model
