"""What a message may ask for of links of ours, as its header fields and its fields say it."""

import pytest

from gateway.errors import Reason, Refused
from gateway.message import labels
from gateway.message.model import TRACK_CLICKS, TRACK_OPENS, TRACK_TEXT
from gateway.policy import tracking
from gateway.policy.tracking import HEADER_NAMES, JSON_NAMES

URL = "https://mail.example.com"


@pytest.mark.parametrize(
    ("text", "track"),
    [
        ("opens", TRACK_OPENS),
        ("Clicks , opens", TRACK_OPENS | TRACK_CLICKS),
        ("clicks,text", TRACK_CLICKS | TRACK_TEXT),
        ("none", 0),
        ("NONE", 0),
    ],
)
def test_the_words_of_track(text: str, track: int) -> None:
    assert labels.track(text) == track


@pytest.mark.parametrize("text", ["", "open", "opens clicks", "opens,opens", "opens,", "none, opens", "text", "7"])
def test_what_track_is_not(text: str) -> None:
    with pytest.raises(Refused, match="X-Gateway-Track: ") as caught:
        labels.track(text)
    assert caught.value.reason is Reason.MALFORMED_MESSAGE


def test_the_words_of_unsubscribe() -> None:
    assert [labels.unsubscribe(text) for text in ("all", "ALL", "news", "zwölf Monate")] == [
        "*",
        "*",
        "news",
        "zwölf Monate",
    ]
    for text in ("", "*", "x" * 129):
        with pytest.raises(Refused, match="X-Gateway-Unsubscribe: all, or a tag"):
            labels.unsubscribe(text)


def test_mail_has_the_tag_that_it_can_be_unsubscribed_by() -> None:
    assert labels.tags(("a",), "news") == '["a","news"]'
    assert labels.tags(("news", "a"), "news") == '["news","a"]'
    assert labels.tags((), "*") == "[]"
    assert labels.tags(tuple(map(str, range(50))), "news").count(",") == 50


@pytest.mark.parametrize(
    ("asked", "usual", "unsubscribe", "track"),
    [
        (None, 0, "", 0),
        (None, 3, "", 3),
        (0, 3, "*", 0),
        (1, 6, "news", 1),
    ],
)
def test_where_recipients_reach_us_all_of_it_is_served(
    asked: int | None, usual: int, unsubscribe: str, track: int
) -> None:
    assert tracking.admit(URL, asked, usual, unsubscribe, JSON_NAMES) == track


def test_where_they_do_not_nothing_is_served_and_what_was_asked_for_is_refused() -> None:
    assert tracking.admit(None, None, 0, "", JSON_NAMES) == 0
    assert tracking.admit(None, None, 3, "", JSON_NAMES) == 0
    assert tracking.admit(None, 0, 3, "", JSON_NAMES) == 0
    for asked, usual, unsubscribe, names in [
        (1, 0, "", ["track"]),
        (None, 3, "*", ["unsubscribe"]),
        (2, 0, "news", ["track", "unsubscribe"]),
    ]:
        with pytest.raises(Refused, match=r"http\.public_url") as caught:
            tracking.admit(None, asked, usual, unsubscribe, JSON_NAMES)
        assert caught.value.reason is Reason.NOT_SUPPORTED
        assert [problem.path for problem in caught.value.problems] == names
    with pytest.raises(Refused, match="X-Gateway-Track: needs"):
        tracking.admit(None, 1, 0, "", HEADER_NAMES)
