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
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import nbformat
from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

_WARM = sys.platform == "linux"
_FORK = multiprocessing.get_context("fork")
_PAGES = _FORK if _WARM else multiprocessing.get_context("spawn")


class RunError(RuntimeError):
    """A page that did not run to its end; says in which cell, and why."""


class Stopped(RunError):
    """A page that was stopped with the build: no fault of its own."""


class Runner:
    """A process that runs pages, one at a time; started when it is first asked to.

    environment: of the pages. folder: where they are run.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment, self._folder = environment, folder
        self._process: subprocess.Popen | None = None

    def run(self, notebook: Path, executed: Path, parameters: Mapping[str, Any]) -> int:
        """Run a notebook and write it as executed; returns the most memory it took, in MB.

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
        if not (line := answers.readline()):
            code = self._process.wait()
            if code == -signal.SIGTERM:
                raise Stopped("stopped")
            raise RunError(f"the process that runs pages was ended (exit code {code})")
        error, peak = json.loads(line)
        if error:
            raise RunError(error)
        return peak

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
        while page.is_alive():
            page.join(0.2)
            if os.getppid() != parent:
                os._exit(1)  # the page notices, and its kernel after it
        try:
            answer = said.recv()
        except EOFError:
            answer = f"its process was ended (exit code {page.exitcode})", 0
        print(json.dumps(answer), file=answers, flush=True)


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
    """Run one page, and say what went wrong ("" if nothing) and the most memory it took, in MB."""
    if _WARM:
        _Warm.waiting = _Kernel()
        _Warm.waiting.start()
        factory = KernelProvisionerFactory.instance()
        here = EntryPoint("warm", f"{__name__}:_Warm", factory.GROUP_NAME)
        factory.provisioners[here.name] = here
        factory.default_provisioner_name = here.name
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    import papermill

    error = ""
    try:
        papermill.execute_notebook(
            notebook,
            executed,
            parameters=parameters,
            cwd=os.getcwd(),
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
        )
    except papermill.exceptions.PapermillExecutionError as stopped:
        place = max(1, stopped.exec_count - 1)  # the injected parameters are a cell too
        error = f"cell {place}: {stopped.ename}: {stopped.evalue}"
    except RuntimeError as died:  # the kernel: killed, or out of memory
        error = f"{died}; was it out of memory? try -p batch_size=16"
    except Exception as other:
        error = f"{type(other).__name__}: {other}"
    say.send((error, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024))


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
