"""What goes wrong at the page ends in a sentence: broken files, vast ones, a busy server, and none at all."""

from __future__ import annotations

import pytest
from PIL import Image

from tests.app.person import LONG, Person, png


@pytest.mark.parametrize(
    ("name", "content"),
    [("broken.png", b"\x89PNG\r\n\x1a\n nothing more"), ("empty.png", b""), ("broken.moe", b"no mixture at all")],
)
def test_a_broken_file_gives_a_sentence(person: Person, forgiven: list[str], name: str, content: bytes) -> None:
    forgiven += ["status of 415", "status of 422"]
    page = person.page
    person.pick((name, content))
    page.wait_for_selector("#choose:visible, #trouble:visible")
    if page.is_hidden("#trouble"):
        person.start()
    page.wait_for_selector("#trouble:visible", timeout=LONG)
    said = page.inner_text("#trouble p")
    assert said.endswith(".")
    assert len(said) > 30
    assert "Traceback" not in said


def test_a_cut_off_picture_gives_a_sentence(person: Person, large: bytes, forgiven: list[str]) -> None:
    forgiven += ["status of 415"]
    page = person.page
    person.pick(("cut.png", large[: len(large) // 3]))
    person.choose("segment")
    person.start()
    page.wait_for_selector("#trouble:visible, #result:visible", timeout=LONG)
    if page.is_visible("#trouble"):
        assert page.inner_text("#trouble p").endswith(".")
        assert page.is_visible("#choose")


def test_a_job_that_ended_before_the_answer_came(person: Person, large: bytes, forgiven: list[str]) -> None:
    """The answer to the upload is held back until the job has failed."""
    forgiven += ["status of 415"]
    page = person.page

    def late(route) -> None:
        if route.request.method != "POST":
            route.continue_()
            return
        answer = route.fetch()
        if not answer.ok:
            route.fulfill(response=answer)
            return
        job = answer.json()
        while job["state"] in ("queued", "running"):
            page.wait_for_timeout(100)
            job = page.request.get(f"{route.request.url}/{job['id']}").json()
        route.fulfill(response=answer, json=job)

    page.route("**/api/jobs", late)
    person.pick(("cut.png", large[: len(large) // 3]))
    person.choose("segment")
    person.start()
    page.wait_for_selector("#trouble:visible, #result:visible", timeout=LONG)
    assert not page.is_visible("#working")
    page.unroute("**/api/jobs")


def test_who_waits_without_news_is_told_why(person: Person, tiny: bytes) -> None:
    page = person.page

    def stands(route) -> None:
        job = route.fetch().json()
        job.pop("result", None)
        route.fulfill(json={**job, "state": "running", "step": "fitting", "done": 1.0, "left": 0.2})

    page.route("**/api/jobs/*", stands)
    person.pick(("a.png", tiny))
    person.choose("segment")
    person.start()
    page.wait_for_selector("#step:has-text('Fitting.')")
    assert page.inner_text("#step") == "Fitting."
    page.wait_for_selector("#step:has-text('Still at work')")
    page.unroute("**/api/jobs/*")
    person.done()


def test_a_hundred_megapixels(person: Person, forgiven: list[str]) -> None:
    forgiven += ["status of 413"]
    page = person.page
    person.pick(("vast.png", png(Image.new("1", (10_000, 10_000)))))
    page.wait_for_selector("#choose:visible, #trouble:visible", timeout=LONG)
    if page.is_visible("#choose"):
        person.choose("segment")
        assert "100 megapixels" in page.inner_text("#main-options")  # and offers a smaller copy by itself
        page.get_by_text("To 1 megapixel").click()
        person.start()
    page.wait_for_selector("#trouble:visible, #result:visible", timeout=LONG)
    if page.is_visible("#trouble"):
        assert page.inner_text("#trouble p").endswith(".")
    else:
        assert "1000 × 1000" in page.inner_text("#figures")


def test_what_has_expired_goes_with_a_word(person: Person, tiny: bytes, forgiven: list[str]) -> None:
    forgiven += ["status of 410", "status of 404"]
    page = person.page
    person.makes("segment", ("old.png", tiny))
    identity = page.evaluate("() => JSON.parse(localStorage.getItem('moesaic.jobs'))[0].id")
    assert page.request.delete(f"{page.url}api/jobs/{identity}").status == 204
    page.reload()
    page.wait_for_selector("#gone:visible")
    assert "One picture was deleted" in page.inner_text("#gone")
    assert page.locator(".card").count() == 0
    assert page.is_visible("#empty")


def test_a_server_that_is_gone_for_a_while(person: Person, tiny: bytes, forgiven: list[str]) -> None:
    forgiven += ["ERR_INTERNET_DISCONNECTED", "ERR_FAILED", "status of 429"]
    page = person.page
    person.pick(("a.png", tiny))
    person.choose("segment")
    busy = {"status": 429, "headers": {"Retry-After": "2"}, "json": {"error": "Many pictures are waiting. Try later."}}
    page.route("**/api/jobs", lambda route: route.fulfill(**busy), times=1)
    person.start()
    page.wait_for_function("() => document.querySelector('#left').textContent.includes('much to do')")
    assert "Trying again in" in page.inner_text("#step")
    page.context.set_offline(True)
    page.wait_for_function("() => document.querySelector('#left').textContent.includes('does not answer')")
    page.context.set_offline(False)
    person.done()
    page.get_by_role("button", name="Another go").click()
    person.choose("encode")
    person.start()
    page.wait_for_function("() => document.querySelector('.card.active')")
    page.context.set_offline(True)
    page.wait_for_selector("#offline:visible, #result:visible", timeout=LONG)
    page.context.set_offline(False)
    person.done()
    assert page.is_hidden("#offline")


def test_a_name_is_only_text(person: Person, tiny: bytes) -> None:
    page = person.page
    name = '"><img src=x onerror=alert(1)>.png'
    page.on("dialog", lambda dialog: pytest.fail("a name ran as a program"))
    person.pick((name, tiny))
    page.wait_for_selector("#choose:visible")
    assert page.inner_text("#name") == name
    person.choose("segment")
    person.start()
    person.done()
    card = page.locator(".card .label").inner_text()
    assert card.replace("%22", '"') == name.removesuffix(".png")  # so browsers write quotes when they send names
    assert page.locator("img[src=x]").count() == 0


def test_wrong_options_are_told(person: Person, tiny: bytes) -> None:
    page = person.page
    person.pick(("a.png", tiny))
    person.choose("enlarge")
    page.get_by_label("How much").fill("99")
    person.start()
    assert "from 1 to 8" in page.inner_text("#trouble")
    assert page.is_visible("#choose")
