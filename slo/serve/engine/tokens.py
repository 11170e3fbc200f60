"""Texts to token ids, by the `tokenizers` library alone: importing transformers would cost seconds and memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from slo.errors import ModelSourceError
from slo.serve.engine.model_files import ModelFiles

# What transformers' clean_up_tokenization takes back of the blanks that decoding puts between words.
TIDIED = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
          (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))  # fmt: skip


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

    def __init__(self, path: Path, files: ModelFiles) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for missing and for malformed files
            raise ModelSourceError(f"{path} is no tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(files.max_tokens)
        self._lower_case = files.lower_case
        self._tidies = files.tidies_decoded and type(self._tokenizer.model).__name__ != "BPE"

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Encode texts in order. A lone surrogate, which no encoding can carry, counts as unknown."""
        found = self._encode([text.lower() if self._lower_case else text for text in texts])
        unread = [self._unread(text, encoding) for text, encoding in zip(texts, found, strict=True)]
        return Tokens([encoding.ids for encoding in found], unread)

    def cut(self, texts: Sequence[str], limit: int) -> list[str]:
        """Each text as its first `limit` tokens read, special tokens counted: Xinference's `truncate_prompt_tokens`.

        As there, a text goes to tokens and back, so that what the vocabulary does not know is lost, and a limit that
        leaves no room for the special tokens cuts nothing.
        """
        room = limit - int(self._tokenizer.num_special_tokens_to_add(is_pair=False))
        return [self._decoded(encoding, room) for encoding in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list[Encoding]:
        clean = [_encodable(text) for text in texts]
        # one by one while few: waking the library's thread pool costs more than it saves
        return [self._tokenizer.encode(clean[0])] if len(clean) == 1 else self._tokenizer.encode_batch_fast(clean)

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


def save_tokenizer(files: ModelFiles, path: Path) -> None:
    """Write the model's tokenizer as tokenizer.json, as transformers reads it.

    That need not be the model's own tokenizer.json: for some classes transformers takes the vocabulary alone, and the
    rest (lower case, accents, Chinese characters) from tokenizer_config.json.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds, and rarely needed

    tokenizer = AutoTokenizer.from_pretrained(str(files.directory), use_fast=True, local_files_only=True)
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
