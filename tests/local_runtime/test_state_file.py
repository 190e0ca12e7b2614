"""Files of saved keys and values: what is read is what was written, and everything else is refused in one sentence."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from local_runtime.errors import SavedStateError
from local_runtime.state_file import FORMAT_VERSION, StateShape, read_state, write_state

SHAPE = StateShape(3, (2, 2, 4, 16), "float32")
IDENTITY = {"model": "a", "quant": "q4", "target": "cpu", "tvm": "0.27", "code": "c"}
TOKENS = list(range(100, 112))
LAYERS = np.random.default_rng(0).standard_normal((3, 3, *SHAPE.page), dtype=np.float32)


def write(path: Path) -> int:
    pieces = [piece for layer in LAYERS for piece in (layer[:1], layer[1:])]
    return write_state(path, IDENTITY, SHAPE, TOKENS, pieces)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    write(tmp_path / "kiosk.kv")
    return tmp_path / "kiosk.kv"


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "kiosk.kv"
    file_bytes = write(path)
    state = read_state(path, dict(reversed(IDENTITY.items())), SHAPE, 3)
    assert (state.tokens, state.file_bytes) == (TOKENS, file_bytes)
    assert path.stat().st_size == file_bytes
    np.testing.assert_array_equal(np.stack(state.layers), LAYERS)
    assert not state.layers[0].flags.writeable
    assert "101" not in repr(state)
    assert [entry.name for entry in path.parent.iterdir()] == ["kiosk.kv"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such permissions")
def test_only_its_owner_can_read_it(saved: Path) -> None:
    saved.chmod(0o644)
    write(saved)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600


def test_a_write_that_breaks_off_leaves_the_old_file(saved: Path) -> None:
    before = saved.read_bytes()

    def pieces() -> object:
        yield LAYERS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_state(saved, IDENTITY, SHAPE, TOKENS, pieces())  # type: ignore[arg-type]
    assert saved.read_bytes() == before
    assert [entry.name for entry in saved.parent.iterdir()] == ["kiosk.kv"]
    with pytest.raises(ValueError, match="bytes of pages"):
        write_state(saved, IDENTITY, SHAPE, TOKENS, [LAYERS[0]])
    with pytest.raises(ValueError, match="don't fill pages"):
        write_state(saved, IDENTITY, SHAPE, TOKENS[:-1], [*LAYERS])
    assert saved.read_bytes() == before


def refusal(path: Path, **identity: str) -> str:
    with pytest.raises(SavedStateError) as caught:
        read_state(path, {**IDENTITY, **identity}, SHAPE, 3)
    assert caught.value.mend
    assert "\n" not in str(caught.value)
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model", "another model"),
        ("quant", "another quantisation"),
        ("target", "another kind of device"),
        ("tvm", "another version of TVM"),
        ("code", "another version of hybridllm"),
    ],
)
def test_a_file_of_another_model_or_version_is_refused(saved: Path, name: str, words: str) -> None:
    assert words in refusal(saved, **{name: "other"})


@pytest.mark.parametrize(
    "shape",
    [
        StateShape(4, SHAPE.page, "float32"),
        StateShape(3, (2, 2, 4, 32), "float32"),
        StateShape(3, SHAPE.page, "float16"),
    ],
)
def test_a_file_of_another_layout_is_refused(saved: Path, shape: StateShape) -> None:
    with pytest.raises(SavedStateError, match="another layout"):
        read_state(saved, IDENTITY, shape, 3)


def test_more_than_the_cache_holds_is_refused(saved: Path) -> None:
    with pytest.raises(SavedStateError, match="12 tokens, but the key-value cache has room for 8"):
        read_state(saved, IDENTITY, SHAPE, 2)


def header_of(path: Path) -> tuple[dict[str, object], bytes]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[8:16], "little")
    return json.loads(raw[16 : 16 + length]), raw


def with_header(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    header, raw = header_of(path)
    change(header)
    new = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes((raw[:8] + len(new).to_bytes(8, "little") + new).ljust(4096, b"\0") + raw[4096:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda header: header.update(format=FORMAT_VERSION + 1), "format 2"),
        (lambda header: header.update(format=None), "torn"),
        (lambda header: header.update(tokens=[]), "torn"),
        (lambda header: header.update(tokens="many"), "torn"),
        (lambda header: header["tokens"].append(5), "torn"),
        (lambda header: header["tokens"].__setitem__(0, 5), "torn"),
        (lambda header: header["tokens"].__setitem__(0, -5), "torn"),
        (lambda header: header.pop("identity"), "torn"),
        (lambda header: header.update(note="a word more"), "altered"),
    ],
)
def test_a_header_that_was_changed_is_refused(saved: Path, change: Callable[..., object], words: str) -> None:
    with_header(saved, change)
    assert words in refusal(saved)


@pytest.mark.parametrize("keep", [0, 5, 16, 40, 4096, 4097, -32, -1])
def test_a_torn_file_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    assert refusal(saved)


def test_any_single_byte_that_differs_is_noticed(saved: Path) -> None:
    whole = saved.read_bytes()
    places = [*range(0, 700, 7), *range(700, len(whole), 97), len(whole) - 1]
    for place in places:
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert refusal(saved)
    saved.write_bytes(whole)
    assert read_state(saved, IDENTITY, SHAPE, 3).tokens == TOKENS


def test_a_path_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    assert "missing.kv" in refusal(tmp_path / "missing.kv")
    (tmp_path / "text.kv").write_text("nothing of the kind, but long enough")
    assert "holds no saved state" in refusal(tmp_path / "text.kv")
    assert refusal(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(SavedStateError, match="cannot be written"):
        write(tmp_path / "file" / "kiosk.kv")


def test_a_disk_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(SavedStateError, match="where 1 are free"):
        write(tmp_path / "kiosk.kv")
    assert not list(tmp_path.iterdir())
