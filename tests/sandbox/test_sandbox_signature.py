"""The signatures that were published, or made by the SDKs, hold."""

from receiptd.sandbox.signature import (
    acs3_string_to_sign,
    sign_acs3,
    sign_queue_request,
    sign_rpc,
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
