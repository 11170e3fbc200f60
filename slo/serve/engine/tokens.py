"""Texts to token ids, by the `tokenizers` library alone: importing transformers would cost seconds and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from slo.errors import ModelSourceError
from slo.serve.engine.encoder_files import EncoderFiles
from slo.serve.engine.prefix import Prefixes, all_pieces

# What transformers' clean_up_tokenization takes back of the blanks that decoding puts between words.
TIDIED = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
          (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))  # fmt: skip

INLINE_CHARACTERS = 4000  # about 3 ms of tokenising; more would hold up whoever else needs the interpreter


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
