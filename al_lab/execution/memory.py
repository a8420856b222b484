"""A GPU whose memory is full: how that is told from other errors, what is given back, and what helps."""

import gc
import sys

from al_lab.core.errors import explain

# What CUDA's libraries say who have no exception of their own for it.
_SAID = ("CUDA out of memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a GPU's memory is full; torch is not imported for it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        names = {kind.__name__ for kind in type(error).__mro__}
        if "OutOfMemoryError" in names or ("RuntimeError" in names and any(words in str(error) for words in _SAID)):
            return True
        error = error.__cause__ or error.__context__
    return False


def empty_cache() -> None:
    """Give what torch keeps of a GPU's memory back to others, if this process has used one at all."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


def too_big(job: str, how: str = "") -> str:
    """Say that a job needs more memory than a GPU has, and what to do.

    Args:
        job: its name.
        how: it was tried, such as "twice, the second time with GPU 0 to itself".
    """
    return explain(
        expected="a job that fits into the memory of its GPU",
        got=f"out of memory {how}".rstrip(),
        where=f"job {job!r}",
        do="the same run can go on with runtime.devices=2 (each GPU has half of a training's batch) or "
        "runtime.predict_batch=8 (when it looked through the pool); as a run of its own, with name=…: a smaller "
        "trainer.batch_size, or trainer.precision=bf16-mixed (16-mixed on cards without bf16)",
    )
