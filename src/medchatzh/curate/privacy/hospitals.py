"""Named hospitals: a place or an institution, and what stands between it and 医院. 人民医院 alone, or 北京的医院, names none."""

from __future__ import annotations

import re

from medchatzh.curate.privacy.forms import Pattern
from medchatzh.curate.privacy.lexicon import CITIES, FAMOUS_HOSPITALS, REGIONS

_HANZI = "\u4e00-\u9fff"
_FAMOUS = "|".join(FAMOUS_HOSPITALS.split())
_PLACES = sorted((REGIONS + CITIES).split(), key=len, reverse=True)
# Without the look at the first character each of 380 names would be tried at every place: 0.4 ms a text.
_PLACE = f"(?:(?=[{''.join(dict.fromkeys(place[0] for place in _PLACES))}])(?:{'|'.join(_PLACES)}))"
_LEVEL = "(?:省|市|自治区|特别行政区|州|县|区|镇|乡)?"
_ORDER = "第?[一二三四五六七八九十0-9]{1,3}"
_KIND = (
    "人民|中心|省立|市立|妇幼保健|妇幼|妇产|妇女儿童|儿童|中医药?|中西医结合|肿瘤|胸科|口腔|眼视光|眼科|传染病|肝病|骨科|精神病|精神卫生|"
    "脑科|心血管病|结核病|皮肤病|肛肠|男科|癫痫病?|白癜风|老年|康复|急救|整形|不孕不育|专科|综合|总|职工|铁路|武警|军区总?|陆军|海军|空军|"
    "红十字|华侨|民族|博爱|附属|医科大学|大学|医学院"
)
_NAMED = f"{_FAMOUS}|{_ORDER}|{_KIND}"
# 深圳男科医院哪家好 asks for any.
_SUFFIX = "(?:医院|保健院|卫生院|卫生服务中心)(?!哪|那家|有哪|排名)"
_OWN = f"(?:(?:{_NAMED}){{1,3}}{_SUFFIX}|(?:{_NAMED}){{0,2}}中医院)"
_SCHOOL = (
    f"(?:{_PLACE}[省市]?[{_HANZI}]{{0,4}}?|协和|同济|复旦|清华|南方医科|中南|华中科技|暨南|第[一二三四]军医?|军医|交通)(?:大学|医学院)"
    f"(?:[{_HANZI}]{{0,4}}医学院)?"
)

PATTERNS = tuple(
    Pattern("hospital", re.compile(form))
    for form in (
        rf"{_SCHOOL}(?:附属|{_ORDER}|(?={_FAMOUS}))(?:{_ORDER})?(?:附属)?(?:{_PLACE}市?)?(?:{_FAMOUS})?(?:{_KIND})*{_SUFFIX}",
        rf"(?:中国)?(?:人民)?解放军(?:第?[一二三四五六七八九〇0-9]{{1,3}}|总|[{_HANZI}]{{2}}军区(?:总|机关)?)(?:中心|陆军|空军|海军)?医院",
        rf"{_PLACE}{_LEVEL}(?:{_PLACE}?{_LEVEL}|[{_HANZI}]{{2}}[县区镇])?{_OWN}",
        rf"(?:{_FAMOUS})医院",
        rf"(?<![{_HANZI}])(?![在去到从是由我您你某该本各全])[{_HANZI}]{{2}}[市县]{_OWN}",
    )
)
