"""Chinese sentences about scenes."""

from __future__ import annotations

from collections.abc import Mapping

from curation.sources.synthetic.phrase_book import Looks, PhraseBook

_NOUNS: Mapping[str, str] = {
    "circle": "圆形",
    "square": "正方形",
    "triangle": "三角形",
    "star": "星形",
    "cross": "十字形",
    "heart": "心形",
    "diamond": "菱形",
    "ring": "圆环",
    "background": "背景",
    "meadow": "草地",
    "desert": "沙漠",
    "sea": "大海",
}
_WORDS: Mapping[str, str] = {
    "red": "红色",
    "yellow": "黄色",
    "green": "绿色",
    "blue": "蓝色",
    "purple": "紫色",
    "pink": "粉色",
    "brown": "棕色",
    "black": "黑色",
    "white": "白色",
    "grey": "灰色",
    "small": "小",
    "large": "大",
    "plain": "纯色",
    "striped": "带条纹",
    "dotted": "带圆点",
    "checked": "带格子",
    "shaded": "渐变",
    "grainy": "带颗粒",
}


def _spell(kind: str, looks: Looks) -> str:
    said = [_WORDS[word] + "的" for word in (looks.texture, looks.colour) if word]
    phrase = "".join([*said, _WORDS[looks.size] if looks.size else "", _NOUNS[looks.shape]])
    return {"one": "一个", "two": "两个"}.get(kind, "") + phrase


_SIDES: Mapping[str, tuple[str, ...]] = {
    "left of": ("左边", "左侧"),
    "right of": ("右边", "右侧"),
    "above": ("上方", "上面"),
    "below": ("下方", "下面"),
    "inside": ("里面",),
}
_PAIR = (
    "{a:one}在{b:one}的%",
    "图中{a:one}在{b:one}的%",
    "{a:one}位于{b:one}的%",
    "{b:one}的%有{a:one}",
    "图中{b:one}的%有{a:one}",
    "{b:one}的%是{a:one}",
    "画面里，{a:one}在{b:one}的%",
)
_AROUND = ("{a:one}围着{b:one}", "图中{a:one}围着{b:one}", "{b:one}被{a:one}围着")
_LIST = ("%", "图中有%", "一张画着%的图片", "我们看到%")


def _listed(number: int) -> str:
    items = [f"{{{slot}:one}}" for slot in "abcd"[:number]]
    return "和".join(part for part in ("、".join(items[:-1]), items[-1]) if part)


CHINESE = PhraseBook(
    code="zh",
    spell=_spell,
    kinds={"a": ("one", "plain"), "n": ("two",), "x": ("bare",), "p": ("ground",)},
    pairs={
        relation: tuple(frame.replace("%", word) for frame in _PAIR for word in words)
        for relation, words in _SIDES.items()
    }
    | {"around": _AROUND},
    lists={number: tuple(frame.replace("%", _listed(number)) for frame in _LIST) for number in range(1, 5)},
    counts=("{n:two}和{b:one}", "图中有{n:two}和{b:one}", "一张画着{n:two}和{b:one}的图片"),
    denials=("图中有{a:one}，但没有{x:bare}", "{a:one}，没有{x:bare}", "图中没有{x:bare}", "画面里没有{x:bare}"),
    placed=("{p:ground}上的{a:plain}", "{a:one}在{p:ground}上", "图中{a:one}在{p:ground}上", "{p:ground}上有{a:one}"),
    full_stop="。",
)
