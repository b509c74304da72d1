"""A misspelt variable is not ignored in silence."""

from structlog.testing import capture_logs

from service.cli.variables import warn_of_unknown


def test_what_looks_like_a_setting_and_is_none_is_named_with_the_nearest() -> None:
    names = [
        "FASTSWITCH_MAX_NUM_SEQ",
        "FASTSWITCH_QQQ",
        "FASTSWITCH_MODEL",
        "fastswitch_port",
        "FASTSWITCH_API_KEY",
        "HOME",
    ]
    with capture_logs() as logs:
        warn_of_unknown(names)
    found = [(line["event"], line["name"], line["meant"]) for line in logs]
    assert found == [
        ("unknown_variable", "FASTSWITCH_MAX_NUM_SEQ", "FASTSWITCH_MAX_NUM_SEQS"),
        ("unknown_variable", "FASTSWITCH_QQQ", None),
    ]
