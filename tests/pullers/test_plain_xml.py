"""The one-pass reader never says anything else than a parser does; where it is not sure, it says
nothing."""

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiptd.pullers.plain_xml import read_plainly

ONE = "<Message><MessageId>5F-1</MessageId><ReceiptHandle>1-OD==-8</ReceiptHandle></Message>"
PROLOG = '<?xml version="1.0" encoding="utf-8"?>\n'


def listed(*messages, opening='<Messages xmlns="http://mns.aliyuncs.com/doc/v1/">'):
    return (PROLOG + opening + "\n  ".join(messages) + "\n</Messages>").encode()


def parsed(document):
    """Return what a parser finds: the fields of each message, by local name."""
    root = ElementTree.fromstring(document)
    return [{child.tag.rpartition("}")[2]: child.text or "" for child in one} for one in root]


def by_message(columns):
    """Return what the one-pass reader found as a parser's user would: message by message."""
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


@pytest.mark.parametrize(
    "document",
    [
        listed(ONE),
        listed(ONE, ONE, ONE),
        listed(ONE, opening="<Messages>"),
        listed(ONE.replace("><", ">\n\t<")),
        listed("<Message><MessageBody></MessageBody><Priority>8</Priority></Message>"),
        listed(ONE.replace("5F-1", " 5F-1\n")),
        listed(ONE, ONE.replace("5F-1", "a > b, [[c]]")),
        listed(ONE.replace("5F-1", '{"err_msg":"用户 接收成功 🎉"}')),
        (f"<Messages>{ONE}</Messages>").encode(),
    ],
)
def test_what_the_brokers_write_is_read_as_a_parser_reads_it(document):
    assert by_message(read_plainly(document)) == parsed(document)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html></html>",
        listed(ONE)[:-5],
        listed(ONE) + b"<",
        listed("<Message><MessageId>a&amp;b</MessageId></Message>"),
        listed("<Message><MessageBody><![CDATA[{}]]></MessageBody></Message>"),
        listed("<!-- hello -->" + ONE),
        listed("<Message><!-- hello --><MessageId>1</MessageId></Message>"),
        listed("<Message><MessageId>1</MessageId><MessageId>2</MessageId></Message>"),
        listed(ONE, ONE.replace("ReceiptHandle", "Priority")),
        listed(ONE, ONE[:9] + "<Priority>8</Priority>" + ONE[9:]),
        listed("<Message><MessageId>1</ReceiptHandle></Message>"),
        listed("<Message><MessageId>1</MessageId>"),
        listed("<Message><MessageBody><b>1</b></MessageBody></Message>"),
        listed('<Message><MessageId lang="zh">1</MessageId></Message>'),
        listed("<Message><MessageId>1\r\n</MessageId></Message>"),
        listed("<Message><MessageId>\x01</MessageId></Message>"),
        listed("<Message><MessageId>]]></MessageId></Message>"),
        listed("<Message>]]><MessageId>1</MessageId></Message>"),
        listed("<Message>&<MessageId>1</MessageId></Message>"),
        listed("<Message><MessageId>\uffff</MessageId></Message>"),
        listed("<m:Message><MessageId>1</MessageId></m:Message>"),
        listed(ONE, opening='<!DOCTYPE x [<!ENTITY e "e">]><Messages>'),
        listed(ONE).replace(b"utf-8", b"gbk"),
        listed("<Message><MessageBody>GBK</MessageBody></Message>").replace(b"GBK", b"\xd3\xc3"),
        listed("<Messages>" + ONE + "</Messages>"),
        listed("<Other><MessageId>1</MessageId></Other>"),
    ],
)
def test_whatever_is_written_otherwise_is_left_to_the_parser(document):
    assert read_plainly(document) is None


PIECES = st.sampled_from(
    [
        ONE, "<Message>", "</Message>", "<MessageId>", "</MessageId>", "<MessageBody>",
        "</MessageBody>", "</Messages>", "<Messages>", "<![CDATA[", "]]>", "<!--", "-->", "&amp;",
        "&", ">", "<", "/", "'", '"', " ", "\n", "\t", "\r", "\x00", "\ufffe", "用户", "a", "8",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12))
@settings(max_examples=500)
def test_no_document_is_read_in_another_way_than_a_parser_reads_it(pieces):
    document = listed("".join(pieces))
    found = read_plainly(document)
    if found is not None:
        assert by_message(found) == parsed(document)
