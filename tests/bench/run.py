"""Run every benchmark in turn, each in a process of its own, and print the table of the results.

python tests/bench/run.py [NAME ...]      NAME: loop, levers, quick, data, import, transforms, gradcam, lr_finder, page_network
"""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def table() -> str:
    "The results kept in results/, as aligned text."
    lines = []
    for path in sorted((HERE / "results").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        for r in found.get("ratios", []):
            goal = f"goal {r['goal']:g}x" if r.get("goal") else ""
            spread = f"{r['low']:.2f}-{r['high']:.2f}"
            lines.append(f"{r['name']:<44} {r['ratio']:7.2f}x  {spread:>13}  {r['pairs']:2d} pairs  {goal}")
        machine = found.get("machine", {})
        lines.append(f"    {machine.get('device', '?')}, torch {machine.get('torch', '?')}, {machine.get('date', '?')}")
    return "\n".join(lines)


def main(names: list[str]) -> int:
    scripts = sorted(HERE.glob("bench_*.py"))
    wanted = [s for s in scripts if not names or s.stem.removeprefix("bench_") in names]
    if not wanted:
        print(f"no benchmark named {' '.join(names)}: choose {', '.join(s.stem[6:] for s in scripts)}", file=sys.stderr)
        return 2
    failed = 0
    for script in wanted:
        if script.stem in ("bench_data", "bench_quick") and not os.environ.get("CAM_COURSE_DATA"):
            print(f"{script.stem}: set CAM_COURSE_DATA to the folder of CIFAR-10; left out")
            continue
        print(f"-- {script.stem}", flush=True)
        failed |= subprocess.run([sys.executable, str(script)], check=False).returncode
    print(table())
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
