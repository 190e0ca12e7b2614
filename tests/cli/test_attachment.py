"""Text from files and standard input."""

import pytest

from hybridllm.cli.attachment import UnreadableTextError, framed_file, read_text, text_or_file


def test_a_plain_value_is_itself_and_an_at_sign_reads_a_file(tmp_path):
    sheet = tmp_path / "sheet.md"
    sheet.write_text("We open at nine.\n", encoding="utf-8")
    assert text_or_file("Be kind.") == "Be kind."
    assert text_or_file(f"@{sheet}") == "We open at nine."


def test_a_byte_order_mark_and_windows_line_ends_are_read_away(tmp_path):
    path = tmp_path / "w.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    assert read_text(path) == "a\nb\n"


def test_a_framed_file_is_named_and_its_fence_is_longer_than_any_inside(tmp_path):
    path = tmp_path / "code.md"
    path.write_text("```\nx\n```\n")
    assert framed_file(path) == "File code.md:\n````\n```\nx\n```\n````\n\n"


@pytest.mark.parametrize(("content", "says"), [(b"\xff\xfe", "not UTF-8 text"), (b"a\0b", "zero bytes")])
def test_what_is_no_text_is_refused(tmp_path, content, says):
    path = tmp_path / "binary"
    path.write_bytes(content)
    with pytest.raises(UnreadableTextError, match=says):
        read_text(path)


def test_a_missing_and_a_huge_file_are_refused(tmp_path):
    with pytest.raises(UnreadableTextError, match="cannot be read"):
        read_text(tmp_path / "none")
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(5 * 2**20)
    with pytest.raises(UnreadableTextError, match="more than 4 MiB"):
        read_text(huge)
