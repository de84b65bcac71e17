"""What a look costs in the page: forward and one map, in headless Chromium; the camera's maps a second; a range test of 60 steps at
batch 32; the longest task of the page.

python tests/bench/bench_page_network.py [--runs 20]

On a machine with other work the median says little: the smallest of the runs is kept beside it.
"""

import argparse
import os
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]
import pairs  # noqa: E402
from conftest import FLAGS  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from test_laboratory import browser_path  # noqa: E402
from test_page_network import file_of, program  # noqa: E402

from cam_course.base.page_network import LiveRangeTest, YourPicture  # noqa: E402

LIMITS = {"cifar": 0.050, "mobilenet": 0.500}   # seconds, forward and map
RANGE_LIMIT = 20.0   # seconds, 60 steps at batch 32, from the press of the button to what the rules read
STAGES = {"cifar": "layer3", "mobilenet": "stage4"}
MEASURE = """([stage, runs]) => {
  const times = [], x = new Float32Array(net.graph.input.reduce((a, b) => a * b)).map(() => Math.random());
  for (let i = 0; i < runs + 3; i++) {
    const start = performance.now();
    net.forward(x);
    gradCam(net, stage, 1);
    if (i >= 3) times.push((performance.now() - start) / 1000);
  }
  return times;
}"""


WATCH = """() => {
  window.longest = 0;
  new PerformanceObserver((list) => { for (const e of list.getEntries()) window.longest = Math.max(window.longest, e.duration); })
    .observe({ type: 'longtask' });
}"""


def look(browser: Any, name: str, runs: int) -> list[float]:
    page = browser.new_page()
    page.set_default_timeout(120_000)
    page.add_script_tag(content=program(file_of(name)))
    times = page.evaluate(MEASURE, [STAGES[name], runs])
    page.close()
    return times


def camera(browser: Any) -> tuple[float, float]:
    "Maps a second, and milliseconds of the longest task of the page's own thread while the camera runs."
    with TemporaryDirectory() as folder:
        page = browser.new_context(permissions=["camera"]).new_page()
        page.set_default_timeout(120_000)
        page.goto(YourPicture().save(Path(folder)/"page.html").as_uri())
        page.evaluate(WATCH)
        page.click(".cc-wake")
        page.click("text=Camera")
        page.wait_for_function("document.querySelector('.cc-readout')?.textContent.includes('maps a second')")
        page.wait_for_timeout(5000)
        rate = float(page.inner_text(".cc-readout").rpartition(" maps a second")[0].rpartition(" ")[2])
        return rate, page.evaluate("window.longest")


def range_test(browser: Any) -> tuple[float, float]:
    "Seconds of a range test of 60 steps at batch 32, its pictures drawn first; milliseconds of the page's longest task meanwhile."
    with TemporaryDirectory() as folder:
        page = browser.new_page()
        page.set_default_timeout(300_000)
        page.goto(LiveRangeTest(seeds=1).save(Path(folder)/"page.html").as_uri())
        page.evaluate(WATCH)
        page.click(".cc-wake")
        page.click("text=Run the test")
        start = page.evaluate("performance.now()")
        page.wait_for_function("document.querySelector('.cc-readout')?.textContent.includes('One test')")
        took, longest = page.evaluate("performance.now()") - start, page.evaluate("window.longest")
        page.close()
        return took/1000, longest


def main(argv: list[str] | None = None) -> tuple[list[pairs.Ratio], dict[str, float]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs, found = parser.parse_args(argv).runs, []
    flags = [*FLAGS, "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=browser_path(), args=flags)
        for name, limit in LIMITS.items():
            times = look(browser, name, runs)
            took, best, worst = median(times), min(times), max(times)
            names = f"{name}: forward and map", "in the page", f"limit {limit*1000:.0f} ms"
            ratio = pairs.Ratio(*names, limit/took, limit/worst, limit/best, took, limit, runs, 1.0)
            print(f"{ratio}   median {took*1000:.1f} ms, smallest {best*1000:.1f} ms, load {os.getloadavg()[0]:.1f}", flush=True)
            found.append(ratio)
        rate, longest = camera(browser)
        took, longest_in_test = range_test(browser)
        browser.close()
    names = "range test, 60 steps at batch 32", "in the page", f"limit {RANGE_LIMIT:.0f} s"
    ratio = pairs.Ratio(*names, *(RANGE_LIMIT/took,)*3, took, RANGE_LIMIT, 1, 1.0)
    print(ratio)
    found.append(ratio)
    facts = {"camera_maps_a_second": rate, "longest_task_ms": longest, "range_test_s": round(took, 1),
             "longest_task_in_range_test_ms": longest_in_test, "load": round(os.getloadavg()[0], 1)}
    print(facts)
    return found, facts


if __name__ == "__main__":
    ratios, facts = main()
    pairs.write("page_network", ratios, **facts)
