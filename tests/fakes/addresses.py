"""Addresses of one recipient that a test can read again, and mails as senders make them."""

import re
from typing import Final

URL: Final = "https://t.test"
_CLICK: Final = re.compile(rb"https://t\.test/t/c/([0-9a-f]+)")
PIXEL: Final = (
    b'<img src="https://t.test/t/o/pixel.gif" width="1" height="1" alt=""'
    b' style="border:0;display:block;height:1px;width:1px">'
)


class Readable:
    """Where a link leads stands in it in hexadecimal."""

    def click(self, target: str) -> str:
        return f"{URL}/t/c/{target.encode().hex()}"

    def pixel(self) -> str:
        return f"{URL}/t/o/pixel.gif"


def targets(text: bytes) -> list[str]:
    """Where the links of a text lead that lead over us, in order."""
    return [bytes.fromhex(found.decode()).decode() for found in _CLICK.findall(text)]


def differences(before: bytes, after: bytes) -> list[tuple[bytes, str]]:
    """(what stood there, where the link in its place leads), in order, but for a pixel; fails where anything else is
    not octet for octet the same."""
    made, at = [], 0
    first, *rest = _CLICK.split(after.replace(PIXEL, b""))
    assert before.startswith(first)
    at = len(first)
    for place in range(0, len(rest), 2):
        literal = rest[place + 1]
        end = before.find(literal, at) if place + 2 < len(rest) else len(before) - len(literal)
        assert end >= at
        assert before.startswith(literal, end)
        made.append((before[at:end], bytes.fromhex(rest[place].decode()).decode()))
        at = end + len(literal)
    assert at == len(before)
    return made


NEWSLETTER: Final = b"""\
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:v="urn:schemas-microsoft-com:vml">
<head>
<meta http-equiv="Content-Type" content="text/html; charset=utf-8">
<link href="https://fonts.example.com/css?family=Lato" rel="stylesheet">
<base href="https://shop.example.com/">
<title>Sale <a href="https://title.example.com/">x</a></title>
<style>a[href="https://style.example.com/"] > b { color: red }</style>
<!--[if mso]><xml><o:OfficeDocumentSettings/></xml><a href="https://mso.example.com/">o</a><![endif]-->
</head>
<body style="margin:0" background='https://img.example.com/bg.png'>
<table role=presentation><tr><td>
<a href="https://shop.example.com/p?id=1&amp;utm_source=mail&utm_medium=e" style="color:#1a73e8" target=_blank>One</a>
<A HREF='https://shop.example.com/two'
   title="a > b">Two</A>
<a class=button href=https://shop.example.com/three/>Three</a>
<!--[if mso]><v:roundrect href="https://shop.example.com/vml" arcsize="10%"><![endif]-->
<![if !mso]><a href="https://shop.example.com/four">Four</a><![endif]>
<a href="mailto:help@example.com?subject=https://x.example.com/">mail</a> <a href="tel:+493012345">call</a>
<a href="#top">top</a><a name="top">anchor</a><a href="">empty</a><a href>none</a><a href="/relative">relative</a>
<a href="cid:part1@example.com">cid</a><a href="data:text/html,x">data</a><a href="javascript:void(0)">js</a>
<a href="{{ unsubscribe_url }}">left</a><a href="https://e.example.com/*|UNSUB|*">left</a>
<a href="https://out.example.com/u?t=1" data-track="false">unsubscribe</a>
<a href="https://list.example.com/leave?m=1&amp;r=2">leave</a>
<img src="https://img.example.com/a.png" usemap="#m"><map name="m"><area shape=rect href="https://shop.example.com/map"></map>
<form action="https://shop.example.com/form"><input name=q></form>
<a href="https://b\xc3\xbccher.example.com/\xc3\xa4?q=\xc3\xb6 x">IDN</a>
</td></tr></table>
</body>
</html>
"""
NEWSLETTER_TARGETS: Final = [
    "https://shop.example.com/p?id=1&utm_source=mail&utm_medium=e",
    "https://shop.example.com/two",
    "https://shop.example.com/three/",
    "https://shop.example.com/four",
    "https://shop.example.com/map",
    "https://xn--bcher-kva.example.com/%C3%A4?q=%C3%B6%20x",
]
BROKEN: Final = b"""\
<p>Hello <b>there<a href="https://a.example.com/1"class="x"href="https://a.example.com/second">one</a
><a/href = 'https://a.example.com/2'/><a =href="x" href="https://a.example.com/3" "quote">three
<div <a href="https://a.example.com/in-a-tag">>four<br/>< a href="https://a.example.com/no-tag">
<script>document.write('<a href="https://a.example.com/script">')</script>
<textarea><a href="https://a.example.com/textarea"></textarea><!-- > <a href="https://a.example.com/comment">
--><a HreF=https://a.example.com/5>five<a href="https://a.example.com/6"""
BROKEN_TARGETS: Final = [
    "https://a.example.com/1",
    "https://a.example.com/2",
    "https://a.example.com/3",
    "https://a.example.com/5",
]
AMP_LIKE: Final = b"""\
<!doctype html><html \xe2\x9a\xa14email><head><meta charset=utf-8><style amp4email-boilerplate>b{}</style>
<script async src="https://cdn.ampproject.org/v0.js"></script></head><body>
<amp-img src="https://img.example.com/1.png" width=1 height=1></amp-img>
<template type="amp-mustache"><a href="https://amp.example.com/{{id}}">{{name}}</a></template>
<a href="https://amp.example.com/1">1</a></body></html>"""
NO_BODY: Final = b'<a href="http://plain.example.com">plain</a>, and nothing else'
HTMLS: Final = {"newsletter": NEWSLETTER, "broken": BROKEN, "amp": AMP_LIKE, "bare": NO_BODY}
