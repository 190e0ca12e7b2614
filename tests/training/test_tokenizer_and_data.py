"""The tokenizer's rules, the chat format, and the packing of rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import jinja2
import pytest
from tokenizers import Tokenizer

from training.architecture import BUNDLED
from training.chat_format import CHAT_TEMPLATE, END, SPECIAL_TOKENS, Message, encode, encode_prompt
from training.data import Batches, packed_rows, training_texts
from training.export import export_checkpoint
from training.train_model import BUNDLED_FOLDER
from training.train_tokenizer import train_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

CHAT: list[Message] = [
    {"role": "system", "content": "The Kevra Museum\nOpen: 10:00–18:00"},
    {"role": "user", "content": "When do you open?"},
    {"role": "assistant", "content": "We are open from 10:00 to 18:00."},
    {"role": "user", "content": "Thanks"},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(training_texts(150), 1024)


def test_the_special_tokens_come_first(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == 1024
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(len(SPECIAL_TOKENS)))


def test_too_few_texts_are_an_error() -> None:
    with pytest.raises(ValueError, match="pass more dialogues"):
        train_tokenizer(["hello"], 1024)


@pytest.mark.parametrize(
    "text", ["Dr. Kevra Lindqvist's", "Łódź — ñandú", "你好，几点开门？", "  two\tspaces\n", "\x00😀"]
)
def test_any_text_survives_the_round_trip(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


@pytest.mark.parametrize("around", [" {}", "\n{}", '"{}"', "**{}**", "({})", "- {}:", "X {} y"])
def test_a_name_is_the_same_tokens_wherever_it_stands(tokenizer: Tokenizer, around: str) -> None:
    for value in ("Kevralund", "Mbotoff", "214", "WiFi"):
        alone = tokenizer.encode(value).tokens
        inside = tokenizer.encode(around.format(value)).tokens
        assert any(inside[at : at + len(alone)] == alone for at in range(len(inside))), inside


def test_digits_are_single_tokens(tokenizer: Tokenizer) -> None:
    assert [token for token in tokenizer.encode("call 555-0142").tokens if token.isdigit()] == list("5550142")


def test_the_template_and_the_training_format_agree(tokenizer: Tokenizer) -> None:
    template = jinja2.Environment().from_string(CHAT_TEMPLATE)
    text = template.render(messages=CHAT, bos_token="<|bos|>", add_generation_prompt=True)
    assert tokenizer.encode(text, add_special_tokens=False).ids == encode_prompt(tokenizer, CHAT)
    parts = [{"role": "user", "content": [{"type": "text", "text": "When do"}, {"type": "text", "text": "you open?"}]}]
    assert template.render(messages=parts, bos_token="<|bos|>") == "<|bos|><|user|>When do\nyou open?<|end|>"


def test_the_loss_is_on_what_the_assistant_says(tokenizer: Tokenizer) -> None:
    ids, mask = encode(tokenizer, CHAT)
    said = tokenizer.decode(
        [token for token, wanted in zip(ids, mask, strict=True) if wanted], skip_special_tokens=False
    )
    assert said == "We are open from 10:00 to 18:00." + END


def test_rows_hold_whole_dialogues(tokenizer: Tokenizer) -> None:
    rows = packed_rows(tokenizer, 2048, 0, 1)
    for _ in range(3):
        row = next(rows)
        ids, mask = row[0].tolist(), row[1].tolist()
        filled = max(index for index, token in enumerate(ids) if token) + 1
        assert filled > 0.85 * 2048
        assert ids[0] == SPECIAL_TOKENS.index("<|bos|>")
        assert ids[filled - 1] == SPECIAL_TOKENS.index(END)
        assert not any(mask[filled:])
        assert 0.1 < sum(mask) / filled < 0.6


def test_batches_of_a_worker_process(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    local = Batches(path, 1024, 4, workers=0, first_seed=9)
    remote = Batches(path, 1024, 4, workers=1, first_seed=9)
    try:
        assert (local.next() == remote.next()).all()
    finally:
        remote.close()


# --- tokens that training never met ----------------------------------------------------------------------------


def test_what_training_never_met_reads_as_a_separator(tokenizer: Tokenizer) -> None:
    import numpy as np

    from training.unseen import SEPARATORS, read_as_separators, unseen_tokens

    unseen = unseen_tokens(tokenizer, 300, "everyday")
    ids = set(unseen.tolist())
    assert set(tokenizer.encode("\x00\x01").ids) <= ids
    assert not ids & set(tokenizer.encode("When do you open on Sunday?").ids)
    assert not ids & set(range(len(SPECIAL_TOKENS)))

    before = np.random.default_rng(0).normal(size=(1024, 8)).astype(np.float32)
    after = read_as_separators(before, tokenizer, unseen)
    seen = np.setdiff1d(np.arange(1024), unseen)
    assert (after[seen] == before[seen]).all()
    marks = [tokenizer.token_to_id(form) for mark in SEPARATORS for form in (mark, f"Ġ{mark}")]
    marks = [mark for mark in marks if mark is not None and mark not in ids]
    assert len(marks) > 5
    np.testing.assert_allclose(after[unseen], np.tile(before[marks].mean(axis=0), (len(unseen), 1)), atol=1e-6)


# --- the bundled folder ----------------------------------------------------------------------------------------


def test_the_bundled_folder_fits_the_wheel_and_its_architecture() -> None:
    sizes = {path.name: path.stat().st_size for path in BUNDLED_FOLDER.iterdir()}
    assert sum(sizes.values()) <= 38 * 2**20
    assert {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "MODEL_CARD.md",
    } <= set(sizes)
    assert json.loads((BUNDLED_FOLDER / "config.json").read_text(encoding="utf-8")) == BUNDLED.hf_config()
    assert sizes["model.safetensors"] > 2 * BUNDLED.parameters
    bundled = Tokenizer.from_file(str(BUNDLED_FOLDER / "tokenizer.json"))
    assert bundled.get_vocab_size() == BUNDLED.vocab_size
    tokenizer_config = json.loads((BUNDLED_FOLDER / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert tokenizer_config["chat_template"] == CHAT_TEMPLATE


def test_sides_are_multiples_of_32() -> None:
    sides = (
        BUNDLED.vocab_size,
        BUNDLED.hidden_size,
        BUNDLED.intermediate_size,
        BUNDLED.num_kv_heads * BUNDLED.head_dim,
    )
    assert all(side % 32 == 0 for side in sides)


def test_export_refuses_what_float16_cannot_hold(tokenizer: Tokenizer, tmp_path: Path) -> None:
    import numpy as np

    with pytest.raises(ValueError, match=r"model\.norm\.weight does not fit"), np.errstate(over="ignore"):
        export_checkpoint(tmp_path, BUNDLED, {"model.norm.weight": np.full(4, 1e6, dtype=np.float32)}, tokenizer)
