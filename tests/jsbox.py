"""The figures' JavaScript in an embedded V8, without a page.

    js = load("math/averages.js")
    js("ewma", [1, 2], .9, True)
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from py_mini_racer import MiniRacer

from cam_course.base.figures import bundle


def load(entry: str) -> Callable[..., Any]:
    "A function that calls a top-level function of `entry` (a file under cam_course/js with no DOM in it) by name."
    v8 = MiniRacer()
    v8.eval(bundle(entry))
    def call(name: str, *args: Any) -> Any:
        packed = ", ".join(json.dumps(a.tolist() if isinstance(a, np.ndarray) else a) for a in args)
        return json.loads(v8.eval(f"JSON.stringify({name}({packed}))"))
    return call
