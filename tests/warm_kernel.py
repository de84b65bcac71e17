"""Jupyter kernels forked from a process that has torch and matplotlib imported: a notebook starts in a tenth of the time.

    with served(folder) as jupyter_path: ...   # the kernel `python3` found there is a forked one (POSIX alone)

A kernel's own working folder, environment and standard streams are those of the process that asked. Of the library nothing is
imported before the fork: what a notebook sees of it is what it imports itself.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

HEAVY = ("numpy", "torch", "torchvision", "matplotlib.pyplot", "PIL.Image", "IPython", "ipykernel.kernelapp")
INLINE = "module://matplotlib_inline.backend_inline"   # what a kernel asks of matplotlib, before it is imported


def serve(address: str) -> None:
    "Import, say so, and fork a kernel for each that asks, until standard input ends."
    import importlib
    import random
    os.environ["MPLBACKEND"] = INLINE
    for name in HEAVY: importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)   # children are nobody's to wait for
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
        print("ready", flush=True)
        while True:
            line, _ = door.accept()
            if os.fork() == 0: break
            line.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    random.seed(), sys.modules["numpy"].random.seed()   # as in a process of its own
    asked, (out, err), *_ = socket.recv_fds(line, 1 << 20, 2)
    os.dup2(out, 1), os.dup2(err, 2)
    told = json.loads(asked)
    os.chdir(told["cwd"])
    os.environ.clear()
    os.environ.update(told["env"])
    os.setsid()
    threading.Thread(target=lambda: (line.recv(1), os._exit(1)), daemon=True).start()   # it was killed: so is the kernel
    sys.argv = ["ipykernel_launcher", *told["arguments"]]
    sys.modules["ipykernel.kernelapp"].launch_new_instance()


def ask(address: str, *arguments: str) -> None:
    "Ask for a kernel, and live as long as it."
    signal.signal(signal.SIGINT, signal.SIG_IGN)   # comes before every shutdown
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(address)
        told = json.dumps({"arguments": arguments, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
        with open(os.devnull, "w") as nowhere:   # it would explain to a terminal how to leave it
            socket.send_fds(line, [told], [nowhere.fileno(), 2])
        line.recv(1)


@contextlib.contextmanager
def served(folder: Path, **env: str) -> Iterator[str]:
    "Serves in `folder`; the value of JUPYTER_PATH under which its kernel is found."
    address, spec = folder/"door", folder/"kernels"/"python3"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-I", "-S", __file__, "ask", str(address), "-f", "{connection_file}"]
    (spec/"kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Python 3", "language": "python"}))
    server = subprocess.Popen([sys.executable, __file__, "serve", str(address)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True, env={**os.environ, **env})
    try:
        if server.stdout.readline() != "ready\n": raise RuntimeError("the kernels' server did not start")
        yield str(folder)
    finally:
        server.kill()
        server.communicate()


if __name__ == "__main__": {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
