"Kernels that are forked are like others: their own folder, environment and names; they end when told to, and when they are killed."

import os
import signal
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from traitlets.config import Config


@pytest.fixture
def warm(warm_kernels, monkeypatch):
    if not warm_kernels: pytest.skip("kernels are forked on Linux alone")
    monkeypatch.setenv("JUPYTER_PATH", warm_kernels)


def ran(source: str, folder: Path, **env: str) -> nbformat.NotebookNode:
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in source.split("# %%\n")])
    ipc = Config(KernelManager={"transport": "ipc", "ip": str(folder/"k")})
    client = NotebookClient(nb, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, config=ipc)
    client.execute(env={**os.environ, **env})
    return nb


def printed(nb: nbformat.NotebookNode) -> str: return "".join(o.get("text", "") for c in nb.cells for o in c.outputs)


def test_each_has_its_own_folder_environment_and_names(warm, tmp_path):
    source = ("import os, sys, subprocess\nx = 3\nprint(os.getcwd(), os.environ['TOLD'], os.environ['MPLBACKEND'])\n# %%\n"
              "print('x' in globals(), [m for m in sys.modules if m.startswith('cam_course')])\n"
              "print(subprocess.run(['true']).returncode)\n# %%\n"
              "import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    for told in ("one", "two"):
        nb = ran(source, tmp_path, TOLD=told)
        assert printed(nb).splitlines() == [f"{tmp_path} {told} module://matplotlib_inline.backend_inline", "True []", "0"]
        assert "image/png" in nb.cells[-1].outputs[-1].data       # drawn when the cell ends
    first, second = (printed(ran("import random, numpy\nprint(random.random(), numpy.random.rand())", tmp_path)) for _ in range(2))
    assert not set(first.split()) & set(second.split())


def test_a_name_that_a_notebook_forgot_to_import_is_missed(warm, tmp_path):
    with pytest.raises(CellExecutionError, match="(?s)NameError.*name 'torch' is not defined"): ran("torch.ones(2)", tmp_path)


def gone(pid: int, within: float = 20) -> bool:
    "Does the process end in `within` seconds?"
    end = time.monotonic() + within
    while time.monotonic() < end:
        try: os.kill(pid, 0)
        except ProcessLookupError: return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("kill", [False, True])
def test_a_kernel_ends_with_the_one_who_asked(warm, kill):
    manager, client = start_new_kernel(kernel_name="python3")
    reply = client.execute_interactive("import os", user_expressions={"pid": "os.getpid()"}, timeout=60)
    pid = int(reply["content"]["user_expressions"]["pid"]["data"]["text/plain"])
    assert pid != manager.provisioner.process.pid and not gone(pid, 0.1)
    if kill: os.kill(manager.provisioner.process.pid, signal.SIGKILL)
    client.stop_channels()
    manager.shutdown_kernel(now=kill)
    assert gone(pid)


def test_a_kernel_that_dies_is_noticed(warm, tmp_path):
    with pytest.raises(DeadKernelError): ran("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", tmp_path)
