"""Warnings of Lightning, torch and jsonargparse that are hidden from users."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Message, and why it is of no use here. Other warnings are shown.
_IGNORED = (
    r"LightningCLI's args parameter is intended to run",  # our arguments are not sys.argv
    r".*LeafSpec.* is deprecated",  # of torch 2.13, and Lightning still uses it
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # we log epochs
    r"Found \d+ module\(s\) in eval mode at the start of training",  # the averaged weights
    r"The '\w+' does not have many workers",  # samples come from a memory map
    r"Checkpoint directory .* exists and is not empty",  # of the run that goes on
    r"Experiment logs directory .* exists and is not empty",
    r"It is recommended to use `self\.log\(.*sync_dist=True",  # figures are joined before
    r"Grad strides do not match bucket view strides",  # of kernels 5 x 5 of one channel; harmless
)


@contextmanager
def ignore_library_warnings() -> Iterator[None]:
    """Ignore warnings that tell users nothing, while a training is set up and runs."""
    import pytorch_lightning  # noqa: F401 (it sets its loggers' levels when it is imported)

    loggers = [logging.getLogger(n) for n in ("pytorch_lightning", "lightning_fabric")]
    before = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _IGNORED:
            warnings.filterwarnings("ignore", message=message)
        # jsonargparse's deprecations of what Lightning's command line still calls
        for caller in (r"pytorch_lightning\.cli", "jsonargparse"):
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=caller)
        for logger in loggers:
            logger.setLevel(logging.WARNING)  # seeds, devices and advertisements lie below it
        try:
            yield
        finally:
            for logger, level in zip(loggers, before, strict=True):
                logger.setLevel(level)
