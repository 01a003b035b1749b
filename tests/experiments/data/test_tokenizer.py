"""Tokenizers of GGUF files."""

import json
from typing import Any

import pytest

from experiments.data.tokenizer import SYSTEM, Tokenizer
from tests.experiments.models import gguf_files

pytest.importorskip(
  "tokenizers", reason="needs tokenizers: pip install 'keyjax[pretrained]'"
)
METADATA = gguf_files.tokenizer()
TOKENS = METADATA["tokenizer.ggml.tokens"]
START, END = (TOKENS.index(name) for name in ("<|im_start|>", "<|im_end|>"))


def make(**change: Any) -> Tokenizer:
  changed = {f"tokenizer.ggml.{name}": x for name, x in change.items()}
  return Tokenizer.from_gguf(METADATA | changed)


def pieces(tokens: list[int]) -> list[str]:
  blank = gguf_files.byte_symbols()[32]
  return [TOKENS[token].replace(blank, " ") for token in tokens]


def test_merges_apply_inside_words() -> None:
  found = make().encode("the the them, 12")
  assert pieces(found) == [*("the", " the", " the", "m", ",", " ", "1", "2")]
  # GPT-2's own rules keep digits together.
  assert pieces(make(pre="gpt-2").encode("the 12")) == ["the", " ", "12"]


def test_every_text_comes_back() -> None:
  tokenizer = make()
  for text in ("the \t\n\r the", "naïve 雪 🙂", "<|im_end|> <|", ""):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_character_of_several_tokens_is_streamed_whole() -> None:
  tokenizer = make()
  found = list(tokenizer.stream(tokenizer.encode("the 🙂!")))
  assert found == ["the", " ", "🙂", "!"]
  assert len(tokenizer.encode("🙂")) == 4


def test_a_chat_has_the_published_template() -> None:
  tokenizer = make()
  found = tokenizer.chat("the?")
  marks = [i for i, token in enumerate(found) if token in (START, END)]
  assert [found[i] for i in marks] == [START, END, START, END, START]
  parts = []
  for i, j in zip(marks, [*marks[1:], len(found)], strict=True):
    parts.append(tokenizer.decode(found[i + 1 : j]))
  assert parts == [f"system\n{SYSTEM}", "\n", "user\nthe?", "\n", "assistant\n"]


def test_a_mark_in_a_question_is_text() -> None:
  tokenizer = make()
  plain = tokenizer.chat("the?")
  found = tokenizer.chat("<|im_end|>")
  assert found.count(END) == plain.count(END) == 2
  assert "<|im_end|>" in tokenizer.decode(found)


def test_a_text_starts_with_the_token_that_the_file_says() -> None:
  assert make().plain("the") == make().encode("the")
  started = make(add_bos_token=True).plain("the")
  assert started == [START, *make().encode("the")]


def test_a_record_makes_the_same_tokenizer() -> None:
  tokenizer = make(add_bos_token=True)
  again = Tokenizer.from_record(json.loads(json.dumps(tokenizer.record())))
  assert again.end == tokenizer.end == (2,)
  for text in ("the 12 🙂", "<|im_end|>"):
    assert again.chat(text) == tokenizer.chat(text)
    assert again.plain(text) == tokenizer.plain(text)
  for broken in ({}, tokenizer.record() | {"library": "{}"}):
    with pytest.raises(ValueError, match="no tokenizer can be made of it"):
      Tokenizer.from_record(broken)


def test_no_part_of_a_text_is_left_out() -> None:
  fewer = make(tokens=[x for x in TOKENS if x != "z"])
  assert fewer.decode(fewer.encode("abc")) == "abc"
  with pytest.raises(ValueError, match="has no tokens for 'z'$"):
    fewer.encode("abzz")
  with pytest.raises(ValueError, match="surrogates not allowed"):
    fewer.chat("\udcff")  # What Python makes of an argument that is no UTF-8.


@pytest.mark.parametrize(
  "change, message",
  [
    ({"tokens": None}, "tokenizer.ggml.tokens of the file is no list of text"),
    ({"merges": [1]}, "tokenizer.ggml.merges of the file is no list of text"),
    ({"merges": ["th"]}, "no tokenizer can be made of the file: "),
    ({"merges": ["q q"]}, "no tokenizer .*: .*Token `qq` out of vocabulary"),
    ({"pre": ["smollm"]}, "with the rules .* is not read"),
    ({"eos_token_id": 10**6}, "starts or ends texts with 1000000, which is no"),
    ({"bos_token_id": "x", "add_bos_token": True}, "texts with 'x', which is"),
  ],
)
def test_a_damaged_tokenizer_is_one_line(change: Any, message: str) -> None:
  with pytest.raises(ValueError, match=message) as found:
    make(**change).check_fits(len(TOKENS))
  assert "\n" not in str(found.value)


def test_what_does_not_fit_is_named() -> None:
  tokenizer = make()
  tokenizer.check_fits(len(TOKENS))
  with pytest.raises(
    ValueError, match="tokenizer has 263 tokens, the model 49152: they do not"
  ):
    tokenizer.check_fits(49_152)
  with pytest.raises(ValueError, match="tokenizer llama with the rules def"):
    make(model="llama", pre="default")
  with pytest.raises(ValueError, match="tokenizer none"):
    Tokenizer.from_gguf({})
  others = ["<a>", *TOKENS[1:]]
  others[START] = "<b>"
  with pytest.raises(ValueError, match="not for conversations"):
    make(tokens=others).chat("the")
