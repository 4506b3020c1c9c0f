"""Who fetches without a person: the file, and what it is good for."""

import pytest

from gateway.api.prefetchers import Prefetchers

KNOWN = Prefetchers()
PEOPLE = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.4.0",
    "Mozilla/4.0 (compatible; ms-office; MSOffice 16)",
    "Microsoft Office/16.0 (Windows NT 10.0; Microsoft Outlook 16.0.17928; Pro)",
    "Mozilla/5.0 (Linux; Android 9; CUBOT_X18_Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/96.0 Mobile Safari",
    "Lynx/2.9.0 libwww-FM/2.14",
    "",
)


def test_every_row_says_where_it_is_written_and_what_it_goes_by() -> None:
    assert len(KNOWN.known) >= 25
    assert len({one.name for one in KNOWN.known}) == len(KNOWN.known)
    for one in KNOWN.known:
        assert one.source.startswith("https://")
        assert one.agents or one.exactly or one.networks
        assert one.name == one.name.lower()
        assert all(len(word) > 3 for word in one.agents)


@pytest.mark.parametrize("agent", PEOPLE)
def test_people_are_people(agent: str) -> None:
    headers = {"User-Agent": agent}
    assert [KNOWN.machine("GET", headers, "203.0.113.9", image=image) for image in (True, False)] == ["", ""]


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0", "apple-mail-privacy-protection"),
        ("YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html", "yahoo-mail-proxy"),
        ("Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5", "microsoft-teams"),
        ("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", "facebook"),
        ("WhatsApp/2.23.20.0 A", "whatsapp"),
        ("TelegramBot (like TwitterBot)", "telegram"),
        ("Twitterbot/1.0", "x"),
        ("Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", "discord"),
        ("Barracuda Sentinel (EE)", "barracuda"),
        ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "crawler"),
        ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0 Safari/537.36", "headless-browser"),
        ("python-requests/2.32.3", "program"),
    ],
)
def test_programs_are_not(agent: str, name: str) -> None:
    assert KNOWN.machine("GET", {"User-Agent": agent}, "203.0.113.9", image=False) == name


def test_an_image_that_is_shown_is_a_person() -> None:
    headers = {
        "User-Agent": "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
    }
    assert KNOWN.machine("GET", headers, "66.249.84.1", image=True) == ""
    assert KNOWN.machine("GET", headers, "66.249.84.1", image=False) == "gmail-image-proxy"
    assert KNOWN.machine("HEAD", headers, "66.249.84.1", image=True) == "HEAD"


@pytest.mark.parametrize(
    ("client", "name"),
    [
        ("40.93.0.1", "exchange-online-protection"),
        ("52.103.255.255", "exchange-online-protection"),
        ("104.47.127.1", "exchange-online-protection"),
        ("52.104.0.0", ""),
        ("104.47.128.0", ""),
        ("::1", ""),
        ("fe80::1%eth0", ""),
        ("", ""),
        ("somebody", ""),
    ],
)
def test_networks(client: str, name: str) -> None:
    assert KNOWN.machine("GET", {"User-Agent": PEOPLE[0]}, client, image=False) == name


@pytest.mark.parametrize(
    ("headers", "machine"),
    [
        ({"Sec-Purpose": "prefetch"}, "prefetch"),
        ({"Purpose": "Prefetch"}, "prefetch"),
        ({"X-Purpose": "preview"}, "prefetch"),
        ({"X-Moz": "prefetch"}, "prefetch"),
        ({"Purpose": "other"}, ""),
    ],
)
def test_browsers_that_are_ahead_of_their_person_say_so(headers: dict[str, str], machine: str) -> None:
    assert KNOWN.machine("GET", {"User-Agent": PEOPLE[0], **headers}, "203.0.113.9", image=False) == machine
