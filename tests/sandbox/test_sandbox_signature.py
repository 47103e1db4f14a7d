"""The signatures that were published, or made by the SDKs, hold."""

import pytest

from receiptd.sandbox.signature import (
    acs3_string_to_sign,
    sign_acs3,
    sign_polyv,
    sign_queue_request,
    sign_rpc,
    sign_top,
)

DATE = "Mon, 06 May 2024 07:08:09 GMT"
QUEUE = "/queues/Alicom-Queue-1000000000000001-SmsReport/messages"


def test_the_mns_receive_vector_holds() -> None:
    headers = {"date": DATE, "x-mns-version": "2015-06-06"}

    signature = sign_queue_request(
        "testSecret", "GET", QUEUE + "?numOfMessages=16&waitseconds=30", headers, "x-mns-"
    )

    assert signature == "lX7jiHQPKR0qwAZeGxmkL/GyL6o="


def test_the_mns_batch_delete_vector_holds() -> None:
    headers = {
        "date": DATE,
        "x-mns-version": "2015-06-06",
        "content-md5": "NmU2ODcwODhiNzQ0NTU1OWFlYTE0MGYzODI4NjhmOTI=",
        "content-type": "text/xml;charset=UTF-8",
    }

    signature = sign_queue_request("testSecret", "DELETE", QUEUE, headers, "x-mns-")

    assert signature == "0hEGU9OOmDVSsS+3LyJrhiN86U4="


def test_the_rocketmq_consume_vector_holds() -> None:
    target = (
        "/topics/sms_receipt/messages?consumer=GID_receiptd&ns=MQ_INST_1_abc"
        "&numOfMessages=16&waitseconds=30"
    )
    headers = {"date": DATE, "x-mq-version": "2015-06-06"}

    signature = sign_queue_request("testSecret", "GET", target, headers, "x-mq-")

    assert signature == "b9mvNsQvQBIkgT+Z5RKi14Ui7i8="


def test_the_query_send_details_vector_holds() -> None:
    params = {
        "Action": "QuerySendDetails",
        "Version": "2017-05-25",
        "Format": "JSON",
        "AccessKeyId": "testId",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": "nonce-1",
        "Timestamp": "2024-05-06T07:08:09Z",
        "RegionId": "cn-hangzhou",
        "PhoneNumber": "13900000001",
        "SendDate": "20240506",
        "PageSize": "50",
        "CurrentPage": "1",
        "BizId": "134523^4351232",
    }

    assert sign_rpc("testSecret", "POST", params) == "GFBPDzqWXK1J4Bm3ScyPztSc+Cw="


def test_aliyuns_published_send_sms_vector_holds() -> None:
    params = {
        "Action": "SendSms",
        "Version": "2017-05-25",
        "Format": "XML",
        "AccessKeyId": "testId",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
        "SignatureNonce": "45e25e9b-0a6f-4070-8c85-2956eda1b466",
        "Timestamp": "2017-07-12T02:42:19Z",
        "RegionId": "cn-hangzhou",
        "PhoneNumbers": "15300000001",
        "SignName": "阿里云短信测试专用",
        "TemplateCode": "SMS_71390007",
        "TemplateParam": '{"customer":"test"}',
        "OutId": "123",
    }

    assert sign_rpc("testSecret", "GET", params) == "zJDF+Lrzhj/ThnlvIToysFRq6t4="


def test_aliyuns_published_acs3_vector_holds() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    query = {
        "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
        "RegionId": "cn-shanghai",
    }
    headers = {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-content-sha256": empty,
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-version": "2014-05-26",
    }

    text = acs3_string_to_sign("POST", "/", query, headers, ";".join(headers), empty)

    assert (
        sign_acs3("YourAccessKeySecret", text)
        == "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


TOP_CALL = {
    "method": "alibaba.aliqin.ta.sms.num.query",
    "app_key": "12345678",
    "format": "json",
    "v": "2.0",
    "timestamp": "2024-05-06 15:08:09",
    "rec_num": "13900000001",
    "query_date": "20240506",
    "current_page": "1",
    "page_size": "50",
}


@pytest.mark.parametrize(
    ("sign_method", "sign"),
    [
        ("md5", "9B418136D707FE48CE892683933CE092"),
        ("hmac", "70F74E163BA0ECBE25B2BA27C38E4C50"),
    ],
)
def test_the_top_vectors_hold(sign_method: str, sign: str) -> None:
    params = TOP_CALL | {"sign_method": sign_method}

    assert sign_top("testSecret", params, sign_method) == sign


def test_the_newer_top_sign_is_an_upper_hex_hmac_sha256() -> None:
    # The well-known HMAC-SHA256 example, its text cut into a name and a value.
    params = {"The quick brown fox ": "jumps over the lazy dog", "sign": "not signed", "blank": ""}

    assert sign_top("key", params, "hmac-sha256") == (
        "F7BC83F430538424B13298E6AA6FB143EF4D59A14946175997479DBC2D1A3CD8"
    )


def test_the_polyv_vector_holds() -> None:
    params = {"appId": "exampleapp", "timestamp": "1714979289000", "sign": "X", "blank": ""}

    assert sign_polyv("testSecret", params) == "F4E5CD5725B2EA7DC1C349B05E4A4B4A"
