"""The dashboard's words, English and Chinese. A test holds the templates to this table."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from receiptd.china import OFFSET

LANGUAGES = ("en", "zh")

# What the providers count days by, and what their consoles show; no daylight saving since 1991.

WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("SMS delivery", "短信送达"),
    "search": ("Search", "查询"),
    "search_label": ("biz_id, out_id or phone", "biz_id、out_id 或手机号"),
    "to_overview": ("Overview", "总览"),
    "skip": ("Skip to the content", "跳到正文"),
    "period": ("Period", "时间范围"),
    "24h": ("24 hours", "24 小时"),
    "7d": ("7 days", "7 天"),
    "30d": ("30 days", "30 天"),
    "account": ("Account", "账号"),
    "all_accounts": ("All accounts", "全部账号"),
    "apply": ("Apply", "应用"),
    "language": ("Language", "语言"),
    "other_language": ("中文", "English"),
    "pause": ("Pause refresh", "暂停刷新"),
    "resume": ("Resume refresh", "恢复刷新"),
    "refreshes": ("renews itself every minute", "每分钟自动刷新"),
    "paused": ("does not renew itself", "已暂停刷新"),
    "as_of": ("Counted at {at}", "统计截至 {at}"),
    "zone": ("All times are China's (UTC+8)", "所有时间为北京时间（UTC+8）"),
    "older_hours": (
        "Hours of before today are counted again every hour to every day.",
        "今天以前的数据每小时到每天重新统计一次。",
    ),
    "alerts": ("Needs attention", "需要关注"),
    "notes": ("For your information", "提示"),
    "all_well": ("All is well", "一切正常"),
    "numbers": ("In numbers", "概览数字"),
    "sent": ("Sent", "已发送"),
    "delivery_rate": ("Delivery rate", "送达率"),
    "of_ended": ("of those whose end is known", "占已有结果的短信"),
    "delivered": ("Delivered", "已送达"),
    "failed": ("Failed", "失败"),
    "unclear": ("Unknown or lost", "未知或丢失"),
    "waiting": ("Waiting", "等待回执"),
    "time_to_phone": ("Time to the phone", "送达用时"),
    "on_average": ("on average", "平均"),
    "lag": ("Receipt lag", "回执延迟"),
    "lag_note": ("from the carrier's report to our row", "从运营商报告到入库"),
    "volume_title": ("SMS sent, by what became of them", "发送量与结果"),
    "volume_desc": (
        "Stacked bars of delivered, failed, unknown or lost, and waiting SMS per {step}.",
        "按{step}堆叠的柱状图：已送达、失败、未知或丢失、等待回执。",
    ),
    "rate_title": ("Delivery rate", "送达率"),
    "rate_desc": (
        "Share of delivered among those whose end is known, per {step}; from {low} to 100 %. A gap "
        "means that nothing ended.",
        "已有结果的短信中送达的比例，按{step};从 {low} 到 100%。空缺表示没有结果。",
    ),
    "times_title": ("How long it took", "耗时"),
    "times_desc": (
        "Average seconds from sent to the phone, and from the carrier's report to our row, per "
        "{step}.",
        "平均耗时（秒），按{step}：从发送到送达，以及从运营商报告到入库。",
    ),
    "step_24h": ("hour", "小时"),
    "step_7d": ("six hours", "六小时"),
    "step_30d": ("day", "天"),
    "seconds": ("seconds", "秒"),
    "as_table": ("As a table", "表格形式"),
    "time": ("Time", "时间"),
    "nothing_yet": ("Nothing in this time.", "此时间段没有数据。"),
    "errors_title": ("What failed, by class and code", "失败原因：类别与代码"),
    "err_class": ("Class", "类别"),
    "err_code": ("Code", "代码"),
    "count": ("Count", "数量"),
    "share": ("Share", "占比"),
    "templates_title": ("By template", "按模板"),
    "template": ("Template", "模板"),
    "accounts_title": ("By account", "按账号"),
    "total": ("Total", "合计"),
    "rate": ("Rate", "送达率"),
    "sources_title": ("Sources", "来源"),
    "source": ("Source", "来源"),
    "state": ("State", "状态"),
    "state_well": ("well", "正常"),
    "state_silent": ("silent", "无响应"),
    "state_never": ("never seen", "从未运行"),
    "state_stuck": ("no poll returns", "轮询未返回"),
    "instances": ("Instances", "实例"),
    "last_pull": ("Last poll", "最近轮询"),
    "last_commit": ("Last commit", "最近入库"),
    "pulled": ("Pulled", "已拉取"),
    "changed": ("Rows written", "已写入"),
    "quarantined": ("Quarantined", "已隔离"),
    "ack_failed": ("Acks failed", "确认失败"),
    "ago": ("{span} ago", "{span}前"),
    "never": ("never", "从未"),
    "gaps_title": ("Gaps: sends without an end, by deadline", "缺口：尚无结果的发送，按期限"),
    "gaps_note": (
        "After {days} days the provider forgets a send, and nobody can be asked any more.",
        "{days} 天后服务商不再保留记录，之后无处可查。",
    ),
    "deadline": ("Lost for ever in", "距永久丢失"),
    "less_than": ("less than {span}", "{span}以内"),
    "more_than": ("more than {span}", "{span}以上"),
    "over": ("already over", "已过期"),
    "oldest": ("The oldest gap is lost in {span}.", "最早的缺口将在 {span}后丢失。"),
    "oldest_over": ("The oldest gap is over its deadline.", "最早的缺口已过期限。"),
    "gaps_by_hour": (
        "There are many: told from the counts by hour.",
        "数量较多：按小时统计值给出。",
    ),
    "no_gaps": ("Every send has its end.", "所有发送均已有结果。"),
    "quarantine_title": ("Quarantine, by reason", "隔离区：按原因"),
    "reason": ("Reason", "原因"),
    "no_quarantine": ("Nothing is quarantined.", "隔离区为空。"),
    "audits_title": ("Audits that differ", "对账差异"),
    "day": ("Day (China)", "日期（北京时间）"),
    "theirs_total": ("Theirs: sent", "对方：发送"),
    "ours_total": ("Ours: sent", "我方：发送"),
    "theirs_delivered": ("Theirs: delivered", "对方：送达"),
    "ours_delivered": ("Ours: delivered", "我方：送达"),
    "theirs_failed": ("Theirs: failed", "对方：失败"),
    "ours_failed": ("Ours: failed", "我方：失败"),
    "no_audits": ("No day of the last week differs.", "最近一周没有差异。"),
    "none_told": ("(not told)", "(未提供)"),
    "other": ("all others", "其他"),
    # What is wrong, in a sentence.
    "alert_here": ("The daemon that answers here: {reason}.", "本进程：{reason}。"),
    "alert_source_silent": (
        "Source {name} is silent: no process has told of it for {span}.",
        "来源 {name} 无响应：已有 {span}没有进程上报。",
    ),
    "alert_source_never": (
        "Source {name} is configured, but no process has ever told of it.",
        "来源 {name} 已配置，但从未有进程上报。",
    ),
    "alert_source_stuck": (
        "Source {name}: no poll has returned for {span}.",
        "来源 {name}：已有 {span}没有轮询返回。",
    ),
    "alert_counts_old": (
        "The counts are old: nothing was counted for {span}. Is the daemon running?",
        "统计已过时：已有 {span}未更新。守护进程是否在运行？",
    ),
    "alert_counts_none": (
        "Nothing was counted yet: the daemon does that while it runs.",
        "尚未统计：由运行中的守护进程完成。",
    ),
    "alert_gap": (
        "Sends without an end that are lost for ever within {span}: {count}.",
        "{span}内将永久丢失的无结果发送：{count} 条。",
    ),
    "alert_quarantine": (
        "Messages that could not be understood and wait for a decision: {count}.",
        "无法解析、等待处理的消息：{count} 条。",
    ),
    "alert_audits": (
        "Audits of the last week that differ: {count}.",
        "最近一周的对账差异：{count} 项。",
    ),
    "note_filling": (
        "Receipts from before are still being counted, the newest first: {share} are done.",
        "正在统计历史回执（由新到旧）：已完成 {share}。",
    ),
    # Search.
    "found_by": ("found as {kind}", "按 {kind} 找到"),
    "searched": ("looked in: {kinds}", "已查找：{kinds}"),
    "nothing_found": ("Nothing is known of it.", "没有找到任何记录。"),
    "more": ("Older ones that are not shown: {count}.", "另有 {count} 条较早的未显示。"),
    "not_complete": (
        "The time was up before everything was read; `receiptd explain` reads all of it.",
        "限时内未能读完全部数据；请用 `receiptd explain` 查询。",
    ),
    "unsearchable": ("This cannot be sought: {why}", "无法查询：{why}"),
    "masked": (
        "Phones are masked: whoever shows the token sees them.",
        "手机号已打码：提供令牌后可见。",
    ),
    "phone": ("Phone", "手机号"),
    "sign": ("Sign", "签名"),
    "event": ("What happened", "事件"),
    "replies": ("Replies of the phone", "上行回复"),
    "in_quarantine": ("In quarantine", "隔离区中"),
    "conflict": ("its sources contradict each other", "来源之间互相矛盾"),
    "future": ("to come", "将来"),
    # Errors.
    "error_unavailable": ("The database does not answer", "数据库无响应"),
    "error_unavailable_text": (
        "Receipts are not acked meanwhile, so none is lost; this page tries again by itself.",
        "期间不会确认任何回执，因此不会丢失；本页会自动重试。",
    ),
    "error_period": ("There is no such period", "没有这个时间范围"),
    "error_period_text": ("Choose 24h, 7d or 30d.", "请选择 24h、7d 或 30d。"),
}

CLASSES: Mapping[str, tuple[str, str]] = {
    "ok": ("ok", "正常"),
    "absent": ("phone off or out of reach", "关机或无法接通"),
    "invalid_number": ("no such number", "空号"),
    "blacklist": ("blacklisted or unsubscribed", "黑名单或退订"),
    "carrier": ("carrier or platform failed", "运营商或平台故障"),
    "content": ("content refused", "内容被拒"),
    "limit": ("too many or too fast", "超出频次限制"),
    "config": ("sender's configuration", "签名、模板或账号配置"),
    "expired": ("too late", "已过有效期"),
    "unknown": ("not known", "未知"),
}

STATUSES: Mapping[str, tuple[str, str]] = {
    "awaited": ("awaited", "等待回执"),
    "pending": ("pending", "发送中"),
    "lost": ("lost", "已丢失"),
    "unknown": ("unknown", "未知"),
    "failed": ("failed", "失败"),
    "delivered": ("delivered", "已送达"),
}

EVENTS: Mapping[str, tuple[str, str]] = {
    "not_recorded": ("not recorded", "发送未登记"),
    "sent": ("sent", "已发送"),
    "unanswered": ("no answer", "发送接口无应答"),
    "refused": ("refused", "发送被拒"),
    "handed_over": ("to the carrier", "已提交运营商"),
    "reported": ("reported", "运营商报告"),
    "pulled": ("pulled", "已拉取"),
    "quarantined": ("quarantined", "已隔离"),
    "asked": ("asked", "已向服务商查询"),
    "window_closed": ("window closed", "查询期已过"),
    "status": ("status", "状态变更"),
    "unexplained": ("unexplained", "日志中无依据"),
    "reply": ("reply", "上行回复"),
    "next_query": ("next query", "下次查询"),
    "lost_at": ("lost for ever", "永久丢失"),
}

# What an event tells, for the language that `explain` does not speak.
FACTS: Mapping[str, str] = {
    "api": "接口",
    "account": "账号",
    "sign_name": "签名",
    "template_code": "模板",
    "status": "状态",
    "says": "结果",
    "before": "之前",
    "after": "之后",
    "effect": "影响",
    "err_code": "错误码",
    "err_msg": "说明",
    "source": "来源",
    "pull_count": "第几次拉取",
    "lag_s": "延迟（秒）",
    "enqueued_at": "入队时间",
    "reason": "原因",
    "outcome": "处理",
    "journal_id": "日志编号",
    "origin": "依据",
    "content": "内容",
    "after_s": "间隔（秒）",
}

_VALUES: Mapping[str, str] = {
    "changed": "已更新",
    "filled": "补全",
    "nothing_new": "无变化",
    "weaker": "低于已知结果",
    "unread": "无法解析",
    "queue": "队列回执",
    "push": "推送回执",
    "query": "主动查询",
    "replay": "重放",
    "send": "发送登记",
}

_UNITS = {"en": ("s", "min", "h", "d"), "zh": ("秒", "分钟", "小时", "天")}


class Language:
    """The words and the numbers of one language."""

    def __init__(self, code: str) -> None:
        self.code = code
        self._place = LANGUAGES.index(code)

    @property
    def html(self) -> str:
        """The language as HTML names it."""
        return {"en": "en", "zh": "zh-Hans"}[self.code]

    @property
    def other(self) -> str:
        """The code of the other language."""
        return LANGUAGES[1 - self._place]

    def __call__(self, word: str, **values: object) -> str:
        """Return a text of the table."""
        text = WORDS[word][self._place]
        return text.format(**values) if values else text

    def err_class(self, name: str) -> str:
        """Return what a class is called; its own name if nobody named it."""
        return CLASSES[name][self._place] if name in CLASSES else name or self("none_told")

    def status(self, name: str) -> str:
        """Return what a status is called."""
        return STATUSES[name][self._place] if name in STATUSES else name

    def event(self, name: str) -> str:
        """Return what a kind of event is called."""
        return EVENTS[name][self._place] if name in EVENTS else name

    def fact(self, name: str, value: str) -> str:
        """Return the value of an event's fact: a status and a word of our own are translated."""
        if name in ("status", "says", "before", "after"):
            return self.status(value)
        if name in ("effect", "origin") and self.code == "zh":
            return _VALUES.get(value, value)
        return value

    def span(self, length: timedelta) -> str:
        """Return a length of time in its largest fitting unit: `40 s`, `3 min`, `5 h`, `12 d`."""
        seconds = max(0.0, length.total_seconds())
        # Two days are more readily felt as 48 hours where a deadline is near.
        for place, (unit, limit) in enumerate(((1, 90), (60, 90 * 60), (3600, 72 * 3600))):
            if seconds < limit:
                return self._length(seconds / unit, place)
        return self._length(seconds / 86400, 3)

    def time(self, at: datetime, *, seconds: bool = False) -> str:
        """Return a time of China, without its zone."""
        return (at + OFFSET).strftime("%m-%d %H:%M:%S" if seconds else "%m-%d %H:%M")

    def _length(self, value: float, place: int) -> str:
        unit = _UNITS[self.code][place]
        # Down, so that no deadline is told later than it is.
        return f"{int(value):,} {unit}"


def number(value: float) -> str:
    """Return a whole number with its thousands apart."""
    return f"{round(value):,}"


def percent(share: float) -> str:
    """Return a share with as many places as tell it from all and nothing."""
    text = f"{share * 100:.1f}"
    if text == "100.0" and share < 1:
        return "> 99.9 %"
    if text == "0.0" and share > 0:
        return "< 0.1 %"
    return f"{text.removesuffix('.0')} %"


def seconds(value: float) -> str:
    """Return seconds as they are written at an axis or in a table."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"


def preferred(accept_language: str) -> str:
    """Return the language that an Accept-Language header likes best; English if neither."""
    best, liked = "en", 0.0
    for part in accept_language.split(","):
        name, _, rest = part.strip().partition(";")
        weight = _weight(rest)
        code = name.strip().lower().partition("-")[0]
        if code in LANGUAGES and weight > liked:
            best, liked = code, weight
    return best


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
