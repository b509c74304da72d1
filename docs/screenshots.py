"""Makes docs/page.png and docs/page-phone.png again: ``python docs/screenshots.py``.

Serves the default model with less KV memory than its conversations want to three tenants, one of which floods, and
photographs the chat page in Chromium while one of them streams. Needs chromium and chromedriver (`make browser`).
"""

import re
import secrets
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from openai import OpenAI
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

DOCS = Path(__file__).parent
SERVE = ("--port", "0", "--device-kv", "48MiB", "--block-group-size", "4", "--max-num-seqs", "4")
OPERATOR, LIGHT, FLOOD = "operator", "light", "flood"  # the page is the operator's
KEY = {tenant: secrets.token_urlsafe(32) for tenant in (OPERATOR, LIGHT, FLOOD)}
LAPTOP, PHONE = (1280, 800), (390, 844)
WAIT_S = 120
QUESTION = "Explain in a few sentences why the sky is blue, and why sunsets are red."
OTHERS = (
    "Tell me a long story about a lighthouse.",
    "Write an essay about the history of bread.",
    "Describe a walk through a forest in autumn.",
    "Explain how a steam engine works, step by step.",
    "Give me advice on learning to play the piano.",
    "Plan a week of dinners for two people.",
    "What should I see in Rome in three days?",
)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a server of its own, whose key file is in ``folder``."""
    keys = folder / "keys.toml"
    hashes = {tenant: sha256(key.encode()).hexdigest() for tenant, key in KEY.items()}
    tables = [f'[[keys]]\ntenant = "{tenant}"\nsha256 = "{hashed}"\n' for tenant, hashed in hashes.items()]
    keys.write_text("\n".join([f"[tenants.{OPERATOR}]\nadmin = true\n", *tables]))
    command = [sys.executable, "-m", "service.cli", "serve", "--keys", str(keys), *SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the server did not start"
        try:
            yield found[0]
        finally:
            process.kill()


@contextmanager
def traffic(url: str) -> Iterator[None]:
    """Conversations that ask again and again: one of a light tenant, which rests now and then, the others a flood."""
    over = threading.Event()

    def talk(number: int, question: str) -> None:
        tenant = FLOOD if number else LIGHT
        with OpenAI(base_url=f"{url}/v1", api_key=KEY[tenant]) as client:
            model = client.models.list().data[0].id
            history = []
            while not over.is_set():
                history.append({"role": "user", "content": question})
                answer = client.chat.completions.create(
                    model=model,
                    messages=history,
                    max_tokens=60 + 30 * number,
                    user=f"user-{number}",
                    extra_body={"ignore_eos": True},
                )
                history = [] if len(history) > 4 else [*history, answer.choices[0].message]
                over.wait(3 * (tenant == LIGHT))

    with ThreadPoolExecutor(len(OTHERS)) as pool:
        tasks = [pool.submit(talk, *each) for each in enumerate(OTHERS)]
        try:
            yield
        finally:
            over.set()
            for task in tasks:
                task.exception()


@contextmanager
def chromium() -> Iterator[Chrome]:
    """A browser without a screen."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    with TemporaryDirectory() as profile:
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-lcd-text", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        try:
            yield driver
        finally:
            driver.quit()


def photograph(driver: Chrome, url: str, size: tuple[int, int], path: Path, pane: str) -> None:
    """Ask, wait until an answer is there, ask again, and press the shutter while the second one streams."""
    driver.switch_to.new_window("tab")
    width, height = size
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < height}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    driver.get(url)
    wait = WebDriverWait(driver, WAIT_S)
    key = driver.find_element(By.ID, "key-input")
    wait.until(lambda _: key.is_displayed())
    key.send_keys(KEY[OPERATOR], Keys.ENTER)
    wait.until(lambda _: not key.is_displayed())
    for answers, question in enumerate((QUESTION, "And at noon?")):
        driver.find_element(By.ID, "input").send_keys(question, Keys.ENTER)
        if answers == 0:
            wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, ".figures"))
    wait.until(lambda _: len(driver.find_elements(By.CSS_SELECTOR, ".assistant .text")[-1].text) > 40)
    if width < height:
        driver.find_element(By.CSS_SELECTOR, f"[data-show={pane}]").click()
    wait.until(lambda _: driver.find_elements(By.CSS_SELECTOR, "#live .switches:not(:empty)"))
    driver.save_screenshot(str(path))
    print(f"{path.name}: {path.stat().st_size} bytes")


def main() -> None:
    """Both of them."""
    with TemporaryDirectory() as folder, server(Path(folder)) as url, traffic(url), chromium() as driver:
        photograph(driver, url, LAPTOP, DOCS / "page.png", "chat")
        photograph(driver, url, PHONE, DOCS / "page-phone.png", "sessions")


if __name__ == "__main__":
    main()
