"""Work on a Dask cluster: where it is, and how jobs are handed to it.

The cluster is the one of an active ``distributed.Client`` (in a notebook), or the scheduler at
``$VITLAB_SCHEDULER`` (set by ``vitlab build --scheduler tcp://...``). How to start one, with SLURM
or Kubernetes too, stands in the book's chapter on larger machines.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import sys
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import vitlab

if TYPE_CHECKING:
    from distributed import Client

PATIENCE = 30  # seconds to wait for a scheduler
Key = TypeVar("Key", bound=Hashable)


class ClusterError(RuntimeError):
    """A cluster that cannot be worked with: no scheduler, no workers, another vitlab on them."""


def client() -> Client | None:
    """The cluster to work on, None for this machine alone.

    Raises ClusterError where $VITLAB_SCHEDULER names no scheduler or its workers do not fit.
    """
    address = os.environ.get("VITLAB_SCHEDULER", "")
    if "distributed" in sys.modules:
        from distributed.client import default_client

        try:
            return _fitting(default_client())
        except ValueError:  # Dask's way to say that there is none
            pass
    if not address:
        return None
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise ClusterError("a cluster needs Dask: pip install 'vitlab[cluster]'") from None
    try:
        return _fitting(Client(address, timeout=PATIENCE, set_as_default=True))
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address!r}: {error}; start one with `dask scheduler` "
            "and give its address, e.g. tcp://10.0.0.1:8786"
        ) from None


def _fitting(client: Client) -> Client:
    if not client.scheduler_info(n_workers=-1)["workers"]:
        raise ClusterError(
            f"the cluster at {client.scheduler_info()['address']} has no workers; "
            "start some with `dask worker ADDRESS --nthreads 1`"
        )
    for worker, version in client.run(_version).items():
        if version != vitlab.__version__:
            raise ClusterError(f"{worker} has vitlab {version}, this is {vitlab.__version__}")
    return client


def _version() -> str:
    return vitlab.__version__


def keep_memory() -> None:
    """Let this process keep freed memory for its next tensors; where it is Linux's C library.

    Dask starts its workers so that freed memory goes back to the system at once. A network frees
    and takes the same large tensors at every layer, and would pay for new pages each time.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
            mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD


def spread(
    client: Client, work: Callable[..., Any], jobs: Mapping[Key, tuple], shared: Mapping[str, Any]
) -> Iterator[tuple[Key, Any]]:
    """Do ``work(*job)`` for every job on the cluster; yields (key, result) as they finish.

    shared: large arguments by name; where one of these names stands in a job, the worker puts the
        object. Each is sent once, and again to whoever takes over from a worker that died.

    A job whose worker dies is done by another one. An error in `work` is raised here and the rest
    of the jobs cancelled. Where workers announce ``GPU`` as a resource, a job takes one GPU.
    """
    import cloudpickle
    from distributed import as_completed

    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    gpus = any("GPU" in worker.get("resources", {}) for worker in workers)
    with warnings.catch_warnings():
        # Weights and image lists are large, and meant to be: the scheduler keeps them.
        warnings.filterwarnings("ignore", message="Sending large graph")
        held = {
            name: client.submit(pickle.loads, cloudpickle.dumps(thing), pure=False)
            for name, thing in shared.items()
        }
        futures = {
            client.submit(
                work,
                *(held.get(part, part) if isinstance(part, str) else part for part in job),
                pure=False,
                resources={"GPU": 1} if gpus else None,
            ): key
            for key, job in jobs.items()
        }
    try:
        for future in as_completed(futures):
            yield futures[future], future.result()
            future.release()
    finally:
        client.cancel([f for f in futures if not f.done()], force=True)
