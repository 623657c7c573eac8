"""Several images at once, each in a thread of its own."""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from queue import SimpleQueue
from threading import Event
from typing import Any

import cv2
import torch

from .predictor import Predictor

# More would wait for each other: only one thread at a time runs Python.
MOST = 4
# One image is in the network of the GPU while the nuclei of another are divided on the CPU.
ON_GPU = 2


def side_by_side(
    predictor: Predictor, action: Callable[..., Any], arguments: Sequence[Sequence[Any]]
) -> Generator[Any]:
    """Call action(predictor, *each) for each of some arguments, in threads that share the cores of this process.

    Several images keep the cores busier than the tiles of one, and than what comes after its network, which keeps one
    busy. No two calls use one predictor at a time. Close the iterator, if it is not read to its end.

    Args:
        predictor: finds the nuclei.
        action: what is done with an image.
        arguments: of each call.

    Yields:
        What the calls return, as they end. The error of one is raised; calls that have not begun then never do.
    """
    cores, opencv_cores = torch.get_num_threads(), cv2.getNumThreads()
    predictors = _predictors(predictor, min(len(arguments), ON_GPU if predictor.device.type == 'cuda' else cores, MOST))
    threads, free, failed = len(predictors), SimpleQueue[Predictor](), Event()
    for each in predictors:
        free.put(each)

    def call(*given: Any) -> Any:
        if failed.is_set():
            return None
        own = free.get()
        try:
            return action(own, *given)
        except BaseException:
            failed.set()
            raise
        finally:
            free.put(own)

    pool = ThreadPoolExecutor(threads, 'image', torch.set_num_threads, (max(1, cores // threads),))
    cv2.setNumThreads(max(1, opencv_cores // threads))
    try:
        for job in as_completed([pool.submit(call, *given) for given in arguments]):
            yield job.result()
    finally:
        failed.set()
        pool.shutdown(cancel_futures=True)
        # For PyTorch this is a setting of the process too.
        torch.set_num_threads(cores)
        cv2.setNumThreads(opencv_cores)


def _predictors(predictor: Predictor, number: int) -> list[Predictor]:
    """Give the predictor and twins of it; alone, where a part of the network is of a kind that cannot be copied."""
    try:
        return [predictor, *(predictor.twin() for _ in range(number - 1))]
    except Exception:  # what copying runs is code of the part, and fails with any type
        return [predictor]
