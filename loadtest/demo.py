"""Scenario: the demonstration in Chromium, its buttons pressed as a visitor would.

Each replica of ours is SIGKILLed and started again, then all at once: the download has to come to
its end, right, and no event may be missing, come twice, or need another connection. A uvicorn is
killed while it serves the download: the page has to count the break.

The whole form takes the picture of `docs/demo.md`; the quick one has a smaller file.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apps.demo.halves import PORTS, REPLICAS, Ports
from apps.demo.processes import DemoError
from loadtest.browser import CHROMIUM, Failed, until
from loadtest.processes import ROOT, Stage
from loadtest.report import Options, Report

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

MEGABYTES, QUICK_MEGABYTES = 60, 25
PICTURE = ROOT / "docs" / "demo.png"
MOST_PICTURE_BYTES = 250_000
EVENTS = 40
"""So many more, two seconds of them, and a stream has gone on."""
LATEST_BREAK = 0.5
"""Part of a download behind which no uvicorn is killed: what nginx and the kernel hold by
then, some 5 MB, still arrives, and may be all that is left."""


class Half:
    """One half of the page, read and pressed."""

    def __init__(self, page: Page, name: str) -> None:
        self.name = name
        self._half = page.locator(f"#{name}")

    def tile(self, replica: int) -> Locator:
        return self._half.locator(".replica").nth(replica)

    def press(self, replica: int, action: str) -> None:
        self.tile(replica).locator(f"[data-action={action}]").click()

    def press_all(self, action: str) -> None:
        self._half.locator(f".all [data-action={action}]").click()

    def states(self) -> list[str]:
        """`serving`, `starting` or `dead`, of each replica."""
        classes = [self.tile(k).get_attribute("class") or "" for k in range(REPLICAS)]
        return [one.removeprefix("replica ") for one in classes]

    def shares(self) -> list[int]:
        """Per cent, of each replica, in the chart's last columns."""
        return [int(self.tile(k).locator(".share b").inner_text()[:-1]) for k in range(REPLICAS)]

    def serves_download(self) -> list[int]:
        """Which replicas do, as far as the page can tell."""
        does = [self.tile(k).locator(".does").inner_text() for k in range(REPLICAS)]
        return [k for k, what in enumerate(does) if "download" in what]

    def count(self, transfer: str, what: str) -> int:
        """A figure of `download` or `stream`."""
        text = self.text(transfer, what).replace(",", "")
        return int(text) if text.isdecimal() else -1

    def text(self, transfer: str, what: str) -> str:
        return self._half.locator(f".{transfer} .{what}").inner_text()

    def goes_on(self) -> None:
        """Further events come, and further bytes. Raises Failed."""
        events, part = self.count("stream", "number"), self.progress()
        until("further events", lambda: self.count("stream", "number") >= events + EVENTS)
        until("further bytes", lambda: self.progress() != part)

    def progress(self) -> float:
        """Of the download, from 0 to 1."""
        return float(self._half.locator("progress").get_attribute("value") or 0)

    def row(self, step: str) -> dict[str, object]:
        return {
            "half": self.name,
            "after": step,
            "breaks": self.count("download", "breaks"),
            "complete": self.count("download", "right"),
            "longest pause so far": self.text("download", "pause"),
            "breaks of events": self.count("stream", "breaks"),
            "lost or twice": self.count("stream", "gaps"),
            "their longest pause": self.text("stream", "pause"),
        }


def run(options: Options) -> Report:
    report = Report()
    ports = free_ports()
    with Stage() as stage:
        size = str(QUICK_MEGABYTES if options.quick else MEGABYTES)
        words = ("--port", str(ports.page), "--megabytes", size)
        demo = stage.python("demo", "apps.demo", *words)
        url = demo.says(r"Open (http\S+)")[1]
        with _page(report, url, f"http://127.0.0.1:{ports.nginx}") as page:
            try:
                _visit(report, page, options)
            except Failed as failure:
                report.check(False, f"{failure}; the page:\n{page.inner_text('body')}")
        report.check(demo.end() == 0, "the demonstration ends when it is told to")
        report.check("Traceback" not in demo.log, f"no traceback: {demo.log}")
    return report


def free_ports() -> Ports:
    """Ports that nobody has. Raises RuntimeError."""
    for _ in range(100):
        ports = Ports(random.randrange(20_000, 30_000, PORTS))
        try:
            ports.check()
        except DemoError:
            continue
        return ports
    raise RuntimeError("no free ports")


@contextmanager
def _page(report: Report, url: str, nginx: str) -> Iterator[Page]:
    """The page, open. What its console complains of counts, unless it is that uvicorn is gone."""
    from playwright.sync_api import sync_playwright

    errors: list[str] = []
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=CHROMIUM, args=arguments) as browser,
    ):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console",
            lambda said: (
                errors.append(said.text)
                if said.type == "error" and nginx not in said.text + str(said.location)
                else None
            ),
        )
        page.goto(url)
        yield page
    report.check(not errors, f"no error in the console: {errors}")


def _visit(report: Report, page: Page, options: Options) -> None:
    """Raises Failed."""
    ours, theirs = Half(page, "trickles"), Half(page, "uvicorn")
    for half in (ours, theirs):
        half.goes_on()
    until("packets of each replica", lambda: min(ours.shares()) > 0)
    for k in range(REPLICAS):
        _kill(ours, k)
        report.add(ours.row(f"kill {k + 1}"))
        _start(ours, k)
    ours.press_all("kill")
    until("the end of all", lambda: ours.states() == ["dead"] * REPLICAS)
    until("no packets", lambda: ours.shares() == [0] * REPLICAS)
    ours.press_all("start")
    _serve(ours)
    ours.goes_on()
    report.add(ours.row("kill all"))
    broken = _break(theirs)
    report.add(theirs.row(f"kill {broken + 1}, at the download"))
    _kill(ours, broken)
    if not options.quick:
        page.screenshot(path=PICTURE)
        size = PICTURE.stat().st_size
        report.check(size < MOST_PICTURE_BYTES, f"the picture has {size} bytes")
    _start(ours, broken)
    until("the end of a download", lambda: ours.count("download", "right") > 0)
    report.add(ours.row("the end"))
    for transfer, what in (("download", "breaks"), ("stream", "breaks"), ("stream", "gaps")):
        seen = ours.count(transfer, what)
        report.check(seen == 0, f"trickles: {transfer} has {seen} {what}")
    report.check("WRONG" not in page.inner_text("body"), "every digest is right")


def _kill(half: Half, replica: int) -> None:
    """One dies, the others serve. Raises Failed."""
    half.press(replica, "kill")
    until("a death", lambda: half.states()[replica] == "dead")
    until(
        "the dead one's share to be 0, and those of the others not",
        lambda: [share > 0 for share in half.shares()] == [k != replica for k in range(REPLICAS)],
    )
    half.goes_on()


def _start(half: Half, replica: int) -> None:
    half.press(replica, "start")
    _serve(half)


def _serve(half: Half) -> None:
    until("all to serve", lambda: half.states() == ["serving"] * REPLICAS)
    until("packets of each replica", lambda: min(half.shares()) > 0)


def _break(half: Half) -> int:
    """Kill the one that serves the download; which one it was. Raises Failed."""
    until(
        "a download that has begun",
        lambda: bool(half.serves_download()) and 0 < half.progress() < LATEST_BREAK,
    )
    breaks, [serves] = half.count("download", "breaks"), half.serves_download()
    half.press(serves, "kill")
    until("a break", lambda: half.count("download", "breaks") > breaks)
    half.goes_on()
    return serves
