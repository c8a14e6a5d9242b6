"""Full personal names, by surname lexicon and context.

A surname with a title (张医生) identifies nobody. Chinese has no mark for names and most surnames are words (高, 应, 时), so that a name
counts only where something announces it: a label (姓名：), an introduction (我叫), a title after or before it, or the sex that notes give.
"""

from __future__ import annotations

import re

from medchatzh.curate.privacy.forms import Pattern
from medchatzh.curate.privacy.lexicon import COMPOUND_SURNAMES, GIVEN, NEVER_GIVEN, NOT_NAMES, RARE_SURNAMES, SURNAMES

LABELS = (
    "姓名", "联系人", "收件人", "收货人", "收款人", "持卡人", "户名", "监护人", "申请人", "投保人", "被保险人", "受检者", "签名",
    "署名", "落款", "主治医生", "主治医师", "主诊医师", "主诊医生", "主刀医生", "责任护士", "报告医师", "报告医生", "审核医师", "审核医生",
    "检验者", "送检医师", "经办人",
)  # fmt: skip
"""After one of these (and a colon) nothing but a name can stand."""
TITLES = (
    "医生", "医师", "大夫", "教授", "主任", "院长", "护士", "先生", "女士", "博士", "药师", "副主任", "副教授", "副院长", "老师", "中医师",
)  # fmt: skip
_HANZI = "\u4e00-\u9fff"
_COMPOUND = "|".join(COMPOUND_SURNAMES)
_NOT_TITLED = "(?!.(?:先生|女士|博士|老师|同志|医生|医师|大夫|教授|主任|院长|护士|药师))"
_NOT_WORD = rf"(?!{'|'.join(NOT_NAMES.split())}|.大学|(?<=[谢多感答致])谢)"
_SURNAME = f"{_NOT_TITLED}{_NOT_WORD}(?:{_COMPOUND}|[{SURNAMES}])"
_FREE = f"{_NOT_TITLED}(?:{_COMPOUND}|[{SURNAMES}{RARE_SURNAMES}])(?:(?![{NEVER_GIVEN}])[{_HANZI}]){{1,2}}?"
"""A name whose place is sure: any surname, any characters ..."""
_END = rf"(?:(?![{_HANZI}·•])|(?=男|女|性别|年龄|今年|电话|手机|身份|住址|家住|住在|联系|来自))"
"""... up to the end of the word, or to what forms say next."""
_PERSON = "(?:我|他|她|本人|患者|病人|患儿|孩子|儿子|女儿|宝宝|老公|老婆|妻子|丈夫|母亲|父亲|妈妈|爸爸|朋友|同事|医生|大夫|主任)"
_TITLE = f"(?:{'|'.join(TITLES)})"
_RANK = "(?:主任医[师生]|主治医[师生]|住院医[师生]|教授|院长)"
_LEFT = rf"(?:(?<![{_HANZI}])|(?<=[找请由让和与跟是问给见谢叫及的听对约挂被]))"
_THEN = r"(?=[,。;、!?)\n ]|$|[说的给为在])"

PATTERNS = tuple(
    Pattern("name", re.compile(form))
    for form in (
        rf"(?:{'|'.join(LABELS)})(?: ?[:为是叫] ?| )(?P<value>{_FREE}){_END}",
        rf"(?:{'|'.join(LABELS)})(?P<value>{_SURNAME}[{GIVEN}]{{1,2}}){_END}",  # 把紧急联系人安排好 names nobody
        rf"(?:{_PERSON}的?(?:名字|大名|全名|真名|名)?叫做?|(?:名字|大名|全名|真名)(?:叫做?|[是为:]))[: ]{{0,2}}(?P<value>{_FREE}){_END}",
        rf"(?:[患病伤]者|病人|患儿|产妇|孕妇|(?<![^\n。;]))[: ]?(?P<value>{_SURNAME}[{GIVEN}]{{1,2}})[, 、(]{{1,2}}"
        r"(?:[男女](?:性|孩|童)?(?=[,、;。 )0-9])|[0-9]{1,3}岁)",
        rf"(?P<value>{_SURNAME}[{GIVEN}]{{2}}){_TITLE}",
        rf"{_LEFT}(?P<value>{_SURNAME}[{GIVEN}]){_TITLE}",
        rf"{_RANK}[: ]?(?P<value>{_SURNAME}[{GIVEN}]{{1,2}}){_THEN}",
        rf"(?:大夫|医[师生])[: ]?(?P<value>{_SURNAME}[{GIVEN}]{{2}}){_THEN}",
        rf"(?:我是|本人)(?P<value>{_SURNAME}[{GIVEN}]{{2}})(?=[,。;!\n ]|$)",
    )
)
