"""Answers that are no answers: courtesy, chatter, advertising (the paper, data section: irrelevant and colloquial answers)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from medchatzh.curate.boilerplate import SUBSTANCE, clauses
from medchatzh.curate.rules.registry import CONTENT, FORM, Case, Seen, rule
from medchatzh.curate.rules.thresholds import PoolRules
from medchatzh.records import normalize

if TYPE_CHECKING:
    from medchatzh.curate.features import Features, Mask

# What politeness and the site's own business sound like. An answer all of whose clauses do is courtesy only.
_COURTESIES = (
    "谢谢", "感谢", "多谢", "致谢", "祝您", "祝你", "祝愿", "祝福", "预祝", "您好", "你好", "早日康复", "身体健康", "生活愉快", "阖家",
    "万事如意", "天天开心", "一切顺利", "采纳", "好评", "五星", "点赞", "打分", "有所帮助", "有帮助", "帮助到", "帮到", "满意", "光临",
    "提问", "咨询", "追问", "来访", "供参考", "不客气", "不用谢", "没关系", "应该的", "关注", "收藏", "围观", "路过", "插眼", "马克",
    "mark", "同问", "同求", "想知道", "等答案", "坐等", "求解", "一样的问题", "一样的情况", "楼主", "沙发", "顶", "本站", "本平台",
    "客服", "工作人员", "已收到", "收到了", "已提交", "已关闭", "已解决", "已转交", "稍后", "尽快回复", "尽快联系", "尽快处理", "按钮",
    "竭诚", "为您服务", "为你服务",
)  # fmt: skip
_COURTESY = re.compile("|".join(map(re.escape, _COURTESIES)), re.IGNORECASE | re.ASCII)
_CLAUSE = re.compile(r"[^，,。；;：:！!？?～~\n]+")
_SUBSTANCE = re.compile(r"药|医院|就诊|就医|检查|治疗|症|痛|饮食|休息|[0-9]")
_MAX_CLAUSE_CHARS = 24
_LEFT_CHARS = 6
_MAX_COURTESY_CHARS = 200
_MAX_SUBSTANCE = 3
"""Characters of bodies, diseases and remedies in courtesy (坐等医生来回答)."""

_ADVERTISING = (
    "我院采用", "我院采取", "我院好些", "我院引进", "我院独创", "我院专家", "我院拥有", "我院特色", "我院是", "本院采用", "本院引进",
    "本院专家", "来我院", "到我院", "无效退款", "无效全额退", "签约治疗", "包治百病", "包治", "包好", "根治率", "治愈率高达",
    "有效率高达", "祖传秘方", "独家秘方", "祖传秘制", "在线客服", "咨询客服", "联系客服", "点击咨询", "点击下方", "点击链接", "点击图片",
    "立即咨询", "立即购买", "立即下单", "马上下单", "免费咨询热线", "预约热线", "扫码添加", "扫描二维码", "加我微信", "加微信领",
    "限时优惠", "限时特价", "买二送一", "买一送一", "优惠活动", "活动价", "原价", "包邮", "货到付款", "官方旗舰店", "欢迎选购",
    "名额有限", "免费试用", "代理加盟", "招商加盟",
)  # fmt: skip
_TOUTING = re.compile(
    r"(?:德国|美国|日本|进口|国际|国内|独家|专利|高科技)[^。\n]{0,12}(?:先进|领先|进口|尖端|顶级)?(?:技术|疗法|设备|仪器|配方)|权威专家|专家团队|知名专家|三甲医院专家|"
    r"一个疗程|三个疗程|疗程见效|不复发|永不复发|彻底根治|彻底治愈|100%|百分之百|百分百|无任何副作用|免费(?:咨询|检查|挂号|预约|领取)|"
    r"效果(?:还是)?(?:很好|显著)|疗效(?:非常)?(?:明显|显著)|奇效|最好的疗法|"
    r"我院|本院|我们医院|我中心|https?://|www\.|详情咨询|欢迎(?:来电|来院|致电|到院|咨询)|纯中药|口碑|拨打|热线|优惠|下单|购买|官网|客服"
)
# Selling is what the question is about, or its own text.
_TRADE_ASKED = re.compile(r"营销|推广|文案|广告|促销|销售|顾客|客户|品牌|商店|网店|电商|客服|商品|产品")

_CHAT_WORDS = (
    "哈哈", "嘿嘿", "嘻嘻", "呵呵", "嗯嗯", "哎呀", "哎哟", "唉呀", "啊哈", "么么哒", "宝子", "老铁", "^_^", "t_t", "没啥", "咋",
    "木有", "酱紫", "～", "~", "啦", "嘛", "咯", "喽", "哟", "噢", "哇", "呗", "呐", "亲", "宝贝", "额", "哦", "呀",
    *map(chr, range(0x1F600, 0x1F650)),
)  # fmt: skip
_CHATTER = re.compile(
    r"哈哈+|嘿嘿+|嘻嘻+|呵呵+|嗯嗯+|哎呀|哎哟|唉呀|啊哈|么么哒|亲(?:亲|爱的)?(?=[，,～~！!。 ]|$)|宝子|宝贝儿?(?=[，,～~])|老铁|"
    r"(?<![0-9A-Za-z%％岁月天 ])[～~](?![0-9 ])|\^_\^|T_T|啦|嘛|咯(?![血吱痰])|喽|哟|噢|哇|呗|呐|哦(?=[，,。～~！!]|$)|"
    r"呀(?=[，,。～~！!]|$)|没啥|咋|木有|酱紫|额(?=[，,。…])|"
    r"[\U0001F600-\U0001F64F]"
)


def _may_be_idle(features: Features, _: PoolRules) -> Mask:
    return (features.answer_chars <= _MAX_COURTESY_CHARS) & (features.counts["substance_answer"] <= _MAX_SUBSTANCE)


@rule(CONTENT + 5, signs=_COURTESIES, gate=_may_be_idle)
def irrelevant(case: Case) -> str | None:
    """Nothing is left of the answers once courtesy and the site's own business are taken away (the paper: irrelevant answers).

    Advice to see a doctor (2,751 of 29,972 real records) is advice and stays; so does courtesy in reply to courtesy, and an answer that
    the question offers to choose from (满意还是不满意？).
    """
    if len(case.answer) > _MAX_COURTESY_CHARS or sum(map(case.answer.count, SUBSTANCE)) > _MAX_SUBSTANCE:
        return None
    if all(map(_is_courtesy, _CLAUSE.findall(case.question))):
        return None
    found = _CLAUSE.findall(case.answer)
    left = [clause for clause in found if not _is_courtesy(clause)]
    if len(left) == len(found) or sum(len(normalize(clause)) for clause in left) >= _LEFT_CHARS or case.answer.strip("。") in case.question:
        return None
    return f"courtesy only: {case.answer[:20]}"


def _is_courtesy(clause: str) -> bool:
    return len(clause) <= _MAX_CLAUSE_CHARS and _COURTESY.search(clause) is not None and _SUBSTANCE.search(clause) is None


@rule(CONTENT + 5, gate=lambda features, settings: _may_be_idle(features, settings) & (features.counts["substance_answer"] == 0))
def boilerplate(case: Case) -> str | None:
    """The answers consist of nothing but sentences that stand under many different questions (and that are no advice)."""
    if not case.boilerplate or len(case.answer) > _MAX_COURTESY_CHARS:
        return None
    found = [plain for clause in clauses(case.answer) if (plain := normalize(clause))]
    return f"nothing of its own: {case.answer[:20]}" if found and case.boilerplate.issuperset(found) else None


@rule(CONTENT + 6, signs=_ADVERTISING)
def advertising(case: Case) -> Seen | None:
    """An answer touts a clinic or a product. 医院 itself is nearly always advice; one phrase of the trade and a second sign are not.

    A general answer to a question about selling (a campaign, a shop) may hold as many as it likes.
    """
    users = (turn.content for turn in case.dialogue.turns if turn.role == "user")
    if case.dialogue.pool == "general" and any(map(_TRADE_ASKED.search, users)):
        return None
    for place, text in case.answers():
        phrases = [phrase for phrase in _ADVERTISING if phrase in text]
        if not phrases:
            continue
        signs = {match[0] for match in _TOUTING.finditer(text)} | set(phrases)
        distinct = [sign for sign in sorted(signs) if not any(sign != other and sign in other for other in signs)]
        if len(distinct) >= case.settings.min_advertising_signs:
            start = text.index(phrases[0])
            return Seen("; ".join(distinct[:4]), place, start, start + len(phrases[0]))
    return None


@rule(
    FORM + 1,
    signs=_CHAT_WORDS,
    gate=lambda features, settings: (features.num_answers == 1) & (features.answer_chars <= settings.max_chat_chars),
)
def colloquial(case: Case) -> str | None:
    """A short chatty answer without substance (the paper: colloquial answers)."""
    if len(case.answer) > case.settings.max_chat_chars or case.is_multi_turn:
        return None
    found = _CHATTER.findall(case.answer)
    enough = max(case.settings.min_chat_markers, len(case.answer) / case.settings.max_chars_per_chat_marker)
    return " ".join(found[:6]) if len(found) >= enough else None
