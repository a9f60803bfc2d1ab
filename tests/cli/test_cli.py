"""Tests of the command line as a person has it: the real program, in a process of its own."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked_program
import pytest
from cli_help import options_of

from rambla_py.cli.program import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "rambla_py.cli"]
CANARY = "canary-hunter2"
CONFIG = """
[file.connections.out]
path = "out.jsonl"
[file.channels.kept]
connection = "out"
options = { record = "full" }

[null.channels.both]
[memory.channels.both]

[stub.channels.refused]
options = { error = "quota reached", retryable = false }

[console.channels.off]
enabled = false
"""
NOBODY = f"""
include = ["rambla.toml"]
[redis.connections.nobody]
url = "redis://:{CANARY}@127.0.0.1:1/0"
[redis.channels.orders]
connection = "nobody"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration; what channel ``kept`` is sent goes to ``out.jsonl`` in it."""
    (tmp_path / "rambla.toml").write_text(CONFIG)
    (tmp_path / "nobody.toml").write_text(NOBODY)
    return tmp_path


def run(
    folder: Path, *arguments: str, given: bytes = b"", **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder, with stdin, stdout and stderr that are no terminals."""
    clean = {name: value for name, value in os.environ.items() if name != "RAMBLA_CONFIG"}
    return forked_program.PROGRAM.run(folder, arguments, {**clean, **environ}, given)


def kept(folder: Path) -> list[Any]:
    """Return what arrived at channel ``kept``: the full records."""
    path = folder / "out.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def payloads(folder: Path) -> list[Any]:
    return [record["payload"] for record in kept(folder)]


# -- publish --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        (['{"id": 42}'], {"id": 42}),
        (["42"], 42),
        (["hello"], "hello"),
        (["42", "--text"], "42"),
        (['{"message": 1, "retries": "x"}'], {"message": 1, "retries": "x"}),
    ],
)
def test_a_message_is_sent_as_json_where_it_is_json(folder: Path, arguments: list[str], payload: Any) -> None:
    """A message that parses as JSON is that value, else a string, and never an envelope."""
    done = run(folder, "publish", "kept", *arguments)
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"1 message sent to kept in [\d.,]+ m?s\n", done.stderr)
    assert payloads(folder) == [payload]


def test_stdin_is_one_message_or_one_a_line(folder: Path) -> None:
    """``-`` sends all of stdin at once, ``--lines`` each line of it."""
    assert run(folder, "publish", "kept", "-", given=b"[1,\n2]").returncode == 0
    assert run(folder, "publish", "kept", "-", "--lines", given=b"3\n\n4\n").returncode == 0
    assert payloads(folder) == [[1, 2], 3, 4]


def test_a_json_lines_file_keeps_order_and_takes_keys(folder: Path) -> None:
    """Each line is a message, with its key from a field of it."""
    lines = [{"n": number, "customer": {"id": number % 3}} for number in range(500)]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run(folder, "publish", "kept", "--from", "in.jsonl", "--key", "customer.id")
    assert done.returncode == 0
    by_key: dict[str, list[int]] = {}
    for record in kept(folder):
        by_key.setdefault(record["key"], []).append(record["payload"]["n"])
    assert by_key == {str(key): list(range(key, 500, 3)) for key in range(3)}


def test_a_packed_csv_file_is_sent_as_dicts_of_texts(folder: Path) -> None:
    """The header names the fields; ``.gz`` is unpacked as it is read."""
    rows = [{"id": str(number), "city": "Östersund; N"} for number in range(50)]
    with gzip.open(folder / "in.csv.gz", "wt", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "city"], delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    assert run(folder, "publish", "kept", "--from", "in.csv.gz", "--delimiter", ";").returncode == 0
    assert payloads(folder) == rows


def test_bad_lines_are_reported_with_their_numbers_and_stop_nothing(folder: Path) -> None:
    """Each has its file, number and reason on stderr; the rest is delivered; the exit code is 1."""
    (folder / "in.jsonl").write_bytes(b'{"id": 1}\noops\n{"id": 2}\n{"no": 3}\n{"id": 4}\n')
    done = run(folder, "publish", "kept", "--from", "in.jsonl", "--key", "id")
    assert done.returncode == 1
    assert done.stderr.splitlines()[:2] == [
        "in.jsonl:2: not JSON: invalid character (byte 0)",
        "in.jsonl:4: no key: there is no field 'id'",
    ]
    assert done.stderr.splitlines()[-1].endswith("; 2 invalid lines; last line 5")
    assert payloads(folder) == [{"id": 1}, {"id": 2}, {"id": 4}]


def test_strict_stops_at_the_first_bad_line_with_the_rest_before_it_delivered(folder: Path) -> None:
    """What came before the bad line arrives, and nothing behind it is read."""
    done = run(folder, "publish", "kept", "-", "--lines", "--strict", given=b"1\n2\noops\n4\n")
    assert done.returncode == 1
    assert "stdin:3: not JSON" in done.stderr
    assert payloads(folder) == [1, 2]


def test_a_damaged_file_is_reported_and_what_was_read_is_delivered(folder: Path) -> None:
    """A packed file that was cut ends with an error, after the lines that could be read."""
    lines = b"".join(b'{"n": %d, "x": "%s"}\n' % (at, os.urandom(40).hex().encode()) for at in range(5_000))
    (folder / "in.jsonl.gz").write_bytes(gzip.compress(lines)[:-1_000])
    done = run(folder, "publish", "kept", "--from", "in.jsonl.gz")
    assert done.returncode == 1
    assert "cannot be read after line 4," in done.stderr
    assert [payload["n"] for payload in payloads(folder)] == list(range(len(payloads(folder))))


def test_failures_are_counted_by_target_and_reason(folder: Path) -> None:
    """A handler that refuses everything: 1, the table, and the error with its count."""
    done = run(folder, "publish", "refused", "-", "--lines", given=b"1\n" * 1_200)
    assert done.returncode == 1
    assert "1,200 x stub.refused fatal: DeliveryError: quota reached" in done.stderr
    assert re.search(r"^stub\.refused +1,200 +1,200$", done.stderr, re.MULTILINE)


def test_the_report_is_one_json_document_on_stdout(folder: Path) -> None:
    """``--json`` tells the same to a program; talk about bad lines stays on stderr."""
    done = run(folder, "publish", "both", "-", "--lines", "--json", given=b"1\noops\n2\n")
    report = json.loads(done.stdout)
    assert (report["ok"], report["sent"], report["bad_lines"], done.returncode) == (False, 2, 1, 1)
    assert {name: audit["ok"] for name, audit in report["targets"].items()} == {
        "null.both": 2,
        "memory.both": 2,
    }
    assert done.stderr == "stdin:2: not JSON: invalid character (byte 0)\n"


def test_options_reach_the_messages(folder: Path) -> None:
    """``--option`` sets what ``publish`` takes as keywords, for every message."""
    arguments = ["--option", "id=order-7", "--option", 'headers={"tenant": "blue"}']
    assert run(folder, "publish", "kept", "1", *arguments).returncode == 0
    assert (kept(folder)[0]["id"], kept(folder)[0]["headers"]) == ("order-7", {"tenant": "blue"})


# As a program in a terminal hears of Ctrl-C: whoever started the tests may have it ignored.
_HEAR = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
INTERRUPTIBLE = [sys.executable, "-c", _HEAR]


def test_ctrl_c_stops_reading_and_delivers_what_was_read(folder: Path) -> None:
    """A pipe that stays open: the messages so far arrive, the report is printed, the exit code is 130."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        (folder / "out.jsonl").unlink(missing_ok=True)
        with subprocess.Popen(
            [*INTERRUPTIBLE, *PROGRAM, "publish", "kept", "-", "--lines"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.write(b"1\noops\n")
            process.stdin.flush()
            # The complaint about the second line tells that the first one was sent.
            assert process.stderr.readline().startswith(b"stdin:2:")
            process.send_signal(number)
            summary = process.stderr.read().decode()
            assert process.wait(30) == code
        assert summary.startswith("1 message sent to kept in ")
        assert summary.endswith("; 1 invalid line; interrupted; to continue: --skip 2\n")
        assert payloads(folder) == [1]


# -- wrong usage ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["publish", "kpt", "1"], "no channel 'kpt'; nearest: 'kept'"),
        (["publish", "both", "1", "--option", "retires=3"], "did you mean 'retries'?"),
        (["publish", "both", "1", "--option", "retries=many"], "expected an integer"),
        (["publish", "both", "1", "--option", "retries"], "'retries' is not of the form name=value"),
        (["publish", "both"], "give a MESSAGE, '-' for stdin, or --from FILE"),
        (["publish", "both", "1", "--from", "a.csv"], "not both"),
        (["publish", "both", "--from", "a.xlsx"], "--format"),
        (["publish", "both", "--from", "missing.csv"], "missing.csv: No such file or directory"),
        (["publish", "both", "1", "--lines"], "--lines goes with '-'"),
        (["publish", "both", "--from", "a.jsonl", "--delimiter", ";"], "--delimiter and --null go with CSV"),
        (["publish", "both", "--from", "a.csv", "--delimiter", ";;"], "expected one character"),
        (["publish", "both", "1", "--key", "a", "--option", "key=b"], "say the same"),
        (["publish", "both", "1", "--text", "--key", "a"], "--key needs fields"),
        (["publish", "both", "1", "--timeout", "-1"], "--timeout"),
        (["check", "kpt"], "no channel 'kpt'; nearest: 'kept'"),
        (["chanels"], "Did you mean 'channels'?"),
        (["plan", "--jsn"], "--json"),
    ],
)
def test_wrong_usage_is_reported_and_exits_with_2(folder: Path, arguments: list[str], problem: str) -> None:
    """With what is nearest, and with nothing on stdout."""
    done = run(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr


# -- configuration --------------------------------------------------------------------------------------

TEN_MISTAKES = """
[rambla]
exit_timeout_s = "soon"
enabld = true
[rambla.options]
retries = -1
[nowhere.channels.a]
[null.channels.a]
count = "two"
connection = "missing"
max_pending = 0
overflow = "wait"
[memory.channels.b.options]
max_mesages = 5
[file.connections.c]
path = "${RAMBLA_TEST_IS_NOT_SET}"
[file.channels.c]
connection = "c"
"""


@pytest.mark.parametrize("command", [["channels"], ["plan"], ["check"], ["publish", "a", "1"]])
def test_a_wrong_configuration_exits_with_78_and_all_its_problems(tmp_path: Path, command: list[str]) -> None:
    """Ten mistakes, ten lines: each with its path, what was expected, and what came."""
    (tmp_path / "rambla.toml").write_text(TEN_MISTAKES)
    done = run(tmp_path, *command)
    assert (done.returncode, done.stdout) == (78, "")
    first, *problems = done.stderr.splitlines()
    assert first == "rambla: the configuration has 10 problems:"
    assert len(problems) == 10
    assert all(re.match(r"  rambla\.toml:\d+: [\w.]+: expected .+, got .+", line) for line in problems)
    assert "did you mean 'max_messages'?" in done.stderr


def test_check_tells_the_problems_to_a_program_too(tmp_path: Path) -> None:
    """``check --json`` has them on stdout, one object each."""
    (tmp_path / "rambla.toml").write_text(TEN_MISTAKES)
    done = run(tmp_path, "check", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"], len(found["problems"])) == (78, False, 10)
    assert set(found["problems"][0]) == {"path", "expected", "got", "file", "hint", "line"}


def test_no_configuration_at_all_tells_where_it_was_looked_for(tmp_path: Path) -> None:
    """In an empty folder."""
    done = run(tmp_path, "channels")
    assert done.returncode == 78
    assert "config/rambla.toml" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--config", "x.toml", "channels"], ["channels", "--config", "x.toml"]]
)
def test_the_configuration_may_be_named_before_or_after_the_command(
    tmp_path: Path, arguments: list[str]
) -> None:
    """Both are the same."""
    (tmp_path / "x.toml").write_text("[null.channels.here]\n")
    assert "here" in run(tmp_path, *arguments).stdout


def test_handlers_of_the_application_are_found_in_the_working_folder(tmp_path: Path) -> None:
    """As ``python -m`` would find them, with the installed console script too."""
    (tmp_path / "shop.py").write_text(
        "import rambla_py\n"
        "class Audit(rambla_py.Handler):\n"
        "    def handle_publish(self, message, options, state): print('got', message.payload)\n"
    )
    (tmp_path / "rambla.toml").write_text('[audit]\nhandler = "shop:Audit"\n[audit.channels.a]\n')
    script = Path(sys.executable).with_name("rambla")
    done = subprocess.run(
        [script, "publish", "a", "hi"], cwd=tmp_path, check=False, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b"got hi\n")


# -- looking --------------------------------------------------------------------------------------------


def test_check_says_what_is_wrong_and_how_to_mend_it(folder: Path) -> None:
    """A server that is not there: 1, its address, and the table to look at."""
    done = run(folder, "check", "--config", "nobody.toml")
    assert (done.returncode, done.stderr) == (1, "")
    hint = "is the server running at 127.0.0.1:1? Its address is in [redis.connections.nobody]"
    assert f"\n        hint: {hint}\n" in done.stdout
    assert re.search(r"^ok +null\.both +[\d.]+ ms$", done.stdout, re.MULTILINE)
    assert re.search(r"^off +console\.off$", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("1 of 6 targets failed\n")


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["check", "--json"],
        ["channels", "--json"],
        ["plan", "--json"],
        ["publish", "orders", "1", "--timeout", "0.3", "--verbose"],
        ["publish", "orders", "1", "--timeout", "0.3", "--json"],
    ],
)
def test_no_command_shows_a_secret(folder: Path, command: list[str]) -> None:
    """The password in a connection's URL is nowhere, in errors neither."""
    done = run(folder, *command, "--config", "nobody.toml")
    assert done.stdout + done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_what_a_dead_server_did_not_take_is_reported_in_time(folder: Path) -> None:
    """``--timeout`` bounds the wait; the report says where the messages did not get."""
    done = run(folder, "publish", "orders", "1", "--timeout", "0.3", "--json", "--config", "nobody.toml")
    report = json.loads(done.stdout)
    assert (done.returncode, report["failed"], report["pending"]) == (1, 1, 0)
    assert report["failures"][0]["error"].startswith("not delivered within --timeout")
    assert report["took_s"] < 5


def test_check_of_one_channel_asks_its_servers_only(folder: Path) -> None:
    """All is well: 0, and a document that says so."""
    done = run(folder, "check", "both", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (0, True)
    assert [target["target"] for target in found["targets"]] == ["null.both", "memory.both"]


def test_channels_lists_every_target(folder: Path) -> None:
    """A line for each, services of a channel together, aligned and never cut in a pipe."""
    lines = run(folder, "channels").stdout.splitlines()
    assert lines[0].split() == ["channel", "service", "handler", "connection", "workers", "guarantee"]
    assert lines[2].split(maxsplit=5) == ["kept", "file", "FileHandler", "out", "1", "at least once"]
    assert [line.split()[1] for line in lines[3:5]] == ["null", "memory"]
    assert lines[-1].split()[4] == "off"
    assert all(line == line.rstrip() for line in lines)


def test_plan_draws_the_tree_and_tells_it_as_json(folder: Path) -> None:
    """Both have every channel and what it guarantees."""
    drawn, plan = run(folder, "plan").stdout, json.loads(run(folder, "plan", "--json").stdout)
    assert drawn.startswith("rambla (one_for_one)\n├── file: FileHandler (one_for_one)\n")
    for service in plan["services"]:
        for channel in service["channels"]:
            assert channel["pool"]["guarantee"] in drawn


def test_schema_is_json_with_every_handler(folder: Path) -> None:
    """For editors, and the same with ``--json``."""
    done = run(folder, "schema", "--config", "no-such-file.toml")
    assert {"null.options", "file.connection"} <= set(json.loads(done.stdout)["$defs"])
    assert run(folder, "schema", "--json").stdout == done.stdout


@pytest.mark.parametrize("command", [["channels"], ["schema"], ["plan"], ["publish", "both", "1", "--json"]])
def test_a_reader_who_has_seen_enough_is_no_error(folder: Path, command: list[str]) -> None:
    """As after ``rambla channels | head -1``: nobody reads stdout any more; it is quiet, and succeeds."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [*PROGRAM, *command], check=False, cwd=folder, stdout=write_end, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


def test_nothing_is_coloured_where_no_terminal_is(folder: Path) -> None:
    """Nor with ``NO_COLOR``; no escape sequence is in any output."""
    for command in (["channels"], ["plan"], ["check"], ["publish", "refused", "1"]):
        done = run(folder, *command, NO_COLOR="1", TERM="xterm-256color")
        assert "\x1b" not in done.stdout + done.stderr


def test_help_needs_no_command_and_no_rich() -> None:
    """``--help`` imports neither the commands nor what they need, nor what only a failure needs."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "rambla_py.cli", "--help"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "rambla_py.cli.parameters" in imported
    assert not imported & {"rich", "pika", "redis", "msgspec", "rambla_py.errors"}
    assert not imported & {f"rambla_py.cli.{name}" for name in COMMANDS}


def test_the_package_and_its_command_line_run_as_modules(folder: Path) -> None:
    """``python -m rambla_py`` is the same program."""
    shown = subprocess.run(
        [sys.executable, "-m", "rambla_py", "--version"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert re.fullmatch(r"rambla \d+\.\d+\.\d+\S*\n", shown.stdout)


# -- documentation --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_documented(command: str) -> None:
    """``docs/cli.md`` has a section for the command, with each option that its help shows."""
    page = (ROOT / "docs" / "cli.md").read_text()
    _, found, section = page.partition(f"\n## `rambla {command}")
    assert found, f"no section for {command}"
    section = section.partition("\n## ")[0] + page.partition("\n## ")[0]
    options = options_of(command)
    assert "--help" in options
    assert [option for option in sorted(options) if f"`{option}" not in section] == []


@pytest.mark.parametrize(
    "name", re.findall(r"`(RAMBLA_[A-Z]+|NO_COLOR)`", (ROOT / "docs" / "cli.md").read_text())
)
def test_the_page_names_no_variable_that_is_not_there(name: str) -> None:
    """Each environment variable of the page stands in the code, or is one of rich's."""
    sources = "".join(path.read_text() for path in (ROOT / "rambla_py").rglob("*.py"))
    assert name in sources
