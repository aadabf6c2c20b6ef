"""Quotes of a CSV: read as they stand where they can mean one thing only, refused with their lines elsewhere."""

import re

import pytest

from hf_llambert import load_data

READ = [
    ('so "good",1\n', 'so "good"'),
    ('5" screen,1\n', '5" screen'),
    ('"5"" screen",1\n', '5" screen'),
    ('"a\nb\r\n\r\nc, ""d""\n",1\n', 'a\nb\r\n\r\nc, "d"\n'),
    ('"' + "line\n" * 5000 + '",1\n', "line\n" * 5000),
    ('"C:\\dir\\",1\n', "C:\\dir\\"),
    ('a\\b "c",1\n', 'a\\b "c"'),
    ('"""",1\n', '"'),
    (' "a",1\n', ' "a"'),
    ('"it",1', "it"),
]


@pytest.mark.parametrize(("row", "text"), READ)
def test_quotes_that_mean_one_thing_are_read(row, text, tmp_path):
    path = tmp_path / "d.csv"
    path.write_bytes(f"text,label\nfirst,0\n{row}".encode())
    assert load_data(path)[:] == {"text": ["first", text], "label": [0, 1]}


OPENED = "line {} opens a double quote whose field goes on behind the one that closes it, in line {}."
REFUSED = [
    ('"Best film ever,1\ndull,0\nso "good",1\n', OPENED.format(3, 5)),
    ('"unclosed,1\nnext,2\n"third",3\n', OPENED.format(3, 5)),
    ('"a" ,1\n', OPENED.format(3, 3)),
    ('"a"b,1\nc,2\n', OPENED.format(3, 3)),
    ('"a,1\nb,2\n', "line 3 opens a double quote that nothing closes."),
    ('b,2\n"a,1', "line 4 opens a double quote that nothing closes."),
]


@pytest.mark.parametrize(("rows", "said"), REFUSED)
def test_a_stray_quote_swallows_no_rows(rows, said, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(f"text,label\nfirst,0\n{rows}")
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        load_data(path)
    assert "Spark" not in str(caught.value)


@pytest.mark.parametrize(
    "rows",
    [
        '"say \\"hi\\"",1\n',
        '"he said \\"no",1\nsecond,0\n"x\\" y",1\n',
        '"hi \\"",1\n',
        '"hi \\"",1\n"next \\"",1\n',
        '"one\\", two",1\n',
        '"\\"",1\n',
    ],
)
def test_quotes_behind_backslashes_are_refused_with_who_writes_them(rows, tmp_path):
    path = tmp_path / "d.csv"
    path.write_text(f"text,label\nfirst,0\n{rows}")
    with pytest.raises(
        ValueError, match=r'line 3 .* It holds \\", as Spark and MySQL write a quote: write the file with ""'
    ):
        load_data(path)


def test_a_quote_that_may_have_swallowed_rows_of_a_table_of_tabs_is_warned_of(tmp_path, caplog):
    path = tmp_path / "t.tsv"
    path.write_text('text\tlabel\n"Great TV, 40 inches\tpositive\nBought the 42"\tnegative\n"two\nlines"\tpositive\n')
    assert load_data(path)["label"][:] == ["negative", "positive"]
    assert "A field of line 2 goes on to line 3" in caplog.text and "line 4" not in caplog.text
