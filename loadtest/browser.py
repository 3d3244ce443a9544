"""Chromium, unchanged: `apps.site` through the gateway, and through the proxy.

The page loads, a file is uploaded, and events are shown, while one of three server processes after
the other is SIGKILLed, each packet going to any of them. No event may be missing or come twice, the
browser may not have to connect again, and pages have to load meanwhile.

    make browser
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.processes import PATIENCE_S, Stage
from loadtest.supervised import Worker, supervised

if TYPE_CHECKING:
    from playwright.sync_api import Page, ProxySettings

CHROMIUM = "/usr/bin/chromium"
SITE = "apps.site:app"
WORKERS = 3
KILLS = 6
KILL_EVERY_S = 2.0
UPLOAD_BYTES = 5_000_000
BYPASS = "<-loopback>"
"""Chromium asks the loopback without a proxy unless this is in its list of exceptions."""


class Failed(Exception):
    """The browser has shown something else."""


def main() -> int:
    """The exit code."""
    failures = 0
    with Stage() as stage:
        stage.environment["SITE_CACHE_DIR"] = str(stage.directory / "site")
        port, workers = supervised(stage, SITE, WORKERS, "--steering", "random")
        gateway = f"http://127.0.0.1:{stage.gateway(port)}"
        ways: list[tuple[str, str, ProxySettings | None]] = [
            ("gateway", gateway, None),
            ("proxy", f"http://127.0.0.1:{port}", proxy(stage)),
        ]
        for name, base, settings in ways:
            try:
                print(f"{name}: {visit(stage, base, settings, workers)}")
            except Failed as failure:
                failures += 1
                print(f"{name}: FAILED: {failure}")
        for text in ("Traceback", "ERROR"):
            if text in workers[0].log:
                failures += 1
                print(f"FAILED: {text} in the server's log:\n{workers[0].log}")
        workers[0].supervisor.end()
    return 1 if failures else 0


def proxy(stage: Stage) -> ProxySettings:
    """Start one; how Chromium is told of it."""
    password = stage.directory / "password"
    words = ("--proxy", "--listen=127.0.0.1:0", f"--password-file={password}")
    process = stage.python("proxy", "trickles_web.cli.gateway", *words)
    url = process.says(r"Trickles proxy: (http://\S+) for user (\w+)")
    return {
        "server": url[1],
        "bypass": BYPASS,
        "username": url[2],
        "password": password.read_text().strip(),
    }


def visit(stage: Stage, base: str, settings: ProxySettings | None, workers: list[Worker]) -> str:
    """What was seen. Raises Failed."""
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=CHROMIUM, proxy=settings, args=arguments
        ) as browser,
    ):
        page = browser.new_page()
        look(page, base)
        upload(page, base, stage.directory / "upload.bin")
        page.goto(base)
        page.click("#watch")
        until("events", lambda: number(page, "events") > 0)
        second = browser.new_page()
        seen = set()
        for kill in range(KILLS):
            workers[kill % WORKERS].restart()
            seen.add(page.locator("#by").inner_text())
            look(second, base)
            upload(second, base, stage.directory / "upload.bin")
            time.sleep(KILL_EVERY_S)
        before = number(page, "events")
        until("further events", lambda: number(page, "events") > before + 20)
        wrong, again = number(page, "wrong"), number(page, "reconnections")
        if wrong or again:
            raise Failed(f"{wrong} events missing or doubled, {again} reconnections")
        if len(seen) < 2:
            raise Failed("all events came from one process, so none was cut off")
        return (
            f"{1 + KILLS} pages and uploads, {number(page, 'events')} events of which 0 missing or "
            f"doubled, 0 reconnections; {KILLS} kills"
        )


def look(page: Page, base: str) -> None:
    """Open the page: with style, picture and all."""
    failed: list[str] = []
    page.on("requestfailed", lambda request: failed.append(f"{request.url}: {request.failure}"))
    response = page.goto(base)
    if response is None or response.status != 200 or page.title() != "trickles-web":
        raise Failed(f"the page did not load: {response and response.status}")
    width = page.evaluate("document.querySelector('header img').naturalWidth")
    rules = page.evaluate("document.styleSheets[0].cssRules.length")
    if failed or not width or not rules:
        raise Failed(f"picture {width} wide, {rules} rules of style, failed: {failed}")


def upload(page: Page, base: str, file: Path) -> None:
    """By the page's form; the answer has the file's digest."""
    content = random.randbytes(UPLOAD_BYTES)
    file.write_bytes(content)
    page.set_input_files("input[type=file]", file)
    with page.expect_navigation():
        page.click("form button")
    told = json.loads(page.inner_text("body"))
    if told["sha256"] != hashlib.sha256(content).hexdigest():
        raise Failed(f"the upload's digest is wrong: {told}")


def number(page: Page, name: str) -> int:
    """What one of the page's figures shows."""
    found = re.search(r"\d+", page.locator(f"#{name}").inner_text())
    return int(found[0]) if found else 0


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"waited for {what} in vain")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
