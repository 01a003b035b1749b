"""Byte-level BPE tokenizers of language models, by the package `tokenizers`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

_INSTALL = "a tokenizer needs tokenizers: pip install 'keyjax[pretrained]'"
_START, _END = "<|im_start|>", "<|im_end|>"
# What SmolLM2's own template puts before a conversation.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_CONTROL = 3  # Kind of a token of llama.cpp that is no text.
_USER_DEFINED = 4
# Names of llama.cpp's rules before BPE -> whether each digit is a word.
_RULES = {"gpt-2": False, "smollm": True}


class Tokenizer(NamedTuple):
  """Text to tokens and back.

  Attributes:
    library: Tokenizer of the package.
    end: Tokens after which a text is over.
    start: Token that a text starts with; None for none.
  """

  library: Any
  end: tuple[int, ...] = ()
  start: int | None = None

  @classmethod
  def from_gguf(cls, metadata: Mapping[str, Any]) -> Self:
    """Make the tokenizer that the metadata of a GGUF file describe.

    Raises:
      ValueError: If they describe none, or one of another kind than byte-level
        BPE.
    """
    given = {
      key.removeprefix("tokenizer.ggml."): value
      for key, value in metadata.items()
      if key.startswith("tokenizer.ggml.")
    }
    kind, rule = given.get("model", "none"), given.get("pre", "gpt-2")
    if kind != "gpt2" or rule not in tuple(_RULES):
      raise ValueError(
        f"tokenizer {kind} with the rules {rule} is not read: gpt2 is, with "
        f"those of {' or '.join(_RULES)}"
      )
    tokens, merges = (
      _texts(key, given.get(key)) for key in ("tokens", "merges")
    )
    special = [
      token
      for token, kind in zip(tokens, given.get("token_type", ()), strict=False)
      if kind in (_CONTROL, _USER_DEFINED)
    ]
    end, start = given.get("eos_token_id"), given.get("bos_token_id")
    try:
      library = _byte_level(tokens, merges, special, _RULES[rule])
    except Exception as error:  # The package raises nothing more precise.
      raise ValueError(
        f"no tokenizer can be made of the file: {_one_line(error)}"
      ) from None
    return cls(
      library,
      end=() if end is None else (end,),
      start=start if given.get("add_bos_token") else None,
    )

  @classmethod
  def from_record(cls, record: Mapping[str, Any]) -> Self:
    """Make the tokenizer of a record that `record` returned.

    Raises:
      ValueError: If it is not such a record.
    """
    try:
      return cls(
        _package().Tokenizer.from_str(record["library"]),
        tuple(map(int, record["end"])),
        record["start"],
      )
    except Exception as error:  # The package raises nothing more precise.
      raise ValueError(
        f"no tokenizer can be made of it: {_one_line(error)}"
      ) from None

  def record(self) -> dict[str, Any]:
    """Return the tokenizer as text and numbers, to store."""
    return {
      "library": self.library.to_str(),
      "end": list(self.end),
      "start": self.start,
    }

  @property
  def size(self) -> int:
    """Number of different tokens."""
    return int(self.library.get_vocab_size(with_added_tokens=True))

  def check_fits(self, vocabulary: int) -> None:
    """Raise a ValueError unless a model has this number of tokens.

    The tokens that start and end a text are to be among them.
    """
    for token in (*self.end, *(() if self.start is None else (self.start,))):
      # The model would look it up outside its table.
      if type(token) is not int or not 0 <= token < self.size:
        raise ValueError(
          f"the tokenizer starts or ends texts with {token!r}, which is none "
          f"of its {self.size} tokens"
        )
    if self.size != vocabulary:
      raise ValueError(
        f"the tokenizer has {self.size} tokens, the model {vocabulary}: they "
        "do not belong together"
      )

  def encode(self, text: str) -> list[int]:
    """Return the tokens of a text; names of special tokens in it are text.

    Raises:
      ValueError: If it is not Unicode, or has a byte that no token has, which
        the package would leave out.
    """
    self.library.encode_special_tokens = True
    found, whole = self._encoded(text)
    if not whole:
      missing = [x for x in dict.fromkeys(text) if not self._encoded(x)[1]]
      raise ValueError(
        f"the tokenizer has no tokens for {', '.join(map(repr, missing[:4]))}"
      )
    return found

  def _encoded(self, text: str) -> tuple[list[int], bool]:
    """Return tokens, and whether they have all bytes of a text."""
    size = len(text.encode())  # A lone surrogate is a ValueError.
    found = self.library.encode(text, add_special_tokens=False)
    # In a token, a symbol stands for a byte.
    return list(found.ids), sum(map(len, found.tokens)) == size

  def decode(self, tokens: Iterable[int]) -> str:
    """Return the text of tokens; special tokens have none."""
    return str(self.library.decode(list(tokens), skip_special_tokens=True))

  def stream(self, tokens: Iterable[int]) -> Iterator[str]:
    """Yield the text of tokens as it becomes known.

    A character may need several tokens: it is yielded after the last one.
    """
    stream = _package().decoders.DecodeStream(skip_special_tokens=True)
    for token in tokens:
      text = stream.step(self.library, token)
      if text:
        yield text

  def chat(self, prompt: str, system: str = SYSTEM) -> list[int]:
    """Return the tokens of a question, up to where the answer starts.

    The template is that of SmolLM2: ChatML, with a system message.

    Raises:
      ValueError: If the tokenizer has no tokens for it.
    """
    marks = [self.library.token_to_id(name) for name in (_START, _END)]
    if None in marks:
      raise ValueError(
        f"the tokenizer has no {_START}: the model is not for conversations"
      )
    start, end = marks
    found = []
    for role, text in (("system", system), ("user", prompt)):
      found += [start, *self.encode(f"{role}\n{text}"), end, *self.encode("\n")]
    return [*found, start, *self.encode("assistant\n")]

  def plain(self, prompt: str) -> list[int]:
    """Return the tokens of a text to continue."""
    first = [] if self.start is None else [self.start]
    return first + self.encode(prompt)


def _package() -> Any:
  try:
    import tokenizers
    import tokenizers.decoders
  except ImportError:
    raise ValueError(_INSTALL) from None
  return tokenizers


def _texts(key: str, value: Any) -> list[str]:
  """Return a list of text; raise a ValueError if it is none."""
  if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
    raise ValueError(f"tokenizer.ggml.{key} of the file is no list of text")
  return value


def _one_line(error: Exception) -> str:
  return " ".join(str(error).split())[:200] or type(error).__name__


def _byte_level(
  tokens: list[str], merges: list[str], special: list[str], digits: bool
) -> Any:
  """Return the package's tokenizer.

  Args:
    tokens: Tokens, by number.
    merges: Pairs of tokens with a blank between them, the first one first.
    special: Tokens that are found in a text before all others.
    digits: Whether each digit is a word.
  """
  package = _package()
  model = package.models.BPE(
    vocab={token: number for number, token in enumerate(tokens)},
    merges=[tuple(pair.split(" ", 1)) for pair in merges],
  )
  made = package.Tokenizer(model)
  words = package.pre_tokenizers.ByteLevel(add_prefix_space=False)
  if digits:
    single = package.pre_tokenizers.Digits(individual_digits=True)
    words = package.pre_tokenizers.Sequence([single, words])
  made.pre_tokenizer = words
  made.decoder = package.decoders.ByteLevel()
  made.add_special_tokens(
    [package.AddedToken(token, normalized=False) for token in special]
  )
  return made
