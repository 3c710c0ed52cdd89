"""Drive a real Chromium without a window by WebDriver (https://www.w3.org/TR/webdriver2): JSON over HTTP."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of the standard for an element's id
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
MISSING = [
    name for name, path in {"chromium": BROWSER, "chromedriver": shutil.which("chromedriver")}.items() if not path
]


class Browser:
    """A session of the browser: pages, clicks, and what went wrong."""

    def __init__(self, address: str) -> None:
        self.web = requests.Session()
        self.web.trust_env = False  # no proxy to this machine itself
        self.address = f"{address}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options = {"args": arguments, "binary": BROWSER}
        logs = {"browser": "ALL", "performance": "ALL"}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": logs}
        answer = self._post("", capabilities={"alwaysMatch": wanted})
        self.address += f"/{answer['sessionId']}"

    def _post(self, command: str, **body: Any) -> Any:
        answer = self.web.post(self.address + command, json=body, timeout=60).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def open(self, file: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Open the file in a window of so many CSS pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])
        self._post("/url", url=file.resolve().as_uri())

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the DevTools protocol and return the answer."""
        return self._post("/goog/cdp/execute", cmd=command, params=parameters)

    def run(self, script: str) -> Any:
        """Run the JavaScript and return what it returns."""
        return self._post("/execute/sync", script=script, args=[])

    def click(self, css: str) -> None:
        """Click with the mouse on the first element that matches, where it is on the page."""
        self._post(f"/element/{self._find(css)}/click")

    def press(self, css: str, keys: str) -> None:
        """Press keys of the keyboard, with the focus on the first element that matches."""
        self._post(f"/element/{self._find(css)}/value", text=keys)

    def _find(self, css: str) -> str:
        return str(self._post("/element", using="css selector", value=css)[ELEMENT])

    def complaints(self) -> list[str]:
        """Return what the console has said since the last time."""
        return [entry["message"] for entry in self._post("/se/log", type="browser")]

    def requests(self) -> list[str]:
        """Return what the pages asked for since the last time, images within them left out."""
        events = [json.loads(entry["message"])["message"] for entry in self._post("/se/log", type="performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith("data:")]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser, which is gone when the block ends."""
    driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        assert driver.stdout
        line = next(line for line in driver.stdout if "started successfully on port" in line)
        browser = Browser(f"http://127.0.0.1:{line.split()[-1].rstrip('.')}")
        try:
            yield browser
        finally:
            browser.web.delete(browser.address, timeout=60)
    finally:
        driver.terminate()
        driver.wait()
