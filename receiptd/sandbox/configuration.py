"""The config.toml that makes `receiptd run` consume from a sandbox."""

import json


def config_toml(
    url: str,
    *,
    access_key_id: str = "testAK",
    access_key_secret: str = "testSK",
    app_key: str = "12345678",
    app_secret: str = "topSecret",
    queue_prefix: str = "Alicom-Queue-1092397003988387-",
    topic: str = "jst-sms-report",
    instance_id: str = "MQ_INST_1092397003988387_sandbox",
    group: str = "GID_receiptd",
    database_url: str = "sqlite:///receiptd.db",
    credentials: str = "token",
    polyv_app_id: str = "exampleapp",
    polyv_app_secret: str = "polyvSecret",
    with_polyv: bool = False,
) -> str:
    """Return a whole configuration; `url` is the sandbox's base."""
    # TOML's basic strings are JSON's for everything that can stand in these values.
    q = json.dumps
    polyv = f"""
[accounts.live]
provider = "polyv"
app_id = {q(polyv_app_id)}
app_secret = {q(polyv_app_secret)}
receipts_account = "main"
endpoints = {{ polyv = {q(url)} }}
"""
    return f"""\
# For trying receiptd out against `receiptd sandbox` at {url}.

[database]
url = {q(database_url)}

[accounts.main]
provider = "aliyun"
access_key_id = {q(access_key_id)}
access_key_secret = {q(access_key_secret)}
region = "cn-hangzhou"
endpoints = {{ dysms = {q(url)}, dybase = {q(url)}, mns = {q(url)} }}

[accounts.shop]
provider = "jushita"
app_key = {q(app_key)}
app_secret = {q(app_secret)}
access_key_id = {q(access_key_id)}
access_key_secret = {q(access_key_secret)}
endpoints = {{ top = {q(url + "/router/rest")} }}
{polyv if with_polyv else ""}
[sources.sms_report]
puller = "mns"
account = "main"
message_type = "SmsReport"
queue = {q(queue_prefix + "SmsReport")}
credentials = {q(credentials)}

[sources.sms_up]
puller = "mns"
account = "main"
message_type = "SmsUp"
queue = {q(queue_prefix + "SmsUp")}
credentials = {q(credentials)}

[sources.jushita]
puller = "rocketmq"
account = "shop"
endpoint = {q(url)}
instance_id = {q(instance_id)}
topic = {q(topic)}
group = {q(group)}
tag = ""
"""
