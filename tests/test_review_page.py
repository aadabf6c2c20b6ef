import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hf_llambert import Review, build_queue, load_data, serve_review, write_queue
from hf_llambert.review.page import _help as page_help
from review_run import make_run

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
HOSTILE = (
    "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"> ${document.title = 'owned'}"
    " {{ 7 * 7 }} ${7 * 7} `x` </div></textarea> &amp; "
)


@pytest.fixture
def run(tmp_path, cloze) -> Path:
    run = make_run(tmp_path / "run", cloze, text=HOSTILE)
    write_queue(run / "review", build_queue(run, 14, 4))
    return run


def test_missing_extra_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with (
        Review(run / "review").session("Ann") as session,
        pytest.raises(ImportError, match=r"pip install 'hf-llambert\[review\]'"),
        serve_review(session),
    ):
        pass


def test_taken_port_is_told(run):
    pytest.importorskip("gradio", reason="the extra 'review' is not installed")
    with socket.socket() as taken, Review(run / "review").session("Ann") as session:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} is taken"), serve_review(session, port):
            pass


@pytest.fixture
def address(run):
    """The page, served by this process."""
    pytest.importorskip("gradio", reason="the extra 'review' is not installed")
    with Review(run / "review").session("Ann") as session, serve_review(session, free_port()) as address:
        yield address


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def served(run):
    """The page, served by the command in a process of its own."""
    command = [sys.executable, "-m", "hf_llambert.cli", "review", "--run", str(run), "--reviewer", "Ann"]
    process = subprocess.Popen(
        [*command, "--no_browser", "--port", str(free_port())],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A job in the background ignores Ctrl-C, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  (nothing else happens in it)
    )
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("http://127.0.0.1:"):
            return process, line.split()[0]
    raise RuntimeError("".join(said))


@pytest.fixture(scope="module")
def chromium():
    if not (CHROMIUM and DRIVER):
        pytest.skip("no chromium and chromedriver on this machine")
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    with selenium.Chrome(options=options, service=Service(DRIVER)) as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    """One browser for all, as wide as a desk, on an empty page, with one tab."""
    yield chromium
    first, *others = chromium.window_handles
    for tab in others:
        chromium.switch_to.window(tab)
        chromium.close()
    chromium.switch_to.window(first)
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.get("about:blank")


class Page:
    """What a person does on the page and sees of it."""

    def __init__(self, browser, address):
        self.browser = browser
        browser.get(address)
        self.until(".count")

    def until(self, css, condition=lambda shown: True):
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        def found(browser):
            return next((e for e in browser.find_elements("css selector", css) if condition(e.text)), None)

        wait = WebDriverWait(self.browser, 60, 0.05, [StaleElementReferenceException])
        return wait.until(found, f"{css} never came to be as expected")

    def press(self, key, count):
        """Press a key and wait for what it leads to."""
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(key).perform()
        self.until(".count", lambda shown: shown == count)


def labels(run):
    return {place: answer.label for place, answer in Review(run / "review").answers()["Ann"].items()}


def test_rows_are_labelled_by_keyboard_and_a_reload_loses_nothing(run, address, browser):
    page = Page(browser, address)
    for k in range(9):
        page.press("12"[k % 2], f"{k + 1} of 14, 0 skipped")
        assert labels(run)[k] == k % 2  # on disk before the page says so
    page.press("s", "10 of 14, 1 skipped")
    page.press("u", "9 of 14, 0 skipped")
    page.press("\ue003", "8 of 14, 0 skipped")  # backspace
    page.press("1", "9 of 14, 0 skipped")
    page.press("s", "10 of 14, 1 skipped")
    browser.refresh()
    page.until(".count", lambda shown: shown == "10 of 14, 1 skipped")
    assert labels(run) == {**{k: k % 2 for k in range(8)}, 8: 0, 9: -1}
    for k in range(10, 14):
        page.press("2", f"{k + 1} of 14, 1 skipped")
    done = page.until("#review-done").text
    assert "13 of 14 rows labelled" in done
    assert "teacher right on" in done
    assert not any(button.is_displayed() for button in browser.find_elements("css selector", "#review-labels button"))
    assert load_data(run / "review" / "gold").num_rows == 13
    page.until("#review-again").click()
    page.until(".count", lambda shown: shown == "13 of 14, 0 skipped")
    page.press("1", "14 of 14, 0 skipped")
    assert labels(run)[9] == 0


def test_text_is_shown_and_does_nothing(run, address, browser):
    page = Page(browser, address)
    shown = page.until(".review-text")
    text = Review(run / "review").queue.rows[0].text
    assert shown.get_attribute("textContent") == text
    assert text.startswith(HOSTILE)
    assert browser.title == "tiny · review"
    assert not browser.find_elements("css selector", ".review-text *")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_labels_can_be_read_on_their_buttons(address, browser, scheme):
    scheme = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    page = Page(browser, address)
    button = page.until("#review-label-1")
    light, dark = (luminance(button.value_of_css_property(name)) for name in ("color", "background-color"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG 2.2, 1.4.3


def luminance(colour):
    """Relative luminance of an rgb() or rgba(), as WCAG defines it."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_page_fits_a_phone_asks_for_nothing_elsewhere_and_hides_what_machines_say(run, address, browser):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page = Page(browser, address)
    page.until(".review-text")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    for k in (1, 2):
        assert browser.find_element("id", f"review-label-{k}").size["height"] >= 44
    assert "says" not in browser.find_element("css selector", ".review-why").text
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert urls
    assert [url for url in urls if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))] == []


def test_what_machines_say_is_shown_when_asked_for(run, browser):
    pytest.importorskip("gradio", reason="the extra 'review' is not installed")
    review = Review(run / "review")
    with review.session("Ann") as session, serve_review(session, free_port(), show_labels=True) as address:
        why = Page(browser, address).until(".review-why").text
    row = review.queue.rows[0]
    assert f"student says {row_name(row.student)} (90% sure)" in why


def row_name(label):
    return ("negative", "positive")[label]


def test_killed_command_has_kept_every_answer_and_starts_again(run, browser):
    pytest.importorskip("gradio", reason="the extra 'review' is not installed")
    process, address = served(run)
    page = Page(browser, address)
    for k in range(3):
        page.press("2", f"{k + 1} of 14, 0 skipped")
    process.kill()
    process.communicate()
    assert labels(run) == {0: 1, 1: 1, 2: 1}
    process, address = served(run)
    Page(browser, address).press("1", "4 of 14, 0 skipped")
    process.send_signal(signal.SIGINT)
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "4 of 14 rows labelled" in said
    assert (run / "review" / "gold").is_dir()


def test_help_opens_by_key_and_keys_in_fields_are_left_alone(run, address, browser):
    from selenium.webdriver import ActionChains

    page = Page(browser, address)
    page.until(".review-text")
    ActionChains(browser).send_keys("?").perform()
    page.until("#review-help details[open]")
    browser.execute_script(
        "document.body.prepend(document.createElement('input')); document.querySelector('input').focus()"
    )
    ActionChains(browser).send_keys("12").perform()
    assert browser.execute_script("return document.querySelector('input').value") == "12"
    browser.execute_script("document.querySelector('input').blur()")
    page.press("2", "1 of 14, 0 skipped")
    assert labels(run) == {0: 1}


def test_codebook_stands_on_the_page_as_text(tmp_path, cloze):
    described = replace(cloze, descriptions=("", "<b>praise</b> ${document.title}"))
    run = make_run(tmp_path / "run", described)
    write_queue(run / "review", build_queue(run, 4, 2))
    with Review(run / "review").session("Ann") as session:
        text = page_help(session)
    assert text.count("<li>") == 1
    assert "<b>positive</b>: &lt;b&gt;praise&lt;/b&gt; &#36;&#123;document.title&#125;" in text
    run = make_run(tmp_path / "other", cloze)
    write_queue(run / "review", build_queue(run, 4, 2))
    with Review(run / "review").session("Ann") as session:
        assert "<li>" not in page_help(session)


def test_second_tab_that_shows_an_old_row_labels_nothing_unseen(run, address, browser):
    old = Page(browser, address)
    old.until(".review-text")
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    Page(browser, address).press("1", "1 of 14, 0 skipped")
    browser.switch_to.window(first)
    old.press("2", "1 of 14, 0 skipped")
    assert labels(run) == {0: 0}


def asked(address, path, method="GET", **headers):
    """Status and headers of an answer of the page."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=30)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders())


def test_a_site_whose_name_leads_here_is_turned_away(address):
    query = f"?{urlsplit(address).query}"
    assert asked(address, f"/config{query}", Host="evil.example")[0] == 400
    assert asked(address, f"/config{query}")[0] == 200


def test_nobody_comes_in_without_the_secret_of_the_address(address):
    for path in ("/", "/config", "/?token=", "/?token=wrong", "/gradio_api/info", "/gradio_api/startup-events"):
        assert asked(address, path)[0] == 403, path
    assert asked(address, "/gradio_api/run/predict", "POST")[0] == 403
    status, headers = asked(address, f"/?{urlsplit(address).query}")
    assert status == 200
    cookie, *terms = headers["set-cookie"].split("; ")
    assert {"HttpOnly", "SameSite=Strict"} <= set(terms)
    assert asked(address, "/config", Cookie=f"other=1; {cookie}")[0] == 200
    assert asked(address, "/config", Cookie=cookie[:-1])[0] == 403


def test_another_site_and_what_the_page_does_not_need_are_refused(address):
    cookie = asked(address, f"/?{urlsplit(address).query}")[1]["set-cookie"].split("; ")[0]
    own = "http://" + urlsplit(address).netloc
    predict = "/gradio_api/run/predict"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", own.replace("http", "https")):
        assert asked(address, predict, "POST", Cookie=cookie, Origin=origin)[0] == 403, origin
    assert asked(address, predict, "POST", Cookie=cookie, Origin=own)[0] != 403
    for path in ("/gradio_api/upload", "/upload", "/gradio_api//upload", "/gradio_api/component_server"):
        assert asked(address, path, "POST", Cookie=cookie, Origin=own)[0] == 403, path
    for path in ("/gradio_api/file=/etc/hostname", "/file=/etc/hostname", "/gradio_api/proxy=http://x", "/monitoring"):
        assert asked(address, path, Cookie=cookie)[0] == 403, path


def test_answer_that_could_not_be_kept_is_told_and_given_again(run, address, browser, monkeypatch):
    def full(*_):
        raise OSError("the <b>disk</b> is full")

    page = Page(browser, address)
    page.press("1", "1 of 14, 0 skipped")
    with monkeypatch.context() as broken:
        broken.setattr("hf_llambert.review.session.os.fsync", full)
        page.press("2", "1 of 14, 0 skipped")
        page.until("#review-failed", lambda shown: "cannot be written: the <b>disk</b> is full" in shown)
    page.press("1", "2 of 14, 0 skipped")
    assert labels(run) == {0: 0, 1: 0}
    assert not browser.find_elements("id", "review-failed")
