"""Answers that are no answers: refusals, courtesy, chatter, advertising (the paper, data section: irrelevant and colloquial answers)."""

from __future__ import annotations

import re

from medchatzh.curate.rules.registry import CONTENT, FORM, Case, rule
from medchatzh.records import normalize

_HEAD_CHARS = 120
_REFUSALS = re.compile(
    r"(?:作为|我是|我只是|我不过是|身为)[^。！？\n]{0,16}(?:人工智能|AI|语言模型|智能助手|虚拟助手|聊天机器人|机器人)"
    r"[^。！？\n]{0,40}(?:无法|不能|不可以|没有能力|没有办法|不具备|没有资格|不会|不便)"
    r"|(?:抱歉|对不起|不好意思|遗憾)[，,。！! ]{0,2}(?:但是|但|由于)?[^。！？\n]{0,12}(?:无法|不能|没有办法|没办法)"
    r"(?:为您|为你|给您|给你|向您|对此|直接|替您)?(?:提供|回答|回复|给出|进行|作出|做出|满足|协助|帮助|诊断|讨论|继续|完成|处理|理解)"
    r"|^(?:我)?(?:无法|不能)(?:为您|为你|给您|给你)?(?:提供|回答|给出)[^。！？\n]{0,12}(?:医疗|医学|诊断|用药|建议|问题)"
)

# What politeness and the site's own business sound like. An answer all of whose clauses do is courtesy only.
_COURTESY = re.compile(
    r"谢谢|感谢|多谢|致谢|祝您|祝你|祝愿|祝福|预祝|[您你]好|早日康复|身体健康|生活愉快|阖家|万事如意|天天开心|一切顺利|"
    r"采纳|好评|五星|点赞|打分|有所帮助|有帮助|帮助到|帮到|满意|光临|提问|咨询|追问|来访|供参考|不客气|不用谢|没关系|应该的|"
    r"关注|收藏|围观|路过|插眼|马克|mark|同问|同求|想知道|等答案|坐等|求解|一样的(?:问题|情况)|楼主|沙发|顶|"
    r"本站|本平台|客服|工作人员|已收到|收到了|已提交|已关闭|已解决|已转交|稍后|尽快(?:回复|联系|处理)|按钮|(?:竭诚|为[您你])服务",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[^，,。；;：:！!？?～~\n]+")
_SUBSTANCE = re.compile(r"药|医院|就诊|就医|检查|治疗|症|痛|饮食|休息|[0-9]")
_MAX_CLAUSE_CHARS = 24
_LEFT_CHARS = 6
_MAX_COURTESY_CHARS = 200

_ADVERTISING = (
    "我院采用", "我院引进", "我院独创", "我院专家", "我院拥有", "我院特色", "我院是", "本院采用", "本院引进", "本院专家", "来我院",
    "到我院", "无效退款", "无效全额退", "签约治疗", "包治百病", "包治", "包好", "根治率", "治愈率高达", "有效率高达", "祖传秘方",
    "独家秘方", "祖传秘制", "在线客服", "咨询客服", "联系客服", "点击咨询", "点击下方", "点击链接", "点击图片", "立即咨询", "立即购买",
    "立即下单", "马上下单", "免费咨询热线", "预约热线", "扫码添加", "扫描二维码", "加我微信", "加微信领", "限时优惠", "限时特价",
    "买二送一", "买一送一", "优惠活动", "活动价", "原价", "包邮", "货到付款", "官方旗舰店", "欢迎选购", "名额有限", "免费试用",
    "代理加盟", "招商加盟",
)  # fmt: skip
_TOUTING = re.compile(
    r"(?:德国|美国|日本|进口|国际|国内|独家|专利|高科技)[^。\n]{0,12}(?:先进|领先|进口|尖端|顶级)?(?:技术|疗法|设备|仪器|配方)|权威专家|专家团队|知名专家|三甲医院专家|"
    r"一个疗程|三个疗程|疗程见效|不复发|永不复发|彻底根治|彻底治愈|100%|百分之百|百分百|无任何副作用|免费(?:咨询|检查|挂号|预约|领取)|"
    r"我院|本院|我们医院|我中心|https?://|www\.|详情咨询|欢迎(?:来电|来院|致电|到院|咨询)|纯中药|口碑|拨打|热线|优惠|下单|购买|官网|客服"
)

_CHATTER = re.compile(
    r"哈哈+|嘿嘿+|嘻嘻+|呵呵+|嗯嗯+|哎呀|哎哟|唉呀|啊哈|么么哒|亲(?:亲|爱的)?(?=[，,～~！!。 ]|$)|宝子|宝贝儿?(?=[，,～~])|老铁|"
    r"[～~]|\^_\^|T_T|啦|嘛|咯|喽|哟|噢|哇|呗|呐|哦(?=[，,。～~！!]|$)|呀(?=[，,。～~！!]|$)|没啥|咋|木有|酱紫|额(?=[，,。…])|"
    r"[\U0001F600-\U0001F64F]"
)


@rule(CONTENT + 3)
def refusal(case: Case) -> str | None:
    """A language model declines (作为一个人工智能语言模型，我无法…): distilled data are full of it, and it teaches to decline."""
    for answer in case.dialogue.answers:
        if match := _REFUSALS.search(answer[:_HEAD_CHARS]):
            return match[0][:40]
    return None


@rule(CONTENT + 5)
def irrelevant(case: Case) -> str | None:
    """Nothing is left of the answers once courtesy and the site's own business are taken away (the paper: irrelevant answers).

    Advice to see a doctor (2,751 of 29,972 real records) is advice and stays; so does courtesy in reply to courtesy.
    """
    if len(case.answer) > _MAX_COURTESY_CHARS or all(map(_is_courtesy, _CLAUSE.findall(case.question))):
        return None
    clauses = _CLAUSE.findall(case.answer)
    left = [clause for clause in clauses if not _is_courtesy(clause)]
    if len(left) == len(clauses) or sum(len(normalize(clause)) for clause in left) >= _LEFT_CHARS:
        return None
    return f"courtesy only: {case.answer[:20]}"


def _is_courtesy(clause: str) -> bool:
    return len(clause) <= _MAX_CLAUSE_CHARS and _COURTESY.search(clause) is not None and _SUBSTANCE.search(clause) is None


@rule(CONTENT + 6)
def advertising(case: Case) -> str | None:
    """The answer touts a clinic or a product. 医院 itself is nearly always advice; one phrase of the trade and a second sign are not."""
    phrases = [phrase for phrase in _ADVERTISING if phrase in case.answer]
    if not phrases:
        return None
    signs = {match[0] for match in _TOUTING.finditer(case.answer)} | set(phrases)
    distinct = [sign for sign in sorted(signs) if not any(sign != other and sign in other for other in signs)]
    return "; ".join(distinct[:4]) if len(distinct) >= case.settings.min_advertising_signs else None


@rule(FORM + 1)
def colloquial(case: Case) -> str | None:
    """A short chatty answer without substance (the paper: colloquial answers)."""
    if len(case.answer) > case.settings.max_chat_chars or case.is_multi_turn:
        return None
    found = _CHATTER.findall(case.answer)
    enough = max(case.settings.min_chat_markers, len(case.answer) / case.settings.max_chars_per_chat_marker)
    return " ".join(found[:6]) if len(found) >= enough else None
