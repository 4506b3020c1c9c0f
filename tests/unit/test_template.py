"""The template language, and what a submission becomes with its values."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.message import template, template_tags
from gateway.message.model import Attachment, Mailbox, Submission
from gateway.message.template import StoredTemplate, TemplateError

SUBMISSION = Submission(
    sender=Mailbox("Shop", "shop@example.com"),
    to=(Mailbox("{{name}}", "ann@example.org"),),
    cc=(),
    bcc=(),
    reply_to=(),
    subject="Hello {{name}}",
    html="<p>Dear {{name}}</p>",
    text="Dear {{name}}",
    attachments=(Attachment("{{name}}.txt", b"{{name}}", "text/plain"),),
    headers=(("X-Name", "{{name}}"),),
    tags=("{{name}}",),
    metadata='{"a":"{{name}}"}',
    return_path=None,
    variables={"name": "A & <B>"},
)
STORED = StoredTemplate.read("Order {{id}}", "<b>{{id}}</b> {{{note|}}}", "Order {{id}}")


def filled(text: str, /, *, escape: bool = False, limit: int = 10_000, **variables: Any) -> str:
    return template.parse(text).render(variables, escape=escape, limit=limit)


def problems(text: str, /, **variables: Any) -> list[str]:
    with pytest.raises(TemplateError) as error:
        filled(text, **variables)
    assert all(problem.code == "template_error" for problem in error.value.problems)
    return [str(problem) for problem in error.value.problems]


@pytest.mark.parametrize(
    ("text", "variables", "result"),
    [
        ("", {}, ""),
        ("no tag, { nor } {a} }}", {}, "no tag, { nor } {a} }}"),
        ("Hi {{name}}!", {"name": "Ann"}, "Hi Ann!"),
        ("{{ name }}{{  a-b_1 }}", {"name": "x", "a-b_1": "y"}, "xy"),
        ("{{a}}{{b}}{{c}}{{d}}{{e}}", {"a": 1, "b": 1.5, "c": True, "d": False, "e": ""}, "11.5truefalse"),
        ("{{name|friend}}", {}, "friend"),
        ("{{name|friend}}", {"name": "Ann"}, "Ann"),
        ("{{name|friend}}", {"name": None}, "friend"),
        ("{{name|friend}}", {"name": ""}, ""),
        ("[{{name|}}][{{{name|}}}]", {}, "[][]"),
        ("{{ name | dear friend | x }}", {}, "dear friend | x"),
        ("{{a|}}}", {}, "}"),
        ("{{user.name.first}}", {"user": {"name": {"first": "Ann"}}}, "Ann"),
        ("{{user.name|none}}{{user.x|!}}", {"user": "text"}, "none!"),
        ("{{user.name|none}}", {"user": None}, "none"),
        ("{{a}}{{! not {this} }}{{b}}", {"a": 1, "b": 2}, "12"),
        ("{{a}}", {"a": "{{b}}", "b": "never"}, "{{b}}"),
        ("{{a}}b}}", {"a": "{{"}, "{{b}}"),
    ],
)
def test_values(text: str, variables: dict[str, Any], result: str) -> None:
    assert filled(text, **variables) == result


@pytest.mark.parametrize(
    ("text", "variables", "result"),
    [
        ("{{#a}}x{{/a}}{{^a}}y{{/a}}", {"a": True}, "x"),
        ("{{#a}}x{{/a}}{{^a}}y{{/a}}", {"a": "text"}, "x"),
        ("{{#a}}x{{/a}}{{^a}}y{{/a}}", {"a": {"b": 1}}, "x"),
        ("{{#a}}x{{/a}}{{^a}}y{{/a}}", {}, "y"),
        ("{{ #a }}{{.}},{{ /a }}", {"a": [1, "b", True]}, "1,b,true,"),
        ("{{#a}}{{n}}{{m}};{{/a}}", {"a": [{"n": 1}, {"n": 2}], "m": "!"}, "1!;2!;"),
        ("{{#a}}{{n}}{{/a}}", {"a": [{"n": "in"}], "n": "out"}, "in"),
        ("{{#a}}{{n|none}}{{/a}}", {"a": [{"n": None}], "n": "out"}, "none"),
        ("{{#a}}{{#b}}{{.}}{{/b}}|{{/a}}", {"a": [{"b": [1, 2]}, {"b": [3]}]}, "12|3|"),
        ("{{#a}}{{#.}}{{.}}{{/.}}|{{/a}}", {"a": [[1, 2], [3]]}, "12|3|"),
        ("{{#a.b}}{{c}}{{/a.b}}", {"a": {"b": {"c": 1}}}, "1"),
        ("{{#a}}{{^b}}{{.}}{{/b}}{{/a}}", {"a": [1, 2]}, "12"),
        ("{{#a}}{{unknown}}{{/a}}", {"a": False}, ""),
        ("{{#a}}{{#a}}x{{/a}}{{/a}}", {"a": [1, 2]}, "xxxx"),
    ],
)
def test_sections(text: str, variables: dict[str, Any], result: str) -> None:
    assert filled(text, **variables) == result


@pytest.mark.parametrize("no", [False, None, "", 0, 0.0, [], {}], ids=repr)
def test_what_is_empty_or_zero_counts_as_no(no: object) -> None:
    assert filled("{{#a}}x{{/a}}{{^a}}y{{/a}}", a=no) == "y"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_section_on_a_line_of_its_own_leaves_no_line(end: str) -> None:
    lines = [
        "Items:",
        "  {{#items}}",
        "- {{.}}",
        "{{/items}}\t",
        "{{! that was all }}",
        "{{#no}} {{/no}}!",
        "End{{! x }}",
    ]
    assert filled(end.join(lines), items=["a", "b"]) == end.join(["Items:", "- a", "- b", "!", "End"])
    assert filled("{{#a}}\nx\n{{/a}}", a=True) == "x\n"
    assert filled("a {{! x }}\n{{b}}\n", b=1) == "a \n1\n"  # neither is alone on its line


def test_values_are_escaped_in_html_and_nothing_else_is() -> None:
    text = "<b>{{a}}</b>{{{a}}}{{x|<i>&amp;</i>}}"
    assert filled(text, escape=True, a="<&>\"'") == "<b>&lt;&amp;&gt;&quot;&#x27;</b><&>\"'<i>&amp;</i>"
    assert filled(text, escape=False, a="<&>\"'") == "<b><&>\"'</b><&>\"'<i>&amp;</i>"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\n  {{b", ["line 2, column 3: the tag is not closed: write }}"]),
        ("{{{b}}", ["line 1, column 1: the tag is not closed: write }}}"]),
        ("{{}}", ["line 1, column 1: nothing is no name"]),
        ("{{a b}}{{.a}}{{a..b}}{{a.}}{{ä}}", [f"line 1, column {at}:" for at in (1, 8, 14, 22, 28)]),
        ("{{> partial}}", ["> partial is no name"]),
        ("{{a\x1b\n}}", ["a\\x1b\\n is no name"]),
        ("{{" + "n" * 129 + "}}", ["n" * 40 + " is no name"]),
        ("{{#a}}\n x", ["line 1, column 1: the section a has no end: write {{/a}}"]),
        ("x{{/a}}", ["line 1, column 2: ends a section that was not begun"]),
        ("{{#a}}\n{{/b}}", ["line 2, column 1: ends another section than that of line 1: write {{/a}}"]),
        ("{{a|{{b}}}}", ["a default cannot hold a tag"]),
        ("{{a b}}\n{{/c}}\n{{d", ["line 1", "line 2", "line 3"]),
    ],
)
def test_every_fault_of_a_text_is_told_with_its_place(text: str, said: list[str]) -> None:
    found = problems(text)
    assert len(found) == len(said)
    for problem, part in zip(found, said, strict=True):
        assert part in problem


def test_every_name_without_a_value_is_told_once() -> None:
    found = problems("{{a}} {{b}}\n{{c.d}} {{a}} {{e}}", b=1, c={"d": None}, e=[])
    assert found == [
        "line 1, column 1: {{a}} has no value: give it in variables, or write {{a|default}}",
        "line 2, column 1: {{c.d}} has no value: give it in variables, or write {{c.d|default}}",
        "line 2, column 15: {{e}} is a list, not a text, number or boolean",
    ]
    assert problems("{{#l}}{{a}}{{/l}}", l=[1] * 1000) == [
        "line 1, column 7: {{a}} has no value: give it in variables, or write {{a|default}}"
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"b": 1}, "an object"),
        ([1], "a list"),
        pytest.param(10**5000, "a number with too many digits", id="digits"),
        (b"bytes", "something else"),
        ("a\0b", "no message can hold"),
        ("\ud800", "no message can hold"),
    ],
)
def test_what_is_no_text_is_refused(value: object, said: str) -> None:
    assert said in problems("{{a}}", a=value)[0]


def test_an_error_in_words() -> None:
    with pytest.raises(TemplateError) as error:
        template.parse("{{a b}}{{/c}}", "html_body")
    assert error.value.param == "html_body"
    assert str(error.value).startswith("html_body: line 1, column 1: a b is no name")
    assert str(error.value).endswith(" (1 more in errors)")
    with pytest.raises(TemplateError) as error:
        template.parse("{{", "")
    assert error.value.param is None


# Bounds


def test_the_output_is_bounded() -> None:
    assert filled("{{a}}{{a}}", limit=10, a="12345") == "1234512345"
    for text in ("{{a}}{{a}}x", "{{a}}{{a}}{{x|d}}", "{{#l}}x{{/l}}", "x" * 11):
        assert "more than 10 characters" in problems_of(text, limit=10, a="12345", l=[1] * 11)
    assert "more than 10 characters" in problems_of("{{a}}", limit=10, escape=True, a="<<<")


def problems_of(text: str, /, **options: Any) -> str:
    with pytest.raises(TemplateError) as error:
        filled(text, **options)
    return str(error.value)


def test_tags_and_depth_are_bounded() -> None:
    most, deepest = template_tags.MAX_TAGS, template_tags.MAX_DEPTH
    assert filled("{{a}}" * most, a=1) == "1" * most
    assert problems("{{a}}" * (most + 1)) == [f"has more than {most} tags"]
    assert filled("{{#a}}" * deepest + "x" + "{{/a}}" * deepest, a=True) == "x"
    assert "16 deep at most" in problems("{{#a}}" * 2000)[0]


def test_lists_in_lists_end_at_the_bound_of_steps() -> None:
    text = "{{#a}}" * 8 + "{{b|}}" + "{{/a}}" * 8
    assert "lists are too long" in problems(text, a=[1] * 100)[0]
    assert "lists are too long" in problems("{{#a}}{{/a}}", a=[1] * template.MAX_STEPS)[0]


def test_problems_are_bounded() -> None:
    found = problems("".join(f"{{{{a{i}}}}}" for i in range(1000)))
    assert len(found) == template_tags.MAX_PROBLEMS


# A submission


def test_only_subject_and_bodies_are_filled_in() -> None:
    given = template.apply(SUBMISSION, None, limit=1000)
    assert given == replace(
        SUBMISSION,
        subject="Hello A & <B>",
        html="<p>Dear A &amp; &lt;B&gt;</p>",
        text="Dear A & <B>",
        variables=None,
    )
    assert template.apply(given, None, limit=1) is given


def test_without_variables_and_template_nothing_is_touched() -> None:
    given = replace(SUBMISSION, variables=None)
    assert template.apply(given, None, limit=1000) is given


def test_braces_without_variables_need_values_once_there_are_any() -> None:
    with pytest.raises(TemplateError) as error:
        template.apply(replace(SUBMISSION, variables={}), None, limit=1000)
    assert [problem.path for problem in error.value.problems] == ["subject", "html_body", "text_body"]
    plain = replace(SUBMISSION, variables={}, subject="a", html=None, text="b")
    assert template.apply(plain, None, limit=1000) == replace(plain, variables=None)


@pytest.mark.parametrize(
    "control", ["\r", "\n", "\r\n", "\0", "\t", "\x1b", "\x7f", "\x85", "\x9b", "\u2028", "\u2029"]
)
def test_no_control_character_reaches_the_subject(control: str) -> None:
    for given, stored in (
        (replace(SUBMISSION, variables={"name": f"a{control}b"}, html=None, text="x"), None),
        (replace(SUBMISSION, variables={"id": f"a{control}b"}, subject="", html=None, text=None), STORED),
        (replace(SUBMISSION, subject=f"{{{{a|{control}}}}}", html=None, text="x"), None),
    ):
        with pytest.raises(TemplateError) as error:
            template.apply(given, stored, limit=1000)
        assert error.value.param in {"subject", "template"}
        assert control not in str(error.value)


def test_the_subject_is_short() -> None:
    with pytest.raises(TemplateError, match="8000"):
        template.apply(replace(SUBMISSION, variables={"name": "x" * 8000}), None, limit=10**6)


BARE = replace(SUBMISSION, subject="", html=None, text=None, template="order", variables={"id": "<7>"})


def test_a_stored_template_gives_subject_and_bodies() -> None:
    given = template.apply(BARE, STORED, limit=1000)
    assert (given.subject, given.html, given.text) == ("Order <7>", "<b>&lt;7&gt;</b> ", "Order <7>")
    assert (given.template, given.variables) == (None, None)
    own = template.apply(replace(BARE, subject="Mine: {{id}}"), STORED, limit=1000)
    assert own.subject == "Mine: <7>"
    text_only = StoredTemplate.read("", None, "x")
    assert template.apply(replace(BARE, variables=None), text_only, limit=1000).html is None


def test_a_template_and_bodies_do_not_go_together() -> None:
    with pytest.raises(TemplateError) as error:
        template.apply(replace(BARE, html="a", text="b"), STORED, limit=1000)
    assert [problem.path for problem in error.value.problems] == ["html_body", "text_body"]
    assert "give one of them" in str(error.value)


def test_what_is_missing_for_a_stored_template_is_told_of_it() -> None:
    with pytest.raises(TemplateError) as error:
        template.apply(replace(BARE, variables={}), STORED, limit=1000)
    assert error.value.param == "template"
    assert [problem.path for problem in error.value.problems] == [
        "template.subject",
        "template.html_body",
        "template.text_body",
    ]


def test_the_parts_of_a_template_are_read_together() -> None:
    with pytest.raises(TemplateError) as error:
        StoredTemplate.read("{{a b}}", "{{#c}}", "{{d")
    assert [problem.path for problem in error.value.problems] == ["subject", "html_body", "text_body"]
