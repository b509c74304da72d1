"""Chat templates: Hugging Face's environment, and errors that name the cause."""

import pytest

from service.errors import InvalidRequestError, ModelLoadError
from service.execution.models.chat_template import ChatTemplate

HELLO = [{"role": "user", "content": "Hello"}]


def render(source: str, messages: list[dict[str, object]] = HELLO, prompt: bool = True, **variables: object) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(messages, prompt, variables)


def test_messages_special_tokens_and_prompt_flag_are_visible() -> None:
    source = (
        "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert render(source) == "<s>user: Hello</s>assistant:"
    assert render(source, prompt=False) == "<s>user: Hello</s>"


def test_blocks_leave_no_white_space() -> None:
    assert (
        render("{% for m in messages %}\n    {% if true %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}")
        == "Hello\n"
    )


def test_tools_are_none_or_those_of_the_caller() -> None:
    source = "{% if tools is none %}none{% else %}{{ tools | tojson }}{% endif %}"
    assert render(source) == "none"
    assert render(source, tools=[{"name": "é<"}]) == '[{"name": "é<"}]'


def test_loops_can_break() -> None:
    assert render("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "01"


def test_date_is_available() -> None:
    assert len(render("{{ strftime_now('%Y-%m-%d') }}")) == 10


def test_further_variables_reach_the_template() -> None:
    assert render("{{ enable_thinking }}", enable_thinking=False) == "False"


def test_variables_do_not_replace_messages_and_special_tokens() -> None:
    source = "{{ bos_token }}{{ messages[0].content }}"
    variables = {"bos_token": "x", "messages": [], "raise_exception": "y"}
    assert ChatTemplate(source, "<s>", "</s>").render(HELLO, variables=variables) == "<s>Hello"


def test_model_without_template_refuses_to_chat() -> None:
    with pytest.raises(InvalidRequestError, match="no chat template"):
        ChatTemplate(None).render(HELLO)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[0].content + 1 }}", "refuses these messages"),
        ("{{ messages[0].nothing.more }}", "has no attribute"),
        ("{{ messages.__class__.__mro__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "append"),
        ("{{ 1 // 0 }}", "zero"),
        ("{% for i in range(1000000000) %}{% endfor %}", "Range too big"),
    ],
)
def test_failing_template_is_a_bad_request(source: str, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message) as caught:
        render(source)
    assert caught.value.param == "messages"


def test_broken_template_names_its_line() -> None:
    with pytest.raises(ModelLoadError, match="chat template, line 2: "):
        ChatTemplate("ok\n{% if %}")


def test_the_mark_of_generated_text_is_ignored() -> None:
    template = ChatTemplate("{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}")
    assert template.render([{"role": "assistant", "content": "Hello"}]) == "Hello"
