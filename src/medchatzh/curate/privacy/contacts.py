"""Addresses that lead to a person: e-mail, QQ, WeChat, web pages.

A `url` is one person's page or opens a chat (a profile, a doctor's page, a link to add somebody), or words of contact or trade announce it
(预约：, 加盟：). Every other web address that begins with http:// or www. is a `link`: of a source, a tool, an authority.
"""

from __future__ import annotations

import re

from medchatzh.curate.privacy.forms import SEPARATOR, Pattern

_DOT = r" ?(?:[.。·]|点|\((?i:dot)\)|\[(?i:dot)\]) ?"
_TLD = "(?i:com|cn|net|org|edu|gov|cc|info|me|io|hk|tw|mo|jp|kr|us|uk|de|fr|ru|au|ca|sg|top|xyz|vip|co|tv|biz|club)(?![A-Za-z])"
_MAIL_HOST = rf"[A-Za-z0-9\-]+(?:{_DOT}[A-Za-z0-9\-]+)*?(?:{_DOT}|,){_TLD}(?:{_DOT}{_TLD})?"
_LOCAL = r"(?<![/A-Za-z0-9._%+\-])[A-Za-z0-9][A-Za-z0-9._%+\-]*(?: \. [A-Za-z0-9_]+)?"
_AT = r"(?:@|\((?i:at)\)|\[(?i:at)\]|\{(?i:at)\}|艾特|圈[aA]|#(?=(?i:qq|163|126|sina|gmail|foxmail|hotmail|outlook)\.))"
# `user@example.com` and its like, in answers about programming, is nobody's.
_EXAMPLE = re.compile(
    r"(?:example[0-9_]*|user(?:name)?|your[a-z._\-]*|my[a-z._\-]*|name|test|someone|e?mail|foo|bar|abc|xxx+|john[a-z._\-]*|jane[a-z._\-]*)[0-9]*"
    r"@(?:[a-z0-9\-]+\.)*(?:example|(?:your|my)?domain|test|e?mail|company|abc|xxx+)\.[a-z]+|.@[a-z]\.[a-z]+|git@[a-z]+\..*",
    re.IGNORECASE,
)


def _is_not_example(text: str, start: int, end: int) -> bool:
    return _EXAMPLE.fullmatch(text, start, end) is None


_SCHEME = r"(?<![A-Za-z0-9.])(?:https?://)?"
_PROFILE = (
    r"(?:weibo\.(?:com|cn)/|t\.me/|wa\.me/|u\.wechat\.com/|weixin\.qq\.com/r/|wpa\.qq\.com/|qm\.qq\.com/|jq\.qq\.com/|user\.qzone\.qq\.com/|"
    r"www\.haodf\.com/doctor/|space\.bilibili\.com/|v\.douyin\.com/|douyin\.com/user/|zhihu\.com/people/|xiaohongshu\.com/user/|blog\.sina\.com\.cn/|"
    r"facebook\.com/(?!facebook|help|plugins|tr\?|sharer)|twitter\.com/|instagram\.com/|linkedin\.com/in/|line\.me/)"
)
_OWN_HOST = r"(?!www\.|m\.)[a-z0-9\-]{3,}\.(?:haodf\.com|blog\.163\.com|lofter\.com|qzone\.qq\.com)"
_PATH = r"[A-Za-z0-9._~%\-/?#&=+@!]"
_TRADE = (
    "(?:(?:我院|本院|我们|医院|诊所|门诊)的?(?:官方)?(?:网址|网站)|主页|博客|空间|预约|挂号|咨询|购买|订购|加盟|进群|加群)"
    "(?:地址|链接)? ?[:是为] ?"
)
_WEB_HOST = rf"[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)*?\.{_TLD}"

_STOP = "[.。]"
_LINK = rf"(?<![A-Za-z0-9.。])(?i:www){_STOP}[A-Za-z0-9\-]+(?:{_STOP}[A-Za-z0-9\-]+)*?(?:{_STOP}{_TLD})+(?::[0-9]+)?(?:[/?]{_PATH}*)?"

_KOU = r"(?<=[加我的])扣|(?<![\u4e00-\u9fff])扣(?=[号:])"
_QQ_WORD = rf"(?:(?<![A-Za-z])(?i:qq)|扣扣|企鹅|球球|{_KOU}|(?:加|我的?|联系)[Qq]|(?<![A-Za-z0-9])[Qq](?=[号群:]))"
_QQ = rf"{_QQ_WORD}(?:账|帐)?[号群加码为是:, (]{{0,6}}"
_INITIALS = "(?<![A-Za-z])(?i:vx|wx(?!id))"
_CHAT = f"(?:微 ?信|威信|薇信|徽信|[Vv]信|[Vv微威薇] ?[❤♥]\ufe0f?|绿泡泡|(?i:wechat|weixin)|{_INITIALS})"
_NO_VITAMIN = "(?!it|[A-EK](?![A-Za-z_]))"
_ADD = rf"(?:加[Vv薇微]|\+[Vv]){_NO_VITAMIN}"
_DOSE = "(?![0-9]+(?:mg|g|ml|ug|iu|u)(?![A-Za-z0-9]))"
_WITH_DIGIT = rf"(?P<value>{_DOSE}(?=[A-Za-z0-9_\-]*[0-9_\-])[A-Za-z0-9][A-Za-z0-9_\-]{{5,19}})"
# A word of letters alone must be announced as an id: 微信号：yishengwang, not 微信（WeChat）.
_LETTERS = r"(?P<value>(?!(?i:wechat|weixin|official|iphone|android|whatsapp))[A-Za-z][A-Za-z0-9_\-]{5,19})(?! ?[A-Za-z])"

PATTERNS = tuple(
    Pattern(kind, re.compile(form, re.ASCII), _is_not_example if kind == "email" else None)
    for kind, form in (
        ("email", f"{_LOCAL} ?{_AT} ?{_MAIL_HOST}"),
        ("url", rf"{_SCHEME}(?:[a-z0-9\-]+\.)?{_PROFILE}{_PATH}*[A-Za-z0-9]{_PATH}*"),
        ("url", f"{_SCHEME}{_OWN_HOST}{_PATH}*"),
        ("url", f"{_TRADE}(?P<value>(?:https?://)?{_WEB_HOST}(?::[0-9]+)?(?:[/?]{_PATH}*)?)"),
        ("link", rf"(?<![A-Za-z0-9])(?i:https?)://(?:{_PATH}|:)+"),
        ("link", _LINK),
        ("qq", rf"{_QQ}(?P<value>[1-9](?:{SEPARATOR}[0-9]){{4,9}})(?![0-9A-Za-z]|[ \-][0-9])"),
        ("qq", r"(?<![0-9.])(?P<value>[1-9][0-9]{5,10}) ?(?:\( ?|[是为]我的?)(?i:qq)"),
        ("wechat", rf"(?:{_CHAT}|{_ADD})(?:公众|账|帐)?号?[码为是加搜索:,( \-]{{0,5}}{_WITH_DIGIT}"),
        ("wechat", rf"(?<![A-Za-z0-9])[Vv] ?: ?(?=[A-Za-z]){_WITH_DIGIT}"),
        ("wechat", r"(?<![A-Za-z0-9])wxid_[A-Za-z0-9]{6,}"),
        ("wechat", rf"{_CHAT} ?(?:账|帐)?(?:号码?|(?i:id))[为是:,( ]{{0,4}}{_LETTERS}"),
        ("wechat", rf"(?:加我?的?(?:微信|[Vv]信|薇信|威信|[Vv薇]{_NO_VITAMIN})|{_CHAT} ?:) ?{_LETTERS}"),
        ("wechat", rf"(?<![A-Za-z0-9_.\-/])(?![0-9]){_WITH_DIGIT} ?(?:\( ?|[是为](?:我的?)?){_CHAT}(?!公众|群)"),
    )
)
