"""Run notebooks with papermill, each in processes of its own that start warm.

What pages import from vitlab brings torch and timm along: six seconds, for every page. So a runner
imports it once, and forks twice for each page: papermill, and the kernel, which was forked before
papermill had threads. Nothing that a page does reaches the next. Where forking is not safe once
libraries are loaded (macOS), a kernel is started afresh for each page.

All ends with the build that started it: one killed with -9 leaves no kernel behind.
"""

from __future__ import annotations

import ast
import json
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from vitlab.progress import NOTE

_NOTE = "progress.json"  # beside a page's notebook; see `vitlab.progress`
_WARM = sys.platform == "linux"
_FORK = multiprocessing.get_context("fork")
_PAGES = _FORK if _WARM else multiprocessing.get_context("spawn")


class RunError(RuntimeError):
    """A page that did not run to its end; says in which cell, and why."""


class Killed(RunError):
    """A page whose kernel was ended from outside, mostly by the system, for want of memory."""


class Stopped(RunError):
    """A page that was stopped with the build: no fault of its own."""


class Runner:
    """A process that runs pages, one at a time; started when it is first asked to.

    environment: of the pages. folder: where they are run.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self._process: subprocess.Popen | None = None

    def run(
        self,
        notebook: Path,
        executed: Path,
        parameters: Mapping[str, Any],
        tell: Callable[[str], object] = lambda text: None,
    ) -> int:
        """Run a notebook and write it as executed; returns the most memory it took, in MB.

        tell: is told how far the page is, every second or so: cell, images done, time left.

        Raises RunError.
        """
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        job = [str(notebook.resolve()), str(executed.resolve()), parameters]
        asked, answers = self._process.stdin, self._process.stdout
        assert asked
        assert answers
        with suppress(BrokenPipeError):
            print(json.dumps(job), file=asked, flush=True)
        place = ""
        for line in iter(answers.readline, ""):
            kind, said = json.loads(line)
            if kind == "done":
                return said
            if kind != "at":
                raise {"failed": RunError, "killed": Killed}[kind](said)
            place = said
            tell(place)
        code = self._process.wait()
        if code == -signal.SIGTERM:
            raise Stopped("stopped")
        where = f", at {place}" if place else ""
        raise RunError(f"the process that runs pages was ended (exit code {code}){where}")

    def stop(self) -> None:
        """End the process, and the page that it is at."""
        if self._process:
            self._process.terminate()

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve({os.getpid()})"],
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )


# --- the runner's own process -------------------------------------------------------------------


def serve(parent: int) -> None:
    """Run the pages that standard input names, until it ends or the parent does."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        notebook, executed, parameters = json.loads(line)
        if _WARM:
            _import_for(Path(notebook))
        said, say = _PAGES.Pipe(duplex=False)
        page = _PAGES.Process(target=_page, args=(notebook, executed, parameters, say))
        page.start()
        say.close()
        for answer in _follow(page, said, Path(notebook).with_name(_NOTE), parent):
            try:
                print(json.dumps(answer), file=answers, flush=True)
            except BrokenPipeError:  # the build has ended; an exception would wait for the page
                os._exit(1)


def _follow(page: Any, said: Any, note: Path, parent: int) -> Iterator[tuple[str, Any]]:
    """What a page says while it runs, every second where it is, and at last how it ended."""
    cell, ended = "its start", False
    while not ended:
        if os.getppid() != parent:
            os._exit(1)  # the page notices, and its kernel after it
        if said.poll(1):
            try:
                kind, what = said.recv()
            except EOFError:
                page.join()
                kind, what = "failed", f"{cell}: its process was ended (exit code {page.exitcode})"
            note.unlink(missing_ok=True)  # it was of the cell before
            ended = kind != "at"
            cell = cell if ended else what
            yield kind, what
        else:
            yield "at", cell + _noted(note)
    page.join()


def _noted(note: Path) -> str:
    """What a measurement says of itself (see `vitlab.progress`); nothing once it is through."""
    with suppress(OSError, ValueError):  # none, or half of one
        known = json.loads(note.read_text())
        if known["done"] < known["of"]:
            left = f", {_span(known['left'])} left" if known["left"] is not None else ""
            return f", {known['done']:,} of {known['of']:,} images of this pass{left}"
    return ""


def _span(seconds: float) -> str:
    """A span of time in words that are short enough for a line."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _import_for(notebook: Path) -> None:
    """Import what a notebook imports from vitlab; an error is told by the page itself."""
    for cell in nbformat.read(notebook, as_version=4).cells:
        with suppress(Exception):
            for node in ast.walk(ast.parse(cell.source if cell.cell_type == "code" else "")):
                if isinstance(node, ast.ImportFrom):
                    modules = [node.module or ""]
                elif isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                else:
                    continue
                if all(module.split(".")[0] == "vitlab" for module in modules):
                    exec(ast.unparse(node), {})


def _page(notebook: str, executed: str, parameters: Mapping[str, Any], say: Any) -> None:
    """Run one page; say where it is, and at last the most memory it took, in MB, or what failed."""
    os.environ[NOTE] = str(Path(notebook).with_name(_NOTE))
    if _WARM:
        _Warm.waiting = _Kernel()
        _Warm.waiting.start()
        factory = KernelProvisionerFactory.instance()
        here = EntryPoint("warm", f"{__name__}:_Warm", factory.GROUP_NAME)
        factory.provisioners[here.name] = here
        factory.default_provisioner_name = here.name
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    import papermill
    from nbclient.exceptions import DeadKernelError

    place = ""

    class Told(papermill.engines.NBClientEngine):
        """Papermill's engine, which says what cell it is at."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, *arguments: Any, **how: Any) -> Any:
            begin, cells = nb_man.cell_start, _numbered(nb_man.nb)

            def begun(cell: Any, index: int, **more: Any) -> None:
                nonlocal place
                if index in cells:
                    place = f"cell {cells.index(index) + 1}"
                    say.send(("at", f"{place} of {len(cells)}"))
                begin(cell, index, **more)

            nb_man.cell_start = begun
            return super().execute_managed_notebook(nb_man, *arguments, **how)

    papermill.engines.papermill_engines.register("told", Told)
    try:
        # Another "python3" of this machine's may be of another Python.
        kernels = Path(executed).parent / "jupyter"
        shutil.rmtree(kernels, ignore_errors=True)
        write_kernel_spec(kernels / "kernels" / "python3")
        os.environ["JUPYTER_PATH"] = str(kernels)
        papermill.execute_notebook(
            notebook,
            executed,
            engine_name="told",
            parameters=parameters,
            cwd=os.getcwd(),
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
        )
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        answer: tuple[str, Any] = "done", peak
    except papermill.exceptions.PapermillExecutionError as stopped:
        answer = "failed", f"{place}: {stopped.ename}: {stopped.evalue}"
    except DeadKernelError:
        code = _Warm.waiting.exitcode if _WARM else None
        if code in (None, -signal.SIGKILL):
            answer = "killed", f"{place}: its kernel was killed"
        else:
            answer = "failed", f"{place}: its kernel ended (exit code {code})"
    except Exception as other:
        where = f"{place}: " if place else ""
        answer = "failed", f"{where}{type(other).__name__}: {other}"
    say.send(answer)


def _numbered(notebook: nbformat.NotebookNode) -> list[int]:
    """The places of a notebook's own code cells: the injected parameters are none of them."""
    return [
        index
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)  # the kernel notices that its parent is gone and ends too


class _Kernel(_FORK.Process):  # type: ignore[name-defined]
    """A kernel that waits to be woken; to Jupyter it is like a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self) -> None:
        super().__init__()
        self._asked, self._ask = _FORK.Pipe(duplex=False)

    def run(self) -> None:
        self._ask.close()
        os.setpgid(0, 0)  # it is stopped with all that it started
        with suppress(EOFError):  # never woken
            arguments = self._asked.recv()
            from ipykernel.kernelapp import IPKernelApp

            IPKernelApp.launch_instance([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])

    def wake(self, arguments: list[str]) -> None:
        self._ask.send(arguments)

    def poll(self) -> int | None:
        return self.exitcode

    def wait(self) -> int | None:
        self.join()
        return self.exitcode

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)


class _Warm(LocalProvisioner):
    """Has Jupyter use the kernel that waits instead of starting one."""

    waiting: ClassVar[_Kernel]

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        self.process = self.waiting
        self.pid = self.pgid = self.process.pid
        self.cwd = kwargs.get("cwd", os.getcwd())
        self.process.wake(cmd[cmd.index("-f") :])
        return self.connection_info
