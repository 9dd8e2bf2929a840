"""Run one notebook with papermill in a process of its own; started by `vitlab.book.build`.

Ends with the build that started it: a build killed with -9 leaves no kernel behind.
"""

import json
import os
import sys
import threading
import time

import papermill


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)  # the kernel notices that its parent is gone and ends too


def main() -> int:
    """Arguments: notebook, executed notebook, parameters as JSON, working folder, parent's pid."""
    source, target, parameters, cwd, parent = sys.argv[1:]
    threading.Thread(target=_end_with, args=[int(parent)], daemon=True).start()
    try:
        papermill.execute_notebook(
            source,
            target,
            parameters=json.loads(parameters),
            cwd=cwd,
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
        )
    except papermill.exceptions.PapermillExecutionError as error:
        place = max(1, error.exec_count - 1)  # the injected parameters are a cell too
        print(f"cell {place}: {error.ename}: {error.evalue}", file=sys.stderr)
        return 1
    except RuntimeError as error:  # the kernel died: killed, or out of memory
        print(f"{error}; was it out of memory? try -p batch_size=16", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
