"""
How little of a long text must be tokenised: prefixes whose tokens are, provably, the first tokens of the whole text.

A model takes some hundred tokens; a text may have millions of characters. Cut anywhere, a word may be torn and its
tokens differ. A cut is *safe* where nothing can reach across it:

* the pre-tokeniser always parts the two characters (blanks; Chinese characters of BERT), or
* the vocabulary of a unigram model has no piece that holds the two side by side, so that no path leads across

and where the normaliser works on either side by itself: the two are no parts of one grapheme, stay one character each,
and no special token lies there. Where there is no such place the prefix grows, up to the whole text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from tokenizers import Tokenizer

FIRST = 2  # characters for each token that is wanted
GROWTH = 4
SPARE = 128
SEARCHED = 1024  # characters in which a safe cut is looked for
# Letters that join nothing and are joined by nothing: ASCII, kana, Chinese, Hangul syllables. None of them is skipped
# where the case of a Greek sigma is decided, so that lower case does not depend on what was cut off either.
_APART = ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x3400, 0x4DBF),
          (0x4E00, 0x9FFF), (0xAC00, 0xD7A3))  # fmt: skip
_AFTER = ",.!?;:，。！？；：、（）《》「」"  # what may follow such a letter, as well
_PREPENDING = frozenset(map(chr, (0x0D4E, 0x11D46, 0x1193F, 0x11941, 0x11A3A, 0x111C2, 0x111C3)))


class Prefixes:
    """Prefixes for one tokeniser. `lower_case`: texts are put into lower case before it sees them."""

    def __init__(self, tokenizer: Tokenizer, pieces: str, *, lower_case: bool) -> None:
        """`pieces` as `all_pieces` gives them."""
        self._tokenizer = tokenizer
        self._pieces = pieces
        self._lower_case = lower_case
        self._special = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        self._reach = max(map(len, self._special), default=1)

    def shorten(self, text: str, tokens: int) -> bool:
        """Is the text so long that less of it will do for `tokens`?"""
        return len(text) > FIRST * tokens + SPARE

    def of(self, text: str, tokens: int) -> Iterator[str]:
        """Longer and longer beginnings of `text`, the first long enough for about `tokens`, the last all of it."""
        size = FIRST * tokens + SPARE
        while size < len(text):
            if (cut := self._safe_cut(text, size)) is not None:
                yield text[:cut]
            size *= GROWTH
        yield text

    def _safe_cut(self, text: str, size: int) -> int | None:
        """The last safe place before `size`."""
        for cut in range(size, max(1, size - SEARCHED), -1):
            left, right = text[cut - 1], text[cut : cut + 2]
            if right[0] == " ":
                safe = _may_end(left) and unicodedata.category(right[1:] or "x")[0] in "LN" and self._parts(left, right)
            else:
                safe = _apart(left) and (_apart(right[0]) or right[0] in _AFTER) and self._parted(left, right[0])
            if safe and not self._near_special(text, cut):
                return cut
        return None

    def _parted(self, left: str, right: str) -> bool:
        """Are two letters that stay themselves never in one token?"""
        alone = self._normal(left), self._normal(right)
        if list(map(len, map(str.strip, alone))) != [1, 1]:
            return False
        return self._parts(left, right) or ("".join(alone) == self._normal(left + right) and self._no_piece(*alone))

    def _parts(self, left: str, right: str) -> bool:
        """Does the pre-tokeniser part them, wherever they stand?"""
        alone, together = self._words(left), self._words(left + right)
        return bool(alone) and len(together) > len(alone) and together[: len(alone)] == alone

    def _no_piece(self, left: str, right: str) -> bool:
        return bool(self._pieces) and left + right not in self._pieces

    def _words(self, text: str) -> list[str]:
        """What the pre-tokeniser makes of it; a single word where there is none."""
        normal = self._normal(text)
        splitter = self._tokenizer.pre_tokenizer
        return [normal] if splitter is None else [word for word, _ in splitter.pre_tokenize_str(normal)]

    def _normal(self, text: str) -> str:
        lower = text.lower() if self._lower_case else text
        clean = lower.encode(errors="replace").decode()  # as whoever encodes does with a lone surrogate
        return clean if self._tokenizer.normalizer is None else str(self._tokenizer.normalizer.normalize_str(clean))

    def _near_special(self, text: str, cut: int) -> bool:
        """May a special token lie across the cut?"""
        around = text[max(0, cut - self._reach) : cut + self._reach]
        seen = (around, around.lower(), self._normal(around))
        return any(token in each for token in self._special for each in seen)


def all_pieces(tokenizer: Tokenizer) -> str:
    """The vocabulary of a unigram model, one piece a line; empty for other models, which may look further. A second."""
    if type(tokenizer.model).__name__ != "Unigram":
        return ""
    return "\n".join(tokenizer.get_vocab(with_added_tokens=False))


def _apart(character: str) -> bool:
    point = ord(character)
    return any(first <= point <= last for first, last in _APART)


def _may_end(character: str) -> bool:
    """May a word end with it, so that a blank after it is a blank by itself?"""
    return unicodedata.category(character)[0] in "LMNPS" and character not in _PREPENDING
