"""The page of a task of questions, as a person at a keyboard sees it."""

import pytest

from hf_llambert import Choice, Choices, Review, Scale, build_queue, load_data, serve_review, write_queue
from hf_llambert.review.questions_page import _answer, _help, _shown
from review_run import make_questions, make_questions_run
from test_review_page import HOSTILE, Page, browser, chromium, free_port, luminance, served  # noqa: F401  (fixtures)

ENTER, BACK = "\ue007", "\ue003"


@pytest.fixture
def run(tmp_path):
    run = make_questions_run(tmp_path / "run", make_questions(), text=HOSTILE)
    write_queue(run / "review", build_queue(run, 5, 2))
    return run


@pytest.fixture
def address(run):
    pytest.importorskip("gradio", reason="the extra 'review' is not installed")
    with Review(run / "review").session("Ann") as session, serve_review(session, free_port()) as address:
        yield address


def given(run):
    return {key: answer.label for key, answer in Review(run / "review").standing().get("Ann", {}).items()}


class Board(Page):
    """The page, and which question is marked."""

    def type(self, keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.browser).send_keys(keys).perform()

    def press(self, keys, marked):
        """Press keys at once and wait until a question is marked."""
        self.type(keys)
        self.marked(marked)

    def marked(self, name):
        self.until(".review-question.active h2", lambda shown: shown.split("\n")[0] == name)

    def pressed(self, name):
        css = f".review-question[data-question='{name}'] [aria-pressed='true'] > span"
        return [one.text for one in self.browser.find_elements("css selector", css)]


def test_questions_are_answered_by_keyboard_and_each_is_on_disk_at_once(run, address, browser):
    page = Board(browser, address)
    page.marked("tone")
    page.press("2", "topics")
    assert given(run) == {(0, "tone"): 1}
    page.press("1", "topics")
    page.press("3", "topics")
    page.press("1", "topics")  # taken back
    assert page.pressed("topics") == ["sport"]
    assert len(given(run)) == 1  # nothing before it is confirmed
    page.press(ENTER, "length")
    assert given(run)[0, "topics"] == [2]
    page.press("4", "tone")
    page.until(".count", lambda shown: shown == "1 of 5, 0 skipped")
    page.press("1", "topics")
    page.press(ENTER, "length")
    assert given(run)[1, "topics"] == []
    page.press("s", "tone")
    page.until(".count", lambda shown: shown == "2 of 5, 1 skipped")
    browser.refresh()
    page.until(".count", lambda shown: shown == "2 of 5, 1 skipped")
    for k in range(3):
        page.press("1", "topics")
        page.press("24" + ENTER, "length")
        page.type("5")
        page.until(".count", lambda shown, k=k: shown == f"{3 + k} of 5, 1 skipped")
    assert "topics: 5 of 5 rows labelled" in page.until("#review-done").text
    gold = load_data(run / "review" / "gold")
    assert gold["topics"][:] == [[2], [], [1, 3], [1, 3], [1, 3]]
    assert gold["length"][:] == [4.0, None, 5.0, 5.0, 5.0]
    page.until("#review-again").click()
    page.marked("length")
    page.type("2")
    assert "length: 5 of 5 rows labelled" in page.until("#review-done").text
    assert given(run)[1, "length"] == 2


def test_backspace_goes_back_a_question_and_keeps_what_was_pressed(run, address, browser):
    page = Board(browser, address)
    page.press("1", "topics")
    page.press("24" + ENTER, "length")
    page.press("3", "tone")
    page.press(BACK, "length")
    page.press(BACK, "topics")
    assert page.pressed("topics") == ["animals", "food"]
    assert given(run) == {(0, "tone"): 0}
    page.press("4" + ENTER, "length")
    assert given(run) == {(0, "tone"): 0, (0, "topics"): [1]}


def test_keys_typed_ahead_are_for_the_same_text_only(run, address, browser):
    page = Board(browser, address)
    page.marked("tone")
    at_once = "for (const key of arguments[0]) document.body.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}))"
    browser.execute_script(at_once, ["2", "2", "Enter", "5", *"1" * 8])  # all before any answer of the server
    page.until(".count", lambda shown: shown == "1 of 5, 0 skipped")
    page.marked("tone")
    assert given(run) == {(0, "tone"): 1, (0, "topics"): [1], (0, "length"): 5}


def test_another_question_of_the_text_is_answered_and_changed_by_a_click(run, address, browser):
    page = Board(browser, address)
    page.press("1", "topics")
    page.until(".review-question[data-question=length] [data-label='2']").click()
    page.until(".review-question[data-question=length].answered")
    page.until(".review-question[data-question=tone] [data-label='1']").click()
    page.until(".review-question[data-question=tone] [data-label='1'][aria-pressed=true]")
    page.marked("topics")
    assert given(run) == {(0, "length"): 3, (0, "tone"): 1}
    page.until(".review-question[data-question=topics] [data-label='3']").click()
    page.press(ENTER, "tone")  # the label has the focus; Enter confirms all the same
    assert given(run)[0, "topics"] == [3]


def test_tab_that_shows_an_old_question_answers_nothing_unseen(run, address, browser):
    old = Board(browser, address)
    old.marked("tone")
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    Board(browser, address).press("1", "topics")
    browser.switch_to.window(first)
    old.press("2", "topics")
    assert given(run) == {(0, "tone"): 0}


def test_levels_of_several_digits_are_typed(tmp_path, browser):
    pytest.importorskip("gradio", reason="the extra 'review' is not installed")
    levels = ("-1", "0", "0.5", *map(str, range(1, 11)))
    question = Scale("length", levels, "How long?")
    run = make_questions_run(tmp_path / "run", make_questions(questions=(question,)))
    write_queue(run / "review", build_queue(run, 7, 2))
    with Review(run / "review").session("Ann") as session, serve_review(session, free_port()) as address:
        page = Board(browser, address)
        for k, keys in enumerate(("7", "10", "1" + ENTER, "0.5", "0" + ENTER, "-1")):
            page.marked("length")
            page.press(keys, "length")
            page.until(".count", lambda shown, k=k: shown == f"{k + 1} of 7, 0 skipped")
        page.press("15", "length")
        assert page.until(".review-typed").text == "15 is no level"
        page.press("1" + BACK, "length")
        assert page.until(".review-typed", lambda shown: not shown) is not None
    assert [answer.label for answer in session.answers.values()] == [7, 10, 1, 0.5, 0, -1]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pressed_labels_can_be_read_and_hostile_ones_do_nothing(tmp_path, browser, scheme):
    pytest.importorskip("gradio", reason="the extra 'review' is not installed")
    names = (HOSTILE.strip(), *(f"a label of many words, number {k}" for k in range(11)))
    asked = (Choice("tone", ("x", HOSTILE.strip()), HOSTILE), Choices("topics", names, "Which?", (), names))
    run = make_questions_run(tmp_path / "run", make_questions(questions=asked), text=HOSTILE)
    write_queue(run / "review", build_queue(run, 4, 1))
    features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    with Review(run / "review").session("Ann") as session, serve_review(session, free_port(), True) as address:
        page = Board(browser, address)
        page.press("2", "topics")
        page.press("1c", "topics")
        assert page.pressed("topics") == [names[0], names[11]]
        assert browser.title == "notes · review"
        assert not browser.find_elements("css selector", "#review-board :is(img, script, textarea)")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        assert all(one.size["height"] >= 44 for one in browser.find_elements("css selector", ".active button"))
        for_good = "t => t instanceof CSSTransition && t.finish()"  # colours that are still on their way
        browser.execute_script(f"document.getAnimations().forEach({for_good})")
        for css in ("[data-label='0']", "[data-label='1']", "[data-label='0'] small"):
            one = page.until(f".review-question.active {css}")
            back = one if one.tag_name == "button" else one.find_element("xpath", "..")
            shades = [one.value_of_css_property("color"), back.value_of_css_property("background-color")]
            if shades[1].endswith(", 0)"):  # nothing of its own
                shades[1] = page.until(".review-question.active").value_of_css_property("background-color")
            dark, light = sorted(map(luminance, shades))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (css, shades)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_machines_and_codebook_stand_beside_their_question(run):
    with Review(run / "review").session("Ann") as session:
        _, blind = _shown(session, False)
        _, seen = _shown(session, True)
        row = session.review.queue.rows[0]
    assert "says" not in blind
    assert f"student says {row.part('length').student:.3g} (" in seen
    assert "<small>it complains</small>" in blind
    assert "<small>short</small>" in blind  # the word of a level
    assert "Is it negative or positive?" in blind
    if row.question:
        assert f"This row: {row.question}: " in blind


def test_one_question_of_today_keeps_its_page(tmp_path, cloze):
    from hf_llambert.review.page import _shown as shown_as_today
    from review_run import make_run

    run = make_run(tmp_path / "run", cloze)
    write_queue(run / "review", build_queue(run, 4, 2))
    with Review(run / "review").session("Ann") as session:
        assert "review-board" not in "".join(shown_as_today(session, True))


def test_message_that_no_page_sends_answers_nothing(run):
    with Review(run / "review").session("Ann") as session:
        for name, labels in (("tone", [2]), ("topics", [0, 9])):
            with pytest.raises(ValueError, match=f"no row or label to answer '{name}'"):
                _answer(session, name, labels)
        assert session.standing == {}
        with pytest.raises(ValueError, match="sorted list"):
            _answer(session, "topics", [1, 1])
        with pytest.raises(KeyError):
            _answer(session, "mood", [0])
        _answer(session, "topics", [3, 0])
        assert session.standing[0, "topics"].label == [0, 3]


def test_prompt_stands_in_the_help_as_text(tmp_path):
    run = make_questions_run(tmp_path / "run", make_questions(instruction="<b>${x}</b> {text}"))
    write_queue(run / "review", build_queue(run, 4, 2))
    with Review(run / "review").session("Ann") as session:
        assert "&lt;b&gt;&#36;&#123;x&#125;&lt;/b&gt; &#123;text&#125;" in _help(session)


def test_answer_that_could_not_be_kept_is_told_and_given_again(run, address, browser, monkeypatch):
    def full(*_):
        raise OSError("the disk is full")

    page = Board(browser, address)
    page.marked("tone")
    with monkeypatch.context() as broken:
        broken.setattr("hf_llambert.review.session.os.fsync", full)
        page.type("2")
        page.until("#review-failed", lambda shown: "cannot be written: the disk is full" in shown)
    assert browser.find_element("css selector", ".review-question.active").get_attribute("data-question") == "tone"
    page.press("1", "topics")
    assert given(run)[0, "tone"] == 0
    assert not browser.find_elements("id", "review-failed")


def test_command_killed_within_a_row_goes_on_with_the_next_question(run, browser):
    pytest.importorskip("gradio", reason="the extra 'review' is not installed")
    process, address = served(run)
    page = Board(browser, address)
    page.press("2", "topics")
    page.press("13" + ENTER, "length")
    process.kill()
    process.communicate()
    assert given(run) == {(0, "tone"): 1, (0, "topics"): [0, 2]}
    process, address = served(run)
    page = Board(browser, address)
    page.marked("length")
    assert page.pressed("topics") == ["people", "sport"]
    page.press("3", "tone")
    process.kill()
    process.communicate()
    assert given(run)[0, "length"] == 3
