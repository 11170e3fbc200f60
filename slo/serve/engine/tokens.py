"""
Texts to token ids, by the `tokenizers` library alone: importing transformers would cost seconds and memory.

**Prefixes**: how little of a long text must be tokenised: prefixes whose tokens are, provably, the first tokens of the
whole text. A model takes some hundred tokens; a text may have millions of characters. Cut anywhere, a word may be torn
and its tokens differ. A cut is *safe* where nothing can reach across it:

* the pre-tokeniser always parts the two characters (blanks; Chinese characters of BERT), or
* the vocabulary of a unigram model has no piece that holds the two side by side, so that no path leads across

and where the normaliser works on either side by itself: the two are no parts of one grapheme, stay one character each,
and no special token lies there. Where there is no such place the prefix grows, up to the whole text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from slo.errors import ModelSourceError
from slo.serve.engine.encoder_files import EncoderFiles

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
# What transformers' clean_up_tokenization takes back of the blanks that decoding puts between words.
TIDIED = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
          (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))  # fmt: skip

INLINE_CHARACTERS = 4000  # about 3 ms of tokenising; more would hold up whoever else needs the interpreter


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


@dataclass(frozen=True)
class Tokens:
    """Token ids per text, special tokens included; `truncated` are characters beyond the model's limit, mostly none."""

    ids: list[list[int]]
    truncated: list[int]

    @property
    def counts(self) -> list[int]:
        return [len(ids) for ids in self.ids]


class TextTokenizer:
    """The model's own tokenizer, cutting at `max_tokens`. Safe to call from several threads."""

    def __init__(self, path: Path, files: EncoderFiles) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for missing and for malformed files
            raise ModelSourceError(f"{path} is no tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(files.max_tokens)
        self._max_tokens = files.max_tokens
        self._specials = int(self._tokenizer.num_special_tokens_to_add(is_pair=False))
        self._lower_case = files.lower_case
        pieces = all_pieces(self._tokenizer)
        self._prefixes = {lower: Prefixes(self._tokenizer, pieces, lower_case=lower) for lower in (False, True)}
        self._tidies = files.tidies_decoded and type(self._tokenizer.model).__name__ != "BPE"

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Encode texts in order. A lone surrogate, which no encoding can carry, counts as unknown."""
        found = self._encode(texts, self._max_tokens + 1, lower_case=self._lower_case)
        unread = [self._unread(text, encoding) for text, encoding in zip(texts, found, strict=True)]
        return Tokens([encoding.ids for encoding in found], unread)

    def cut(self, texts: Sequence[str], limit: int) -> list[str]:
        """Each text as its first `limit` tokens read, special tokens counted: Xinference's `truncate_prompt_tokens`.

        As there, a text goes to tokens and back, so that what the vocabulary does not know is lost, and a limit that
        leaves no room for the special tokens cuts nothing.
        """
        room = limit - self._specials
        # Nobody needs to read much more than the model does.
        wanted = room if 0 <= room <= self._max_tokens else 2 * self._max_tokens
        return [self._decoded(encoding, room) for encoding in self._encode(texts, wanted, lower_case=False)]

    def _encode(self, texts: Sequence[str], wanted: int, *, lower_case: bool) -> list[Encoding]:
        """All tokens of the texts; of those that have many more than `wanted` at least as many, and the same ones."""
        prefixes = self._prefixes[lower_case]
        short = [self._clean(text, lower_case) for text in texts if not prefixes.shorten(text, wanted)]
        # one by one while few: waking the library's thread pool costs more than it saves
        alone = len(short) == 1 and len(short[0]) <= INLINE_CHARACTERS  # more is read without the interpreter's lock
        found = [self._tokenizer.encode(short[0])] if alone else self._tokenizer.encode_batch_fast(short)
        if len(short) == len(texts):
            return found
        rest = iter(found)
        return [
            self._beginning(prefixes.of(text, wanted), wanted, lower_case)
            if prefixes.shorten(text, wanted)
            else next(rest)
            for text in texts
        ]

    def _beginning(self, prefixes: Iterator[str], wanted: int, lower_case: bool) -> Encoding:
        """The first prefix that has enough tokens; the last one, the whole text, has to do."""
        encoding = Encoding()
        for prefix in prefixes:
            # as a batch, which lets go of the interpreter meanwhile
            (encoding,) = self._tokenizer.encode_batch_fast([self._clean(prefix, lower_case)])
            if sum(len(part.ids) - self._specials for part in (encoding, *encoding.overflowing)) >= wanted:
                break
        return encoding

    @staticmethod
    def _clean(text: str, lower_case: bool) -> str:
        return _encodable(text.lower() if lower_case else text)

    def _unread(self, text: str, encoding: Encoding) -> int:
        """Characters of `text` behind the last token that was kept."""
        if not encoding.overflowing:
            return 0
        size = 2 * len(encoding.ids)
        while True:
            # with places in the text, which the fast way leaves out; of a prefix that has more tokens than are kept
            (part,) = self._tokenizer.encode_batch([_encodable(text[:size])])
            if part.overflowing or size >= len(text):
                ends = [
                    end for (_, end), special in zip(part.offsets, part.special_tokens_mask, strict=True) if not special
                ]
                return max(1, len(text) - max(ends, default=0))
            size *= 4

    def _decoded(self, encoding: Encoding, room: int) -> str:
        ids = [
            token
            for part in (encoding, *encoding.overflowing)
            for token, special in zip(part.ids, part.special_tokens_mask, strict=True)
            if not special
        ]
        text = str(self._tokenizer.decode(ids if room < 0 else ids[:room], skip_special_tokens=True))
        for blank, tidy in TIDIED if self._tidies else ():
            text = text.replace(blank, tidy)
        return text

    def unknown_share(self, text: str) -> float:
        """The share of tokens for which the vocabulary has no name."""
        tokens = self._tokenizer.encode(text).tokens
        return sum(token.strip("[]<>").lower() == "unk" for token in tokens) / len(tokens)


def save_tokenizer(files: EncoderFiles, path: Path) -> None:
    """Write the model's tokenizer as tokenizer.json, as transformers reads it.

    That need not be the model's own tokenizer.json: for some classes transformers takes the vocabulary alone, and the
    rest (lower case, accents, Chinese characters) from tokenizer_config.json.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds, and rarely needed

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(files.directory), use_fast=True, local_files_only=True)
    except Exception as error:  # whatever odd files make transformers raise, KeyError included
        raise ModelSourceError(
            f"{files.directory}: the tokenizer cannot be read: {type(error).__name__}: {error}",
            hint="compare tokenizer.json and tokenizer_config.json with the original ones",
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelSourceError(f"{files.directory} has a tokenizer that cannot be written as tokenizer.json")
    backend.save(str(path))


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text
