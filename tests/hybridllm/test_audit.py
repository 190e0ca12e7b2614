"""The audit log: what it holds, what it notices, and what it survives."""

import hashlib
import hmac
import json
import os
import random
import shutil
import stat
import string
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridllm import AuditError, BadRequest
from hybridllm.audit import AuditLog, AuditRecord, default_folder, default_key_file, follow, key, tail, verify_audit
from hybridllm.audit import log as log_module
from hybridllm.audit.chain import START
from hybridllm.audit.head import Head, create_head, read_head
from tests.hybridllm.audit_writer import MAX_BYTES, record

ROOT = Path(__file__).parents[2]
FIRST = "audit-000001.jsonl"
SHARED_MEMORY = Path("/dev/shm")


class Desk:
    """A folder with a log and its key."""

    def __init__(self, base):
        self.base, self.folder, self.key_file = base, base / "log", base / "audit.key"

    def log(self, **arguments):
        return AuditLog(self.folder, key_file=self.key_file, **{"max_bytes": MAX_BYTES, **arguments})

    def written(self, count, *, sync=True, **arguments):
        with self.log(**arguments) as log:
            for index in range(count):
                log.append(record(f"r-{index}"), sync=sync)
        return self

    def verify(self):
        return verify_audit(self.folder, key_file=self.key_file)

    def path(self, number=1):
        return self.folder / f"audit-{number:06d}.jsonl"

    def lines(self, number=1):
        return self.path(number).read_bytes().splitlines(keepends=True)

    def rewrite(self, lines, number=1):
        self.path(number).write_bytes(b"".join(lines))

    @property
    def findings(self):
        return [str(finding).removeprefix(f"{self.folder}/") for finding in self.verify().findings]

    @property
    def requests(self):
        return [line["request_id"] for line in tail(self.folder, 10**6) if "request_id" in line]


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.fixture
def quick_desk(tmp_path):
    """One in memory where there is such a place: for tests that sync thousands of times."""
    where = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=where) as base:
        yield Desk(Path(base))


def writer(desk, name, count, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.hybridllm.audit_writer", desk.folder, desk.key_file, name, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        **more,
    )


# What a log holds -----------------------------------------------------------------------------------------------------


def test_a_line_has_the_record_and_a_mac_over_it_and_the_line_before(desk):
    given = record("r-1", event="outcome", outcome="served", egress_bytes=2048, duration_s=1.25)
    with desk.log(clock=lambda: 1_700_000_000.125) as log:
        log.append(given, sync=True)
    header, line = desk.lines()
    values = json.loads(line)
    assert AuditRecord.from_line(values) == given
    assert (values["seq"], values["time"]) == (2, "2023-11-14T22:13:20.125Z")
    secret, previous = desk.key_file.read_bytes(), START
    for raw in (header, line):
        body, _, rest = raw.partition(b',"mac":"')
        previous = hmac.digest(secret, previous + body + b"}", hashlib.sha256)
        assert rest == previous.hex().encode() + b'"}\n'


def test_a_whole_log_is_fine_over_its_files(desk):
    report = desk.written(40).verify()
    assert report.ok, report.findings
    assert len(report.files) > 3
    assert (report.first_seq, report.last_seq, report.notes) == (1, 40 + len(report.files), ())
    assert all(path.stat().st_size <= MAX_BYTES for path in desk.folder.glob("audit-*"))
    header = json.loads(desk.lines(2)[0])
    before = json.loads(desk.lines(1)[-1])
    assert (header["previous_seq"], header["previous_mac"]) == (before["seq"], before["mac"])
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_only_its_owner_can_read_it(desk):
    desk.written(20)
    for path in (*desk.folder.iterdir(), desk.key_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(desk.folder.stat().st_mode) == 0o700


def test_the_oldest_files_are_removed_and_the_rest_verifies(desk):
    report = desk.written(40, keep_files=2).verify()
    assert report.ok, report.findings
    assert len(report.files) == 2
    assert report.first_seq > 1
    assert report.notes == (f"older files were not kept; verified from number {report.first_seq} on",)
    (desk.folder / report.files[0].file).unlink()
    assert desk.findings == [f"{report.files[0].file}: the file is missing"]


def test_keeping_fewer_files_than_before_removes_the_others(desk):
    desk.written(30)
    with desk.log(keep_files=1) as log:
        for index in range(10):
            log.append(record(f"later-{index}"), sync=False)
    report = desk.verify()
    assert report.ok
    assert len(report.files) == 1


def test_the_end_can_be_read_without_the_key(desk):
    desk.written(30)
    desk.key_file.unlink()
    assert [line["request_id"] for line in tail(desk.folder, 25)] == [f"r-{index}" for index in range(5, 30)]
    assert tail(desk.folder, 0) == []


def test_following_shows_what_is_there_and_what_comes(desk):
    desk.written(3)
    shown = follow(desk.folder, 2, poll_s=0.01)
    assert [next(shown)["request_id"] for _ in range(2)] == ["r-1", "r-2"]
    with desk.log() as log:
        for index in range(30):
            log.append(record(f"later-{index}"), sync=False)
    assert [next(shown)["request_id"] for _ in range(30)] == [f"later-{index}" for index in range(30)]
    with desk.path(len(desk.verify().files)).open("ab") as file:
        file.write(b"what is this?\n")
    assert next(shown)["event"] == "unreadable"


def test_following_may_begin_before_the_log(desk):
    desk.folder.mkdir()
    shown = follow(desk.folder, 5, poll_s=0.01)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(next, shown)
        desk.written(1)
        assert first.result(timeout=10)["request_id"] == "r-0"


# Records --------------------------------------------------------------------------------------------------------------

TEXTS = ["request_id", "label", "rule", "policy", "policy_hash", "place", "zone", "endpoint", "body_sha256", "outcome"]


@pytest.mark.parametrize("field", ["event", *TEXTS])
@pytest.mark.parametrize(
    "text", ["a\nb", "a\x00", "\x1b[31m", "a\u2028", "a b", "Call me on 555", "é", "x" * 400, 7, None]
)
def test_nothing_but_names_gets_into_a_record(field, text):
    with pytest.raises(AuditError) as caught:
        record("r-1", **{field: text})
    assert field in caught.value.message
    assert "555" not in str(caught.value)


@pytest.mark.parametrize(
    "changed",
    [
        {"attempt": -1}, {"attempt": True}, {"body_bytes": 1.5}, {"egress_bytes": "1"}, {"body_bytes": 2**64},
        {"redacted": ["email"]}, {"redacted": ("e\nmail",)}, {"redacted": ("a",) * 300}, {"duration_s": float("nan")},
        {"duration_s": -1.0}, {"duration_s": "1"}, {"duration_s": float("inf")},
    ],
    ids=str,
)  # fmt: skip
def test_counts_are_counts(changed):
    with pytest.raises(AuditError):
        record("r-1", **changed)


NAMES = st.text(string.ascii_letters + string.digits, min_size=1, max_size=1).flatmap(
    lambda first: st.text(string.ascii_letters + string.digits + "_.-", max_size=63).map(lambda rest: first + rest)
)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
COUNTS = st.integers(0, 2**63 - 1)
RECORDS = st.builds(
    AuditRecord,
    event=st.sampled_from(["egress", "outcome"]),
    request_id=NAMES,
    label=NAMES,
    rule=NAMES | st.just(""),
    policy=NAMES,
    policy_hash=DIGESTS,
    place=NAMES,
    zone=NAMES,
    endpoint=st.sampled_from(
        ["", "http://127.0.0.1:8000", "https://llm.example:443", "http://[::1]:80", "https://a_b.c."]
    ),
    attempt=COUNTS,
    body_bytes=COUNTS,
    body_sha256=DIGESTS | st.just(""),
    redacted=st.lists(NAMES, max_size=4).map(tuple),
    outcome=st.sampled_from(["", "served", "RemoteUnreachable"]),
    egress_bytes=COUNTS,
    duration_s=st.none() | st.floats(0, allow_infinity=False),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=4))
def test_records_come_back_as_they_were(records):
    where = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as base:
        desk = Desk(Path(base))
        with desk.log() as log:
            for given_record in records:
                log.append(given_record, sync=False)
        assert [AuditRecord.from_line(line) for line in tail(desk.folder, 10)] == records
        assert desk.verify().ok


def test_the_longest_record_fits_on_a_line(desk):
    long = "n" * 64
    named = dict.fromkeys(("label", "rule", "policy", "place", "zone", "outcome"), long)
    longest = record("r" * 128, **named, endpoint="https://" + "h" * 254, redacted=(long,) * 256, policy_hash="a" * 128)
    with desk.log() as log:
        log.append(longest, sync=True)
        log.append(longest, sync=True)
    assert desk.verify().ok
    assert [AuditRecord.from_line(line) for line in tail(desk.folder, 3)] == [longest, longest]


def test_the_logs_own_lines_are_no_records(desk):
    desk.written(1)
    with pytest.raises(AuditError):
        AuditRecord.from_line(json.loads(desk.lines()[0]))


# Tampering ------------------------------------------------------------------------------------------------------------

CHANGED = {"event": "outcome", "redacted": [], "duration_s": 2.0, "time": "2023-11-14T22:13:20.125Z", "mac": "00" * 32}
HEADER_FIELDS = ["seq", "time", "event", "format", "file", "first_file", "key", "previous_seq", "previous_mac", "mac"]


def changed_value(name, value):
    if name in CHANGED:
        return CHANGED[name]
    return value + 1 if isinstance(value, int) else ("0" if value[:1] != "0" else "1") + value[1:]


@pytest.mark.parametrize("line", [2, 4])
@pytest.mark.parametrize("field", ["seq", "time", *(field.name for field in fields(AuditRecord)), "mac"])
def test_a_changed_field_is_found_at_its_line(desk, field, line):
    lines = desk.written(3).lines()
    values = json.loads(lines[line - 1])
    values[field] = changed_value(field, values[field])
    lines[line - 1] = json.dumps(values, separators=(",", ":")).encode() + b"\n"
    desk.rewrite(lines)
    assert desk.findings[0].startswith(f"{FIRST}:{line}: ")
    with pytest.raises(AuditError, match="hybridllm audit verify"):
        desk.log().open()
    assert desk.lines() == lines


@pytest.mark.parametrize("field", HEADER_FIELDS)
@pytest.mark.parametrize("number", [1, 2])
def test_a_changed_field_of_a_files_first_line_is_found(desk, number, field):
    lines = desk.written(15).lines(number)
    values = json.loads(lines[0])
    values[field] = changed_value(field, values[field])
    lines[0] = json.dumps(values, separators=(",", ":")).encode() + b"\n"
    desk.rewrite(lines, number)
    assert any(finding.startswith(f"audit-00000{number}.jsonl:1: ") for finding in desk.findings), desk.findings


def test_another_spelling_of_the_same_json_is_a_change(desk):
    lines = desk.written(2).lines()
    lines[1] = lines[1].replace(b'"label":', b'"label": ')
    desk.rewrite(lines)
    assert desk.findings == [f"{FIRST}:2: this line is not what was written here: its mac does not fit"]


@pytest.mark.parametrize("line", [1, 2, 3, 4, 5])
def test_a_line_taken_out_is_found(desk, line):
    lines = desk.written(4).lines()
    del lines[line - 1]
    desk.rewrite(lines)
    assert not desk.verify().ok
    if 1 < line < 5:
        assert desk.findings == [
            f"{FIRST}:{line}: number {line + 1} follows number {line - 1}: lines before this one are missing"
        ]
    with pytest.raises(AuditError):
        desk.log().append(record("late"), sync=True)


@pytest.mark.parametrize("line", [1, 2, 3, 4])
def test_lines_that_were_doubled_or_swapped_are_found(desk, line):
    lines = desk.written(4).lines()
    desk.rewrite([*lines[:line], *lines[line - 1 :]])
    assert f"{FIRST}:{line + 1}: " in desk.findings[0]
    swapped = list(lines)
    swapped[line - 1], swapped[line] = swapped[line], swapped[line - 1]
    desk.rewrite(swapped)
    assert f"{FIRST}:{line}: " in desk.findings[0]


def test_a_line_that_is_none_is_found_and_the_rest_is_still_read(desk):
    lines = desk.written(5).lines()
    desk.rewrite([*lines[:2], b"nothing\n", *lines[3:5], b"x" * 100_000 + b"\n", lines[5]])
    assert [finding.partition(": ")[0] for finding in desk.findings] == [f"{FIRST}:3", f"{FIRST}:6"]
    assert tail(desk.folder, 10)[1] == {"event": "unreadable", "file": FIRST, "line": 3}
    with pytest.raises(AuditError, match=f"{FIRST}:3: this is not a line"):
        desk.log().open()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_file_taken_out_is_found(desk, number):
    report = desk.written(36).verify()
    assert len(report.files) == 4
    desk.path(number).unlink()
    missing = (
        f"{desk.path(number).name}: the file is missing" if number < 4 else f"number {report.last_seq} was written"
    )
    assert any(missing in finding for finding in desk.findings), desk.findings
    if number < 4:
        assert len(desk.findings) == 1


def test_files_in_each_others_place_are_found(desk):
    desk.written(30)
    third = desk.path(3).read_bytes()
    desk.rewrite([third], 2)
    assert any("audit-000002.jsonl:1: this is not the first line of file 2" in finding for finding in desk.findings)


def test_a_cut_end_is_found_unless_the_head_was_put_back_too(desk):
    desk.written(2)
    head = (desk.folder / "head.jsonl").read_bytes()
    with desk.log() as log:
        log.append(record("late"), sync=True)
    lines = desk.lines()
    desk.rewrite(lines[:-1])
    message = "the end is missing: number 4 was written, number 3 is the last"
    assert desk.findings == [f"{desk.folder}: {message}"]
    with pytest.raises(AuditError, match="the end of the audit log is missing: line 4 was written, line 3 is the last"):
        desk.log().open()
    (desk.folder / "head.jsonl").write_bytes(head)
    assert desk.verify().ok  # the limit that the documentation names


def test_a_synced_line_that_was_cut_into_is_not_taken_for_an_unfinished_one(desk):
    lines = desk.written(2).lines()
    desk.rewrite([*lines[:2], lines[2][:-20]])
    assert "the end is missing" in desk.findings[0]
    with pytest.raises(AuditError, match="the end of the audit log is missing"):
        desk.log().open()
    assert desk.path().read_bytes() == b"".join([*lines[:2], lines[2][:-20]])


@pytest.mark.parametrize("damage", ["missing", "forged", "of a folder"])
def test_a_head_that_is_gone_or_not_ours_is_found(desk, damage):
    desk.written(3)
    path = desk.folder / "head.jsonl"
    forged = path.read_bytes().replace(b'"seq":4', b'"seq":3').replace(b'"seq":3', b'"seq":2')
    path.unlink()
    if damage == "forged":
        path.write_bytes(forged)
    elif damage == "of a folder":
        path.mkdir()
    assert desk.findings[0].startswith(("head.jsonl: ", "The audit log's head", str(path)))
    with pytest.raises(AuditError):
        desk.log().open()


def test_a_head_from_before_the_newest_file_is_found(desk):
    desk.written(1)
    head = (desk.folder / "head.jsonl").read_bytes()
    with desk.log() as log:
        for index in range(20):
            log.append(record(f"r-{index}"), sync=True)
    (desk.folder / "head.jsonl").write_bytes(head)
    report = desk.verify()
    # Its line is there and nothing is missing; but its writer would have written a newer one, and does not go on.
    assert report.last_seq > 20
    with pytest.raises(AuditError, match="the head is older than the newest file"):
        desk.log().open()


def test_a_head_torn_in_one_slot_is_as_good_as_the_other(desk):
    desk.written(3)
    path = desk.folder / "head.jsonl"
    secret, data = desk.key_file.read_bytes(), path.read_bytes()
    seqs = set()
    for torn in range(2):
        damaged = bytearray(data)
        damaged[torn * 256 + 30 : torn * 256 + 256] = bytes(226)
        path.write_bytes(damaged)
        seqs.add(read_head(desk.folder, secret).seq)
    assert max(seqs) == 4
    assert len(seqs) == 2
    assert desk.verify().ok


def test_a_log_of_another_key_is_told_from_a_changed_one(desk):
    desk.written(3)
    desk.key_file.unlink()
    key.make_key(desk.key_file)
    assert any(f"{FIRST}:1: the file was sealed with another key" in finding for finding in desk.findings)
    with pytest.raises(AuditError, match="another key"):
        desk.log().open()


def test_no_log_is_a_finding(desk):
    assert desk.findings == [f"{desk.folder}: there is no audit log here"]
    desk.folder.mkdir()
    assert not desk.verify().ok
    with pytest.raises(AuditError, match="cannot be read"):
        tail(desk.folder / "none", 1)


# Writers that are killed ----------------------------------------------------------------------------------------------


def test_a_log_cut_at_any_byte_goes_on_and_verifies(quick_desk):
    """The head is the one that a writer killed at that byte leaves: from before the log, or from its first line."""
    desk = quick_desk
    blank = dict.fromkeys(("label", "rule", "policy", "policy_hash", "zone", "endpoint", "body_sha256"), "")
    log = desk.log()
    log.open()
    secret, begun = desk.key_file.read_bytes(), len(desk.path().read_bytes())
    head = (desk.folder / "head.jsonl").read_bytes()
    log.append(record("r-0", **blank, redacted=()), sync=False)
    whole = desk.path().read_bytes()
    for cut in range(len(whole) + 1):
        for path in desk.folder.iterdir():
            path.unlink()
        if cut < begun:
            create_head(desk.folder, secret, Head(0, START))
        else:
            (desk.folder / "head.jsonl").write_bytes(head)
        desk.path().write_bytes(whole[:cut])
        desk.log().append(record("late", **blank), sync=True)
        report = desk.verify()
        assert report.ok, (cut, report.findings)
        kept = whole[: whole.rfind(b"\n", 0, cut) + 1]
        shown = tail(desk.folder, 9)
        expected = ["r-0"] if cut == len(whole) else []
        assert [line["request_id"] for line in shown if "request_id" in line] == [*expected, "late"], cut
        dropped = [line["dropped_bytes"] for line in shown if line["event"] == "recovered"]
        assert dropped == ([cut - len(kept)] if cut > len(kept) else []), cut


def test_a_later_file_cut_in_its_first_line_is_begun_again(quick_desk):
    desk = quick_desk
    log = desk.log(max_bytes=4096)
    for index in range(5):
        log.append(record(f"r-{index}"), sync=True)
    head = (desk.folder / "head.jsonl").read_bytes()
    while not desk.path(2).exists():
        log.append(record("filler"), sync=True)
        head = head if desk.path(2).exists() else (desk.folder / "head.jsonl").read_bytes()
    first_line = desk.lines(2)[0]
    before = desk.path(1).read_bytes()
    for cut in range(0, len(first_line) + 1, 7):
        desk.path(2).write_bytes(first_line[:cut])
        (desk.folder / "head.jsonl").write_bytes(head)
        desk.log().append(record("late"), sync=True)
        assert desk.verify().ok, cut
        assert desk.requests[-1] == "late"
        assert desk.path(1).read_bytes() == before


def test_killed_writers_leave_a_log_that_verifies_with_everything_that_they_had_synced(desk):
    chance = random.Random(20)
    for turn in range(5):
        process = writer(desk, f"w{turn}", 0)
        said = [process.stdout.readline().strip()]  # it has begun
        time.sleep(chance.uniform(0.02, 0.4))
        process.kill()
        said += process.communicate(timeout=30)[0].splitlines()
        assert said[0] == f"w{turn}-0"
        report = desk.verify()
        assert report.ok, report.findings
        there = desk.requests
        assert set(said) <= set(there)
        assert len(there) == len(set(there))


def test_a_writer_drops_what_another_one_left_unfinished(desk):
    with desk.log() as log:
        log.append(record("r-0"), sync=True)
        with desk.path().open("ab") as file:
            file.write(b'{"seq":3,"time":"20')
        assert desk.verify().ok
        assert "an unfinished line" in desk.verify().notes[0]
        log.append(record("r-1"), sync=True)
    report = desk.verify()
    assert report.ok
    assert report.notes == ()
    assert [line.get("dropped_bytes") for line in tail(desk.folder, 9)] == [None, 19, None]


# Several writers ------------------------------------------------------------------------------------------------------


def test_processes_write_at_once(desk):
    running = [writer(desk, name, 60) for name in ("a", "b", "c")]
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode == 0
    report = desk.verify()
    assert report.ok, report.findings
    assert len(report.files) > 10
    there = desk.requests
    assert sorted(there) == sorted(f"{name}-{index}" for name in "abc" for index in range(60))
    for name in "abc":
        assert [item for item in there if item.startswith(name)] == [f"{name}-{index}" for index in range(60)]


def test_threads_and_several_logs_of_one_folder_write_at_once(desk):
    logs = [desk.log(), desk.log(keep_files=0)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: logs[index % 2].append(record(f"r-{index}"), sync=False), range(100)))
    for log in logs:
        log.close()
    assert desk.verify().ok
    assert sorted(desk.requests) == sorted(f"r-{index}" for index in range(100))


def test_a_log_that_somebody_holds_is_an_error_after_a_while(desk, monkeypatch):
    monkeypatch.setattr(log_module, "LOCK_WAIT_S", 0.05)
    desk.written(1)
    with desk.log()._exclusive(), pytest.raises(AuditError, match="Another process has held"):
        desk.log().append(record("r-1"), sync=True)


# What cannot be written -----------------------------------------------------------------------------------------------


def test_making_a_log_touches_nothing_and_it_is_tried_anew_each_time(desk):
    desk.folder.write_text("in the way")
    log = desk.log()
    for _ in range(2):
        with pytest.raises(AuditError) as caught:
            log.append(record("r-0"), sync=True)
        assert str(desk.folder) in caught.value.message
        assert caught.value.mend
    desk.folder.unlink()
    log.append(record("r-1"), sync=True)
    assert desk.requests == ["r-1"]


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


def replace_by_link(path):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replace_by_copy(path):
    data = path.read_bytes()
    path.rename(path.with_name("elsewhere"))
    path.write_bytes(data)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def delete_file(path):
    path.unlink()


def delete_folder(path):
    shutil.rmtree(path.parent)


def delete_all_files(path):
    for other in path.parent.iterdir():
        other.unlink()


@pytest.mark.skipif(os.name != "posix", reason="pipes and links")
@pytest.mark.parametrize("running", [True, False], ids=["running", "opened"])
@pytest.mark.parametrize(
    "harm",
    [
        replace_by_folder, replace_by_link, replace_by_pipe, replace_by_copy, cut_off, delete_file, delete_folder,
        delete_all_files,
    ],
)  # fmt: skip
def test_what_happens_to_the_file_is_an_audit_error(desk, harm, running):
    desk.written(2)
    log = desk.log()
    if running:
        log.append(record("r-2"), sync=True)
    harm(desk.path())
    if not running and harm in (replace_by_copy, delete_folder, delete_all_files):
        log.append(record("r-3"), sync=True)  # nobody remembers: the same log, or a new one
        assert desk.verify().ok
        return
    with pytest.raises(AuditError) as caught:
        log.append(record("r-3"), sync=True)
    assert caught.value.mend
    assert "\n" not in str(caught.value)
    assert harm is not delete_folder or not desk.folder.exists()


FULL = """
import resource, sys
from hybridllm import AuditError
from hybridllm.audit import AuditLog
from tests.hybridllm.audit_writer import record
log = AuditLog(sys.argv[1], key_file=sys.argv[2])
log.append(record("before"), sync=True)
most = (log.folder / "audit-000001.jsonl").stat().st_size + 100
resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        log.append(record("full"), sync=True)
    except AuditError as error:
        print(error)
print((log.folder / "audit-000001.jsonl").stat().st_size + 100 == most)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.append(record("after"), sync=True)
"""
REFUSED = """
import os, sys
import filelock  # before another user, who may not be let into Python's own folder
from hybridllm import AuditError
from hybridllm.audit import AuditLog
from tests.hybridllm.audit_writer import record
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    AuditLog(sys.argv[1], key_file=sys.argv[2]).append(record("r-9"), sync=True)
except AuditError as error:
    print(error)
"""


def in_a_process(desk, program):
    done = subprocess.run(
        [sys.executable, "-c", program, desk.folder, desk.key_file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_line_that_fits_only_in_part_is_taken_back(desk):
    first, second, taken_back = in_a_process(desk, FULL)
    assert first == second
    assert "audit-000001.jsonl cannot be written: " in first
    assert "Free some space" in first
    assert taken_back == "True"
    assert desk.verify().ok
    assert desk.requests == ["before", "after"]


@pytest.mark.skipif(os.name != "posix", reason="users")
@pytest.mark.parametrize("what", ["folder", "file", "key"])
def test_what_this_user_may_not_write_is_an_audit_error(what):
    # Every folder above has to let the other user in, which pytest's own do not.
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o777)
        desk = Desk(Path(base))
        desk.written(1)
        if os.geteuid() == 0:
            for path in (desk.key_file, desk.folder, *desk.folder.iterdir()):
                os.chown(path, 65534, -1)
        refused = {"folder": desk.folder, "file": desk.path(), "key": desk.key_file}[what]
        refused.chmod(0o500 if what == "folder" else 0o000)
        (desk.folder / ".lock").unlink()
        (said,) = in_a_process(desk, REFUSED)
        assert "Permission denied" in said
        assert "Give this user the right to it" in said
        refused.chmod(0o700)


def test_nothing_is_appended_to_a_closed_log(desk):
    desk.written(1)
    log = desk.log()
    log.close()
    log.close()
    with pytest.raises(AuditError, match="is closed"):
        log.append(record("r-1"), sync=True)


def test_closing_brings_the_head_to_the_end(desk):
    log = desk.log()
    log.append(record("r-0"), sync=False)
    secret = desk.key_file.read_bytes()
    assert read_head(desk.folder, secret).seq == 1
    log.close()
    assert read_head(desk.folder, secret).seq == 2


# Keys and arguments ---------------------------------------------------------------------------------------------------


def test_by_default_the_key_is_outside_of_the_log(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("platformdirs.user_state_path", lambda *_args, **_more: tmp_path / "hybridllm")
    assert default_key_file().parent == default_folder().parent
    with AuditLog(default_folder()) as log:
        log.append(record("r-0"), sync=True)
    assert verify_audit(default_folder()).ok
    with pytest.raises(AuditError, match="holds its key"):
        AuditLog(default_key_file().parent).open()
    assert len(default_key_file().read_bytes()) == 32


def test_a_key_that_is_gone_is_not_made_anew(desk):
    desk.written(1)
    desk.key_file.unlink()
    with pytest.raises(AuditError, match=r"audit\.key cannot be read"):
        desk.log().open()
    with pytest.raises(AuditError, match=r"audit\.key cannot be read"):
        desk.verify()
    assert not desk.key_file.exists()


def test_a_key_is_at_least_32_bytes_long_and_nobody_elses(desk):
    desk.key_file.write_bytes(b"short")
    desk.key_file.chmod(0o600)
    with pytest.raises(AuditError, match="is not an audit key"):
        desk.log().open()
    desk.key_file.write_bytes(os.urandom(32))
    if os.name == "posix":
        desk.key_file.chmod(0o644)
        with pytest.raises(AuditError, match="chmod 600"):
            desk.log().open()
        desk.key_file.chmod(0o400)
    desk.written(1)
    assert desk.verify().ok


def test_several_that_make_the_key_get_the_same(desk):
    together = threading.Barrier(8)

    def make(_):
        together.wait()
        return key.make_key(desk.base / "new" / "folder" / "audit.key")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(make, range(8)))) == 1


@pytest.mark.parametrize(
    "arguments", [{"max_bytes": 10}, {"max_bytes": "8"}, {"keep_files": -1}, {"keep_files": True}], ids=str
)
def test_numbers_that_cannot_be_used_are_named(desk, arguments):
    with pytest.raises(BadRequest, match=next(iter(arguments))):
        desk.log(**arguments)


@pytest.mark.parametrize("folder", ["", " ", "a\0b", "~no-such-user-here/log"])
def test_a_folder_that_cannot_be_is_an_audit_error(folder):
    with pytest.raises(AuditError, match="not a possible folder"):
        AuditLog(folder)
